package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	gogit "github.com/go-git/go-git/v5"
	gitconfig "github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport"
)

var (
	// ErrRejected: the server will not have the push, whatever it holds: a protected
	// branch, a hook, a token that may only read. Pushing again does not help.
	ErrRejected = errors.New("the server refuses the push")
	// ErrNoBranch: the repository has branches and not this one.
	ErrNoBranch = errors.New("no such branch")
)

// Person is who a commit is by.
type Person struct{ Name, Email string }

// CommitSigner signs commits with an ssh key, as "ssh-keygen -Y sign -n git" does:
// the signature is armored. hosts/ssh's Signer is one, with the namespace git.
type CommitSigner interface {
	Sign(ctx context.Context, message []byte) ([]byte, error)
}

// ConfigOptions say which config repository, and how to reach it.
type ConfigOptions struct {
	// URL is https://, http://, ssh://, user@host:path, file:// or a path.
	URL string
	// Branch is the branch that counts, such as "main".
	Branch string
	// Dir is the bare clone; made if missing.
	Dir string
	// Token gives the token for http, asked before each exchange, so that it may be
	// a new one each time; nil for none. It never stands in an error.
	Token func() (string, error)
	// Key is the private key's file for ssh, empty for the ssh agent; KnownHosts is
	// the known_hosts file, required there.
	Key, KnownHosts string
	// Sign signs commits; nil for commits without signature.
	Sign CommitSigner
	// Author is who refit's commits are by; required.
	Author Person
	// Now is the clock of commits; nil for the machine's.
	Now func() time.Time
	// Silence is how long an exchange may bring nothing before it ends with
	// ErrUnreachable; 0 for two minutes.
	Silence time.Duration
}

// Config is the bare clone of a config repository. Of several that share a folder,
// in one process or in many, one at a time writes there.
type Config struct {
	opts ConfigOptions

	mu   sync.Mutex
	repo *gogit.Repository
}

// OpenConfig opens the clone, or makes an empty one. It asks nothing of the repository.
func OpenConfig(_ context.Context, opts ConfigOptions) (*Config, error) {
	if opts.URL == "" || opts.Dir == "" {
		return nil, errors.New("cannot open the config repository without a URL and a directory")
	}
	if err := branchName(opts.Branch); err != nil {
		return nil, err
	}
	if err := opts.Author.fault(); err != nil {
		return nil, err
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	c := &Config{opts: opts}
	if _, err := c.remote(); err != nil { // a URL that cannot be read is said now
		return nil, err
	}
	return c, c.open()
}

func (p Person) fault() error {
	if p.Name == "" || p.Email == "" || strings.ContainsAny(p.Name+p.Email, "<>\n\x00") || strings.TrimSpace(p.Name) != p.Name {
		return fmt.Errorf("commits to the config repository need a name and an address of who makes them, not %q <%q>", p.Name, p.Email)
	}
	return nil
}

func branchName(name string) error {
	if err := plumbing.NewBranchReferenceName(name).Validate(); name == "" || err != nil {
		return fmt.Errorf("%q cannot be the name of a branch", name)
	}
	return nil
}

// open opens the clone anew: another process may have brought packs since.
func (c *Config) open() error {
	repo, err := gogit.PlainOpen(c.opts.Dir)
	if errors.Is(err, gogit.ErrRepositoryNotExists) {
		if err = os.MkdirAll(c.opts.Dir, 0o700); err == nil { // a config repository is not everybody's
			repo, err = gogit.PlainInit(c.opts.Dir, true)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot open the clone of the config repository in %s: %w", c.opts.Dir, err)
	}
	c.repo = repo
	return nil
}

// remote is the way to the repository, with the token of this moment.
func (c *Config) remote() (*Mirror, error) {
	o := Options{URL: c.opts.URL, Dir: c.opts.Dir, KnownHosts: c.opts.KnownHosts, KeyFile: c.opts.Key, Silence: c.opts.Silence}
	isHTTP := strings.HasPrefix(o.URL, "http://") || strings.HasPrefix(o.URL, "https://")
	if c.opts.Token != nil && isHTTP {
		token, err := c.opts.Token()
		if err != nil {
			return nil, fmt.Errorf("cannot read the token for the config repository: %w", err)
		}
		if token != "" {
			// GitHub takes any name beside a token; this one is what it gives its apps.
			o.Username, o.Password = "x-access-token", token
		}
	}
	url, auth, err := remoteOf(o)
	if err != nil {
		return nil, err
	}
	return &Mirror{objects: objects{url: url, repo: c.repo}, opts: o, auth: auth}, nil
}

// locked calls do with the folder for this process alone and the clone as it is now.
func (c *Config) locked(ctx context.Context, do func() error) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	lock, err := os.OpenFile(filepath.Join(c.opts.Dir, "refit.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("cannot lock the clone of the config repository: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := flock(ctx, lock); err != nil {
		return fmt.Errorf("cannot lock %s, which another refit is writing to: %w", c.opts.Dir, err)
	}
	if err := c.open(); err != nil {
		return err
	}
	return do()
}

// Fetch brings the branch and returns its head's hash; "" for a repository that is
// empty. One that has other branches only gives ErrNoBranch.
func (c *Config) Fetch(ctx context.Context) (head string, err error) {
	err = c.locked(ctx, func() error {
		head, err = c.fetch(ctx, c.opts.Branch)
		return err
	})
	return head, err
}

// tracking is where a branch's last known head is kept.
func tracking(branch string) plumbing.ReferenceName {
	return plumbing.NewRemoteReferenceName("origin", branch)
}

func (c *Config) fetch(ctx context.Context, branch string) (string, error) {
	m, err := c.remote()
	if err != nil {
		return "", err
	}
	remote := gogit.NewRemote(c.repo.Storer, &gitconfig.RemoteConfig{Name: "origin", URLs: []string{m.url}})
	spec := gitconfig.RefSpec("+" + plumbing.NewBranchReferenceName(branch).String() + ":" + tracking(branch).String())
	err = m.watched(ctx, m.cacheSize, func(ctx context.Context, progress io.Writer) error {
		return remote.FetchContext(ctx, &gogit.FetchOptions{
			Auth: m.auth, Tags: gogit.NoTags, Progress: progress, Force: true, RefSpecs: []gitconfig.RefSpec{spec},
		})
	})
	var missing gogit.NoMatchingRefSpecError
	switch {
	case err == nil, errors.Is(err, gogit.NoErrAlreadyUpToDate):
	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		if err := c.repo.Storer.RemoveReference(tracking(branch)); err != nil {
			return "", fmt.Errorf("cannot forget the branch %s of %s, which is gone: %w", branch, m.url, err)
		}
		return "", nil
	case errors.As(err, &missing):
		return "", fmt.Errorf("%s: %w %s: make it there, or name the right one in refit.yml", m.url, ErrNoBranch, branch)
	default:
		return "", m.failed("fetch branch "+branch+" of", err)
	}
	return c.known(branch)
}

// known is the head of a branch as it was fetched last; "" if it never was.
func (c *Config) known(branch string) (string, error) {
	ref, err := c.repo.Reference(tracking(branch), true)
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot read the branch %s in %s: %w", branch, c.opts.Dir, err)
	}
	return ref.Hash().String(), nil
}
