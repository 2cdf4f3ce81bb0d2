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

// run runs the phase, or finds it running, and waits for its end. It returns nil
// only if the database then lacks nothing of the phase and has no INVALID index.
func (m migration) run(ctx context.Context, say pipeline.Say) error {
	n := m.d.migrator()
	// Before it is started: what cannot be watched is not begun.
	s, err := m.d.newSite(ctx, m.f.Baseline)
	if err != nil {
		return m.unwatched(ctx, n, err)
	}
	job, err := m.begin(ctx, n, say)
	if err != nil {
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

// begin finds the phase's unit at work or starts it. A record of one that has
// ended is replaced, also one of this run: only a phase of which the database
// lacks something gets here, and a resume runs what remains.
func (m migration) begin(ctx context.Context, n Node, say pipeline.Say) (node.Job, error) {
	job, err := n.Agent.JobStatus(ctx, m.unit())
	if err != nil {
		return job, fmt.Errorf("%s: cannot ask for %s: %w", n.Name, m.unit(), err)
	}
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
	if job, err = n.Agent.JobStart(ctx, in); err != nil {
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

// await waits for the unit's end. Meanwhile it tells the migrations as they pass,
// who blocks them, and keeps an eye on the site.
func (m migration) await(ctx context.Context, n Node, s *site, say pipeline.Say) (node.Job, error) {
	w := &migrationWatch{m: m, n: n, site: s, say: say, reported: time.Now()}
	var job node.Job
	var lost error
	for {
		if err := pipeline.Safe(ctx); err != nil {
			say("%s keeps running on %s; `refit resume` finds it again", m.unit(), n.Name)
			return job, err
		}
		now, err := n.Agent.JobStatus(ctx, m.unit())
		switch {
		case err == nil:
			job, lost = now, nil
			if job.State != node.JobRunning {
				w.progress(ctx)
				return job, nil
			}
		case ctx.Err() != nil:
			return job, context.Cause(ctx)
		case lost == nil:
			lost = err
			say("cannot ask %s for the migration, which goes on without us: %v", n.Name, err)
		}
		if lost == nil {
			if err := w.look(ctx); err != nil {
				return job, err
			}
		}
		if err := pause(ctx, time.Second); err != nil {
			return job, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// migrationWatch is what one waiting for a migration has seen.
type migrationWatch struct {
	m        migration
	n        Node
	site     *site
	say      pipeline.Say
	log      mastodon.MigrationLog
	offset   int64
	reported time.Time
	blocked  time.Time // since when it waits for somebody; zero while it works
	bad      int       // looks in a row at which the site was off its baseline
}

// badLooks is how many looks in a row must find the site off its baseline before
// the run stops: one second apart, and a reload or a spike must not end it.
const badLooks = 5

func (w *migrationWatch) look(ctx context.Context) error {
	w.progress(ctx)
	a, err := mastodon.ReadActivity(ctx, w.n.Agent, mastodon.ActivityIn{Layout: w.m.d.Layout, Direct: w.m.d.Direct})
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		w.say("cannot see what the migration waits for: %v", err)
		return nil
	}
	if len(a.Blockers) == 0 {
		w.blocked = time.Time{}
	} else if err := w.blockedBy(a); err != nil {
		return err
	}
	err = w.site.look(ctx)
	if err == nil {
		w.bad = 0
		return nil
	}
	if w.bad++; w.bad < badLooks {
		return nil
	}
	return &pipeline.NeedsPerson{
		State: fmt.Sprintf("users feel the migration: %v. %s keeps running on %s and must not be killed; no node was switched", err, w.m.unit(), w.n.Name),
		Next:  w.relief(a) + "`refit resume` once the site is well, or to wait on",
	}
}

// relief names the statement that ends what blocks the migration, if something does.
func (w *migrationWatch) relief(a mastodon.Activity) string {
	if len(a.Blockers) == 0 {
		return ""
	}
	return fmt.Sprintf("end what blocks it if it may be ended (select pg_terminate_backend(%d), as the database's owner), then ", a.Blockers[0].Pid)
}

// blockedBy tells who blocks the migration and what queues behind it.
func (w *migrationWatch) blockedBy(a mastodon.Activity) error {
	now := time.Now()
	first := w.blocked.IsZero()
	if first {
		w.blocked = now
	}
	b := a.Blockers[0]
	text := fmt.Sprintf("the migration waits for pid %d (%s, %s, %s, for %s): %s; %d sessions queue behind it",
		b.Pid, b.User, orUnknown2(b.Application), b.State, b.Age.Round(time.Second), b.Query, a.Queued)
	if first || now.Sub(w.reported) >= w.m.d.Waits.MigrateReport {
		w.say("%s", text)
		w.reported = now
	}
	if waited := now.Sub(w.blocked); waited >= w.m.d.Waits.MigrateStall {
		return &pipeline.NeedsPerson{
			State: fmt.Sprintf("the migration has waited on a lock for %s and still waits; %s keeps running on %s and must not be killed; no node was switched. %s",
				waited.Round(time.Second), w.m.unit(), w.n.Name, text),
			Next: w.relief(a) + "`refit resume`",
		}
	}
	return nil
}

func orUnknown2(s string) string {
	if s == "" {
		return "no application name"
	}
	return s
}

// progress tells the migrations that the log names since the last call.
func (w *migrationWatch) progress(ctx context.Context) {
	out, err := w.n.Agent.JobLog(ctx, node.JobLogIn{Unit: w.m.unit(), Offset: w.offset})
	if err != nil {
		w.say("cannot read the migration's log: %v", err)
		return
	}
	w.offset = out.Next
	for _, e := range w.log.Feed(out.Data) {
		w.say("%s", e)
	}
}

// judge decides by the database, not by the unit's word, how the phase ended.
func (m migration) judge(ctx context.Context, n Node, job node.Job, output string, say pipeline.Say) error {
	db, err := m.d.database(ctx)
	if err != nil {
		return &pipeline.NeedsPerson{
			State: fmt.Sprintf("%s has ended on %s and the database cannot be asked what it did", m.unit(), n.Name),
			Next:  "mend the way to the database, then `refit resume`", Err: err,
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
