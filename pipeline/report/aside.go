package report

import (
	"fmt"
	"sync"
	"time"

	"vmst.io/refit/pipeline"
)

// room is how many events wait for one who shows them slowly.
const room = 4096

// Aside shows events beside the run: a terminal that takes nothing any more, since
// somebody held it with Ctrl-S or the link to it hangs, must not hold up a run with
// a node out of rotation. What does not fit is counted and said later.
type Aside struct {
	to pipeline.Observer

	mu      sync.Mutex
	events  chan pipeline.Event
	over    bool
	dropped int
	ended   chan struct{}
}

// NewAside shows events through to, from a goroutine of its own, until Close.
func NewAside(to pipeline.Observer) *Aside {
	a := &Aside{to: to, events: make(chan pipeline.Event, room), ended: make(chan struct{})}
	go a.show()
	return a
}

func (a *Aside) show() {
	defer close(a.ended)
	for e := range a.events {
		if n := a.missed(); n > 0 {
			a.to.Observe(pipeline.Event{Kind: pipeline.StepSaid, Time: e.Time, Run: e.Run, Text: fmt.Sprintf("%d events were not shown: the terminal took nothing", n)})
		}
		a.to.Observe(e)
	}
}

func (a *Aside) missed() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.dropped
	a.dropped = 0
	return n
}

// Observe takes the event and returns at once.
func (a *Aside) Observe(e pipeline.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return
	}
	select {
	case a.events <- e:
	default:
		a.dropped++
	}
}

// Close waits until all is shown, at most so long; later events are dropped.
func (a *Aside) Close(limit time.Duration) {
	a.mu.Lock()
	if !a.over {
		a.over = true
		close(a.events)
	}
	a.mu.Unlock()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-a.ended:
	case <-t.C:
	}
}
