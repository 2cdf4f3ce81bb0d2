package git_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmst.io/refit/hosts/git"
)

func openClone(t *testing.T, dir string) *git.Clone {
	t.Helper()
	c, err := git.OpenClone(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestACloneIsReadInPlaceByTagAndByCommit(t *testing.T) {
	u := awkward(t)
	u.git("gc", "-q") // into a pack
	before := tracked(t, u.dir)
	bare := filepath.Join(t.TempDir(), "bare.git")
	u.git("clone", "-q", "--bare", u.dir, bare)
	worktree := filepath.Join(t.TempDir(), "beside")
	u.git("worktree", "add", "-q", worktree)
	for name, dir := range map[string]string{"with a work tree": u.dir, "bare": bare, "a second work tree": worktree} {
		t.Run(name, func(t *testing.T) {
			c := openClone(t, dir)
			tags, err := c.Tags(t.Context())
			if err != nil || len(tags) == 0 {
				t.Fatalf("%v %v", tags, err)
			}
			byTag, err := c.Tag(t.Context(), "v4.5.14")
			if err != nil {
				t.Fatal(err)
			}
			if want := u.git("rev-parse", "v4.5.14^{tree}"); byTag.Tree != want || byTag.Object == "" {
				t.Errorf("tree %s, want %s", byTag.Tree, want)
			}
			byCommit, err := c.Commit(t.Context(), "v4.5.14", byTag.Commit)
			if err != nil || byCommit.Tree != byTag.Tree || byCommit.Name != "v4.5.14" {
				t.Errorf("%+v (%v)", byCommit, err)
			}
			files, err := c.Files(byCommit)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(u.git("-c", "core.quotePath=false", "ls-tree", "-r", "--name-only", "v4.5.14"), "\n"), paths(files)); diff != "" {
				t.Error(diff)
			}
			if b, err := c.Read(byCommit, "public/sw.js"); err != nil || string(b) != "packs/sw.js" {
				t.Errorf("the symlink reads %q (%v)", b, err)
			}
			if _, err := c.Read(byCommit, "no/such"); !errors.Is(err, git.ErrNoFile) {
				t.Errorf("got %v", err)
			}
		})
	}
	u.git("worktree", "remove", worktree)
	if diff := cmp.Diff(before, tracked(t, u.dir)); diff != "" {
		t.Errorf("reading changed the clone: %s", diff)
	}
}

// tracked lists the objects and references of a repository.
func tracked(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	for _, part := range []string{"objects", "refs"} {
		err := filepath.WalkDir(filepath.Join(dir, ".git", part), func(p string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() && !strings.Contains(p, "refs/heads/beside") {
				out = append(out, p)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestWhatACloneLacksIsNamed(t *testing.T) {
	u := awkward(t)
	c := openClone(t, u.dir)
	if _, err := c.Tag(t.Context(), "v4.5.140"); !errors.Is(err, git.ErrNoTag) || !strings.Contains(err.Error(), "v4.5.14") {
		t.Errorf("got %v", err)
	}
	gone := strings.Repeat("ab", 20)
	if _, err := c.Commit(t.Context(), "v4.5.14", gone); err == nil || !strings.Contains(err.Error(), gone) || !strings.Contains(err.Error(), "fetch it") {
		t.Errorf("got %v", err)
	}
	for _, bad := range []string{"", "HEAD", "abcdef1", strings.ToUpper(gone), gone + "00"} {
		if _, err := c.Commit(t.Context(), "v4.5.14", bad); err == nil || !strings.Contains(err.Error(), "whole commit hash") {
			t.Errorf("%q gave %v", bad, err)
		}
	}
	if _, err := git.OpenClone(t.TempDir()); !errors.Is(err, git.ErrNoClone) {
		t.Errorf("got %v", err)
	}
	if _, err := git.OpenClone(filepath.Join(t.TempDir(), "none")); !errors.Is(err, git.ErrNoClone) {
		t.Errorf("got %v", err)
	}
}

func TestAnObjectThatAPartialCloneLacksIsAnErrorWhenItIsRead(t *testing.T) {
	u := newUpstream(t)
	u.write("kept.txt", "kept\n", 0o644)
	u.write("large.bin", "large\n", 0o644)
	u.tag("v4.5.14")
	blob := u.git("rev-parse", "v4.5.14:large.bin")
	if err := os.Remove(filepath.Join(u.dir, ".git/objects", blob[:2], blob[2:])); err != nil {
		t.Fatal(err)
	}
	c := openClone(t, u.dir)
	tag, err := c.Tag(t.Context(), "v4.5.14")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := c.Read(tag, "kept.txt"); err != nil || string(b) != "kept\n" {
		t.Errorf("%q (%v)", b, err)
	}
	if _, err := c.Read(tag, "large.bin"); err == nil || !strings.Contains(err.Error(), blob) {
		t.Errorf("got %v", err)
	}
}

func TestACommitIsFetchedByItsHashAndKept(t *testing.T) {
	u := awkward(t)
	commit := u.git("rev-parse", "v4.5.14^{commit}")
	u.git("config", "uploadpack.allowAnySHA1InWant", "true")
	dir := t.TempDir()
	m := open(t, git.Options{URL: u.serve(), Dir: dir})
	tag, err := m.Commit(t.Context(), "v4.5.14", commit)
	if err != nil {
		t.Fatal(err)
	}
	if want := u.git("rev-parse", "v4.5.14^{tree}"); tag.Tree != want || tag.Commit != commit {
		t.Errorf("%+v", tag)
	}
	// What a hash names cannot have moved: nobody is asked again.
	again := open(t, git.Options{URL: "http://127.0.0.1:1/gone.git", Dir: dir})
	if kept, err := again.Commit(t.Context(), "v4.5.14", commit); err != nil || kept.Tree != tag.Tree {
		t.Errorf("%+v (%v)", kept, err)
	}
	if _, err := m.Commit(t.Context(), "v4.5.14", strings.Repeat("ab", 20)); err == nil {
		t.Error("a commit that does not exist was fetched")
	}
	if _, err := m.Commit(t.Context(), "v4.5.14", "v4.5.14"); err == nil || !strings.Contains(err.Error(), "whole commit hash") {
		t.Errorf("got %v", err)
	}
}

func TestAPatchIsOneFilesUnifiedDiff(t *testing.T) {
	u := newUpstream(t)
	u.write("dist/nginx.conf", "one\ntwo\nthree\n", 0o644)
	u.write("dist/gone.service", "old\n", 0o644)
	u.write("same", "same\n", 0o644)
	u.tag("v1")
	u.write("dist/nginx.conf", "one\nzwei\nthree\n", 0o644)
	u.git("rm", "-q", "dist/gone.service")
	u.write("dist/new.service", "new\n", 0o644)
	u.write("logo", "\x00\x01", 0o644)
	u.tag("v2")
	c := openClone(t, u.dir)
	from, err := c.Tag(t.Context(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	to, err := c.Tag(t.Context(), "v2")
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string][]string{
		"dist/nginx.conf":   {"--- a/dist/nginx.conf\n+++ b/dist/nginx.conf\n", "-two\n+zwei\n"},
		"dist/gone.service": {"+++ /dev/null\n", "-old\n"},
		"dist/new.service":  {"--- /dev/null\n", "+new\n"},
		"logo":              {"Binary files"},
		"same":              nil,
		"no/such":           nil,
	} {
		got, err := c.Patch(from, to, file)
		if err != nil || (want == nil) != (got == "") {
			t.Errorf("%s: %q (%v)", file, got, err)
		}
		for _, part := range want {
			if !strings.Contains(got, part) {
				t.Errorf("%s: %q lacks %q", file, got, part)
			}
		}
	}
}
