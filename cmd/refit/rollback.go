package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

func rollbackCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "rollback",
		Usage: "take the newest run back: every node returns to the release before, one at a time",
		Flags: []cli.Flag{configFlag(), yesFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			ctx, stop, done := trap(c.Context, s.notice)
			defer done()
			x, err := open(c.String("config"), "", "rollback", s.progress())
			if err != nil {
				return err
			}
			defer closing(x, s)
			j, err := x.latest(ctx)
			if err != nil {
				return err
			}
			switch {
			case j == nil:
				return refuse("there is no run to take back")
			case j.Outcome == pipeline.Undone:
				return refuse("the newest run, %s to %s, was taken back already: every node is on %s", j.ID, j.To, j.From)
			case j.OneWay() != "":
				return refuse("cannot go back to %s: %s has begun (%s), and %s cannot run on what it left of the schema. The restore point is the database as it was before %s: restore it there and roll the nodes by hand, or go forward with `refit resume`",
					j.From, j.OneWay(), j.Marks[j.OneWay()].Started.Format("2006-01-02 15:04:05 MST"), j.From, j.Marks[j.OneWay()].Started.Format("2006-01-02 15:04:05 MST"))
			}
			x.adopt(j.ID)
			facts := &stages.Facts{}
			if err := j.LoadFacts(facts); err != nil {
				return exitWith(exitPerson, err)
			}
			s.progress()("run %s, %s: takes every node from %s back to %s", j.ID, standingOf(j), j.To, j.From)
			if !c.Bool("yes") {
				if err := s.ask(fmt.Sprintf("Go back to %s?", j.From)); err != nil {
					return err
				}
			}
			err = x.execute(ctx, s, execution{plan: expand(j, x.deps, facts), facts: facts, journal: j, stop: stop, json: c.Bool("json"), back: true, why: "rollback of " + j.ID})
			if errors.Is(err, pipeline.ErrOneWay) {
				return exitWith(exitRefused, err)
			}
			return err
		},
	}
}
