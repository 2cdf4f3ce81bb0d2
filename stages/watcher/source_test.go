package watcher

import (
	"errors"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/builds/policy"
	"vmst.io/refit/builds/upstream"
	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/github/githubtest"
)

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

func TestAGitHubThatCannotBeAskedAgainIsNoDisagreement(t *testing.T) {
	play(t, func(w *world) {
		w.look()
		w.updates = []upstream.Update{{Version: version("v4.6.5")}}
		w.Then("/releases?", func() { w.Trouble(githubtest.Outage(502, -1)) })
		if s := w.look(); len(s.Warnings) > 0 || len(w.notices) > 0 {
			w.Errorf("%v, %v", s.Warnings, w.notices)
		}
	})
}

func TestApprovalsThatCannotBeAskedForAreASourceThatFails(t *testing.T) {
	play(t, func(w *world) {
		w.o.Policy.Acts[policy.Patch] = policy.Ask
		w.publish("v4.6.5")
		w.look()
		w.dumb = errors.New("uhura: no route to host")
		for range 3 {
			w.after(time.Hour)
		}
		if w.polls["approvals"] == nil || len(w.notices) != 1 || !strings.Contains(w.notices[0], "no answer from approvals") {
			w.Errorf("polls %v, alarms %q", w.polls, w.notices)
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
