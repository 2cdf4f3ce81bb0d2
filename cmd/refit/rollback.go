package main

import (
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

func rollbackCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "rollback",
		Usage: "take the newest run back: every node returns to the release before, one at a time",
		Flags: append([]cli.Flag{configFlag(), yesFlag(), jsonFlag()}, fromHostsFlags()...),
		Action: func(c *cli.Context) error {
			ctx, stop, done := trap(c.Context, s.notice)
			defer done()
			look, begin := untouched(ctx, stop)
			defer begin()
			x, err := open(c.String("config"), "", "rollback", s.progress())
			if err != nil {
				return err
			}
			defer closing(x, s)
			if err := x.idle(look); err != nil {
				return err
			}
			var j *pipeline.Journal
			facts := &stages.Facts{}
			if c.Bool("from-hosts") {
				r, err := x.rebuild(look, s, c.String("to"))
				if err != nil {
					return err
				}
				j, facts = r.Journal, r.Facts
			} else if j, err = x.latest(look); err != nil {
				return err
			}
			switch {
			case j == nil:
				return refuse("there is no run to take back")
			case j.Outcome == pipeline.Undone:
				return refuse("the newest run, %s (%s), was taken back already", j.ID, wayOf(j))
			case j.OneWay() != "" && j.Kind != "upgrade":
				return refuse("cannot take run %s (%s) back: the old machine is destroyed (%s)", j.ID, wayOf(j), j.OneWay())
			case j.OneWay() != "":
				return refuse("cannot go back to %s: %s has begun (%s), and %s cannot run on what it left of the schema. The restore point is the database as it was before %s: restore it there and roll the nodes by hand, or go forward with `refit resume`",
					j.From, j.OneWay(), j.Marks[j.OneWay()].Started.Format("2006-01-02 15:04:05 MST"), j.From, j.Marks[j.OneWay()].Started.Format("2006-01-02 15:04:05 MST"))
			}
			x.adopt(j.ID)
			if err := j.LoadFacts(facts); err != nil {
				return exitWith(exitPerson, err)
			}
			plan, err := x.planOf(j, facts)
			if err != nil {
				return err
			}
			s.progress()("run %s, %s: %s", j.ID, standingOf(j), backOf(j, facts))
			s.wayBack(j)
			x.warn(look, s)
			if !c.Bool("yes") {
				if err := s.ask(look, fmt.Sprintf("Go back%s?", orBare(" to ", j.From))); err != nil {
					return err
				}
			}
			if err := x.deps.Wake(look, facts, s.progress()); err != nil {
				return exitWith(exitPerson, err)
			}
			err = x.execute(ctx, s, execution{plan: plan, facts: facts, journal: j, stop: stop, json: c.Bool("json"), back: true, why: "rollback of " + j.ID})
			if errors.Is(err, pipeline.ErrOneWay) {
				return exitWith(exitRefused, err)
			}
			return err
		},
	}
}

// wayBack shows what of a run is taken back, in that order: every step that has
// begun and is not back yet, the last first.
func (s streams) wayBack(j *pipeline.Journal) {
	steps := goesBack(j)
	if len(steps) == 0 {
		s.progress()("no step of it has anything to take back")
		return
	}
	t := tabwriter.NewWriter(s.err, 0, 0, 2, ' ', 0)
	for i, step := range steps {
		what := "undo"
		if step.State != pipeline.Finish {
			what = "undo, it is " + string(step.State)
		}
		fmt.Fprintf(t, "%2d\t%s\t%s\t%s\n", i+1, step.Name, step.Host, what)
	}
	if err := t.Flush(); err != nil {
		s.progress()("cannot show the way back: %v", err)
	}
}

func goesBack(j *pipeline.Journal) []pipeline.StepResult {
	var out []pipeline.StepResult
	for _, step := range slices.Backward(j.Progress()) {
		if step.State != pipeline.Pending && step.State != pipeline.Back {
			out = append(out, step)
		}
	}
	return out
}
