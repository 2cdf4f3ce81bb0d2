package node_test

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
)

// dated makes a built release whose source has a date, as a builder leaves it.
func dated(t *testing.T, release string, modified time.Time, files map[string]string) string {
	t.Helper()
	root, m := build(t, release, files)
	m.Modified = modified
	for _, e := range m.Files {
		if e.Link != "" {
			continue
		}
		at := node.FileTime(e.Path, modified)
		if err := os.Chtimes(filepath.Join(root, e.Path), at, at); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Write(root); err != nil {
		t.Fatal(err)
	}
	return root
}

func modTime(t *testing.T, path string) time.Time {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.ModTime().UTC()
}

var (
	june = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	july = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
)

func TestAPlacedReleaseHasTheTimesOfTheBuiltOne(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	home := t.TempDir()
	for release, modified := range map[string]time.Time{"v1.0.0": june, "v2.0.0": july} {
		files := map[string]map[string]string{"v1.0.0": v1, "v2.0.0": v2}[release]
		root := dated(t, release, modified, files)
		if _, _, err := place(t, a, home, root); err != nil {
			t.Fatal(err)
		}
		placed := filepath.Join(home, "releases", release)
		for name, path := range map[string]string{"a file": "app/same1.rb", "a directory": "app", "a cache": "tmp/cache/boot", "a wrapper": ".refit/bin/ruby"} {
			if at := modTime(t, filepath.Join(placed, path)); !at.Equal(node.FixedTime()) {
				t.Errorf("%s: %s has time %s: what was compiled from it on the builder is not valid here", release, name, at)
			}
		}
		for _, path := range []string{"public/packs/sw.js", "public"} {
			if at := modTime(t, filepath.Join(placed, path)); !at.Equal(modified) {
				t.Errorf("%s: %s has time %s: a browser could take it for another release's", release, path, at)
			}
		}
	}
	one, two := filepath.Join(home, "releases/v1.0.0/bin/rails"), filepath.Join(home, "releases/v2.0.0/bin/rails")
	if nlink(t, one) != 2 || nlink(t, two) != 2 {
		t.Error("releases of different dates do not share their files")
	}
}

func TestAFileOfAnotherTimeIsCopiedAndItsOwnReleaseKeepsIt(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	home := t.TempDir()
	old, _ := build(t, "v1.0.0", v1) // by a refit that left times as they came
	if _, _, err := place(t, a, home, old); err != nil {
		t.Fatal(err)
	}
	before := modTime(t, filepath.Join(home, "releases/v1.0.0/bin/rails"))
	if _, out, err := place(t, a, home, dated(t, "v2.0.0", july, v2)); err != nil || out.Sent > 6 {
		t.Fatalf("%d files were sent that this host has: %v", out.Sent, err)
	}
	if at := modTime(t, filepath.Join(home, "releases/v2.0.0/bin/rails")); !at.Equal(node.FixedTime()) {
		t.Errorf("the new release's file has time %s", at)
	}
	if at := modTime(t, filepath.Join(home, "releases/v1.0.0/bin/rails")); !at.Equal(before) {
		t.Errorf("the old release's file had time %s and has %s", before, at)
	}
}

func TestAPublicFileNeverTakesTheTimeThatAllOthersHave(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	home := t.TempDir()
	files := maps.Clone(v1)
	files["app/worker.js"], files["public/worker.js"] = "the same text", "the same text"
	if _, _, err := place(t, a, home, dated(t, "v1.0.0", june, files)); err != nil {
		t.Fatal(err)
	}
	placed := filepath.Join(home, "releases/v1.0.0")
	if at := modTime(t, filepath.Join(placed, "public/worker.js")); !at.Equal(june) {
		t.Errorf("public/worker.js has time %s: the next release's of the same size would pass for it", at)
	}
	if at := modTime(t, filepath.Join(placed, "app/worker.js")); !at.Equal(node.FixedTime()) {
		t.Errorf("app/worker.js has time %s", at)
	}
}
