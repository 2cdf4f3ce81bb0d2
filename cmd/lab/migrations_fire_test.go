package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/lab"
)

// everyLast keeps a migration waiting when it is through and its version is written.
// The application does not read that table, so nobody queues behind.
const everyLast = "lock table schema_migrations in share mode"

// TestLabAMigrationUnderFireIsFoundAgainOrRunAgain cuts the link to the migration's
// host, pulls that host's plug and fails the database over, in one pre-migration.
func TestLabAMigrationUnderFireIsFoundAgainOrRunAgain(t *testing.T) {
	full(t)
	f := on(t, "v4.5.2")
	was := f.Primary
	f.withDatabase(t, func() {
		f.session(t, "nightly-report", everyLast, true)
		var up *errand
		f.underLoad(t, func() {
			up = f.errand(t, f.config(t, "migrate_stall: 20s", "migrate_stall: 100s"), "upgrade", "--to", "v4.6.0", "--yes")
			up.hears(t, 0, "the migration waits for pid")
			f.cutFor(t, "scotty", func() { up.hears(t, 0, "cannot ask scotty for the migration") })
			up.hears(t, 0, "scotty answers again: refit-migrate-pre.service there running")
		})
		f.plugUnder(t, up, "refit-migrate-pre.service", "CreateCollections: begun", everyLast)
		f.failoverUnder(t, up, "refit-migrate-pre.service", "the database was away or was restarted, so the step is run again")
		up.hears(t, 0, "on scotty: applied: 20251118115700")
		up.stop(t)
		a := up.ends(t, 130, "refit resume")
		begun(t, a, map[string]int{"CreateCollections": 3, "AddLanguageToStatuses": 1, "AddIndexOnLanguageToStatuses": 1, "FillLanguageOfStatuses": 1})
		f.hasEverything(t, "20251118115700", "20251201150000", "20260127140000", "20260211130000")
		f.runsEverywhere(t, "v4.5.2")
		f.must(t, 0, "", []string{"rollback", "--yes"}, "these migrations remain")
		f.home(t, was)
	})
	f.runsEverywhere(t, "v4.5.2")
}

// cutFor cuts a host off while do waits.
func (f *fleet) cutFor(t *testing.T, host string, do func()) {
	t.Helper()
	began := time.Now()
	if err := f.Cut(t.Context(), host); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Heal(context.WithoutCancel(t.Context()), host); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s was cut off for %.1f s", host, time.Since(began).Seconds())
	}()
	do()
}

// plugUnder pulls scotty's plug while the migration waits for the nightly report, and
// starts it again. Its session outlives it in the database, so that nothing is
// started until it is gone; then the rest is run, and waits for the weekly report,
// which does the statement given.
func (f *fleet) plugUnder(t *testing.T, up *errand, unit, again, statement string) {
	t.Helper()
	from, began := up.said(), time.Now()
	met := f.users(t, func() {
		if err := f.PowerOff(t.Context(), "scotty"); err != nil {
			t.Fatal(err)
		}
		if err := f.Start(t.Context(), "scotty"); err != nil {
			t.Fatal(err)
		}
		t.Logf("scotty runs again %.1f s after its plug was pulled", time.Since(began).Seconds())
		up.hears(t, from, unit+" on scotty: its end was not seen")
		up.hears(t, from, "waiting for no other session migrates")
		if n := strings.TrimSpace(f.sql(t, "select count(*) from pg_locks where locktype = 'advisory' and granted and objsubid = 1")); n != "1" {
			t.Errorf("%s sessions hold the lock for migrations", n)
		}
		// It queues behind the migration's own session, and has the lock when that is gone.
		f.session(t, "weekly-report", statement+"; select pg_sleep(600)", false)
		f.endSession(t, "nightly-report")
		up.hears(t, from, "scotty was away or was restarted, so the step is run again")
		up.hears(t, from, again)
		up.hears(t, from, "(postgres, weekly-report): what it does is hidden")
	})
	if met.Requests.Failed > 0 {
		t.Errorf("%d of %d requests failed:%s", met.Requests.Failed, met.Requests.Sent, failures(met))
	}
}

// users works on the site while do runs, and tells what users met.
func (f *fleet) users(t *testing.T, do func()) lab.LoadReport {
	t.Helper()
	load, err := f.StartLoad(t.Context(), lab.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var met lab.LoadReport
	func() {
		defer func() { met = load.Stop() }()
		do()
	}()
	t.Logf("users: %d requests, %d failed; %d events, %d lost", met.Requests.Sent, met.Requests.Failed, met.Events.Sent, met.Events.Lost)
	return met
}

// failoverUnder promotes the standby while the migration waits.
func (f *fleet) failoverUnder(t *testing.T, up *errand, unit, words string) {
	t.Helper()
	from, began := up.said(), time.Now()
	f.users(t, func() {
		if err := f.PromoteStandby(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s is the primary after %.1f s", f.Primary, time.Since(began).Seconds())
		up.hears(t, from, unit+" on scotty: exit status 1; the database decides what it did")
		up.hears(t, from, words)
		up.hears(t, from, unit+" runs on scotty")
		up.hears(t, from, "on scotty: applied: ")
	})
}

// begun asks how often each migration was begun.
func begun(t *testing.T, a answer, want map[string]int) {
	t.Helper()
	for name, n := range want {
		if got := strings.Count(a.err, name+": begun"); got != n {
			t.Errorf("%s was begun %d times, not %d", name, got, n)
		}
	}
}

// hasEverything asks that the database that serves now has the migrations.
func (f *fleet) hasEverything(t *testing.T, versions ...string) {
	t.Helper()
	for _, v := range versions {
		if got := strings.TrimSpace(f.sql(t, "select count(*) from schema_migrations where version = '"+v+"'")); got != "1" {
			t.Errorf("%s has migration %s %s times", f.Primary, v, got)
		}
	}
}

// home makes a server the primary again, with the other one as its standby.
func (f *fleet) home(t *testing.T, was string) {
	t.Helper()
	if f.Primary == was {
		return
	}
	if err := f.RebuildStandby(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.PromoteStandby(t.Context()); err != nil {
		t.Fatal(err)
	}
}
