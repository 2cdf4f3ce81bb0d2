package node

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// disk is the little of a file system that durable writing needs. A test records
// the order of its calls.
type disk interface {
	MkdirAll(dir string, mode fs.FileMode) error
	CreateTemp(dir, pattern string) (tempFile, error)
	Rename(from, to string) error
	// SyncDir flushes a folder, so that a rename in it survives a power cut.
	SyncDir(dir string) error
	Remove(path string) error
}

// tempFile is a file that is being written.
type tempFile interface {
	io.Writer
	Name() string
	Chmod(mode fs.FileMode) error
	Sync() error
	Close() error
}

// machineDisk is the host's own file system.
type machineDisk struct{}

func (machineDisk) MkdirAll(dir string, mode fs.FileMode) error { return os.MkdirAll(dir, mode) }
func (machineDisk) Rename(from, to string) error                { return os.Rename(from, to) }
func (machineDisk) SyncDir(dir string) error                    { return syncDir(dir) }
func (machineDisk) Remove(path string) error                    { return os.Remove(path) }

func (machineDisk) CreateTemp(dir, pattern string) (tempFile, error) {
	return os.CreateTemp(dir, pattern)
}

// writeFile writes a file whole and durably: under a temporary name, flushed,
// renamed, and the directory flushed. Fences and records of jobs are
// written so.
func writeFile(path string, b []byte, mode fs.FileMode) error {
	return writeOn(machineDisk{}, path, b, mode)
}

func writeOn(d disk, path string, b []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	if err := d.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := d.CreateTemp(dir, tempPrefix+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = d.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, d.Remove(f.Name()))
	}
	return d.SyncDir(dir)
}

// tempPrefix begins the names of refit's temporary files; sweep knows them by it.
const tempPrefix = ".refit-tmp-"

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
