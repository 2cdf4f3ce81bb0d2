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

// settled are the deeds with those of the proxies, which are asked at once, as one.
func (w *world) settled() string {
	s := w.done()
	for _, address := range []string{"10.77.0.21", "10.77.0.22"} {
		for _, way := range []string{"down", "up"} {
			one, other := "sulu: "+address+" "+way, "chekov: "+address+" "+way
			s = strings.ReplaceAll(s, one+", "+other, "both: "+address+" "+way)
			s = strings.ReplaceAll(s, other+", "+one, "both: "+address+" "+way)
		}
	}
	return s
}

func didAll(t *testing.T, w *world, deeds ...string) {
	t.Helper()
	if got, want := w.settled(), strings.Join(deeds, ", "); got != want {
		t.Errorf("done:\n  %s\nwanted:\n  %s", got, want)
	}
}

func TestAWebNodeIsDrainedStoppedSwitchedStartedAndGivenBack(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.d.Holds.Web = 30 * time.Second
		s := rollWeb{w.d, w.f, w.node("kirk")}
		if err := s.Check(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := s.Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		didAll(t, w, "both: 10.77.0.21 down", "kirk: stop", "kirk: switch to v4.5.15", "kirk: start", "both: 10.77.0.21 up")
		if held := time.Since(began); held < 30*time.Second {
			t.Errorf("the site was watched for %s only", held)
		}
	})
}

func TestAWebNodeWhosePeerDoesNotServeIsNotTakenOut(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(*world)
		words string
	}{
		"the peer is sick":               {func(w *world) { w.sick["spock"] = "/ answers 500" }, "spock: page: / answers 500"},
		"the peer is down":               {func(w *world) { w.runs["spock"] = "" }, "spock: page: connection refused"},
		"the peer cannot be asked":       {func(w *world) { w.fails["spock probe"] = errDown }, "the link is gone"},
		"the peer is out on one proxy":   {func(w *world) { w.down["chekov"]["10.77.0.22"] = true }, "spock is out of rotation on chekov"},
		"a proxy cannot be asked for it": {func(w *world) { w.fails["chekov upstream.get"] = errDown }, "the link is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				test.spoil(w)
				s := rollWeb{w.d, w.f, w.node("kirk")}
				err := s.Check(t.Context(), w.say)
				failsWith(t, err, "cannot take kirk out: ", "would serve", test.words)
				if !errors.Is(err, pipeline.ErrRefused) {
					t.Errorf("not refused: %v", err)
				}
				if name == "a proxy cannot be asked for it" {
					return // Run asks all proxies to drain, see below
				}
				failsWith(t, s.Run(t.Context(), w.say), "cannot take kirk out: ", test.words)
				didAll(t, w)
			})
		})
	}
}

func TestAWebNodeThatServesNobodyNeedsNoPeer(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.sick["kirk v4.5.14"], w.sick["spock"] = "/ answers 500", "/ answers 500"
		err := (rollWeb{w.d, w.f, w.node("kirk")}).restart(t.Context(), "v4.5.15", w.say)
		if err != nil {
			t.Fatal(err)
		}
		didAll(t, w, "both: 10.77.0.21 down", "kirk: stop", "kirk: switch to v4.5.15", "kirk: start")
	})
}

func TestAProxyThatCannotDrainKeepsTheNodeServing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.fails["chekov upstream.set"] = errors.New("nginx refuses the new upstreams")
		err := (rollWeb{w.d, w.f, w.node("kirk")}).Run(t.Context(), w.say)
		failsWith(t, err, "cannot take kirk out of rotation", "chekov", "nginx refuses the new upstreams")
		didAll(t, w, "sulu: 10.77.0.21 down", "sulu: 10.77.0.21 up")
		if w.runs["kirk"] != "v4.5.14" || w.down["sulu"]["10.77.0.21"] {
			t.Errorf("kirk runs %q, out on sulu: %v", w.runs["kirk"], w.down["sulu"])
		}
	})
}

func TestANodeThatDoesNotServeTheReleaseStaysOutOfRotation(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.sick["kirk v4.5.15"] = "/packs/application.js answers 404"
		began := time.Now()
		err := (rollWeb{w.d, w.f, w.node("kirk")}).Run(t.Context(), w.say)
		failsWith(t, err, "kirk serves v4.5.15: not within", "/packs/application.js answers 404")
		if e, ok := errors.AsType[*pipeline.Evidence](err); !ok || !slices.ContainsFunc(e.Lines, func(l string) bool { return strings.Contains(l, "LoadError") }) {
			t.Errorf("the journal is not shown: %+v", e)
		}
		if waited := time.Since(began); waited < w.d.Waits.Boot {
			t.Errorf("given up after %s", waited)
		}
		didAll(t, w, "both: 10.77.0.21 down", "kirk: stop", "kirk: switch to v4.5.15", "kirk: start")
		if !w.down["sulu"]["10.77.0.21"] || !w.down["chekov"]["10.77.0.21"] {
			t.Error("a node that does not serve is in rotation")
		}
	})
}

func TestANodeThatCrashesAgainAndAgainIsNotWaitedFor(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.restarts["kirk"], w.sick["kirk v4.5.15"] = crashes, "connection refused"
		began := time.Now()
		err := (rollWeb{w.d, w.f, w.node("kirk")}).Run(t.Context(), w.say)
		failsWith(t, err, "mastodon-web.service on kirk does not stay up: systemd restarted it (3 times since its start)")
		if waited := time.Since(began); waited > 5*time.Second {
			t.Errorf("waited %s", waited)
		}
	})
}

func TestANodeThatDoesNotStartIsNamed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.fails["kirk start"] = node.Failf(node.CodeTimeout, "start not done after 30s")
		err := (rollWeb{w.d, w.f, w.node("kirk")}).Run(t.Context(), w.say)
		failsWith(t, err, "cannot start mastodon-web.service, mastodon-streaming@4000.service", "kirk", "start not done after 30s")
		if !w.down["sulu"]["10.77.0.21"] {
			t.Error("a node that does not run is in rotation")
		}
	})
}

func TestASiteThatIsWorseWithTheNodeFailsItsWatch(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.d.Holds.Web, w.errors5xx = 20*time.Second, 10
		err := (rollWeb{w.d, w.f, w.node("kirk")}).Run(t.Context(), w.say)
		failsWith(t, err, "the site is at its baseline with kirk on v4.5.15", "20 of 60 requests were answered with a 5xx")
	})
}

func TestAWebRollIsGoneOnWithFromWhereItStands(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.live["kirk"], w.runs["kirk"] = "v4.5.15", "v4.5.15"
		w.down["sulu"]["10.77.0.21"], w.down["chekov"]["10.77.0.21"] = true, true
		if err := (rollWeb{w.d, w.f, w.node("kirk")}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		didAll(t, w, "both: 10.77.0.21 up")
	})
}

func TestAWebNodeIsTakenBackFromAnyState(t *testing.T) {
	back := []string{"both: 10.77.0.21 down", "kirk: stop", "kirk: switch to v4.5.14", "kirk: start", "both: 10.77.0.21 up"}
	for name, test := range map[string]struct {
		spoil func(*world)
		deeds []string
	}{
		"it was never touched":   {func(*world) {}, []string{"both: 10.77.0.21 up"}}, // its proxies are asked once more
		"it was drained only":    {func(w *world) { w.down["sulu"]["10.77.0.21"] = true }, []string{"both: 10.77.0.21 up"}},
		"it was stopped":         {func(w *world) { w.runs["kirk"] = "" }, back},
		"it was switched":        {func(w *world) { w.runs["kirk"], w.live["kirk"] = "", "v4.5.15" }, back},
		"it runs the new":        {func(w *world) { w.runs["kirk"], w.live["kirk"] = "v4.5.15", "v4.5.15" }, back},
		"the new does not serve": {func(w *world) { w.runs["kirk"], w.live["kirk"], w.sick["kirk v4.5.15"] = "v4.5.15", "v4.5.15", "500" }, back},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				test.spoil(w)
				if err := (rollWeb{w.d, w.f, w.node("kirk")}).Undo(t.Context(), w.say); err != nil {
					t.Fatal(err)
				}
				didAll(t, w, test.deeds...)
				if w.runs["kirk"] != "v4.5.14" || w.live["kirk"] != "v4.5.14" || w.down["sulu"]["10.77.0.21"] || w.down["chekov"]["10.77.0.21"] {
					t.Errorf("kirk runs %q, live %q, down %v", w.runs["kirk"], w.live["kirk"], w.down)
				}
			})
		})
	}
}

func TestASidekiqNodeIsQuietedStoppedSwitchedAndStarted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		s := rollSidekiq{w.d, w.f, w.node("decker")} // its scheduler's queue needs no peer
		if err := s.Check(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		if err := s.Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		roll := []string{"decker: kill TSTP", "decker: stop", "decker: switch to v4.5.15", "decker: start"}
		didAll(t, w, roll...)
		if err := s.Run(t.Context(), w.say); err != nil { // as after a crash at its end
			t.Fatal(err)
		}
		didAll(t, w, roll...)
	})
}

func TestASidekiqNodeWhosePeersDoNotServeItsQueuesIsNotTakenOut(t *testing.T) {
	for name, spoil := range map[string]func(*world){
		"the peer is down":  func(w *world) { w.runs["decker"] = "" },
		"the peer is quiet": func(w *world) { w.quiet["decker"] = true },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				spoil(w)
				s := rollSidekiq{w.d, w.f, w.node("scotty")}
				const words = "default, ingress, mailers, pull, push would be left without a worker on decker"
				err := s.Check(t.Context(), w.say)
				failsWith(t, err, "cannot take scotty out: ", words)
				if !errors.Is(err, pipeline.ErrRefused) {
					t.Errorf("not refused: %v", err)
				}
				failsWith(t, s.Run(t.Context(), w.say), "cannot take scotty out: ", words)
				didAll(t, w)
			})
		})
	}
}

func TestAStoppedWorkerIsMissedByNobody(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.runs["scotty"], w.runs["decker"] = "", ""
		if err := (rollSidekiq{w.d, w.f, w.node("scotty")}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		didAll(t, w, "scotty: stop", "scotty: switch to v4.5.15", "scotty: start")
	})
}

func TestJobsThatOutlastThePatienceDoNotKeepANode(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.busy = 3
		began := time.Now()
		if err := (rollSidekiq{w.d, w.f, w.node("scotty")}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited < w.d.Waits.Idle || !w.heard("3 jobs on scotty outlast 10s; stopping all the same: Sidekiq puts back what it cannot finish") {
			t.Errorf("after %s said %q", waited, w.said)
		}
	})
}

func TestTheRecordOfAKilledSchedulerIsWaitedForAndNotTakenForASecondOne(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.killed = []mastodon.Process{{Hostname: "decker", Pid: 99, Tag: "v4.5.14", Queues: []string{"scheduler"}, Beat: time.Now()}}
		began := time.Now()
		if err := (rollSidekiq{w.d, w.f, w.node("decker")}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited < 20*time.Second {
			t.Errorf("passed after %s, beside a process that may live", waited)
		}
	})
	inWorld(t, func(t *testing.T, w *world) {
		w.second = true
		err := (rollSidekiq{w.d, w.f, w.node("decker")}).Run(t.Context(), w.say)
		failsWith(t, err, "2 processes serve the queue scheduler, which only one may")
	})
}

func TestABurstOfNameErrorsFailsTheNode(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.nameErrors = int64(w.d.Limits.NameErrors) + 1
		err := (rollSidekiq{w.d, w.f, w.node("scotty")}).Run(t.Context(), w.say)
		failsWith(t, err, "Sidekiq on scotty works with v4.5.15", "3 jobs failed with NameError, 2 allowed")
	})
	inWorld(t, func(t *testing.T, w *world) {
		w.nameErrors = int64(w.d.Limits.NameErrors)
		if err := (rollSidekiq{w.d, w.f, w.node("scotty")}).Run(t.Context(), w.say); err != nil {
			t.Error(err)
		}
	})
}

func TestAWorkerThatSystemdRestartsFailsTheNode(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.restarts["scotty"] = 1
		err := (rollSidekiq{w.d, w.f, w.node("scotty")}).Run(t.Context(), w.say)
		failsWith(t, err, "mastodon-sidekiq-a.service on scotty does not stay up: systemd restarted it (1 times since its start)")
	})
}

func TestRestartsFromBeforeTheRunDoNotCount(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.onNew()
		w.restarts["scotty"], w.restarts["kirk"] = 2, 5
		if err := (rollSidekiq{w.d, w.f, w.node("scotty")}).Run(t.Context(), w.say); err != nil {
			t.Error(err)
		}
		if err := (rollWeb{w.d, w.f, w.node("kirk")}).Run(t.Context(), w.say); err != nil {
			t.Error(err)
		}
	})
}

func TestAnUntouchedSidekiqNodeIsLeftAlone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		if err := (rollSidekiq{w.d, w.f, w.node("scotty")}).Undo(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		didAll(t, w)
	})
}

func TestNewJobsAreWorkedOffBeforeTheWayBack(t *testing.T) {
	for name, test := range map[string]struct {
		left time.Duration // until the queue is empty
		said string
	}{
		"they are worked off": {5 * time.Second, ""},
		"they are not":        {time.Hour, "going back all the same"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.f.Facets = builds.Facets{JobsAdded: []string{"NewWorker"}}
				w.live["scotty"], w.runs["scotty"] = "v4.5.15", "v4.5.15"
				began := time.Now()
				w.queued = func() map[string]int64 {
					if time.Since(began) < test.left {
						return map[string]int64{"NewWorker": 2}
					}
					return nil
				}
				if err := (rollSidekiq{w.d, w.f, w.node("scotty")}).Undo(t.Context(), w.say); err != nil {
					t.Fatal(err)
				}
				didAll(t, w, "scotty: kill TSTP", "scotty: stop", "scotty: switch to v4.5.14", "scotty: start")
				if waited := time.Since(began); waited < min(test.left, w.d.Waits.Idle) {
					t.Errorf("went back after %s", waited)
				}
				if !w.heard("still queued: NewWorker 2") || (test.said != "") != w.heard("going back all the same") {
					t.Errorf("said: %q", w.said)
				}
			})
		})
	}
}
