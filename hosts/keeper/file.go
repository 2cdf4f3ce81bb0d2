package keeper

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// FS is the little of a file system that is needed. A test records the order of
// its calls, and a test's disk fills up.
type FS interface {
	MkdirAll(path string, mode fs.FileMode) error
	// Create opens a file for writing, emptied if it is there.
	Create(path string, mode fs.FileMode) (File, error)
	ReadFile(path string) ([]byte, error)
	ReadDir(path string) ([]fs.DirEntry, error)
	Rename(from, to string) error
	// SyncDir flushes a folder, so that a rename in it survives a power cut.
	SyncDir(path string) error
	Remove(path string) error
}

// File is a file that is being written.
type File interface {
	io.Writer
	Sync() error
	Close() error
}

// Disk is the machine's file system.
type Disk struct{}

// MkdirAll is os.MkdirAll.
func (Disk) MkdirAll(path string, mode fs.FileMode) error { return os.MkdirAll(path, mode) }

// Create opens the file with exactly the mode given.
func (Disk) Create(path string, mode fs.FileMode) (File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(mode); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// ReadFile is os.ReadFile.
func (Disk) ReadFile(path string) ([]byte, error) { return os.ReadFile(path) }

// ReadDir is os.ReadDir.
func (Disk) ReadDir(path string) ([]fs.DirEntry, error) { return os.ReadDir(path) }

// Rename is os.Rename.
func (Disk) Rename(from, to string) error { return os.Rename(from, to) }

// Remove is os.Remove.
func (Disk) Remove(path string) error { return os.Remove(path) }

// SyncDir opens the folder and flushes it.
func (Disk) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// fileFormat is the number of the head's format.
const fileFormat = 1

// head is the first line of a file; the content is what follows it.
type head struct {
	Format int       `json:"format"`
	ID     string    `json:"id"`
	Epoch  int64     `json:"epoch"`
	Seq    int64     `json:"seq"`
	Saved  time.Time `json:"saved"`
	SHA256 string    `json:"sha256"`
}

// write replaces the file at path as a whole: temporary name, write, flush,
// rename, flush of the folder. One writer at a time; a temporary file that a
// crash left is overwritten by the next.
func write(fsys FS, path string, h head, content []byte) error {
	h.Format, h.SHA256 = fileFormat, h.sum(content)
	line, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	temp := path + ".tmp"
	err = fill(fsys, temp, append(append(line, '\n'), content...))
	if err == nil {
		err = fsys.Rename(temp, path)
	}
	if err != nil {
		if gone := fsys.Remove(temp); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
		return fmt.Errorf("cannot write %s: %w", path, typed(err))
	}
	if err := fsys.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("cannot flush %s after a rename in it: %w", filepath.Dir(path), typed(err))
	}
	return nil
}

func fill(fsys FS, path string, b []byte) error {
	f, err := fsys.Create(path, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

// read gives a file's head and content, proven to be what was written.
func read(fsys FS, path string) (head, []byte, error) {
	b, err := fsys.ReadFile(path)
	if err != nil {
		return head{}, nil, err
	}
	line, content, found := bytes.Cut(b, []byte("\n"))
	var h head
	if !found || json.Unmarshal(line, &h) != nil {
		return head{}, nil, fmt.Errorf("%s is %w: its first line is not a head", path, ErrDamaged)
	}
	if h.Format > fileFormat {
		return h, nil, fmt.Errorf("%s was %w: format %d, this one knows %d", path, ErrNewerFormat, h.Format, fileFormat)
	}
	if h.Format < 1 || h.SHA256 != h.sum(content) {
		return h, nil, fmt.Errorf("%s is %w: its content is not what was written (truncated or edited)", path, ErrDamaged)
	}
	return h, content, nil
}

// sum is the hash over the content and over what the head says of it, so that an
// edited head is found too.
func (h head) sum(content []byte) string {
	s := sha256.New()
	fmt.Fprintf(s, "%s\n%d\n%d\n%s\n", h.ID, h.Epoch, h.Seq, h.Saved.UTC().Format(time.RFC3339Nano))
	s.Write(content)
	return hex.EncodeToString(s.Sum(nil))
}

// typed adds the kind to errors of the disk.
func typed(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return err
}
