package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/pipeline"
	"vmst.io/refit/pipeline/report"
	"vmst.io/refit/stages"
)

func alignCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "align",
		Usage: "bring a node that is out of step, such as one whose disk was put back from a snapshot, to what the fleet runs",
		Flags: []cli.Flag{configFlag(), &cli.StringFlag{Name: "host", Usage: "the `NODE`, by its name in refit.yml"}, yesFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			host := c.String("host")
			if host == "" {
				return exitWith(exitUsage, errors.New("align needs --host and the name of a node"))
			}
			ctx, stop, done := trap(c.Context, s.notice)
			defer done()
			look, begin := untouched(ctx, stop)
			defer begin()
			command := "align --host " + host
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
			facts, stands, err := x.deps.ConceiveAlign(look, host, s.progress())
			if end := interrupted(look); end != nil {
				return end
			}
			if err != nil {
				return surveyError(look, err)
			}
			if len(stands) > 0 {
				return exitWith(exitRefused, refused(stands))
			}
			return s.agreed(ctx, look, x, execution{plan: stages.Align(x.keeper.Run, x.deps, facts), facts: facts, stop: stop, json: c.Bool("json"), why: command}, c.Bool("yes"))
		},
	}
}

// alignPlan is the plan of such a run that is gone on with, or taken back.
func (x *session) alignPlan(j *pipeline.Journal, f *stages.Facts) (pipeline.Plan, error) {
	if f.Align == nil {
		return pipeline.Plan{}, exitWith(exitPerson, fmt.Errorf("the journal of run %s (%s) does not say which node it brings into step", j.ID, j.Kind))
	}
	return stages.Align(j.ID, x.deps, f), x.sameFleet(j, f)
}

// outOfStep tells of nodes that do not run what the keeper has on record.
func (x *session) outOfStep(rows []report.HostRow, recorded string) []string {
	live := map[string]string{}
	for _, n := range x.deps.Fleet.Apps() {
		for _, row := range rows {
			if row.Name == n.Name && row.Release != "" && row.State != silentHost && row.State != unreachableHost {
				live[n.Name] = row.Release
			}
		}
	}
	if len(live) < len(x.deps.Fleet.Apps()) {
		return nil // the others are to be heard first
	}
	return stages.OutOfStep(live, recorded)
}
