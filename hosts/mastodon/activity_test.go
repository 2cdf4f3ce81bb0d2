package mastodon

import (
	"strings"
	"testing"
	"time"
)

func session(pid int, begun time.Duration, query string, waitsOn ...int) backend {
	b := backend{Session: Session{Pid: pid, User: "mastodon", Client: "10.77.0.32", Query: query, State: "active"}, begun: noon.Add(begun), waitsOn: waitsOn, here: true}
	if len(waitsOn) > 0 {
		b.Waits = "Lock/relation"
	}
	return b
}

func TestABlockedMigrationNamesItsBlockerAndCountsTheQueueBehind(t *testing.T) {
	blocker := session(30, -time.Hour, "select * from statuses")
	blocker.Client, blocker.Application, blocker.State, blocker.Age = "10.77.0.9", "psql", "idle in transaction", 3*time.Minute
	reader := session(40, -time.Hour, "select 1 from statuses", 21)
	reader.Client = "10.77.0.41"
	all := []backend{
		session(20, 0, "select pg_try_advisory_lock(1)"),         // Rails' lock
		session(21, 2*time.Second, "ALTER TABLE statuses …", 30), // the migration
		session(22, -time.Hour, "UPDATE accounts SET x = 1"),     // Sidekiq of the same host
		reader, // behind the migration
		{Session: Session{Pid: 41, Waits: "Lock/relation"}, waitsOn: []int{40}}, // behind the reader
		blocker,
	}
	// One that reads straight from the migration's host, just begun.
	all = append(all, session(42, 3*time.Second, "select 1 from statuses", 21))
	var a Activity
	a.judge(all, []int{20})
	if !a.LockHeld || len(a.Migrators) != 2 || !a.Migrators[0].HoldsLock {
		t.Fatalf("migrators %+v", a.Migrators)
	}
	if len(a.Blockers) != 1 || a.Blockers[0].Pid != 30 || len(a.Blockers[0].Blocks) != 1 || a.Blockers[0].Blocks[0] != 21 {
		t.Fatalf("blockers %+v", a.Blockers)
	}
	if a.Queued != 3 {
		t.Errorf("queued %d", a.Queued)
	}
	want := "pid 30 of mastodon (psql) from 10.77.0.9, idle in transaction for 3m0s: select * from statuses"
	if got := a.Blockers[0].String(); got != want {
		t.Errorf("%s", got)
	}
}

func TestAMigrationThatWaitsWithAnUpdateIsFoundToo(t *testing.T) {
	var a Activity
	a.judge([]backend{session(20, 0, "select 1"), session(21, time.Second, "UPDATE statuses SET x = 1", 30), session(30, -time.Hour, "select 1")}, []int{20})
	if len(a.Migrators) != 2 || len(a.Blockers) != 1 || a.Blockers[0].Pid != 30 {
		t.Errorf("%+v", a)
	}
}

func TestWithoutTheLockNobodyMigrates(t *testing.T) {
	var a Activity
	a.judge([]backend{session(21, 0, "ALTER TABLE x", 30), session(30, 0, "select 1")}, nil)
	if a.LockHeld || a.Migrators != nil || a.Blockers != nil || a.Queued != 0 {
		t.Errorf("got %+v", a)
	}
}

func TestABlockerThatIsNoSessionIsToldAllTheSame(t *testing.T) {
	var a Activity
	a.judge([]backend{session(21, 0, "ALTER TABLE x", 0)}, []int{21})
	if len(a.Blockers) != 1 || a.Blockers[0].State != "prepared transaction" {
		t.Errorf("got %+v", a.Blockers)
	}
}

func TestTheLocksKeyIsRails(t *testing.T) {
	// (2053462845 * Zlib.crc32("mastodon")).divmod(2**32), as Ruby computes it.
	if high, low := migrationLock("mastodon"); high != 1845837704 || low != 334760956 {
		t.Errorf("%d %d", high, low)
	}
}

func TestAStatementIsToldShortAndWithoutWhatPeopleWrote(t *testing.T) {
	for in, want := range map[string]string{
		"select  *\n from x": "select * from x",
		"insert into statuses (text) values ('it''s secret', 'x')": "insert into statuses (text) values ('…', '…')",
		"select 'unfinished": "select '…'",
	} {
		if got := shorten(in); got != want {
			t.Errorf("%q became %q", in, got)
		}
	}
	if got := []rune(shorten(strings.Repeat("ü", 500))); len(got) != maxQuery {
		t.Errorf("%d characters", len(got))
	}
}
