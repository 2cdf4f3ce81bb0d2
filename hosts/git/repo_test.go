package git_test

import (
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vmst.io/refit/hosts/git"
)

// upstream is a repository made by the git program, which the tests hold
// go-git's work against.
type upstream struct {
	t   *testing.T
	dir string
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{t, filepath.Join(t.TempDir(), "mastodon")}
	if err := os.Mkdir(u.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	u.git("init", "-q", "-b", "main")
	return u
}

func (u *upstream) git(args ...string) string {
	u.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = u.dir
	cmd.Env = append(os.Environ(), "HOME="+u.dir, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=c", "GIT_COMMITTER_EMAIL=c@example.org")
	out, err := cmd.CombinedOutput()
	if err != nil {
		u.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (u *upstream) write(path, content string, mode os.FileMode) {
	u.t.Helper()
	full := filepath.Join(u.dir, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		u.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), mode); err != nil {
		u.t.Fatal(err)
	}
}

// tag commits all that lies there and tags it, annotated.
func (u *upstream) tag(name string) {
	u.t.Helper()
	u.git("add", "-A")
	u.git("commit", "-q", "-m", "Bump version to "+name)
	u.git("tag", "-a", "-m", name, name)
}

// serve answers smart http as a forge does.
func (u *upstream) serve() string {
	u.t.Helper()
	exe, err := exec.LookPath("git")
	if err != nil {
		u.t.Fatal(err)
	}
	srv := httptest.NewServer(&cgi.Handler{
		Path: exe, Args: []string{"http-backend"},
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(u.dir), "GIT_HTTP_EXPORT_ALL=1"},
	})
	u.t.Cleanup(srv.Close)
	return srv.URL + "/mastodon/.git"
}

func open(t *testing.T, opts git.Options) *git.Mirror {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = filepath.Join(t.TempDir(), "cache")
	}
	m, err := git.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// awkward is a tree whose order, modes and contents are easy to get wrong.
func awkward(t *testing.T) *upstream {
	u := newUpstream(t)
	u.write("a.b", "sorts before the directory a\n", 0o644)
	u.write("a/b", "in a directory\n", 0o644)
	u.write("a-b", "sorts before a.b\n", 0o644)
	u.write("a0", "sorts after the directory a\n", 0o644)
	u.write("bin/tootctl", "#!/usr/bin/env ruby\n", 0o755)
	u.write("crlf.txt", "kept\nas it is\n", 0o644)
	u.write(".gitattributes", "*.txt text eol=crlf\n", 0o644)
	u.write("empty", "", 0o644)
	u.write("ünï cøde/f", "x", 0o644)
	if err := os.MkdirAll(filepath.Join(u.dir, "public"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("packs/sw.js", filepath.Join(u.dir, "public/sw.js")); err != nil {
		t.Fatal(err)
	}
	u.tag("v4.5.14")
	return u
}
