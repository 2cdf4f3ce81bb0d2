package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

func rehearseCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "rehearse",
		Usage: "upgrade a copy of the fleet, on a copy of its database, to see how long the migrations take; then destroy the copy",
		Flags: []cli.Flag{configFlag(), toFlag(), yesFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			ctx, stop, done := trap(c.Context, s.notice)
			defer done()
			look, begin := untouched(ctx, stop)
			defer begin()
			command := "rehearse --to " + c.String("to")
			x, err := open(c.String("config"), newRun(), command, s.progress())
			if err != nil {
				return err
			}
			defer closing(x, s)
			if err := x.idle(look); err != nil {
				return err
			}
			if err := x.noneLeft(look); err != nil {
				return err
			}
			p, err := x.rehearsal(look, c.String("to"), s.progress())
			if errors.Is(err, stages.ErrNothingToDo) {
				return s.nothingToDo(c.String("to"), c.Bool("json"))
			}
			if err != nil {
				return err
			}
			if err := p.refusal(); err != nil {
				return err
			}
			if err := s.showRehearsal(p); err != nil {
				return err
			}
			if !c.Bool("yes") {
				if err := s.ask(look, fmt.Sprintf("Rehearse %s → %s on a copy of %s?", p.From, p.To, x.config.Fleet)); err != nil {
					return err
				}
			}
			return x.execute(ctx, s, execution{plan: p.Plan, facts: p.facts, stop: stop, json: c.Bool("json"), why: command})
		},
	}
}

// rehearsal surveys fleet and account for a rehearsal. It changes nothing.
func (x *session) rehearsal(ctx context.Context, to string, say pipeline.Say) (*planned, error) {
	version, err := builds.ParseVersion(to)
	if err != nil {
		return nil, exitWith(exitUsage, fmt.Errorf("--to %w", err))
	}
	f, _, refused, err := x.deps.Survey(ctx, x.request(version, false), say)
	if err != nil {
		return nil, surveyError(ctx, err)
	}
	p := &planned{facts: f, refused: refused}
	if f.From.Version.IsZero() {
		return p, interrupted(ctx)
	}
	more, err := x.deps.ConceiveCopy(ctx, x.keeper.Run, f, say)
	if err != nil {
		return nil, surveyError(ctx, err)
	}
	if p.refused = append(p.refused, more...); len(p.refused) == 0 {
		p.Plan = stages.Rehearse(x.keeper.Run, x.deps, f)
	}
	return p, interrupted(ctx)
}

func (s streams) showRehearsal(p *planned) error {
	t := tabwriter.NewWriter(s.err, 0, 0, 2, ' ', 0)
	for i, step := range p.Steps {
		fmt.Fprintf(t, "%2d\t%s\t%s\n", i+1, step.Name(), step.Why)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, line := range p.facts.Said {
		s.progress()("%s", line)
	}
	return nil
}

// rehearsalPlan is the plan of a rehearsal that is gone on with, or taken back.
func (x *session) rehearsalPlan(j *pipeline.Journal, f *stages.Facts) (pipeline.Plan, error) {
	switch {
	case f.Rehearsal == nil:
		return pipeline.Plan{}, exitWith(exitPerson, fmt.Errorf("the journal of run %s (%s) does not say what was copied", j.ID, j.Kind))
	case x.deps.Births == nil || x.deps.Rehearsals == nil:
		return pipeline.Plan{}, refuse("run %s is a rehearsal, and refit.yml has no cloud.born or cloud.database any more: put them back", j.ID)
	}
	if why := f.FitsCopy(x.deps.Fleet); why != "" {
		return pipeline.Plan{}, refuse("run %s (%s) cannot be gone on with: %s.\nPut refit.yml back as it was, then `refit resume` or `refit rollback`", j.ID, j.Kind, why)
	}
	return stages.Rehearse(j.ID, x.deps, f), nil
}

// fenced are the hosts of the fleet that a run may change, and on which earlier holders of
// the lease are shut out: of a rehearsal, which copies, the builders alone.
func (x *session) fenced(p pipeline.Plan) stages.Fleet {
	if p.Kind == stages.Rehearsing {
		return x.deps.Builders()
	}
	return x.deps.Fleet
}

// measured is what the newest rehearsal of that very way found out, by the copies of the
// journals on this machine; nil for none.
func (x *session) measured(ctx context.Context, from, to string) *stages.Measured {
	dir, err := keeper.MirrorDir(x.config.Fleet)
	if err != nil {
		return nil
	}
	m, err := measuredOn(ctx, &keeper.Dir{Path: dir}, from, to)
	if m == nil && ctx.Err() == nil {
		m, err = measuredOn(ctx, x.keeper, from, to)
	}
	if err != nil {
		x.say("whether the upgrade was rehearsed is not known: %v", err)
	}
	return m
}

// measuredOn looks through a shelf's journals, the newest first. One that cannot be read
// is passed over: others read it where it matters.
func measuredOn(ctx context.Context, shelf keeper.Shelf, from, to string) (*stages.Measured, error) {
	entries, err := shelf.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		j, err := pipeline.LoadJournal(ctx, shelf, e.ID)
		if err != nil || j.Kind != stages.Rehearsing || j.Outcome != pipeline.Done || j.From != from || j.To != to {
			continue
		}
		var f struct {
			Rehearsal *stages.Rehearsal `json:"rehearsal"`
		}
		if json.Unmarshal(j.Facts, &f) == nil && f.Rehearsal != nil && !f.Rehearsal.Measured.At.IsZero() {
			return &f.Rehearsal.Measured, nil
		}
	}
	return nil, nil
}

// rehearsed are the lines of a plan about its rehearsal.
func rehearsed(m *stages.Measured, f *stages.Facts) []string {
	if m == nil {
		return nil
	}
	lacks := map[string]bool{}
	for _, list := range [][]builds.Migration{f.Pre, f.Post} {
		for _, each := range list {
			lacks[each.Version] = true
		}
	}
	return m.Lines(func(version string) bool { return lacks[version] })
}

// timed gives the steps that migrate the times that a rehearsal took for them, and hold for
// which the site is watched after the first.
func (p *planned) timed(hold time.Duration) {
	if p.measured == nil {
		return
	}
	for i := range p.Steps {
		switch p.Steps[i].Name() {
		case "pre-migrate":
			p.Steps[i].Expect = p.measured.Pre + hold
		case "post-migrate":
			p.Steps[i].Expect = p.measured.Post
		}
	}
}
