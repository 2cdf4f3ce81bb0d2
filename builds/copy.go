package builds

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// copyFile makes a new file with another's content and permissions.
func copyFile(src, dst string) error {
	from, err := os.Open(src)
	if err != nil {
		return err
	}
	defer from.Close()
	fi, err := from.Stat()
	if err != nil {
		return err
	}
	to, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fi.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Chmod(fi.Mode().Perm()), to.Close())
}

// sameTree makes dst a tree of the same files as src, or of copies where it lies on
// another file system. What is neither file, folder nor link is refused.
func sameTree(src, dst string) error {
	return filepath.WalkDir(src, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, p)
		if err != nil {
			return err
		}
		return sameEntry(p, filepath.Join(dst, rel), d, false)
	})
}

// sameEntry is one entry of sameTree.
func sameEntry(src, dst string, d fs.DirEntry, copied bool) error {
	switch {
	case d.IsDir():
		return os.MkdirAll(dst, 0o755)
	case d.Type() == fs.ModeSymlink:
		to, err := os.Readlink(src)
		if err != nil {
			return err
		}
		return os.Symlink(to, dst)
	case !d.Type().IsRegular():
		return errors.New(src + " is neither a file, a directory nor a link")
	}
	return sameFile(src, dst, copied)
}
