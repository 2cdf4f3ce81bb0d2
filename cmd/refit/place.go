package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/builds"
	"vmst.io/refit/stages"
)

func placeCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "place",
		Usage: "build a release and put it ready on every node, without touching what serves",
		Flags: []cli.Flag{configFlag(), toFlag(), jsonFlag(), &cli.BoolFlag{Name: "first", Usage: "the fleet runs no release yet: only build and place"}},
		Action: func(c *cli.Context) error {
			ctx, stop, done := trap(c.Context, s.notice)
			defer done()
			look, begin := untouched(ctx, stop)
			defer begin()
			command := "place --to " + c.String("to")
			x, err := open(c.String("config"), newRun(), command, s.progress())
			if err != nil {
				return err
			}
			defer closing(x, s)
			if err := x.idle(look); err != nil {
				return err
			}
			version, err := builds.ParseVersion(c.String("to"))
			if err != nil {
				return exitWith(exitUsage, fmt.Errorf("--to %w", err))
			}
			f, _, refused, err := x.deps.Survey(look, x.request(version, c.Bool("first")), s.progress())
			if errors.Is(err, stages.ErrNothingToDo) {
				return s.nothingToDo(c.String("to"), c.Bool("json"))
			}
			if err != nil {
				return surveyError(look, err)
			}
			if err := interrupted(look); err != nil {
				return err
			}
			p := planned{facts: f, refused: refused}
			if err := p.refusal(); err != nil {
				return err
			}
			return x.execute(ctx, s, execution{plan: stages.Place(x.keeper.Run, x.deps, f), facts: f, stop: stop, json: c.Bool("json"), why: command})
		},
	}
}
