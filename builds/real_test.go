package builds_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/upstream"
	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
)

// The tests in this file build with the real Bundler, yarn and Rails, as root, on a
// system that has them in /usr. What they build and from where stands in the
// environment; docs/builds.md says how to run them.

// real is a world whose programs are the system's.
func real(t *testing.T) *world {
	t.Helper()
	env := func(name string) string {
		v := os.Getenv("REFIT_BUILD_" + name)
		if v == "" {
			t.Skipf("REFIT_BUILD_%s is not set: nothing is built with the real tools", name)
		}
		return v
	}
	w := &world{t: t, prefix: "/usr"}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	w.layout = builds.Layout{Home: t.TempDir(), User: me.Username, Cache: filepath.Join(t.TempDir(), "cache")}
	w.host = &host{t: t, memory: 8 << 30, files: 1 << 20, cut: true, running: map[string]bool{}, jobs: map[string]node.Job{}, logs: map[string]string{}}
	w.upstream, w.tagName = env("UPSTREAM"), env("TAG")
	gems := http.FileServer(http.Dir(env("GEMS")))
	w.info = gems.ServeHTTP
	w.registry = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) { w.info(rw, req) }))
	t.Cleanup(w.registry.Close)
	w.builder = &builds.Builder{Host: w.host, Name: "uhura", Upstream: w.upstream, Poll: 1, MinFree: 1, Patience: impatient}
	w.npm = env("NPM")
	return w
}

// realRecipe is the recipe of the tag with the system's tools.
func (w *world) realRecipe() builds.Recipe {
	w.t.Helper()
	src, err := upstream.Open(git.Options{URL: w.upstream, Dir: filepath.Join(w.t.TempDir(), "mirror")})
	if err != nil {
		w.t.Fatal(err)
	}
	rel, err := src.Tag(w.t.Context(), version(w.t, w.tagName))
	if err != nil {
		w.t.Fatal(err)
	}
	p := rel.Contents.Pins
	r := builds.Recipe{
		Release: rel, Layout: w.layout, Precompile: true, Mirrors: builds.Mirrors{Gems: w.registry.URL, NPM: w.npm, YarnChecksums: os.Getenv("REFIT_BUILD_CHECKSUMS"), YarnChecksumsWhy: "a registry with substitutes"},
		Toolchain: builds.Toolchain{
			Ruby:    builds.Runtime{Version: w.first("ruby", "--version"), Pinned: p.Ruby, Prefix: "/usr", Why: "the system's"},
			Node:    builds.Runtime{Version: w.first("node", "--version"), Pinned: p.Node, Prefix: "/usr", Why: "the system's"},
			Bundler: w.first("bundle", "--version"), BundlerPinned: p.Bundler, Yarn: p.Yarn, YarnHash: p.YarnHash,
		},
	}
	if to := os.Getenv("REFIT_BUILD_GIT"); to != "" { // FROM=TO of git repositories
		from, to, _ := strings.Cut(to, "=")
		r.Mirrors.Git = []git.Rewrite{{From: from, To: to}}
	}
	return r
}

// first is the last word of the first line that a program of /usr says.
func (w *world) first(argv ...string) string {
	w.t.Helper()
	out, err := exec.Command(filepath.Join("/usr/bin", argv[0]), argv[1:]...).Output()
	if err != nil {
		w.t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

func (w *world) realDir() string { return filepath.Join(w.layout.Home, "releases", w.tagName) }

// timed builds and tells how long each step took.
func (w *world) timed(what string, r builds.Recipe) (builds.Built, time.Duration) {
	w.t.Helper()
	began := time.Now()
	built, err := w.builder.Build(w.t.Context(), r, func(string) {})
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
	took := time.Since(began)
	var steps []string
	for _, s := range built.Steps {
		steps = append(steps, fmt.Sprintf("%s %.1f", s.Name, s.Seconds))
	}
	w.t.Logf("%s: %.1f s: %s", what, took.Seconds(), strings.Join(steps, ", "))
	return built, took
}

// boots starts the application in dir and tells what bootsnap's cache did for it.
func (w *world) boots(dir string) string {
	w.t.Helper()
	cmd := exec.Command(filepath.Join(dir, ".refit/bin/bundle"), "exec", "rails", "environment")
	cmd.Dir, cmd.Env = dir, []string{"PATH=/usr/bin:/bin", "HOME=/root", "LANG=C.UTF-8", "RAILS_ENV=production", "NODE_ENV=production", "SECRET_KEY_BASE_DUMMY=1", "BOOTSNAP_STATS=1", "BOOTSNAP_READONLY=1"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

func TestRealBuildsAreRepeatableKeptAndWarm(t *testing.T) {
	w := real(t)
	r := w.realRecipe()
	built, cold := w.timed("cold", r)
	t.Logf("%d files, %d bytes; not verified: %q", built.Manifest.Files, built.Manifest.Bytes, built.Unverified)
	first, _, err := node.ReadManifest(w.realDir())
	if err != nil {
		t.Fatal(err)
	}
	layers(t, first)
	t.Logf("booted on the builder: %s", w.boots(w.realDir()))

	moved := filepath.Join(t.TempDir(), w.tagName)
	if err := os.Rename(w.realDir(), moved); err != nil {
		t.Fatal(err)
	}
	a, _ := hoststest.NewNode(t, nil)
	_, head, err := node.ReadManifest(moved)
	if err != nil {
		t.Fatal(err)
	}
	w.place(a, moved, head)
	said := w.boots(w.realDir())
	t.Logf("booted on a node: %s", said)
	if !strings.Contains(said, "bootsnap stale: 0") || !strings.Contains(said, "bootsnap miss: 0") {
		t.Errorf("the first boot on a node is a cold one")
	}

	if err := os.RemoveAll(w.realDir()); err != nil {
		t.Fatal(err)
	}
	again, warm := w.timed("from what was kept", r)
	if warm > cold/2 || !slices.Equal(again.Kept, []builds.Kind{builds.Bundle, builds.Assets, builds.Streaming}) {
		t.Errorf("a rebuild took %s of %s, with %q", warm, cold, again.Kept)
	}
	w.same(first, "from what was kept")

	for _, d := range []string{w.realDir(), w.layout.Cache} {
		if err := os.RemoveAll(d); err != nil {
			t.Fatal(err)
		}
	}
	w.timed("cold again", r)
	w.same(first, "built from nothing again")
}

// same compares the build that lies there with an earlier one.
func (w *world) same(first node.Manifest, what string) {
	w.t.Helper()
	m, _, err := node.ReadManifest(w.realDir())
	if err != nil {
		w.t.Fatal(err)
	}
	named, others := builds.CompareBuilds(first, m)
	w.t.Logf("%s: %d files differ that may", what, len(named))
	for _, n := range named[:min(10, len(named))] {
		w.t.Log("  ", n)
	}
	if len(others) > 0 {
		w.t.Errorf("%s: %d files differ that must not: %q", what, len(others), others[:min(40, len(others))])
	}
}

// place brings a built release to its place as a node gets it.
func (w *world) place(a *node.Agent, root string, head node.Head) {
	w.t.Helper()
	m, _, err := node.ReadManifest(root)
	if err != nil {
		w.t.Fatal(err)
	}
	var all []int
	seen := map[string]bool{}
	for i, e := range m.Files {
		if e.Regular() && !seen[e.SHA256] {
			seen[e.SHA256] = true
			all = append(all, i)
		}
	}
	pack, err := os.Create(filepath.Join(w.t.TempDir(), "pack"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer pack.Close()
	if _, err := a.Pack(w.t.Context(), node.PackIn{Root: root, Digest: head.Digest, Indexes: all}, pack, nil); err != nil {
		w.t.Fatal(err)
	}
	if fi, err := pack.Stat(); err == nil {
		w.t.Logf("packed: %d bytes", fi.Size())
	}
	if _, err := pack.Seek(0, 0); err != nil {
		w.t.Fatal(err)
	}
	if _, err := a.PlacePut(w.t.Context(), node.PutIn{Home: w.layout.Home, Release: head.Release, Digest: head.Digest}, pack, nil); err != nil {
		w.t.Fatal(err)
	}
}

// layers tells how much of a release is what.
func layers(t *testing.T, m node.Manifest) {
	t.Helper()
	bytes, files := map[string]int64{}, map[string]int{}
	for _, e := range m.Files {
		layer := "source"
		for _, l := range []string{"vendor/bundle", "node_modules", "public/packs", "public/assets", "tmp/cache/bootsnap", ".refit"} {
			if strings.HasPrefix(e.Path, l+"/") {
				layer = l
			}
		}
		bytes[layer] += e.Size
		files[layer]++
	}
	for l, n := range bytes {
		t.Logf("%s: %d files, %.1f MB", l, files[l], float64(n)/1e6)
	}
}

func TestRealToolsEndWhenTheirRegistryIsNotWell(t *testing.T) {
	hang := make(chan struct{})
	for name, c := range map[string]struct {
		gems http.HandlerFunc
		says string
	}{
		"500":        {func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusInternalServerError) }, "500"},
		"hangs":      {func(http.ResponseWriter, *http.Request) { <-hang }, "said nothing for"},
		"other gems": {func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, "no gem") }, ""},
	} {
		w := real(t)
		w.builder.Silence = 20 * time.Second
		good := w.info
		w.info = func(rw http.ResponseWriter, req *http.Request) {
			if strings.HasPrefix(req.URL.Path, "/gems/") {
				c.gems(rw, req)
				return
			}
			good(rw, req)
		}
		began := time.Now()
		_, err := w.builder.Build(t.Context(), w.realRecipe(), func(string) {})
		t.Logf("%s, after %.1f s: %v", name, time.Since(began).Seconds(), err)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: the error does not say %q", name, c.says)
		}
		if name == "hangs" {
			close(hang)
		}
	}
}
