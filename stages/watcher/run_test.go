package watcher

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/builds/policy"
	"vmst.io/refit/hosts/github/githubtest"
	"vmst.io/refit/hosts/keeper"
)

func TestAFleetThatDoesNotAnswerSettlesNothingAndRunsNothing(t *testing.T) {
	play(t, func(w *world) {
		w.publish("v4.6.5")
		w.look()
		w.away = errors.New("kirk: no route to host")
		for range 10 {
			w.after(time.Hour)
		}
		w.ran()
		if w.released["v4.6.5"].Settled != "" || w.polls["the fleet"] == nil {
			w.Errorf("%+v, %v", w.released, w.polls)
		}
		w.away = nil
		w.look()
		w.ran("v4.6.5")
	})
}

func TestAReleaseIsToldOfWhileANodeIsDownAndBeginsOnceItAnswers(t *testing.T) {
	play(t, func(w *world) {
		w.look()
		w.away = errors.New("kirk is unreachable: what it runs is not known")
		w.publish("v4.6.5", saying("v4.6.5", security))
		s := w.after(5 * time.Minute)
		w.want(w.decided(s, "v4.6.5"), policy.Refuse, "the fleet does not say what it runs: kirk is unreachable")
		if r := w.released["v4.6.5"]; !s.Assumed || !r.Security || r.Running != "v4.6.4" || len(r.Plan) == 0 || w.behind["Mastodon"].IsZero() {
			w.Errorf("told %+v of %+v; behind %v", r, s, w.behind)
		}
		w.ran()
		w.away = nil
		w.look()
		w.ran("v4.6.5")
	})
}

func TestNothingIsDecidedByAFleetThatHasNeverAnswered(t *testing.T) {
	play(t, func(w *world) {
		w.away = errors.New("kirk: no route to host")
		w.publish("v4.6.5")
		if s := w.look(); len(s.Candidates) > 0 || s.Assumed {
			w.Errorf("%+v", s)
		}
		w.said()
	})
}

func TestARunThatFailedIsNotBegunAgainByItselfButTheNextReleaseIs(t *testing.T) {
	play(t, func(w *world) {
		w.publish("v4.6.5")
		w.outcome = func(Plan, <-chan struct{}) Outcome {
			return Outcome{Text: "roll web kirk: the page names another release"}
		}
		for range 5 {
			w.after(7 * time.Hour)
		}
		w.ran("v4.6.5")
		if r := w.released["v4.6.5"]; !strings.Contains(r.Reason, "roll web kirk") || !strings.Contains(r.Reason, "refit upgrade --to v4.6.5") || r.Decision != "is not begun" {
			w.Errorf("told %+v", r)
		}
		w.outcome = nil
		w.publish("v4.6.6")
		w.after(7 * time.Hour)
		w.ran("v4.6.5", "v4.6.6")
	})
}

func TestARunThatTouchedNothingIsTriedAgain(t *testing.T) {
	play(t, func(w *world) {
		w.publish("v4.6.5")
		w.outcome = func(Plan, <-chan struct{}) Outcome {
			return Outcome{Untouched: true, Text: "somebody else holds the lease"}
		}
		for range 3 {
			w.after(7 * time.Hour)
			if r := w.released["v4.6.5"].Reason; !strings.Contains(r, "touched nothing: somebody else holds the lease") {
				w.Errorf("its reason is %q", r)
			}
		}
		if len(w.notices) != 1 || !strings.Contains(w.notices[0], "could not begin: run run-1 touched nothing: somebody else holds the lease") {
			w.Errorf("alarms %q", w.notices)
		}
		w.outcome = nil
		w.after(time.Hour)
		w.ran("v4.6.5", "v4.6.5", "v4.6.5", "v4.6.5")
		if r := w.released["v4.6.5"]; r.Settled == "" || len(w.notices) != 1 {
			w.Errorf("told %+v, alarms %q", r, w.notices)
		}
	})
}

func TestARunThatTouchesNothingAgainAndAgainIsTriedEverMoreSeldom(t *testing.T) {
	play(t, func(w *world) {
		w.publish("v4.6.5")
		w.outcome = func(Plan, <-chan struct{}) Outcome { return Outcome{Untouched: true, Text: "uhura: no space left"} }
		time.Sleep(7 * time.Hour)
		for range 24 * 12 {
			w.after(5 * time.Minute)
		}
		// At once, at the next look, then half an hour, 1, 2, 4 and twice 6 hours later.
		if n := len(w.begun); n != 8 {
			w.Errorf("tried %d times in a day", n)
		}
		if len(w.notices) != 1 {
			w.Errorf("alarms %q", w.notices)
		}
	})
}

func TestARunThatWasGivenUpForAnotherDoesNotBeginAgainAndHoldsNothingUp(t *testing.T) {
	play(t, func(w *world) {
		w.publish("v4.6.5")
		w.outcome = func(p Plan, _ <-chan struct{}) Outcome {
			w.standing[p.Run] = Standing{HalfWay: true}
			return Outcome{Later: true, Text: "stopped"}
		}
		w.after(7 * time.Hour)
		w.outcome, w.stuck = nil, &Outcome{Text: "it was given up: run run-9 has begun since"}
		w.want(w.decided(w.after(time.Hour), "v4.6.5"), policy.Refuse, "it was given up")
		w.publish("v4.6.6")
		w.after(7 * time.Hour)
		w.ran("v4.6.5", "v4.6.6")
	})
}

func TestAFleetThatRefusesIsAskedAgainAtTheNextLook(t *testing.T) {
	play(t, func(w *world) {
		w.publish("v4.6.5")
		w.plan = func(p *Plan) { p.Refused = []string{"kirk: 1 GiB of disk are free"} }
		w.want(w.decided(w.after(7*time.Hour), "v4.6.5"), policy.Refuse, "kirk: 1 GiB")
		w.ran()
		w.plan = nil
		w.after(5 * time.Minute)
		w.ran("v4.6.5")
	})
}

// A process may be killed between any two saves: what lies on the disk then is what the
// next one begins with.
func TestAWatcherThatIsKilledAnywhereBeginsNoRunTwiceAndForgetsNone(t *testing.T) {
	type killed struct{}
	for at := 1; ; at++ {
		died := false
		play(t, func(w *world) {
			w.look()
			w.publish("v4.6.5")
			time.Sleep(7 * time.Hour)
			n := 0
			w.o.Store = dying{w.disk, func() {
				if n++; n == at {
					panic(killed{})
				}
			}}
			func() {
				defer func() {
					if r := recover(); r != nil {
						if _, ok := r.(killed); !ok {
							panic(r)
						}
						died = true
					}
				}()
				w.watcher().Once(w.Context(), nil) //nolint:errcheck // the process dies in it
			}()
			if len(w.begun) > 0 && w.running == "v4.6.5" {
				w.standing["run-1"] = Standing{Outcome: Outcome{Done: true, Text: "done"}}
			}
			w.o.Store = w.disk
			w.after(5 * time.Minute)
			w.after(5 * time.Minute)
			w.ran("v4.6.5")
			if r := w.released["v4.6.5"]; r.Settled != "the fleet runs it" {
				w.Errorf("killed at save %d: told %+v", at, r)
			}
		})
		if !died {
			if at < 3 {
				t.Errorf("only %d saves were seen", at-1)
			}
			return
		}
	}
}

// dying is a disk whose process is killed at a save: before it or, since the save is
// atomic, as well after the one before.
type dying struct {
	disk
	save func()
}

func (d dying) Save(ctx context.Context, id string, epoch, seq int64, b []byte) error {
	d.save()
	return d.disk.Save(ctx, id, epoch, seq, b)
}

func TestARunThatWasLeftHalfWayIsResumedByTheNextProcess(t *testing.T) {
	play(t, func(w *world) {
		w.publish("v4.6.5")
		w.outcome = func(p Plan, _ <-chan struct{}) Outcome {
			w.standing[p.Run] = Standing{HalfWay: true}
			return Outcome{Later: true, Text: "stopped"}
		}
		w.after(7 * time.Hour)
		w.outcome = nil
		w.after(time.Minute)
		w.ran("v4.6.5")
		if len(w.resumed) != 1 || w.resumed[0] != "run-1" || w.released["v4.6.5"].Settled != "the fleet runs it" {
			w.Errorf("resumed %v, told %+v", w.resumed, w.released["v4.6.5"])
		}
	})
}

func TestARunThatFailedWhileNobodyLookedIsNotBegunAgain(t *testing.T) {
	play(t, func(w *world) {
		w.publish("v4.6.5")
		w.outcome = func(p Plan, _ <-chan struct{}) Outcome {
			w.standing[p.Run] = Standing{Outcome: Outcome{Text: "undone"}}
			return Outcome{Later: true, Text: "killed"}
		}
		w.after(7 * time.Hour)
		w.after(time.Hour)
		w.after(time.Hour)
		w.ran("v4.6.5")
		if len(w.resumed) > 0 || !strings.Contains(w.released["v4.6.5"].Reason, "undone") {
			w.Errorf("resumed %v, told %+v", w.resumed, w.released["v4.6.5"])
		}
	})
}

func TestAStopEndsAnIdleWatcherAtOnceAndALookToo(t *testing.T) {
	for name, prepare := range map[string]func(*world){
		"between looks": func(*world) {},
		"in a look":     func(w *world) { w.Trouble(githubtest.Trouble{Times: -1, Wait: time.Hour}) },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				prepare(w)
				stop, done := make(chan struct{}), make(chan error, 1)
				one := w.watcher()
				go func() { done <- one.Run(w.Context(), stop) }()
				time.Sleep(10 * time.Second)
				synctest.Wait()
				began := time.Now()
				close(stop)
				if err := <-done; err != nil {
					w.Error(err)
				}
				if took := time.Since(began); took > 0 {
					w.Errorf("it took %s", took)
				}
			})
		})
	}
}

func TestAStopDuringARunIsTheRunsOwnAndEndsTheWatcherWithIt(t *testing.T) {
	play(t, func(w *world) {
		w.publish("v4.6.5")
		time.Sleep(7 * time.Hour)
		w.outcome = func(p Plan, stop <-chan struct{}) Outcome {
			<-stop
			time.Sleep(time.Minute) // to the next safe point
			w.standing[p.Run] = Standing{HalfWay: true}
			return Outcome{Later: true, Text: "stopped"}
		}
		stop, done := make(chan struct{}), make(chan error, 1)
		one := w.watcher()
		go func() { done <- one.Run(w.Context(), stop) }()
		time.Sleep(time.Hour)
		close(stop)
		began := time.Now()
		if err := <-done; err != nil || time.Since(began) != time.Minute {
			w.Errorf("%v after %s", err, time.Since(began))
		}
		w.outcome = nil
		w.look()
		if len(w.resumed) != 1 {
			w.Errorf("resumed %v", w.resumed)
		}
	})
}

func TestTheWatcherWakesWhenSomethingIsDue(t *testing.T) {
	play(t, func(w *world) {
		w.o.Every = 24 * time.Hour
		w.publish("v4.6.5")
		stop, done := make(chan struct{}), make(chan error, 1)
		one := w.watcher()
		go func() { done <- one.Run(w.Context(), stop) }()
		time.Sleep(6*time.Hour + time.Minute)
		synctest.Wait()
		w.ran("v4.6.5")
		close(stop)
		if err := <-done; err != nil {
			w.Error(err)
		}
	})
}

func TestAWatcherWhoseConfigurationHasChangedEndsBeforeItsNextLook(t *testing.T) {
	play(t, func(w *world) {
		var changed atomic.Bool
		w.o.Stale = changed.Load
		one, stop, done := w.watcher(), make(chan struct{}), make(chan error, 1)
		go func() { done <- one.Run(w.Context(), stop) }()
		time.Sleep(time.Hour)
		changed.Store(true)
		w.publish("v4.6.5", saying("v4.6.5", security))
		select {
		case err := <-done:
			if err != nil {
				w.Error(err)
			}
		case <-time.After(time.Hour):
			close(stop)
			w.Error("it goes on", <-done)
		}
		w.said()
		w.ran()
	})
}

func TestAFullDiskEndsNoWatcherAndBeginsNoRun(t *testing.T) {
	play(t, func(w *world) {
		var full atomic.Bool
		w.o.Store = filling{w.disk, &full}
		stop, done := make(chan struct{}), make(chan error, 1)
		one := w.watcher()
		go func() { done <- one.Run(w.Context(), stop) }()
		time.Sleep(time.Hour)
		full.Store(true)
		w.publish("v4.6.5", saying("v4.6.5", security))
		time.Sleep(time.Hour)
		synctest.Wait()
		w.ran()
		if len(w.notices) != 1 || !strings.Contains(w.notices[0], "no space") || w.polls["memory"] == nil || !w.released["v4.6.5"].Security {
			w.Errorf("alarms %q, polls %v, told %v", w.notices, w.polls, w.released)
		}
		full.Store(false)
		// The next look asks GitHub before it tells: its lock puts what was read here first.
		if faults := w.Faults(); len(faults) > 0 {
			w.Error(faults)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		w.ran("v4.6.5")
		close(stop)
		if err := <-done; err != nil || w.polls["memory"] != nil {
			w.Errorf("%v, polls %v", err, w.polls)
		}
		// Also what was pinned while the disk was full.
		if m, err := LoadMemory(w.Context(), w.disk, "mastodon", "mastodon"); err != nil || m.Pins["v4.6.5"].Commit == "" {
			w.Errorf("%v, pins %v", err, m.Pins)
		}
	})
}

// filling is a disk that is full at times.
type filling struct {
	disk
	full *atomic.Bool
}

func (f filling) Save(ctx context.Context, id string, epoch, seq int64, b []byte) error {
	if f.full.Load() {
		return keeper.ErrNoSpace
	}
	return f.disk.Save(ctx, id, epoch, seq, b)
}

func TestAWatcherThatFindsAnothersHandInItsMemoryEnds(t *testing.T) {
	play(t, func(w *world) {
		w.look()
		one := w.watcher()
		w.publish("v4.6.5")
		w.look() // another's
		if err := one.Run(w.Context(), nil); !errors.Is(err, keeper.ErrStale) {
			w.Errorf("it ends with %v", err)
		}
	})
}

func TestTwoWatchersOfOneFolderNoticeEachOther(t *testing.T) {
	play(t, func(w *world) {
		w.look()
		one, two := w.watcher(), w.watcher()
		w.publish("v4.6.5")
		if _, err := one.Once(w.Context(), nil); err != nil {
			w.Fatal(err)
		}
		if _, err := two.Once(w.Context(), nil); err == nil || !strings.Contains(err.Error(), "cannot remember") {
			w.Errorf("the second: %v", err)
		}
	})
}

func TestAnIdleLookWritesNothing(t *testing.T) {
	play(t, func(w *world) {
		w.publish("v4.6.5")
		w.o.Policy.Acts[policy.Patch] = policy.Ask
		w.look()
		w.look()
		seq := w.disk[stateID].seq
		for range 20 {
			w.after(time.Second)
		}
		if w.disk[stateID].seq != seq {
			w.Errorf("%d saves became %d", seq, w.disk[stateID].seq)
		}
	})
}

func TestNothingBeginsWhileARunStandsHalfWay(t *testing.T) {
	for name, test := range map[string]struct {
		trouble func(*world)
		end     func(*world)
		why     string
		resumed int
		atOnce  bool
	}{
		"and nobody knows how": {
			func(w *world) { w.unknown = errors.New("uhura: no route to host") }, func(w *world) { w.unknown = nil }, "uhura: no route to host", 1, false,
		},
		"and cannot be resumed": {
			func(w *world) { w.stuck = &Outcome{Untouched: true, Text: "kirk is not in refit.yml any more"} }, func(w *world) { w.stuck = nil }, "kirk is not in refit.yml", 3, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				w.publish("v4.6.5")
				w.outcome = func(p Plan, _ <-chan struct{}) Outcome {
					w.standing[p.Run] = Standing{HalfWay: true}
					return Outcome{Later: true, Text: "stopped"}
				}
				w.after(7 * time.Hour)
				w.outcome = nil
				test.trouble(w)
				w.publish("v4.6.6", saying("v4.6.6", security))
				for _, alarmed := range []bool{test.atOnce, true} { // an hour on, both are
					s := w.after(time.Hour)
					w.want(w.decided(s, "v4.6.6"), policy.Refuse, test.why)
					if (len(w.notices) == 1) != alarmed || !strings.Contains(s.Stuck, test.why) || s.Next.Sub(s.At) > 5*time.Minute {
						w.Errorf("alarms %q; stuck %q; looks again at %s", w.notices, s.Stuck, s.Next)
					}
				}
				w.ran("v4.6.5")
				test.end(w)
				w.after(time.Minute)
				if len(w.resumed) != test.resumed {
					w.Errorf("resumed %v", w.resumed)
				}
				w.ran("v4.6.5", "v4.6.6")
			})
		})
	}
}
