package report

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/pipeline"
)

// stuck is a terminal that takes one write and then nothing until it is let go.
type stuck struct {
	free  chan struct{}
	lines []string
}

func (s *stuck) Observe(e pipeline.Event) {
	<-s.free
	s.lines = append(s.lines, e.Text)
}

func TestATerminalThatTakesNothingHoldsUpNoRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stuck{free: make(chan struct{})}
		a := NewAside(s)
		for i := range room + 10 {
			a.Observe(pipeline.Event{Text: fmt.Sprint(i)})
			synctest.Wait()
		}
		began := time.Now()
		a.Close(3 * time.Second)
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("closing took %s", took)
		}
		close(s.free)
		a.Close(time.Hour)
		a.Observe(pipeline.Event{Text: "late"})
		said := strings.Join(s.lines, " ")
		if !strings.HasPrefix(said, "9 events were not shown") && !strings.Contains(said, "9 events were not shown") || strings.Contains(said, "late") {
			t.Errorf("%d lines: %.200s", len(s.lines), said)
		}
	})
}

func TestEventsAreShownInTheirOrderAndAllBeforeTheEnd(t *testing.T) {
	s := &stuck{free: make(chan struct{})}
	close(s.free)
	a := NewAside(s)
	var want []string
	for i := range 100 {
		a.Observe(pipeline.Event{Text: fmt.Sprint(i)})
		want = append(want, fmt.Sprint(i))
	}
	a.Close(time.Hour)
	if got := strings.Join(s.lines, " "); got != strings.Join(want, " ") {
		t.Error(got)
	}
}
