package mastodon

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const migrateOutput = `== 20250717003848 CreateUsernameBlocks: migrating =============================
-- create_table(:username_blocks)
   -> 0.0312s
-- add_index(:username_blocks, "lower(username)", {:unique=>true})
   -> 0.0021s
== 20250717003848 CreateUsernameBlocks: migrated (0.0412s) ====================

== 20250805075010 AddDeliveryLastFailedAtToFaspProviders: migrating ===========
-- add_column(:fasp_providers, :delivery_last_failed_at, :datetime)
`

func TestProgressOfAMigrationIsReadHoweverItsBytesArrive(t *testing.T) {
	for _, size := range []int{1, 7, 10000} {
		var log MigrationLog
		var said []string
		for b := []byte(migrateOutput); len(b) > 0; {
			n := min(size, len(b))
			for _, e := range log.Feed(b[:n]) {
				said = append(said, e.String())
			}
			b = b[n:]
		}
		want := []string{
			"20250717003848 CreateUsernameBlocks: begun",
			"20250717003848 CreateUsernameBlocks: create_table(:username_blocks)",
			`20250717003848 CreateUsernameBlocks: add_index(:username_blocks, "lower(username)", {:unique=>true})`,
			"20250717003848 CreateUsernameBlocks: migrated in 41.2ms",
			"20250805075010 AddDeliveryLastFailedAtToFaspProviders: begun",
			"20250805075010 AddDeliveryLastFailedAtToFaspProviders: add_column(:fasp_providers, :delivery_last_failed_at, :datetime)",
		}
		if diff := cmp.Diff(want, said); diff != "" {
			t.Errorf("in pieces of %d: %s", size, diff)
		}
		if len(log.Finished) != 1 || log.Finished[0].Took != 41200*time.Microsecond || log.Current == nil || log.Current.Version != "20250805075010" {
			t.Errorf("%+v", log)
		}
	}
}

func TestPendingMigrationsAreReadWithTheExitStatus(t *testing.T) {
	two := "You have 2 pending migrations:\n  20250717003848 CreateUsernameBlocks\n  20250805075010 AddDeliveryLastFailedAt\nRun `bin/rails db:migrate` to update your database then try again.\n"
	for name, c := range map[string]struct {
		output string
		exit   int
		want   []PendingMigration
		says   string
	}{
		"none":                {"", 0, nil, ""},
		"none, with warnings": {"warning: something old\n", 0, nil, ""},
		"two":                 {two, 1, []PendingMigration{{"20250717003848", "CreateUsernameBlocks"}, {"20250805075010", "AddDeliveryLastFailedAt"}}, ""},
		"one":                 {"You have 1 pending migration:\n  20250717003848 CreateUsernameBlocks\n", 1, []PendingMigration{{"20250717003848", "CreateUsernameBlocks"}}, ""},
		"a list cut short":    {"You have 2 pending migrations:\n  20250717003848 CreateUsernameBlocks\n", 1, nil, "2 announced, 1 listed"},
		"another failure":     {"rails aborted!\nPG::ConnectionBad: connection refused\n", 1, nil, "PG::ConnectionBad"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ReadPending(c.output, c.exit)
			if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
			if (c.says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestABootedReleaseSaysItsVersion(t *testing.T) {
	if v, err := ReadBooted("DEPRECATION WARNING: x\nrefit.version=4.5.15\n"); err != nil || v != "4.5.15" {
		t.Errorf("%q, %v", v, err)
	}
	_, err := ReadBooted("bundler: failed to load command: rails\n/x/boot.rb:3:in `require'\nlibidn.so.11: cannot open shared object file: No such file or directory - x.so (LoadError)\n")
	if err == nil || !strings.Contains(err.Error(), "libidn.so.11") {
		t.Errorf("%v", err)
	}
}

func TestChangedIndexesAreReadAndACutAnswerIsAnError(t *testing.T) {
	got, err := ReadSearchChanged("noise\nrefit.index=AccountsIndex mappings\nrefit.index=TagsIndex mappings,settings\nrefit.index=X \nrefit.index=Y missing\nrefit.indexes=done\n")
	want := []ChangedIndex{{Name: "AccountsIndex", Parts: []string{"mappings"}}, {Name: "TagsIndex", Parts: []string{"mappings", "settings"}}, {Name: "X"}, {Name: "Y", Missing: true}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	if !want[0].InPlace() || want[1].InPlace() || want[2].InPlace() || want[3].InPlace() || !(ChangedIndex{Parts: []string{"analysers", "mappings"}}).InPlace() {
		t.Error("only the first can be changed in place")
	}
	if _, err := ReadSearchChanged("refit.index=AccountsIndex mappings\nFaraday::ConnectionFailed: refused"); err == nil {
		t.Error("no error")
	}
}

func TestAnErrorThatNobodyCaughtIsNoFrame(t *testing.T) {
	got := FailureLines("/home/mastodon/releases/v4.3.23/vendor/bundle/ruby/3.3.0/gems/activerecord-7.1.6/lib/active_record/statements.rb:55:in `exec': PG::UndefinedTable: ERROR:  relation \"users\" does not exist (ActiveRecord::StatementInvalid)\n"+
		"LINE 10:  WHERE a.attrelid = '\"users\"'::regclass\n                             ^\n"+
		"\tfrom /home/mastodon/releases/v4.3.23/vendor/bundle/ruby/3.3.0/gems/activerecord-7.1.6/lib/active_record/statements.rb:55:in `block (2 levels) in raw_execute'\n", 5)
	if len(got) != 1 || !strings.Contains(got[0], `relation "users" does not exist`) {
		t.Errorf("got %q", got)
	}
}

func TestTheLinesThatNameTheCauseAreKept(t *testing.T) {
	failed := migrateOutput + `bin/rails aborted!
StandardError: An error has occurred, all later migrations canceled: (StandardError)

PG::NotNullViolation: ERROR:  column "x" of relation "accounts" contains null values
/home/mastodon/releases/v4.6.0/db/migrate/20260101000000_break.rb:5:in 'Break#change'
/home/mastodon/releases/v4.6.0/vendor/bundle/ruby/3.3.0/gems/activerecord-8.0/lib/active_record/migration.rb:1000:in 'block'
<internal:kernel>:187:in 'loop'

Caused by:
ActiveRecord::NotNullViolation: PG::NotNullViolation: ERROR:  column "x" of relation "accounts" contains null values (ActiveRecord::NotNullViolation)
Tasks: TOP => db:migrate
(See full trace by running task with --trace)
`
	got := FailureLines(failed, 4)
	want := []string{
		"StandardError: An error has occurred, all later migrations canceled: (StandardError)",
		`PG::NotNullViolation: ERROR:  column "x" of relation "accounts" contains null values`,
		"Caused by:",
		`ActiveRecord::NotNullViolation: PG::NotNullViolation: ERROR:  column "x" of relation "accounts" contains null values (ActiveRecord::NotNullViolation)`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := FailureLines("one\ntwo\n\nthree\n", 2); !cmp.Equal(got, []string{"two", "three"}) {
		t.Errorf("%q", got)
	}
	if got := FailureLines("", 3); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

func TestAnAddressThatAToolQuotesLosesItsPassword(t *testing.T) {
	got := strings.Join(FailureLines("Redis::CannotConnectError: Error connecting to redis://:canary-redis@127.0.0.1:6379/0\nPG::ConnectionBad: invalid dsn: host=majel password='canary db' dbname=x\n", 5), "\n")
	if strings.Contains(got, "canary") || !strings.Contains(got, "redis://:[hidden]@127.0.0.1:6379/0") || !strings.Contains(got, "host=majel password=[hidden] dbname=x") {
		t.Errorf("got %s", got)
	}
}

func TestAFailureThatIsKnownHasAHint(t *testing.T) {
	for output, want := range map[string]string{
		"WARNING:  you don't own a lock of type ExclusiveLock\nFailed to release advisory lock": "transaction pooler",
		"ActiveRecord::ConcurrentMigrationError: Cannot run migrations because":                 "another migration holds the lock",
		"PG::DuplicateTable: ERROR:  relation \"index_x\" already exists":                       "INVALID",
		"PG::ReadOnlySqlTransaction: ERROR":                                                     "standby",
		"PG::AdminShutdown: FATAL":                                                              "run again",
	} {
		if got := MigrationHint(output); !strings.Contains(got, want) {
			t.Errorf("%q: %q", output, got)
		}
	}
	if got := MigrationHint("PG::UndefinedColumn: ERROR"); got != "" {
		t.Errorf("%q", got)
	}
}
