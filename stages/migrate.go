package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// The units that migrations run as. The names are fixed, so that a host never
// runs two: a second start finds the first.
const (
	preUnit  = "refit-migrate-pre.service"
	postUnit = "refit-migrate-post.service"
)

// migration is what both migration stages do: run one phase once, on one node,
// straight to the database, as a unit that outlives everything but its host, and
// believe only what the database says afterwards. A running migration is never
// killed, neither by a person's Ctrl-C nor by a timer: an interrupted one may
// leave an INVALID index.
type migration struct {
	d    Deps
	f    *Facts
	post bool
}

func (m migration) unit() string {
	if m.post {
		return postUnit
	}
	return preUnit
}

func (m migration) recipe() node.JobIn {
	release := m.f.To.Version.String()
	if m.post {
		return mastodon.PostMigrate(m.d.Layout, release, postUnit, m.d.Direct)
	}
	return mastodon.PreMigrate(m.d.Layout, release, preUnit, m.d.Direct)
}

// database reads the database past its pooler.
func (d Deps) database(ctx context.Context) (mastodon.Database, error) {
	return mastodon.ReadDatabase(ctx, d.migrator().Agent, mastodon.DatabaseIn{Layout: d.Layout, Direct: d.Direct})
}

// lacking are the release's migrations of one phase that the database lacks.
// Without post only those that run while old code serves; with post all, since
// the second phase runs whatever is left.
func lacking(c builds.Contents, db mastodon.Database, post bool) []builds.Migration {
	var out []builds.Migration
	for _, m := range c.Migrations {
		if (post || !m.Post) && !db.Has(m.Version) {
			out = append(out, m)
		}
	}
	return out
}

// ready finds the phase's unit at work, or makes sure that it may be started: nobody
// else migrates, not even a session whose program is gone, and the site is at its
// baseline, so that what users feel afterwards is the migration.
func (m migration) ready(ctx context.Context, say pipeline.Say) (node.Job, error) {
	n := m.d.migrator()
	job, err := n.Agent.JobStatus(ctx, m.unit())
	if err != nil {
		return job, fmt.Errorf("%s: cannot ask for %s: %w", n.Name, m.unit(), err)
	}
	if job.State == node.JobRunning {
		return job, nil
	}
	if err := m.alone(ctx, n, say); err != nil {
		return job, err
	}
	return job, m.d.watch(ctx, m.f, fmt.Sprintf("the site is at its baseline before %s starts", m.unit()), 0, nil, say)
}

// run runs the phase, or goes on with the unit that ready found at work, and waits
// for its end. It returns nil only if the database then lacks nothing of the phase
// and has no INVALID index.
func (m migration) run(ctx context.Context, job node.Job, say pipeline.Say) error {
	n := m.d.migrator()
	// Before it is started: what cannot be watched is not begun.
	s, err := m.d.newSite(ctx, m.f.Baseline)
	if err != nil {
		return m.unwatched(ctx, n, err)
	}
	if job, err = m.begin(ctx, n, job, say); err != nil {
		return err
	}
	if job.State == node.JobRunning {
		if job, err = m.await(ctx, n, s, say); err != nil {
			return err
		}
	}
	output, err := m.d.logEnd(ctx, n, m.unit())
	if err != nil && !errors.Is(err, node.ErrNotFound) {
		return err
	}
	if !job.Succeeded() {
		say("%s on %s: %s; the database decides what it did", m.unit(), n.Name, how(job))
		// Its host may be gone and its session not: what that still does counts.
		if err := m.alone(ctx, n, say); err != nil {
			return err
		}
	}
	return m.judge(ctx, n, job, output, say)
}

// unwatched is the error of a site that cannot be watched. A unit that is at work
// meanwhile is not undone by it.
func (m migration) unwatched(ctx context.Context, n Node, cause error) error {
	job, err := n.Agent.JobStatus(ctx, m.unit())
	if err != nil {
		return errors.Join(cause, err)
	}
	if job.State != node.JobRunning {
		return cause
	}
	return &pipeline.NeedsPerson{
		State: fmt.Sprintf("%s keeps running on %s and must not be killed, and what users feel of it cannot be seen", m.unit(), n.Name),
		Next:  "mend what is named, then `refit resume`", Err: cause,
	}
}

// begin takes the phase's unit that is at work or starts it. A record of one that
// has ended is replaced, also one of this run: only a phase of which the database
// lacks something gets here, and a resume runs what remains.
func (m migration) begin(ctx context.Context, n Node, job node.Job, say pipeline.Say) (node.Job, error) {
	switch {
	case job.State == node.JobRunning && !m.ours(job):
		return job, &pipeline.NeedsPerson{
			State: fmt.Sprintf("%s runs on %s for another release (%s)", m.unit(), n.Name, strings.Join(job.Argv, " ")),
			Next:  "wait for its end (`refit status` shows it), then `refit resume`",
		}
	case job.State == node.JobRunning:
		say("found %s at work on %s, since %s", m.unit(), n.Name, job.Began.Format(time.TimeOnly))
		return job, nil
	}
	in := m.recipe()
	job, err := n.Agent.JobStart(ctx, in)
	if err != nil {
		return job, fmt.Errorf("%s: cannot start %s: %w", n.Name, in.Unit, err)
	}
	say("%s runs on %s; it goes on even if refit or its connection ends", in.Unit, n.Name)
	return job, nil
}

// ours tells whether a job is this phase of this release: its program lies in it.
func (m migration) ours(job node.Job) bool {
	want := m.recipe().Argv
	return len(job.Argv) > 0 && job.Argv[0] == want[0]
}

// judge decides by the database, not by the unit's word, how the phase ended.
func (m migration) judge(ctx context.Context, n Node, job node.Job, output string, say pipeline.Say) error {
	db, err := m.d.database(ctx)
	if err == nil && db.InRecovery {
		err = fmt.Errorf("the database at %s is a standby at this moment", m.d.Direct.Host)
	}
	if err != nil {
		return &pipeline.NeedsPerson{
			State: fmt.Sprintf("%s has ended on %s and the database cannot be asked what it did", m.unit(), n.Name),
			Next:  "mend the way to the database, then `refit resume`", Err: errors.Join(err, m.failure(n, job, output)),
		}
	}
	left := lacking(m.f.To.Contents, db, m.post)
	if !m.post {
		m.f.Applied = without(m.f.Pre, left)
		if err := pipeline.Remember(ctx); err != nil {
			return err
		}
	}
	// One that a session builds at this moment is not left behind by anything.
	db.Invalid = slices.DeleteFunc(db.Invalid, func(i mastodon.Index) bool { return i.Building })
	if len(db.Invalid) > 0 {
		var names, remedies []string
		for _, i := range db.Invalid {
			names, remedies = append(names, i.Name+" on "+i.Table), append(remedies, i.Remedy())
		}
		return &pipeline.NeedsPerson{
			State: fmt.Sprintf("INVALID index: %s. The migration that builds it was interrupted or failed", strings.Join(names, ", ")),
			Next:  "as the database's owner: " + strings.Join(remedies, "; ") + " (or DROP INDEX CONCURRENTLY, if the migration is to build it again); then `refit resume`",
			Err:   m.failure(n, job, output),
		}
	}
	if len(left) == 0 {
		if !job.Succeeded() {
			say("%s on %s did not end well, but the database has every migration: going by the database", m.unit(), n.Name)
		}
		return nil
	}
	err = m.failure(n, job, output)
	if job.Succeeded() {
		err = fmt.Errorf("%s on %s ended well and the database still lacks %s: it wrote to another database; check the database section of refit.yml", m.unit(), n.Name, migrations(left))
	}
	if hint := mastodon.MigrationHint(output); hint != "" {
		err = fmt.Errorf("%w\n  %s", err, hint)
	}
	return fmt.Errorf("%w\n  not applied: %s", err, migrations(left))
}

// still asks again whether the database has what the phase applied: a standby that
// took over since may lack the last instants of the server before it.
func (m migration) still(ctx context.Context) error {
	db, err := m.d.database(ctx)
	if err != nil {
		return err
	}
	left := lacking(m.f.To.Contents, db, m.post)
	if len(left) == 0 {
		return nil
	}
	return fmt.Errorf("the database lacks %s, which it had a moment ago: another server took over that had not received it", migrations(left))
}

func (m migration) failure(n Node, job node.Job, output string) error {
	if job.Succeeded() {
		return nil
	}
	return jobError(n, job, output)
}

// without are those of all that are not in some.
func without(all, some []builds.Migration) []builds.Migration {
	gone := map[string]bool{}
	for _, m := range some {
		gone[m.Version] = true
	}
	var out []builds.Migration
	for _, m := range all {
		if !gone[m.Version] {
			out = append(out, m)
		}
	}
	return out
}

// migrations names migrations as people look for them: "20251007100627 add_index_…".
func migrations(list []builds.Migration) string {
	var out []string
	for _, m := range list {
		out = append(out, m.Version+" "+m.Name)
	}
	return strings.Join(out, ", ")
}

// MigrationUnits are the units that migrations run as, for those who look for one at work.
func MigrationUnits() []string { return []string{preUnit, postUnit} }
