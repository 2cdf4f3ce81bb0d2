package pipeline

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// The journal is lost after every number of steps, and made again from what can be
// seen of their effects.
func TestARestoredJournalGoesForwardAndBackFromWhateverIsThere(t *testing.T) {
	for there := range 5 {
		for _, back := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d steps, back %t", there, back), func(t *testing.T) {
				w := newWorld(t, 4)
				marks := map[string]Mark{}
				for _, n := range w.names[:there] {
					w.applied[n], w.turns[n], marks[n] = true, 1, Mark{State: Doing}
				}
				p := w.process()
				j, err := RestoreJournal(p.plan(), nil, marks, Forward, time.Unix(0, 0))
				if err != nil {
					t.Fatal(err)
				}
				if err := j.Adopt(w.disk, p.epoch); err != nil {
					t.Fatal(err)
				}
				run, want := Execute, Done
				if back {
					run, want = Unwind, Undone
				}
				res := run(t.Context(), p.plan(), j, Options{})
				if res.Status != want {
					t.Fatalf("%s: %v", res.Status, res.Err)
				}
				for _, n := range w.names {
					if w.applied[n] == back {
						t.Errorf("the effect of %s is there: %v", n, w.applied[n])
					}
				}
				if _, err := ParseJournal(w.disk.stored); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestARestoredJournalIsNeverWalkedBackPastAOneWayStep(t *testing.T) {
	w := newWorld(t, 4)
	w.oneWay, w.passed = 1, true
	marks := map[string]Mark{}
	for _, n := range w.names[:2] {
		w.applied[n], marks[n] = true, Mark{State: Doing}
	}
	m := marks[w.names[1]]
	m.OneWayBegun = true
	marks[w.names[1]] = m
	p := w.process()
	j, err := RestoreJournal(p.plan(), nil, marks, Forward, time.Unix(0, 0))
	if err == nil {
		err = j.Adopt(w.disk, p.epoch)
	}
	if err != nil {
		t.Fatal(err)
	}
	if res := Unwind(t.Context(), p.plan(), j, Options{}); !errors.Is(res.Err, ErrOneWay) {
		t.Errorf("%s: %v", res.Status, res.Err)
	}
}

func TestARestoredJournalTakesItsCountFromTheCopyAndRefusesWhatDoesNotFit(t *testing.T) {
	w := newWorld(t, 3)
	p := w.process()
	was, err := RestoreJournal(p.plan(), nil, nil, Backward, time.Unix(7, 0))
	if err != nil {
		t.Fatal(err)
	}
	was.Seq, was.Epoch, was.Cause, was.Asked = 41, 5, "kirk is ill", true
	j, err := RestoreJournal(p.plan(), was, map[string]Mark{"step a": {State: Back}, "step b": {}}, Backward, time.Unix(9, 0))
	if err != nil {
		t.Fatal(err)
	}
	if j.Seq != 41 || j.Cause != was.Cause || !j.Asked || !j.Created.Equal(was.Created) || len(j.Marks) != 1 {
		t.Errorf("%+v", j)
	}
	if err := j.Adopt(w.disk, 4); err == nil {
		t.Error("a lease below the copy's epoch is enough")
	}
	if j, err := RestoreJournal(p.plan(), was, nil, Forward, time.Unix(9, 0)); err != nil || j.Cause != "" || j.Asked {
		t.Errorf("a run that goes forward keeps why it went back: %+v, %v", j, err)
	}
	if _, err := RestoreJournal(p.plan(), nil, map[string]Mark{"step x": {State: Doing}}, Forward, time.Unix(0, 0)); err == nil {
		t.Error("a mark for a step that the plan lacks is taken")
	}
	if _, err := RestoreJournal(p.plan(), nil, map[string]Mark{"step a": {State: "likely"}}, Forward, time.Unix(0, 0)); err == nil {
		t.Error("an unknown state is taken")
	}
}

func TestAPlanOfOtherStepsIsToldStepByStep(t *testing.T) {
	w := newWorld(t, 3)
	p := w.process()
	j := NewJournal(p.plan(), w.disk, p.epoch, time.Unix(0, 0))
	w.names = []string{"step a", "step z", "step c"}
	res := Execute(t.Context(), p.plan(), j, Options{})
	if !errors.Is(res.Err, ErrPlanChanged) || !strings.Contains(res.Err.Error(), `the plan lacks "step b"; the journal lacks "step z"`) {
		t.Error(res.Err)
	}
}
