package git

import (
	"context"
	"errors"
	"fmt"
	"io"

	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// objectCache bounds what go-git keeps of the objects that it has read: the
// bases of deltas are asked for again and again, files are not.
const objectCache = 32 * cache.MiByte

// ErrNoClone: the folder is no git repository.
var ErrNoClone = errors.New("no git repository")

// Clone is a repository that lies on this machine already. It is read in place:
// nothing is fetched, nothing is written, no git binary is run. Close it.
type Clone struct {
	objects
	store io.Closer
}

// OpenClone opens the repository in dir, bare or with a work tree.
func OpenClone(dir string) (*Clone, error) {
	repo, err := gogit.PlainOpenWithOptions(dir, &gogit.PlainOpenOptions{EnableDotGitCommonDir: true})
	if errors.Is(err, gogit.ErrRepositoryNotExists) {
		return nil, fmt.Errorf("%w in %s: name the folder of a clone, or the repository's URL", ErrNoClone, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open the clone in %s: %w", dir, err)
	}
	plain, ok := repo.Storer.(*filesystem.Storage)
	if !ok {
		return nil, fmt.Errorf("cannot read the clone in %s: its objects lie in a %T", dir, repo.Storer)
	}
	// go-git opens the pack anew for every object unless it is told to keep it open.
	store := filesystem.NewStorageWithOptions(plain.Filesystem(), cache.NewObjectLRU(objectCache), filesystem.Options{KeepDescriptors: true})
	if repo, err = gogit.Open(store, nil); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open the clone in %s: %w", dir, err), store.Close())
	}
	return &Clone{objects: objects{url: dir, repo: repo, trees: map[string][]File{}}, store: store}, nil
}

// Close closes the clone's files.
func (c *Clone) Close() error { return c.store.Close() }

// Tags lists the clone's tags.
func (c *Clone) Tags(context.Context) ([]string, error) {
	refs, err := c.tags()
	if err != nil {
		return nil, err
	}
	var out []string
	for name := range refs {
		out = append(out, name)
	}
	return out, nil
}

func (c *Clone) tags() (map[string]plumbing.Hash, error) {
	iter, err := c.repo.Tags()
	if err != nil {
		return nil, fmt.Errorf("cannot list the tags of %s: %w", c.url, err)
	}
	out := map[string]plumbing.Hash{}
	err = iter.ForEach(func(r *plumbing.Reference) error {
		out[r.Name().Short()] = r.Hash()
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list the tags of %s: %w", c.url, err)
	}
	return out, nil
}

// Tag resolves a tag of the clone. One that it lacks gives ErrNoTag with the nearest names.
func (c *Clone) Tag(_ context.Context, name string) (Tag, error) {
	tag, err := c.Known(name)
	if !errors.Is(err, ErrNoTag) {
		return tag, err
	}
	refs, listed := c.tags()
	if listed != nil {
		return Tag{}, listed
	}
	return Tag{}, &NoTagError{URL: c.url, Tag: name, Nearest: nearest(name, refs)}
}

// Commit resolves a commit named by its whole hash; name is what it is to be
// called, such as the release that it holds.
func (c *Clone) Commit(_ context.Context, name, hash string) (Tag, error) {
	want, err := wholeHash(name, hash)
	if err != nil {
		return Tag{}, err
	}
	tag := Tag{Name: name}
	if err := c.fill(&tag, want); err != nil {
		return Tag{}, fmt.Errorf("%s has no commit %s, which is to be %s (%w): fetch it into the clone", c.url, hash, name, err)
	}
	return tag, nil
}
