package stages

import (
	"context"
	"fmt"

	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// preMigrate applies the migrations that old code can live with, while it serves.
type preMigrate struct {
	d Deps
	f *Facts
}

func (preMigrate) Name() string { return "pre-migrate" }

// Check asks for what preflight asked, since hours may lie between: a direct way
// to a database that takes writes, and no INVALID index.
func (s preMigrate) Check(ctx context.Context, _ pipeline.Say) error {
	db, err := s.d.database(ctx)
	if err != nil {
		return err
	}
	for _, r := range databaseRules(db) {
		return pipeline.Refuse("%s", r)
	}
	return nil
}

func (s preMigrate) Run(ctx context.Context, say pipeline.Say) error {
	m := migration{s.d, s.f, false}
	db, err := s.d.database(ctx)
	if err != nil {
		return err
	}
	if len(lacking(s.f.To.Contents, db, false)) > 0 {
		for _, r := range databaseRules(db) {
			return pipeline.Refuse("%s", r)
		}
		job, err := m.ready(ctx, say)
		if err != nil {
			return err
		}
		if err := m.run(ctx, job, say); err != nil {
			return err
		}
	} else {
		s.f.Applied = s.f.Pre
		say("the database has every pre-migration of %s", s.f.To.Version)
	}
	if len(s.f.Applied) == 0 {
		return nil
	}
	say("applied: %s", migrations(s.f.Applied))
	if err := s.d.watch(ctx, s.f, fmt.Sprintf("%s is at its baseline on the new schema", s.f.From.Version), s.d.Holds.Migrated, nil, say); err != nil {
		return err
	}
	if err := m.still(ctx); err != nil {
		return err
	}
	return s.boot(ctx, say)
}

// boot boots the release once more on every node, whole: before the migrations its
// models could not be loaded, and no node is taken out for one that does not boot.
func (s preMigrate) boot(ctx context.Context, say pipeline.Say) error {
	return s.d.inTurn(ctx, func(n Node) error {
		if err := s.d.boots(ctx, n, s.f.To.Version.String(), true, say); err != nil {
			return fmt.Errorf("%s: the placed release does not boot on the new schema: %w", n.Name, err)
		}
		say("%s: %s boots on the new schema", n.Name, s.f.To.Version)
		return nil
	})
}

// Undo runs no migration down: what was applied is additive, and old code lives
// with it. It only makes sure that the site does; if not, a person must decide.
// While the unit still runs it is not known what stays, and nothing is taken back.
// Where nothing was pending nothing can stay, and nobody need be asked: the node or
// the database may be what is away.
func (s preMigrate) Undo(ctx context.Context, say pipeline.Say) error {
	if len(s.f.Pre) == 0 && len(s.f.Applied) == 0 {
		return nil
	}
	n := s.d.migrator()
	job, err := n.Agent.JobStatus(ctx, preUnit)
	if err != nil {
		return fmt.Errorf("%s: cannot ask for %s: %w", n.Name, preUnit, err)
	}
	if job.State == node.JobRunning {
		return &pipeline.NeedsPerson{
			State: fmt.Sprintf("%s still runs on %s and must not be killed", preUnit, n.Name),
			Next:  "wait for its end (`refit status` shows it), then `refit resume`",
		}
	}
	if err := (migration{s.d, s.f, false}).alone(ctx, n, say); err != nil {
		return err
	}
	db, err := s.d.database(ctx)
	if err != nil {
		return err
	}
	s.f.Applied = without(s.f.Pre, lacking(s.f.To.Contents, db, false))
	if len(s.f.Applied) == 0 {
		return nil
	}
	say("these migrations remain: %s", migrations(s.f.Applied))
	s.d = s.d.passingOver(ctx, say)
	if err := s.d.watch(ctx, s.f, fmt.Sprintf("%s is at its baseline on the new schema", s.f.From.Version), 0, nil, say); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return &pipeline.NeedsPerson{
			State: fmt.Sprintf("every node runs %s, but the site is off its baseline since these migrations: %s", s.f.From.Version, migrations(s.f.Applied)),
			Next:  "look at the database's load and mend what the migration left; then `refit resume` (it ends going back), and `refit upgrade` again",
			Err:   err,
		}
	}
	return nil
}
