package stages

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"vmst.io/refit/hosts/mastodon"
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
	db, err := s.d.database(ctx)
	if err != nil {
		return pipeline.NotBegun(&pipeline.NeedsPerson{
			State: fmt.Sprintf("every node runs %s, and the database cannot be asked which post-migrations it lacks", s.f.To.Version),
			Next:  "mend the way to the database, then `refit resume`", Err: err,
		})
	}
	left := lacking(s.f.To.Contents, db, true)
	if len(left) == 0 {
		say("nothing is pending")
		return nil
	}
	for _, r := range databaseRules(db) {
		return pipeline.NotBegun(&pipeline.NeedsPerson{
			State: fmt.Sprintf("every node runs %s, and its post-migrations wait: %s", s.f.To.Version, r), Next: "mend that, then `refit resume`",
		})
	}
	if err := s.nobodyOld(ctx); err != nil {
		next := "`refit resume` when every host is back"
		if len(left) == len(s.f.Post) {
			next += "; `refit rollback` still works, unless status says that they have begun"
		}
		return pipeline.NotBegun(&pipeline.NeedsPerson{
			State: fmt.Sprintf("every node was rolled to %s, and the post-migrations (%s) wait: %v", s.f.To.Version, migrations(left), err),
			Next:  next,
		})
	}
	if _, err := s.d.newSite(ctx, s.f.Baseline); err != nil {
		return pipeline.NotBegun(&pipeline.NeedsPerson{
			State: fmt.Sprintf("every node runs %s, and what users would feel of its post-migrations cannot be seen", s.f.To.Version),
			Next:  "mend that, then `refit resume`", Err: err,
		})
	}
	say("point of no return: %s. From here %s cannot run on this database any more", migrations(left), s.f.From.Version)
	if err := (migration{s.d, s.f, true}).run(ctx, say); err != nil {
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
	if err := s.d.watch(ctx, s.f, fmt.Sprintf("%s is at its baseline after the post-migrations", s.f.To.Version), s.d.Holds.Migrated, nil, say); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return &pipeline.NeedsPerson{
			State: fmt.Sprintf("every node runs %s and every migration is applied, but the site is off its baseline", s.f.To.Version),
			Next:  "look at the site; `refit resume` once it is well", Err: err,
		}
	}
	return nil
}

// nobodyOld asks that every host of the fleet answers, that those which run
// Mastodon run only the new release, and that Redis shows no worker of another one:
// a host that is away may come back with the old code.
func (s postMigrate) nobodyOld(ctx context.Context) error {
	release := s.f.To.Version.String()
	var faults []string
	for _, n := range s.d.Fleet {
		if _, err := n.Agent.FenceShow(ctx); err != nil {
			faults = append(faults, err.Error())
		}
	}
	for _, n := range s.d.Fleet.Apps() {
		if err := s.d.runsOnly(ctx, n, release); err != nil {
			faults = append(faults, err.Error())
		}
	}
	now, err := s.d.sidekiq(ctx, mastodon.SidekiqIn{})
	if err != nil {
		return err
	}
	if err := mastodon.CheckFleet(now, release, s.d.queues(s.f)); err != nil {
		faults = append(faults, err.Error())
	}
	if len(faults) > 0 {
		return errors.New(strings.Join(faults, "; "))
	}
	return nil
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
