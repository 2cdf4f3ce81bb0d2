package stages

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/node"
)

func TestTheGroundIsEveryHostTheDatabaseAndRedis(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		g := w.d.Ground()
		first := g.Look(t.Context())
		if len(first.Missing) > 0 {
			t.Fatalf("missing: %v", first.Missing)
		}
		if want := len(w.d.Fleet) + 2; len(first.Marks) != want {
			t.Errorf("%d marks, want %d: %v", len(first.Marks), want, first.Marks)
		}
		w.redisRun = "another"
		w.db.Started = w.db.Started.Add(time.Hour)
		second := g.Look(t.Context())
		for _, name := range []string{"the database", "Redis (main, sidekiq)"} {
			if first.Marks[name] == second.Marks[name] {
				t.Errorf("%s was replaced and its mark is %q as before", name, second.Marks[name])
			}
		}
	})
}

func TestADatabaseThatHoldsNothingYetBears(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.db.Applied = nil
		if f := w.d.Ground().Look(t.Context()); len(f.Missing) > 0 || f.Marks["the database"] == "" {
			t.Errorf("missing %v, marks %v", f.Missing, f.Marks)
		}
	})
}

func TestWhatDoesNotBearIsNamed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		g := w.d.Ground()
		for _, test := range []struct {
			spoil func()
			name  string
			words string
		}{
			{func() { w.fails["kirk facts"] = errDown }, "kirk", "the link is gone"},
			{func() { w.fails["spock redis"] = errors.New("cannot ask Redis") }, "spock", "cannot ask Redis"},
			{func() {
				for _, n := range w.d.Fleet.Apps() {
					w.fails[n.Name+" redis"] = errors.New("cannot ask Redis")
				}
			}, "Redis", "no node reaches it; "},
			{func() {
				w.fails["kirk redis"], w.fails["spock redis"] = errors.New("cannot ask Redis"), errors.New("cannot ask Redis")
				w.fails["scotty redis"], w.fails["decker redis"] = hosts.ErrSilent, errors.New("cannot ask Redis")
			}, "Redis", "no node reaches it; "},
			{func() { w.db.InRecovery = true }, "the database", "a standby that was not promoted yet"},
			{func() { w.dbFails = errors.New("connection refused") }, "the database", "connection refused"},
			{func() {
				w.orphans = map[string][]node.Holder{"scotty": {{Verb: "units", Run: "u-1", Epoch: 1}}}
			}, "scotty", "whose answer was lost, is still at work there"},
		} {
			test.spoil()
			f := g.Look(t.Context())
			if err := f.Missing[test.name]; len(f.Missing) != 1 || err == nil || !strings.Contains(err.Error(), test.words) {
				t.Errorf("missing %v, want %s (%s)", f.Missing, test.name, test.words)
			}
			clear(w.fails)
			w.orphans, w.dbFails, w.db.InRecovery = nil, nil, false
		}
	})
}

func TestWhatAnEarlierHolderLeftAtWorkIsNoMatterOfTheGround(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.orphans = map[string][]node.Holder{"scotty": {{Verb: "units", Run: "u-1", Epoch: 0}, {Verb: "sweep", Run: "u-0", Epoch: 1}}}
		if f := w.d.Ground().Look(t.Context()); len(f.Missing) > 0 {
			t.Errorf("missing: %v", f.Missing)
		}
	})
}

func TestOnlyTheLinkShakes(t *testing.T) {
	g := someDeps().Ground()
	for err, want := range map[error]bool{
		fmt.Errorf("kirk: %w", hosts.ErrUnreachable): true, hosts.ErrSilent: true, errors.Join(errDown, hosts.ErrLost): true,
		errDown: false, hosts.ErrAuth: false,
	} {
		if g.Shook(err) != want {
			t.Errorf("%v: %v", err, !want)
		}
	}
}
