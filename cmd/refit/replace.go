package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

func imageFlag() cli.Flag {
	return &cli.IntFlag{Name: "image", Usage: "the `ID` of the image that it is made from; the newest golden image of its tier by default"}
}

func replaceCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "replace",
		Usage: "let a new machine, made from an image, take a node's place: one that is lost, or one to be set up anew",
		Flags: []cli.Flag{
			configFlag(), &cli.StringFlag{Name: "host", Usage: "the `NODE`, by its name in refit.yml"}, imageFlag(),
			&cli.BoolFlag{Name: "destroy", Usage: "destroy the old machine at the end, instead of keeping it for seven days, switched off"},
			yesFlag(), jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.String("host") == "" {
				return exitWith(exitUsage, fmt.Errorf("replace needs --host and the name of a node"))
			}
			return s.birth(c, stages.BirthRequest{Host: c.String("host"), Image: c.Int("image"), Destroy: c.Bool("destroy")}, "replace --host "+c.String("host"))
		},
	}
}

func addCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "add",
		Usage: "make one more node of a tier, from an image",
		Flags: []cli.Flag{
			configFlag(), &cli.StringFlag{Name: "tier", Usage: "`TIER`: web or sidekiq"}, &cli.StringFlag{Name: "name", Usage: "the new node's `NAME`"}, imageFlag(),
			yesFlag(), jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			tier, name := c.String("tier"), c.String("name")
			if tier != "web" && tier != "sidekiq" || !hostName.MatchString(name) {
				return exitWith(exitUsage, fmt.Errorf("add needs --tier web or --tier sidekiq, and --name with a host's name of letters, digits and dashes"))
			}
			return s.birth(c, stages.BirthRequest{Tier: tier, Name: name, Image: c.Int("image")}, "add --tier "+tier+" --name "+name)
		},
	}
}

// birth makes a node from an image.
func (s streams) birth(c *cli.Context, r stages.BirthRequest, command string) error {
	ctx, stop, done := trap(c.Context, s.notice)
	defer done()
	look, begin := untouched(ctx, stop)
	defer begin()
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
	facts, stands, err := x.deps.Conceive(look, r, s.progress())
	if end := interrupted(look); end != nil {
		return end
	}
	if err != nil {
		return surveyError(look, err)
	}
	if len(stands) > 0 {
		return exitWith(exitRefused, refused(stands))
	}
	return s.agreed(ctx, look, x, execution{plan: x.birthPlan(x.keeper.Run, facts), facts: facts, stop: stop, json: c.Bool("json"), why: command}, c.Bool("yes"))
}

// agreed runs a plan of few steps that was shown, checked and agreed to.
func (s streams) agreed(ctx, look context.Context, x *session, e execution, yes bool) error {
	if err := s.showSteps(e.plan, e.facts); err != nil {
		return err
	}
	var stands []string
	for _, step := range e.plan.Steps {
		if err := step.Check(look, s.progress()); err != nil {
			stands = append(stands, fmt.Sprintf("%s: %v", step.Name(), err))
		}
	}
	if end := interrupted(look); end != nil {
		return end
	}
	if len(stands) > 0 {
		return exitWith(exitRefused, refused(stands))
	}
	x.warn(look, s)
	if !yes {
		if err := s.ask(look, fmt.Sprintf("%s on %s?", e.why, x.config.Fleet)); err != nil {
			return err
		}
	}
	return x.execute(ctx, s, e)
}

// birthPlan is the plan of a run that makes a node. Its machines, old and new, come and go
// in it: the fleet that has to answer all the time is the others.
func (x *session) birthPlan(id string, f *stages.Facts) pipeline.Plan {
	x.deps.Fleet = x.deps.Fleet.But(f.Birth.Host)
	return stages.Replace(id, x.deps, f)
}

// showSteps shows a plan of few steps, and what has to be known of it.
func (s streams) showSteps(p pipeline.Plan, f *stages.Facts) error {
	t := tabwriter.NewWriter(s.err, 0, 0, 2, ' ', 0)
	for i, step := range p.Steps {
		fmt.Fprintf(t, "%2d\t%s\t%s\n", i+1, step.Name(), step.Why)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, line := range f.Said {
		s.progress()("%s", line)
	}
	return nil
}

// planOf is the plan of a run that is gone on with, or taken back.
func (x *session) planOf(j *pipeline.Journal, f *stages.Facts) (pipeline.Plan, error) {
	if j.Kind == "upgrade" {
		return stages.Upgrade(j.ID, x.deps, f), x.sameFleet(j, f)
	}
	if j.Kind == stages.Rehearsing {
		return x.rehearsalPlan(j, f)
	}
	if j.Kind == stages.Aligning {
		return x.alignPlan(j, f)
	}
	switch {
	case f.Birth == nil:
		return pipeline.Plan{}, exitWith(exitPerson, fmt.Errorf("the journal of run %s (%s) does not say which node it makes", j.ID, j.Kind))
	case x.deps.Births == nil:
		return pipeline.Plan{}, refuse("run %s makes a node from an image, and refit.yml has no cloud.born any more: put it back", j.ID)
	}
	// Both ways go by it: what is off, and what is not, is its word.
	if _, err := x.cloud.open(); err != nil {
		return pipeline.Plan{}, exitWith(exitUsage, fmt.Errorf("run %s makes a node in the cloud account, and that cannot be used: %w: put the token there, then again", j.ID, err))
	}
	if why := f.FitsBirth(x.deps.Fleet); why != "" {
		return pipeline.Plan{}, refuse("run %s (%s %s) cannot be gone on with: %s.\nNothing was changed. Put refit.yml back as it was, then `refit resume` or `refit rollback`", j.ID, j.Kind, f.Birth.Host, why)
	}
	return x.birthPlan(j.ID, f), nil
}

// wayOf is what a run does, in words.
func wayOf(j *pipeline.Journal) string {
	if j.From == "" {
		return fmt.Sprintf("%s of a node with %s", j.Kind, j.To)
	}
	return fmt.Sprintf("%s from %s to %s", j.Kind, j.From, j.To)
}

// backOf is what taking a run back does, in words.
func backOf(j *pipeline.Journal, f *stages.Facts) string {
	switch {
	case f.Rehearsal != nil:
		return "destroys the copy; nothing of the fleet was changed"
	case f.Align != nil:
		return fmt.Sprintf("leaves %s out and stopped; the fleet serves without it", f.Align.Host)
	case f.Birth == nil:
		return fmt.Sprintf("takes every node from %s back to %s", j.To, j.From)
	case f.Birth.Old == nil:
		return fmt.Sprintf("takes %s out again, and switches droplet %d off", f.Birth.Host, f.Birth.Droplet)
	case f.Birth.Old.State != stages.OldUp:
		return fmt.Sprintf("takes the new %s out again, and switches droplet %d off; the old one did not answer before, and is left so", f.Birth.Host, f.Birth.Droplet)
	}
	return fmt.Sprintf("takes the new %s out again, switches droplet %d off, and brings the old one, droplet %d, back", f.Birth.Host, f.Birth.Droplet, f.Birth.Old.Droplet)
}

func orBare(before, text string) string {
	if text == "" {
		return ""
	}
	return before + text
}

func sweepCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "sweep",
		Usage: "list what refit made in the cloud account that nobody needs any more; with --yes, destroy it",
		Flags: []cli.Flag{configFlag(), yesFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			ctx, stop, done := trap(c.Context, s.notice)
			defer done()
			look, begin := untouched(ctx, stop)
			defer begin()
			x, err := open(c.String("config"), newRun(), "sweep", s.progress())
			if err != nil {
				return err
			}
			defer closing(x, s)
			if x.deps.Cloud == nil {
				return exitWith(exitUsage, fmt.Errorf("refit.yml names no cloud account (cloud), so there is nothing to sweep"))
			}
			if err := x.idle(look); err != nil {
				return err
			}
			list, err := x.deps.Expired(look)
			if err != nil {
				return surveyError(look, err)
			}
			if !c.Bool("yes") {
				return s.showExpired(list, c.Bool("json"))
			}
			if err := x.sweep(ctx, look, list, s.progress()); err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(s.out, map[string]any{"schema": "refit.sweep/v1", "swept": list})
			}
			_, err = fmt.Fprintf(s.out, "swept: %d\n", len(list))
			return err
		},
	}
}

func (s streams) showExpired(list []stages.Expired, asJSON bool) error {
	if asJSON {
		return printJSON(s.out, map[string]any{"schema": "refit.sweep/v1", "expired": list})
	}
	for _, e := range list {
		if _, err := fmt.Fprintln(s.out, e); err != nil {
			return err
		}
	}
	words := "nothing in the account is expired"
	if len(list) > 0 {
		words = "`refit sweep --yes` destroys what is listed, and nothing else"
	}
	_, err := fmt.Fprintln(s.err, words)
	return err
}

// sweep destroys under the lease, so that no run makes or needs any of it meanwhile.
func (x *session) sweep(ctx, look context.Context, list []stages.Expired, say pipeline.Say) error {
	if len(list) == 0 {
		return nil
	}
	held, err := pipeline.Hold(look, x.keeper, "sweep", pipeline.HoldOptions{})
	if err != nil {
		return lockError(look, err)
	}
	defer func() {
		if err := release(ctx, held); err != nil {
			say("%v", err)
		}
	}()
	work, end := under(ctx, held)
	defer end()
	if err := x.deps.Sweep(work, list, say); err != nil {
		if end := interrupted(ctx); end != nil {
			return end
		}
		return exitWith(exitFailed, err)
	}
	return nil
}
