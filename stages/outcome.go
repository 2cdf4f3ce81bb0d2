package stages

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vmst.io/refit/hosts/configs"
	"vmst.io/refit/hosts/git"
	"vmst.io/refit/pipeline"
)

// outcome writes into the config repository how the run went. It never fails the run: what
// cannot be pushed is owed.
type outcome struct {
	d   Deps
	f   *Facts
	run string
}

func (outcome) Name() string { return "outcome" }

func (outcome) Check(context.Context, pipeline.Say) error { return nil }

func (s outcome) Run(ctx context.Context, say pipeline.Say) error {
	return s.d.tellConfigs(ctx, s.f, s.run, false, say)
}

// Undo has nothing to take back: what was said is history, and intend's undo adds to it.
func (outcome) Undo(context.Context, pipeline.Say) error { return nil }

// tellConfigs pushes how a run ended, with the page of its history; back also puts refit's
// files there to what they were. Only the end of ctx is an error.
func (d Deps) tellConfigs(ctx context.Context, f *Facts, run string, back bool, say pipeline.Say) error {
	o := owedOf(ctx, f, d, run, back)
	f.Configs.Owed = nil
	err := errNoConfigs
	if d.Configs != nil {
		var within context.CancelFunc
		var limited context.Context
		limited, within = context.WithTimeout(ctx, tellWithin)
		defer within()
		err = d.payConfigs(limited, f, run, o, say)
	}
	if err == nil {
		return nil
	}
	o.Why = err.Error()
	f.Configs.Owed = o
	say("the config repository could not be told, which holds nothing up: %v", err)
	return context.Cause(ctx)
}

// owedOf is what is to be said of a run.
func owedOf(ctx context.Context, f *Facts, d Deps, run string, back bool) *OwedConfigs {
	deed, word, why := deedOutcome, "done", ""
	e := configs.Entry{
		Run: run, Deed: "upgrade", From: f.From.Version.String(), To: f.To.Version.String(),
		Commit: f.To.Tag.Commit, Tree: f.To.Tag.Tree, Artifact: f.Digest, Ended: time.Now().UTC(), Decisions: f.Said,
	}
	if d.Configs != nil {
		e.Fleet, e.By = d.Configs.Fleet.Name, []string{d.Configs.By}
	}
	course, _ := pipeline.CourseOf(ctx)
	e.Started = course.Began
	if e.Started.IsZero() {
		e.Started = f.Baseline.At
	}
	if back {
		deed, word = deedRevert, "rolled back"
		switch {
		case course.Cause != "":
			why = course.CauseStep + ": " + course.Cause
		default:
			why = "a person asked for it"
		}
	}
	e.Outcome, e.Why = word, why
	for _, s := range course.Steps {
		step := configs.Step{Name: s.Name, Started: s.Mark.Started, Outcome: string(s.Mark.State), Note: s.Mark.Error}
		if s.Mark.Ended.After(s.Mark.Started) {
			step.Took = s.Mark.Ended.Sub(s.Mark.Started)
		}
		e.Steps = append(e.Steps, step)
	}
	page, content := configs.History(e)
	subject := fmt.Sprintf("%s: %s to %s %s", e.Fleet, e.Deed, e.To, word)
	if why != "" {
		subject += "\n\n" + why
	}
	return &OwedConfigs{Revert: back, Page: page, Content: string(content), Message: subject + "\n\n" + trailers(deed, run)}
}

// PayConfigs tells the config repository what a run that is over still owes it. It looks
// first whether it was told meanwhile.
func (d Deps) PayConfigs(ctx context.Context, f *Facts, run string, say pipeline.Say) error {
	if f.Configs == nil || f.Configs.Owed == nil {
		return nil
	}
	if d.Configs == nil {
		return errNoConfigs
	}
	return d.payConfigs(ctx, f, run, f.Configs.Owed, say)
}

// pushTries is how often a commit is made anew because somebody else was first.
const pushTries = 8

func (d Deps) payConfigs(ctx context.Context, f *Facts, run string, o *OwedConfigs, say pipeline.Say) error {
	c, deed := d.Configs, deedOutcome
	if c.Pulls != nil {
		return d.payProposed(ctx, f, run, o, say)
	}
	if o.Revert {
		deed = deedRevert
	}
	var err error
	for range pushTries {
		var head, told, commit string
		var changes map[string][]byte
		if head, err = c.Repo.Fetch(ctx); err != nil {
			return err
		}
		if told, err = c.pushed(ctx, deed, run); err != nil || told != "" {
			f.Configs.Told = told
			return err
		}
		if changes, err = c.telling(f, head, o); err != nil {
			return err
		}
		if commit, err = c.Repo.Commit(ctx, head, changes, o.Message); err != nil {
			return err
		}
		if err = c.Repo.Push(ctx, commit, head); err == nil {
			f.Configs.Told = commit
			say("%s has %.12s: how it went", c.Name, commit)
			return nil
		}
		if !errors.Is(err, git.ErrMoved) {
			return err
		}
	}
	return err
}

// telling is the page, and going back refit's files as they were; what people pushed
// meanwhile stays.
func (c *Configuration) telling(f *Facts, head string, o *OwedConfigs) (map[string][]byte, error) {
	changes := map[string][]byte{}
	if o.Revert {
		now, err := c.Repo.FS(head)
		if err != nil {
			return nil, err
		}
		before, err := c.Repo.FS(f.Configs.Base)
		if err != nil {
			return nil, err
		}
		files, err := own(now)
		if err != nil {
			return nil, err
		}
		for name := range files {
			changes[name] = nil
		}
		if files, err = own(before); err != nil {
			return nil, err
		}
		for name, content := range files {
			changes[name] = content
		}
	}
	changes[o.Page] = []byte(o.Content)
	return changes, nil
}
