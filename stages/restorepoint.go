package stages

import (
	"context"
	"fmt"

	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// restorePoint notes the instant to which the database would have to be restored, right
// before migrations begin. It is a step of its own so that it stands in the journal when
// they do.
type restorePoint struct {
	d    Deps
	f    *Facts
	post bool
}

func (s restorePoint) Name() string {
	if s.post {
		return "last restore point"
	}
	return "restore point"
}

func (restorePoint) Check(context.Context, pipeline.Say) error { return nil }

func (s restorePoint) Run(ctx context.Context, say pipeline.Say) error {
	db, err := s.d.database(ctx)
	if err == nil {
		err = s.note(ctx, db, say)
	}
	if err != nil && s.post && ctx.Err() == nil {
		// Every node was rolled: that is not taken back for a note.
		return &pipeline.NeedsPerson{
			State: fmt.Sprintf("every node runs %s, and the database cannot be asked for its time before the post-migrations", s.f.To.Version),
			Next:  "mend the way to the database, then `refit resume`", Err: err,
		}
	}
	return err
}

// note writes the instant down, unless the phase has begun: then an earlier one holds, or
// none is known.
func (s restorePoint) note(ctx context.Context, db mastodon.Database, say pipeline.Say) error {
	phase, unit, all, at := "pre-migrations", preUnit, s.f.Pre, &s.f.RestoreBefore
	if s.post {
		phase, unit, all, at = "post-migrations", postUnit, s.f.Post, &s.f.RestoreBeforePost
	}
	n := s.d.migrator()
	job, err := n.Agent.JobStatus(ctx, unit)
	if err != nil {
		return fmt.Errorf("%s: cannot ask for %s: %w", n.Name, unit, err)
	}
	begun := job.State == node.JobRunning || s.post && s.f.PostBegun
	for _, m := range all {
		begun = begun || db.Has(m.Version)
	}
	if begun {
		if *at == nil {
			say("the %s have begun, and the instant before them is not known", phase)
		}
		return nil
	}
	if db.Now.IsZero() {
		return fmt.Errorf("%s: the database does not tell its time", n.Name)
	}
	*at = &RestoreTo{At: db.Now.UTC(), LSN: db.LSN}
	say("before the %s the database is at %s", phase, *at)
	return nil
}

// Undo has nothing to take back.
func (restorePoint) Undo(context.Context, pipeline.Say) error { return nil }
