package watcher

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/policy"
	"vmst.io/refit/builds/upstream"
	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/github/githubtest"
)

func TestThereIsNothingToSayWhileTheNewestRuns(t *testing.T) {
	play(t, func(w *world) {
		for range 3 {
			if s := w.after(5 * time.Minute); len(s.Candidates) > 0 || !s.Behind.IsZero() {
				w.Errorf("%+v", s)
			}
		}
		w.said()
		w.ran()
		if since, told := w.behind["Mastodon"]; !told || !since.IsZero() {
			w.Errorf("behind since %s", since)
		}
	})
}

func TestAPatchIsSeenToldSettledAndRun(t *testing.T) {
	play(t, func(w *world) {
		w.look()
		w.publish("v4.6.5")
		out := time.Now()
		w.want(w.decided(w.after(5*time.Minute), "v4.6.5"), policy.Wait, "6h after its publication")
		if r := w.released["v4.6.5"]; !r.Published.Equal(out) || !r.Deadline.Equal(out.Add(48*time.Hour)) || r.Security || len(r.Plan) == 0 || r.Running != "v4.6.4" || !strings.Contains(r.URL, "v4.6.5") {
			w.Errorf("told %+v", r)
		}
		if !w.behind["Mastodon"].Equal(out) {
			w.Errorf("behind since %s", w.behind["Mastodon"])
		}
		w.after(time.Hour)
		w.ran()
		w.after(5 * time.Hour)
		w.ran("v4.6.5")
		w.after(5 * time.Minute)
		w.ran("v4.6.5")
		at := out.Add(6 * time.Hour).UTC().Format("15:04 MST on 2 January")
		w.said("v4.6.5: begins at "+at, "v4.6.5: begins now", "v4.6.5: the fleet runs it")
	})
}

func TestASecurityReleaseOvertakesTheWindows(t *testing.T) {
	play(t, func(w *world) {
		win, err := policy.ParseWindow([]string{"sun"}, "02:00", "03:00")
		if err != nil {
			t.Fatal(err)
		}
		w.o.Policy.Windows = []policy.Window{win}
		w.publish("v4.6.5", saying("v4.6.5", security))
		w.look()
		w.ran("v4.6.5")
		if r := w.released["v4.6.5"]; !r.Security || len(r.Advisories) != 1 {
			w.Errorf("told %+v", r)
		}
	})
}

func TestWhatASkippedPatchMendsCountsForTheOneAboveIt(t *testing.T) {
	play(t, func(w *world) {
		w.running = "v4.6.3"
		w.publish("v4.6.5")
		w.look()
		if c := w.released["v4.6.5"]; c.Security {
			w.Errorf("nothing mends a hole yet: %+v", c)
		}
		w.Edit(followed, 3, func(r *githubtest.Release) { r.Body = body("v4.6.4", security) }) // ids: two repositories, then v4.6.4
		w.begun, w.running = nil, "v4.6.3"
		w.after(time.Hour)
		if r := w.released["v4.6.5"]; !r.Security {
			w.Errorf("told %+v", r)
		}
	})
}

func TestOfThreeLinesOnOneDayTheFollowedOneCounts(t *testing.T) {
	play(t, func(w *world) {
		w.look()
		for _, tag := range []string{"v4.4.22", "v4.6.5", "v4.5.15"} {
			w.publish(tag)
			time.Sleep(10 * time.Minute)
		}
		if s := w.look(); len(s.Candidates) != 1 || s.Candidates[0].Version.String() != "v4.6.5" {
			w.Errorf("candidates %+v", s.Candidates)
		}
		if len(w.released) != 1 {
			w.Errorf("told of %v", w.released)
		}
	})
}

func TestAnUrgentReleaseByTheSecondWitnessIsASecurityRelease(t *testing.T) {
	play(t, func(w *world) {
		w.publish("v4.6.5")
		w.updates = []upstream.Update{{Version: version("v4.6.5"), Urgent: true}}
		w.look()
		w.ran("v4.6.5")
		if r := w.released["v4.6.5"]; !r.Urgent || !r.Security {
			w.Errorf("told %+v", r)
		}
	})
}

func version(s string) builds.Version {
	v, err := builds.ParseVersion(s)
	if err != nil {
		panic(err) // a test's own
	}
	return v
}

func TestAWitnessThatNamesMoreThanGitHubIsAnAlarmAndOneThatLagsIsNot(t *testing.T) {
	play(t, func(w *world) {
		w.publish("v4.6.5")
		w.updates = []upstream.Update{}
		if s := w.look(); len(s.Warnings) > 0 || len(w.notices) > 0 {
			w.Errorf("it lags: %v %v", s.Warnings, w.notices)
		}
		w.updates = []upstream.Update{{Version: version("v4.6.6")}}
		for range 3 {
			w.after(time.Minute)
		}
		if len(w.notices) != 1 || !strings.Contains(w.notices[0], "names v4.6.6, and GitHub lists no such release") {
			w.Errorf("alarms %v", w.notices)
		}
	})
}

func TestAReleaseThatComesOutBetweenTheTwoQuestionsIsNoAlarm(t *testing.T) {
	play(t, func(w *world) {
		w.look()
		w.updates = []upstream.Update{{Version: version("v4.6.5")}}
		w.Then("/releases?", func() { w.publish("v4.6.5") })
		if s := w.look(); len(s.Warnings) > 0 || len(w.notices) > 0 {
			w.Errorf("%v, %v", s.Warnings, w.notices)
		}
	})
}

func TestAMovedTagIsRefusedAndAlarmedOnce(t *testing.T) {
	play(t, func(w *world) {
		w.publish("v4.6.5")
		w.look()
		w.tag("v4.6.5", "something else")
		for range 3 {
			w.want(w.decided(w.after(12*time.Hour), "v4.6.5"), policy.Refuse, "the tag is not what it was")
		}
		w.ran()
		if len(w.notices) != 1 || !strings.Contains(w.notices[0], "Find out why") {
			w.Errorf("alarms %v", w.notices)
		}
	})
}

func TestATagThatMovesBetweenTheLookAndThePlanIsNotBuilt(t *testing.T) {
	play(t, func(w *world) {
		w.publish("v4.6.5")
		w.plan = func(p *Plan) { p.Commit = githubtest.Hash("another") }
		w.want(w.decided(w.after(7*time.Hour), "v4.6.5"), policy.Refuse, "the plan would build commit")
		w.ran()
		if len(w.notices) != 1 {
			w.Errorf("alarms %v", w.notices)
		}
	})
}

func TestADeletedReleaseIsSettledAndNotRun(t *testing.T) {
	play(t, func(w *world) {
		w.look()
		id := w.publish("v4.6.5")
		w.look()
		w.Delete(followed, id)
		w.after(12 * time.Hour)
		w.ran()
		if r := w.released["v4.6.5"]; r.Settled != "upstream has taken it back" || r.Published.IsZero() {
			w.Errorf("told %+v", r)
		}
	})
}

func TestAReleaseThatIsOvertakenIsSettled(t *testing.T) {
	play(t, func(w *world) {
		w.publish("v4.6.5")
		w.look()
		w.publish("v4.6.6")
		s := w.after(time.Hour)
		if w.released["v4.6.5"].Settled != "v4.6.6 takes its place" || !w.decided(s, "v4.6.6").Since.Equal(w.released["v4.6.5"].Published) {
			w.Errorf("told %+v", w.released["v4.6.5"])
		}
	})
}

func TestPreReleasesCountOnlyWhereTheyAreAskedFor(t *testing.T) {
	play(t, func(w *world) {
		w.look()
		w.publish("v4.7.0-rc.1", func(r *githubtest.Release) { r.Prerelease = true })
		w.look()
		w.said()
		w.o.Line.Early = true
		w.look()
		w.said() // the policy ignores them
		w.o.Policy.Acts[policy.Prerelease] = policy.Notify
		w.look()
		w.said("v4.7.0-rc.1: told only")
	})
}

func TestNoRunBeginsByItselfOnAnyDoubt(t *testing.T) {
	for name, test := range map[string]struct {
		said   string
		world  func(*world)
		reason string
	}{
		"a warning of the notes": {"> [!WARNING]\n> Something is different now.\n", nil, "the notes of v4.6.5 warn: "},
		"a post-migration":       {"", func(w *world) { w.changes = func(c *builds.Changes) { c.Migrations.Post = []string{"20260801_x"} } }, "post-migration 20260801_x"},
		"a risky migration": {"", func(w *world) {
			w.changes = func(c *builds.Changes) {
				c.Migrations.Risky = []builds.Risky{{Name: "20260801_x", Reasons: []string{"rewrites data"}}}
			}
		}, "migration 20260801_x: rewrites data"},
		"an overridden pin": {"", func(w *world) { w.o.Doubts = []string{"Ruby is overridden"} }, "Ruby is overridden"},
		"what only the fleet shows": {"", func(w *world) {
			w.plan = func(p *Plan) { p.Doubts = []string{"the database lacks an old post-migration"} }
		}, "lacks an old post-migration"},
		"notes that nobody can read": {"", func(w *world) { w.Edit(followed, 4, func(r *githubtest.Release) { r.Body = "\x00" }) }, "the notes of v4.6.5 cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				w.publish("v4.6.5", saying("v4.6.5", test.said))
				if test.world != nil {
					test.world(w)
				}
				w.want(w.decided(w.after(7*time.Hour), "v4.6.5"), policy.Question, test.reason)
				w.ran()
				if q := w.released["v4.6.5"].Question; !strings.Contains(q, "refit approve --to v4.6.5 --plan hash-of-v4.6.5") {
					w.Errorf("asked %q", q)
				}
			})
		})
	}
}

func TestWhatIsAskedForRunsOnceItsPlanIsApprovedAndNoOther(t *testing.T) {
	play(t, func(w *world) {
		w.o.Policy.Acts[policy.Patch] = policy.Ask
		w.plan = func(p *Plan) { p.Ack = []string{"statsd"} }
		w.publish("v4.6.5")
		w.want(w.decided(w.look(), "v4.6.5"), policy.Question, "the policy is to ask")
		if q := w.released["v4.6.5"].Question; !strings.HasSuffix(q, "--plan hash-of-v4.6.5 --ack statsd") {
			w.Errorf("asked %q", q)
		}
		w.approved["another"] = &Approval{Hash: "another", By: "michael", Until: time.Now().Add(time.Hour)}
		w.after(5 * time.Minute)
		w.ran()
		w.approved["hash-of-v4.6.5"] = &Approval{Hash: "hash-of-v4.6.5", By: "michael", Until: time.Now().Add(time.Minute)}
		w.after(5 * time.Minute) // it has expired
		w.ran()
		w.approved["hash-of-v4.6.5"].Until = time.Now().Add(time.Hour)
		w.after(5 * time.Minute)
		w.ran("v4.6.5")
	})
}

func TestAChangedPlanVoidsItsApproval(t *testing.T) {
	play(t, func(w *world) {
		w.o.Policy.Acts[policy.Patch] = policy.Ask
		w.publish("v4.6.5")
		one := w.watcher() // it has the old plan in memory, good for half an hour
		if _, err := one.Once(w.Context(), nil); err != nil {
			w.Fatal(err)
		}
		w.approved["hash-of-v4.6.5"] = &Approval{Hash: "hash-of-v4.6.5", By: "michael", Until: time.Now().Add(time.Hour)}
		w.plan = func(p *Plan) { p.Hash = "another" }
		s, err := one.Once(w.Context(), nil)
		if err != nil {
			w.Fatal(err)
		}
		w.want(w.decided(s, "v4.6.5"), policy.Question, "the policy is to ask")
		w.ran()
		if q := w.released["v4.6.5"].Question; !strings.Contains(q, "--plan another") {
			w.Errorf("asked %q", q)
		}
	})
}

func TestAFailingSourceIsNeverNothingNew(t *testing.T) {
	for name, trouble := range map[string]func(*world){
		"a primary limit": func(w *world) { w.Exhaust(ghToken) },
		"a secondary limit by 403": func(w *world) {
			w.Limit(githubtest.Secondary{Status: 403, For: 10 * time.Minute, Named: true, Message: githubtest.SecondaryMessage})
		},
		"a secondary limit by 429": func(w *world) { w.Limit(githubtest.Secondary{Status: 429, For: 10 * time.Minute, Named: true}) },
		"an outage":                func(w *world) { w.Trouble(githubtest.Outage(502, -1)) },
		"slow answers":             func(w *world) { w.Trouble(githubtest.Trouble{Times: -1, Wait: time.Hour}) },
		"dropped connections":      func(w *world) { w.Trouble(githubtest.Trouble{Times: -1, Cut: githubtest.CutBefore}) },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				w.look()
				w.publish("v4.6.5")
				w.look()
				was := len(w.words)
				trouble(w)
				s := w.after(time.Second)
				if w.polls[followed] == nil || len(w.words) != was || w.released["v4.6.5"].Settled != "" || len(s.Candidates) > 0 {
					w.Errorf("%+v; polls %v; said %v", s, w.polls, w.words)
				}
				w.Calm()
				w.want(w.decided(w.after(2*time.Hour), "v4.6.5"), policy.Wait, "")
				if w.polls[followed] != nil {
					w.Errorf("it does not answer again: %v", w.polls)
				}
			})
		})
	}
}

func TestASourceThatFailsForAnHourIsToldOnceAndSoIsItsReturn(t *testing.T) {
	play(t, func(w *world) {
		w.look()
		w.feedErr = upstream.ErrFeed
		for range 12 {
			w.after(5 * time.Minute)
		}
		if len(w.notices) > 0 {
			w.Errorf("told within the hour: %q", w.notices)
		}
		for range 18 {
			w.after(5 * time.Minute)
		}
		w.feedErr = nil
		for range 3 {
			w.after(5 * time.Minute)
		}
		if len(w.notices) != 2 || !strings.Contains(w.notices[0], "no answer from update check since") || !strings.Contains(w.notices[1], "answers again") {
			w.Errorf("told %q", w.notices)
		}
	})
}

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
		w.after(7 * time.Hour)
		w.outcome = nil
		w.after(5 * time.Minute)
		w.ran("v4.6.5", "v4.6.5")
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

func TestFlingsAreAnnouncedAndNeverRun(t *testing.T) {
	play(t, func(w *world) {
		w.o.Flings = []Fling{{Name: "Elk"}}
		w.Publish(elk, githubtest.Release{Tag: "v0.15.0"})
		w.look()
		w.said()
		w.Publish(elk, githubtest.Release{Tag: "v0.16.0"})
		w.Publish(elk, githubtest.Release{Tag: "v0.17.0-beta.1", Prerelease: true})
		w.Publish(elk, githubtest.Release{Tag: "nightly"})
		w.after(time.Hour)
		w.after(time.Hour)
		w.said("v0.16.0: announced only", "nightly: announced only")
		w.ran()
		if w.released["v0.16.0"].Project != "Elk" {
			w.Errorf("told %+v", w.released)
		}
	})
}

func TestTheEndOfSupportIsSaidAheadAndOnce(t *testing.T) {
	play(t, func(w *world) {
		w.running = "v4.3.9"
		day, ok := builds.SupportEnds(version("v4.3.9"))
		if !ok {
			t.Fatal("no end of support is known for v4.3")
		}
		time.Sleep(day.Add(-30 * 24 * time.Hour).Sub(time.Now()))
		for range 3 {
			w.after(time.Hour)
		}
		time.Sleep(60 * 24 * time.Hour)
		w.look()
		if len(w.notices) != 2 || !strings.Contains(w.notices[0], "until "+day.Format(time.DateOnly)) || !strings.Contains(w.notices[1], "no more") {
			w.Errorf("told %q", w.notices)
		}
	})
}

func TestAPathThatIsClosedIsNotBegun(t *testing.T) {
	play(t, func(w *world) {
		w.running = "v4.1.3"
		w.o.Policy.Acts[policy.Minor] = policy.Auto
		w.publish("v4.3.0")
		w.want(w.decided(w.after(7*time.Hour), "v4.3.0"), policy.Refuse, "skips a minor series")
		w.ran()
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

func TestTheIdentityOfASourceThatCannotBeAskedIsNotGuessed(t *testing.T) {
	play(t, func(w *world) {
		w.publish("v4.6.5", saying("v4.6.5", security))
		w.Trouble(githubtest.Trouble{Match: "/git/ref/", Times: -1, Status: 500})
		w.want(w.decided(w.look(), "v4.6.5"), policy.Refuse, "could not be found out")
		w.ran()
		w.Calm()
		w.look()
		w.ran("v4.6.5")
	})
}

func TestASourceThatCannotBeReadIsNotGuessed(t *testing.T) {
	play(t, func(w *world) {
		w.publish("v4.6.5", saying("v4.6.5", security))
		w.deaf = errors.New("no such object")
		w.want(w.decided(w.look(), "v4.6.5"), policy.Refuse, "could not be read: no such object")
		w.ran()
	})
}

var _ Upstream = (*upstream.Follower)(nil)

func TestAPersonUnpinsATagAndTheWatcherAtWorkNotices(t *testing.T) {
	play(t, func(w *world) {
		w.publish("v4.6.5")
		w.look()
		w.tag("v4.6.5", "meant so")
		w.want(w.decided(w.look(), "v4.6.5"), policy.Refuse, "the tag is not what it was")
		one := w.watcher()
		if err := Unpin(w.Context(), w.disk, "mastodon", "mastodon", "v4.6.6"); err == nil {
			w.Error("a tag that is not pinned was unpinned")
		}
		if err := Unpin(w.Context(), w.disk, "Mastodon", "mastodon", "v4.6.5"); err != nil {
			w.Fatal(err)
		}
		w.publish("v4.6.6")
		if _, err := one.Once(w.Context(), nil); err == nil {
			w.Error("the watcher at work goes on with what it remembers itself")
		}
		w.Delete(followed, 5)
		w.want(w.decided(w.look(), "v4.6.5"), policy.Wait, "")
	})
}

func TestAMemoryThatCannotBeReadIsNotGuessed(t *testing.T) {
	play(t, func(w *world) {
		w.look()
		for id, remedy := range map[string]string{stateID: "may begin again", "follow-mastodon-mastodon": "pinned to what they are then"} {
			was := w.disk[id]
			w.disk[id] = saved{was.seq, []byte(`{"open":`)}
			_, err := New(w.Context(), w.o)
			if id != stateID {
				_, err = LoadMemory(w.Context(), w.disk, "mastodon", "mastodon")
			}
			if err == nil || !strings.Contains(err.Error(), remedy) || !strings.Contains(err.Error(), "move that file away") {
				w.Errorf("%s: %v", id, err)
			}
			w.disk[id] = was
		}
	})
}

func TestNothingBeginsWhileARunStandsHalfWay(t *testing.T) {
	for name, test := range map[string]struct {
		trouble func(*world)
		end     func(*world)
		why     string
		resumed int
	}{
		"and nobody knows how": {
			func(w *world) { w.unknown = errors.New("uhura: no route to host") }, func(w *world) { w.unknown = nil }, "uhura: no route to host", 1,
		},
		"and cannot be resumed": {
			func(w *world) { w.stuck = &Outcome{Untouched: true, Text: "kirk is not in refit.yml any more"} }, func(w *world) { w.stuck = nil }, "kirk is not in refit.yml", 3,
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
				for range 2 {
					w.want(w.decided(w.after(time.Hour), "v4.6.6"), policy.Refuse, test.why)
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

func TestASourceThatIsNotWhatWasPinnedIsRefusedAndAlarmed(t *testing.T) {
	for name, other := range map[string]func(*git.Tag){
		"another commit": func(t *git.Tag) { t.Commit = githubtest.Hash("another") },
		"another tree":   func(t *git.Tag) { t.Tree = githubtest.Hash("another") },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				w.publish("v4.6.5", saying("v4.6.5", security))
				w.source = other
				w.want(w.decided(w.look(), "v4.6.5"), policy.Refuse, "v4.6.5 was pinned as commit")
				w.look()
				w.ran()
				if len(w.notices) != 1 {
					w.Errorf("alarms %v", w.notices)
				}
			})
		})
	}
}
