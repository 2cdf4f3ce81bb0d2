package builds_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/builds"
)

// settings writes a file of settings and takes it away again.
func (w *world) settings(file string) (remove func()) {
	w.t.Helper()
	if err := os.WriteFile(file, []byte("checksumBehavior: ignore\n"), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return func() {
		if err := os.Remove(file); err != nil {
			w.t.Fatal(err)
		}
	}
}

func TestSettingsOfYarnsAboveTheReleaseAreRefused(t *testing.T) {
	w := newWorld(t)
	for _, dir := range []string{w.layout.Home, filepath.Dir(w.layout.Home)} {
		file := filepath.Join(dir, ".yarnrc.yml")
		remove := w.settings(file)
		if err := w.builder.Check(t.Context(), w.recipe(), w.say); err == nil || !strings.Contains(err.Error(), file+" lies above the release") {
			t.Errorf("before anything begins: %v", err)
		}
		if err := w.fails(w.recipe()); !strings.Contains(err.Error(), file+" lies above the release") || slices.Contains(w.jobs(), "packages") {
			t.Errorf("ran %q: %v", w.jobs(), err)
		}
		remove()
	}
	w.build(w.recipe())
	if err := os.RemoveAll(w.dir()); err != nil {
		t.Fatal(err)
	}
	w.settings(filepath.Join(w.layout.Home, ".yarnrc.yml"))
	if err := w.fails(w.recipe()); !strings.Contains(err.Error(), "lies above the release") || w.heard("assets: made from the same") {
		t.Errorf("with kept parts: %v", err)
	}
}

func TestSettingsThatComeWhileYarnIsAtWorkKeepNothing(t *testing.T) {
	w := newWorld(t)
	w.pack(yarnJS + `[ "$1" = install ] && echo "checksumBehavior: ignore" > ` + w.layout.Home + `/.yarnrc.yml` + "\n")
	if err := w.fails(w.recipe()); !strings.Contains(err.Error(), "lies above the release") {
		t.Errorf("got %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(w.layout.Cache, "kept", string(builds.Packages), "*")); err != nil || len(left) > 0 {
		t.Errorf("kept %q (%v)", left, err)
	}
}

func TestSettingsAboveAFolderThatIsReachedOverALinkAreRefused(t *testing.T) {
	w := newWorld(t)
	real := filepath.Join(t.TempDir(), "real")
	if err := os.Mkdir(real, 0o755); err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(t.TempDir(), "home")
	if err := os.Symlink(real, home); err != nil {
		t.Fatal(err)
	}
	w.layout.Home = home
	w.settings(filepath.Join(filepath.Dir(real), ".yarnrc.yml"))
	if err := w.builder.Check(t.Context(), w.recipe(), w.say); err == nil || !strings.Contains(err.Error(), "lies above the release") {
		t.Errorf("got %v", err)
	}
}

func TestFilesThatYarnDoesNotReadHarmNoBuild(t *testing.T) {
	w := newWorld(t)
	w.settings(filepath.Join(w.layout.Home, ".yarnrc"))
	w.settings(filepath.Join(w.layout.Home, ".npmrc"))
	if err := w.builder.Check(t.Context(), w.recipe(), w.say); err != nil {
		t.Error(err)
	}
	w.build(w.recipe())
}
