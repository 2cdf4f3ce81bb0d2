package main

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/pipeline"
)

// timed is a stage that takes its time by a clock of the test's.
type timed struct{ name string }

func (s timed) Name() string                            { return s.name }
func (timed) Check(context.Context, pipeline.Say) error { return nil }
func (timed) Run(context.Context, pipeline.Say) error   { return nil }
func (timed) Undo(context.Context, pipeline.Say) error  { return nil }

// ran keeps the journal of a run whose step took so long.
func ran(t *testing.T, d *keeper.Dir, id string, took time.Duration, how pipeline.Status) {
	t.Helper()
	p := pipeline.Plan{ID: id, Kind: "upgrade", From: "v4.5.14", To: "v4.5.15", Steps: []pipeline.Step{{Stage: timed{"build"}}}}
	at := time.Date(2026, 8, 6, 12, 0, 0, 0, time.UTC)
	j := pipeline.NewJournal(p, d, 1, at)
	j.Marks["build"] = pipeline.Mark{State: pipeline.Finish, Started: at, Ended: at.Add(took)}
	j.Outcome = how
	b, err := json.Marshal(j)
	if err == nil {
		err = d.Save(t.Context(), id, 1, 1, b)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAPlanSaysHowLongItsStepsUsuallyTake(t *testing.T) {
	d := &keeper.Dir{Path: t.TempDir()}
	for i, took := range []time.Duration{10 * time.Minute, 90 * time.Second, 80 * time.Second} {
		ran(t, d, []string{"run-1", "run-2", "run-3"}[i], took, pipeline.Done)
	}
	ran(t, d, "run-4", time.Second, pipeline.Undone)
	p := pipeline.Plan{Kind: "upgrade", Steps: []pipeline.Step{{Stage: timed{"build"}}, {Stage: timed{"place"}}}}
	if runs := expect(t.Context(), d, &p); runs != 3 || p.Steps[0].Expect != 90*time.Second || p.Steps[1].Expect != 0 {
		t.Errorf("%d runs: %s, %s", runs, p.Steps[0].Expect, p.Steps[1].Expect)
	}
	if runs := expect(t.Context(), noShelf{}, &p); runs != 0 {
		t.Errorf("%d runs of nowhere", runs)
	}
}

type noShelf struct{ keeper.Shelf }

func (noShelf) List(context.Context) ([]keeper.Entry, error) { return nil, errors.New("no disk") }
