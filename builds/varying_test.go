package builds_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/node"
)

func (w *world) manifest() node.Manifest {
	w.t.Helper()
	m, _, err := node.ReadManifest(w.dir())
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

func TestTwoBuildsOfOneTagDifferOnlyInWhatTheDocumentsName(t *testing.T) {
	w := newWorld(t)
	// What is known to vary does: what says the time or comes in another order.
	w.program("bundle", strings.Replace(w.bundler(`mkdir -p public/packs/.vite && printf js > public/packs/a.js && date +%N > public/packs/a.js.map && date +%N > public/packs/.vite/manifest-assets.json && echo '{"a":{"file":"a.js"}}' > public/packs/.vite/manifest.json && echo '{}' > public/packs/.vite/manifest-assets.json`),
		"echo paths >", "date +%N >", 1))
	w.build(w.recipe())
	first := w.manifest()
	w.again(w.recipe())
	named, others := builds.CompareBuilds(first, w.manifest())
	if diff := cmp.Diff([]string{".refit/provenance.json", "tmp/cache/bootsnap/load-path-cache"}, named); diff != "" || len(others) > 0 {
		t.Errorf("from what was kept: %q and %s", others, diff)
	}
	for _, d := range []string{"kept", "bundle", "yarn", "upstream.git"} {
		if err := os.RemoveAll(filepath.Join(w.layout.Cache, d)); err != nil {
			t.Fatal(err)
		}
	}
	w.again(w.recipe())
	if len(w.host.started) < 8 {
		t.Fatalf("that was no cold build: %q", w.jobs())
	}
	named, others = builds.CompareBuilds(first, w.manifest())
	if diff := cmp.Diff([]string{".refit/provenance.json", "public/packs/a.js.map", "tmp/cache/bootsnap/load-path-cache"}, named); diff != "" || len(others) > 0 {
		t.Errorf("from nothing: %q and %s", others, diff)
	}
}

func TestADifferenceThatNoDocumentNamesIsFound(t *testing.T) {
	a := node.Manifest{Files: []node.Entry{{Path: "app/a.rb", SHA256: "1"}, {Path: "app/gone.rb"}, {Path: "public/packs/a.js", SHA256: "1"}, {Path: "public/packs/a.js.map", SHA256: "1"}}}
	b := node.Manifest{Files: []node.Entry{{Path: "app/a.rb", SHA256: "2"}, {Path: "app/new.rb"}, {Path: "public/packs/a.js", SHA256: "1", Mode: 0o755}, {Path: "public/packs/a.js.map", SHA256: "2"}}}
	named, others := builds.CompareBuilds(a, b)
	if diff := cmp.Diff([]string{"app/a.rb", "app/gone.rb", "app/new.rb", "public/packs/a.js"}, others); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"public/packs/a.js.map"}, named); diff != "" {
		t.Error(diff)
	}
}

func TestTheDocumentsNameWhatVaries(t *testing.T) {
	b, err := os.ReadFile("../docs/builds.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(b), "## Repeatable")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, v := range builds.Variations() {
		if !strings.Contains(section, "| `"+v.Pattern+"` | "+v.Why+" |") {
			t.Errorf("docs/builds.md does not name %s with its reason", v.Pattern)
		}
	}
	if rows := strings.Count(section, "\n| `"); rows != len(builds.Variations()) {
		t.Errorf("docs/builds.md has %d rows for %d variations", rows, len(builds.Variations()))
	}
}
