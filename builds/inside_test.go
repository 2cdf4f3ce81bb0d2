package builds_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/builds"
)

// victim is a folder of the host's own with a file that no build may touch.
func victim(t *testing.T, name string) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	file = filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte("PRECIOUS installed\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-100 * 24 * time.Hour)
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
	return dir, file
}

// untouched tells whether a victim is as it was.
func untouched(t *testing.T, file string) {
	t.Helper()
	fi, err := os.Stat(file)
	if err != nil || fi.Mode().Perm() != 0o600 || time.Since(fi.ModTime()) < 24*time.Hour {
		t.Errorf("the host's own file was touched: %v (%v)", fi, err)
	}
}

// makesAssets is what assets:precompile does, with more at its end.
const makesAssets = `mkdir -p public/packs/.vite && printf js > public/packs/app-1.js && echo '{"app.js":{"file":"app-1.js"}}' > public/packs/.vite/manifest.json && `

func TestRootFollowsNoLinkThatAStepOfTheBuildLeft(t *testing.T) {
	for name, c := range map[string]struct {
		file  string
		step  func(w *world, dir string)
		where string
	}{
		"tmp, which is emptied": {"precious", func(w *world, dir string) {
			w.program("bundle", w.bundler(makesAssets+"rm -rf tmp && ln -s "+dir+" tmp"))
		}, "/tmp is a link where a folder belongs"},
		"the folder of what is compiled": {"bootsnap", func(w *world, dir string) {
			w.program("bundle", w.bundler(makesAssets+"rm -rf tmp && mkdir tmp && ln -s "+dir+" tmp/cache"))
		}, "/tmp/cache is a link where a folder belongs"},
		"the folder of refit's own files": {"precious", func(w *world, _ string) {
			w.program("bundle", w.bundler(makesAssets+"rm -rf tmp && ln -s .refit tmp"))
		}, "/tmp is a link where a folder belongs"},
		"what yarn remembers, which is removed": {"install-state.gz", func(w *world, dir string) {
			w.program("bundle", strings.Replace(w.bundler(makesAssets+":"), `"install --local ")`, `"install --local ") ln -s `+dir+` .yarn;`, 1))
		}, "/.yarn is a link where a folder belongs"},
		"what yarn remembers, which is kept": {"precious", func(w *world, dir string) {
			w.pack(strings.ReplaceAll(yarnJS, "echo installed > .yarn/install-state.gz", "ln -sf "+dir+"/precious .yarn/install-state.gz"))
		}, "/.yarn/install-state.gz is no file"},
		"the gems as they were fetched": {"rack-3.1.20.gem", func(w *world, dir string) {
			w.program("bundle", strings.Replace(w.bundler(makesAssets+":"), `mkdir -p "$path/cache" && echo packed > "$path/cache/rack-3.1.20.gem"`, `mkdir -p "$path" && ln -s `+dir+` "$path/cache"`, 1))
		}, "/cache is a link where a folder belongs"},
		"what Bundler leaves, which is removed": {"gem_make.out", func(w *world, dir string) {
			w.program("bundle", strings.Replace(w.bundler(makesAssets+":"), `&& echo "Bundle complete!"`, `&& rm -rf "$path/extensions/x/3.3.0/rack" && ln -s `+dir+` "$path/extensions/x/3.3.0/rack"`, 1))
		}, "/rack is a link where a folder belongs"},
		"an asset that a manifest names": {"precious", func(w *world, dir string) {
			w.program("bundle", w.bundler(makesAssets+"rm public/packs/app-1.js && ln -s "+dir+"/precious public/packs/app-1.js"))
		}, "path escapes from parent"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			dir, file := victim(t, c.file)
			c.step(w, dir)
			if err := w.fails(w.recipe()); !strings.Contains(err.Error(), c.where) {
				t.Errorf("got %v", err)
			}
			untouched(t, file)
			if found, err := filepath.Glob(filepath.Join(w.layout.Cache, "kept/packages/*/tree/.refit-install-state.gz")); err != nil {
				t.Fatal(err)
			} else if b, err := os.ReadFile(strings.Join(found, "")); len(found) > 0 && (err != nil || strings.Contains(string(b), "PRECIOUS")) {
				t.Errorf("readable for all: %s (%v)", b, err)
			}
		})
	}
}

func TestKeptPartsAreLaidOverNoLink(t *testing.T) {
	w := newWorld(t)
	w.build(w.recipe())
	if err := os.RemoveAll(filepath.Join(w.layout.Cache, "kept", string(builds.Bundle))); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(w.dir()); err != nil {
		t.Fatal(err)
	}
	dir, file := victim(t, "precious")
	w.program("bundle", strings.Replace(w.bundler(":"), `"install --local ")`, `"install --local ") rm -rf public; ln -s `+dir+` public;`, 1))
	if err := w.fails(w.recipe()); !strings.Contains(err.Error(), "/public is a link where a folder belongs") {
		t.Errorf("got %v", err)
	}
	untouched(t, file)
	if exists(t, filepath.Join(dir, "packs")) {
		t.Error("assets were laid into the host's own folder")
	}
}

func TestEvictingFollowsNoLinkToAnotherFolder(t *testing.T) {
	w := newWorld(t)
	dir, file := victim(t, "old.conf")
	w.pack(strings.ReplaceAll(yarnJS, "mkdir -p .yarn &&", "ln -sfn "+dir+" $YARN_GLOBAL_FOLDER/cache; mkdir -p .yarn &&"))
	w.build(w.recipe())
	untouched(t, file)
	if !w.heard("could not be looked through") || !w.heard("yarn/cache is a link where a folder belongs") {
		t.Errorf("said %q", w.said)
	}
}
