package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/pipeline/report"
	"vmst.io/refit/stages"
)

const (
	run1 = "20260101-100000-aaaaa"
	run2 = "20260102-100000-bbbbb"
	run3 = "20260103-100000-ccccc"
)

// askedOf runs history or show over a session, as the command line does.
func askedOf(t *testing.T, x *session, args ...string) (out string, err error) {
	t.Helper()
	var b bytes.Buffer
	s := streams{in: strings.NewReader(""), out: &b, err: io.Discard}
	app := newApp(s)
	for _, c := range app.Commands {
		switch c.Name {
		case "history":
			c.Action = func(c *cli.Context) error { return s.history(c, x) }
		case "show":
			c.Action = func(c *cli.Context) error { return s.show(c, x) }
		}
	}
	err = app.RunContext(t.Context(), append([]string{"refit"}, args...))
	return b.String(), err
}

// lived is a fleet whose keeper knows three runs: one done, one that failed, one at work.
func lived(t *testing.T) (crowd, *session) {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	m := manyHosts(t, 50)
	x := m.leased(t) // for run 2
	x.keepRun(t, run1, func(j *pipeline.Journal) {
		j.Hands[0].Approvals = []pipeline.Approval{{By: "ana", Key: "SHA256:abc", Given: j.Created}}
		facts, err := json.Marshal(&stages.Facts{Said: []string{"Ruby is overridden"}, Web: []string{"kirk", "spock"}, Sidekiq: []string{"scotty"}, SidekiqFirst: true})
		if err != nil {
			t.Fatal(err)
		}
		j.Facts = facts
	})
	x.keepRun(t, run3, func(j *pipeline.Journal) {
		j.Outcome, j.Cause, j.CauseStep, j.Direction = pipeline.Undone, "kirk: no answer\nand more", "roll web kirk", pipeline.Backward
		j.CauseProof = []pipeline.Proof{{From: "mastodon-web.service on kirk", Lines: []string{"\x1b[31mit broke"}}}
		j.Marks["roll web kirk"] = pipeline.Mark{State: pipeline.Back, UndoStarted: j.Created, UndoEnded: j.Created.Add(3 * time.Second), Error: "no answer"}
	})
	x.keepRun(t, run2, func(j *pipeline.Journal) { j.Outcome = "" })
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return m, x
}

func says(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in\n%s", w, text)
		}
	}
}

// fields are a line's words, so that the widths of columns do not matter.
func fields(text, beginning string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, beginning) {
			return strings.Join(strings.Fields(line), " ")
		}
	}
	return ""
}

func TestTheHistorySaysWhenWhatByWhomAndHowEachRunEndedAlsoWhileOneIsAtWork(t *testing.T) {
	m, x := lived(t)
	me := x.keeper.Me.User + " on " + x.keeper.Me.Host
	other := m.session(t) // who holds no lease
	defer closing(other, streams{err: io.Discard})
	out, err := askedOf(t, other, "history")
	if err != nil {
		t.Fatal(err)
	}
	for run, want := range map[string]string{
		run1: run1 + " 2026-01-01 10:00:00 upgrade v4.5.1 → v4.5.2 " + me + ", approved by ana done 1:30 min",
		run2: run2 + " 2026-01-01 10:00:00 upgrade v4.5.1 → v4.5.2 " + me + " at work 1:30 min",
		run3: run3 + " 2026-01-01 10:00:00 upgrade v4.5.1 → v4.5.2 " + me + " failed, taken back 1:30 min",
	} {
		if got := fields(out, run); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	says(t, out, run3+": kirk: no answer")
	if strings.Index(out, run3) > strings.Index(out, run1) {
		t.Error("the newest is not the first")
	}
	data, err := askedOf(t, other, "history", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Schema string
		Runs   []report.Past
	}
	if err := json.Unmarshal([]byte(data), &got); err != nil || got.Schema != historySchema || len(got.Runs) != 3 || !got.Runs[1].AtWork || got.Runs[2].ApprovedBy[0] != "ana" {
		t.Errorf("%v: %s", err, data)
	}
	// Nobody's lease was touched.
	if taken, err := x.keeper.Renew(t.Context(), "roll"); taken || err != nil {
		t.Errorf("the run at work lost its lease: %v", err)
	}
}

func TestARunIsShownStepByStepWithWhatWasDecidedAndWhy(t *testing.T) {
	_, x := lived(t)
	out, err := askedOf(t, x, "show", run1)
	if err != nil {
		t.Fatal(err)
	}
	says(t, out, "run "+run1+": upgrade v4.5.1 → v4.5.2, done", "upgrade --to v4.5.2", "approved by ana", "SHA256:abc", "sidekiq is rolled first, in the order scotty, kirk, spock", "warnings:\nRuby is overridden")
	if got := fields(out, "build"); got != "build done 1:30 min from source" {
		t.Errorf("%q", got)
	}
	if got := fields(out, "roll web kirk"); got != "roll web kirk not begun" {
		t.Errorf("%q", got)
	}
	out, err = askedOf(t, x, "show", "ccccc") // what only one ends with
	if err != nil {
		t.Fatal(err)
	}
	says(t, out, "run "+run3, "failed, taken back", "ended at roll web kirk: kirk: no answer and more", "mastodon-web.service on kirk:", "back 3.0 s")
	if strings.Contains(out, "\x1b") {
		t.Error("a log line steers the terminal")
	}
	out, err = askedOf(t, x, "show", "--json", run1)
	var got shownRun
	if jerr := json.Unmarshal([]byte(out), &got); err != nil || jerr != nil || got.Schema != runSchema || got.Run != run1 || len(got.Steps) != 2 || got.Steps[0].Seconds != 90 || got.Steps[0].Why != "from source" || len(got.Hands) != 1 || got.Warnings[0] != "Ruby is overridden" {
		t.Errorf("%v, %v: %s", err, jerr, out)
	}
	if out, err := askedOf(t, x, "show"); err != nil || !strings.HasPrefix(out, "run "+run3) {
		t.Errorf("the newest: %v, %s", err, out)
	}
}

func TestARunThatNobodyKnowsOrThatIsNotNamedWellIsSaid(t *testing.T) {
	_, x := lived(t)
	for want, args := range map[string][]string{
		`no run "20200101" is known: ` + "`refit history`": {"show", "20200101"},
		`"2026" may be ` + run3:                            {"show", "2026"},
		"one run, after all flags":                         {"show", run1, "--json"},
		"takes no words":                                   {"history", run1},
	} {
		if _, err := askedOf(t, x, args...); err == nil || !strings.Contains(err.Error(), want) || exitCode(err) != exitUsage {
			t.Errorf("%v: %v (code %d)", args, err, exitCode(err))
		}
	}
}

func TestAJournalThatWasCutShortIsListedAndItsCopyIsShown(t *testing.T) {
	_, x := lived(t)
	dir, err := keeper.MirrorDir(x.config.Fleet)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x.keeper.Load(t.Context(), run1)
	if err != nil {
		t.Fatal(err)
	}
	var whole pipeline.Journal
	if err := json.Unmarshal(b, &whole); err != nil {
		t.Fatal(err)
	}
	// What the keeper has of both is cut short; of the first there is a copy here.
	for _, id := range []string{run1, run3} {
		b, err := x.keeper.Load(t.Context(), id)
		if err == nil {
			err = x.keeper.Save(t.Context(), id, x.keeper.Epoch(), 9, b[:len(b)/2])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	mirror(t, dir, &whole)
	out, err := askedOf(t, x, "history")
	if err != nil {
		t.Fatal(err)
	}
	says(t, out, run1+" is known by this machine's copy in "+dir+"; the keeper's cannot be read", run3+": cannot read the journal of run "+run3+": the journal is damaged")
	if got := fields(out, run3); !strings.HasSuffix(got, "its journal cannot be read") {
		t.Errorf("%q", got)
	}
	if out, err := askedOf(t, x, "show", run1); err != nil || !strings.Contains(out, "by this machine's copy in "+dir) || !strings.Contains(out, "1:30 min") {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := askedOf(t, x, "show", run3); exitCode(err) != exitPerson || !strings.Contains(err.Error(), "this machine has no copy that can") {
		t.Errorf("code %d: %v", exitCode(err), err)
	}
}

func TestOldRunsAreFoundWhereTheirJournalsWereMovedTo(t *testing.T) {
	_, x := lived(t)
	dir, err := keeper.MirrorDir(x.config.Fleet)
	if err != nil {
		t.Fatal(err)
	}
	for i, to := range []string{"archive/x.json", "before-the-move.json"} {
		j := halfDone()
		j.ID = []string{"20250101-100000-ddddd", "20250102-100000-eeeee"}[i]
		mirror(t, dir, j)
		if err := os.MkdirAll(filepath.Join(dir, "archive"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, j.ID+".json"), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	out, err := askedOf(t, x, "history")
	if err != nil {
		t.Fatal(err)
	}
	says(t, out, "20250101-100000-ddddd is known by this machine's copy in "+dir+", archive/x.json", "20250102-100000-eeeee is known by this machine's copy in "+dir+", before-the-move.json")
	if strings.Contains(out, "\nbefore-the-move  ") {
		t.Error("a renamed journal is listed under its file's name")
	}
	if out, err := askedOf(t, x, "show", "20250101"); err != nil || !strings.Contains(out, "broken off") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestAKeeperThatDoesNotAnswerIsNamedWithWhatToDoAndTheCopiesAreListed(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		code int
		want string
	}{
		"silent":           {hosts.ErrSilent, exitPerson, "bring keeper uhura back"},
		"unreachable":      {hosts.ErrUnreachable, exitPerson, "bring keeper uhura back"},
		"refusing our key": {hosts.ErrAuth, exitAuth, "uhura"},
	} {
		t.Run(name, func(t *testing.T) {
			x, dir := withoutItsKeeper(t, test.err)
			mirror(t, dir, halfDone())
			out, err := askedOf(t, x, "history")
			if exitCode(err) != test.code || !strings.Contains(err.Error(), test.want) {
				t.Errorf("code %d: %v", exitCode(err), err)
			}
			says(t, out, halfDone().ID, "broken off", "is known by this machine's copy in "+dir)
			out, err = askedOf(t, x, "show", halfDone().ID)
			if exitCode(err) != test.code || !strings.Contains(out, "roll web kirk") {
				t.Errorf("show: code %d: %v\n%s", exitCode(err), err, out)
			}
			if _, err := askedOf(t, x, "show", "20200101"); exitCode(err) != test.code || !strings.Contains(err.Error(), "uhura") {
				t.Errorf("an unknown run, which the keeper may know: code %d: %v", exitCode(err), err)
			}
			out, err = askedOf(t, x, "history", "--json")
			if exitCode(err) != test.code || !strings.Contains(out, `"keeper_error"`) {
				t.Errorf("as data: code %d: %s", exitCode(err), out)
			}
		})
	}
	x, _ := withoutItsKeeper(t, errors.Join(hosts.ErrUnreachable))
	if out, err := askedOf(t, x, "show"); err == nil || out != "" {
		t.Errorf("nothing is known at all: %v, %s", err, out)
	}
}
