// Package hosts is everything outside that refit touches: the machines of a
// fleet and the services on them. This package itself holds the nouns: Host,
// Role, Command, Shell. Each thing touched has a folder below; a folder
// that talks to a vendor's API is that vendor's only door.
package hosts

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"slices"
)

// Role is what a host does in the fleet. A host may have several.
type Role string

// The roles that a refit.yml may give to a host.
const (
	Proxy   Role = "proxy"   // nginx before the web nodes
	Web     Role = "web"     // Puma and the streaming server
	Sidekiq Role = "sidekiq" // background workers
	Builder Role = "builder" // builds releases
	Keeper  Role = "keeper"  // holds the lease and the journal
)

// Command is a command as a value: made anywhere, run in one place.
type Command struct {
	// Argv is passed as it is; no shell reads it. Secrets never stand in it.
	Argv []string
	// Env holds KEY=value pairs added to the environment.
	Env []string
	// Dir is the working directory; empty for the login's own.
	Dir string
	// Sudo runs the command as root through "sudo -n".
	Sudo bool
	// Stdin is read to its end; nil for none.
	Stdin io.Reader
}

// Shell runs commands on one host.
type Shell interface {
	// Run runs c and copies its standard output to out (nil to drop it). A command
	// that ends with another status than 0 gives an *ExitError; a broken
	// connection gives another error, and then the command may still be running.
	Run(ctx context.Context, c Command, out io.Writer) error
	// Put writes a file whole: under a temporary name, flushed, then renamed.
	Put(ctx context.Context, path string, mode fs.FileMode, r io.Reader) error
}

// ExitError tells that a command ran to its end and failed.
type ExitError struct {
	// Command is argv[0] and the words that name the deed, without its arguments.
	Command string
	Code    int
	// Stderr is the end of what it wrote there, at most 4 KiB.
	Stderr string
}

func (e *ExitError) Error() string {
	if e.Stderr == "" {
		return fmt.Sprintf("%s: exit status %d", e.Command, e.Code)
	}
	return fmt.Sprintf("%s: exit status %d: %s", e.Command, e.Code, e.Stderr)
}

// Host is one machine of the fleet.
type Host struct {
	Name    string
	Address string // IP address or DNS name, without a port
	Roles   []Role
	Shell   Shell
}

// Has tells whether the host has role r.
func (h Host) Has(r Role) bool { return slices.Contains(h.Roles, r) }
