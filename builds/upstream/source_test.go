package upstream_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/upstream"
	"vmst.io/refit/hosts/git"
)

// repository makes one with a commit and a tag for each version that
// lib/mastodon/version.rb is to say; tags[i] is "tag version".
func repository(t *testing.T, tags ...string) string {
	t.Helper()
	dir := t.TempDir()
	run := func(args ...string) {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "HOME="+dir, "GIT_CONFIG_NOSYSTEM=1",
			"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=c", "GIT_COMMITTER_EMAIL=c@example.org")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	run("init", "-q", "-b", "main")
	for _, tag := range tags {
		name, says, _ := strings.Cut(tag, " ")
		parts := strings.Split(says, ".")
		text := "def major\n" + parts[0] + "\nend\ndef minor\n" + parts[1] + "\nend\ndef patch\n" + parts[2] + "\nend\n"
		if err := os.MkdirAll(filepath.Join(dir, "lib/mastodon"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "lib/mastodon/version.rb"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		run("add", "-A")
		run("commit", "-q", "--allow-empty", "-m", name)
		run("tag", "-a", "-m", name, name)
	}
	return "file://" + dir
}

func parse(t *testing.T, s string) builds.Version {
	t.Helper()
	v, err := builds.ParseVersion(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestTagsAreListedNewestFirstAndOddOnesLeftOut(t *testing.T) {
	src, err := upstream.Open(git.Options{URL: repository(t, "v4.5.9 4.5.9", "v4.5.10 4.5.10", "v4.6.0-rc.1 4.6.0", "4.4.0 4.4.0", "nightly 4.6.0"), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	tags, err := src.Tags(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range tags {
		got = append(got, v.String())
	}
	if diff := cmp.Diff([]string{"v4.6.0-rc.1", "v4.5.10", "v4.5.9"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestATagWhoseVersionFileDisagreesIsRefused(t *testing.T) {
	src, err := upstream.Open(git.Options{URL: repository(t, "v4.5.9 4.5.8"), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.Tag(t.Context(), parse(t, "v4.5.9")); !errors.Is(err, builds.ErrVersion) || !strings.Contains(err.Error(), "holds version v4.5.8") {
		t.Errorf("got %v", err)
	}
	if _, err := src.Tag(t.Context(), parse(t, "v4.5.10")); !errors.Is(err, git.ErrNoTag) {
		t.Errorf("got %v", err)
	}
}

func TestTheCacheLiesInTheUsersCacheFolder(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	src, err := upstream.Open(git.Options{URL: repository(t, "v4.5.9 4.5.9", "v4.5.10 4.5.10")})
	if err != nil {
		t.Fatal(err)
	}
	from, err := src.Tag(t.Context(), parse(t, "v4.5.9"))
	if err != nil {
		t.Fatal(err)
	}
	to, err := src.Tag(t.Context(), parse(t, "v4.5.10"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := src.Facets(t.Context(), from, to)
	if err != nil || f.Files != 1 {
		t.Errorf("%d files differ (%v)", f.Files, err)
	}
	if found, err := filepath.Glob(filepath.Join(cache, "refit/upstream/*/objects")); err != nil || len(found) != 1 {
		t.Errorf("found %v (%v)", found, err)
	}
}
