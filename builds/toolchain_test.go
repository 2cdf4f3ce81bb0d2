package builds_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/node"
)

// made puts a toolchain in its place, by a recipe.
func (w *world) made(tool, version, recipe string, files map[string]string) (builds.Artifact, node.Head) {
	w.t.Helper()
	a := builds.Artifact{Tool: tool, Version: version, Name: tool + "-" + version, Recipe: recipe}
	a.Prefix = w.layout.Prefix(a.Name)
	for name, text := range files {
		at := filepath.Join(a.Prefix, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), 0o755)); err != nil {
			w.t.Fatal(err)
		}
	}
	entries, err := node.Scan(w.t.Context(), a.Prefix)
	if err != nil {
		w.t.Fatal(err)
	}
	head, err := node.Manifest{Format: node.ManifestFormat, Kind: node.KindToolchain, Release: a.Name, Recipe: recipe, Files: entries}.Write(a.Prefix)
	if err != nil {
		w.t.Fatal(err)
	}
	return a, head
}

// withToolchains is the recipe of a release that refit's own toolchains build.
func (w *world) withToolchains() (builds.Recipe, node.Head) {
	w.t.Helper()
	w.layout.Toolchains = filepath.Join(w.t.TempDir(), "opt")
	files := map[string]string{}
	for _, name := range []string{"bundle", "ruby"} {
		b, err := os.ReadFile(filepath.Join(w.prefix, "bin", name))
		if err != nil {
			w.t.Fatal(err)
		}
		files["bin/"+name] = string(b)
	}
	ruby, head := w.made("ruby", "3.4.7", "r1", files)
	bundler, _ := w.made("bundler", "2.7.2", "b1", map[string]string{"specifications/bundler-2.7.2.gemspec": "spec"})
	nodejs, _ := w.made("node", "24.10.0", "n1", map[string]string{"bin/node": "#!/bin/sh\nexec /bin/sh \"$@\"\n"})
	r := w.recipe()
	r.Toolchain.Ruby = builds.Runtime{Version: "3.4.7", Pinned: "3.4.7", Prefix: ruby.Prefix}
	r.Toolchain.Node = builds.Runtime{Version: "24.10.0", Pinned: "24.10", Prefix: nodejs.Prefix}
	r.Toolchain.Bundler, r.Toolchain.Artifacts = "2.7.2", []builds.Artifact{ruby, bundler, nodejs}
	return r, head
}

func TestAReleaseNamesTheToolchainsThatItWasBuiltWith(t *testing.T) {
	w := newWorld(t)
	r, ruby := w.withToolchains()
	r.Toolchain.Artifacts[2].Archives = []builds.Archive{{URL: "https://node.example/dist/node-v24.10.0.tar.gz", By: "https://node.example/dist/SHASUMS256.txt"}}
	built, err := w.builder.Build(t.Context(), r, w.say)
	if err != nil {
		t.Fatal(err)
	}
	m, _, err := node.ReadManifest(w.dir())
	if err != nil || len(m.Toolchains) != 3 {
		t.Fatalf("%+v, %v", m.Toolchains, err)
	}
	const unverified = "node-v24.10.0.tar.gz: only the server that it comes from has a checksum (https://node.example/dist/SHASUMS256.txt)"
	if !slices.Contains(built.Unverified, unverified) || !slices.Contains(m.Unverified, unverified) || !slices.Contains(r.Unverified(), unverified) {
		t.Errorf("the build says %q, the manifest %q, the plan %q", built.Unverified, m.Unverified, r.Unverified())
	}
	if diff := cmp.Diff(node.ToolchainRef{Name: "ruby-3.4.7", Recipe: "r1", Digest: ruby.Digest}, m.Toolchains[0]); diff != "" {
		t.Error(diff)
	}
	for link, want := range map[string]string{"ruby": "ruby-3.4.7", "bundler": "bundler-2.7.2", "node": "node-24.10.0"} {
		if to, err := os.Readlink(filepath.Join(w.dir(), ".refit", link)); err != nil || to != w.layout.Prefix(want) {
			t.Errorf("%s leads to %s, %v", link, to, err)
		}
	}
	b, err := os.ReadFile(filepath.Join(w.dir(), ".refit/bin/bundle"))
	if err != nil || !strings.Contains(string(b), "\nGEM_PATH="+w.dir()+"/.refit/bundler\nexport GEM_PATH\n") {
		t.Errorf("the wrapper is %q, %v", b, err)
	}
	config, err := os.ReadFile(filepath.Join(w.dir(), ".bundle/config"))
	if err != nil || strings.Contains(string(config), "BUNDLE_VERSION") {
		t.Errorf("the configuration is %q, %v", config, err)
	}
}

func TestAToolchainMadeAnewByAnotherRecipeMeanwhileStopsTheBuild(t *testing.T) {
	w := newWorld(t)
	r, _ := w.withToolchains()
	w.host.before = func(verb string) error {
		if verb == "build.finish" {
			w.made("ruby", "3.4.7", "r2", nil)
		}
		return nil
	}
	_, err := w.builder.Build(t.Context(), r, w.say)
	if err == nil || !strings.Contains(err.Error(), "of another recipe than the release was to be built with") {
		t.Errorf("got %v", err)
	}
}

func TestAToolchainThatIsGoneStopsTheBuildAtOnce(t *testing.T) {
	w := newWorld(t)
	r, _ := w.withToolchains()
	if err := os.RemoveAll(w.layout.Prefix("bundler-2.7.2")); err != nil {
		t.Fatal(err)
	}
	_, err := w.builder.Build(t.Context(), r, w.say)
	if err == nil || !strings.Contains(err.Error(), "cannot tie") || !strings.Contains(err.Error(), "bundler-2.7.2") || len(w.host.started) > 0 {
		t.Errorf("got %v", err)
	}
}

func TestAnotherNodeMakesNoOtherGems(t *testing.T) {
	w := newWorld(t)
	r, _ := w.withToolchains()
	if _, err := w.builder.Build(t.Context(), r, w.say); err != nil {
		t.Fatal(err)
	}
	nodejs, _ := w.made("node", "24.11.0", "n2", map[string]string{"bin/node": "#!/bin/sh\nexec /bin/sh \"$@\"\n"})
	r.Toolchain.Node = builds.Runtime{Version: "24.11.0", Pinned: "24.11", Prefix: nodejs.Prefix}
	r.Toolchain.Artifacts[2] = nodejs
	built, err := w.builder.Build(t.Context(), r, w.say)
	if err != nil || !slices.Equal(built.Kept, []builds.Kind{builds.Bundle}) {
		t.Errorf("kept %v, %v", built.Kept, err)
	}
	r.Toolchain.Artifacts[0].Recipe = "r2"
	w.made("ruby", "3.4.7", "r2", nil)
	if built, err = w.builder.Build(t.Context(), r, w.say); err != nil || slices.Contains(built.Kept, builds.Bundle) || !slices.Contains(built.Kept, builds.Packages) {
		t.Errorf("with another Ruby: kept %v, %v", built.Kept, err)
	}
}

func TestAnotherToolchainMakesAnotherReleaseAndAnotherMirrorDoesNot(t *testing.T) {
	w := newWorld(t)
	r, _ := w.withToolchains()
	digest := func() string {
		d, err := r.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	base := digest()
	r.Toolchain.Artifacts[0].Archives = []builds.Archive{{URL: "https://elsewhere.example.org/ruby.tar.gz"}}
	r.Toolchain.Artifacts[0].From = "refit.yml"
	if digest() != base {
		t.Error("another mirror makes another release")
	}
	r.Toolchain.Artifacts[0].Recipe = "r2"
	if digest() == base {
		t.Error("another toolchain makes the same release")
	}
}
