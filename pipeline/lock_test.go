package pipeline

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// lease is a Lock whose answers a test gives.
type lease struct {
	mu       sync.Mutex
	ttl      time.Duration
	renew    func(ctx context.Context, n int) (bool, error)
	renewals int
	steps    []string
	released int
}

func (l *lease) Acquire(context.Context, string) (int64, time.Duration, error) {
	return 7, l.ttl, nil
}

func (l *lease) Renew(ctx context.Context, step string) (bool, error) {
	l.mu.Lock()
	l.renewals++
	n := l.renewals
	l.steps = append(l.steps, step)
	l.mu.Unlock()
	if l.renew == nil {
		return false, nil
	}
	return l.renew(ctx, n)
}

func (l *lease) Release(context.Context) error {
	l.released++
	return nil
}

// events keeps what was observed.
type events struct {
	mu   sync.Mutex
	list []Event
}

func (e *events) Observe(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, ev)
}

func (e *events) kinds() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var b strings.Builder
	for _, ev := range e.list {
		b.WriteString(string(ev.Kind) + " ")
	}
	return strings.TrimSpace(b.String())
}

func hold(t *testing.T, l *lease) (*Held, *events) {
	t.Helper()
	seen := &events{}
	h, err := Hold(t.Context(), l, "upgrade", HoldOptions{Watch: seen, Run: "run-1"})
	if err != nil {
		t.Fatal(err)
	}
	return h, seen
}

func TestALeaseIsRenewedEveryQuarterOfItsLifeWithTheStepAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lease{ttl: time.Minute}
		h, seen := hold(t, l)
		h.Step("roll web kirk")
		<-time.After(5 * time.Minute) // the bubble's time
		synctest.Wait()
		if l.renewals < 19 || l.renewals > 20 {
			t.Errorf("%d renewals in five minutes", l.renewals)
		}
		if l.steps[0] != "roll web kirk" {
			t.Errorf("the step told is %q", l.steps[0])
		}
		if h.Context.Err() != nil {
			t.Errorf("the held context ended: %v", context.Cause(h.Context))
		}
		if err := h.Release(t.Context()); err != nil || l.released != 1 {
			t.Errorf("released %d times, %v", l.released, err)
		}
		if h.Context.Err() == nil || errors.Is(context.Cause(h.Context), ErrLockLost) {
			t.Errorf("after the release the context says %v", context.Cause(h.Context))
		}
		if got := seen.kinds(); got != "lock-taken lock-released" {
			t.Errorf("events: %s", got)
		}
	})
}

func TestANewStepIsToldWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lease{ttl: time.Minute}
		h, _ := hold(t, l)
		for _, step := range []string{"place", "pre-migrate"} {
			h.Step(step)
			<-time.After(time.Second)
			synctest.Wait()
		}
		if got := strings.Join(l.steps, ", "); got != "place, pre-migrate" {
			t.Errorf("told of %q", got)
		}
		if err := h.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAHeldContextEndsWhenNoRenewalSucceedsInTheLeasesTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		l := &lease{ttl: time.Minute, renew: func(context.Context, int) (bool, error) {
			return false, errors.New("keeper uhura: unreachable")
		}}
		h, seen := hold(t, l)
		<-h.Context.Done()
		if took := time.Since(began); took != time.Minute {
			t.Errorf("it ended after %s", took)
		}
		cause := context.Cause(h.Context)
		if !errors.Is(cause, ErrLockLost) || !strings.Contains(cause.Error(), "uhura: unreachable") {
			t.Errorf("the cause: %v", cause)
		}
		synctest.Wait()
		if got := seen.kinds(); got != "lock-taken lock-late lock-late lock-late lock-lost" {
			t.Errorf("events: %s", got)
		}
		if err := h.Release(t.Context()); err != nil || l.released != 0 {
			t.Errorf("a lost lease was given back %d times, %v", l.released, err)
		}
	})
}

func TestAHeldContextEndsInTimeAlsoWhenARenewalHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		l := &lease{ttl: time.Minute, renew: func(ctx context.Context, _ int) (bool, error) {
			<-ctx.Done()
			return false, ctx.Err()
		}}
		h, _ := hold(t, l)
		<-h.Context.Done()
		if took := time.Since(began); took != time.Minute {
			t.Errorf("it ended after %s", took)
		}
		if err := h.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestALeaseThatSomebodyTookIsLostAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		l := &lease{ttl: time.Minute, renew: func(_ context.Context, n int) (bool, error) { return n == 2, nil }}
		h, _ := hold(t, l)
		<-h.Context.Done()
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("it ended after %s", took)
		}
		if !errors.Is(context.Cause(h.Context), ErrLockLost) {
			t.Errorf("the cause: %v", context.Cause(h.Context))
		}
	})
}

func TestARenewalThatSucceedsAfterFailuresKeepsTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lease{ttl: time.Minute, renew: func(_ context.Context, n int) (bool, error) {
			if n%3 != 0 {
				return false, errors.New("cut")
			}
			return false, nil
		}}
		h, seen := hold(t, l)
		<-time.After(10 * time.Minute) // the bubble's time
		synctest.Wait()
		if h.Context.Err() != nil {
			t.Errorf("lost: %v", context.Cause(h.Context))
		}
		if got := seen.kinds(); !strings.HasPrefix(got, "lock-taken lock-late lock-late lock-renewed lock-late") {
			t.Errorf("events: %s", got)
		}
		if err := h.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestRenewingGoesOnAfterTheOperatorAbortedSoThatUndoingIsLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lease{ttl: time.Minute}
		ctx, abort := context.WithCancel(t.Context())
		h, err := Hold(ctx, l, "upgrade", HoldOptions{})
		if err != nil {
			t.Fatal(err)
		}
		abort()
		<-time.After(5 * time.Minute) // the bubble's time
		synctest.Wait()
		if l.renewals < 19 {
			t.Errorf("%d renewals after the abort", l.renewals)
		}
		if lockLost(h.Context) != nil {
			t.Errorf("an abort counts as a lost lease: %v", lockLost(h.Context))
		}
		if err := h.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// sleeper is a machine that slept: its timers go on as if nothing was, its wall
// clock has jumped.
type sleeper struct {
	SystemClock
	mu   sync.Mutex
	jump time.Duration
}

func (s *sleeper) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Round(0).Add(s.jump)
}

func (s *sleeper) sleep(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jump += d
}

func TestALaptopThatSleptPastItsLeaseHasLostItWithinASecondOfWaking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &sleeper{}
		h, err := Hold(t.Context(), &lease{ttl: time.Minute}, "upgrade", HoldOptions{Clock: c})
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(20 * time.Second) // the bubble's time
		c.sleep(time.Hour)
		woke := time.Now()
		<-h.Context.Done()
		if took := time.Since(woke); took > time.Second {
			t.Errorf("it took %s", took)
		}
		if !errors.Is(context.Cause(h.Context), ErrLockLost) {
			t.Errorf("the cause: %v", context.Cause(h.Context))
		}
	})
}

func TestALeaseLostAfterAnAbortEndsTheUndoingToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lease{ttl: time.Minute, renew: func(context.Context, int) (bool, error) { return false, errors.New("cut") }}
		ctx, abort := context.WithCancel(t.Context())
		h, err := Hold(ctx, l, "upgrade", HoldOptions{})
		if err != nil {
			t.Fatal(err)
		}
		undo, free := untilLost(h.Context)
		defer free()
		abort()
		synctest.Wait()
		if undo.Err() != nil {
			t.Fatal("an abort ends the undoing of a step half way")
		}
		<-undo.Done()
		if !errors.Is(context.Cause(undo), ErrLockLost) {
			t.Errorf("the cause: %v", context.Cause(undo))
		}
	})
}
