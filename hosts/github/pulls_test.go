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

// proposes is a simulated GitHub with branches, and clients that may open pull requests
// there and that may not.
func proposes(t *testing.T) (s *githubtest.Server, branches map[string]string, may, mayNot *github.Client) {
	t.Helper()
	s = githubtest.New(githubtest.Options{Fail: t.Error, Tokens: map[string]githubtest.Token{"proposer": {Pulls: true}, "pusher": {Push: true}}})
	s.AddRepo(ours.String())
	branches = map[string]string{"main": githubtest.Hash("main"), "refit/run-1": githubtest.Hash("run-1"), "refit/run-10": githubtest.Hash("run-10")}
	s.Branches(ours.String(), func(branch string) string { return branches[branch] })
	api := httptest.NewServer(s)
	t.Cleanup(api.Close)
	client := func(token string) *github.Client {
		c, err := github.New(github.Options{Token: token, BaseURL: api.URL + "/", Answer: 5 * time.Second, Patience: time.Nanosecond})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	return s, branches, client("proposer"), client("pusher")
}

var proposal = github.Proposal{Branch: "refit/run-1", Base: "main", Title: "vmst: intend v4.6.5", Body: "what hosts are to be"}

func TestAPullRequestIsOpenedFoundAgainAndSeenMerged(t *testing.T) {
	s, branches, c, _ := proposes(t)
	if p, err := c.FindPull(t.Context(), ours, proposal.Branch, "main"); p != (github.Pull{}) || err != nil {
		t.Fatalf("before it was opened: %+v, %v", p, err)
	}
	made, err := c.OpenPull(t.Context(), ours, proposal)
	if err != nil || made.State != github.PullOpen || made.Head != branches["refit/run-1"] || made.URL != "https://github.com/vmstan/refit-config/pull/1" || made.Merged != "" {
		t.Fatalf("%+v, %v", made, err)
	}
	other := proposal
	other.Branch = "refit/run-10"
	if _, err := c.OpenPull(t.Context(), ours, other); err != nil {
		t.Fatal(err)
	}
	for branch, want := range map[string]int{"refit/run-1": 1, "refit/run-10": 2, "refit/run": 0, "main": 0} {
		if p, err := c.FindPull(t.Context(), ours, branch, "main"); p.Number != want || err != nil {
			t.Errorf("%s: %+v, %v", branch, p, err)
		}
	}
	if p, err := c.FindPull(t.Context(), ours, proposal.Branch, "elsewhere"); p.Number != 0 || err != nil {
		t.Errorf("to another branch: %+v, %v", p, err)
	}
	is, err := c.LookAtPull(t.Context(), ours, made)
	if err != nil || is.State != github.PullOpen || is.ETag == "" {
		t.Fatalf("%+v, %v", is, err)
	}
	if again, err := c.LookAtPull(t.Context(), ours, is); again != is || err != nil || s.Count("proposer").NotModified != 1 {
		t.Errorf("the second look: %+v, %v, %+v", again, err, s.Count("proposer"))
	}
	branches["refit/run-1"] = githubtest.Hash("somebody's")
	if moved, err := c.LookAtPull(t.Context(), ours, is); moved.Head != githubtest.Hash("somebody's") || err != nil {
		t.Errorf("somebody pushed to it: %+v, %v", moved, err)
	}
	s.Merge(ours.String(), 1, githubtest.Hash("the merge"))
	for name, look := range map[string]func() (github.Pull, error){
		"looked at": func() (github.Pull, error) { return c.LookAtPull(t.Context(), ours, is) },
		"found":     func() (github.Pull, error) { return c.FindPull(t.Context(), ours, proposal.Branch, "main") },
		"closed too late": func() (github.Pull, error) {
			return c.ClosePull(t.Context(), ours, 1, "no more wanted")
		},
	} {
		if p, err := look(); p.State != github.PullMerged || p.Merged != githubtest.Hash("the merge") || err != nil {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

func TestAPullRequestIsClosedWithItsReasonAndAsOftenAsOneLikes(t *testing.T) {
	s, _, c, _ := proposes(t)
	made, err := c.OpenPull(t.Context(), ours, proposal)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if p, err := c.ClosePull(t.Context(), ours, made.Number, "the run was taken back"); p.State != github.PullClosed || p.Merged != "" || err != nil {
			t.Fatalf("%+v, %v", p, err)
		}
	}
	if list := s.Pulls(ours.String()); len(list) != 1 || !list[0].Closed || list[0].Body != "the run was taken back" {
		t.Errorf("%+v", list)
	}
	if p, err := c.FindPull(t.Context(), ours, proposal.Branch, "main"); p.State != github.PullClosed || err != nil {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestWhatGitHubRefusesOfAPullRequestIsSaidInItsWordsAndSentOnce(t *testing.T) {
	s, branches, may, mayNot := proposes(t)
	if _, err := mayNot.OpenPull(t.Context(), ours, proposal); !errors.Is(err, github.ErrDenied) || !strings.Contains(err.Error(), "Resource not accessible") {
		t.Errorf("who may not: %v", err)
	}
	for words, p := range map[string]github.Proposal{
		"head invalid":                     {Branch: "refit/nothing", Base: "main", Title: "x"},
		"base invalid":                     {Branch: "refit/run-1", Base: "nowhere", Title: "x"},
		"No commits between main and main": {Branch: "main", Base: "main", Title: "x"},
		"title missing_field":              {Branch: "refit/run-1", Base: "main"},
	} {
		if _, err := may.OpenPull(t.Context(), ours, p); !errors.Is(err, github.ErrRefused) || !strings.Contains(err.Error(), words) {
			t.Errorf("%+v: %v", p, err)
		}
	}
	// The answer is lost: it was opened, and that is seen, not opened again.
	s.Trouble(githubtest.Trouble{Match: "/pulls", Cut: githubtest.CutBefore})
	if _, err := may.OpenPull(t.Context(), ours, proposal); !errors.Is(err, github.ErrUnreachable) {
		t.Errorf("a lost answer: %v", err)
	}
	if p, err := may.FindPull(t.Context(), ours, proposal.Branch, "main"); p.Number != 1 || err != nil {
		t.Errorf("after the lost answer: %+v, %v", p, err)
	}
	if _, err := may.OpenPull(t.Context(), ours, proposal); !errors.Is(err, github.ErrRefused) || !strings.Contains(err.Error(), "already exists") {
		t.Errorf("twice: %v", err)
	}
	s.Trouble(githubtest.Trouble{Match: "/pulls", Status: 502})
	other := proposal
	other.Branch = "refit/run-10"
	if _, err := may.OpenPull(t.Context(), ours, other); !errors.Is(err, github.ErrUnreachable) {
		t.Errorf("a 502: %v", err)
	}
	if n := len(s.Pulls(ours.String())); n != 1 {
		t.Errorf("%d pull requests", n)
	}
	if _, err := may.LookAtPull(t.Context(), ours, github.Pull{Number: 4711}); !errors.Is(err, github.ErrNotFound) {
		t.Errorf("one that is not there: %v", err)
	}
	if len(branches) != 3 {
		t.Error("the test lost its branches")
	}
}

func TestAnAnswerThatIsNoPullRequestIsNotTakenForOne(t *testing.T) {
	s, _, c, _ := proposes(t)
	hash := githubtest.Hash("x")
	head := `"head":{"ref":"refit/run-1","sha":"` + hash + `"},"base":{"ref":"main"}`
	for name, body := range map[string]string{
		"another number":             `{"number":2,"state":"open",` + head + `}`,
		"no state":                   `{"number":1,` + head + `}`,
		"merged without a commit":    `{"number":1,"state":"closed","merged_at":"2026-11-24T00:00:00Z",` + head + `}`,
		"merged, and its commit bad": `{"number":1,"state":"closed","merged_at":"2026-11-24T00:00:00Z","merge_commit_sha":"main",` + head + `}`,
		"no commit":                  `{"number":1,"state":"open","head":{"ref":"refit/run-1"},"base":{"ref":"main"}}`,
		"a list":                     `[]`,
	} {
		s.Trouble(githubtest.Trouble{Status: 200, Body: body, Header: map[string][]string{"Content-Type": {"application/json"}}})
		if p, err := c.LookAtPull(t.Context(), ours, github.Pull{Number: 1}); !errors.Is(err, github.ErrAnswer) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}
