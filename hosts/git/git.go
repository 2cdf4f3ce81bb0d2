// Package git fetches releases from git repositories and proves that files on
// disk are what a tag says. It is go-git's only door and needs no git binary,
// save for repositories on the same machine (file://).
//
// The rules it holds:
//
//   - one tag at a time is fetched, one commit deep: the history of a big
//     project never crosses the wire;
//   - a tag that was seen once and points elsewhere now is an error, never a
//     silent update;
//   - files are written as the tree holds them, byte for byte: no line-end
//     conversion, no filters, no hooks, so that the tree's hash can be computed
//     again from the files;
//   - a path that would leave the directory is refused before anything is written.
package git

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrNoTag: the repository answered and has no tag of that name; the error is a *NoTagError.
	ErrNoTag = errors.New("no such tag")
	// ErrMoved: a tag points elsewhere than when it was fetched first, and a person must
	// find out why; or a branch is not where it was, and what was made for it must be
	// made anew. Retrying does not help.
	ErrMoved = errors.New("it has moved")
	// ErrNoFile: the tree has no file of that path.
	ErrNoFile = errors.New("no such file in the tree")
	// ErrAuth: the server wants other credentials. Retrying does not help.
	ErrAuth = errors.New("access denied")
	// ErrHostKey: the ssh server's key is not in the known hosts file, or another one.
	ErrHostKey = errors.New("host key not accepted")
	// ErrUnreachable: the repository did not answer, or fell silent. Retrying may help.
	ErrUnreachable = errors.New("repository unreachable")
	// ErrUnsafe: the tree holds what must not be written (a path leading out, a submodule).
	ErrUnsafe = errors.New("unsafe tree")
)

// NoTagError names the tag that is missing and those that look like it.
type NoTagError struct {
	URL, Tag string
	// Nearest holds at most five names, the likeliest first; empty if the
	// repository has no tags at all.
	Nearest []string
}

func (e *NoTagError) Error() string {
	if len(e.Nearest) == 0 {
		return fmt.Sprintf("%s has no tag %s (it has no tags)", e.URL, e.Tag)
	}
	return fmt.Sprintf("%s has no tag %s; the nearest are %s", e.URL, e.Tag, strings.Join(e.Nearest, ", "))
}

// Is makes errors.Is(err, ErrNoTag) true.
func (e *NoTagError) Is(target error) bool { return target == ErrNoTag }

// Rewrite sends URLs that begin with From to the same path under To, as git's
// url.<To>.insteadOf = <From> does. The longest From that fits wins.
type Rewrite struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Apply returns url after the rewrite whose From is its longest prefix.
func Apply(rewrites []Rewrite, url string) string {
	best := -1
	for i, r := range rewrites {
		if r.From != "" && strings.HasPrefix(url, r.From) && (best < 0 || len(r.From) > len(rewrites[best].From)) {
			best = i
		}
	}
	if best < 0 {
		return url
	}
	return rewrites[best].To + strings.TrimPrefix(url, rewrites[best].From)
}

// Options say which repository, and how to reach it.
type Options struct {
	// URL as upstream names it: https://, http://, ssh://, user@host:path, file:// or a path.
	URL string
	// InsteadOf rewrites URL before anything is asked (a mirror).
	InsteadOf []Rewrite
	// Dir is the bare cache repository; made if missing. One process at a time writes to it.
	Dir string
	// KnownHosts is the known_hosts file for ssh; required there. There is no trust on first use.
	KnownHosts string
	// KeyFile is the private key for ssh; empty for the ssh agent.
	KeyFile string
	// Username and Password are for http; empty for none.
	Username, Password string
	// Silence is how long a fetch may bring nothing before it ends with
	// ErrUnreachable; 0 for two minutes. A fetch that goes on bringing bytes is never ended.
	Silence time.Duration
}

// Tag is a tag resolved to the end.
type Tag struct {
	Name string `json:"name"`
	// Object is the hash of the tag object of an annotated tag; empty for a lightweight one.
	Object string `json:"object,omitempty"`
	Commit string `json:"commit"`
	Tree   string `json:"tree"`
	// Time is the committer's time, UTC.
	Time time.Time `json:"time"`
}

// File is one tracked file of a tree.
type File struct {
	Path string `json:"path"`
	// Mode is git's: "100644", "100755" or "120000" (a symlink).
	Mode string `json:"mode"`
	// Hash is the blob's.
	Hash string `json:"hash"`
}

// Change is one path that differs between two trees.
type Change struct {
	Path string `json:"path"`
	// Kind is "added", "removed" or "changed".
	Kind string `json:"kind"`
}

// Difference is a tracked file that is not on disk as the tree has it.
type Difference struct {
	Path string `json:"path"`
	// What is "missing", "content", "mode" or "type".
	What string `json:"what"`
}
