package stages

import (
	"errors"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// errDatabase is what a database says that is being failed over.
var errDatabase = errors.New("cannot ask the database at 10.77.0.41:5432: connection refused")

// phase runs one phase as the one step of a run, on ground that can move.
func (w *world) phase(t *testing.T, s pipeline.Stage, oneWay bool) (pipeline.Result, *pipeline.Journal) {
	t.Helper()
	p := pipeline.Plan{ID: "u-1", Kind: "upgrade", From: "v4.5.14", To: "v4.5.15", Facts: w.f, Steps: []pipeline.Step{{Stage: s, OneWay: oneWay, Switches: true}}}
	j := pipeline.NewJournal(p, &oneShelf{}, 1, morning)
	watch := pipeline.ObserverFunc(func(e pipeline.Event) {
		if e.Kind == pipeline.StepSaid {
			w.say("%s", e.Text)
		}
	})
	return pipeline.Execute(t.Context(), p, j, pipeline.Options{Ground: w.d.Ground(), Patience: 2 * time.Minute, Watch: watch}), j
}

// phases are both, each in the world in which it begins.
func phases(t *testing.T, test func(t *testing.T, w *world, s pipeline.Stage, oneWay bool)) {
	t.Helper()
	t.Run("pre", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			w.d.Holds.Migrated = 10 * time.Second
			test(t, w, preMigrate{w.d, w.f}, false)
		})
	})
	t.Run("post", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			w.onNew()
			w.d.Holds.Migrated = 10 * time.Second
			test(t, w, postMigrate{w.d, w.f}, true)
		})
	})
}

// starts counts how often a unit was started.
func (w *world) starts() int { return strings.Count(w.done(), "start refit-migrate-") }

// failover replaces the database's server now: for a while nobody answers, whoever
// works in it loses the connection, and then another server answers. Called with
// the world locked.
func (w *world) failover(away time.Duration, lost ...string) {
	w.dbFails, w.holder, w.blockers = errDatabase, nil, nil
	for unit, j := range w.jobs {
		if j.State == node.JobRunning {
			w.jobs[unit] = breaks(w, j)
		}
	}
	time.AfterFunc(away, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.dbFails, w.db.Started = nil, time.Now()
		var has []string
		for _, v := range w.db.Applied {
			if !strings.Contains(strings.Join(lost, " "), v) {
				has = append(has, v)
			}
		}
		w.db.Applied = has
		w.lasts = 2
	})
}

func TestADatabaseThatFailsOverUnderAMigrationIsNotTheReleasesFault(t *testing.T) {
	phases(t, func(t *testing.T, w *world, s pipeline.Stage, oneWay bool) {
		w.lasts = 1 << 20
		w.after(5*time.Second, func() { w.failover(20 * time.Second) })
		r, j := w.phase(t, s, oneWay)
		if r.Status != pipeline.Done || w.starts() != 2 {
			t.Fatalf("%s after %d starts: %v, %s\n%s", r.Status, w.starts(), r.Err, r.State, strings.Join(w.said, "\n"))
		}
		if !w.heard("the database was away or was restarted, so the step is run again") {
			t.Errorf("said: %q", w.said)
		}
		if oneWay && j.OneWay() == "" {
			t.Error("the journal forgot that the post-migrations have begun")
		}
	})
}

func TestWhatAPromotedStandbyLacksIsAppliedAgain(t *testing.T) {
	phases(t, func(t *testing.T, w *world, s pipeline.Stage, oneWay bool) {
		// The server fails right after the last migration, before it was sent on, and
		// the site is well at every look.
		version := preMigration.Version
		if oneWay {
			version = postMigration.Version
		}
		ends := w.ends
		w.ends = func(w *world, j node.Job) node.Job {
			j = ends(w, j)
			time.AfterFunc(500*time.Millisecond, func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.ends = ends
				w.failover(100*time.Millisecond, version)
			})
			return j
		}
		r, _ := w.phase(t, s, oneWay)
		if r.Status != pipeline.Done || w.starts() != 2 || !w.db.Has(version) {
			t.Fatalf("%s after %d starts: %v, %s\n%s", r.Status, w.starts(), r.Err, r.State, strings.Join(w.said, "\n"))
		}
	})
}

func TestTheHostOfAMigrationIsRebootedAndTheRestIsRunAgain(t *testing.T) {
	phases(t, func(t *testing.T, w *world, s pipeline.Stage, oneWay bool) {
		w.lasts = 1 << 20
		w.after(5*time.Second, func() {
			w.cut["scotty"] = true
			for unit, j := range w.jobs {
				j.State, j.Text = node.JobUnknown, "the host was restarted while it ran"
				w.jobs[unit] = j
			}
			// Its session did not notice.
			w.holder = &mastodon.Session{Pid: 815, User: "mastodon", State: "active", Waits: "Lock/relation", Query: "ALTER TABLE accounts", Age: 30 * time.Second, HoldsLock: true}
		})
		w.after(40*time.Second, func() {
			delete(w.cut, "scotty")
			w.boots["scotty"], w.lasts = "another boot", 2
		})
		w.after(70*time.Second, func() {
			if got := strings.Count(strings.Join(w.deeds, " "), "start refit-migrate-"); got != 1 {
				t.Errorf("%d starts while a session of the first one was still at work", got)
			}
			w.holder = nil
		})
		r, _ := w.phase(t, s, oneWay)
		if r.Status != pipeline.Done || w.starts() != 2 {
			t.Fatalf("%s after %d starts: %v, %s\n%s", r.Status, w.starts(), r.Err, r.State, strings.Join(w.said, "\n"))
		}
	})
}

func TestALinkCutForLongIsWaitedForAndTheMigrationFoundAgain(t *testing.T) {
	phases(t, func(t *testing.T, w *world, s pipeline.Stage, oneWay bool) {
		w.lasts = 1 << 20
		w.after(5*time.Second, func() { w.cut["scotty"] = true })
		w.after(60*time.Second, func() {
			delete(w.cut, "scotty")
			w.lasts = 5
		})
		r, _ := w.phase(t, s, oneWay)
		if r.Status != pipeline.Done || w.starts() != 1 || !w.heard("found refit-migrate-") {
			t.Fatalf("%s after %d starts: %v, %s\n%s", r.Status, w.starts(), r.Err, r.State, strings.Join(w.said, "\n"))
		}
	})
}

func TestAMigrationThatEndedWhileItsHostWasAwayIsReadFromItsRecord(t *testing.T) {
	phases(t, func(t *testing.T, w *world, s pipeline.Stage, oneWay bool) {
		w.lasts = 1 << 20
		w.after(4500*time.Millisecond, func() { w.cut["scotty"], w.lasts = true, 1 })
		w.after(12*time.Second, func() { delete(w.cut, "scotty") })
		r, _ := w.phase(t, s, oneWay)
		if r.Status != pipeline.Done || w.starts() != 1 || !w.heard("scotty answers again") {
			t.Fatalf("%s after %d starts: %v, %s\n%s", r.Status, w.starts(), r.Err, r.State, strings.Join(w.said, "\n"))
		}
	})
}

func TestAHostThatStaysAwayUnderAMigrationNeedsAPersonAndTakesNothingBack(t *testing.T) {
	phases(t, func(t *testing.T, w *world, s pipeline.Stage, oneWay bool) {
		w.lasts = 1 << 20
		w.after(5*time.Second, func() { w.cut["scotty"] = true })
		r, j := w.phase(t, s, oneWay)
		if r.Status != pipeline.Person || j.Direction != pipeline.Forward || w.starts() != 1 {
			t.Errorf("%s, going %s: %v", r.Status, j.Direction, r.Err)
		}
		if !strings.Contains(r.State, "whether it still is, or how it ended, is not known") || !strings.Contains(r.Next, "bring scotty back, then `refit resume`") {
			t.Errorf("state %q, next %q", r.State, r.Next)
		}
	})
}

func TestNoMigrationIsStartedBesideASessionThatMigrates(t *testing.T) {
	phases(t, func(t *testing.T, w *world, s pipeline.Stage, oneWay bool) {
		w.holder = &mastodon.Session{Pid: 815, User: "mastodon", State: "active", Query: "CREATE INDEX CONCURRENTLY", Age: time.Hour, HoldsLock: true}
		r, j := w.phase(t, s, oneWay)
		if r.Status != pipeline.Person || w.starts() != 0 || j.OneWay() != "" {
			t.Errorf("%s after %d starts, one-way %q: %v", r.Status, w.starts(), j.OneWay(), r.Err)
		}
		if !strings.Contains(r.State, "pid 815 (mastodon, no application name, active, for 1h0m0s): CREATE INDEX CONCURRENTLY") || !strings.Contains(r.Next, "pg_terminate_backend") {
			t.Errorf("state %q, next %q", r.State, r.Next)
		}
	})
}

func TestAUnitThatWaitsForAServerThatIsGoneNeedsAPerson(t *testing.T) {
	phases(t, func(t *testing.T, w *world, s pipeline.Stage, oneWay bool) {
		w.lasts = 1 << 20
		w.holder = nil
		w.after(5*time.Second, func() { w.db.Started = time.Now() })
		r, _ := w.phase(t, s, oneWay)
		if r.Status != pipeline.Person || w.starts() != 1 {
			t.Fatalf("%s: %v", r.Status, r.Err)
		}
		if !strings.Contains(r.State, "it waits for the server that is gone") || !strings.Contains(r.Next, "systemctl stop refit-migrate-") {
			t.Errorf("state %q, next %q", r.State, r.Next)
		}
	})
}

func TestWhatUsersFeelOfAFailoverIsNotHeldAgainstTheMigration(t *testing.T) {
	phases(t, func(t *testing.T, w *world, s pipeline.Stage, oneWay bool) {
		w.lasts = 1 << 20
		w.after(1500*time.Millisecond, func() { w.dbFails, w.errors5xx = errDatabase, 20 })
		w.after(10*time.Second, func() { w.dbFails, w.db.Started = nil, time.Now() })
		w.after(40*time.Second, func() { w.errors5xx, w.lasts = 0, 3 })
		r, _ := w.phase(t, s, oneWay)
		if r.Status != pipeline.Done || w.starts() != 1 || !w.heard("is not held against the migration") {
			t.Fatalf("%s after %d starts: %v, %s\n%s", r.Status, w.starts(), r.Err, r.State, strings.Join(w.said, "\n"))
		}
	})
}

func TestAMigrationIsNotBegunOnASickSite(t *testing.T) {
	phases(t, func(t *testing.T, w *world, s pipeline.Stage, oneWay bool) {
		w.errors5xx = 20
		r, j := w.phase(t, s, oneWay)
		if w.starts() != 0 || j.OneWay() != "" || !strings.Contains(r.Err.Error(), "the site is at its baseline before refit-migrate-") {
			t.Errorf("%s after %d starts, one-way %q: %v", r.Status, w.starts(), j.OneWay(), r.Err)
		}
	})
}

func TestASecondTryThatDoesNotBeginForgetsNothingOfTheFirst(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.onNew()
		w.lasts = 1 << 20
		w.after(5*time.Second, func() {
			w.failover(20 * time.Second)
			w.db.Invalid = []mastodon.Index{{Name: "index_a", Table: "accounts"}}
		})
		r, j := w.phase(t, postMigrate{w.d, w.f}, true)
		if r.Status != pipeline.Person || j.OneWay() != "post-migrate" || w.starts() != 1 {
			t.Errorf("%s after %d starts, one-way %q: %v", r.Status, w.starts(), j.OneWay(), r.Err)
		}
	})
}

func TestWhatASessionAppliesAfterItsUnitEndedCounts(t *testing.T) {
	phases(t, func(t *testing.T, w *world, s pipeline.Stage, oneWay bool) {
		// An index that is built concurrently is finished although nobody waits for it.
		w.ends = func(w *world, j node.Job) node.Job {
			w.holder = &mastodon.Session{Pid: 815, State: "active", Query: "CREATE INDEX CONCURRENTLY", HoldsLock: true}
			time.AfterFunc(20*time.Second, func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.holder = nil
				w.db.Applied = append(w.db.Applied, preMigration.Version, postMigration.Version)
			})
			j.State, j.Result, j.Signal, j.Code = node.JobDone, "signal", "TERM", -1
			return j
		}
		r, _ := w.phase(t, s, oneWay)
		if r.Status != pipeline.Done || w.starts() != 1 || !w.heard("going by the database") {
			t.Fatalf("%s after %d starts: %v, %s\n%s", r.Status, w.starts(), r.Err, r.State, strings.Join(w.said, "\n"))
		}
	})
}

func TestASiteThatDoesNotAnswerAtAllIsToldAsSoonAsOneThatFails(t *testing.T) {
	phases(t, func(t *testing.T, w *world, s pipeline.Stage, oneWay bool) {
		w.lasts = 1 << 20
		w.after(1500*time.Millisecond, func() { w.stuck["probe"] = 90 * time.Second })
		began := time.Now()
		r, _ := w.phase(t, s, oneWay)
		if r.Status != pipeline.Person || !strings.Contains(r.State, "users feel the migration: the site does not answer within 10s") {
			t.Fatalf("%s: %v, %s", r.Status, r.Err, r.State)
		}
		if took := time.Since(began); took > 90*time.Second {
			t.Errorf("told after %s", took)
		}
	})
}
