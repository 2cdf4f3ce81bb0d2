package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Gate is a condition that is waited for, and then held to.
type Gate struct {
	// Name says what must be true: "Puma on kirk answers with v4.5.15".
	Name string
	// Probe asks once. nil means true. An error made by Never ends the wait at
	// once, as do a NeedsPerson and a refusal.
	Probe func(context.Context) error
	// Every is the pause between probes; 0 for one second.
	Every time.Duration
	// Within is how long the first Streak may take; 0 for one minute.
	Within time.Duration
	// Each limits one probe; 0 for 15 seconds.
	Each time.Duration
	// Streak is how many probes in a row must pass; 0 for one.
	Streak int
	// Hold is how long it must stay true after that. A probe that fails meanwhile
	// fails the gate, however much of Within is left.
	Hold time.Duration
	// Forgive is how many failing probes in a row are let pass while holding.
	Forgive int
	// Safe: nothing is half-done while this gate is waited for, so that a person's
	// request to stop ends it with ErrStopped.
	Safe bool
	// Clock; nil for the machine's.
	Clock Clock
}

// GateError tells that a gate was not passed.
type GateError struct {
	// Gate is its name.
	Gate string
	// Waited is how long, Probes how often it was asked.
	Waited time.Duration
	Probes int
	// Held is how long it was true before it failed; 0 if it never was.
	Held time.Duration
	// Err is what the last probe said.
	Err error
}

func (e *GateError) Error() string {
	if e.Held > 0 {
		return fmt.Sprintf("%s: was true for %s and then no more: %v", e.Gate, round(e.Held), e.Err)
	}
	return fmt.Sprintf("%s: not within %s (%d probes): %v", e.Gate, round(e.Waited), e.Probes, e.Err)
}

func (e *GateError) Unwrap() error { return e.Err }

// Never marks a probe's error as one that waiting does not mend.
func Never(err error) error {
	if err == nil {
		return nil
	}
	return &never{err}
}

type never struct{ err error }

func (n *never) Error() string { return n.err.Error() }
func (n *never) Unwrap() error { return n.err }

// Await asks the gate's probe until it is passed and held. Within a run it sends
// StepWaiting events; otherwise it says the same in words.
func Await(ctx context.Context, g Gate, say Say) error {
	g = g.defaults()
	w := &wait{g: g, say: say, began: g.Clock.Now()}
	for {
		if err := w.safe(ctx); err != nil {
			return err
		}
		err := w.probe(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", g.Name, context.Cause(ctx))
		}
		passed, err := w.judge(err)
		if passed || err != nil {
			return err
		}
		w.report(ctx)
		if err := w.pause(ctx); err != nil {
			return err
		}
	}
}

// AwaitAll waits for several gates at once, which share a clock and a host's
// patience: all are waited for, and the errors of those that fail are joined.
func AwaitAll(ctx context.Context, gates []Gate, say Say) error {
	errs := make([]error, len(gates))
	ended := make(chan struct{})
	for i, g := range gates {
		go func() {
			errs[i] = Await(ctx, g, say)
			ended <- struct{}{}
		}()
	}
	for range gates {
		<-ended
	}
	return errors.Join(errs...)
}

func (g Gate) defaults() Gate {
	if g.Every <= 0 {
		g.Every = time.Second
	}
	if g.Within <= 0 {
		g.Within = time.Minute
	}
	if g.Each <= 0 {
		g.Each = 15 * time.Second
	}
	if g.Streak < 1 {
		g.Streak = 1
	}
	if g.Clock == nil {
		g.Clock = SystemClock{}
	}
	return g
}

// wait is one waiting for one gate.
type wait struct {
	g      Gate
	say    Say
	began  time.Time
	probes int
	streak int
	held   time.Time // since when it is true; zero while it is not
	missed int       // failing probes in a row while holding
	last   error
	told   telling
}

func (w *wait) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.g.Each)
	defer cancel()
	w.probes++
	err := w.g.Probe(ctx)
	if err == nil && ctx.Err() != nil {
		return fmt.Errorf("the probe took longer than %s", w.g.Each)
	}
	return err
}

// judge takes in one probe's answer.
func (w *wait) judge(err error) (passed bool, _ error) {
	now := w.g.Clock.Now()
	w.last = err
	var person *NeedsPerson
	var hopeless *never
	switch {
	case errors.As(err, &person), errors.Is(err, ErrRefused), errors.Is(err, ErrStopped):
		return false, fmt.Errorf("%s: %w", w.g.Name, err)
	case errors.As(err, &hopeless):
		return false, w.failed(now)
	case err == nil:
		w.streak, w.missed = w.streak+1, 0
		if w.streak >= w.g.Streak && w.held.IsZero() {
			w.held = now
		}
		return !w.held.IsZero() && now.Sub(w.held) >= w.g.Hold, nil
	case !w.held.IsZero():
		w.missed++
		if w.missed > w.g.Forgive {
			return false, w.failed(now)
		}
		return false, nil
	default:
		w.streak = 0
		if now.Sub(w.began) >= w.g.Within {
			return false, w.failed(now)
		}
		return false, nil
	}
}

func (w *wait) failed(now time.Time) error {
	e := &GateError{Gate: w.g.Name, Waited: now.Sub(w.began), Probes: w.probes, Err: w.last}
	if !w.held.IsZero() {
		e.Held = max(now.Sub(w.held), time.Millisecond)
	}
	return e
}

// report tells what is being waited for: when that changes, and every ten
// seconds. A gate that passes at once is not spoken of.
func (w *wait) report(ctx context.Context) {
	now := w.g.Clock.Now()
	e := Event{Kind: StepWaiting, Text: w.g.Name, Elapsed: now.Sub(w.began), Expect: w.g.Within}
	switch {
	case !w.held.IsZero():
		e.Text, e.Elapsed, e.Expect = w.g.Name+" (holding)", now.Sub(w.held), w.g.Hold
	}
	if w.last != nil {
		e.Err = w.last.Error()
	}
	words := e.Text + "\x00" + e.Err
	if !w.told.due(words, now) {
		return
	}
	if r := runningFrom(ctx); r != nil {
		r.emit(e)
		return
	}
	if w.say == nil {
		return
	}
	if e.Err != "" {
		w.say("waiting for %s, %s of %s: %s", e.Text, round(e.Elapsed), round(e.Expect), e.Err)
		return
	}
	w.say("waiting for %s, %s of %s", e.Text, round(e.Elapsed), round(e.Expect))
}

func (w *wait) safe(ctx context.Context) error {
	if !w.g.Safe {
		return nil
	}
	return Safe(ctx)
}

func (w *wait) pause(ctx context.Context) error {
	var stop <-chan struct{}
	if r := runningFrom(ctx); r != nil && w.g.Safe && !r.goingBack() {
		stop = r.o.Stop
	}
	d := w.g.Every
	if !w.held.IsZero() {
		d = min(d, max(w.g.Hold-w.g.Clock.Now().Sub(w.held), time.Millisecond))
	}
	t, free := w.g.Clock.After(d)
	defer free()
	select {
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", w.g.Name, context.Cause(ctx))
	case <-stop:
		return ErrStopped
	case <-t:
		return nil
	}
}

func round(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(time.Second)
}
