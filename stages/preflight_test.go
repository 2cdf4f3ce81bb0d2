package stages

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/pipeline"
)

func TestPreflightAsksTheWholeFleetAndTakesTheBaseline(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.f.Baseline, w.slow = Baseline{}, 140*time.Millisecond
		if err := (preflight{w.d, w.f}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		if b := w.f.Baseline; b.Latency != 140*time.Millisecond || b.Processed == 0 || b.At.IsZero() {
			t.Errorf("baseline: %+v", b)
		}
		did(t, w, "")
	})
}

func TestPreflightRefusesWhatChangedSinceThePlan(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(*world)
		words []string
	}{
		"a host went away":          {func(w *world) { w.fails["uhura facts"] = errDown }, []string{"uhura: the link is gone"}},
		"a node was switched":       {func(w *world) { w.live["kirk"], w.runs["kirk"] = "v4.5.15", "v4.5.15" }, []string{"the nodes do not run one release"}},
		"the fleet was upgraded":    {func(w *world) { w.onNew() }, []string{"the fleet runs v4.5.15 now, and this plan starts from v4.5.14: plan again"}},
		"a worker stopped":          {func(w *world) { w.runs["decker"] = "" }, []string{"no process serves the queue scheduler"}},
		"the web nodes are ill":     {func(w *world) { w.sick["kirk"], w.sick["spock"] = "500", "502" }, []string{"page: 500", "page: 502"}},
		"a node is out of rotation": {func(w *world) { w.down["sulu"]["10.77.0.22"] = true }, []string{"sulu: spock is out of rotation already"}},
		"the database is a standby": {func(w *world) { w.db.InRecovery = true }, []string{"is a standby and takes no writes"}},
		"a proxy cannot be read":    {func(w *world) { w.fails["chekov nginx.facts"] = errDown }, []string{"chekov: the link is gone"}},
		"two things at once": {
			func(w *world) { w.db.Used, w.fails["kirk redis"] = 99, errDown },
			[]string{"the database has 99 of 100 connections in use", "kirk: the link is gone: is stunnel up?"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				test.spoil(w)
				err := (preflight{w.d, w.f}).Run(t.Context(), w.say)
				failsWith(t, err, test.words...)
				if !errors.Is(err, pipeline.ErrRefused) {
					t.Errorf("not refused: %v", err)
				}
				did(t, w, "")
			})
		})
	}
}

func TestTheKeeperRemembersWhatTheFleetRuns(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.f.Digest = "d2"
		s := record{w.d, w.f}
		read := func() (r Record) {
			t.Helper()
			if err := json.Unmarshal(w.written, &r); err != nil {
				t.Fatal(err)
			}
			return r
		}
		if err := s.Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		if r := read(); r.Release != "v4.5.15" || r.Before != "v4.5.14" || r.Digest != "d2" || r.Run != "u-1" || r.Commit != w.f.To.Tag.Commit {
			t.Errorf("%+v", r)
		}
		if err := s.Undo(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		if r := read(); r.Release != "v4.5.14" || r.Before != "v4.5.15" || r.Digest != "" {
			t.Errorf("taken back: %+v", r)
		}
		did(t, w, "uhura: write /var/lib/refit/fleet.json, uhura: write /var/lib/refit/fleet.json")
		w.fails["uhura file.put"] = errDown
		failsWith(t, s.Run(t.Context(), w.say), "the link is gone")
	})
}

func TestPruningTellsWhatWentOnEachNode(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		if err := (prune{w.d, w.f}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		if want := []string{"decker: v4.5.12", "khan: v4.5.12", "kirk: v4.5.12", "scotty: v4.5.12", "spock: v4.5.12"}; !slices.Equal(w.f.Pruned, want) {
			t.Errorf("pruned: %q", w.f.Pruned)
		}
		if !w.heard("kirk: v4.5.15, v4.5.14 stay, removed: v4.5.12") {
			t.Errorf("said: %q", w.said)
		}
	})
}

func TestTheOrderPutsTheIllFirstAndAsksTheJobClasses(t *testing.T) {
	l := goodLook(t)
	l.v.Web["spock"] = errors.New("spock: page: / answers 500")
	l.f.Facets = builds.Facets{JobsRemoved: []string{"OldWorker"}}
	l.d.order(l.v, l.f)
	if !slices.Equal(l.f.Web, []string{"spock", "kirk"}) || !slices.Equal(l.f.Sidekiq, []string{"scotty", "decker"}) || l.f.SidekiqFirst {
		t.Errorf("web %q, sidekiq %q, sidekiq first %v", l.f.Web, l.f.Sidekiq, l.f.SidekiqFirst)
	}
}
