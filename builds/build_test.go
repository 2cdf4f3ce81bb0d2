package builds_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/node"
)

func exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Lstat(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

func TestABuildIsWholePureAndMadeOnce(t *testing.T) {
	w := newWorld(t)
	r := w.recipe()
	if err := w.builder.Check(t.Context(), r, w.say); err != nil {
		t.Fatal(err)
	}
	built, err := w.builder.Build(t.Context(), r, w.say)
	if err != nil {
		t.Fatal(err)
	}
	if built.Cached || built.Manifest.Tree != r.Release.Tag.Tree || built.Manifest.Commit != r.Release.Tag.Commit || len(built.Kept) > 0 {
		t.Errorf("%+v", built)
	}
	if diff := cmp.Diff(coldSteps, names(built.Steps)); diff != "" {
		t.Error(diff)
	}
	if !w.heard("ruby 3.3.8 in " + w.prefix + " instead of 3.4.7: a test") {
		t.Error("the override was not said aloud")
	}
	manifest, head, err := node.ReadManifest(w.dir())
	if err != nil || head.Digest != built.Manifest.Digest {
		t.Errorf("the manifest on the builder is %+v and the build's %+v: %v", head, built.Manifest, err)
	}
	var paths []string
	for _, e := range manifest.Files {
		paths = append(paths, e.Path)
	}
	for _, p := range []string{".refit/bin/bundle", ".refit/ruby", ".refit/recipe.json", ".refit/source.json", ".refit/fetched.json", ".bundle/config", "log/.keep", "tmp/cache/bootsnap/load-path-cache", "vendor/bundle/ruby/3.3.0/gems/rack/rack.rb", "public/packs/app-1.js"} {
		if !slices.Contains(paths, p) {
			t.Errorf("the manifest lacks %s", p)
		}
	}
	for _, p := range []string{".refit/unfinished", "tmp/local_secret.txt", "vendor/bundle/ruby/3.3.0/extensions/x/3.3.0/rack/gem_make.out", ".pnp.cjs", ".yarn/unplugged", "node_modules/ws/all.js", ".refit/fetched-bundle.json", "vendor/bundle/ruby/3.3.0/cache", "vendor/bundle/ruby/3.3.0/bundler/gems/webpush-1/.git"} {
		if slices.Contains(paths, p) || exists(t, filepath.Join(w.dir(), p)) {
			t.Errorf("the release holds %s", p)
		}
	}
	if exists(t, filepath.Join(w.layout.Cache, "build/v4.5.15")) {
		t.Error("the build's own folder is still there")
	}
	if differences, err := manifest.Compare(t.Context(), w.dir()); err != nil || len(differences) > 0 {
		t.Errorf("%v %v", differences, err)
	}
	jobs := len(w.host.started)
	again, err := w.builder.Build(t.Context(), r, w.say)
	if err != nil || !again.Cached || again.Manifest.Digest != built.Manifest.Digest || len(w.host.started) != jobs {
		t.Errorf("a second build: cached %v, digest %s, %v", again.Cached, again.Manifest.Digest, err)
	}
}

// coldSteps are what a build goes through when nothing was kept.
var coldSteps = []string{
	"checkout", "take-bundle", "gems", "check-gems", "bundle", "keep-bundle", "take-assets", "take-packages", "fetch-yarn", "packages", "yarn", "keep-packages",
	"assets", "keep-assets", "take-streaming", "focus", "keep-streaming", "compile", "boot", "finish",
}

func names(steps []builds.StepTime) []string {
	var out []string
	for _, s := range steps {
		out = append(out, s.Name)
	}
	return out
}

func TestABuildTakesNothingFromTheEnvironment(t *testing.T) {
	t.Setenv("BUNDLE_GEMFILE", "/etc/evil")
	w := newWorld(t)
	if _, err := w.builder.Build(t.Context(), w.recipe(), w.say); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(w.dir(), "node_modules/ws/env.txt"))
	if err != nil {
		t.Fatal(err)
	}
	env := string(b)
	for _, want := range []string{"RAILS_ENV=production", "NODE_ENV=production", "YARN_IGNORE_PATH=1", "YARN_CHECKSUM_BEHAVIOR=throw", "GIT_CONFIG_NOSYSTEM=1", "YARN_UNSAFE_HTTP_WHITELIST=127.0.0.1", "HOME=" + w.layout.Cache + "/build/v4.5.15/home"} {
		if !strings.Contains(env, want) {
			t.Errorf("the environment lacks %s", want)
		}
	}
	if strings.Contains(env, "evil") {
		t.Error("the environment of this process reached the build")
	}
	fetching := 0
	for _, j := range w.host.started {
		fetches := strings.HasSuffix(j.Unit, "-gems.service") || strings.HasSuffix(j.Unit, "-packages.service")
		if j.NoNetwork == fetches {
			t.Errorf("%s: no network is %v", j.Unit, j.NoNetwork)
		}
		if fetches {
			fetching++
		}
	}
	if fetching != 2 {
		t.Errorf("%d steps fetch", fetching)
	}
}

func TestProgressIsToldWithoutEveryGemsName(t *testing.T) {
	w := newWorld(t)
	w.program("bundle", `i=0; while [ $i -lt 300 ]; do echo "Installing gem$i 1.0.0"; i=$((i+1)); done; echo "Bundle complete!"; [ "$1" = install ] && exit 0
mkdir -p public/packs/.vite; printf js > public/packs/a.js; echo '{"a":{"file":"a.js"}}' > public/packs/.vite/manifest.json`)
	if _, err := w.builder.Build(t.Context(), w.recipe(), w.say); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(strings.Join(w.said, "\n"), "Installing gem"); n == 0 || n > 50 || !w.heard("bundle: Bundle complete!") {
		t.Errorf("%d of 1500 lines of chatter were told", n)
	}
}

func TestAStepThatFailsIsNamedWithItsLinesAndLeavesNothingWhole(t *testing.T) {
	w := newWorld(t)
	w.program("bundle", `[ "$1" = install ] || { echo "rails aborted!"; echo "NameError: uninitialized constant Webpush"; exit 3; }`)
	r := w.recipe()
	_, err := w.builder.Build(t.Context(), r, w.say)
	var failed *builds.BuildError
	if !errors.As(err, &failed) || failed.Step != "assets" || failed.Code != 3 || !slices.Contains(failed.Lines, "NameError: uninitialized constant Webpush") {
		t.Fatalf("got %v", err)
	}
	var look builds.LookOut
	if err := w.host.Call(t.Context(), "build.look", builds.LookIn{Layout: w.layout, Version: r.Release.Version}, nil, &look, nil); err != nil || look.State != builds.Unfinished {
		t.Fatalf("what lies there is %q (%v)", look.State, err)
	}
	if err := w.builder.Remove(t.Context(), r, w.say); err != nil || exists(t, w.dir()) {
		t.Errorf("the unfinished build was not removed (%v)", err)
	}
}

func TestABuildCutOffAnywhereIsBegunAgainFromNothing(t *testing.T) {
	verbs := []string{
		"git.checkout", "build.link", "build.take", "build.clear", "build.gems", "build.keep", "build.yarn", "job.start", "build.clean",
		"build.settle", "build.verify", "build.finish",
	}
	for _, at := range verbs {
		t.Run(at, func(t *testing.T) {
			w := newWorld(t)
			r := w.recipe()
			cut := errors.New("power lost")
			w.host.before = func(verb string) error {
				if verb == at {
					return cut
				}
				return nil
			}
			if _, err := w.builder.Build(t.Context(), r, w.say); !errors.Is(err, cut) {
				t.Fatalf("got %v", err)
			}
			w.host.before = nil
			if at != "git.checkout" {
				// What a cut-off step left must not be in the next build.
				if err := os.WriteFile(filepath.Join(w.dir(), "half"), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			unit := "refit-build-4-5-15-yarn.service"
			w.host.running[unit] = true
			built, err := w.builder.Build(t.Context(), r, w.say)
			if err != nil || built.Cached {
				t.Fatalf("cached %v, %v", built.Cached, err)
			}
			if exists(t, filepath.Join(w.dir(), "half")) {
				t.Error("the half-made build was built upon")
			}
			if !slices.Contains(w.host.stopped, unit) {
				t.Error("the step that was still at work was not stopped")
			}
		})
	}
}

func TestABuildThatChangesATrackedFileIsRefused(t *testing.T) {
	w := newWorld(t)
	w.program("bundle", `[ "$1" = install ] && echo "gem 'more'" >> Gemfile; mkdir -p public/packs/.vite; printf js > public/packs/a.js; echo '{"a":{"file":"a.js"}}' > public/packs/.vite/manifest.json`)
	_, err := w.builder.Build(t.Context(), w.recipe(), w.say)
	if err == nil || !strings.Contains(err.Error(), "the build changed the source") || !strings.Contains(err.Error(), "Gemfile (content)") {
		t.Errorf("got %v", err)
	}
}

func TestAssetsThatTheManifestNamesMustBeThere(t *testing.T) {
	for says, script := range map[string]string{
		"left no manifest":     `:`,
		"b.js (missing)":       `mkdir -p public/packs/.vite; echo '{"a":{"file":"b.js"}}' > public/packs/.vite/manifest.json`,
		"another checksum":     `mkdir -p public/packs/.vite; printf js > public/packs/a.js; echo '{"a":{"file":"a.js","integrity":"sha384-AAAA"}}' > public/packs/.vite/manifest.json`,
		"x.css (missing)":      `mkdir -p public/packs/.vite; printf js > public/packs/a.js; echo '{"a":{"file":"a.js","css":["x.css"]}}' > public/packs/.vite/manifest.json`,
		"leads out":            `mkdir -p public/packs/.vite; echo '{"a":{"file":"../../Gemfile"}}' > public/packs/.vite/manifest.json`,
		"js/b.js (missing)":    `mkdir -p public/packs/js; printf js > public/packs/js/a.js; echo '{"a.js":"/packs/js/a.js","entrypoints":{"a":{"assets":{"js":["/packs/js/b.js"]}}}}' > public/packs/manifest.json`,
		"icon-2.svg (missing)": `mkdir -p public/packs/.vite public/assets; printf js > public/packs/a.js; echo '{"a":{"file":"a.js"}}' > public/packs/.vite/manifest.json; echo '{"icon.svg":{"digested_path":"icon-2.svg"}}' > public/assets/.manifest.json`,
		"old-3.css (missing)":  `mkdir -p public/packs/.vite public/assets; printf js > public/packs/a.js; echo '{"a":{"file":"a.js"}}' > public/packs/.vite/manifest.json; echo '{"assets":{"old.css":"old-3.css"}}' > public/assets/.sprockets-manifest-1.json`,
		"name no file":         `mkdir -p public/packs/.vite; echo '{}' > public/packs/.vite/manifest.json`,
	} {
		w := newWorld(t)
		w.program("bundle", `[ "$1 $2" = "exec rails" ] || exit 0; `+script)
		if _, err := w.builder.Build(t.Context(), w.recipe(), w.say); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v", says, err)
		}
	}
}

func TestAServiceWorkerIsHeldToNoChecksumOfAManifestWrittenBeforeIt(t *testing.T) {
	const manifest = `{"a.js":{"src":"/packs/a.js","integrity":"sha256-Fs7fgK3gHGK90a6THQSSMwwLYr8pTAjAlc4vqyGpKY0="},"sw.js":{"src":"/packs/sw.js","integrity":"sha256-AAAA"},"sw.js.map":{"src":"/packs/sw.js.map","integrity":"sha256-AAAA"}}`
	for name, worker := range map[string]string{"": "js", "sw.js (missing)": ""} {
		w := newWorld(t)
		script := `[ "$1 $2" = "exec rails" ] || exit 0; mkdir -p public/packs; printf js > public/packs/a.js; printf map > public/packs/sw.js.map; echo '` + manifest + `' > public/packs/manifest.json`
		if worker != "" {
			script += `; printf ` + worker + ` > public/packs/sw.js`
		}
		w.program("bundle", script)
		_, err := w.builder.Build(t.Context(), w.recipe(), w.say)
		if name == "" && err != nil || name != "" && (err == nil || !strings.Contains(err.Error(), name)) {
			t.Errorf("%q: got %v", name, err)
		}
	}
}

func TestADamagedBuildIsMadeAgainAndAForeignOneIsNotTouched(t *testing.T) {
	w := newWorld(t)
	r := w.recipe()
	if _, err := w.builder.Build(t.Context(), r, w.say); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir(), "vendor/bundle/ruby/3.3.0/gems/rack/rack.rb"), []byte("gem!"), 0o644); err != nil {
		t.Fatal(err)
	}
	built, err := w.builder.Build(t.Context(), r, w.say)
	if err != nil || built.Cached || !w.heard("is damaged (vendor/bundle") {
		t.Errorf("cached %v, %v: %q", built.Cached, err, w.said)
	}
	if err := os.RemoveAll(filepath.Join(w.dir(), ".refit")); err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func() error{
		"Check": func() error { return w.builder.Check(t.Context(), r, w.say) },
		"Build": func() error { _, err := w.builder.Build(t.Context(), r, w.say); return err },
	} {
		if err := do(); err == nil || !strings.Contains(err.Error(), "was not built by refit") {
			t.Errorf("%s gave %v", name, err)
		}
	}
	if err := w.builder.Remove(t.Context(), r, w.say); err != nil || !exists(t, filepath.Join(w.dir(), "Gemfile")) {
		t.Errorf("a foreign release was removed (%v)", err)
	}
}

func TestTheLiveReleaseIsNeverBuiltAnew(t *testing.T) {
	w := newWorld(t)
	r := w.recipe()
	if _, err := w.builder.Build(t.Context(), r, w.say); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("releases/v4.5.15", filepath.Join(w.layout.Home, "live")); err != nil {
		t.Fatal(err)
	}
	r.Toolchain.Ruby.Version = "3.3.9"
	if err := w.builder.Check(t.Context(), r, w.say); err == nil || !strings.Contains(err.Error(), "is live") {
		t.Errorf("Check gave %v", err)
	}
	if _, err := w.builder.Build(t.Context(), r, w.say); err == nil || !strings.Contains(err.Error(), "is live") {
		t.Errorf("Build gave %v", err)
	}
	if !exists(t, filepath.Join(w.dir(), "Gemfile")) {
		t.Error("the live release is gone")
	}
}

func TestAnotherTagOnTheBuilderThanPlannedStopsTheBuild(t *testing.T) {
	w := newWorld(t)
	r := w.recipe()
	w.write("app/evil.rb", "evil")
	w.tag("v4.5.15")
	if err := w.builder.Check(t.Context(), r, w.say); err == nil || !strings.Contains(err.Error(), "the two repositories disagree") {
		t.Errorf("Check gave %v", err)
	}
	if _, err := w.builder.Build(t.Context(), r, w.say); err == nil || !strings.Contains(err.Error(), "the two repositories disagree") {
		t.Errorf("Build gave %v", err)
	}
}

func TestAYarnOfTheWrongChecksumIsNotUsed(t *testing.T) {
	w := newWorld(t)
	good := w.integrity
	w.pack("#!/bin/sh\nevil\n")
	w.integrity = good
	if _, err := w.builder.Build(t.Context(), w.recipe(), w.say); err == nil || !strings.Contains(err.Error(), "it is not used") {
		t.Errorf("a wrong package gave %v", err)
	}
	w = newWorld(t)
	r := w.recipe()
	r.Toolchain.YarnHash = "sha512." + strings.Repeat("0", 128)
	if _, err := w.builder.Build(t.Context(), r, w.say); err == nil || !strings.Contains(err.Error(), "package.json asks for") {
		t.Errorf("a wrong program gave %v", err)
	}
	r.Toolchain.Yarn, r.Toolchain.YarnHash = "4.99.0", ""
	if err := w.builder.Check(t.Context(), r, w.say); err == nil || !strings.Contains(err.Error(), "has no yarn 4.99.0") {
		t.Errorf("a missing version gave %v", err)
	}
}

func TestTooLittleRoomIsToldBeforeAnythingIsTouched(t *testing.T) {
	w := newWorld(t)
	r := w.recipe()
	w.host.memory = 1 << 30
	if err := w.builder.Check(t.Context(), r, w.say); err == nil || !strings.Contains(err.Error(), "add memory or swap") {
		t.Errorf("memory: %v", err)
	}
	w.host.memory, w.host.files = 8<<30, 1000
	if err := w.builder.Check(t.Context(), r, w.say); err == nil || !strings.Contains(err.Error(), "(inodes)") {
		t.Errorf("files: %v", err)
	}
	w.host.files = 1 << 20
	w.builder.MinFree = 100 << 30
	w.host.releases = []node.ReleaseFact{{Name: "v4.3.23"}, {Name: r.Release.Version.String()}, {Name: "v4.4.22"}}
	if _, err := w.builder.Build(t.Context(), r, w.say); err == nil || !strings.Contains(err.Error(), "make room; below /") || !strings.Contains(err.Error(), "/releases lie v4.3.23, v4.4.22, of which") {
		t.Errorf("disk: %v", err)
	}
	if exists(t, w.dir()) {
		t.Error("something was made all the same")
	}
}

func TestALostConnectionDoesNotEndABuild(t *testing.T) {
	w := newWorld(t)
	lost := 0
	w.host.before = func(verb string) error {
		if verb == "job.log" && lost < 3 {
			lost++
			return hosts.ErrLost
		}
		return nil
	}
	if _, err := w.builder.Build(t.Context(), w.recipe(), w.say); err != nil || lost != 3 {
		t.Errorf("lost %d times: %v", lost, err)
	}
}

func TestAnAbortedBuildSaysWhatGoesOn(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	w.host.before = func(verb string) error {
		switch verb {
		case "job.start":
			w.host.running["refit-build-gems.service"] = true
		case "job.log":
			cancel(errors.New("the operator aborted"))
		}
		return nil
	}
	_, err := w.builder.Build(ctx, w.recipe(), w.say)
	if err == nil || !strings.Contains(err.Error(), "the operator aborted") || !strings.Contains(err.Error(), "refit-build-gems.service") {
		t.Errorf("got %v", err)
	}
}

func TestARecipeIsNamedByWhatItBringsForth(t *testing.T) {
	r := newWorld(t).recipe()
	digest := func(change func(*builds.Recipe)) string {
		c := r
		change(&c)
		d, err := c.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	base := digest(func(*builds.Recipe) {})
	held := func(mirror string) string {
		return digest(func(c *builds.Recipe) {
			c.Release.Contents.Locks.GemsHeld = c.Release.Contents.Locks.Gems
			c.Mirrors.Gems = mirror
		})
	}
	if held("https://elsewhere.example.org") != held("") {
		t.Error("another mirror makes another recipe, though the lock file holds every gem")
	}
	for name, change := range map[string]func(*builds.Recipe){
		"ruby":      func(c *builds.Recipe) { c.Toolchain.Ruby.Version = "3.3.9" },
		"tree":      func(c *builds.Recipe) { c.Release.Tag.Tree = "0" },
		"checksums": func(c *builds.Recipe) { c.Mirrors.YarnChecksums = "ignore" },
		"env":       func(c *builds.Recipe) { c.Env = map[string]string{"CDN_HOST": "https://cdn.example.org"} },
		"home":      func(c *builds.Recipe) { c.Layout.Home = "/srv" },
	} {
		if digest(change) == base {
			t.Errorf("another %s makes the same recipe", name)
		}
	}
}

func TestAWrongRecipeIsRefused(t *testing.T) {
	r := newWorld(t).recipe()
	for says, change := range map[string]func(*builds.Recipe){
		"without a reason":   func(c *builds.Recipe) { c.Mirrors.YarnChecksums = "ignore" },
		"no http or https":   func(c *builds.Recipe) { c.Mirrors.NPM = "npm.example.org" },
		"variable RAILS_ENV": func(c *builds.Recipe) { c.Env = map[string]string{"RAILS_ENV": "test"} },
	} {
		c := r
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v", says, err)
		}
	}
}

func TestGitSourcesAreRewrittenInTheBuildsEnvironment(t *testing.T) {
	r := newWorld(t).recipe()
	r.Mirrors.Git = append(r.Mirrors.Git, struct {
		From string `json:"from"`
		To   string `json:"to"`
	}{"https://github.com/", "http://10.77.0.1:8083/git/"})
	env := r.Steps()[0].Env
	if env["GIT_CONFIG_COUNT"] != "1" || env["GIT_CONFIG_KEY_0"] != "url.http://10.77.0.1:8083/git/.insteadOf" || env["GIT_CONFIG_VALUE_0"] != "https://github.com/" {
		t.Errorf("%v", env)
	}
}

func TestWhatTheBuildRunsCannotReplaceRefitsOwnFolder(t *testing.T) {
	w := newWorld(t)
	modes := ""
	w.program("bundle", `stat -c '%a' . >> `+filepath.Join(w.layout.Home, "modes")+`; mkdir -p public/packs/.vite; printf js > public/packs/a.js; echo '{"a":{"file":"a.js"}}' > public/packs/.vite/manifest.json`)
	if _, err := w.builder.Build(t.Context(), w.recipe(), w.say); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(w.layout.Home, "modes"))
	if modes = string(b); err != nil || !strings.HasPrefix(modes, "1775\n") {
		t.Errorf("while it was built the release had mode %q (%v)", modes, err)
	}
	if info, err := os.Stat(w.dir()); err != nil || info.Mode() != os.ModeDir|0o755 {
		t.Errorf("built, it has mode %v (%v)", info.Mode(), err)
	}
}

// The agent is what stages pass as Host.
var _ builds.Host = (*node.Agent)(nil)
