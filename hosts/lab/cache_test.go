package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestTheCacheKeepsWhatWasUsedLast(t *testing.T) {
	cache := t.TempDir()
	for i := range 6 {
		p := filepath.Join(cache, fmt.Sprintf("root-%d.squashfs", i))
		if err := os.WriteFile(p, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(int64(1000+i), 0)
		if err := os.Chtimes(p, at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(cache, "other"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := inCache(cache, "root-0.squashfs"); !ok || err != nil { // used now
		t.Fatal(ok, err)
	}
	if _, ok, err := inCache(cache, "root-9.squashfs"); ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := tidy(cache, "root-*.squashfs"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"root-0.squashfs": true, "root-5.squashfs": true, "root-4.squashfs": true, "root-3.squashfs": false, "root-1.squashfs": false, "other": true,
	} {
		if _, err := os.Stat(filepath.Join(cache, name)); (err == nil) != want {
			t.Errorf("%s: there %v, want %v", name, err == nil, want)
		}
	}
}
