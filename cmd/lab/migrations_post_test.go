package main

import (
	"strings"
	"testing"
)

// lastOfTwo keeps v4.7.0's second post-migration waiting, which drops a table that
// v4.7.0 does not use, before it has any lock: with the table's foreign keys it locks
// what they point at, and users would queue behind.
const lastOfTwo = "lock table imports in access share mode"

// TestLabPostMigrationsUnderFireAreRunToTheirEnd does to the post-migrations what the
// test of the pre-migrations does to those, and lets the standby that takes over
// lack the first of them. It ends on the release that it finds, put back by hand:
// past the point of no return refit itself goes forward only.
func TestLabPostMigrationsUnderFireAreRunToTheirEnd(t *testing.T) {
	full(t)
	f := theFleet(t)
	from, was := f.runningRelease(t), f.Primary
	f.withDatabase(t, func() {
		f.keepRelease(t, from)
		f.must(t, 0, "", []string{"upgrade", "--to", "v4.6.0", "--yes"})
		var up *errand
		f.underLoad(t, func() {
			// Three faults come one upon the other; the patience is for all of them.
			up = f.errand(t, f.config(t, "migrate_stall: 20s", "migrate_stall: 100s", "unreachable: 60s", "unreachable: 5m"), "upgrade", "--to", "v4.7.0", "--yes")
			// Not earlier: an index that is built concurrently waits for every older transaction.
			up.hears(t, 0, "soak: begun")
			f.session(t, "nightly-report", lastOfTwo, true)
			up.hears(t, 0, "point of no return")
			f.leaveBehind(t)
			up.hears(t, 0, "the migration waits for pid")
			from := up.said()
			f.cutFor(t, "scotty", func() { up.hears(t, from, "waiting for scotty") })
			up.hears(t, from, "everything answers again, so the step is run again")
			up.hears(t, from, "found refit-migrate-post.service at work on scotty")
		})
		f.plugUnder(t, up, "refit-migrate-post.service", "DropImports: begun", lastOfTwo)
		f.failoverUnder(t, up, "refit-migrate-post.service", "the database was away or was restarted, so the step is run again")
		a := up.ends(t, 0, "DONE")
		// Once more than they were begun: who finds the unit at work reads its log from the top.
		begun(t, a, map[string]int{"RemoveSettingsFromAccounts": 3, "DropImports": 4})
		f.hasEverything(t, "20260610100000", "20260612090000", "20260620100000", "20260620110000")
		f.runsEverywhere(t, "v4.7.0")
		f.must(t, 3, "", []string{"rollback", "--yes"}, "cannot go back to v4.6.0")
		f.home(t, was)
		f.putRelease(t, from)
	})
	f.runsEverywhere(t, from)
	f.must(t, 0, "", []string{"upgrade", "--to", from, "--yes"}, "nothing to do")
}

// runningRelease is what the fleet runs.
func (f *fleet) runningRelease(t *testing.T) string {
	t.Helper()
	out, err := f.Exec(t.Context(), "kirk", "sh", "-c", `basename "$(readlink /home/mastodon/live)"`)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// keepRelease keeps a release where no prune finds it.
func (f *fleet) keepRelease(t *testing.T, release string) {
	t.Helper()
	for host := range appUnits {
		if _, err := f.Exec(t.Context(), host, "cp", "-al", "/home/mastodon/releases/"+release, "/home/mastodon/kept"); err != nil {
			t.Fatal(err)
		}
	}
}

// putRelease makes a kept release the live one, which runs after a restart.
func (f *fleet) putRelease(t *testing.T, release string) {
	t.Helper()
	const script = `set -e; cd /home/mastodon; if [ -d "releases/$1" ]; then rm -rf kept; else mv kept "releases/$1"; fi; ln -sfn "releases/$1" live`
	for host := range appUnits {
		if _, err := f.Exec(t.Context(), host, "sh", "-c", script, "sh", release); err != nil {
			t.Fatal(err)
		}
	}
}

// leaveBehind lets the standby follow the primary no further.
func (f *fleet) leaveBehind(t *testing.T) {
	t.Helper()
	for _, statement := range []string{"alter system set primary_conninfo = ''", "select pg_reload_conf()"} {
		if _, err := f.Exec(t.Context(), f.Standby(), "runuser", "-u", "postgres", "--", "psql", "-qAt", "-c", statement); err != nil {
			t.Fatal(err)
		}
	}
	f.awaitSQL(t, "select count(*) from pg_stat_replication", "0")
}
