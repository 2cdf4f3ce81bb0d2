package stages

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// silence is how long a migration is waited for without a word from its host, or
// from the database, before the wait is given up: the engine then waits for
// what is away, says so, and looks for the migration again.
const silence = 15 * time.Second

// await waits for the unit's end. Meanwhile it tells the migrations as they pass,
// who blocks them, and keeps an eye on the site.
func (m migration) await(ctx context.Context, n Node, s *site, say pipeline.Say) (node.Job, error) {
	w := &migrationWatch{m: m, n: n, site: s, say: say, reported: time.Now()}
	var job node.Job
	var lost time.Time // since when the host does not answer
	for {
		if err := pipeline.Safe(ctx); err != nil {
			say("%s keeps running on %s; `refit resume` finds it again", m.unit(), n.Name)
			return job, err
		}
		now, err := n.Agent.JobStatus(ctx, m.unit())
		switch {
		case err == nil:
			if !lost.IsZero() {
				say("%s answers again: %s there %s", n.Name, m.unit(), now.State)
			}
			job, lost = now, time.Time{}
			if job.State != node.JobRunning {
				w.progress(ctx)
				return job, nil
			}
			if err := w.look(ctx, job); err != nil {
				return job, err
			}
		case ctx.Err() != nil:
			return job, context.Cause(ctx)
		case lost.IsZero():
			lost = time.Now()
			say("cannot ask %s for the migration, which goes on without us: %v", n.Name, err)
		case time.Since(lost) >= silence:
			return job, &pipeline.NeedsPerson{
				State: fmt.Sprintf("%s does not answer, and %s was at work there: whether it still is, or how it ended, is not known", n.Name, m.unit()),
				Next:  fmt.Sprintf("bring %s back, then `refit resume`: it finds the migration or its result. Start no migration by hand", n.Name),
				Err:   err,
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
	unseen   time.Time // since when the database does not answer
	server   time.Time // when the database's server was started
	replaced time.Time // since when that is another server than the migration began on
	shaken   bool      // the site has not been at its baseline since then
	absent   time.Time // since when no session of the migration is in that server
}

// badLooks is how many looks in a row must find the site off its baseline before
// the run stops: one second apart, and a reload or a spike must not end it.
const badLooks = 5

// lookLimit is how long one look at the site may take: behind a migration that
// everybody queues for, pages do not answer at all, and that must not keep refit
// from telling so.
const lookLimit = 10 * time.Second

func (w *migrationWatch) look(ctx context.Context, job node.Job) error {
	if !w.progress(ctx) {
		return nil // most likely its host is away: the next question about the unit tells
	}
	a, err := w.m.activity(ctx, w.n)
	if err != nil {
		return w.blind(ctx, err)
	}
	w.unseen = time.Time{}
	w.compare(a, job)
	if err := w.orphaned(a); err != nil {
		return err
	}
	if len(a.Blockers) == 0 {
		w.blocked = time.Time{}
	} else if err := w.blockedBy(a); err != nil {
		return err
	}
	return w.felt(ctx, a)
}

func (m migration) activity(ctx context.Context, n Node) (mastodon.Activity, error) {
	return mastodon.ReadActivity(ctx, n.Agent, mastodon.ActivityIn{Layout: m.d.Layout, Direct: m.d.Direct})
}

// blind is a look at which the database does not answer. What users feel then is
// not the migration.
func (w *migrationWatch) blind(ctx context.Context, err error) error {
	now := time.Now()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case w.unseen.IsZero():
		w.unseen = now
		w.say("cannot see what the migration waits for: %v", err)
	case now.Sub(w.unseen) >= silence:
		return &pipeline.NeedsPerson{
			State: fmt.Sprintf("the database does not answer, and %s runs on %s", w.m.unit(), w.n.Name),
			Next:  "mend the way to the database, then `refit resume`: it finds the migration or its result", Err: err,
		}
	}
	return nil
}

// compare finds out whether another server answers than the one that the migration
// began on: the same one restarted, or a standby that took over.
func (w *migrationWatch) compare(a mastodon.Activity, job node.Job) {
	other := a.Started.After(job.Began)
	if !w.server.IsZero() {
		other = !a.Started.Equal(w.server)
	}
	w.server = a.Started
	if !other {
		return
	}
	w.replaced, w.shaken = time.Now(), true
	w.say("another server answers as the database, started %s: what users feel until the site is at its baseline again is not held against the migration", a.Started.Format(time.TimeOnly))
}

// orphaned stops at a unit that waits for a server that is gone: a connection to a
// machine that vanished without a word is not closed for hours, and no timer of
// ours ends a migration.
func (w *migrationWatch) orphaned(a mastodon.Activity) error {
	now := time.Now()
	switch {
	case w.replaced.IsZero() || a.LockHeld || len(a.Migrators) > 0:
		w.absent = time.Time{}
	case w.absent.IsZero():
		w.absent = now
	case now.Sub(w.absent) >= w.m.d.Waits.MigrateStall:
		return &pipeline.NeedsPerson{
			State: fmt.Sprintf("another server took over the database, and %s on %s has had no session in it for %s: it waits for the server that is gone", w.m.unit(), w.n.Name, now.Sub(w.absent).Round(time.Second)),
			Next:  fmt.Sprintf("make sure that the old server is off; then, on %s: systemctl stop %s; then `refit resume` runs what is left", w.n.Name, w.m.unit()),
		}
	}
	return nil
}

// felt stops at a site that has been off its baseline for some time.
func (w *migrationWatch) felt(ctx context.Context, a mastodon.Activity) error {
	looking, cancel := context.WithTimeoutCause(ctx, lookLimit, fmt.Errorf("the site does not answer within %s", lookLimit))
	defer cancel()
	err := w.site.look(looking)
	switch {
	case err == nil:
		w.bad, w.shaken = 0, false
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case looking.Err() != nil:
		err = context.Cause(looking)
	}
	if w.shaken && time.Since(w.replaced) < w.m.d.Waits.Boot {
		return nil
	}
	if w.bad++; w.bad < badLooks {
		return nil
	}
	return &pipeline.NeedsPerson{
		State: fmt.Sprintf("users feel the migration: %v. %s keeps running on %s and must not be killed; %s", err, w.m.unit(), w.n.Name, w.m.nodes()),
		Next:  w.relief(a) + "`refit resume` once the site is well, or to wait on",
	}
}

// nodes tells where the nodes stand while the phase runs.
func (m migration) nodes() string {
	if m.post {
		return "every node runs " + m.f.To.Version.String()
	}
	return "no node was switched"
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
	text := fmt.Sprintf("the migration waits for %s; %d sessions queue behind it", told(a.Blockers[0].Session), a.Queued)
	if first || now.Sub(w.reported) >= w.m.d.Waits.MigrateReport {
		w.say("%s", text)
		w.reported = now
	}
	if waited := now.Sub(w.blocked); waited >= w.m.d.Waits.MigrateStall {
		return &pipeline.NeedsPerson{
			State: fmt.Sprintf("the migration has waited on a lock for %s and still waits; %s keeps running on %s and must not be killed; %s. %s",
				waited.Round(time.Second), w.m.unit(), w.n.Name, w.m.nodes(), text),
			Next: w.relief(a) + "`refit resume`",
		}
	}
	return nil
}

// told tells a session as people look for it.
func told(s mastodon.Session) string {
	application := s.Application
	if application == "" {
		application = "no application name"
	}
	if s.State == "" {
		return fmt.Sprintf("pid %d (%s, %s): what it does is hidden from Mastodon's account; as the database's owner: select * from pg_stat_activity where pid = %d", s.Pid, s.User, application, s.Pid)
	}
	return fmt.Sprintf("pid %d (%s, %s, %s, for %s): %s", s.Pid, s.User, application, s.State, s.Age.Round(time.Second), s.Query)
}

// progress tells the migrations that the log names since the last call, and whether
// it could be read.
func (w *migrationWatch) progress(ctx context.Context) bool {
	out, err := w.n.Agent.JobLog(ctx, node.JobLogIn{Unit: w.m.unit(), Offset: w.offset})
	if err != nil {
		w.say("cannot read the migration's log: %v", err)
		return false
	}
	w.offset = out.Next
	for _, e := range w.log.Feed(out.Data) {
		w.say("%s", e)
	}
	return true
}

// alone waits until no session in the database migrates while the unit does not run.
// A session outlives its program: one that waits for a lock, or builds an index,
// does not notice that its client's host went away, and holds Rails' lock until it
// is through. A migration beside it would fail at once, and what is applied cannot
// be told before its end.
func (m migration) alone(ctx context.Context, n Node, say pipeline.Say) error {
	var held mastodon.Activity
	err := pipeline.Await(ctx, pipeline.Gate{
		Name: "no other session migrates", Within: m.d.Waits.MigrateStall, Safe: true,
		Probe: func(ctx context.Context) error {
			a, err := m.activity(ctx, n)
			if held = a; err != nil {
				return pipeline.Never(err)
			}
			if !a.LockHeld {
				return nil
			}
			return fmt.Errorf("the lock for migrations is held by %s", holder(a))
		},
	}, say)
	if _, over := errors.AsType[*pipeline.GateError](err); !over || !held.LockHeld {
		return err
	}
	return &pipeline.NeedsPerson{
		State: fmt.Sprintf("%s does not run on %s, and a session in the database migrates all the same: %s. It outlived its program, or somebody migrates by hand; no migration is started beside it", m.unit(), n.Name, holder(held)),
		Next:  "wait for its end, or end it if it may be ended (select pg_terminate_backend of its pid, as the database's owner); then `refit resume`",
		Err:   err,
	}
}

// holder tells who holds the lock for migrations, and whom it waits for.
func holder(a mastodon.Activity) string {
	text := "a session that cannot be seen"
	for _, s := range a.Migrators {
		if s.HoldsLock {
			text = told(s)
		}
	}
	if len(a.Blockers) > 0 {
		text += "; it waits for " + told(a.Blockers[0].Session)
	}
	return text
}
