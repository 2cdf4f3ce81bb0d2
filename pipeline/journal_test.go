package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func journalBytes(t *testing.T) []byte {
	w := newWorld(t, 3)
	if res := w.settle(false); res.Status != Done {
		t.Fatal(res.Err)
	}
	return w.disk.stored
}

func TestATruncatedJournalIsRefusedAtEveryLength(t *testing.T) {
	whole := journalBytes(t)
	if _, err := ParseJournal(whole); err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if _, err := ParseJournal(whole[:n]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(whole), err)
		}
	}
}

func TestAJournalThatIsNotUnderstoodIsRefused(t *testing.T) {
	whole := string(journalBytes(t))
	for name, c := range map[string]struct {
		old, now string
		want     error
	}{
		"a newer format":          {`"format":2`, `"format":3`, ErrNewerFormat},
		"no format":               {`"format":2`, `"format":0`, ErrDamaged},
		"an unknown field":        {`"kind":`, `"sort":`, ErrDamaged},
		"an unknown state":        {`"state":"done"`, `"state":"probably done"`, ErrDamaged},
		"a mark for another step": {`"marks":{"step a"`, `"marks":{"step x"`, ErrDamaged},
		"a step twice":            {`{"name":"step b"`, `{"name":"step a"`, ErrDamaged},
		"something after its end": {`"outcome":"done"}`, `"outcome":"done"}{}`, ErrDamaged},
		"an unknown direction":    {`"direction":"forward"`, `"direction":"sideways"`, ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			edited := strings.Replace(whole, c.old, c.now, 1)
			if edited == whole {
				t.Fatalf("%s is not in the journal: %s", c.old, whole)
			}
			if _, err := ParseJournal([]byte(edited)); !errors.Is(err, c.want) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestAPlanOfOtherStepsIsRefusedAndNothingIsDone(t *testing.T) {
	for name, change := range map[string]func(*Plan){
		"a step more":       func(p *Plan) { p.Steps = append(p.Steps, p.Steps[0]) },
		"a step less":       func(p *Plan) { p.Steps = p.Steps[:2] },
		"two steps swapped": func(p *Plan) { p.Steps[0], p.Steps[1] = p.Steps[1], p.Steps[0] },
		"another run":       func(p *Plan) { p.ID = "run-2" },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 3)
			w.crash["run step b before"] = true
			if _, dead := w.live(t.Context(), false); !dead {
				t.Fatal("it did not die")
			}
			saves := w.disk.saves
			p := w.process()
			j, err := LoadJournal(t.Context(), w.disk, "run-1")
			if err != nil {
				t.Fatal(err)
			}
			if err := j.Adopt(w.disk, p.epoch); err != nil {
				t.Fatal(err)
			}
			plan := p.plan()
			change(&plan)
			res := Execute(t.Context(), plan, j, Options{})
			if res.Status != Refused || !errors.Is(res.Err, ErrPlanChanged) || !errors.Is(res.Err, ErrRefused) {
				t.Errorf("%s: %v", res.Status, res.Err)
			}
			if w.disk.saves != saves || w.applied["step b"] {
				t.Error("something was done or saved")
			}
		})
	}
}

func TestAJournalIsNotAdoptedUnderAnOlderEpoch(t *testing.T) {
	j := &Journal{ID: "run-1", Epoch: 9}
	if err := j.Adopt(&disk{}, 8); err == nil {
		t.Error("adopted")
	}
}

func TestAMissingJournalIsToldFromADamagedOne(t *testing.T) {
	d := &disk{}
	if _, err := LoadJournal(t.Context(), d, "run-1"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	d.stored = journalBytes(t)
	if _, err := LoadJournal(t.Context(), d, "run-9"); !errors.Is(err, ErrDamaged) {
		t.Errorf("the journal of another run: %v", err)
	}
}

type rich struct {
	Name  string
	Built time.Time
	Addr  netip.Addr
	Hosts map[string]struct{ Old, New string }
	Lags  []time.Duration
	Inner *struct{ N int64 }
}

func TestFactsThatJSONWouldLoseAreRefusedByTheirType(t *testing.T) {
	type hidden struct{ secret string }
	type dropped struct {
		A string `json:"-"`
	}
	type anything struct{ A map[string]any }
	type deep struct{ A []struct{ B *hidden } }
	for name, facts := range map[string]any{
		"an unexported field":  &hidden{secret: "x"},
		"a dropped field":      &dropped{},
		"an interface":         &anything{},
		"an unexported inside": &deep{},
		"not a pointer":        rich{},
		"a nil pointer":        (*rich)(nil),
		"a function":           &struct{ F func() }{},
	} {
		if _, err := marshalFacts(facts); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	full := &rich{
		Name: "x", Built: time.Now(), Addr: netip.MustParseAddr("10.77.0.21"),
		Hosts: map[string]struct{ Old, New string }{"kirk": {"v1", "v2"}}, Lags: []time.Duration{1}, Inner: &struct{ N int64 }{1 << 60},
	}
	if _, err := marshalFacts(full); err != nil {
		t.Errorf("plain facts: %v", err)
	}
}

// lossy marshals to less than it is made of.
type lossy struct{ N int }

func (l lossy) MarshalJSON() ([]byte, error) { return json.Marshal(fmt.Sprintf("about %d", l.N)) }

func (l *lossy) UnmarshalJSON([]byte) error {
	l.N = 0
	return nil
}

func TestFactsThatDoNotComeBackFromJSONStopTheRunBeforeItBegins(t *testing.T) {
	w := newWorld(t, 1)
	p := w.process()
	plan := p.plan()
	plan.Facts = &struct{ L lossy }{lossy{4}}
	res := Execute(t.Context(), plan, NewJournal(plan, w.disk, p.epoch, time.Now()), Options{})
	if res.Status != LostJournal || res.Touched || w.applied["step a"] || !strings.Contains(res.Err.Error(), "do not survive JSON") {
		t.Errorf("%s: %v", res.Status, res.Err)
	}
}

func TestAResumedRunKnowsTheFactsOfTheOneBefore(t *testing.T) {
	w := newWorld(t, 3)
	w.crash["run step c before"] = true
	if _, dead := w.live(t.Context(), false); !dead {
		t.Fatal("it did not die")
	}
	p := w.process()
	p.facts.Done = []string{"stale", "facts", "of", "the", "new", "process"}
	j, err := LoadJournal(t.Context(), w.disk, "run-1")
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Adopt(w.disk, p.epoch); err != nil {
		t.Fatal(err)
	}
	if res := Execute(t.Context(), p.plan(), j, Options{}); res.Status != Done {
		t.Fatal(res.Err)
	}
	if got := strings.Join(p.facts.Done, ","); got != "step a,step b,step c" {
		t.Errorf("the facts: %s", got)
	}
}

func TestWhatAStageRemembersIsThereAfterACrash(t *testing.T) {
	f := &facts{}
	d := &disk{}
	plan := Plan{ID: "run-1", Facts: f, Steps: []Step{{Stage: &plain{name: "a", run: func(ctx context.Context) error {
		f.Done = append(f.Done, "unit started")
		if err := Remember(ctx); err != nil {
			return err
		}
		panic(died{})
	}}}}}
	func() {
		defer func() {
			if r := recover(); r != (died{}) {
				t.Fatal(r)
			}
		}()
		Execute(t.Context(), plan, NewJournal(plan, d, 1, time.Now()), Options{})
	}()
	j, err := LoadJournal(t.Context(), d, "run-1")
	if err != nil {
		t.Fatal(err)
	}
	var got facts
	if err := j.LoadFacts(&got); err != nil || len(got.Done) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

// The keeper and its mirror are gone: what hosts say becomes marks by hand.
func TestAJournalRebuiltFromWhatHostsSayIsGoneOnWithForwardAndBack(t *testing.T) {
	rebuilt := func(c *course) *Journal {
		j := NewJournal(c.plan(), &c.disk, 9, time.Now())
		j.Marks["build"] = Mark{State: Finish}
		j.Marks["roll kirk"] = Mark{State: Doing}
		return j
	}
	c := newCourse("build", "roll kirk", "roll spock")
	if res := Execute(t.Context(), c.plan(), rebuilt(c), Options{}); res.Status != Done || c.did() != "check roll kirk, run roll kirk, run roll spock" {
		t.Errorf("forward: %+v", res)
	}
	c = newCourse("build", "roll kirk", "roll spock")
	if res := Unwind(t.Context(), c.plan(), rebuilt(c), Options{}); res.Status != Undone || c.did() != "undo roll kirk, undo build" {
		t.Errorf("back: %+v", res)
	}
	c = newCourse("build", "roll kirk", "roll spock")
	j := rebuilt(c)
	j.Marks["roll pike"] = Mark{State: Finish}
	if res := Execute(t.Context(), c.plan(), j, Options{}); res.Status != Refused || c.disk.saves != 0 {
		t.Errorf("a mark for a step that is not in the plan: %+v", res)
	}
}

func TestAJournalOfAnotherEpochThanTheLeaseInHandIsRefused(t *testing.T) {
	h, err := Hold(t.Context(), &lease{ttl: time.Minute}, "upgrade", HoldOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := newCourse("build")
	res := Execute(h.Context, c.plan(), NewJournal(c.plan(), &c.disk, 6, time.Now()), Options{})
	if res.Status != Refused || c.did() != "" || c.disk.saves != 0 {
		t.Errorf("%s: %v", res.Status, res.Err)
	}
	res = Execute(h.Context, c.plan(), NewJournal(c.plan(), &c.disk, h.Epoch, time.Now()), Options{})
	if res.Status != Done {
		t.Errorf("%s: %v", res.Status, res.Err)
	}
	if err := h.Release(t.Context()); err != nil {
		t.Error(err)
	}
}
