package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

// watching is a small made-up fleet, with a real keeper, as the watcher sees it.
func watching(t *testing.T) (crowd, *watchedFleet) {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	m := manyHosts(t, 50)
	return m, &watchedFleet{path: m.config, dial: m.Dial, s: streams{in: strings.NewReader(""), out: io.Discard, err: io.Discard}}
}

func TestTheWatcherSeesWhatTheFleetRunsOrThatItCannot(t *testing.T) {
	m, f := watching(t)
	if v, err := f.Running(t.Context()); err != nil || v.String() != "v4.5.2" {
		t.Fatalf("%s, %v", v, err)
	}
	answer := m.Instead
	var n atomic.Int64
	m.Server.Instead = func(line string, in io.Reader, out io.Writer) error {
		if !strings.Contains(line, "facts") || n.Add(1)%2 == 0 {
			return answer(line, in, out)
		}
		machine := node.Machine{State: t.TempDir()}
		one := node.Verb{Name: "facts", Run: node.Typed(func(context.Context, node.FactsIn, io.Reader, func(string)) (node.Facts, error) {
			return node.Facts{Live: "v4.5.1"}, nil
		})}
		words := strings.Fields(strings.ReplaceAll(line, "'", ""))
		return machine.Serve(context.Background(), []node.Verb{one}, words[3:], in, struct{ io.Writer }{out})
	}
	if _, err := f.Running(t.Context()); err == nil || !strings.Contains(err.Error(), "do not run one release") {
		t.Errorf("two releases: %v", err)
	}
	m.Server.Instead = func(string, io.Reader, io.Writer) error { return io.ErrUnexpectedEOF }
	if _, err := f.Running(t.Context()); err == nil || !strings.Contains(err.Error(), "what it runs is not known") {
		t.Errorf("no answer: %v", err)
	}
}

func TestAnApprovalIsFoundWithTheKeeperByTheWatcher(t *testing.T) {
	m, f := watching(t)
	const plan = "0123456789abcdef"
	if a, err := f.Approval(t.Context(), plan); a != nil || err != nil {
		t.Fatalf("before it was given: %+v, %v", a, err)
	}
	x := m.session(t)
	given, err := x.keeper.Approve(t.Context(), plan, "ana@bridge", time.Hour, true)
	if err != nil {
		t.Fatal(err)
	}
	a, err := f.Approval(t.Context(), plan)
	if err != nil || a == nil || a.By != "ana@bridge" || !a.AtOnce || !a.Until.Equal(given.Until) || a.Hash != plan {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := x.keeper.UseApproval(t.Context(), plan, "run-1"); err != nil {
		t.Fatal(err)
	}
	if a, err := f.Approval(t.Context(), plan); err != nil || a == nil || a.Over != "run run-1 used up what ana@bridge gave" {
		t.Errorf("after its use: %+v, %v", a, err)
	}
	if err := x.Close(); err != nil {
		t.Error(err)
	}
	m.Server.Instead = func(string, io.Reader, io.Writer) error { return io.ErrUnexpectedEOF }
	if a, err := f.Approval(t.Context(), plan); a != nil || err == nil {
		t.Errorf("a keeper that does not answer: %+v, %v", a, err)
	}
}

func TestHowARunStandsIsReadFromItsJournal(t *testing.T) {
	m, f := watching(t)
	x := m.session(t)
	x.keeper.Above = nil // these hosts have no fences
	epoch, _, err := x.keeper.Acquire(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	for i, test := range []struct {
		outcome pipeline.Status
		want    string // half way, done, untouched, later
	}{
		{"", "true false false true"},
		{pipeline.Stopped, "true false false true"},
		{pipeline.Interrupted, "true false false true"},
		{pipeline.Done, "false true false false"},
		{pipeline.Refused, "false false true false"},
		{pipeline.Undone, "false false false false"},
		{pipeline.Person, "false false false false"},
		{pipeline.LostLock, "false false false false"},
	} {
		id := fmt.Sprint("run-", i)
		p := pipeline.Plan{ID: id, Kind: "upgrade", From: "v4.5.1", To: "v4.5.2", Steps: []pipeline.Step{{Stage: timed{"build"}}}}
		j := pipeline.NewJournal(p, x.keeper, epoch, time.Now())
		j.Marks["build"] = pipeline.Mark{State: pipeline.Doing, Started: time.Now()}
		j.Outcome, j.Cause, j.CauseStep = test.outcome, "no disk\nat all", "build"
		b, err := json.Marshal(j)
		if err == nil {
			err = x.keeper.Save(t.Context(), id, epoch, 1, b)
		}
		if err != nil {
			t.Fatal(err)
		}
		at, _, err := x.stands(t.Context(), id)
		if got := fmt.Sprint(at.HalfWay, at.Outcome.Done, at.Outcome.Untouched, at.Outcome.Later); err != nil || got != test.want {
			t.Errorf("%q: %s, %v", test.outcome, got, err)
		}
		if test.outcome == pipeline.Undone && at.Outcome.Text != "undone: build: no disk" {
			t.Errorf("%q: %q", test.outcome, at.Outcome.Text)
		}
	}
	if at, _, err := x.stands(t.Context(), "run-99"); err != nil || !at.Outcome.Untouched {
		t.Errorf("a run without a journal: %+v, %v", at, err)
	}
	// While the lease is held somebody is at work, and nothing is judged.
	var held *keeper.HeldError
	if _, err := f.Stands(t.Context(), "run-0"); !errors.As(err, &held) {
		t.Errorf("under another's lease: %v", err)
	}
	if err := errors.Join(x.keeper.Release(t.Context()), x.Close()); err != nil {
		t.Fatal(err)
	}
	if at, err := f.Stands(t.Context(), "run-0"); err != nil || !at.HalfWay {
		t.Errorf("once it was given back: %+v, %v", at, err)
	}
	// Others have begun since, which they could not while it needed anything.
	if o := f.Resume(t.Context(), nil, "run-0"); o.Done || o.Untouched || o.Later || o.Text != "it was given up: run run-7 has begun since" {
		t.Errorf("gone on with: %+v", o)
	}
}

func TestTheWatcherSwitchesOnWhatAKilledRunLeftOff(t *testing.T) {
	m, f := watching(t)
	x := m.session(t)
	x.keeper.Above = nil // these hosts have no fences
	epoch, _, err := x.keeper.Acquire(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	facts := &stages.Facts{Snapshots: []stages.Kept{{Tier: "web", Host: x.deps.Fleet.Apps()[0].Name, Droplet: 7, Off: true, Down: true}}}
	for _, n := range x.deps.Fleet.Apps() {
		facts.Web = append(facts.Web, n.Name)
	}
	p := pipeline.Plan{ID: "run-1", Kind: "upgrade", From: "v4.5.1", To: "v4.5.2", Steps: []pipeline.Step{{Stage: timed{"build"}}}}
	j := pipeline.NewJournal(p, x.keeper, epoch, time.Now())
	j.Marks["build"] = pipeline.Mark{State: pipeline.Doing, Started: time.Now()}
	j.Facts, err = json.Marshal(facts)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(j)
	if err == nil {
		err = x.keeper.Save(t.Context(), "run-1", epoch, 1, b)
	}
	if err := errors.Join(err, x.keeper.Release(t.Context()), x.Close()); err != nil {
		t.Fatal(err)
	}
	if o := f.Resume(t.Context(), nil, "run-1"); !strings.Contains(o.Text, "was switched off by the run") {
		t.Errorf("%+v", o)
	}
}

func TestNothingIsDoneByAConfigurationThatHasChanged(t *testing.T) {
	m, f := watching(t)
	conf, err := loadConfig(m.config)
	if err != nil {
		t.Fatal(err)
	}
	f.config = &conf
	if _, err := f.Running(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(m.config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, m.config, string(b)+"policy: {patch: notify}\n")
	v, err := builds.ParseVersion("v4.5.3")
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"what runs": second(f.Running(t.Context())), "a plan": second(f.Plan(t.Context(), v)),
		"an approval": second(f.Approval(t.Context(), "0123456789abcdef")), "how a run stands": second(f.Stands(t.Context(), "run-1")),
	} {
		if err == nil || !strings.Contains(err.Error(), "has changed: nothing is done") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if o := f.Resume(t.Context(), nil, "run-1"); !o.Untouched || !strings.Contains(o.Text, "has changed") {
		t.Errorf("a resume: %+v", o)
	}
}
