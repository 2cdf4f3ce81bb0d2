package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
)

// scenario is one course of a run, and how it must end whatever crashes in it.
type scenario struct {
	oneWay int
	fails  map[string]error
	heals  bool
	// unwind: after the run is done, it is taken back by "rollback".
	unwind bool
	want   Status
}

const walkSteps = 4

func scenarios() map[string]scenario {
	broken := errors.New("it broke")
	all := map[string]scenario{
		"every step works":                   {oneWay: -1, want: Done},
		"every step works, one is one-way":   {oneWay: 2, want: Done},
		"done and then rolled back":          {oneWay: -1, unwind: true, want: Undone},
		"the step after a one-way one fails": {oneWay: 1, fails: map[string]error{"run step d": broken}, want: Person},
		"the one-way step fails":             {oneWay: 2, fails: map[string]error{"run step c": broken}, want: Person},
		"an undo fails once":                 {oneWay: -1, fails: map[string]error{"run step d": broken, "undo step b": broken}, heals: true, want: Undone},
		"the first step refuses":             {oneWay: -1, fails: map[string]error{"run step a": Refuse("no")}, want: Refused},
		"a later step refuses":               {oneWay: -1, fails: map[string]error{"run step c": Refuse("no")}, want: Undone},
	}
	for i := range walkSteps {
		name := fmt.Sprintf("step %c", 'a'+i)
		all[name+" fails"] = scenario{oneWay: -1, fails: map[string]error{"run " + name: broken}, want: Undone}
	}
	return all
}

func (s scenario) world(t *testing.T) *world {
	w := newWorld(t, walkSteps)
	w.oneWay, w.heals = s.oneWay, s.heals
	w.fails = maps.Clone(s.fails)
	if w.fails == nil {
		w.fails = map[string]error{}
	}
	return w
}

// play runs the scenario to its end, resuming as often as it takes.
func (s scenario) play(t *testing.T, w *world) {
	t.Helper()
	res := w.settle(false)
	if s.unwind && res.Status == Done { // else it died on the way back and was resumed there
		res = w.settle(true)
	}
	if res.Status != s.want {
		t.Errorf("ended as %s, want %s (%v; %s)", res.Status, s.want, res.Err, res.State)
	}
	w.agrees(res)
}

// saves counts the saves of the scenario when nothing goes wrong.
func (s scenario) saves(t *testing.T) int {
	w := s.world(t)
	s.play(t, w)
	return w.disk.saves
}

func TestARunKilledAtAnyMarkEndsAsIfItHadNotBeen(t *testing.T) {
	walked := courses(t)
	for name, s := range scenarios() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			total := s.saves(t)
			var share share
			for n := 1; n <= total; n++ {
				for _, f := range []fault{beforeWrite, afterWrite, tornWrite, tornInPlace, lostReply, writeError} {
					if share.leftOut() {
						continue
					}
					w := s.world(t)
					w.disk.at = map[int]fault{n: f}
					s.play(t, w)
					walked.Add(1)
					if t.Failed() {
						t.Fatalf("at save %d of %d: %s", n, total, f)
					}
				}
			}
		})
	}
}

// courses counts what was walked and tells it once all parallel walks are over.
func courses(t *testing.T) *atomic.Int64 {
	var walked atomic.Int64
	t.Cleanup(func() { t.Logf("%d courses walked", walked.Load()) })
	return &walked
}

// share counts courses. All are walked by "go test"; with the race detector, one of
// five.
type share int

func (s *share) leftOut() bool {
	*s++
	return raced && *s%5 != 0
}

func TestARunKilledTwiceAtAnyTwoMarksEndsAsIfItHadNotBeen(t *testing.T) {
	kinds := []fault{beforeWrite, lostReply}
	walked := courses(t)
	for name, s := range scenarios() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			total := s.saves(t)
			var share share
			for n := 1; n <= total; n++ {
				once := s.world(t)
				once.disk.at = map[int]fault{n: kinds[n%2]}
				s.play(t, once)
				// Past its last save a second death would meet nobody.
				for m := n + 1; m <= once.disk.saves; m++ {
					if share.leftOut() {
						continue
					}
					w := s.world(t)
					w.disk.at = map[int]fault{n: kinds[n%2], m: kinds[(n+m)/2%2]} // the kinds take turns
					s.play(t, w)
					walked.Add(1)
					if t.Failed() {
						t.Fatalf("at saves %d and %d of %d: %v", n, m, total, w.disk.at)
					}
				}
			}
		})
	}
}

// A person need not resume a run that was killed: it may be rolled back from wherever
// it stands, and be killed at any mark of that way too.
func TestARunKilledAtAnyMarkIsRolledBackAndMayBeKilledThereToo(t *testing.T) {
	kinds := []fault{beforeWrite, afterWrite, tornWrite, tornInPlace, lostReply}
	walked := courses(t)
	var refused atomic.Int64
	t.Cleanup(func() {
		if n := refused.Load(); n == 0 || n == walked.Load() {
			t.Errorf("%d of %d courses were past the point of no return", n, walked.Load())
		}
		t.Logf("%d of them past the point of no return", refused.Load())
	})
	for name, s := range scenarios() {
		if s.unwind {
			continue // that one is rolled back in the other walks
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var share share
			walk := func(at map[int]fault) *world {
				w := s.world(t)
				w.disk.at = at
				if w.rolledBackFrom(t, s) {
					refused.Add(1)
				}
				walked.Add(1)
				if t.Failed() {
					t.Fatalf("killed at saves %v", at)
				}
				return w
			}
			for n := 1; n <= s.saves(t); n++ {
				end := 0
				for i, f := range kinds {
					if raced && (n+i)%len(kinds) != 0 {
						continue // one kind for each mark, in turn
					}
					end = max(end, walk(map[int]fault{n: f}).disk.saves)
				}
				for m := n + 1; m <= end; m++ {
					if share.leftOut() {
						continue
					}
					walk(map[int]fault{n: kinds[(n+m)%len(kinds)], m: kinds[(n+2*m)%len(kinds)]})
				}
			}
		})
	}
}

// rolledBackFrom lets one process die and takes back what it left, or is refused
// because a one-way step has begun; then the run goes on to its end.
func (w *world) rolledBackFrom(t *testing.T, s scenario) (refused bool) {
	t.Helper()
	if _, dead := w.live(t.Context(), false); !dead && w.disk.stored == nil {
		return false // nothing was ever begun
	}
	if w.disk.stored == nil {
		s.play(t, w)
		return false
	}
	j, err := LoadJournal(t.Context(), w.disk, "run-1")
	if err != nil {
		t.Fatal(err)
	}
	if j.OneWay() != "" {
		res, _ := w.live(t.Context(), true)
		if res.Status != Refused || !errors.Is(res.Err, ErrOneWay) {
			t.Errorf("past the point of no return it is %s: %v", res.Status, res.Err)
		}
		s.play(t, w)
		return true
	}
	res := w.settle(true)
	if want := s.want; res.Status != Undone && (want != Refused || res.Status != want) {
		t.Errorf("ended as %s (%v; %s)", res.Status, res.Err, res.State)
	}
	w.agrees(res)
	return false
}

// points are the moments inside deeds at which a process can die.
func points() []string {
	var points []string
	for i := range walkSteps {
		for _, what := range []string{"run", "undo"} {
			for _, when := range []string{"before", "after"} {
				points = append(points, fmt.Sprintf("%s step %c %s", what, 'a'+i, when))
			}
		}
	}
	return points
}

// dying plays the scenario with a death at each of these points, and gives all
// points that the course came to.
func (s scenario) dying(t *testing.T, at ...string) map[string]int {
	t.Helper()
	w := s.world(t)
	for _, point := range at {
		w.crash[point] = true
	}
	s.play(t, w)
	if t.Failed() {
		t.Fatalf("died at %q", at)
	}
	return w.seen
}

func TestAProcessThatDiesInsideAnyDeedIsResumed(t *testing.T) {
	walked := courses(t)
	for name, s := range scenarios() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			undisturbed := s.dying(t)
			after := map[string]map[string]int{} // by the point of one death
			for _, one := range points() {
				after[one] = undisturbed // a death where nobody comes by changes nothing
				if undisturbed[one] > 0 {
					after[one] = s.dying(t, one)
					walked.Add(1)
				}
			}
			var share share
			for i, one := range points() {
				for _, two := range points()[i+1:] {
					// Where neither death leads to the other, the course is one of those above.
					first, second := undisturbed[one] > 0 && after[one][two] > 0, undisturbed[two] > 0 && after[two][one] > 0
					if !first && !second || share.leftOut() {
						continue
					}
					s.dying(t, one, two)
					walked.Add(1)
				}
			}
		})
	}
}

// A lease lost at any moment: from then on nothing is done and nothing undone by
// that process. The next one, with a lease of its own, brings the run to its end.
func TestALeaseLostAtAnyMarkStopsTheRunWhereItStands(t *testing.T) {
	for name, s := range scenarios() {
		t.Run(name, func(t *testing.T) {
			total := s.saves(t)
			for n := 1; n < total; n++ {
				w := s.world(t)
				ctx, cancel := context.WithCancelCause(t.Context())
				after := 0
				w.disk.onSave = func(k int) {
					if k == n {
						cancel(fmt.Errorf("%w: gone", ErrLockLost))
					}
					if k > n {
						after++
					}
				}
				res, _ := w.live(ctx, false)
				if res.Status == Done || s.heals && res.Status == Person {
					res, _ = w.live(ctx, s.unwind)
				}
				if res.Status != LostLock {
					t.Fatalf("lost at save %d of %d: ended as %s: %v", n, total, res.Status, res.Err)
				}
				if after > 0 {
					t.Fatalf("lost at save %d of %d: %d saves after that", n, total, after)
				}
				w.disk.onSave = nil
				s.play(t, w)
				if t.Failed() {
					t.Fatalf("lost at save %d of %d", n, total)
				}
			}
		})
	}
}

func TestTheWalkKnowsEveryScenario(t *testing.T) {
	names := slices.Sorted(maps.Keys(scenarios()))
	if len(names) != 8+walkSteps {
		t.Errorf("the walk has %d scenarios: %v", len(names), names)
	}
}
