package hoststest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"testing"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/node"
)

// NodeShell is a hosts.Shell that answers "refit node VERB" in this process, on a
// Machine, and refuses everything else.
type NodeShell struct {
	Machine node.Machine
	// Verbs beside those of package node.
	Verbs []node.Verb
}

// Run answers one call.
func (s NodeShell) Run(ctx context.Context, c hosts.Command, out io.Writer) error {
	if len(c.Argv) > 0 && c.Argv[0] == "test" {
		return nil // the agent is there
	}
	if len(c.Argv) < 3 || c.Argv[1] != "node" {
		return &hosts.ExitError{Command: hosts.CommandName(c.Argv), Code: 127, Stderr: "only refit's agent runs here"}
	}
	if out == nil {
		out = io.Discard
	}
	// Written to through a wrapper: this process is not the verb's own.
	err := s.Machine.Serve(ctx, append(s.Machine.Verbs(), s.Verbs...), c.Argv[2:], c.Stdin, struct{ io.Writer }{out})
	if err != nil {
		return &hosts.ExitError{Command: hosts.CommandName(c.Argv), Code: 1, Stderr: err.Error()}
	}
	return nil
}

// Put refuses: the agent is there.
func (s NodeShell) Put(context.Context, string, fs.FileMode, io.Reader) error {
	return errors.New("nothing can be put on this host")
}

// NewNode makes a machine with a state of its own and systemd for its units, and
// an agent that calls it with the epoch 1. Other fields may be set before use.
func NewNode(t testing.TB, systemd *Systemd, extra ...node.Verb) (*node.Agent, node.Machine) {
	t.Helper()
	m := node.Machine{System: "debian 13", State: t.TempDir(), Agent: "/var/lib/refit/bin/refit-0123456789abcdef"}
	if systemd != nil {
		m.Exec = systemd.Exec
	}
	return &node.Agent{
		Host: "kirk", Shell: NodeShell{Machine: m, Verbs: extra}, Binary: "/proc/self/exe", Run: "u-1",
		Epoch: func() int64 { return 1 },
	}, m
}
