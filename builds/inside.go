package builds

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// inside is a folder in which the steps of a build write, and root works after them. What
// they leave there may be a link to anywhere, put there by a package's install script, so
// all is named from the folder's own root: nothing outside of it can be reached, and a
// link inside of it where a folder or a file is looked for is refused.
type inside struct{ *os.Root }

// openInside opens a folder whose parents are root's own.
func openInside(dir string) (inside, error) {
	r, err := os.OpenRoot(dir)
	return inside{r}, err
}

// within does something in a folder. One that is not there is fs.ErrNotExist.
func within(dir string, do func(inside) error) error {
	b, err := openInside(dir)
	if err != nil {
		return err
	}
	return errors.Join(do(b), b.Close())
}

func (b inside) refuse(name, what string) error {
	return fmt.Errorf("%s is %s: a step of the build put it there, and root neither follows nor removes what it leads to; find the package that did it before building again", filepath.Join(b.Name(), name), what)
}

// folders refuses a name whose way, or the name itself, leads over anything but folders. It
// gives fs.ErrNotExist where one is missing.
func (b inside) folders(name string) error {
	if name == "." {
		return nil
	}
	at := ""
	for word := range strings.SplitSeq(name, "/") {
		at = path.Join(at, word)
		fi, err := b.Lstat(at)
		switch {
		case err != nil:
			return err
		case fi.Mode()&fs.ModeSymlink != 0:
			return b.refuse(at, "a link where a folder belongs")
		case !fi.IsDir():
			return b.refuse(at, "no folder")
		}
	}
	return nil
}

// entries are a folder's, sorted; none where there is no such folder.
func (b inside) entries(name string) ([]fs.DirEntry, error) {
	if err := b.folders(name); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	d, err := b.Open(name)
	if err != nil {
		return nil, err
	}
	all, err := d.ReadDir(-1)
	slices.SortFunc(all, func(x, y fs.DirEntry) int { return strings.Compare(x.Name(), y.Name()) })
	return all, errors.Join(err, d.Close())
}

// match is filepath.Glob that follows no link.
func (b inside) match(pattern string) ([]string, error) {
	at := []string{"."}
	words := strings.Split(pattern, "/")
	for i, word := range words {
		var next []string
		for _, dir := range at {
			all, err := b.entries(dir)
			if err != nil {
				return nil, err
			}
			for _, e := range all {
				ok, err := path.Match(word, e.Name())
				if err != nil {
					return nil, err
				}
				// A file where a wildcard stands for folders is no folder to look into.
				if ok && (i == len(words)-1 || word == e.Name() || !e.Type().IsRegular()) {
					next = append(next, path.Join(dir, e.Name()))
				}
			}
		}
		at = next
	}
	return at, nil
}

// remove takes away a name with all below it, if it is there.
func (b inside) remove(name string) error {
	if err := b.folders(path.Dir(name)); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return b.RemoveAll(name)
}

// file opens a file to read it. What is no file is refused.
func (b inside) file(name string) (*os.File, error) {
	if err := b.folders(path.Dir(name)); err != nil {
		return nil, err
	}
	was, err := b.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !was.Mode().IsRegular() {
		return nil, b.refuse(name, "no file")
	}
	// It may have become something else meanwhile: a pipe that nobody writes to, a link.
	f, err := b.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	is, err := f.Stat()
	if err == nil && !os.SameFile(was, is) {
		err = b.refuse(name, "no longer the file that it was")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// text reads a file whole.
func (b inside) text(name string) ([]byte, error) {
	f, err := b.file(name)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(f)
	return text, errors.Join(err, f.Close())
}

// walk visits a name and all below it, folders before what is in them; fs.SkipDir leaves
// a folder's content out. No link is followed.
func (b inside) walk(name string, visit func(name string, fi fs.FileInfo) error) error {
	fi, err := b.Lstat(name)
	if err != nil {
		return err
	}
	if err := visit(name, fi); err != nil {
		if errors.Is(err, fs.SkipDir) {
			return nil
		}
		return err
	}
	if !fi.IsDir() {
		return nil
	}
	d, err := b.Open(name)
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	if err := errors.Join(err, d.Close()); err != nil {
		return err
	}
	slices.Sort(names)
	for _, n := range names {
		if err := b.walk(path.Join(name, n), visit); err != nil {
			return err
		}
	}
	return nil
}

// link makes name another name of the file src, which is root's own.
func (b inside) link(src, name string) error {
	parent, err := b.Open(path.Dir(name))
	if err != nil {
		return err
	}
	if err := unix.Linkat(unix.AT_FDCWD, src, int(parent.Fd()), path.Base(name), 0); err != nil {
		return errors.Join(&os.LinkError{Op: "link", Old: src, New: filepath.Join(b.Name(), name), Err: err}, parent.Close())
	}
	return parent.Close()
}

// put makes name the file src of root's own, or a copy of it where it must not or cannot
// be the same.
func (b inside) put(src, name string, copied bool) error {
	if !copied {
		if err := b.link(src, name); !cannotLink(err) {
			return err
		}
	}
	from, err := os.Open(src)
	if err != nil {
		return err
	}
	to, err := b.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return errors.Join(err, from.Close())
	}
	return errors.Join(copyInto(from, to), from.Close())
}

// RemoveMatching removes what is below a folder that a build's steps wrote into and
// matches one of the patterns. A link on the way is an error: what it leads to is not
// the build's.
func RemoveMatching(dir string, patterns []string) error {
	return within(dir, func(b inside) error {
		for _, p := range patterns {
			found, err := b.match(p)
			if err != nil {
				return err
			}
			for _, name := range found {
				if err := b.remove(name); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
