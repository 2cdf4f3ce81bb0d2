package keeper

import (
	"bytes"
	"errors"
	"fmt"
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
	Disk
	log  []string
	fail map[string]error
}

func (d *tape) note(what, path string) error {
	line := what + " " + filepath.Base(path)
	d.log = append(d.log, line)
	return d.fail[what]
}

func (d *tape) Create(path string, mode fs.FileMode) (File, error) {
	if err := d.note("create", path); err != nil {
		return nil, err
	}
	f, err := d.Disk.Create(path, mode)
	return &tapeFile{f, d, path}, err
}

func (d *tape) Rename(from, to string) error {
	return errors.Join(d.note("rename", to), d.Disk.Rename(from, to))
}

func (d *tape) SyncDir(path string) error {
	return errors.Join(d.note("sync folder", path), d.Disk.SyncDir(path))
}

func (d *tape) Remove(path string) error {
	return errors.Join(d.note("remove", path), d.Disk.Remove(path))
}

type tapeFile struct {
	File
	d    *tape
	path string
}

func (f *tapeFile) Write(b []byte) (int, error) {
	if err := f.d.note("write", f.path); err != nil {
		n, werr := f.File.Write(b[:len(b)/2])
		return n, errors.Join(err, werr)
	}
	return f.File.Write(b)
}

func (f *tapeFile) Sync() error { return errors.Join(f.d.note("sync", f.path), f.File.Sync()) }

func (f *tapeFile) Close() error { return errors.Join(f.d.note("close", f.path), f.File.Close()) }

func TestASaveIsWrittenFlushedRenamedAndItsFolderFlushedInThatOrder(t *testing.T) {
	d := &tape{}
	shelf := &Dir{Path: filepath.Join(t.TempDir(), "journal"), FS: d}
	if err := shelf.Save(t.Context(), "run-1", 1, 1, []byte("one")); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"create run-1.json.tmp", "write run-1.json.tmp", "sync run-1.json.tmp", "close run-1.json.tmp",
		"rename run-1.json", "sync folder journal",
	}
	if !slices.Equal(d.log, want) {
		t.Errorf("the disk was asked for\n%s\nwant\n%s", strings.Join(d.log, "\n"), strings.Join(want, "\n"))
	}
	info, err := os.Stat(filepath.Join(shelf.Path, "run-1.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode: %v %v", info.Mode(), err)
	}
	if info, err = os.Stat(shelf.Path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder's mode: %v %v", info.Mode(), err)
	}
}

func TestAFailingDiskLeavesWhatWasThereAndIsNamed(t *testing.T) {
	for _, where := range []string{"create", "write", "sync", "close", "rename", "sync folder"} {
		for cause, kind := range map[error]error{syscall.ENOSPC: ErrNoSpace, syscall.EDQUOT: ErrNoSpace, syscall.EROFS: ErrReadOnly} {
			t.Run(fmt.Sprintf("%s %v", where, cause), func(t *testing.T) {
				d := &tape{}
				shelf := &Dir{Path: t.TempDir(), FS: d}
				if err := shelf.Save(t.Context(), "run-1", 1, 1, []byte("one")); err != nil {
					t.Fatal(err)
				}
				d.fail = map[string]error{where: cause}
				if err := shelf.Save(t.Context(), "run-1", 1, 2, []byte("two")); !errors.Is(err, kind) || !errors.Is(err, cause) {
					t.Errorf("the save's error: %v", err)
				}
				d.fail = nil
				b, err := shelf.Load(t.Context(), "run-1")
				renamed := where == "rename" || where == "sync folder" // the tape's disk fails after the deed
				if err != nil || !renamed && string(b) != "one" {
					t.Errorf("then there is %q, %v", b, err)
				}
				if left, err := filepath.Glob(filepath.Join(shelf.Path, "*.tmp")); err != nil || len(left) > 0 {
					t.Errorf("left behind: %v %v", left, err)
				}
				if err := shelf.Save(t.Context(), "run-1", 1, 3, []byte("three")); err != nil {
					t.Errorf("after it was mended: %v", err)
				}
			})
		}
	}
}

func TestAnOlderSaveIsRefusedAndTheSameOneAccepted(t *testing.T) {
	shelf := &Dir{Path: t.TempDir()}
	save := func(epoch, seq int64, b string) error {
		return shelf.Save(t.Context(), "run-1", epoch, seq, []byte(b))
	}
	if err := save(3, 7, "x"); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		epoch, seq int64
		b          string
		want       error
	}{
		"the same again":              {3, 7, "x", nil},
		"other bytes, the same seq":   {3, 7, "y", ErrStale},
		"a lower seq":                 {3, 6, "x", ErrStale},
		"a lower epoch, a higher seq": {2, 8, "x", ErrStale},
		"a higher epoch, a lower seq": {4, 6, "x", ErrStale},
	} {
		if err := save(c.epoch, c.seq, c.b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := save(4, 8, "z"); err != nil {
		t.Error(err)
	}
}

func TestEveryTruncationAndEveryChangedByteIsFound(t *testing.T) {
	shelf := &Dir{Path: t.TempDir()}
	if err := shelf.Save(t.Context(), "run-1", 3, 7, []byte(`{"format":1,"id":"run-1"}`)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(shelf.Path, "run-1.json")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := func(what string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := shelf.Load(t.Context(), "run-1")
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewerFormat) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	for n := range whole {
		damaged(fmt.Sprintf("cut to %d bytes", n), whole[:n])
		b := bytes.Clone(whole)
		b[n] ^= 1
		if b[n] == '\n' || bytes.EqualFold(b, whole) {
			continue // JSON's keys are found in either case, which changes nothing
		}
		damaged(fmt.Sprintf("byte %d changed", n), b)
	}
	list, err := shelf.List(t.Context())
	if err != nil || len(list) != 1 || list[0].Damaged == "" {
		t.Errorf("the list does not tell: %+v, %v", list, err)
	}
}

func TestADamagedJournalIsSetAsideWhenANewOneIsSaved(t *testing.T) {
	shelf := &Dir{Path: t.TempDir()}
	path := filepath.Join(shelf.Path, "run-1.json")
	if err := os.WriteFile(path, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := shelf.Save(t.Context(), "run-1", 1, 1, []byte("good")); err != nil {
		t.Fatal(err)
	}
	aside, err := filepath.Glob(path + ".damaged-*")
	if err != nil || len(aside) != 1 {
		t.Errorf("set aside: %v, %v", aside, err)
	}
	if b, err := shelf.Load(t.Context(), "run-1"); err != nil || string(b) != "good" {
		t.Errorf("loaded %q, %v", b, err)
	}
}

func TestAFileOfANewerFormatIsNeitherReadNorReplaced(t *testing.T) {
	shelf := &Dir{Path: t.TempDir()}
	path := filepath.Join(shelf.Path, "run-1.json")
	if err := os.WriteFile(path, []byte(`{"format":2,"id":"run-1","cipher":"x"}`+"\nbody"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := shelf.Load(t.Context(), "run-1"); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("loading: %v", err)
	}
	if err := shelf.Save(t.Context(), "run-1", 9, 9, []byte("x")); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("saving: %v", err)
	}
}

func TestTheMirrorsFailureIsSaidAndDoesNotStopTheRun(t *testing.T) {
	broken := &tape{fail: map[string]error{"create": syscall.ENOSPC}}
	var said []string
	m := &Mirror{
		Main: &Dir{Path: t.TempDir()}, Local: &Dir{Path: t.TempDir(), FS: broken},
		Say: func(text string) { said = append(said, text) },
	}
	if err := m.Save(t.Context(), "run-1", 1, 1, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if len(said) != 1 || !strings.Contains(said[0], "no space left") {
		t.Errorf("said %q", said)
	}
}

func TestTheKeeperIsSavedToBeforeTheMirror(t *testing.T) {
	broken := &tape{fail: map[string]error{"create": syscall.EROFS}}
	local := &Dir{Path: t.TempDir()}
	m := &Mirror{Main: &Dir{Path: t.TempDir(), FS: broken}, Local: local}
	if err := m.Save(t.Context(), "run-1", 1, 1, []byte("x")); !errors.Is(err, ErrReadOnly) {
		t.Fatalf("the save's error: %v", err)
	}
	if _, err := local.Load(t.Context(), "run-1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the mirror is ahead of the keeper: %v", err)
	}
}

func TestTheMirrorLiesInTheStateFolderOfTheUser(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", "/state")
	if dir, err := MirrorDir("vmst"); err != nil || dir != "/state/refit/vmst" {
		t.Errorf("%s, %v", dir, err)
	}
	t.Setenv("XDG_STATE_HOME", "not/absolute")
	t.Setenv("HOME", "/home/ana")
	if dir, err := MirrorDir("vmst"); err != nil || dir != "/home/ana/.local/state/refit/vmst" {
		t.Errorf("%s, %v", dir, err)
	}
	if _, err := MirrorDir("../etc"); err == nil {
		t.Error("a fleet's name may leave the folder")
	}
}

func TestTheListHasTheNewestFirst(t *testing.T) {
	s, c := testStore(t)
	shelf := s.shelf()
	for i, id := range []string{"old", "new", "between"} {
		if i == 2 {
			c.forward(-30e9)
		} else {
			c.forward(60e9)
		}
		if err := shelf.Save(t.Context(), id, 1, int64(i+1), []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	list, err := shelf.List(t.Context())
	if err != nil || len(list) != 3 {
		t.Fatal(list, err)
	}
	if list[0].ID != "new" || list[1].ID != "between" || list[2].ID != "old" {
		t.Errorf("%+v", list)
	}
}
