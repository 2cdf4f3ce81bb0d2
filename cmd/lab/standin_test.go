package main

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vmst.io/refit/hosts/lab"
	"vmst.io/refit/hosts/lab/standin"
)

const labFiles = "../../testdata/lab"

// registry is a made-up gem registry whose index names nothing.
func registry(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "gems-0123")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "versions"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// git runs git without the user's configuration.
func git(t *testing.T, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), "git", args...)
	c.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestTheMirrorServesTheGemsThatALockFileTakesFromGit asks for them as a build
// does: by the lock file's address, of which refit.yml maps the front to the mirror.
func TestTheMirrorServesTheGemsThatALockFileTakesFromGit(t *testing.T) {
	template, err := os.ReadFile(filepath.Join(labFiles, "refit.yml.tmpl"))
	if err != nil {
		t.Fatal(err)
	}
	if want := `git: {"https://github.com/": "http://{{.Gateway}}:{{.PortGit}}/git/"}`; !strings.Contains(string(template), want) {
		t.Fatalf("the lab's refit.yml does not hold %q", want)
	}
	cache, gems := t.TempDir(), registry(t)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(here, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", t.TempDir(), relative} {
		served := dir
		if dir == "" {
			served = filepath.Join(cache, "git")
		}
		// The second time all is there already.
		for range 2 {
			repo, err := prepareServing(cache, dir, labFiles, t.Logf)(t.Context(), "3.3.99", gems)
			if err != nil {
				t.Fatal(err)
			}
			for release, want := range map[string]string{"v4.5.0": "3.3.99", "v4.6.6": "3.3.99", "v4.6.4": "4.0.5"} {
				if pin := git(t, "--git-dir", repo, "show", release+":.ruby-version"); pin != want {
					t.Errorf("%s pins ruby %s, want %s", release, pin, want)
				}
			}
			lock := git(t, "--git-dir", repo, "show", "v4.6.6:Gemfile.lock")
			absolute, err := filepath.Abs(served)
			if err != nil {
				t.Fatal(err)
			}
			checkServed(t, absolute, lock)
		}
	}
}

func checkServed(t *testing.T, served, lock string) {
	t.Helper()
	srv := httptest.NewServer(lab.GitHTTP(served))
	defer srv.Close()
	names, err := standin.Gems("../../testdata/mastodon")
	if err != nil || len(names) == 0 {
		t.Fatalf("gems %v, %v", names, err)
	}
	for _, name := range names {
		address := "https://github.com/" + name + ".git"
		_, rest, ok := strings.Cut(lock, "remote: "+address+"\n  revision: ")
		if !ok {
			t.Fatalf("the lock file of v4.6.6 does not take %s from git", name)
		}
		revision, _, _ := strings.Cut(rest, "\n")
		clone := filepath.Join(t.TempDir(), "clone")
		git(t, "init", "--quiet", clone)
		git(t, "-C", clone, "-c", "url."+srv.URL+"/git/.insteadOf=https://github.com/", "fetch", "--quiet", "--depth=1", address, revision)
		if got := git(t, "-C", clone, "rev-parse", "FETCH_HEAD"); got != revision {
			t.Errorf("%s is served at %s, the lock file names %s", name, got, revision)
		}
	}
}

func TestAnotherApplicationAsksForNothingOfTheStandIn(t *testing.T) {
	o := around(lab.Options{Release: "v9.9.9", Gems: standinGems, GemRegistry: "/srv/gems", Prepare: prepareStandin("", labFiles, t.Logf)}, "/srv/app.git")
	if o.App != "/srv/app.git" || o.Prepare != nil || o.Gems != nil {
		t.Errorf("got %+v", o)
	}
	if o.Release != "v9.9.9" || o.GemRegistry != "/srv/gems" {
		t.Errorf("what was asked for is gone: %+v", o)
	}
}
