package node_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
)

func TestBridgedAssetsAreAddedBothWaysAndNeverReplaceOrNameAManifest(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	home := t.TempDir()
	for name, files := range map[string]map[string]string{"v1.0.0": v1, "v2.0.0": v2} {
		root, _ := build(t, name, files)
		if _, _, err := place(t, a, home, root); err != nil {
			t.Fatal(err)
		}
	}
	in := node.BridgeIn{Home: home, From: "v1.0.0", To: "v2.0.0"}
	out, err := a.Bridge(t.Context(), in)
	if err != nil || out != (node.BridgeOut{ToFrom: 1, ToTo: 1}) {
		t.Fatalf("got %+v, %v, want one file each way", out, err)
	}
	for file, want := range map[string]string{
		"v1.0.0/public/packs/b-222.js": "js2", "v2.0.0/public/packs/a-111.js": "js1",
		"v1.0.0/public/packs/sw.js": "sw1", "v2.0.0/public/packs/.vite/manifest.json": "m2",
	} {
		if b, err := os.ReadFile(filepath.Join(home, "releases", file)); err != nil || string(b) != want {
			t.Errorf("%s is %q, %v, want %q", file, b, err, want)
		}
	}
	if out, err := a.Bridge(t.Context(), in); err != nil || out != (node.BridgeOut{}) {
		t.Errorf("the second time: %+v, %v", out, err)
	}
	v, err := a.PlaceVerify(t.Context(), node.VerifyIn{Home: home, Release: "v2.0.0"}, nil)
	if err != nil || len(v.Differences) > 0 {
		t.Errorf("bridged files count as differences: %v, %v", v.Differences, err)
	}
}

func TestSwitchMovesLiveOnceAndOnlyToAReleaseThatIsThere(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	home := t.TempDir()
	tree(t, home, map[string]string{"releases/v1.0.0/": "", "releases/v2.0.0/": ""})
	for _, step := range []struct {
		to   string
		want node.SwitchOut
	}{
		{"v1.0.0", node.SwitchOut{New: "v1.0.0", Changed: true}},
		{"v2.0.0", node.SwitchOut{Old: "v1.0.0", New: "v2.0.0", Changed: true}},
		{"v2.0.0", node.SwitchOut{Old: "v2.0.0", New: "v2.0.0"}},
	} {
		got, err := a.Switch(t.Context(), node.SwitchIn{Home: home, Release: step.to})
		if err != nil || got != step.want {
			t.Errorf("to %s: %+v, %v, want %+v", step.to, got, err, step.want)
		}
	}
	if target, err := os.Readlink(filepath.Join(home, "live")); err != nil || target != "releases/v2.0.0" {
		t.Errorf("live is %q, %v", target, err)
	}
	if _, err := a.Switch(t.Context(), node.SwitchIn{Home: home, Release: "v3.0.0"}); !errors.Is(err, node.ErrNotFound) {
		t.Errorf("a release that is not there: %v", err)
	}
	if _, err := a.Switch(t.Context(), node.SwitchIn{Home: home, Release: "../../etc"}); err == nil {
		t.Error("a path was taken for a release")
	}
}

func TestPruneKeepsTheLiveReleaseAndOneThatAProcessWorksIn(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	home := t.TempDir()
	tree(t, home, map[string]string{"releases/v1.0.0/f": "", "releases/v2.0.0/f": "", "releases/v3.0.0/": "", "releases/v4.0.0/": "", "live": "-> releases/v3.0.0"})
	t.Chdir(filepath.Join(home, "releases/v2.0.0"))
	out, err := a.Prune(t.Context(), node.PruneIn{Home: home, Keep: []string{"v4.0.0"}, Dry: true}, nil)
	if err != nil || len(out.Removed) != 1 {
		t.Fatalf("dry: %+v, %v", out, err)
	}
	out, err = a.Prune(t.Context(), node.PruneIn{Home: home, Keep: []string{"v4.0.0"}}, nil)
	if err != nil || len(out.Removed) != 1 || out.Removed[0] != "v1.0.0" || out.Held["v3.0.0"] != "live" || !strings.Contains(out.Held["v2.0.0"], fmt.Sprint(os.Getpid())) {
		t.Errorf("got %+v, %v", out, err)
	}
	left, err := os.ReadDir(filepath.Join(home, "releases"))
	if err != nil || len(left) != 3 {
		t.Errorf("left %v, %v", left, err)
	}
}

// bridged are three releases, placed, each with a hashed file of its own.
func bridged(t *testing.T) (*node.Agent, string) {
	t.Helper()
	a, _ := hoststest.NewNode(t, nil)
	home := t.TempDir()
	for _, name := range []string{"v1.0.0", "v2.0.0", "v3.0.0"} {
		root, _ := build(t, name, map[string]string{"app/a.rb": "a", "public/packs/js/deep/" + name + "-111.js": name})
		if _, _, err := place(t, a, home, root); err != nil {
			t.Fatal(err)
		}
	}
	return a, home
}

// packsOf are the hashed files that lie in a release.
func packsOf(t *testing.T, home, release string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(home, "releases", release, "public/packs/js/deep/*.js"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range files {
		out = append(out, strings.TrimSuffix(filepath.Base(f), "-111.js"))
	}
	return strings.Join(out, " ")
}

func TestAssetsOfOlderReleasesStayForTheirTimeAndNoLonger(t *testing.T) {
	for keep, want := range map[time.Duration]string{time.Hour: "v1.0.0 v2.0.0 v3.0.0", 0: "v2.0.0 v3.0.0"} {
		a, home := bridged(t)
		for _, in := range []node.BridgeIn{{Home: home, From: "v1.0.0", To: "v2.0.0", Keep: keep}, {Home: home, From: "v2.0.0", To: "v3.0.0", Keep: keep}} {
			if _, err := a.Bridge(t.Context(), in); err != nil {
				t.Fatal(err)
			}
		}
		if got := packsOf(t, home, "v3.0.0"); got != want {
			t.Errorf("kept for %s: v3.0.0 has %s, want %s", keep, got, want)
		}
		for _, r := range []string{"v1.0.0", "v2.0.0", "v3.0.0"} {
			if v, err := a.PlaceVerify(t.Context(), node.VerifyIn{Home: home, Release: r}, nil); err != nil || len(v.Differences) > 0 {
				t.Errorf("%s: bridged files count as differences: %v, %v", r, v.Differences, err)
			}
		}
	}
}

func TestTheManifestsOfBridgedFilesOutliveTheirReleases(t *testing.T) {
	a, home := bridged(t)
	sig := filepath.Join(home, "releases/v1.0.0/.refit/manifest.json.sig")
	if err := os.WriteFile(sig, []byte("signed"), 0o600); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(home, "releases/v1.0.0/.refit/manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Bridge(t.Context(), node.BridgeIn{Home: home, From: "v1.0.0", To: "v2.0.0", Keep: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(home, "releases/v1.0.0")); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Bridge(t.Context(), node.BridgeIn{Home: home, From: "v2.0.0", To: "v3.0.0", Keep: time.Hour}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"v1.0.0/manifest.json": string(want), "v1.0.0/manifest.json.sig": "signed"} {
		if b, err := os.ReadFile(filepath.Join(home, "releases/v3.0.0/.refit/bridged", name)); err != nil || string(b) != want {
			t.Errorf("%s is %q, %v", name, b, err)
		}
	}
	b, err := os.ReadFile(filepath.Join(home, "releases/v3.0.0/.refit/bridged.json"))
	if err != nil || !strings.Contains(string(b), `"path":"public/packs/js/deep/v1.0.0-111.js","from":"v1.0.0","since":`) {
		t.Errorf("the record is %s, %v", b, err)
	}
	if v, err := a.PlaceVerify(t.Context(), node.VerifyIn{Home: home, Release: "v3.0.0"}, nil); err != nil || len(v.Differences) > 0 {
		t.Errorf("%v, %v", v.Differences, err)
	}
}

func TestFilesThatAnOlderRefitBridgedGetTheirTimeFromNow(t *testing.T) {
	a, home := bridged(t)
	if _, err := a.Bridge(t.Context(), node.BridgeIn{Home: home, From: "v1.0.0", To: "v2.0.0"}); err != nil {
		t.Fatal(err)
	}
	record := filepath.Join(home, "releases/v2.0.0/.refit/bridged.json")
	if err := os.WriteFile(record, []byte(`{"files":[{"path":"public/packs/js/deep/v1.0.0-111.js","from":"v1.0.0"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Bridge(t.Context(), node.BridgeIn{Home: home, From: "v2.0.0", To: "v3.0.0", Keep: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if got := packsOf(t, home, "v3.0.0"); got != "v1.0.0 v2.0.0 v3.0.0" {
		t.Errorf("v3.0.0 has %s", got)
	}
}
