package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
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
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// remoteOf is where a repository is asked, and with what. A token that stands in a
// URL of http is taken out of it: it would stand in every error, in go-git's too.
func remoteOf(opts Options) (string, transport.AuthMethod, error) {
	at := Apply(opts.InsteadOf, opts.URL)
	if u, err := url.Parse(at); err == nil && u.User != nil && (u.Scheme == "http" || u.Scheme == "https") {
		if opts.Username == "" && opts.Password == "" {
			opts.Username = u.User.Username()
			opts.Password, _ = u.User.Password()
		}
		u.User = nil
		at = u.String()
	}
	auth, err := authFor(at, opts)
	return at, auth, err
}

// authFor makes what go-git needs to speak to url. For ssh it holds the host to
// the known hosts file given: go-git's own default would read the user's.
func authFor(url string, opts Options) (transport.AuthMethod, error) {
	ep, err := transport.NewEndpoint(url)
	if err != nil {
		return nil, fmt.Errorf("cannot read the git URL %q: %w", url, err)
	}
	switch ep.Protocol {
	case "http", "https":
		if opts.Username == "" && opts.Password == "" {
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
	db, err := gitssh.NewKnownHostsDb(opts.KnownHosts)
	if err != nil {
		return nil, fmt.Errorf("%w: cannot read the known hosts file %s: %w", ErrHostKey, opts.KnownHosts, err)
	}
	port := ep.Port
	if port <= 0 {
		port = gitssh.DefaultPort
	}
	algorithms := db.HostKeyAlgorithms(net.JoinHostPort(ep.Host, strconv.Itoa(port)))
	user := ep.User
	if user == "" {
		user = "git"
	}
	if opts.KeyFile == "" {
		auth, err := gitssh.NewSSHAgentAuth(user)
		if err != nil {
			return nil, fmt.Errorf("%w: no key file is configured for %s and the ssh agent cannot be used: %w", ErrAuth, url, err)
		}
		auth.HostKeyCallback, auth.HostKeyAlgorithms = db.HostKeyCallback(), algorithms
		return auth, nil
	}
	auth, err := gitssh.NewPublicKeysFromFile(user, opts.KeyFile, "")
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
	case m.hostKey(err) != "":
		return fmt.Errorf("cannot %s %s: %w: %s: %w", deed, m.url, ErrHostKey, m.hostKey(err), err)
	case errors.Is(err, transport.ErrRepositoryNotFound):
		return fmt.Errorf("cannot %s %s: %w", deed, m.url, err)
	}
	return fmt.Errorf("cannot %s %s: %w: %w", deed, m.url, ErrUnreachable, err)
}

// hostKey says what is wrong with the server's key, where it stands and what to
// compare; empty if err is of another kind. There is no trust on first use.
func (m *Mirror) hostKey(err error) string {
	const compare = "compare the server's key with what its administrators say"
	var revoked *knownhosts.RevokedError
	var other *knownhosts.KeyError
	var none *ssh.AlgorithmNegotiationError
	switch {
	case errors.As(err, &revoked):
		return fmt.Sprintf("its key is marked @revoked at %s:%d; fetch no more until it has a new one", revoked.Revoked.Filename, revoked.Revoked.Line)
	case errors.As(err, &other) && len(other.Want) == 0:
		return fmt.Sprintf("it is not in %s; %s, then add it there", m.opts.KnownHosts, compare)
	case errors.As(err, &other):
		var at []string
		for _, k := range other.Want {
			at = append(at, fmt.Sprintf("%s:%d (%s)", k.Filename, k.Line, ssh.FingerprintSHA256(k.Key)))
		}
		return fmt.Sprintf("it shows another key than %s has: it was set up anew, or somebody stands in between; %s before you replace that line", strings.Join(at, ", "), compare)
	case errors.As(err, &none) && none.What == "host key":
		return fmt.Sprintf("it has no key of a type that %s has of it; %s before you change that line", m.opts.KnownHosts, compare)
	}
	return ""
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
