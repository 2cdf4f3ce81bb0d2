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
	"sync"
	"syscall"
	"time"

	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/storage/memory"
)

// Mirror is a bare cache of a repository: the tags that were asked for, one
// commit deep each.
type Mirror struct {
	opts Options
	url  string
	auth transport.AuthMethod
	repo *gogit.Repository
	// trees holds the file lists that were read, by tree hash.
	mu    sync.Mutex
	trees map[string][]File
}

// Open opens the cache, or makes an empty one. It asks nothing of the repository.
func Open(opts Options) (*Mirror, error) {
	if opts.URL == "" || opts.Dir == "" {
		return nil, errors.New("cannot open a git cache without a URL and a directory")
	}
	url := Apply(opts.InsteadOf, opts.URL)
	auth, err := authFor(url, opts)
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
	return &Mirror{opts: opts, url: url, auth: auth, repo: repo, trees: map[string][]File{}}, nil
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
	url := Apply(opts.InsteadOf, opts.URL)
	auth, err := authFor(url, opts)
	if err != nil {
		return "", err
	}
	m := &Mirror{opts: opts, url: url, auth: auth}
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
	if err := m.fetch(ctx, ref); err != nil {
		return Tag{}, err
	}
	return m.Known(name)
}

// fetch brings one tag, one commit deep. Other processes that fetch into the
// same cache wait for it.
func (m *Mirror) fetch(ctx context.Context, ref plumbing.ReferenceName) error {
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
			RefSpecs: []config.RefSpec{config.RefSpec("+" + ref + ":" + ref)},
		})
		if errors.Is(err, gogit.NoErrAlreadyUpToDate) {
			return nil
		}
		return err
	})
	if err != nil {
		return m.failed("fetch "+ref.Short()+" of", err)
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

// Known resolves a tag from the cache alone.
func (m *Mirror) Known(name string) (Tag, error) {
	ref, err := m.repo.Reference(plumbing.NewTagReferenceName(name), true)
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return Tag{}, &NoTagError{URL: "the cache of " + m.url, Tag: name}
	}
	if err != nil {
		return Tag{}, fmt.Errorf("cannot read tag %s in the git cache: %w", name, err)
	}
	tag := Tag{Name: name}
	hash := ref.Hash()
	for range 5 { // a tag may point at a tag
		t, err := m.repo.TagObject(hash)
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			break
		}
		if err != nil {
			return Tag{}, fmt.Errorf("cannot read tag %s in the git cache: %w", name, err)
		}
		if tag.Object == "" {
			tag.Object = hash.String()
		}
		hash = t.Target
	}
	commit, err := m.repo.CommitObject(hash)
	if err != nil {
		return Tag{}, fmt.Errorf("tag %s of %s names no commit that was sent: %w", name, m.url, err)
	}
	tag.Commit, tag.Tree, tag.Time = commit.Hash.String(), commit.TreeHash.String(), commit.Committer.When.UTC()
	return tag, nil
}

// Files lists the tracked files of a tag, sorted by path. A tree that must not
// be written to a disk gives ErrUnsafe.
func (m *Mirror) Files(t Tag) ([]File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if files, ok := m.trees[t.Tree]; ok {
		return slices.Clone(files), nil
	}
	files, err := m.walk(t)
	if err != nil {
		return nil, err
	}
	m.trees[t.Tree] = files
	return slices.Clone(files), nil
}

func (m *Mirror) walk(t Tag) ([]File, error) {
	tree, err := m.repo.TreeObject(plumbing.NewHash(t.Tree))
	if err != nil {
		return nil, fmt.Errorf("cannot read the tree of %s: %w", t.Name, err)
	}
	walker := object.NewTreeWalker(tree, true, nil)
	defer walker.Close()
	var out []File
	for {
		name, entry, err := walker.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && strings.Contains(err.Error(), "invalid path") { // go-git's sentinel is internal to it
			return nil, fmt.Errorf("%s: %w: %w", t.Name, ErrUnsafe, err)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the tree of %s: %w", t.Name, err)
		}
		if err := safePath(name); err != nil {
			return nil, fmt.Errorf("%s: %w", t.Name, err)
		}
		switch entry.Mode {
		case filemode.Dir:
		case filemode.Regular, filemode.Executable, filemode.Symlink:
			out = append(out, File{Path: name, Mode: strings.TrimPrefix(entry.Mode.String(), "0"), Hash: entry.Hash.String()})
		default:
			return nil, fmt.Errorf("%s: %w: %s has mode %s (a submodule?), which refit does not check out", t.Name, ErrUnsafe, name, entry.Mode)
		}
	}
	slices.SortFunc(out, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

// safePath refuses paths that would leave the directory or reach git's or refit's own.
func safePath(p string) error {
	for _, part := range strings.Split(p, "/") {
		if part == "" || part == "." || part == ".." || strings.EqualFold(part, ".git") || strings.ContainsAny(part, "\x00\\") {
			return fmt.Errorf("%w: path %q", ErrUnsafe, p)
		}
	}
	return nil
}

// Read returns a tracked file's content; of a symlink, its target.
func (m *Mirror) Read(t Tag, path string) ([]byte, error) {
	files, err := m.Files(t)
	if err != nil {
		return nil, err
	}
	i, ok := slices.BinarySearchFunc(files, path, func(f File, p string) int { return strings.Compare(f.Path, p) })
	if !ok {
		return nil, fmt.Errorf("%s at %s: %w", path, t.Name, ErrNoFile)
	}
	return m.blob(plumbing.NewHash(files[i].Hash))
}

func (m *Mirror) blob(hash plumbing.Hash) ([]byte, error) {
	blob, err := m.repo.BlobObject(hash)
	if err != nil {
		return nil, fmt.Errorf("cannot read object %s: %w", hash, err)
	}
	r, err := blob.Reader()
	if err != nil {
		return nil, fmt.Errorf("cannot read object %s: %w", hash, err)
	}
	b, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("cannot read object %s: %w", hash, err)
	}
	return b, nil
}

// Diff compares two tags' trees path by path, sorted by path. A file whose mode
// alone differs counts as changed.
func (m *Mirror) Diff(from, to Tag) ([]Change, error) {
	a, err := m.Files(from)
	if err != nil {
		return nil, err
	}
	b, err := m.Files(to)
	if err != nil {
		return nil, err
	}
	old := make(map[string]File, len(a))
	for _, f := range a {
		old[f.Path] = f
	}
	var out []Change
	for _, f := range b {
		was, ok := old[f.Path]
		delete(old, f.Path)
		switch {
		case !ok:
			out = append(out, Change{f.Path, "added"})
		case was != f:
			out = append(out, Change{f.Path, "changed"})
		}
	}
	for path := range old {
		out = append(out, Change{path, "removed"})
	}
	slices.SortFunc(out, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}
