package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/builds"
	"vmst.io/refit/stages"
)

func buildCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "build",
		Usage: "build a release on the builder, from its unmodified tag",
		Flags: []cli.Flag{configFlag(), toFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			ctx, stop, done := trap(c.Context, s.notice)
			defer done()
			look, begin := untouched(ctx, stop)
			defer begin()
			command := "build --to " + c.String("to")
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
			f, _, refused, err := x.deps.Survey(look, x.request(version, true), s.progress())
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
			return x.execute(ctx, s, execution{plan: stages.Build(x.keeper.Run, x.deps, f), facts: f, stop: stop, json: c.Bool("json"), why: command})
		},
	}
}
