package pipeline

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Kind tells what an Event reports.
type Kind string

// The kinds of events, in the order in which a run may send them.
const (
	RunStarted  Kind = "run-started"  // also when a run is resumed; Text says so
	StepStarted Kind = "step-started" // journalled as begun, about to run
	StepSaid    Kind = "step-said"    // progress in words
	StepWaiting Kind = "step-waiting" // a gate is not yet passed, or is being held
	StepDone    Kind = "step-done"    // finished and journalled
	StepFailed  Kind = "step-failed"  // Err says why
	StepUndoing Kind = "step-undoing" // about to be taken back
	StepUndone  Kind = "step-undone"  // taken back and journalled
	UndoFailed  Kind = "undo-failed"  // Err says why; the run ends here
	HostSeen    Kind = "host-seen"    // a host changed its state; see Event.State
	StopAsked   Kind = "stop-asked"   // Options.Stop was closed
	// RequestsFailed: users' requests were answered with an error while a gate
	// watched; Failed of Requests.
	RequestsFailed Kind = "requests-failed"
	LockTaken      Kind = "lock-taken"    // the lease is held; Text names its epoch
	LockLate       Kind = "lock-late"     // a renewal failed and is tried again
	LockRenewed    Kind = "lock-renewed"  // it was late and is renewed again
	LockLost       Kind = "lock-lost"     // the lease is gone; the run stops where it stands
	LockReleased   Kind = "lock-released" // given back
	RunEnded       Kind = "run-ended"     // Text is the Status
)

// Event is one thing that happened. It never carries a secret: its words come
// from stages, which do not say any.
type Event struct {
	Kind Kind      `json:"kind"`
	Time time.Time `json:"time"`
	// Run is the plan's ID.
	Run string `json:"run,omitempty"`
	// Step is the step's name; empty for events of the run and of the lock.
	Step string `json:"step,omitempty"`
	// Host is the host that the event is about; empty for the whole fleet.
	Host string `json:"host,omitempty"`
	// Index counts steps from 1; Total is how many the plan has.
	Index int `json:"index,omitempty"`
	Total int `json:"total,omitempty"`
	// Text is one line for a person.
	Text string `json:"text,omitempty"`
	// Err is the error's text.
	Err string `json:"error,omitempty"`
	// Elapsed is the time since the step (or, for StepWaiting, the wait) began.
	Elapsed time.Duration `json:"elapsed_ns,omitempty"`
	// Expect is how long the step usually takes, or for StepWaiting how long the
	// wait may take at most.
	Expect time.Duration `json:"expect_ns,omitempty"`
	// State and Release belong to HostSeen.
	State   string `json:"state,omitempty"`
	Release string `json:"release,omitempty"`
	// Requests and Failed belong to RequestsFailed: how many a look at the proxies'
	// logs saw, and how many of them had a 5xx.
	Requests int `json:"requests,omitempty"`
	Failed   int `json:"failed,omitempty"`
}

// Observer watches a run. It cannot fail it, and it does not block for long.
// The engine calls it from one goroutine at a time.
type Observer interface {
	Observe(Event)
}

// ObserverFunc makes an Observer of a function.
type ObserverFunc func(Event)

// Observe calls f.
func (f ObserverFunc) Observe(e Event) { f(e) }

// Watch joins observers into one that calls each in turn, from one goroutine at
// a time. The engine and the lock share one so that events keep their order.
func Watch(list ...Observer) Observer {
	return &watch{list: list}
}

type watch struct {
	mu   sync.Mutex
	list []Observer
}

func (w *watch) Observe(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.list {
		o.Observe(e)
	}
}

// HostState is what a stage knows of a host, for the fleet's table.
type HostState struct {
	Host string
	// State is one or two words: "serving", "draining", "stopped", "quiet".
	State string
	// Release that the host runs, "v4.5.14"; empty leaves the last known.
	Release string
}

// Tell reports a host's state to the observers of the run that ctx belongs to.
// Outside a run it does nothing.
func Tell(ctx context.Context, s HostState) {
	if r := runningFrom(ctx); r != nil {
		r.emit(Event{Kind: HostSeen, Host: s.Host, State: s.State, Release: s.Release})
	}
}

// CountFailed reports that of users' requests some failed, to the observers of the run
// that ctx belongs to. Outside a run, and where none failed, it does nothing.
func CountFailed(ctx context.Context, requests, failed int) {
	if r := runningFrom(ctx); r != nil && failed > 0 {
		r.emit(Event{
			Kind: RequestsFailed, Requests: requests, Failed: failed,
			Text: fmt.Sprintf("%d of the last %d requests of users were answered with a 5xx", failed, requests),
		})
	}
}
