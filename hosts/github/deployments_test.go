package github_test

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/github"
	"vmst.io/refit/hosts/github/githubtest"
)

var ours = github.Repo{Owner: "vmstan", Name: "refit-config"}

// deploys is a simulated GitHub with a config repository, and clients that may push there
// and that may not.
func deploys(t *testing.T) (s *githubtest.Server, may, mayNot *github.Client) {
	t.Helper()
	s = githubtest.New(githubtest.Options{Fail: t.Error, Tokens: map[string]githubtest.Token{"pusher": {Push: true}, "reader": {}}})
	s.AddRepo(ours.String())
	api := httptest.NewServer(s)
	t.Cleanup(api.Close)
	client := func(token string) *github.Client {
		c, err := github.New(github.Options{Token: token, BaseURL: api.URL + "/", Answer: 5 * time.Second, Patience: time.Nanosecond})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	return s, client("pusher"), client("reader")
}

func TestADeploymentIsMadeFoundAgainAndGetsItsStatuses(t *testing.T) {
	s, c, _ := deploys(t)
	d := github.Deployment{Ref: "main", Task: "refit:run-1", Environment: "production", Description: strings.Repeat("ü", 200)}
	if id, err := c.FindDeployment(t.Context(), ours, d.Environment, d.Task); id != 0 || err != nil {
		t.Fatalf("before it was made: %d, %v", id, err)
	}
	id, err := c.CreateDeployment(t.Context(), ours, d)
	if err != nil {
		t.Fatal(err)
	}
	for task, want := range map[string]int64{"refit:run-1": id, "refit:run-2": 0, "refit:run": 0} {
		if got, err := c.FindDeployment(t.Context(), ours, d.Environment, task); got != want || err != nil {
			t.Errorf("%s: %d, %v", task, got, err)
		}
	}
	if is, err := c.DeploymentStatus(t.Context(), ours, id); is.State != "" || err != nil {
		t.Errorf("without a status: %+v, %v", is, err)
	}
	for _, state := range []github.DeploymentState{github.DeploymentQueued, github.DeploymentInProgress, github.DeploymentSuccess} {
		want := github.DeploymentStatus{State: state, Description: "says " + string(state), LogURL: "https://log.test/", EnvironmentURL: "https://vmst.io/"}
		if err := c.SetDeploymentStatus(t.Context(), ours, id, want); err != nil {
			t.Fatal(err)
		}
		if is, err := c.DeploymentStatus(t.Context(), ours, id); is != want || err != nil {
			t.Errorf("%+v, %v", is, err)
		}
	}
	list := s.Deployments(ours.String())
	if len(list) != 1 || len(list[0].Statuses) != 3 || len([]rune(list[0].Description)) != 140 {
		t.Errorf("%+v", list)
	}
}

func TestWhatGitHubRefusesOfADeploymentIsSaidAndSentOnce(t *testing.T) {
	s, may, mayNot := deploys(t)
	d := github.Deployment{Ref: "main", Task: "refit:run-1", Environment: "production"}
	if _, err := mayNot.CreateDeployment(t.Context(), ours, d); !errors.Is(err, github.ErrNotFound) {
		t.Errorf("who may not push: %v", err)
	}
	s.Trouble(githubtest.Trouble{Status: 502})
	if _, err := may.CreateDeployment(t.Context(), ours, d); !errors.Is(err, github.ErrUnreachable) {
		t.Errorf("a 502: %v", err)
	}
	if n := len(s.Deployments(ours.String())); n != 0 {
		t.Errorf("%d deployments: it was sent again by itself", n)
	}
	if err := may.SetDeploymentStatus(t.Context(), ours, 4711, github.DeploymentStatus{State: github.DeploymentQueued}); !errors.Is(err, github.ErrNotFound) {
		t.Errorf("a deployment that is not there: %v", err)
	}
}
