package main

import (
	"strings"
	"testing"
)

func TestLabAFailedMigrationLeavesTheOldReleaseServing(t *testing.T) {
	f := on(t, "v4.5.2")
	f.withDatabase(t, func() {
		f.underLoad(t, func() {
			a := f.must(t, 6, "", []string{"upgrade", "--to", "v4.6.1", "--yes"}, "refit-migrate-pre.service on scotty failed", "migration 2026")
			if strings.Contains(a.err, "roll sidekiq scotty: begun") {
				t.Error("a node was rolled after the migration had failed")
			}
		})
		f.runsEverywhere(t, "v4.5.2")
	})
}

func TestLabAnInvalidIndexWaitsForAPersonWhoIsToldTheRemedy(t *testing.T) {
	f := on(t, "v4.5.2")
	f.withDatabase(t, func() {
		f.underLoad(t, func() {
			f.must(t, 7, "", []string{"upgrade", "--to", "v4.6.5", "--yes"}, "INVALID index", "REINDEX INDEX CONCURRENTLY", "refit resume")
		})
		f.runsEverywhere(t, "v4.5.2")
		f.must(t, 3, "", []string{"upgrade", "--to", "v4.6.0", "--yes"}, "left half way", "refit rollback")
		f.must(t, 0, "", []string{"status"}, "INVALID index", "v4.6.5")
	})
	f.must(t, 0, "", []string{"rollback", "--yes"})
	f.runsEverywhere(t, "v4.5.2")
}

func TestLabAMigrationThatWaitsOnALockIsReportedAndNeverKilled(t *testing.T) {
	f := on(t, "v4.5.2")
	f.withDatabase(t, func() {
		f.underLoad(t, func() {
			f.must(t, 7, f.config(t, "migrate_stall: 20s", "migrate_stall: 5s"), []string{"upgrade", "--to", "v4.6.2", "--yes"},
				"waits for pid", "refit-migrate-pre.service", "pg_terminate_backend", "must not be killed")
			out, err := f.Exec(t.Context(), "scotty", "systemctl", "is-active", "refit-migrate-pre.service")
			if err != nil || strings.TrimSpace(out) != "active" {
				t.Errorf("the migration does not run any more: %s %v", out, err)
			}
			f.runsEverywhere(t, "v4.5.2")
			f.queue(t, 2, "select count(*) from imports")
			// The lock goes by itself; the resumed run finds its own migration and goes on to the end.
			f.must(t, 0, f.config(t, "migrate_stall: 20s", "migrate_stall: 100s"), []string{"resume", "--yes"}, "found refit-migrate-pre.service at work", "; 2 sessions queue behind it", "new definitions given to the search server: AccountsIndex", "DONE")
			f.runsEverywhere(t, "v4.6.2")
			f.must(t, 0, "", []string{"rollback", "--yes"})
		})
		f.runsEverywhere(t, "v4.5.2")
	})
}

func TestLabAMigrationThatSlowsTheOldCodeWaitsForAPerson(t *testing.T) {
	full(t)
	f := on(t, "v4.5.2")
	f.withDatabase(t, func() {
		// Slowed like this the old code cannot serve sixty requests a second, so nobody
		// counts what fails here. It is given less time to recover than usual, going on
		// and going back.
		f.must(t, 7, f.config(t, "boot: 60s", "boot: 25s"), []string{"upgrade", "--to", "v4.6.3", "--yes"}, "off its baseline", "the page takes")
		f.runsEverywhere(t, "v4.5.2")
	})
	f.must(t, 0, "", []string{"rollback", "--yes"})
}
