package git

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	gogit "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// objects reads what a repository on this machine holds; it asks nobody.
type objects struct {
	// url names the repository in errors.
	url  string
	repo *gogit.Repository
	// trees holds the file lists that were read, by tree hash.
	mu    sync.Mutex
	trees map[string][]File
}

// Known resolves a tag from what lies on this machine alone.
func (o *objects) Known(name string) (Tag, error) {
	ref, err := o.repo.Reference(plumbing.NewTagReferenceName(name), true)
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return Tag{}, &NoTagError{URL: "the copy of " + o.url + " here", Tag: name}
	}
	if err != nil {
		return Tag{}, fmt.Errorf("cannot read tag %s of %s: %w", name, o.url, err)
	}
	tag := Tag{Name: name}
	hash := ref.Hash()
	for range 5 { // a tag may point at a tag
		t, err := o.repo.TagObject(hash)
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			break
		}
		if err != nil {
			return Tag{}, fmt.Errorf("cannot read tag %s of %s: %w", name, o.url, err)
		}
		if tag.Object == "" {
			tag.Object = hash.String()
		}
		hash = t.Target
	}
	if err := o.fill(&tag, hash); err != nil {
		return Tag{}, fmt.Errorf("tag %s of %s names no commit that was sent: %w", name, o.url, err)
	}
	return tag, nil
}

// fill writes what the commit object says into t.
func (o *objects) fill(t *Tag, hash plumbing.Hash) error {
	commit, err := o.repo.CommitObject(hash)
	if err != nil {
		return err
	}
	t.Commit, t.Tree, t.Time = commit.Hash.String(), commit.TreeHash.String(), commit.Committer.When.UTC()
	return nil
}

// Files lists the tracked files of a tag, sorted by path. A tree that must not
// be written to a disk gives ErrUnsafe.
func (o *objects) Files(t Tag) ([]File, error) {
	files, err := o.list(t)
	return slices.Clone(files), err
}

// list is Files without the copy: nobody may change it.
func (o *objects) list(t Tag) ([]File, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if files, ok := o.trees[t.Tree]; ok {
		return files, nil
	}
	files, err := o.walk(t)
	if err != nil {
		return nil, err
	}
	o.trees[t.Tree] = files
	return files, nil
}

func (o *objects) walk(t Tag) ([]File, error) {
	tree, err := o.repo.TreeObject(plumbing.NewHash(t.Tree))
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

// safePath refuses paths that would leave the directory or reach git's own. go-git
// refuses control characters.
func safePath(p string) error {
	for _, part := range strings.Split(p, "/") {
		if part == "" || part == "." || part == ".." || strings.EqualFold(part, ".git") || strings.ContainsAny(part, "\x00\\") {
			return fmt.Errorf("%w: path %q", ErrUnsafe, p)
		}
	}
	return nil
}

// Read returns a tracked file's content; of a symlink, its target.
func (o *objects) Read(t Tag, path string) ([]byte, error) {
	files, err := o.list(t)
	if err != nil {
		return nil, err
	}
	i, ok := slices.BinarySearchFunc(files, path, func(f File, p string) int { return strings.Compare(f.Path, p) })
	if !ok {
		return nil, fmt.Errorf("%s at %s: %w", path, t.Name, ErrNoFile)
	}
	return o.blob(plumbing.NewHash(files[i].Hash))
}

func (o *objects) blob(hash plumbing.Hash) ([]byte, error) {
	blob, err := o.repo.BlobObject(hash)
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
func (o *objects) Diff(from, to Tag) ([]Change, error) {
	a, err := o.list(from)
	if err != nil {
		return nil, err
	}
	b, err := o.list(to)
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
