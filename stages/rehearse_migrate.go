package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// timeMigrations applies one phase to the copy of the database and notes the times. Who
// queues behind it and what users feel of it is not known there: nobody uses the copy.
type timeMigrations struct {
	rehearsing
	post bool
}

func (s timeMigrations) Name() string { return orWhy(s.post, "post-migrate", "pre-migrate") }

func (timeMigrations) Check(context.Context, pipeline.Say) error { return nil }

func (s timeMigrations) Run(ctx context.Context, say pipeline.Say) error {
	d, err := s.copies(ctx)
	if err != nil {
		return err
	}
	if err := s.phase(ctx, d, say); err != nil {
		return plainly(err)
	}
	if !s.post {
		// Whole: before the migrations its models could not be loaded.
		for _, n := range d.Fleet {
			if err := d.boots(ctx, n, s.f.To.Version.String(), true, say); err != nil {
				return fmt.Errorf("%s: the placed release does not boot on the new schema: %w", n.Name, err)
			}
		}
		return nil
	}
	for _, n := range d.Fleet {
		if err := s.gates(ctx, d, n, s.f.To.Version.String(), say); err != nil {
			return err
		}
	}
	s.r().Measured.At = time.Now().UTC()
	return pipeline.Remember(ctx)
}

// phase runs what the copy lacks of the phase, and reads its times.
func (s timeMigrations) phase(ctx context.Context, d Deps, say pipeline.Say) error {
	// Of its own: what a rehearsal applies is nothing that remains.
	m := migration{d, &Facts{From: s.f.From, To: s.f.To, Pre: s.f.Pre, Post: s.f.Post, Baseline: s.f.Baseline}, s.post}
	n := d.migrator()
	job, err := n.Agent.JobStatus(ctx, m.unit())
	if err != nil {
		return fmt.Errorf("%s: cannot ask for %s: %w", n.Name, m.unit(), err)
	}
	if job.State != node.JobRunning {
		db, err := d.database(ctx)
		if err != nil {
			return err
		}
		for _, r := range databaseRules(db) {
			return errors.New(r)
		}
		if len(lacking(s.f.To.Contents, db, s.post)) == 0 {
			if job.State == node.JobDone && m.ours(job) { // ended before a crash
				return s.times(ctx, m, n, job, say)
			}
			say("nothing is pending")
			return nil
		}
		if err := m.alone(ctx, n, say); err != nil {
			return err
		}
	}
	if job, err = m.begin(ctx, n, job, say); err != nil {
		return err
	}
	if job, err = s.await(ctx, m, n, say); err != nil {
		return err
	}
	output, err := d.logEnd(ctx, n, m.unit())
	if err != nil && !errors.Is(err, node.ErrNotFound) {
		return err
	}
	if err := m.judge(ctx, n, job, output, say); err != nil {
		return err
	}
	return s.times(ctx, m, n, job, say)
}

// await waits for the unit's end, and for its host, should that not answer for a while.
func (s timeMigrations) await(ctx context.Context, m migration, n Node, say pipeline.Say) (node.Job, error) {
	var job node.Job
	var gone time.Time
	w := &migrationWatch{m: m, n: n, say: say}
	for {
		if err := pipeline.Safe(ctx); err != nil {
			return job, err
		}
		now, err := n.Agent.JobStatus(ctx, m.unit())
		switch {
		case err == nil:
			job, gone = now, time.Time{}
			w.progress(ctx)
			if job.State != node.JobRunning {
				return job, nil
			}
		case ctx.Err() != nil:
			return job, context.Cause(ctx)
		case gone.IsZero():
			gone = time.Now()
			say("cannot ask %s for the migration: %v", n.Name, err)
		case time.Since(gone) > s.d.Waits.Boot:
			return job, fmt.Errorf("%s does not answer, and %s was at work there: %w", n.Name, m.unit(), err)
		}
		if err := pause(ctx, time.Second); err != nil {
			return job, err
		}
	}
}

// times reads the whole log, so that a run that was resumed has every time too.
func (s timeMigrations) times(ctx context.Context, m migration, n Node, job node.Job, say pipeline.Say) error {
	var log mastodon.MigrationLog
	for offset := int64(0); ; {
		out, err := n.Agent.JobLog(ctx, node.JobLogIn{Unit: m.unit(), Offset: offset})
		if err != nil {
			return fmt.Errorf("%s: cannot read the log of %s: %w", n.Name, m.unit(), err)
		}
		log.Feed(out.Data)
		if out.Next <= offset || out.Next >= out.Size {
			break
		}
		offset = out.Next
	}
	r := &s.r().Measured
	r.Migrations = slices.DeleteFunc(r.Migrations, func(t Timed) bool { return t.Post == s.post })
	for _, e := range log.Finished {
		r.Migrations = append(r.Migrations, Timed{e.Version, e.Name, s.post, e.Took})
	}
	took := &r.Pre
	if s.post {
		took = &r.Post
	}
	*took = job.Ended.Sub(job.Began).Round(100 * time.Millisecond)
	say("%s took %s", count(len(log.Finished), "migration"), *took)
	return pipeline.Remember(ctx)
}

// Undo has nothing to take back: the copy is destroyed.
func (timeMigrations) Undo(context.Context, pipeline.Say) error { return nil }

// rows says on how much data times were measured.
func (m *Measured) rows() string {
	var out []string
	for _, t := range m.Tables[:min(len(m.Tables), 3)] {
		out = append(out, fmt.Sprintf("%s rows in %s", humanize.Comma(t.Rows), t.Name))
	}
	return fmt.Sprintf("%s, about %s", humanize.IBytes(uint64(max(m.Size, 0))), strings.Join(out, ", "))
}

// Lines say what a rehearsal found out, for people. pending are the versions that count.
func (m *Measured) Lines(pending func(version string) bool) []string {
	if m.At.IsZero() {
		return nil
	}
	out := []string{fmt.Sprintf("rehearsed %s on a copy (%s): while the old code serves %s, afterwards %s", m.At.Format("2006-01-02 15:04 MST"), m.rows(), m.Pre, m.Post)}
	for _, t := range m.Migrations {
		if pending == nil || pending(t.Version) {
			out = append(out, fmt.Sprintf("%s %s took %s there", t.Version, t.Name, t.Took))
		}
	}
	return out
}
