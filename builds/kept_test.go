package builds_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/node"
)

// build builds a release that must succeed.
func (w *world) build(r builds.Recipe) builds.Built {
	w.t.Helper()
	built, err := w.builder.Build(w.t.Context(), r, w.say)
	if err != nil {
		w.t.Fatal(err)
	}
	return built
}

// again takes the release away, so that it is built once more.
func (w *world) again(r builds.Recipe) builds.Built {
	w.t.Helper()
	if err := os.RemoveAll(w.dir()); err != nil {
		w.t.Fatal(err)
	}
	w.host.started = nil
	return w.build(r)
}

// jobs are the steps that were run, in order.
func (w *world) jobs() []string {
	var out []string
	for _, j := range w.host.started {
		name := strings.TrimSuffix(j.Unit, ".service")
		out = append(out, name[strings.LastIndexByte(name, '-')+1:])
	}
	return out
}

// keptFile finds one file among what the builder keeps of a kind.
func (w *world) keptFile(k builds.Kind, path string) string {
	w.t.Helper()
	found, err := filepath.Glob(filepath.Join(w.layout.Cache, "kept", string(k), "*", "tree", path))
	if err != nil || len(found) != 1 {
		w.t.Fatalf("%d of %s kept as %s (%v)", len(found), path, k, err)
	}
	return found[0]
}

func TestWhatIsMadeFromTheSameIsMadeOnce(t *testing.T) {
	w := newWorld(t)
	first := w.build(w.recipe())
	again := w.again(w.recipe())
	if diff := cmp.Diff([]string{"compile", "boot"}, w.jobs()); diff != "" {
		t.Errorf("steps of a rebuild:\n%s", diff)
	}
	if diff := cmp.Diff([]builds.Kind{builds.Bundle, builds.Assets, builds.Streaming}, again.Kept); diff != "" {
		t.Error(diff)
	}
	if !slices.Equal(first.Unverified, again.Unverified) || len(first.Unverified) == 0 {
		t.Errorf("unverified were %q and are %q", first.Unverified, again.Unverified)
	}
}

func TestCodeIsCompiledOnlyWhereThatIsAskedFor(t *testing.T) {
	w := newWorld(t)
	r := w.recipe()
	r.Precompile = false
	w.build(r)
	if slices.Contains(w.jobs(), "compile") || slices.Contains(w.jobs(), "boot") || exists(t, filepath.Join(w.dir(), "tmp")) {
		t.Errorf("%q", w.jobs())
	}
	w.host.started = nil
	w.build(w.recipe())
	if diff := cmp.Diff([]string{"compile", "boot"}, w.jobs()); diff != "" || !exists(t, filepath.Join(w.dir(), "tmp/cache/bootsnap/load-path-cache")) {
		t.Error(diff)
	}
}

func TestAReleaseWithUnchangedLocksFetchesNothing(t *testing.T) {
	w := newWorld(t)
	w.build(w.recipe())
	w.write("app/models/account.rb", "class Account\nend\n")
	w.release("v4.5.16", "16")
	w.host.started = nil
	w.info = nil // whoever asks the registry panics
	built := w.build(w.recipeOf("v4.5.16"))
	if diff := cmp.Diff([]string{"assets", "compile", "boot"}, w.jobs()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]builds.Kind{builds.Bundle, builds.Packages, builds.Streaming}, built.Kept); diff != "" {
		t.Error(diff)
	}
	if !w.heard("bundle: made from the same for v4.5.15") {
		t.Errorf("%q", w.said)
	}
	one, two := filepath.Join(w.layout.Home, "releases/v4.5.15/vendor/bundle/ruby/3.3.0/gems/rack/rack.rb"), filepath.Join(w.layout.Home, "releases/v4.5.16/vendor/bundle/ruby/3.3.0/gems/rack/rack.rb")
	if !same(t, one, two) {
		t.Error("the gems take their room twice")
	}
}

func same(t *testing.T, a, b string) bool {
	t.Helper()
	x, err := os.Stat(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.Stat(b)
	if err != nil {
		t.Fatal(err)
	}
	return os.SameFile(x, y)
}

func TestWhatAPartIsMadeFromDecidesWhetherItIsMadeAgain(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		tools func(*builds.Toolchain)
		jobs  []string
	}{
		"another gem":                {files: map[string]string{"Gemfile.lock": gemLock + "\nDEPENDENCIES\n  rack\n"}, jobs: []string{"gems", "bundle", "assets", "compile", "boot"}},
		"another node package":       {files: map[string]string{"yarn.lock": yarnLock + "# more\n"}, jobs: []string{"packages", "yarn", "assets", "focus", "compile", "boot"}},
		"another workspace":          {files: map[string]string{"tools/package.json": "{}"}, jobs: []string{"packages", "yarn", "assets", "focus", "compile", "boot"}},
		"another script":             {files: map[string]string{"app/javascript/a.js": "more"}, jobs: []string{"assets", "compile", "boot"}},
		"another model":              {files: map[string]string{"app/models/a.rb": "class A\nend\n"}, jobs: []string{"assets", "compile", "boot"}},
		"another migration or test":  {files: map[string]string{"db/migrate/20990101000000_x.rb": "x", "spec/a.rb": "x", "SECURITY.md": "x"}, jobs: []string{"compile", "boot"}},
		"nothing but the commit":     {jobs: []string{"compile", "boot"}},
		"a Gemfile that reads files": {files: map[string]string{"Gemfile": "ruby '>= 3.2.0'\neval_gemfile 'x'\n"}, jobs: []string{"gems", "bundle", "assets", "compile", "boot"}},
		"another Ruby":               {tools: func(t *builds.Toolchain) { t.Ruby.Version = "3.3.9" }, jobs: []string{"gems", "bundle", "assets", "compile", "boot"}},
		"another Node":               {tools: func(t *builds.Toolchain) { t.Node.Version = "24.11.0" }, jobs: []string{"packages", "yarn", "assets", "focus", "compile", "boot"}},
		"another reason for a Ruby":  {tools: func(t *builds.Toolchain) { t.Ruby.Why = "another" }, jobs: []string{"compile", "boot"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.build(w.recipe())
			for file, text := range c.files {
				w.write(file, text)
			}
			w.tag("v4.5.15")
			// Where the tag was pinned.
			if err := os.RemoveAll(filepath.Join(w.layout.Cache, "upstream.git")); err != nil {
				t.Fatal(err)
			}
			r := w.recipe()
			if c.tools != nil {
				c.tools(&r.Toolchain)
			}
			w.host.started = nil
			w.build(r)
			if diff := cmp.Diff(c.jobs, w.jobs()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAKeptPartThatWasHarmedIsToldAndMadeAgain(t *testing.T) {
	const gem = "ruby/3.3.0/gems/rack/rack.rb"
	for harm, do := range map[string]func(file string) error{
		"rack.rb was changed":      func(f string) error { return os.WriteFile(f, []byte("gem!"), 0o644) },
		"rack.rb is missing":       os.Remove,
		"rack.ra was added":        func(f string) error { return os.WriteFile(strings.TrimSuffix(f, "b")+"a", nil, 0o644) },
		"its record cannot be rea": func(f string) error { return os.WriteFile(record(f), []byte("{"), 0o644) },
		"its record is another's":  func(f string) error { return os.WriteFile(record(f), []byte("{}"), 0o644) },
		"it has no record":         func(f string) error { return os.Remove(record(f)) },
	} {
		w := newWorld(t)
		w.build(w.recipe())
		if err := os.RemoveAll(w.dir()); err != nil { // its files are the kept ones
			t.Fatal(err)
		}
		if err := do(w.keptFile(builds.Bundle, gem)); err != nil {
			t.Fatal(err)
		}
		built := w.again(w.recipe())
		if !w.heard("the kept bundle is damaged (") || !w.heard(harm) || slices.Contains(built.Kept, builds.Bundle) {
			t.Errorf("%s: kept %q, said %q", harm, built.Kept, w.said)
		}
		if b, err := os.ReadFile(filepath.Join(w.dir(), "vendor/bundle", gem)); err != nil || string(b) != "gem\n" {
			t.Errorf("%s: the release has %q (%v)", harm, b, err)
		}
		w.again(w.recipe())
		if slices.Contains(w.jobs(), "gems") {
			t.Errorf("%s: what was made again was not kept", harm)
		}
	}
}

// record is the record of the entry that a kept file belongs to.
func record(file string) string {
	entry, _, _ := strings.Cut(file, "/tree/")
	return filepath.Join(entry, "entry.json")
}

func TestAPartWhoseInputsWereChangedOnTheWayIsNotKept(t *testing.T) {
	w := newWorld(t)
	w.program("bundle", `[ "$1" = install ] && echo "gem 'more'" >> Gemfile; exit 0`)
	if err := w.fails(w.recipe()); !strings.Contains(err.Error(), "the build changed the source") {
		t.Errorf("got %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(w.layout.Cache, "kept/bundle/*")); err != nil || len(left) > 0 {
		t.Errorf("kept under the key of another Gemfile: %q (%v)", left, err)
	}
}

func TestKeepingCutOffLeavesNothingThatIsTakenForWhole(t *testing.T) {
	w := newWorld(t)
	// As if the power had gone while a part was written: a folder without its name.
	half := filepath.Join(w.layout.Cache, "kept/.making-1/tree")
	if err := os.MkdirAll(half, 0o755); err != nil {
		t.Fatal(err)
	}
	if built := w.build(w.recipe()); len(built.Kept) > 0 {
		t.Errorf("used %q", built.Kept)
	}
	if exists(t, half) {
		t.Error("it was left there for ever")
	}
}

func TestTheReleaseHasItsOwnTimesWhateverWasKept(t *testing.T) {
	w := newWorld(t)
	w.build(w.recipe())
	t.Setenv("GIT_COMMITTER_DATE", "2026-07-01T12:00:00Z")
	w.release("v4.5.16", "16")
	r := w.recipeOf("v4.5.16")
	w.build(r)
	for v, at := range map[string]time.Time{"v4.5.15": w.recipe().Release.Tag.Time, "v4.5.16": r.Release.Tag.Time} {
		root := filepath.Join(w.layout.Home, "releases", v)
		m, _, err := node.ReadManifest(root)
		if err != nil || !m.Modified.Equal(at) {
			t.Fatalf("%s: the manifest says %s, the commit %s (%v)", v, m.Modified, at, err)
		}
		for _, e := range m.Files {
			fi, err := os.Lstat(filepath.Join(root, e.Path))
			if err != nil {
				t.Fatal(err)
			}
			if want := node.FileTime(e.Path, m.Modified); e.Link == "" && e.Path != ".refit" && !fi.ModTime().Equal(want) {
				t.Errorf("%s: %s has time %s, not %s", v, e.Path, fi.ModTime().UTC(), want)
			}
		}
		// What was compiled must have seen the times that the files have in the end.
		b, err := os.ReadFile(filepath.Join(root, "tmp/cache/bootsnap/compile-cache-iseq/a"))
		if err != nil || strings.Count(string(b), " 946684800\n") != 4 {
			t.Errorf("%s: compiled from files of other times: %q (%v)", v, b, err)
		}
	}
}

func TestWhatNobodyUsesIsNotKeptForEver(t *testing.T) {
	w := newWorld(t)
	w.build(w.recipe())
	old := time.Now().Add(-61 * 24 * time.Hour)
	if err := os.Chtimes(record(w.keptFile(builds.Bundle, "ruby/3.3.0/gems/rack/rack.rb")), old, old); err != nil {
		t.Fatal(err)
	}
	zips := filepath.Join(w.layout.Cache, "yarn/cache")
	if err := errors.Join(os.MkdirAll(zips, 0o755), os.WriteFile(filepath.Join(zips, "old.zip"), nil, 0o644), os.Chtimes(filepath.Join(zips, "old.zip"), old, old), os.WriteFile(filepath.Join(zips, "new.zip"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	w.write("Gemfile.lock", gemLock+"\nDEPENDENCIES\n  rack\n")
	w.release("v4.5.16", "16")
	w.build(w.recipeOf("v4.5.16"))
	if !w.heard("no longer kept on the builder: bundle made for v4.5.15") || exists(t, filepath.Join(zips, "old.zip")) || !exists(t, filepath.Join(zips, "new.zip")) {
		t.Errorf("%q", w.said)
	}
	w.keptFile(builds.Bundle, "ruby/3.3.0/gems/rack/rack.rb") // there is one, the new one
	w.builder.KeepBytes = 1
	w.again(w.recipe())
	if left, err := filepath.Glob(filepath.Join(w.layout.Cache, "kept/*/*")); err != nil || len(left) > 0 {
		t.Errorf("more than a byte is kept: %q (%v)", left, err)
	}
	if !exists(t, filepath.Join(w.dir(), "vendor/bundle/ruby/3.3.0/gems/rack/rack.rb")) {
		t.Error("the release lost what was no longer kept")
	}
}

func TestAFullDiskEndsTheBuildAndSaysWhatToDo(t *testing.T) {
	w := newWorld(t)
	if err := os.MkdirAll(w.layout.Cache, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("small", w.layout.Cache, "tmpfs", 0, "size=2m,mode=755"); errors.Is(err, fs.ErrPermission) {
		t.Skip("only root can make a small disk")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(w.layout.Cache, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	w.pack(yarnJS + strings.Repeat("# more\n", 20) + "[ -e node_modules ] && head -c 3000000 /dev/zero > node_modules/ws/big || :\n")
	if err := w.fails(w.recipe()); !strings.Contains(err.Error(), "no space left on device") || !strings.Contains(err.Error(), "make room below") {
		t.Errorf("got %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(w.layout.Cache, "kept/packages/*")); err != nil || len(left) > 0 {
		t.Errorf("half of the packages are kept: %q (%v)", left, err)
	}
	if err := unix.Unmount(w.layout.Cache, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("large", w.layout.Cache, "tmpfs", 0, "size=200m,mode=755"); err != nil {
		t.Fatal(err)
	}
	w.build(w.recipe()) // with room, and on another file system than the releases
}
