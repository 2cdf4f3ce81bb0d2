package watcher

import (
	"strings"
	"testing"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/policy"
	"vmst.io/refit/builds/upstream"
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
		"a warning that would be a line of its own": {"> [!WARNING]\n> One\n> ::error::two\n", nil, "the notes of v4.6.5 warn: One ::error::two"},
		"notes that nobody can read":                {"", func(w *world) { w.Edit(followed, 4, func(r *githubtest.Release) { r.Body = "\x00" }) }, "the notes of v4.6.5 cannot be read"},
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

// Who gave it believes that it is approved.
func TestAnApprovalThatIsOverIsAskedForAnew(t *testing.T) {
	for name, test := range map[string]struct {
		life time.Duration
		why  string
	}{
		"since a run that touched nothing used it up": {time.Hour, "run run-3 used up what michael gave: approve its plan again? refit approve --to v4.6.5"},
		"since it expired before its window":          {time.Minute, "what michael gave expired: approve its plan again? refit approve --to v4.6.5"},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				w.o.Policy.Acts[policy.Patch] = policy.Ask
				w.publish("v4.6.5")
				w.look()
				w.approved["hash-of-v4.6.5"] = &Approval{Hash: "hash-of-v4.6.5", By: "michael", Until: time.Now().Add(test.life)}
				w.outcome = func(Plan, <-chan struct{}) Outcome { return Outcome{Untouched: true, Text: "kirk is ill"} }
				w.after(5 * time.Minute)
				for range 3 {
					w.want(w.decided(w.after(5*time.Minute), "v4.6.5"), policy.Question, "michael gave")
				}
				if q := w.released["v4.6.5"].Question; !strings.Contains(q, test.why) || len(w.begun) > 1 {
					w.Errorf("asked %q, began %v", q, w.begun)
				}
				w.outcome = nil
				w.approved["hash-of-v4.6.5"] = &Approval{Hash: "hash-of-v4.6.5", By: "michael", Until: time.Now().Add(time.Hour)}
				w.look()
				if w.running != "v4.6.5" {
					w.Errorf("%s runs after it was approved again", w.running)
				}
			})
		})
	}
}

func TestAChangedPlanVoidsItsApproval(t *testing.T) {
	play(t, func(w *world) {
		w.o.Policy.Acts[policy.Patch] = policy.Ask
		w.publish("v4.6.5")
		one := w.watcher() // it has the old plan in memory, good for a while
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

func TestFlingsAreAnnouncedAndNeverRun(t *testing.T) {
	play(t, func(w *world) {
		w.o.Flings = []Fling{{Name: "Elk"}}
		w.Publish(elk, githubtest.Release{Tag: "v0.15.0"})
		w.look()
		w.said()
		w.Publish(elk, githubtest.Release{Tag: "v0.16.0"})
		w.Publish(elk, githubtest.Release{Tag: "v0.17.0-beta.1", Prerelease: true})
		w.Publish(elk, githubtest.Release{Tag: "nightly"})
		w.after(30 * 24 * time.Hour) // nobody looked for a month
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
		time.Sleep(time.Until(day.Add(-30 * 24 * time.Hour)))
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

var _ Upstream = (*upstream.Follower)(nil)

func TestOneThatIsRefusedDoesNotKeepAnotherFromBeingAskedFor(t *testing.T) {
	play(t, func(w *world) {
		w.publish("v4.6.5")
		w.publish("v4.7.0")
		w.plan = func(p *Plan) {
			if p.Upgrade == "v4.6.5" {
				p.Refused = []string{"kirk: 1 GiB of disk are free"}
			}
		}
		s := w.after(7 * time.Hour)
		w.want(w.decided(s, "v4.6.5"), policy.Refuse, "kirk: 1 GiB")
		if c := w.decided(s, "v4.7.0"); c.Decision.Do != policy.Question || c.Plan != "hash-of-v4.7.0" {
			w.Errorf("%+v", c)
		}
		w.ran()
	})
}
