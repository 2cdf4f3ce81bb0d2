package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// Checkout writes the tag's files into dir, which must exist, and returns what
// it wrote. Files that lie there already are not overwritten: that is an error,
// since a checkout begins with an empty directory. Symlinks are written as they
// are; one that leads out of dir is ErrUnsafe.
func (m *Mirror) Checkout(ctx context.Context, t Tag, dir string) ([]File, error) {
	files, err := m.Files(t)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot check out %s: %w", t.Name, err)
	}
	defer root.Close()
	var links []File
	made := map[string]bool{".": true}
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("cannot check out %s: %w", t.Name, context.Cause(ctx))
		}
		if err := makeParents(root, path.Dir(f.Path), made); err != nil {
			return nil, fmt.Errorf("cannot check out %s: %w", t.Name, err)
		}
		if f.Mode == "120000" {
			links = append(links, f) // last, so that no file is written through one
			continue
		}
		if err := m.write(root, f); err != nil {
			return nil, fmt.Errorf("cannot check out %s of %s: %w", f.Path, t.Name, err)
		}
	}
	for _, f := range links {
		target, err := m.blob(plumbing.NewHash(f.Hash))
		if err != nil {
			return nil, fmt.Errorf("cannot check out %s of %s: %w", f.Path, t.Name, err)
		}
		to := string(target)
		if path.IsAbs(to) || !filepath.IsLocal(path.Join(path.Dir(f.Path), to)) {
			return nil, fmt.Errorf("%s: %w: the link %s leads out of the tree, to %q", t.Name, ErrUnsafe, f.Path, to)
		}
		if err := root.Symlink(to, f.Path); err != nil {
			return nil, fmt.Errorf("cannot check out %s of %s: %w", f.Path, t.Name, err)
		}
	}
	return files, nil
}

func makeParents(root *os.Root, dir string, made map[string]bool) error {
	if made[dir] {
		return nil
	}
	if err := makeParents(root, path.Dir(dir), made); err != nil {
		return err
	}
	if err := root.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := root.Chmod(dir, 0o755); err != nil { // whatever the umask
		return err
	}
	made[dir] = true
	return nil
}

func (m *Mirror) write(root *os.Root, f File) error {
	blob, err := m.repo.BlobObject(plumbing.NewHash(f.Hash))
	if err != nil {
		return fmt.Errorf("object %s was not sent by %s: %w", f.Hash, m.url, err)
	}
	r, err := blob.Reader()
	if err != nil {
		return err
	}
	perm := fs.FileMode(0o644)
	if f.Mode == "100755" {
		perm = 0o755
	}
	out, err := root.OpenFile(f.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return errors.Join(err, r.Close())
	}
	_, err = io.Copy(out, r)
	return errors.Join(err, out.Chmod(perm), out.Close(), r.Close())
}

// TreeHash computes the git tree hash of the files on disk: of exactly the
// paths given, from their content, type and executable bit. Nothing else in dir
// counts. It is the tag's tree hash when, and only when, no tracked file differs.
func TreeHash(ctx context.Context, dir string, paths []string) (string, error) {
	files, missing, err := scan(ctx, dir, paths)
	if err != nil {
		return "", err
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("cannot hash the tree in %s: %s is missing: %w", dir, missing[0], fs.ErrNotExist)
	}
	return hashTree(files)
}

// Compare tells which tracked files on disk are not as the tree has them,
// sorted by path, and the tree hash of those that are there, computed as
// TreeHash does. Untracked files do not count.
func Compare(ctx context.Context, dir string, want []File) (tree string, out []Difference, err error) {
	return CompareBut(ctx, dir, want, nil)
}

// CompareBut is Compare for a dir in whose place of some files, those that elsewhere
// tells, something else is meant to lie: they are taken to be as the tree has them.
func CompareBut(ctx context.Context, dir string, want []File, elsewhere func(path string) bool) (tree string, out []Difference, err error) {
	var paths []string
	var taken []File
	for _, f := range want {
		if elsewhere != nil && elsewhere(f.Path) {
			taken = append(taken, f)
		} else {
			paths = append(paths, f.Path)
		}
	}
	files, missing, err := scan(ctx, dir, paths)
	if err != nil {
		return "", nil, err
	}
	files = append(files, taken...)
	for _, p := range missing {
		out = append(out, Difference{p, "missing"})
	}
	have := make(map[string]File, len(files))
	for _, f := range files {
		have[f.Path] = f
	}
	for _, w := range want {
		h, ok := have[w.Path]
		switch {
		case !ok:
		case (h.Mode == "120000") != (w.Mode == "120000"):
			out = append(out, Difference{w.Path, "type"})
		case h.Hash != w.Hash:
			out = append(out, Difference{w.Path, "content"})
		case h.Mode != w.Mode:
			out = append(out, Difference{w.Path, "mode"})
		}
	}
	slices.SortFunc(out, func(a, b Difference) int { return strings.Compare(a.Path, b.Path) })
	tree, err = hashTree(files)
	return tree, out, err
}

// scan hashes files on disk. What is neither a file nor a symlink, or lies below
// a symlink, counts as missing.
func scan(ctx context.Context, dir string, paths []string) (files []File, missing []string, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot hash the tree in %s: %w", dir, err)
	}
	defer root.Close()
	dirs := map[string]bool{".": true}
	for _, p := range paths {
		if err := ctx.Err(); err != nil {
			return nil, nil, fmt.Errorf("cannot hash the tree in %s: %w", dir, context.Cause(ctx))
		}
		if err := safePath(p); err != nil {
			return nil, nil, err
		}
		f, err := hashFile(root, p, dirs)
		if errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, p)
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("cannot hash %s in %s: %w", p, dir, err)
		}
		files = append(files, f)
	}
	return files, missing, nil
}

func hashFile(root *os.Root, p string, dirs map[string]bool) (File, error) {
	if !realDir(root, path.Dir(p), dirs) {
		return File{}, fs.ErrNotExist
	}
	info, err := root.Lstat(p)
	if err != nil {
		return File{}, err
	}
	f := File{Path: p, Mode: "100644"}
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := root.Readlink(p)
		if err != nil {
			return File{}, err
		}
		f.Mode, f.Hash = "120000", plumbing.ComputeHash(plumbing.BlobObject, []byte(target)).String()
		return f, nil
	}
	if !info.Mode().IsRegular() {
		return File{}, fs.ErrNotExist
	}
	if info.Mode()&0o100 != 0 {
		f.Mode = "100755"
	}
	in, err := root.Open(p)
	if err != nil {
		return File{}, err
	}
	h := plumbing.NewHasher(plumbing.BlobObject, info.Size())
	n, err := io.Copy(h, in)
	if err := errors.Join(err, in.Close()); err != nil {
		return File{}, err
	}
	if n != info.Size() {
		return File{}, errors.New("the file changed while it was read")
	}
	f.Hash = h.Sum().String()
	return f, nil
}

// realDir tells whether dir and all above it, up to the root, are directories
// and no symlinks to some.
func realDir(root *os.Root, dir string, dirs map[string]bool) bool {
	if ok, seen := dirs[dir]; seen {
		return ok
	}
	ok := realDir(root, path.Dir(dir), dirs)
	if ok {
		info, err := root.Lstat(dir)
		ok = err == nil && info.IsDir()
	}
	dirs[dir] = ok
	return ok
}

// hashTree builds git's tree objects from flat files and returns the root's hash.
func hashTree(files []File) (string, error) {
	type dir struct {
		entries []object.TreeEntry
		subs    map[string]*dir
	}
	root := &dir{subs: map[string]*dir{}}
	for _, f := range files {
		at := root
		parts := strings.Split(f.Path, "/")
		for _, part := range parts[:len(parts)-1] {
			next, ok := at.subs[part]
			if !ok {
				next = &dir{subs: map[string]*dir{}}
				at.subs[part] = next
			}
			at = next
		}
		mode, err := filemode.New(f.Mode)
		if err != nil {
			return "", fmt.Errorf("cannot hash the tree: %s has mode %q: %w", f.Path, f.Mode, err)
		}
		at.entries = append(at.entries, object.TreeEntry{Name: parts[len(parts)-1], Mode: mode, Hash: plumbing.NewHash(f.Hash)})
	}
	var hash func(*dir) (plumbing.Hash, error)
	hash = func(d *dir) (plumbing.Hash, error) {
		entries := d.entries
		for name, sub := range d.subs {
			h, err := hash(sub)
			if err != nil {
				return plumbing.ZeroHash, err
			}
			entries = append(entries, object.TreeEntry{Name: name, Mode: filemode.Dir, Hash: h})
		}
		slices.SortFunc(entries, func(a, b object.TreeEntry) int { return strings.Compare(sortName(a), sortName(b)) })
		obj := &plumbing.MemoryObject{}
		if err := (&object.Tree{Entries: entries}).Encode(obj); err != nil {
			return plumbing.ZeroHash, fmt.Errorf("cannot hash the tree: %w", err)
		}
		return obj.Hash(), nil
	}
	h, err := hash(root)
	return h.String(), err
}

// sortName: git sorts a directory as if its name ended in a slash.
func sortName(e object.TreeEntry) string {
	if e.Mode == filemode.Dir {
		return e.Name + "/"
	}
	return e.Name
}
