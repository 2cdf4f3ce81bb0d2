package stages

import (
	"errors"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/nginx"
)

func TestAFewRequestsSayNothingUntilThereAreEnough(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.d.Fleet = w.d.Fleet.But("chekov")
		s, err := w.d.newSite(t.Context(), w.f.Baseline)
		if err != nil {
			t.Fatal(err)
		}
		s.total = nginx.Traffic{} // counts from here
		w.requests, w.errors5xx = leastRequests/2-1, 1
		for range 2 {
			if err := s.look(t.Context()); err != nil {
				t.Fatalf("after %d requests: %v", s.total.Requests, err)
			}
		}
		failsWith(t, s.look(t.Context()), "3 of 27 requests were answered with a 5xx")
		w.errors5xx = 0
		if err := s.look(t.Context()); err != nil {
			t.Errorf("what was judged counts again: %v", err)
		}
	})
}

func TestErrorsOfTheBaselineAreAllowed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.f.Baseline.Errors, w.errors5xx = 0.10, 3 // 6 of 60; 0.01 beyond the baseline is allowed
		s, err := w.d.newSite(t.Context(), w.f.Baseline)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.look(t.Context()); err != nil {
			t.Error(err)
		}
		w.errors5xx = 4
		failsWith(t, s.look(t.Context()), "8 of 60 requests")
	})
}

func TestThePageMayBecomeSlowerWithinTheLimitOnly(t *testing.T) {
	for name, test := range map[string]struct {
		before, now time.Duration
		well        bool
	}{
		"three times as slow":         {100 * time.Millisecond, 300 * time.Millisecond, true},
		"more than that":              {100 * time.Millisecond, 301 * time.Millisecond, false},
		"a fast one below the floor":  {10 * time.Millisecond, 200 * time.Millisecond, true},
		"a fast one beyond the floor": {10 * time.Millisecond, 201 * time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.f.Baseline.Latency, w.slow = test.before, test.now
				s, err := w.d.newSite(t.Context(), w.f.Baseline)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.look(t.Context()); (err == nil) != test.well {
					t.Errorf("%v", err)
				} else if err != nil {
					failsWith(t, err, "the page takes "+test.now.String(), test.before.String()+" before")
				}
			})
		})
	}
}

func TestANodeOutOfRotationIsNotAsked(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.runs["kirk"] = ""
		s, err := w.d.newSite(t.Context(), w.f.Baseline)
		if err != nil {
			t.Fatal(err)
		}
		failsWith(t, s.look(t.Context()), "kirk: page: connection refused")
		w.down["sulu"]["10.77.0.21"] = true
		if err := s.look(t.Context()); err != nil {
			t.Error(err)
		}
		w.down["sulu"]["10.77.0.22"] = true
		failsWith(t, s.look(t.Context()), "no web node is in rotation")
	})
}

func TestOneBadLookIsForgivenAndTwoAreNot(t *testing.T) {
	for name, test := range map[string]struct {
		bad  time.Duration
		well bool
	}{
		"one":  {time.Second, true}, // looks are two seconds apart
		"more": {5 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.after(9500*time.Millisecond, func() { w.slow = time.Minute })
				w.after(9500*time.Millisecond+test.bad, func() { w.slow = 0 })
				err := w.d.watch(t.Context(), w.f, "the site is well", 30*time.Second, nil, w.say)
				if (err == nil) != test.well {
					t.Errorf("%v", err)
				}
				if err != nil {
					failsWith(t, err, "the site is well: was true for 12s and then no more")
				}
			})
		})
	}
}

func TestAnAccessLogThatCannotBeReadFailsTheWatchAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.fails["chekov access"] = errDown
		err := w.d.watch(t.Context(), w.f, "the site is well", 0, nil, w.say)
		failsWith(t, err, "cannot read the access log: chekov")
	})
}

func TestTheSoakSeesWhateverFailsOnAnyNode(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(*world)
		words string
	}{
		"a web node went back":         {func(w *world) { w.runs["spock"] = "v4.5.14" }, "spock does not run v4.5.15"},
		"a worker is down":             {func(w *world) { w.runs["scotty"] = "" }, "scotty does not run v4.5.15"},
		"a node is out of rotation":    {func(w *world) { w.down["chekov"]["10.77.0.22"] = true }, "spock is out of rotation on chekov"},
		"the page fails":               {func(w *world) { w.sick["kirk"] = "/ answers 500" }, "kirk: page: / answers 500"},
		"a worker takes no jobs":       {func(w *world) { w.quiet["decker"] = true }, "is quiet: it takes no jobs"},
		"a burst of NameErrors":        {func(w *world) { w.nameErrors = 9 }, "9 jobs failed with NameError"},
		"systemd restarts a worker":    {func(w *world) { w.restarts["scotty"] = 1 }, "mastodon-sidekiq-a.service on scotty does not stay up"},
		"users see errors":             {func(w *world) { w.errors5xx = 10 }, "of 60 requests were answered with a 5xx"},
		"everything is well after all": {func(*world) {}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.onNew()
				w.d.Holds.Soak = time.Minute
				w.after(11*time.Second, func() { test.spoil(w) })
				began := time.Now()
				err := (soak{w.d, w.f}).Run(t.Context(), w.say)
				took := time.Since(began)
				if test.words == "" {
					if err != nil || took < time.Minute {
						t.Errorf("%v after %s", err, took)
					}
					return
				}
				failsWith(t, err, "the whole fleet is well on v4.5.15: was true for", test.words)
				if took > 20*time.Second {
					t.Errorf("seen after %s", took)
				}
				didAll(t, w)
			})
		})
	}
}

func TestSidekiqIsAskedThroughAnyNodeThatReachesRedis(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for _, n := range []string{"scotty", "decker", "kirk"} {
			w.fails[n+" sidekiq"] = errors.New("connection refused")
		}
		if err := w.d.served(t.Context(), w.d.sidekiqs(), []string{"pull", "scheduler"}); err != nil {
			t.Error(err)
		}
		w.fails["spock sidekiq"] = errors.New("connection refused")
		err := w.d.served(t.Context(), w.d.sidekiqs(), []string{"pull"})
		failsWith(t, err, "no node could ask Redis about Sidekiq", "scotty", "spock")
		if strings.Count(err.Error(), "connection refused") != 4 {
			t.Errorf("%v", err)
		}
	})
}
