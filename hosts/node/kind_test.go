package node_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
)

const debian13 = "debian 13"

// toolchain is a built one, of the system that this machine runs unless another is named.
func toolchain(t *testing.T, name, recipe, system string, files map[string]string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), name)
	tree(t, root, files)
	entries, err := node.Scan(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	m := node.Manifest{Format: node.ManifestFormat, Kind: node.KindToolchain, Release: name, Recipe: recipe, OS: system, Arch: runtime.GOARCH, Files: entries}
	if _, err := m.Write(root); err != nil {
		t.Fatal(err)
	}
	return root
}

// placeToolchain does what a stage does.
func placeToolchain(t *testing.T, a *node.Agent, home, root string) (node.WantOut, node.PutOut, error) {
	t.Helper()
	h := headOf(t, root)
	want, err := a.PlaceWant(t.Context(), node.WantIn{Kind: node.KindToolchain, Home: home, Release: h.Release, Digest: h.Digest}, pack(t, a, root), nil)
	if err != nil || want.Placed {
		return want, node.PutOut{Placed: want.Placed}, err
	}
	out, err := a.PlacePut(t.Context(), node.PutIn{Kind: node.KindToolchain, Home: home, Release: h.Release, Digest: h.Digest}, pack(t, a, root, want.Indexes...), nil)
	return want, out, err
}

func mustPlace(t *testing.T, a *node.Agent, home, root string) string {
	t.Helper()
	_, out, err := placeToolchain(t, a, home, root)
	if err != nil || out.Placed {
		t.Fatalf("%+v, %v", out, err)
	}
	return out.Path
}

var (
	ruby347 = map[string]string{"bin/ruby": "elf 3.4.7", "lib/set.rb": "set", "lib/old.rb": "old", "bin/gem": "-> ruby"}
	ruby348 = map[string]string{"bin/ruby": "elf 3.4.8", "lib/set.rb": "set", "bin/gem": "-> ruby"}
)

func TestAToolchainIsPlacedUnderItsNameAndTheNextSendsOnlyWhatIsNew(t *testing.T) {
	a, m := hoststest.NewNode(t, nil)
	home := t.TempDir()
	path := mustPlace(t, a, home, toolchain(t, "ruby-3.4.7", "r1", debian13, ruby347))
	if path != filepath.Join(m.State, "toolchains/ruby-3.4.7") {
		t.Errorf("placed in %s", path)
	}
	v, err := a.PlaceVerify(t.Context(), node.VerifyIn{Kind: node.KindToolchain, Release: "ruby-3.4.7"}, nil)
	if err != nil || len(v.Differences) > 0 {
		t.Errorf("verify: %v, %v", v.Differences, err)
	}
	if exists(filepath.Join(path, "tmp")) {
		t.Error("it has a folder for Mastodon to write to")
	}
	want, out, err := placeToolchain(t, a, home, toolchain(t, "ruby-3.4.8", "r2", debian13, ruby348))
	if err != nil || len(want.Indexes) != 1 || out.Linked != 1 {
		t.Errorf("the next: %+v, %+v, %v", want, out, err)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestAToolchainOfTheSameRecipeStandsForAnotherUnlessItIsHarmed(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	home := t.TempDir()
	path := mustPlace(t, a, home, toolchain(t, "ruby-3.4.7", "r1", debian13, ruby347))
	again := toolchain(t, "ruby-3.4.7", "r1", debian13, map[string]string{"bin/ruby": "elf compiled again", "lib/set.rb": "set"})
	if _, out, err := placeToolchain(t, a, home, again); err != nil || !out.Placed {
		t.Errorf("compiled again: %+v, %v", out, err)
	}
	if err := os.WriteFile(filepath.Join(path, "lib/set.rb"), []byte("evil"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, out, err := placeToolchain(t, a, home, again); err != nil || out.Placed {
		t.Errorf("harmed: %+v, %v", out, err)
	}
	if b, err := os.ReadFile(filepath.Join(path, "bin/ruby")); err != nil || string(b) != "elf compiled again" {
		t.Errorf("got %q, %v", b, err)
	}
	// What is in the middle of its making is not whole, whatever its manifest says.
	tree(t, path, map[string]string{".refit/unfinished": "{}"})
	if _, out, err := placeToolchain(t, a, home, again); err != nil || out.Placed {
		t.Errorf("unfinished: %+v, %v", out, err)
	}
}

func TestAToolchainIsAskedForItsOwnSignature(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	home, us := t.TempDir(), newSigner(t)
	asked := allow(t, us.line(""))
	const system = debian13
	made := func(content string, signed bool) string {
		root := toolchain(t, "node-24.10.0", "r1", system, map[string]string{"bin/node": content})
		if signed {
			signedAs(t, a, root, us.sign(node.SignatureNamespace, string(node.SignedText(headOf(t, root).Digest))))
		}
		return root
	}
	place := func(root string) (node.WantOut, node.PutOut, error) {
		h := headOf(t, root)
		want, err := a.PlaceWant(t.Context(), node.WantIn{Kind: node.KindToolchain, Home: home, Release: h.Release, Digest: h.Digest, Signed: asked}, pack(t, a, root), nil)
		if err != nil || want.Placed {
			return want, node.PutOut{Placed: want.Placed}, err
		}
		out, err := a.PlacePut(t.Context(), node.PutIn{Kind: node.KindToolchain, Home: home, Release: h.Release, Digest: h.Digest, Signed: asked}, pack(t, a, root, want.Indexes...), nil)
		return want, out, err
	}
	if _, _, err := place(made("elf", false)); !errors.Is(err, node.ErrSignature) {
		t.Errorf("an unsigned one: %v", err)
	}
	// One from before anything was signed: the very same needs its signature alone,
	// another of its recipe takes its place, also while a process runs from it.
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	root := made(string(b), false)
	path := mustPlace(t, a, home, root)
	signedAs(t, a, root, us.sign(node.SignatureNamespace, string(node.SignedText(headOf(t, root).Digest))))
	if want, out, err := place(root); err != nil || want.Placed || len(want.Indexes) > 0 || !out.Placed {
		t.Errorf("its signature: %+v, %+v, %v", want, out, err)
	}
	if want, _, err := place(made("elf", true)); err != nil || !want.Placed {
		t.Errorf("another, while the one there is signed: %+v, %v", want, err)
	}
	c := exec.CommandContext(t.Context(), filepath.Join(path, "bin/node"), "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.Process.Kill(), ignoreExit(c.Wait())); err != nil {
			t.Error(err)
		}
	})
	if err := os.Remove(filepath.Join(path, ".refit/manifest.json.sig")); err != nil {
		t.Fatal(err)
	}
	if _, out, err := place(made("elf", true)); err != nil || out.Placed {
		t.Errorf("another, while the one there is not signed: %+v, %v", out, err)
	}
	v, err := a.PlaceVerify(t.Context(), node.VerifyIn{Kind: node.KindToolchain, Release: "node-24.10.0", Signed: asked}, nil)
	if err != nil || v.Unsigned != "" || len(v.Differences) > 0 {
		t.Errorf("%+v, %v", v, err)
	}
	if b, err := os.ReadFile(filepath.Join(path, "bin/node")); err != nil || string(b) != "elf" {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestAToolchainOfAnotherRecipeTakesNoPlaceThatAReleaseRunsWith(t *testing.T) {
	a, m := hoststest.NewNode(t, nil)
	home := t.TempDir()
	const system = debian13
	path := mustPlace(t, a, home, toolchain(t, "ruby-3.4.7", "r1", system, ruby347))
	tree(t, filepath.Join(home, "releases/v1.0.0"), map[string]string{".refit/ruby": "-> " + filepath.Join(m.State, "toolchains/ruby-3.4.7")})
	other := toolchain(t, "ruby-3.4.7", "r2", system, ruby348)
	_, _, err := placeToolchain(t, a, home, other)
	if !errors.Is(err, node.ErrInUse) || !strings.Contains(err.Error(), "v1.0.0 runs with it") {
		t.Errorf("got %v, want ErrInUse", err)
	}
	h := headOf(t, other)
	if _, err := a.PlacePut(t.Context(), node.PutIn{Kind: node.KindToolchain, Home: home, Release: h.Release, Digest: h.Digest}, pack(t, a, other), nil); !errors.Is(err, node.ErrInUse) {
		t.Errorf("put: got %v, want ErrInUse", err)
	}
	if b, err := os.ReadFile(filepath.Join(path, "bin/ruby")); err != nil || string(b) != "elf 3.4.7" {
		t.Errorf("it was replaced: %q, %v", b, err)
	}
	if err := os.RemoveAll(filepath.Join(home, "releases/v1.0.0")); err != nil {
		t.Fatal(err)
	}
	if _, out, err := placeToolchain(t, a, home, other); err != nil || out.Placed {
		t.Errorf("with the release gone: %+v, %v", out, err)
	}
}

func TestAToolchainOfTheSystemThatAHostHadBeforeIsReplaced(t *testing.T) {
	a, m := hoststest.NewNode(t, nil)
	home := t.TempDir()
	before := m
	before.System = "debian 11"
	mustPlace(t, &node.Agent{Host: "kirk", Shell: hoststest.NodeShell{Machine: before}, Binary: "/proc/self/exe", Epoch: func() int64 { return 1 }}, home, toolchain(t, "ruby-3.4.7", "r1", "debian 11", ruby347))
	tree(t, filepath.Join(home, "releases/v1.0.0"), map[string]string{".refit/ruby": "-> " + filepath.Join(m.State, "toolchains/ruby-3.4.7")})
	if _, out, err := placeToolchain(t, a, home, toolchain(t, "ruby-3.4.7", "r2", debian13, ruby347)); err != nil || out.Placed {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestAToolchainFromWhichAProcessRunsIsNeitherReplacedNorRemoved(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	home := t.TempDir()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	path := mustPlace(t, a, home, toolchain(t, "node-24.10.0", "r1", debian13, map[string]string{"bin/node": string(b)}))
	c := exec.CommandContext(t.Context(), filepath.Join(path, "bin/node"), "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.Process.Kill(), ignoreExit(c.Wait())); err != nil {
			t.Error(err)
		}
	})
	_, _, err = placeToolchain(t, a, home, toolchain(t, "node-24.10.0", "r2", debian13, map[string]string{"bin/node": "x"}))
	if !errors.Is(err, node.ErrInUse) || !strings.Contains(err.Error(), "(node) runs from it") {
		t.Errorf("got %v, want ErrInUse", err)
	}
	out, err := a.Prune(t.Context(), node.PruneIn{Home: home, Keep: []string{"v9.9.9"}}, nil)
	if err != nil || len(out.Toolchains) > 0 || !strings.Contains(out.Held["node-24.10.0"], "runs from it") {
		t.Errorf("%+v, %v", out, err)
	}
}

func ignoreExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

func TestWhatRefitDidNotPutThereIsNeitherReplacedNorRemoved(t *testing.T) {
	a, m := hoststest.NewNode(t, nil)
	home := t.TempDir()
	own := filepath.Join(m.State, "toolchains/ruby-3.4.7")
	tree(t, own, map[string]string{"bin/ruby": "by hand"})
	_, _, err := placeToolchain(t, a, home, toolchain(t, "ruby-3.4.7", "r1", debian13, ruby347))
	if !errors.Is(err, node.ErrInUse) || !strings.Contains(err.Error(), "was not put there by refit") {
		t.Errorf("got %v, want ErrInUse", err)
	}
	out, err := a.Prune(t.Context(), node.PruneIn{Home: home, Keep: []string{"v9.9.9"}}, nil)
	if err != nil || len(out.Toolchains) > 0 || !exists(filepath.Join(own, "bin/ruby")) {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestPruneRemovesTheToolchainsThatNoReleaseRunsWithAnyMore(t *testing.T) {
	a, m := hoststest.NewNode(t, nil)
	home := t.TempDir()
	at := func(name string) string { return "-> " + filepath.Join(m.State, "toolchains", name) }
	for _, name := range []string{"ruby-3.4.6", "ruby-3.4.7", "ruby-3.4.8", "node-24.10.0", "bundler-2.7.2"} {
		mustPlace(t, a, home, toolchain(t, name, "r "+name, debian13, map[string]string{"bin/x": name}))
	}
	tree(t, home, map[string]string{
		"releases/v1.0.0/.refit/ruby": at("ruby-3.4.6"), "releases/v1.0.0/.refit/node": at("node-24.10.0"),
		"releases/v2.0.0/.refit/ruby": at("ruby-3.4.7"), "releases/v2.0.0/.refit/node": at("node-24.10.0"), "releases/v2.0.0/.refit/bundler": at("bundler-2.7.2"),
		"live": "-> releases/v2.0.0",
	})
	in := node.PruneIn{Home: home, Keep: []string{"v2.0.0"}, Dry: true}
	for _, in.Dry = range []bool{true, false} {
		out, err := a.Prune(t.Context(), in, nil)
		slices.Sort(out.Toolchains)
		if err != nil || strings.Join(out.Toolchains, " ") != "ruby-3.4.6 ruby-3.4.8" || strings.Join(out.Removed, " ") != "v1.0.0" {
			t.Errorf("dry %v: %+v, %v", in.Dry, out, err)
		}
		if exists(filepath.Join(m.State, "toolchains/ruby-3.4.6")) != in.Dry {
			t.Errorf("dry %v: ruby-3.4.6 is there: %v", in.Dry, !in.Dry)
		}
	}
	for _, name := range []string{"ruby-3.4.7", "node-24.10.0", "bundler-2.7.2"} {
		if !exists(filepath.Join(m.State, "toolchains", name, "bin/x")) {
			t.Errorf("%s is gone", name)
		}
	}
}

func TestNoSwitchToAReleaseWhoseRuntimesAreGone(t *testing.T) {
	a, m := hoststest.NewNode(t, nil)
	home := t.TempDir()
	gone := filepath.Join(m.State, "toolchains/ruby-3.4.7")
	tree(t, home, map[string]string{"releases/v1.0.0/": "", "releases/v2.0.0/.refit/ruby": "-> " + gone, "live": "-> releases/v1.0.0"})
	_, err := a.Switch(t.Context(), node.SwitchIn{Home: home, Release: "v2.0.0"})
	if !errors.Is(err, node.ErrNotFound) || !strings.Contains(err.Error(), gone) || !strings.Contains(err.Error(), "refit place --to v2.0.0") {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if to, err := os.Readlink(filepath.Join(home, "live")); err != nil || to != "releases/v1.0.0" {
		t.Errorf("live is %q, %v", to, err)
	}
	mustPlace(t, a, home, toolchain(t, "ruby-3.4.7", "r1", debian13, ruby347))
	if _, err := a.Switch(t.Context(), node.SwitchIn{Home: home, Release: "v2.0.0"}); err != nil {
		t.Error(err)
	}
}

func TestAToolchainIsNotTakenForAReleaseNorAReleaseForAToolchain(t *testing.T) {
	a, m := hoststest.NewNode(t, nil)
	home := t.TempDir()
	ruby := toolchain(t, "ruby-3.4.7", "r1", debian13, ruby347)
	release, _ := build(t, "v1.0.0", v1)
	for name, in := range map[string]node.PutIn{
		"a toolchain as a release":       {Release: "ruby-3.4.7", Digest: headOf(t, ruby).Digest},
		"a toolchain by a release's":     {Release: "v1.0.0", Digest: headOf(t, ruby).Digest},
		"a release as a toolchain":       {Kind: node.KindToolchain, Release: "v1.0.0", Digest: headOf(t, release).Digest},
		"a path as a toolchain":          {Kind: node.KindToolchain, Release: "../ruby-3.4.7", Digest: headOf(t, ruby).Digest},
		"a path behind a name":           {Kind: node.KindToolchain, Release: "ruby-3.4.7/../../x", Digest: headOf(t, ruby).Digest},
		"a kind that is none":            {Kind: "cron", Release: "ruby-3.4.7", Digest: headOf(t, ruby).Digest},
		"a toolchain with shared links":  {Kind: node.KindToolchain, Release: "ruby-3.4.7", Digest: headOf(t, ruby).Digest, Links: map[string]string{"bin/ruby": "/tmp/evil"}},
		"a toolchain that is written to": {Kind: node.KindToolchain, Release: "ruby-3.4.7", Digest: headOf(t, ruby).Digest, Writable: []string{"lib"}, Owner: "nobody"},
	} {
		in.Home = home
		root := ruby
		if strings.HasPrefix(name, "a release") {
			root = release
		}
		if _, err := a.PlacePut(t.Context(), in, pack(t, a, root, regularOf(t, root)...), nil); err == nil {
			t.Errorf("%s was placed", name)
		}
	}
	for _, dir := range []string{filepath.Join(home, "releases"), filepath.Join(m.State, "toolchains")} {
		if left, err := os.ReadDir(dir); err == nil && len(left) > 0 {
			t.Errorf("left %v in %s", left, dir)
		}
	}
}

func regularOf(t *testing.T, root string) []int {
	t.Helper()
	m, _, err := node.ReadManifest(root)
	if err != nil {
		t.Fatal(err)
	}
	return regular(m)
}

func TestAManifestSaysWhetherItIsAReleasesOrAToolchains(t *testing.T) {
	for name, m := range map[string]node.Manifest{
		"a toolchain without a recipe":   {Kind: node.KindToolchain, Release: "ruby-3.4.7"},
		"a toolchain of a release's":     {Kind: node.KindToolchain, Release: "v1.0.0", Recipe: "r"},
		"a release with a recipe":        {Release: "v1.0.0", Recipe: "r"},
		"a release of a toolchain's":     {Release: "ruby-3.4.7"},
		"another kind":                   {Kind: "cron", Release: "v1.0.0"},
		"a toolchain named by no name":   {Release: "v1.0.0", Toolchains: []node.ToolchainRef{{Name: "../etc"}}},
		"a toolchain of another program": {Kind: node.KindToolchain, Release: "perl-5", Recipe: "r"},
	} {
		m.Format = node.ManifestFormat
		if err := m.Check(); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestWhatACrashLeftAmongToolchainsIsSwept(t *testing.T) {
	a, m := hoststest.NewNode(t, nil)
	home := t.TempDir()
	root := filepath.Join(m.State, "toolchains")
	tree(t, root, map[string]string{".refit-tmp-placing-ruby-3.4.7/bin/ruby": "half", ".refit-build-node-24.10.0-1/old/x": "half", "ruby-3.4.8/bin/ruby": "whole"})
	out, err := a.Sweep(t.Context(), node.SweepIn{Home: home, Clear: true})
	if err != nil || len(out.Items) != 2 {
		t.Errorf("%+v, %v", out, err)
	}
	left, err := os.ReadDir(root)
	if err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestNothingIsTakenThatWasMadeForAnotherSystem(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	home := t.TempDir()
	root := toolchain(t, "ruby-3.4.7", "r1", "debian 12", ruby347)
	if _, _, err := placeToolchain(t, a, home, root); !errors.Is(err, node.ErrPayload) || !strings.Contains(err.Error(), "ruby-3.4.7 was made for debian 12 (") || !strings.Contains(err.Error(), "and this host runs debian 13 (") {
		t.Errorf("got %v", err)
	}
	h := headOf(t, root)
	if _, err := a.PlacePut(t.Context(), node.PutIn{Kind: node.KindToolchain, Home: home, Release: h.Release, Digest: h.Digest}, pack(t, a, root), nil); !errors.Is(err, node.ErrPayload) {
		t.Errorf("put: %v", err)
	}
	if h.OS != "debian 12" || h.Arch != runtime.GOARCH {
		t.Errorf("its head is %+v", h)
	}
}
