package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"github.com/skeema/knownhosts"
)

// authFor makes what go-git needs to speak to url. For ssh it holds the host to
// the known hosts file given: go-git's own default would read the user's.
func authFor(url string, opts Options) (transport.AuthMethod, error) {
	ep, err := transport.NewEndpoint(url)
	if err != nil {
		return nil, fmt.Errorf("cannot read the git URL %q: %w", url, err)
	}
	switch ep.Protocol {
	case "http", "https":
		if opts.Password == "" {
			return nil, nil
		}
		return &http.BasicAuth{Username: opts.Username, Password: opts.Password}, nil
	case "file":
		return nil, nil
	case "ssh":
	default:
		return nil, fmt.Errorf("cannot fetch from %q: refit speaks https, http, ssh and file", url)
	}
	if opts.KnownHosts == "" {
		return nil, fmt.Errorf("%w: %s is reached by ssh and no known_hosts file is configured for it", ErrHostKey, url)
	}
	db, err := ssh.NewKnownHostsDb(opts.KnownHosts)
	if err != nil {
		return nil, fmt.Errorf("%w: cannot read the known hosts file %s: %w", ErrHostKey, opts.KnownHosts, err)
	}
	port := ep.Port
	if port <= 0 {
		port = ssh.DefaultPort
	}
	algorithms := db.HostKeyAlgorithms(net.JoinHostPort(ep.Host, strconv.Itoa(port)))
	user := ep.User
	if user == "" {
		user = "git"
	}
	if opts.KeyFile == "" {
		auth, err := ssh.NewSSHAgentAuth(user)
		if err != nil {
			return nil, fmt.Errorf("%w: no key file is configured for %s and the ssh agent cannot be used: %w", ErrAuth, url, err)
		}
		auth.HostKeyCallback, auth.HostKeyAlgorithms = db.HostKeyCallback(), algorithms
		return auth, nil
	}
	auth, err := ssh.NewPublicKeysFromFile(user, opts.KeyFile, "")
	if err != nil {
		return nil, fmt.Errorf("%w: cannot read the key file %s: %w", ErrAuth, opts.KeyFile, err)
	}
	auth.HostKeyCallback, auth.HostKeyAlgorithms = db.HostKeyCallback(), algorithms
	return auth, nil
}

// errSilent is the cause of a context that the watch ended.
var errSilent = errors.New("silent")

// watched runs do, and ends it when neither its progress nor size moves for
// Silence. go-git's ssh dial does not heed a context, so a do that does not
// come back after its end is left behind.
func (m *Mirror) watched(ctx context.Context, size func() int64, do func(context.Context, io.Writer) error) error {
	silence := m.opts.Silence
	if silence <= 0 {
		silence = 2 * time.Minute
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var moved counter
	done := make(chan error, 1)
	go func() { done <- do(ctx, &moved) }()
	tick := time.NewTicker(max(silence/20, time.Millisecond))
	defer tick.Stop()
	last, since := int64(-1), time.Now()
	for {
		select {
		case err := <-done:
			if cause := context.Cause(ctx); err != nil && cause != nil {
				return cause
			}
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			now := moved.n.Load()
			if size != nil {
				now += size()
			}
			if now != last {
				last, since = now, time.Now()
			} else if time.Since(since) >= silence {
				cancel(fmt.Errorf("%w: nothing came for %s", errSilent, silence))
			}
		}
	}
}

// counter counts bytes that pass through it.
type counter struct{ n atomic.Int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// cacheSize is the size of what a fetch writes: the packs, the one in work among them.
func (m *Mirror) cacheSize() int64 {
	var n int64
	entries, err := os.ReadDir(filepath.Join(m.opts.Dir, "objects", "pack"))
	if err != nil {
		return 0 // not made yet
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			n += info.Size()
		}
	}
	return n
}

// failed gives an error of the way to the repository its sentinel.
func (m *Mirror) failed(deed string, err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("cannot %s %s: %w", deed, m.url, err)
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed), strings.Contains(err.Error(), "unable to authenticate"):
		return fmt.Errorf("cannot %s %s: %w: %w", deed, m.url, ErrAuth, err)
	case knownhosts.IsHostKeyChanged(err), knownhosts.IsHostUnknown(err):
		return fmt.Errorf("cannot %s %s: %w: %w; compare the key with the server's own and correct %s", deed, m.url, ErrHostKey, err, m.opts.KnownHosts)
	case errors.Is(err, transport.ErrRepositoryNotFound):
		return fmt.Errorf("cannot %s %s: %w", deed, m.url, err)
	}
	return fmt.Errorf("cannot %s %s: %w: %w", deed, m.url, ErrUnreachable, err)
}

// nearest returns the tags likest to name, at most five, by edit distance.
func nearest(name string, refs map[string]plumbing.Hash) []string {
	type scored struct {
		name string
		d    int
	}
	var all []scored
	for n := range refs {
		all = append(all, scored{n, distance(name, n)})
	}
	slices.SortFunc(all, func(a, b scored) int {
		if a.d != b.d {
			return a.d - b.d
		}
		return strings.Compare(b.name, a.name) // the newer of two equally near
	})
	var out []string
	for _, s := range all[:min(5, len(all))] {
		out = append(out, s.name)
	}
	return out
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
