package keeper

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestJournalsUnderOtherNamesAreFoundAndNothingElse(t *testing.T) {
	d := &Dir{Path: t.TempDir()}
	for _, id := range []string{"run-1", "run-2", "run-3", "run-4"} {
		if err := d.Save(t.Context(), id, 1, 1, []byte(id)); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(d.Path, name) }
	if err := os.Mkdir(at("archive"), 0o700); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"run-2.json": "old.json", "run-3.json": "run-3.json.damaged-1700000000", "run-4.json": "archive/run-4.json"} {
		if err := os.Rename(at(from), at(to)); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(at("run-3.json.damaged-1700000000"))
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"run-3.json.damaged-1700000000": whole[:len(whole)-2], "run-1.json.tmp": whole, "notes.txt": []byte("hello"), "run-9.json": []byte("torn"), "archive/list": []byte("x"),
	} {
		if err := os.WriteFile(at(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k, _ := testStore(t)
	k.dir = filepath.Join(t.TempDir(), "k")
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(d.Path, filepath.Join(k.dir, "journal")); err != nil {
		t.Fatal(err)
	}
	ana := person(k, "ana")
	list, err := ana.Aside(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range list {
		damaged := ""
		if e.Damaged != "" {
			damaged = " damaged"
		}
		got[e.File] = e.ID + damaged
	}
	want := map[string]string{"old.json": "run-2", "run-3.json.damaged-1700000000": "run-3 damaged", "archive/run-4.json": "run-4"}
	if len(got) != len(want) {
		t.Errorf("%v", got)
	}
	for file, id := range want {
		if got[file] != id {
			t.Errorf("%s: %q, want %q", file, got[file], id)
		}
	}
	if b, err := ana.LoadAside(t.Context(), "archive/run-4.json"); err != nil || string(b) != "run-4" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := ana.LoadAside(t.Context(), "run-3.json.damaged-1700000000"); !errors.Is(err, ErrDamaged) {
		t.Errorf("a damaged one: %v", err)
	}
	for _, file := range []string{"run-1.json", "../lease.json", "/etc/passwd", "notes.txt"} {
		if _, err := ana.LoadAside(t.Context(), file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s can be read: %v", file, err)
		}
	}
}

func TestWhatLiesAsideIsReadWhileTheLeaseIsHeldAndUnderNoLock(t *testing.T) {
	s, _ := testStore(t)
	ana := person(s, "ana")
	acquire(t, ana)
	if err := s.locked(t.Context(), func() error {
		_, err := person(s, "bob").Aside(t.Context())
		return err
	}); err != nil {
		t.Error(err)
	}
}
