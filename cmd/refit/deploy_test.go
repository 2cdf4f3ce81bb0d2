package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vmst.io/refit/hosts/github/githubtest"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/pipeline/report"
)

// deploying is a session whose refit.yml names a config repository, and that repository's
// GitHub; lose makes it lose the answer of the next write, after it was done.
func deploying(t *testing.T) (x *session, s *githubtest.Server, lose *atomic.Int32) {
	t.Helper()
	for _, name := range []string{"GITHUB_REPOSITORY", "GITHUB_SHA", "GITHUB_RUN_ID", "GITHUB_SERVER_URL"} {
		t.Setenv(name, "")
	}
	t.Setenv("REFIT_TEST_DEPLOYMENTS", "c4nary-t0ken")
	s, lose = githubtest.New(githubtest.Options{Fail: t.Error, Tokens: map[string]githubtest.Token{"c4nary-t0ken": {Push: true}}}), &atomic.Int32{}
	s.AddRepo("vmstan/refit-config")
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && lose.Add(-1) >= 0 {
			s.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(api.Close)
	c := config{Fleet: "vmst.io", Domain: "vmst.io", GitHub: &gitHubConfig{Deployments: "vmstan/refit-config", Environment: "production", Token: &secretConfig{Env: "REFIT_TEST_DEPLOYMENTS"}, API: api.URL + "/"}}
	return &session{config: c}, s, lose
}

var aRun = report.Run{ID: run1, Fleet: "vmst.io", Kind: "upgrade", From: "v4.5.1", To: "v4.5.2"}

func TestARunIsADeploymentOfTheConfigRepository(t *testing.T) {
	x, s, _ := deploying(t)
	tellers := x.tellers(run1)
	tellers.begin(aRun)
	watch := tellers.watched()
	watch.Observe(pipeline.Event{Kind: pipeline.RunStarted, Time: time.Now(), Text: "upgrade"})
	watch.Observe(pipeline.Event{Kind: pipeline.RunEnded, Time: time.Now(), Text: string(pipeline.Undone), Err: "kirk: c4nary-t0ken postgres://a:hunter2@b/c"})
	if said := tellers.close(t.Context()); len(said) != 0 {
		t.Fatal(said)
	}
	list := s.Deployments("vmstan/refit-config")
	if len(list) != 1 || list[0].Task != "refit:"+run1 || list[0].Ref != "main" || list[0].Description != "upgrade of vmst.io, v4.5.1 → v4.5.2" {
		t.Fatalf("%+v", list)
	}
	last := list[0].Statuses[0]
	if last.State != "failure" || last.EnvironmentURL != "https://vmst.io/" || strings.Contains(last.Description, "hunter2") || strings.Contains(last.Description, "c4nary") {
		t.Errorf("%+v", last)
	}
}

func TestAnAnswerThatIsLostMakesNeitherASecondDeploymentNorASecondStatus(t *testing.T) {
	x, s, lose := deploying(t)
	d, known, err := x.config.deployer()
	if err != nil || known != "" {
		t.Fatal(known, err)
	}
	for range 4 {
		lose.Store(1)
		if err := d.Deploy(t.Context(), aRun, report.DeployInProgress, "roll"); err == nil {
			break // nothing was left to write
		}
	}
	lose.Store(0)
	for range 3 { // and the next process tells the same
		if err := d.Deploy(t.Context(), aRun, report.DeployInProgress, "roll"); err != nil {
			t.Fatal(err)
		}
	}
	list := s.Deployments("vmstan/refit-config")
	if len(list) != 1 || len(list[0].Statuses) != 1 {
		t.Errorf("%+v", list)
	}
}

func TestInAJobOfThatRepositoryTheDeploymentNamesItsCommitAndItsLog(t *testing.T) {
	x, _, _ := deploying(t)
	t.Setenv("GITHUB_SHA", githubtest.Hash("commit"))
	t.Setenv("GITHUB_RUN_ID", "4711")
	for repo, want := range map[string]string{
		"VMstan/refit-config": githubtest.Hash("commit") + " https://github.com/VMstan/refit-config/actions/runs/4711", "another/one": "main ",
	} {
		t.Setenv("GITHUB_REPOSITORY", repo)
		d, _, err := x.config.deployer()
		if err != nil || d.ref+" "+d.log != want {
			t.Errorf("%s: %q, %v", repo, d.ref+" "+d.log, err)
		}
	}
}

func TestWithoutATokenNothingIsDeployedAndThatIsSaid(t *testing.T) {
	x, _, _ := deploying(t)
	x.config.GitHub.Token = nil
	if tellers := x.tellers(run1); len(tellers.list) != 0 || len(tellers.said) != 0 {
		t.Errorf("%+v", tellers)
	}
	if said := x.cannotTell(t.Context()); len(said) != 1 || !strings.Contains(said[0], "names no github.token") {
		t.Errorf("%q", said)
	}
	x.config.GitHub.Token = &secretConfig{Env: "REFIT_NO_SUCH_TOKEN"}
	if said := x.tellers(run1).said; len(said) != 1 || !strings.Contains(said[0], "REFIT_NO_SUCH_TOKEN") {
		t.Errorf("%q", said)
	}
}
