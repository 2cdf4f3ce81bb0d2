package main

import (
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/github"
	"vmst.io/refit/hosts/github/githubtest"
	"vmst.io/refit/stages"
)

// aForge is a simulated GitHub over a bare repository with one commit, and the
// configuration of a fleet that may open pull requests there.
func aForge(t *testing.T, may githubtest.Token) (c config, repo string, git func(args ...string) string, s *githubtest.Server) {
	t.Helper()
	dir := t.TempDir()
	repo = filepath.Join(dir, "config.git")
	git = func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir}, args...)...)
		cmd.Env = append(os.Environ(), "HOME="+dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=p", "GIT_AUTHOR_EMAIL=p@example.org", "GIT_COMMITTER_NAME=p", "GIT_COMMITTER_EMAIL=p@example.org")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "-q", "--bare", "-b", "main", repo)
	git("clone", "-q", repo, "work")
	git("-C", "work", "commit", "-q", "--allow-empty", "-m", "begin")
	git("-C", "work", "push", "-q", "origin", "HEAD:main")
	s = githubtest.New(githubtest.Options{Fail: t.Error, Tokens: map[string]githubtest.Token{"canary-pulls": may}})
	s.AddRepo("vmst/config")
	s.Branches("vmst/config", func(branch string) string {
		out, err := exec.Command("git", "-C", repo, "rev-parse", "-q", "--verify", "refs/heads/"+branch).Output()
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(out))
	})
	api := httptest.NewServer(s)
	t.Cleanup(api.Close)
	t.Setenv("PULLS_TOKEN", "canary-pulls")
	c = config{Fleet: "lab", Domain: "lab.example", Configs: &configsConfig{
		Repository: repo, Cache: filepath.Join(dir, "cache"),
		PullRequest: &pullRequestConfig{Repository: "vmst/config", Token: &secretConfig{Env: "PULLS_TOKEN"}, API: api.URL + "/"},
	}}
	return c, repo, git, s
}

// aProposer is the way to pull requests of a configuration, as a run has it.
func aProposer(t *testing.T, c config) (*stages.Configuration, *pullRequests) {
	t.Helper()
	x := &session{config: c, say: t.Logf}
	if err := x.wireConfigs("upgrade"); err != nil {
		t.Fatal(err)
	}
	p, ok := x.deps.Configs.Pulls.(*pullRequests)
	if !ok {
		t.Fatalf("commits are not proposed: %T", x.deps.Configs.Pulls)
	}
	return x.deps.Configs, p
}

func TestACommitIsProposedWatchedAndKnownAgainBySquashingIt(t *testing.T) {
	c, repo, git, s := aForge(t, githubtest.Token{Pulls: true})
	to, p := aProposer(t, c)
	if to.Merge != time.Hour {
		t.Errorf("waits %s", to.Merge)
	}
	base, err := to.Repo.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	commit, err := to.Repo.Commit(t.Context(), base, map[string][]byte{"rendered/kirk/etc/motd": []byte("hello\n")}, "lab: intend")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Push(t.Context(), commit, "refit/u-1"); err != nil {
		t.Fatal(err)
	}
	s.Trouble(githubtest.Trouble{Match: "/pulls", Cut: githubtest.CutBefore})
	if _, err := p.Open(t.Context(), "refit/u-1", "lab: intend", "x"); !errors.Is(err, github.ErrUnreachable) || strings.Contains(err.Error(), "canary") {
		t.Fatalf("a lost answer: %v", err)
	}
	_, other := aProposer(t, c) // another process, which knows nothing
	found, err := other.Find(t.Context(), "refit/u-1")
	if err != nil || found.State != github.PullOpen || found.Head != commit {
		t.Fatalf("%+v, %v", found, err)
	}
	if at, err := other.Head(t.Context(), "refit/u-1"); at != commit || err != nil {
		t.Errorf("%q, %v", at, err)
	}
	git("-C", "work", "fetch", "-q", "origin", "refit/u-1")
	git("-C", "work", "merge", "-q", "--squash", "FETCH_HEAD")
	git("-C", "work", "commit", "-q", "-m", "squashed (#1)")
	git("-C", "work", "push", "-q", "origin", "HEAD:main")
	git("-C", repo, "update-ref", "-d", "refs/heads/refit/u-1")
	s.Merge("vmst/config", 1, git("-C", repo, "rev-parse", "main"))
	is, err := p.Look(t.Context(), found)
	if err != nil || is.State != github.PullMerged || is.Merged == commit {
		t.Fatalf("%+v, %v", is, err)
	}
	if _, err := to.Repo.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	want, werr := p.Tree(commit)
	if got, err := p.Tree(is.Merged); got != want || err != nil || werr != nil {
		t.Errorf("%q is not %q: %v, %v", got, want, err, werr)
	}
}

func TestAClosedProposalSaysWhy(t *testing.T) {
	c, _, git, s := aForge(t, githubtest.Token{Pulls: true})
	git("-C", "work", "commit", "-q", "--allow-empty", "-m", "more")
	git("-C", "work", "push", "-q", "origin", "HEAD:refit/u-1")
	_, p := aProposer(t, c)
	made, err := p.Open(t.Context(), "refit/u-1", "lab: intend", "x")
	if err != nil {
		t.Fatal(err)
	}
	if is, err := p.Close(t.Context(), made.Number, "taken back"); err != nil || is.State != github.PullClosed || s.Pulls("vmst/config")[0].Body != "taken back" {
		t.Errorf("%+v, %v", is, err)
	}
}

func TestWhetherATokenMayOpenPullRequestsIsAskedWithoutOne(t *testing.T) {
	for may, want := range map[githubtest.Token]error{{Pulls: true}: nil, {Push: true}: github.ErrDenied} {
		c, _, _, s := aForge(t, may)
		_, p := aProposer(t, c)
		if err := p.mayOpen(t.Context()); !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("%+v: %v", may, err)
		}
		if n := len(s.Pulls("vmst/config")); n != 0 {
			t.Errorf("%d pull requests were opened", n)
		}
	}
}

func TestWithoutTheirTokenPullRequestsAreNotOpenedAndTheReasonIsSaid(t *testing.T) {
	c, _, _, _ := aForge(t, githubtest.Token{Pulls: true})
	t.Setenv("PULLS_TOKEN", "")
	_, p := aProposer(t, c)
	if _, err := p.Find(t.Context(), "refit/u-1"); err == nil || !strings.Contains(err.Error(), "the environment has no PULLS_TOKEN") {
		t.Error(err)
	}
}
