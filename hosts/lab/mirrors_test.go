package lab

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

func TestRepositoriesAreServedForReadingOnly(t *testing.T) {
	ctx, root, work := t.Context(), t.TempDir(), filepath.Join(t.TempDir(), "work")
	git := func(args ...string) error {
		_, err := runIn(ctx, "", []string{"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null"},
			append([]string{"git", "-c", "user.name=t", "-c", "user.email=t@example", "-c", "init.defaultBranch=main"}, args...)...)
		return err
	}
	srv := httptest.NewServer(GitHTTP(root))
	t.Cleanup(srv.Close)
	bare := filepath.Join(root, "owner", "name")
	must(t, git("init", "-q", "--bare", bare))
	must(t, git("init", "-q", work))
	must(t, os.WriteFile(filepath.Join(work, "a"), []byte("x"), 0o644))
	must(t, git("-C", work, "add", "a"))
	must(t, git("-C", work, "commit", "-q", "-m", "one"))
	must(t, git("-C", work, "push", "-q", bare, "HEAD:main"))

	url := srv.URL + "/git/owner/name"
	clone := filepath.Join(t.TempDir(), "clone")
	must(t, git("clone", "-q", "-b", "main", url, clone))
	if b, err := os.ReadFile(filepath.Join(clone, "a")); err != nil || string(b) != "x" {
		t.Errorf("got %q, %v", b, err)
	}
	if err := git("-C", work, "push", "-q", url, "HEAD:other"); err == nil {
		t.Error("the mirror took a push")
	}
	if err := git("clone", "-q", srv.URL+"/git/owner/nothing", clone+"2"); err == nil {
		t.Error("a repository that is not there was cloned")
	}
}
