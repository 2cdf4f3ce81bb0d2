package bench

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// nodeRoot is a folder in the place of a node's root.
type nodeRoot struct {
	t   *testing.T
	dir string
}

// run runs a script of a node's in there.
func (n nodeRoot) run(script string) error {
	n.t.Helper()
	for _, path := range []string{"/home/mastodon", keptDir, "/var/tmp"} {
		script = strings.ReplaceAll(script, path, n.dir+path)
	}
	out, err := exec.CommandContext(n.t.Context(), "bash", "-c", "set -euo pipefail\n"+script).CombinedOutput()
	n.t.Logf("%s", out)
	return err
}

func (n nodeRoot) write(names ...string) {
	n.t.Helper()
	for _, name := range names {
		path := filepath.Join(n.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			n.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			n.t.Fatal(err)
		}
	}
}

// list is everything below a folder.
func (n nodeRoot) list(dir string) []string {
	n.t.Helper()
	var out []string
	root := filepath.Join(n.dir, dir)
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && path != root {
			out = append(out, path[len(root)+1:])
		}
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

func TestResetLeavesNothingOfARoll(t *testing.T) {
	n := nodeRoot{t, t.TempDir()}
	base := "home/mastodon/releases/" + Base + "/"
	n.write(base+".refit/manifest.json", base+"public/packs/a b.js", base+"public/packs/.vite/manifest.json", base+"tmp/cache/x")
	if err := os.MkdirAll(filepath.Join(n.dir, "var/tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := n.run(keepScript["node"]); err != nil {
		t.Fatal(err)
	}
	before := n.list("home/mastodon/releases")

	n.write("home/mastodon/releases/v4.5.21/.refit/manifest.json", "home/mastodon/releases/.refit-tmp-placing-v4.6.20/x", "home/mastodon/releases/v4.6.20.new/x",
		"home/mastodon/revisions.log", "var/tmp/v4.5.21.tar.zst", base+".refit/bridged.json", base+"public/packs/new one.js", base+"public/packs/deep/er/c.js", base+"tmp/cache/y")
	if err := os.Symlink(filepath.Join(n.dir, "home/mastodon/releases/v4.5.21"), filepath.Join(n.dir, "home/mastodon/live")); err != nil {
		t.Fatal(err)
	}
	if err := n.run(resetScript["node"]); err != nil {
		t.Fatal(err)
	}
	want := slices.Concat(before, []string{Base + "/tmp/cache/y"})
	if got := n.list("home/mastodon/releases"); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if to, err := os.Readlink(filepath.Join(n.dir, "home/mastodon/live")); err != nil || to != "releases/"+Base {
		t.Errorf("live is %q, %v", to, err)
	}
	if left := n.list("var/tmp"); len(left) != 0 {
		t.Errorf("left in /var/tmp: %q", left)
	}
	if got := n.list("home/mastodon"); slices.Contains(got, "revisions.log") {
		t.Error("Capistrano's log is still there")
	}
}

func TestResetRefusesAReleaseThatLacksAFile(t *testing.T) {
	n := nodeRoot{t, t.TempDir()}
	base := "home/mastodon/releases/" + Base + "/"
	n.write(base+"a", base+"b")
	if err := n.run(keepScript["node"]); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(n.dir, base+"b")); err != nil {
		t.Fatal(err)
	}
	if err := n.run(resetScript["node"]); err == nil {
		t.Error("the next contender would start from a damaged release")
	}
}
