package stages

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// postMigrate applies the migrations that take from the schema what old code
// needs. If any is pending it is the point of no return.
type postMigrate struct {
	d Deps
	f *Facts
}

func (postMigrate) Name() string { return "post-migrate" }

func (postMigrate) Check(context.Context, pipeline.Say) error { return nil }

func (s postMigrate) Run(ctx context.Context, say pipeline.Say) error {
	m := migration{s.d, s.f, true}
	db, err := s.d.database(ctx)
	if err != nil {
		return s.waits(&pipeline.NeedsPerson{
			State: fmt.Sprintf("every node runs %s, and the database cannot be asked which post-migrations it lacks", s.f.To.Version),
			Next:  "mend the way to the database, then `refit resume`", Err: err,
		})
	}
	left := lacking(s.f.To.Contents, db, true)
	if len(left) == 0 {
		say("nothing is pending")
		return nil
	}
	job, err := s.ready(ctx, m, db, left, say)
	if err != nil {
		return err
	}
	say("point of no return: %s. From here %s cannot run on this database any more", migrations(left), s.f.From.Version)
	s.f.PostBegun = true
	if err := m.run(ctx, job, say); err != nil {
		if _, ok := errors.AsType[*pipeline.NeedsPerson](err); ok || errors.Is(err, pipeline.ErrStopped) || ctx.Err() != nil {
			return err
		}
		return &pipeline.NeedsPerson{
			State: fmt.Sprintf("every node runs %s, and its post-migrations are half applied; %s cannot run any more", s.f.To.Version, s.f.From.Version),
			Next:  "mend what the report names, then `refit resume` runs the rest; `refit rollback` is not possible",
			Err:   err,
		}
	}
	say("applied: %s", migrations(left))
	err = s.d.watch(ctx, s.f, fmt.Sprintf("%s is at its baseline after the post-migrations", s.f.To.Version), s.d.Holds.Migrated, nil, say)
	if err == nil {
		err = m.still(ctx)
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, pipeline.ErrStopped) {
		return &pipeline.NeedsPerson{
			State: fmt.Sprintf("every node runs %s and every migration was applied, but the site is off its baseline or the database is another one", s.f.To.Version),
			Next:  "look at the site; `refit resume` once it is well: it runs what is missing", Err: err,
		}
	}
	return err
}

// waits is an error by which the post-migrations do not begin. After a first try
// in which they did, it takes nothing back of that.
func (s postMigrate) waits(err *pipeline.NeedsPerson) error {
	if s.f.PostBegun {
		return err
	}
	return pipeline.NotBegun(err)
}

// ready makes sure, before the point of no return, that nothing speaks against it.
func (s postMigrate) ready(ctx context.Context, m migration, db mastodon.Database, left []builds.Migration, say pipeline.Say) (node.Job, error) {
	var none node.Job
	for _, r := range databaseRules(db) {
		return none, s.waits(&pipeline.NeedsPerson{
			State: fmt.Sprintf("every node runs %s, and its post-migrations wait: %s", s.f.To.Version, r), Next: "mend that, then `refit resume`",
		})
	}
	// A host that was rebooted needs a moment until its units run.
	if err := pipeline.Await(ctx, pipeline.Gate{
		Name: fmt.Sprintf("every host answers and runs nothing but %s", s.f.To.Version), Within: s.d.Waits.Boot, Each: 30 * time.Second, Safe: true, Probe: s.nobodyOld,
	}, say); err != nil {
		if ctx.Err() != nil || errors.Is(err, pipeline.ErrStopped) {
			return none, err
		}
		next := "`refit resume` when every host is back"
		if len(left) == len(s.f.Post) && !s.f.PostBegun {
			next += "; `refit rollback` still works, unless status says that they have begun"
		}
		return none, s.waits(&pipeline.NeedsPerson{
			State: fmt.Sprintf("every node was rolled to %s, and the post-migrations (%s) wait", s.f.To.Version, migrations(left)),
			Next:  next, Err: err,
		})
	}
	job, err := m.ready(ctx, say)
	if err == nil && job.State != node.JobRunning {
		err = s.restorable(ctx, left, say)
	}
	person, ok := errors.AsType[*pipeline.NeedsPerson](err)
	switch {
	case err == nil || ctx.Err() != nil || errors.Is(err, pipeline.ErrStopped):
		return job, err
	case ok:
		return none, s.waits(person)
	}
	return none, s.waits(&pipeline.NeedsPerson{
		State: fmt.Sprintf("every node runs %s, and its post-migrations (%s) wait", s.f.To.Version, migrations(left)),
		Next:  "mend that, then `refit resume`", Err: err,
	})
}

// restorable makes sure that what is about to be changed for good could be restored: the
// backups are still as fresh as they must be, and the instant is noted. Of post-migrations
// that have begun the rest is no less needed for that.
func (s postMigrate) restorable(ctx context.Context, left []builds.Migration, say pipeline.Say) error {
	if s.d.Backups == nil || s.f.PostBegun || len(without(s.f.Post, left)) > 0 {
		return nil
	}
	said, err := s.d.fresh(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return &pipeline.NeedsPerson{
			State: fmt.Sprintf("every node runs %s, and its post-migrations (%s) wait for a backup", s.f.To.Version, migrations(left)),
			Next:  "mend that, then `refit resume`; `refit rollback` still works", Err: err,
		}
	}
	for _, line := range said {
		say("%s", line)
	}
	db, err := s.d.database(ctx)
	if err != nil {
		return err
	}
	return restorePoint{s.d, s.f, true}.note(ctx, db, say)
}

// nobodyOld asks that every host of the fleet answers, that those which run
// Mastodon run only the new release, and that Redis shows no worker of another one:
// a host that is away may come back with the old code.
func (s postMigrate) nobodyOld(ctx context.Context) error {
	release := s.f.To.Version.String()
	var faults error
	add := func(err error) {
		switch {
		case faults == nil:
			faults = err
		case err != nil:
			faults = fmt.Errorf("%w; %w", faults, err)
		}
	}
	for _, n := range s.d.Fleet {
		_, err := n.Agent.FenceShow(ctx)
		add(err)
	}
	for _, n := range s.d.Fleet.Apps() {
		add(s.d.runsOnly(ctx, n, release))
	}
	now, err := s.d.sidekiq(ctx, mastodon.SidekiqIn{})
	if err != nil {
		return err
	}
	add(mastodon.CheckFleet(now, release, s.d.queues(s.f)))
	return faults
}

// queues are those of the new release's config/sidekiq.yml.
func (d Deps) queues(f *Facts) []string {
	var out []string
	for _, q := range f.To.Contents.Queues {
		out = append(out, q.Name)
	}
	return out
}

// Undo cannot take anything back, and is only asked for where nothing was pending.
func (postMigrate) Undo(context.Context, pipeline.Say) error { return nil }
