package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/storage/memory"
)

// Mirror is a bare cache of a repository: the tags that were asked for, one
// commit deep each.
type Mirror struct {
	objects
	opts Options
	auth transport.AuthMethod
}

// URL is the repository's as it is asked, which may be shown: no name and no
// password of http stands in it.
func (m *Mirror) URL() string { return m.url }

// Open opens the cache, or makes an empty one. It asks nothing of the repository.
func Open(opts Options) (*Mirror, error) {
	if opts.URL == "" || opts.Dir == "" {
		return nil, errors.New("cannot open a git cache without a URL and a directory")
	}
	url, auth, err := remoteOf(opts)
	if err != nil {
		return nil, err
	}
	repo, err := gogit.PlainOpen(opts.Dir)
	if errors.Is(err, gogit.ErrRepositoryNotExists) {
		if err = os.MkdirAll(opts.Dir, 0o755); err == nil {
			repo, err = gogit.PlainInit(opts.Dir, true)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open the git cache %s: %w", opts.Dir, err)
	}
	return &Mirror{objects: objects{url: url, repo: repo, trees: map[string][]File{}}, opts: opts, auth: auth}, nil
}

// Tags lists the repository's tags, sorted by name. It keeps nothing.
func (m *Mirror) Tags(ctx context.Context) ([]string, error) {
	refs, err := m.list(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for name := range refs {
		out = append(out, name)
	}
	slices.Sort(out)
	return out, nil
}

// Probe asks the repository for one tag's hash, of the tag object where there
// is one, and fetches nothing. opts.Dir is not used.
func Probe(ctx context.Context, opts Options, name string) (string, error) {
	url, auth, err := remoteOf(opts)
	if err != nil {
		return "", err
	}
	m := &Mirror{objects: objects{url: url}, opts: opts, auth: auth}
	refs, err := m.list(ctx)
	if err != nil {
		return "", err
	}
	hash, ok := refs[name]
	if !ok {
		return "", &NoTagError{URL: url, Tag: name, Nearest: nearest(name, refs)}
	}
	return hash.String(), nil
}

// list asks for the repository's tags: name to hash, of the tag object where there is one.
func (m *Mirror) list(ctx context.Context) (map[string]plumbing.Hash, error) {
	remote := gogit.NewRemote(memory.NewStorage(), &config.RemoteConfig{Name: "origin", URLs: []string{m.url}})
	out := map[string]plumbing.Hash{}
	err := m.watched(ctx, nil, func(ctx context.Context, _ io.Writer) error {
		refs, err := remote.ListContext(ctx, &gogit.ListOptions{Auth: m.auth, PeelingOption: gogit.IgnorePeeled})
		if errors.Is(err, transport.ErrEmptyRemoteRepository) {
			return nil
		}
		for _, r := range refs {
			if r.Name().IsTag() {
				out[r.Name().Short()] = r.Hash()
			}
		}
		return err
	})
	if err != nil {
		return nil, m.failed("list the tags of", err)
	}
	return out, nil
}

// Tag resolves a tag, fetching it first if the cache lacks it. The repository
// is always asked, so that a tag that has moved since is noticed.
func (m *Mirror) Tag(ctx context.Context, name string) (Tag, error) {
	if err := plumbing.NewTagReferenceName(name).Validate(); err != nil || strings.ContainsAny(name, "*:^~?[\\ ") {
		return Tag{}, fmt.Errorf("%q cannot be a tag's name", name)
	}
	refs, err := m.list(ctx)
	if err != nil {
		return Tag{}, err
	}
	want, ok := refs[name]
	if !ok {
		return Tag{}, &NoTagError{URL: m.url, Tag: name, Nearest: nearest(name, refs)}
	}
	ref := plumbing.NewTagReferenceName(name)
	have, err := m.repo.Reference(ref, true)
	switch {
	case err == nil && have.Hash() != want:
		return Tag{}, fmt.Errorf("%w: %s of %s was %s and is %s; if upstream meant that, delete %s", ErrMoved, name, m.url, have.Hash(), want, m.opts.Dir)
	case err == nil:
		if t, err := m.Known(name); err == nil {
			return t, nil // otherwise the fetch that left the reference was cut short
		}
	case !errors.Is(err, plumbing.ErrReferenceNotFound):
		return Tag{}, fmt.Errorf("cannot read the git cache %s: %w", m.opts.Dir, err)
	}
	if err := m.fetch(ctx, config.RefSpec("+"+ref+":"+ref), name); err != nil {
		return Tag{}, err
	}
	return m.Known(name)
}

// Commit resolves a commit named by its whole hash, fetching it first if the
// cache lacks it; name is what it is to be called, such as the release that it
// holds. A server may refuse to send what none of its references points at.
func (m *Mirror) Commit(ctx context.Context, name, hash string) (Tag, error) {
	want, err := wholeHash(name, hash)
	if err != nil {
		return Tag{}, err
	}
	tag := Tag{Name: name}
	// The reference is written after the objects, so that a fetch that was cut short leaves none.
	ref := plumbing.ReferenceName("refs/refit/commits/" + hash)
	if _, err := m.repo.Reference(ref, true); err == nil {
		if err := m.fill(&tag, want); err == nil {
			return tag, nil
		}
	} else if !errors.Is(err, plumbing.ErrReferenceNotFound) {
		return Tag{}, fmt.Errorf("cannot read the git cache %s: %w", m.opts.Dir, err)
	}
	if err := m.fetch(ctx, config.RefSpec("+"+hash+":"+ref.String()), hash); err != nil {
		return Tag{}, err
	}
	if err := m.fill(&tag, want); err != nil {
		return Tag{}, fmt.Errorf("%s, which is to be %s, is no commit of %s: %w", hash, name, m.url, err)
	}
	return tag, nil
}

// wholeHash refuses what is not 40 hexadecimal digits: an abbreviation may come
// to mean another commit.
func wholeHash(name, hash string) (plumbing.Hash, error) {
	if !plumbing.IsHash(hash) || hash != strings.ToLower(hash) {
		return plumbing.ZeroHash, fmt.Errorf("%q, which is to be %s, is no whole commit hash (40 lower-case hexadecimal digits)", hash, name)
	}
	return plumbing.NewHash(hash), nil
}

// fetch brings one reference or commit, one commit deep. Other processes that
// fetch into the same cache wait for it. what names it in errors.
func (m *Mirror) fetch(ctx context.Context, spec config.RefSpec, what string) error {
	lock, err := os.OpenFile(filepath.Join(m.opts.Dir, "refit.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("cannot lock the git cache: %w", err)
	}
	defer lock.Close()
	if err := flock(ctx, lock); err != nil {
		return fmt.Errorf("cannot lock the git cache %s, which another refit is writing to: %w", m.opts.Dir, err)
	}
	remote := gogit.NewRemote(m.repo.Storer, &config.RemoteConfig{Name: "origin", URLs: []string{m.url}})
	err = m.watched(ctx, m.cacheSize, func(ctx context.Context, progress io.Writer) error {
		err := remote.FetchContext(ctx, &gogit.FetchOptions{
			Auth: m.auth, Depth: 1, Tags: gogit.NoTags, Progress: progress, Force: true,
			RefSpecs: []config.RefSpec{spec},
		})
		if errors.Is(err, gogit.NoErrAlreadyUpToDate) {
			return nil
		}
		return err
	})
	if err != nil {
		return m.failed("fetch "+what+" of", err)
	}
	return nil
}

// flock waits for the lock as long as ctx lives.
func flock(ctx context.Context, f *os.File) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
