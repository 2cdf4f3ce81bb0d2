package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

func resumeCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "resume",
		Usage: "go on with the run that was left half way, forward or back, as its journal says",
		Flags: append([]cli.Flag{configFlag(), yesFlag(), jsonFlag()}, fromHostsFlags()...),
		Action: func(c *cli.Context) error {
			ctx, stop, done := trap(c.Context, s.notice)
			defer done()
			look, begin := untouched(ctx, stop)
			defer begin()
			x, err := open(c.String("config"), "", "resume", s.progress())
			if err != nil {
				return err
			}
			defer closing(x, s)
			if err := x.idle(look); err != nil {
				return err
			}
			if c.Bool("from-hosts") {
				r, err := x.rebuild(look, s, c.String("to"))
				if err != nil {
					return err
				}
				if r.Journal.Direction != pipeline.Backward {
					if err := x.canKeep(r.Facts); err != nil {
						return err
					}
				}
				x.warn(look, s)
				if !c.Bool("yes") {
					if err := s.ask(look, fmt.Sprintf("Is that where it stands? Save it on %s and go on, %s?", x.keeper.Name, r.Journal.Direction)); err != nil {
						return err
					}
				}
				return x.execute(ctx, s, execution{plan: r.Plan, facts: r.Facts, journal: r.Journal, stop: stop, json: c.Bool("json"), why: "resume from hosts of " + r.Plan.ID})
			}
			j, err := x.latest(look)
			if err != nil {
				return err
			}
			if j == nil || j.Finished() {
				x.lookBack(look, j, s.progress())
				if err := x.payConfigs(look, j, s.progress()); err != nil {
					return err
				}
				return s.nothingToResume(c.Bool("json"))
			}
			x.adopt(j.ID)
			facts := &stages.Facts{}
			if err := j.LoadFacts(facts); err != nil {
				return exitWith(exitPerson, err)
			}
			plan, err := x.planOf(j, facts)
			if err != nil {
				return err
			}
			s.progress()("run %s, %s: %s", j.ID, wayOf(j), standingOf(j))
			if j.Direction == pipeline.Backward {
				s.wayBack(j)
			} else if err := x.canKeep(facts); err != nil {
				return err
			}
			x.warn(look, s)
			if !c.Bool("yes") {
				if err := s.ask(look, "Go on with it?"); err != nil {
					return err
				}
			}
			if err := x.deps.Wake(look, facts, s.progress()); err != nil {
				return exitWith(exitPerson, err)
			}
			return x.execute(ctx, s, execution{plan: plan, facts: facts, journal: j, stop: stop, json: c.Bool("json"), why: "resume of " + j.ID})
		},
	}
}

func (s streams) nothingToResume(asJSON bool) error {
	s.job.nothing("nothing to resume: no run was left half way")
	if asJSON {
		return printJSON(s.out, map[string]any{"schema": "refit.resume/v1", "nothing_to_do": true})
	}
	_, err := fmt.Fprintln(s.out, "nothing to resume: no run was left half way")
	return err
}
