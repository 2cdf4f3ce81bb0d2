package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

// rehearsalOn puts a rehearsal's journal on a shelf.
func rehearsalOn(t *testing.T, dir *keeper.Dir, id, from, to string, ended pipeline.Status, pre time.Duration) {
	t.Helper()
	f := &stages.Facts{Rehearsal: &stages.Rehearsal{Measured: stages.Measured{
		At: time.Date(2026, 11, 23, 22, 0, 0, 0, time.UTC), Pre: pre, Post: time.Minute, Size: 3 << 30,
		Migrations: []stages.Timed{{Version: "20251101000000", Name: "AddAColumn", Took: pre}, {Version: "20240101000000", Name: "LongApplied", Took: time.Hour}},
		Tables:     []mastodon.Table{{Name: "statuses", Rows: 1_234_567}},
	}}}
	p := pipeline.Plan{ID: id, Kind: stages.Rehearsing, From: from, To: to, Facts: f, Steps: []pipeline.Step{{Stage: bareStep("look")}}}
	j, err := pipeline.RestoreJournal(p, nil, nil, pipeline.Forward, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	j.Outcome = ended
	b, err := json.Marshal(j)
	if err == nil {
		err = dir.Save(t.Context(), id, 1, 1, b)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAPlanShowsWhatTheNewestRehearsalOfItsWayMeasured(t *testing.T) {
	dir := &keeper.Dir{Path: t.TempDir()}
	for i, c := range []struct {
		from, to string
		ended    pipeline.Status
		pre      time.Duration
	}{
		{"v4.5.14", "v4.5.15", pipeline.Done, time.Minute},
		{"v4.5.14", "v4.5.15", pipeline.Done, 7 * time.Minute},
		{"v4.5.14", "v4.5.15", pipeline.Undone, time.Hour},
		{"v4.5.13", "v4.5.15", pipeline.Done, time.Hour},
		{"v4.5.14", "v4.6.0", pipeline.Done, time.Hour},
	} {
		rehearsalOn(t, dir, fmt.Sprintf("2026112%d-100000-abcde", i), c.from, c.to, c.ended, c.pre)
	}
	m, err := measuredOn(t.Context(), dir, "v4.5.14", "v4.5.15")
	if err != nil || m == nil || m.Pre != 7*time.Minute {
		t.Fatalf("%+v, %v", m, err)
	}
	lines := rehearsed(m, &stages.Facts{Pre: []builds.Migration{{Version: "20251101000000"}}})
	text := strings.Join(lines, "\n")
	if len(lines) != 2 || !strings.Contains(text, "1,234,567 rows in statuses") || !strings.Contains(text, "2026-11-23 22:00 UTC") || !strings.Contains(text, "AddAColumn took 7m0s") {
		t.Errorf("%q", lines)
	}
	p := planned{Plan: pipeline.Plan{Steps: []pipeline.Step{{Stage: bareStep("pre-migrate")}, {Stage: bareStep("post-migrate")}, {Stage: bareStep("soak"), Expect: time.Second}}}, measured: m}
	p.timed(30 * time.Second)
	if got := []time.Duration{p.Steps[0].Expect, p.Steps[1].Expect, p.Steps[2].Expect}; got[0] != 7*time.Minute+30*time.Second || got[1] != time.Minute || got[2] != time.Second {
		t.Errorf("%v", got)
	}
}

func TestARehearsalThatIsOverIsNoRunToTakeBack(t *testing.T) {
	for ended, counts := range map[pipeline.Status]bool{pipeline.Done: false, pipeline.Undone: false, pipeline.Person: true, "": true} {
		j := &pipeline.Journal{Kind: stages.Rehearsing, Outcome: ended}
		if changesFleet(j) != counts {
			t.Errorf("%q: %v", ended, !counts)
		}
	}
}

// bareStep is a stage by its name alone.
type bareStep string

func (s bareStep) Name() string                            { return string(s) }
func (bareStep) Check(context.Context, pipeline.Say) error { return nil }
func (bareStep) Run(context.Context, pipeline.Say) error   { return nil }
func (bareStep) Undo(context.Context, pipeline.Say) error  { return nil }
