package git

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// Patch is how one file differs between two tags, as a unified diff; empty
// where it does not. A file that one of them lacks is added or removed whole.
func (o *objects) Patch(from, to Tag, file string) (string, error) {
	a, err := o.side(from, file)
	if err != nil {
		return "", err
	}
	b, err := o.side(to, file)
	if err != nil {
		return "", err
	}
	if a.TreeEntry == b.TreeEntry {
		return "", nil
	}
	patch, err := (&object.Change{From: a, To: b}).Patch()
	if err != nil {
		return "", fmt.Errorf("cannot compare %s of %s and %s: %w", file, from.Name, to.Name, err)
	}
	return patch.String(), nil
}

// side is one end of a change: the zero value where the tree lacks the file.
func (o *objects) side(t Tag, file string) (object.ChangeEntry, error) {
	files, err := o.list(t)
	if err != nil {
		return object.ChangeEntry{}, err
	}
	i, ok := slices.BinarySearchFunc(files, file, func(f File, p string) int { return strings.Compare(f.Path, p) })
	if !ok {
		return object.ChangeEntry{}, nil
	}
	mode, err := filemode.New(files[i].Mode)
	if err != nil {
		return object.ChangeEntry{}, fmt.Errorf("%s of %s has mode %q: %w", file, t.Name, files[i].Mode, err)
	}
	tree, err := o.repo.TreeObject(plumbing.NewHash(t.Tree))
	if err != nil {
		return object.ChangeEntry{}, fmt.Errorf("cannot read the tree of %s: %w", t.Name, err)
	}
	return object.ChangeEntry{Name: file, Tree: tree, TreeEntry: object.TreeEntry{Name: path.Base(file), Mode: mode, Hash: plumbing.NewHash(files[i].Hash)}}, nil
}
