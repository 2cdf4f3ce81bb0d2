package configs_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/configs"
)

func entry() configs.Entry {
	at := time.Date(2026, 11, 24, 3, 1, 2, 0, time.FixedZone("x", 3600))
	return configs.Entry{
		Run: "20261124-a1", Deed: "upgrade", Fleet: "vmst.io", From: "v4.5.0", To: "v4.5.1", Commit: strings.Repeat("c", 40), Plan: "sha256:ab",
		By: []string{"ann", "bob"}, Started: at, Ended: at.Add(125 * time.Second), Outcome: "done", Why: "4.5.1 mends a hole.",
		Approvals: []configs.Approval{{By: "carol", Key: "SHA256:xyz", At: at, Where: "refit approve"}},
		Decisions: []string{"sidekiq first: a job class is added"},
		Steps:     []configs.Step{{Name: "roll web kirk", Started: at.Add(time.Minute), Took: 31500 * time.Millisecond, Outcome: "done", Note: "drained | 0 requests"}, {Name: "soak", Outcome: "not run"}},
	}
}

func TestAPageOfHistoryTellsTheRun(t *testing.T) {
	name, content := configs.History(entry())
	if name != "history/2026-11-24-0201-v4.5.1.md" {
		t.Errorf("it is named %s", name)
	}
	for _, want := range []string{
		"# upgrade to v4.5.1 from v4.5.0 of vmst.io: done\n", "| by | ann, bob |", "| took | 125.0 s |", "| began | 2026-11-24 02:01:02 UTC |", "| plan | `sha256:ab` |",
		"4.5.1 mends a hole.\n", "- carol, by refit approve, 2026-11-24 02:01:02 UTC, signed with `SHA256:xyz`\n", "- sidekiq first: a job class is added\n",
		"| roll web kirk | 02:02:02 | 31.5 s | done | drained \\| 0 requests |\n", "| soak |  |  | not run |  |\n",
	} {
		if !strings.Contains(string(content), want) {
			t.Errorf("it lacks %q:\n%s", want, content)
		}
	}
	if _, again := configs.History(entry()); !bytes.Equal(content, again) {
		t.Error("the second page differs")
	}
	if strings.Contains(string(content), "artifact") {
		t.Error("what is not known has a row")
	}
}

func TestWordsOfOthersMakeNoMarkup(t *testing.T) {
	e := entry()
	evil := "<img src=x> [a](http://x) ![b](https://y) @ann `c` **d**\n# e\n| f | \x1b[31m \u202e"
	e.Why, e.Outcome, e.Deed, e.By = evil, evil, evil, []string{evil}
	e.Decisions, e.Approvals = []string{evil}, []configs.Approval{{By: evil, Where: evil}}
	e.Steps = []configs.Step{{Name: evil, Note: evil, Outcome: evil}}
	e.To = "../../v1\n`x`"
	name, content := configs.History(e)
	if name != "history/2026-11-24-0201-v1-x.md" {
		t.Errorf("it is named %q", name)
	}
	for _, bad := range []string{"<img", "](http", "@ann", "\n# e", "\x1b", "\u202e", "://", " ![", " **d"} {
		if strings.Contains(strings.ReplaceAll(string(content), `\<`, ""), bad) {
			t.Errorf("%q stands in\n%s", bad, content)
		}
	}
	e = entry()
	e.Run = evil
	_, content = configs.History(e)
	for line := range strings.Lines(string(content)) {
		if strings.HasPrefix(line, "| run |") && (strings.Count(line, "`") != 2 || strings.Count(line, "|") != 3 || !strings.HasSuffix(line, "` |\n")) {
			t.Errorf("a run's name leaves its place: %s", line)
		}
	}
}
