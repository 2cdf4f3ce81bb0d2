package builds

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// copyFile makes a new file with the content and permissions of one that is root's own.
func copyFile(src, dst string) error {
	from, err := os.Open(src)
	if err != nil {
		return err
	}
	return errors.Join(copyTo(from, dst), from.Close())
}

// copyTo makes a new file with the content and permissions of an open one.
func copyTo(from *os.File, dst string) error {
	to, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return copyInto(from, to)
}

// copyInto fills a new file and closes it.
func copyInto(from, to *os.File) error {
	fi, err := from.Stat()
	if err != nil {
		return errors.Join(err, to.Close())
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Chmod(fi.Mode().Perm()), to.Close())
}

// copyOut makes a new file dst with the content of a file of the folder.
func (b inside) copyOut(name, dst string) error {
	from, err := b.file(name)
	if err != nil {
		return err
	}
	return errors.Join(copyTo(from, dst), from.Close())
}

// sameOut makes dst another name of a file of the folder, or a copy of it on another
// file system. It is the file that was looked at, whatever its name means by then.
func (b inside) sameOut(name, dst string) error {
	from, err := b.file(name)
	if err != nil {
		return err
	}
	err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", from.Fd()), unix.AT_FDCWD, dst, unix.AT_SYMLINK_FOLLOW)
	if cannotLink(err) {
		err = copyTo(from, dst)
	} else if err != nil {
		err = &os.LinkError{Op: "link", Old: from.Name(), New: dst, Err: err}
	}
	return errors.Join(err, from.Close())
}

// cannotLink tells whether a file could get no other name there, so that it is copied.
func cannotLink(err error) bool {
	return errors.Is(err, syscall.EXDEV) || errors.Is(err, syscall.EMLINK) || errors.Is(err, syscall.EPERM)
}

// sameTree makes dst a tree of the same files as those below name, or of copies where it
// lies on another file system. What is neither file, folder nor link is refused.
func (b inside) sameTree(name, dst string) error {
	if err := b.folders(name); err != nil {
		return err
	}
	return b.walk(name, func(p string, fi fs.FileInfo) error {
		return b.sameEntry(p, filepath.Join(dst, strings.TrimPrefix(strings.TrimPrefix(p, name), "/")), fi, false)
	})
}

// sameEntry is one entry of sameTree.
func (b inside) sameEntry(name, dst string, fi fs.FileInfo, copied bool) error {
	switch {
	case fi.IsDir():
		return os.MkdirAll(dst, 0o755)
	case fi.Mode().Type() == fs.ModeSymlink:
		to, err := b.Readlink(name)
		if err != nil {
			return err
		}
		return os.Symlink(to, dst)
	case !fi.Mode().IsRegular():
		return errors.New(filepath.Join(b.Name(), name) + " is neither a file, a directory nor a link")
	case copied:
		return b.copyOut(name, dst)
	}
	return b.sameOut(name, dst)
}
