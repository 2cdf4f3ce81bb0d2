package pipeline

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Options are the choices of Execute and Unwind.
type Options struct {
	// Stop is closed when a person asks, once, to stop: the run ends between two
	// steps, or in a step where it calls Safe. A run that goes back does not stop.
	Stop <-chan struct{}
	// Watch is told of every event; nil for nobody.
	Watch Observer
	// Ground is looked at when a step fails; nil to let every failure stand.
	Ground Ground
	// Patience is how long the ground is waited for; 0 for ten minutes.
	Patience time.Duration
	// Grace is how long the last save may take after the context has ended; 0 for
	// ten seconds.
	Grace time.Duration
	// Clock; nil for the machine's.
	Clock Clock
}

func (o Options) defaults() Options {
	if o.Watch == nil {
		o.Watch = Watch()
	}
	if o.Grace <= 0 {
		o.Grace = 10 * time.Second
	}
	if o.Patience <= 0 {
		o.Patience = 10 * time.Minute
	}
	if o.Clock == nil {
		o.Clock = SystemClock{}
	}
	return o
}

// Safe is called by a stage where it may end without leaving anything half-done.
// It returns ErrStopped if a person asked to stop, the context's cause if the
// context has ended, else nil. A run on its way back is not stopped.
func Safe(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r := runningFrom(ctx)
	if r == nil || r.goingBack() {
		return nil
	}
	select {
	case <-r.o.Stop:
		return ErrStopped
	default:
		return nil
	}
}

// Remember journals the facts as they are now, in the middle of a step, so that
// a resume finds them. A stage returns its error: it ends the run. Outside a run
// it does nothing.
func Remember(ctx context.Context) error {
	r := runningFrom(ctx)
	if r == nil {
		return nil
	}
	return r.save(ctx)
}

type runningKey struct{}

// running is one process's work on one run.
type running struct {
	p     Plan
	j     *Journal
	o     Options
	held  *Held
	began time.Time
	// footing is the ground as it was when the run began, or when a step was last
	// run again; gone is what was waited for in vain since.
	footing Footing
	gone    []string
	abort   <-chan struct{} // closed when the run's own context ends

	mu     sync.Mutex // guards the journal, broken, at and since
	broken error      // the first error of the journal; nothing is begun after it
	at     int        // index of the step at work, -1 between steps
	since  time.Time
	back   atomic.Bool
	watch  sync.Mutex
}

func runningFrom(ctx context.Context) *running {
	r, ok := ctx.Value(runningKey{}).(*running)
	if !ok {
		return nil
	}
	return r
}

func (r *running) goingBack() bool { return r.back.Load() }

// save journals the facts and marks as they are.
func (r *running) save(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken != nil {
		return r.broken
	}
	if err := r.j.save(ctx, r.p.Facts); err != nil {
		r.broken = err
		if r.held != nil {
			r.held.confirm(ctx)
		}
		return err
	}
	return nil
}

func (r *running) journalErr() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.broken
}

// foot takes the look at the ground that a later failure is compared with.
func (r *running) foot(ctx context.Context) {
	r.abort = ctx.Done()
	if r.o.Ground != nil {
		r.stand(r.o.Ground.Look(ctx))
	}
}

// mark changes a step's mark and journals it.
func (r *running) mark(ctx context.Context, i int, change func(*Mark)) error {
	name := r.j.Steps[i].Name
	r.mu.Lock()
	m := r.j.Marks[name]
	change(&m)
	r.j.Marks[name] = m
	r.mu.Unlock()
	return r.save(ctx)
}

// now is the time for the journal: without a monotonic reading, in UTC, to the
// millisecond.
func (r *running) now() time.Time {
	return r.o.Clock.Now().UTC().Round(0).Truncate(time.Millisecond)
}

// enter begins the work on a step, for the events sent from within it and for
// the lease's notes.
func (r *running) enter(i int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at, r.since = i, r.o.Clock.Now()
	if r.held != nil {
		r.held.Step(r.j.Steps[i].Name)
	}
}

func (r *running) say(format string, args ...any) {
	r.emit(Event{Kind: StepSaid, Text: fmt.Sprintf(format, args...)})
}

// emit completes an event by the step at work and sends it.
func (r *running) emit(e Event) {
	r.mu.Lock()
	e.Time, e.Run, e.Total = r.o.Clock.Now(), r.j.ID, len(r.p.Steps)
	if r.at >= 0 && e.Step == "" && e.Kind != RunStarted && e.Kind != RunEnded && e.Kind != StopAsked {
		s := r.p.Steps[r.at]
		e.Step, e.Index = s.Name(), r.at+1
		if e.Host == "" {
			e.Host = s.Host
		}
		if e.Kind != StepWaiting {
			e.Elapsed, e.Expect = e.Time.Sub(r.since), s.Expect
		}
	}
	r.mu.Unlock()
	r.watch.Lock()
	defer r.watch.Unlock()
	r.o.Watch.Observe(e)
}
