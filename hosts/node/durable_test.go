package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// tape is a disk that writes down what is asked of it, and fails where told.
type tape struct {
	machineDisk
	log  []string
	fail string
}

func (d *tape) note(what string) error {
	d.log = append(d.log, what)
	if what == d.fail {
		return syscall.ENOSPC
	}
	return nil
}

func (d *tape) CreateTemp(dir, pattern string) (tempFile, error) {
	if err := d.note("create"); err != nil {
		return nil, err
	}
	f, err := d.machineDisk.CreateTemp(dir, pattern)
	return &tapeFile{f, d}, err
}

func (d *tape) Rename(from, to string) error {
	if err := d.note("rename"); err != nil {
		return err
	}
	return d.machineDisk.Rename(from, to)
}

func (d *tape) SyncDir(dir string) error {
	return errors.Join(d.note("sync folder"), d.machineDisk.SyncDir(dir))
}

type tapeFile struct {
	tempFile
	d *tape
}

func (f *tapeFile) Write(b []byte) (int, error) {
	if err := f.d.note("write"); err != nil {
		return 0, err
	}
	return f.tempFile.Write(b)
}

func (f *tapeFile) Chmod(mode fs.FileMode) error {
	return errors.Join(f.d.note("chmod"), f.tempFile.Chmod(mode))
}

func (f *tapeFile) Sync() error { return errors.Join(f.d.note("sync"), f.tempFile.Sync()) }

func (f *tapeFile) Close() error { return errors.Join(f.d.note("close"), f.tempFile.Close()) }

func TestAFenceOrARecordIsWrittenFlushedRenamedAndItsFolderFlushedInThatOrder(t *testing.T) {
	d := &tape{}
	path := filepath.Join(t.TempDir(), "fence")
	if err := writeOn(d, path, []byte("7\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	want := []string{"create", "write", "chmod", "sync", "close", "rename", "sync folder"}
	if !slices.Equal(d.log, want) {
		t.Errorf("the disk was asked for %s, want %s", strings.Join(d.log, ", "), strings.Join(want, ", "))
	}
}

func TestAFailingDiskLeavesTheOldFileAndNoTemporaryOne(t *testing.T) {
	for _, where := range []string{"create", "write", "chmod", "sync", "close", "rename"} {
		dir := t.TempDir()
		path := filepath.Join(dir, "fence")
		if err := writeFile(path, []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := writeOn(&tape{fail: where}, path, []byte("new"), 0o644); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v", where, err)
		}
		b, err := os.ReadFile(path)
		left, lerr := os.ReadDir(dir)
		if err != nil || string(b) != "old" || lerr != nil || len(left) != 1 {
			t.Errorf("%s: then there is %q, %v, %v", where, b, err, left)
		}
	}
}
