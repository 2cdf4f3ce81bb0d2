package stages

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

func needsPerson(t *testing.T, err error, state, next string) *pipeline.NeedsPerson {
	t.Helper()
	p, ok := errors.AsType[*pipeline.NeedsPerson](err)
	if !ok {
		t.Fatalf("nobody is asked for: %v", err)
	}
	if !strings.Contains(p.Error(), state) || !strings.Contains(p.Next, next) {
		t.Errorf("state %q, next %q; wanted %q, %q", p.Error(), p.Next, state, next)
	}
	return p
}

// atWork is a unit of the pre-migrations that somebody started.
func (w *world) atWork(release string) {
	w.jobs[preUnit] = node.Job{Unit: preUnit, State: node.JobRunning, Argv: mastodon.PreMigrate(w.d.Layout, release, preUnit, w.d.Direct).Argv, Run: "u-0", Began: morning}
}

func TestPreMigrationsRunOnceAndTheDatabaseSaysWhichWereApplied(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := preMigrate{w.d, w.f}
		if err := s.Check(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		for range 2 { // as after a crash: the second finds that nothing remains
			if err := s.Run(t.Context(), w.say); err != nil {
				t.Fatal(err)
			}
			did(t, w, "scotty: start refit-migrate-pre.service")
			if !slices.Equal(w.f.Applied, []builds.Migration{preMigration}) {
				t.Errorf("applied: %v", w.f.Applied)
			}
		}
		if !w.heard("the database has every pre-migration of v4.5.15") || !w.heard("applied: 20251101000000 add_a_column") {
			t.Errorf("said: %q", w.said)
		}
	})
}

func TestTheReleaseIsBootedWholeOnlyWhenItsColumnsAreThere(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		if err := (preMigrate{w.d, w.f}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		slices.Sort(w.booted)
		if want := []string{"decker runner", "kirk runner", "scotty runner", "spock runner"}; !slices.Equal(w.booted, want) {
			t.Errorf("booted %q, want %q", w.booted, want)
		}
		for pre, want := range map[bool]string{true: "kirk -e", false: "kirk runner"} {
			w.booted, w.f.Pre = nil, nil
			if pre {
				w.f.Pre = []builds.Migration{preMigration}
			}
			if err := (place{w.d, w.f}).boot(t.Context(), w.say); err != nil {
				t.Fatal(err)
			}
			if len(w.booted) != 4 || !slices.Contains(w.booted, want) {
				t.Errorf("pre-migrations %v: booted %q, want %q", pre, w.booted, want)
			}
		}
	})
}

func TestAReleaseThatDoesNotBootOnTheNewSchemaIsNotRolled(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.unbootable = "spock"
		err := (preMigrate{w.d, w.f}).Run(t.Context(), w.say)
		if err == nil || !strings.Contains(err.Error(), "spock: the placed release does not boot on the new schema") {
			t.Errorf("got %v", err)
		}
	})
}

func TestAMigrationFoundRunningIsWaitedForAndNotStartedAgain(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.atWork("v4.5.15")
		if err := (preMigrate{w.d, w.f}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		did(t, w, "")
		if !w.heard("found refit-migrate-pre.service at work on scotty, since 07:30:00") {
			t.Errorf("said: %q", w.said)
		}
	})
}

func TestAMigrationOfAnotherReleaseWaitsForAPerson(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.atWork("v4.5.13")
		err := (preMigrate{w.d, w.f}).Run(t.Context(), w.say)
		needsPerson(t, err, "refit-migrate-pre.service runs on scotty for another release (/home/mastodon/releases/v4.5.13/", "then `refit resume`")
		did(t, w, "")
	})
}

func TestAFailedMigrationNamesItsCauseTheHintAndWhatIsNotApplied(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.ends = breaks
		err := (preMigrate{w.d, w.f}).Run(t.Context(), w.say)
		failsWith(t, err, "refit-migrate-pre.service on scotty failed: exit status 1", "a lock was not free in time", "not applied: 20251101000000 add_a_column")
		if e, ok := errors.AsType[*pipeline.Evidence](err); !ok || !slices.ContainsFunc(e.Lines, func(l string) bool { return strings.Contains(l, "PG::LockNotAvailable") }) {
			t.Errorf("evidence: %+v", e)
		}
		if _, ok := errors.AsType[*pipeline.NeedsPerson](err); ok || len(w.f.Applied) > 0 {
			t.Errorf("a person is asked for where the old code still serves: %v, applied %v", err, w.f.Applied)
		}
	})
}

func TestAMigrationThatFailedIsRunAgainOnResume(t *testing.T) {
	for name, ends := range map[string]func(*world, node.Job) node.Job{
		"it ended badly": breaks,
		"it ended well, in another database": func(_ *world, j node.Job) node.Job {
			j.State, j.Result = node.JobDone, "success"
			return j
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.ends = ends
				if err := (preMigrate{w.d, w.f}).Run(t.Context(), w.say); err == nil {
					t.Fatal("it went well")
				}
				w.ends, w.lasts = migrates, 2 // the cause is mended; the run is the same
				if err := (preMigrate{w.d, w.f}).Run(t.Context(), w.say); err != nil {
					t.Fatal(err)
				}
				did(t, w, "scotty: start refit-migrate-pre.service, scotty: start refit-migrate-pre.service")
			})
		})
	}
}

func TestAUnitThatEndedWellAndAppliedNothingWroteElsewhere(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.ends = func(_ *world, j node.Job) node.Job {
			j.State, j.Result = node.JobDone, "success"
			return j
		}
		err := (preMigrate{w.d, w.f}).Run(t.Context(), w.say)
		failsWith(t, err, "ended well and the database still lacks 20251101000000 add_a_column: it wrote to another database; check the database section of refit.yml")
	})
}

func TestADatabaseThatHasEverythingOverrulesAFailedUnit(t *testing.T) {
	for name, end := range map[string]node.Job{
		"a bad status":    {State: node.JobDone, Result: "exit-code", Code: 1},
		"an unknown end":  {State: node.JobUnknown, Text: "the host was restarted while it ran"},
		"out of memory":   {State: node.JobDone, Result: "oom-kill", Code: -1, Signal: "KILL"},
		"the host is new": {State: node.JobNone},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.ends = func(w *world, j node.Job) node.Job {
					migrates(w, j)
					end.Unit, end.Argv = j.Unit, j.Argv
					return end
				}
				if err := (preMigrate{w.d, w.f}).Run(t.Context(), w.say); err != nil {
					t.Fatal(err)
				}
				if !w.heard("did not end well, but the database has every migration") || len(w.f.Applied) != 1 {
					t.Errorf("said %q, applied %v", w.said, w.f.Applied)
				}
			})
		})
	}
}

func TestAnInvalidIndexWaitsForAPersonWithItsRemedy(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.ends = func(w *world, j node.Job) node.Job {
			w.db.Invalid = []mastodon.Index{{Name: "index_a", Table: "accounts"}}
			return breaks(w, j)
		}
		err := (preMigrate{w.d, w.f}).Run(t.Context(), w.say)
		p := needsPerson(t, err, "INVALID index: index_a on accounts", "as the database's owner: REINDEX INDEX CONCURRENTLY index_a")
		if !strings.Contains(p.Error(), "refit-migrate-pre.service on scotty failed") {
			t.Errorf("the failure is not told: %v", p)
		}
		err = (preMigrate{w.d, w.f}).Check(t.Context(), w.say)
		if !errors.Is(err, pipeline.ErrRefused) {
			t.Errorf("not refused while the index is there: %v", err)
		}
	})
}

func TestAnInvalidIndexIsNotOverlookedWhereTheUnitEndedWell(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.ends = func(w *world, j node.Job) node.Job {
			w.db.Invalid = []mastodon.Index{{Name: "index_a", Table: "accounts"}}
			return migrates(w, j)
		}
		err := (preMigrate{w.d, w.f}).Run(t.Context(), w.say)
		needsPerson(t, err, "INVALID index", "then `refit resume`")
		if len(w.f.Applied) != 1 {
			t.Errorf("applied: %v", w.f.Applied)
		}
	})
}

func TestADatabaseThatCannotBeAskedAfterAMigrationWaitsForAPerson(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.ends = func(w *world, j node.Job) node.Job {
			w.dbFails = errDown
			return migrates(w, j)
		}
		err := (preMigrate{w.d, w.f}).Run(t.Context(), w.say)
		needsPerson(t, err, "refit-migrate-pre.service has ended on scotty and the database cannot be asked what it did", "then `refit resume`")
	})
}

func TestAMigrationThatWaitsOnALockIsToldAndLeftAlone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.lasts = 1 << 20
		w.blockers = []mastodon.Blocker{{Session: mastodon.Session{Pid: 4711, User: "backup", State: "idle in transaction", Age: time.Hour, Query: "SELECT 1"}}}
		began := time.Now()
		err := (preMigrate{w.d, w.f}).Run(t.Context(), w.say)
		needsPerson(t, err, "refit-migrate-pre.service keeps running on scotty and must not be killed; no node was switched", "pg_terminate_backend(4711)")
		if waited := time.Since(began); waited < w.d.Waits.MigrateStall || waited > w.d.Waits.MigrateStall+5*time.Second {
			t.Errorf("waited %s", waited)
		}
		told := 0
		for _, line := range w.said {
			if strings.Contains(line, "waits for pid 4711 (backup, no application name, idle in transaction, for 1h0m0s): SELECT 1; 3 sessions queue behind it") {
				told++
			}
		}
		if told < 5 || told > 7 { // at once, and every ten seconds of the minute
			t.Errorf("told %d times", told)
		}
		did(t, w, "scotty: start refit-migrate-pre.service")
	})
}

func TestABlockerOfAnotherRoleIsToldAsFarAsItCanBeSeen(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.lasts = 1 << 20
		w.blockers = []mastodon.Blocker{{Session: mastodon.Session{Pid: 4711, User: "postgres", Query: "<insufficient privilege>"}}}
		err := (preMigrate{w.d, w.f}).Run(t.Context(), w.say)
		needsPerson(t, err, "waits for pid 4711 (postgres, no application name): what it does is hidden from Mastodon's account; as the database's owner: select * from pg_stat_activity where pid = 4711; 3 sessions", "pg_terminate_backend(4711)")
	})
}

func TestUsersWhoFeelAMigrationStopTheRunAndNotTheMigration(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.lasts = 1 << 20
		w.after(1500*time.Millisecond, func() { w.errors5xx = 20 })
		err := (preMigrate{w.d, w.f}).Run(t.Context(), w.say)
		needsPerson(t, err, "users feel the migration: 40 of 60 requests were answered with a 5xx. refit-migrate-pre.service keeps running on scotty", "`refit resume`")
		did(t, w, "scotty: start refit-migrate-pre.service")
	})
}

func TestASpikeDuringAMigrationIsBorne(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.lasts = badLooks + 1 // fewer looks than that are bad
		w.after(1500*time.Millisecond, func() { w.errors5xx = 20 })
		ends := w.ends
		w.ends = func(w *world, j node.Job) node.Job {
			w.errors5xx = 0
			return ends(w, j)
		}
		if err := (preMigrate{w.d, w.f}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAMigrationThatCannotBeWatchedIsNotTakenForFailed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.atWork("v4.5.15")
		w.lasts = 1 << 20
		w.fails["sulu access"] = errDown
		err := (preMigrate{w.d, w.f}).Run(t.Context(), w.say)
		needsPerson(t, err, "refit-migrate-pre.service keeps running on scotty", "`refit resume`")
	})
}

func TestNothingIsCalledTakenBackWhileAMigrationRuns(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.atWork("v4.5.15")
		w.lasts = 1 << 20
		err := (preMigrate{w.d, w.f}).Undo(t.Context(), w.say)
		needsPerson(t, err, "refit-migrate-pre.service still runs on scotty", "wait for its end")
		did(t, w, "")
	})
}

func TestAHostLostDuringAMigrationIsAskedAgain(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.atWork("v4.5.15")
		w.lasts = 1 << 20
		w.after(5001*time.Millisecond, func() { w.fails["scotty job.status"] = errDown })
		w.after(10001*time.Millisecond, func() { delete(w.fails, "scotty job.status"); w.lasts = 2 })
		if err := (preMigrate{w.d, w.f}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		if !w.heard("cannot ask scotty for the migration, which goes on without us") {
			t.Errorf("said: %q", w.said)
		}
		did(t, w, "")
	})
}

func TestAStopDuringAMigrationLeavesItRunning(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.lasts = 1 << 20
		stop := make(chan struct{})
		w.after(3*time.Second, func() { close(stop) })
		p := pipeline.Plan{ID: "u-1", Kind: "upgrade", From: "v4.5.14", To: "v4.5.15", Facts: w.f, Steps: []pipeline.Step{{Stage: preMigrate{w.d, w.f}}}}
		r := pipeline.Execute(t.Context(), p, pipeline.NewJournal(p, &oneShelf{}, 1, morning), pipeline.Options{Stop: stop})
		if r.Status != pipeline.Stopped {
			t.Errorf("%s: %v", r.Status, r.Err)
		}
		did(t, w, "scotty: start refit-migrate-pre.service")
	})
}

func TestMigrationsAreRefusedThroughAPooler(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.db.Direct.Pooled, w.db.Direct.Proof = true, "one backend for two sessions"
		err := (preMigrate{w.d, w.f}).Check(t.Context(), w.say)
		failsWith(t, err, "leads to a transaction pooler")
		if !errors.Is(err, pipeline.ErrRefused) {
			t.Error("not refused")
		}
		did(t, w, "")
	})
}

func TestPreMigrationsStayAndOnlyASickSiteAsksForAPerson(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := preMigrate{w.d, w.f}
		if err := s.Undo(t.Context(), w.say); err != nil { // nothing was applied
			t.Fatal(err)
		}
		w.db.Applied = append(w.db.Applied, preMigration.Version)
		if err := s.Undo(t.Context(), w.say); err != nil || !w.heard("these migrations remain: 20251101000000 add_a_column") {
			t.Fatalf("%v, said %q", err, w.said)
		}
		w.slow = time.Second
		needsPerson(t, s.Undo(t.Context(), w.say), "the site is off its baseline since these migrations: 20251101000000 add_a_column", "`refit resume`")
		did(t, w, "")
	})
}

// onNew lets every node run the new release, with its pre-migrations applied.
func (w *world) onNew() {
	for _, n := range w.d.Fleet.Apps() {
		w.live[n.Name], w.runs[n.Name] = "v4.5.15", "v4.5.15"
	}
	w.db.Applied = append(w.db.Applied, preMigration.Version)
}

func TestPostMigrationsRunWhenNobodyIsOld(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.onNew()
		for range 2 {
			if err := (postMigrate{w.d, w.f}).Run(t.Context(), w.say); err != nil {
				t.Fatal(err)
			}
		}
		did(t, w, "scotty: start refit-migrate-post.service")
		if !w.heard("point of no return: 20251102000000 drop_a_column") || !w.heard("nothing is pending") {
			t.Errorf("said: %q", w.said)
		}
	})
}

func TestPostMigrationsDoNotBeginWhileAnyoneIsOld(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(*world)
		words string
	}{
		"a node runs the old release": {func(w *world) { w.runs["spock"] = "v4.5.14" }, "spock does not run v4.5.15: mastodon-web.service runs v4.5.14"},
		"a worker is down":            {func(w *world) { w.runs["decker"] = "" }, "decker does not run v4.5.15"},
		"a node does not answer":      {func(w *world) { w.fails["kirk units.show"] = errDown }, "the link is gone"},
		"an old worker shows in Redis": {func(w *world) {
			w.runs["scotty"] = "v4.5.14"
			w.fails["scotty units.show"] = nil
		}, "process 100 on scotty runs v4.5.14, not v4.5.15"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.onNew()
				test.spoil(w)
				err := (postMigrate{w.d, w.f}).Run(t.Context(), w.say)
				p := needsPerson(t, err, "the post-migrations (20251102000000 drop_a_column) wait", "`refit rollback` still works")
				failsWith(t, p, test.words)
				did(t, w, "")
			})
		})
	}
}

func TestAFailedPostMigrationSaysThatTheWayBackIsGoneAndRunsTheRestOnResume(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.onNew()
		w.ends = breaks
		err := (postMigrate{w.d, w.f}).Run(t.Context(), w.say)
		needsPerson(t, err, "its post-migrations are half applied; v4.5.14 cannot run any more", "`refit resume` runs the rest; `refit rollback` is not possible")
		failsWith(t, err, "not applied: 20251102000000 drop_a_column")
		w.ends, w.lasts = migrates, 2
		if err := (postMigrate{w.d, w.f}).Run(t.Context(), w.say); err != nil {
			t.Errorf("resumed: %v", err)
		}
	})
}

func TestWhatKeepsPostMigrationsFromBeginningLeavesTheWayBackOpen(t *testing.T) {
	for name, spoil := range map[string]func(*world){
		"a proxy cannot be watched": func(w *world) { w.fails["sulu access"] = errDown },
		"a node does not answer":    func(w *world) { w.fails["kirk units.show"] = errDown },
		"the database is away":      func(w *world) { w.dbFails = errDown },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.onNew()
				spoil(w)
				r, j := w.post(t, nil)
				if r.Status == pipeline.Done || j.OneWay() != "" {
					t.Errorf("%s: %v; the journal says %q", r.Status, r.Err, j.OneWay())
				}
				did(t, w, "")
			})
		})
	}
}

func TestAHalfAppliedPostMigrationIsNeverTakenBackWhateverAResumeMeets(t *testing.T) {
	for name, spoil := range map[string]func(*world){
		"a proxy cannot be watched": func(w *world) { w.fails["sulu access"] = errDown },
		"a node does not answer":    func(w *world) { w.fails["kirk units.show"] = errDown },
		"the database is away":      func(w *world) { w.dbFails = errDown },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.onNew()
				w.ends = breaks
				_, j := w.post(t, nil)
				if j.OneWay() != "post-migrate" {
					t.Fatalf("the journal does not say that it has begun: %q", j.OneWay())
				}
				spoil(w)
				r, j := w.post(t, j)
				if r.Status != pipeline.Person || j.OneWay() != "post-migrate" {
					t.Errorf("%s: %v; next %q; the journal says %q", r.Status, r.Err, r.Next, j.OneWay())
				}
			})
		})
	}
}

// post runs the post-migrations as the one step of a run, or goes on with it.
func (w *world) post(t *testing.T, j *pipeline.Journal) (pipeline.Result, *pipeline.Journal) {
	t.Helper()
	p := pipeline.Plan{ID: "u-1", Kind: "upgrade", From: "v4.5.14", To: "v4.5.15", Facts: w.f, Steps: []pipeline.Step{{Stage: postMigrate{w.d, w.f}, OneWay: true, Switches: true}}}
	if j == nil {
		j = pipeline.NewJournal(p, &oneShelf{}, 1, morning)
	}
	return pipeline.Execute(t.Context(), p, j, pipeline.Options{}), j
}
