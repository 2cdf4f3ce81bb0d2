package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/keeper"
)

func TestAConfigurationThatHasChangedIsReadAnewOnceAWatcherCanBeMadeFromIt(t *testing.T) {
	f := followed(t, "")
	conf, err := loadConfig(f.config)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.config)
	if err != nil {
		t.Fatal(err)
	}
	was := string(b)
	for name, test := range map[string]struct {
		text string
		want bool
	}{
		"as it was":        {was, false},
		"a comment":        {was + "# more\n", false},
		"another policy":   {strings.Replace(was, "patch: ask", "patch: notify", 1), true},
		"half a file":      {was + "notify: {", false},
		"a secret missing": {was + "notify: {slack: {channel: C0123456789, token: {env: REFIT_NO_SUCH_TOKEN}}}\n", false},
	} {
		write(t, f.config, test.text)
		if got := conf.changed(f.config); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAnApprovalReachesIntoTheNextWindow(t *testing.T) {
	c := defaults()
	c.Policy.Windows = []windowConfig{{Days: []string{"sat"}, From: "02:00", To: "05:00"}}
	now := time.Date(2026, 8, 4, 12, 0, 0, 0, time.UTC) // a Tuesday
	for name, test := range map[string]struct {
		asked  time.Duration
		atOnce bool
		life   time.Duration
		known  bool
	}{
		"nothing said":             {0, false, 88 * time.Hour, false}, // Saturday, 04:00
		"at once":                  {0, true, keeper.Lives, false},
		"long enough":              {96 * time.Hour, false, 96 * time.Hour, false},
		"not long enough":          {24 * time.Hour, false, 24 * time.Hour, true},
		"not long enough, at once": {24 * time.Hour, true, 24 * time.Hour, false},
	} {
		life, known, err := c.approvalLife(test.asked, test.atOnce, now)
		if err != nil || life != test.life || (known != "") != test.known {
			t.Errorf("%s: %s, %q, %v", name, life, known, err)
		}
	}
	c.Policy.Windows = nil
	if life, _, err := c.approvalLife(0, false, now); err != nil || life != keeper.Lives {
		t.Errorf("without windows: %s, %v", life, err)
	}
	if _, _, err := c.approvalLife(-time.Hour, false, now); err == nil {
		t.Error("a life that is over before it begins is taken")
	}
}

func TestWithoutATokenGitHubDoesNotAnswerAllThatIsAsked(t *testing.T) {
	c := defaults()
	if known := c.fewQuestions(); !strings.Contains(known, "watch.every to 6m0s or more") {
		t.Errorf("every %s: %q", c.Watch.Every, known)
	}
	c.Watch.Every = 6 * time.Minute
	if known := c.fewQuestions(); known != "" {
		t.Errorf("every %s: %q", c.Watch.Every, known)
	}
	c.Watch.Every, c.Upstream.Token = time.Minute, &secretConfig{Env: "GITHUB_TOKEN"}
	if known := c.fewQuestions(); known != "" {
		t.Errorf("with a token: %q", known)
	}
}

// What was told and what was seen are kept, and lost, together: a workflow keeps one folder.
func TestWhatSlackWasToldOfReleasesLiesWithWhatWasSeen(t *testing.T) {
	c := defaults()
	c.Fleet, c.Watch.State = "vmst.io", "/srv/watch"
	if at, err := c.toldReleases(); err != nil || at != "/srv/watch/slack-releases.json" {
		t.Errorf("%s, %v", at, err)
	}
}
