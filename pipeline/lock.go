package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrLockLost is the cause of a held context that ended because the lease could
// not be renewed in its time or was taken by somebody else.
var ErrLockLost = errors.New("the lease is lost")

// Lock is a lease kept elsewhere. It speaks plain types, so that the keeper need
// not import this package.
type Lock interface {
	// Acquire takes the lease or says who holds it. It returns the epoch, which is
	// above every earlier one, and how long the lease lives without renewal.
	Acquire(ctx context.Context, why string) (epoch int64, ttl time.Duration, err error)
	// Renew makes it live for another ttl and notes the step at work. taken tells
	// that the lease has another epoch: it is lost, whatever the clock says.
	Renew(ctx context.Context, step string) (taken bool, err error)
	// Release gives it back. Releasing a lease that is no longer held is no error.
	Release(ctx context.Context) error
}

// HoldOptions are the choices of Hold.
type HoldOptions struct {
	// Watch is told of the lock's events; nil for nobody.
	Watch Observer
	// Run is the ID put into the events.
	Run string
	// Clock; nil for the machine's.
	Clock Clock
}

// Held is a lease in hand.
type Held struct {
	// Context ends when the lease is lost, with a cause that is ErrLockLost, or
	// when the context given to Hold ends.
	Context context.Context
	// Epoch of the lease.
	Epoch int64
	// TTL is how long the lease lives without renewal.
	TTL time.Duration

	lock Lock
	o    HoldOptions

	mu     sync.Mutex
	step   string
	lost   chan struct{}
	losing sync.Once
	err    error
	cancel context.CancelCauseFunc
	quit   context.CancelFunc
	ended  chan struct{}
}

// Hold acquires the lease and renews it every quarter of its life until Release.
// Renewing goes on after ctx is cancelled, because what was begun may still be
// undone then.
//
// The lease counts as lost when its life has passed since the last renewal that
// succeeded *began*, by the monotonic clock or by the wall clock, whichever went
// further: a laptop that slept comes back with the monotonic clock standing.
func Hold(ctx context.Context, lock Lock, why string, o HoldOptions) (*Held, error) {
	if o.Clock == nil {
		o.Clock = SystemClock{}
	}
	if o.Watch == nil {
		o.Watch = Watch()
	}
	began := o.Clock.Now()
	epoch, ttl, err := lock.Acquire(ctx, why)
	if err != nil {
		return nil, err
	}
	if ttl <= 0 {
		return nil, errors.Join(fmt.Errorf("cannot hold the lease: its life is %s", ttl), lock.Release(ctx))
	}
	h := &Held{Epoch: epoch, TTL: ttl, lock: lock, o: o, lost: make(chan struct{}), ended: make(chan struct{})}
	held, cancel := context.WithCancelCause(context.WithValue(ctx, heldKey{}, h))
	h.Context, h.cancel = held, cancel
	renewing, quit := context.WithCancel(context.WithoutCancel(ctx))
	h.quit = quit
	h.tell(Event{Kind: LockTaken, Text: fmt.Sprintf("lease taken, epoch %d, %s", epoch, why)})
	go h.keep(renewing, began)
	return h, nil
}

// Step notes the step at work; a renewal within about a second carries it, so that
// whoever meets the lease is told where its holder is.
func (h *Held) Step(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.step = name
}

// Lost is closed when the lease is lost.
func (h *Held) Lost() <-chan struct{} { return h.lost }

// Release ends the renewals and gives the lease back, unless it is lost.
func (h *Held) Release(ctx context.Context) error {
	h.quit()
	<-h.ended
	defer h.cancel(context.Canceled)
	select {
	case <-h.lost:
		return nil
	default:
	}
	if err := h.lock.Release(ctx); err != nil {
		return fmt.Errorf("cannot give the lease back: %w", err)
	}
	h.tell(Event{Kind: LockReleased, Text: "lease given back"})
	return nil
}

// keep renews until quit or lost. began is when the last renewal that succeeded
// was sent. The clock is looked at also while a renewal waits for its answer.
func (h *Held) keep(ctx context.Context, began time.Time) {
	defer close(h.ended)
	type answer struct {
		sent  time.Time
		taken bool
		err   error
	}
	answers := make(chan answer, 1)
	every := h.TTL / 4
	sent, asking, told := began, false, ""
	var late error
	for {
		tick, stop := h.o.Clock.After(min(every, time.Second))
		select {
		case <-ctx.Done():
			stop()
			if asking {
				<-answers
			}
			return
		case a := <-answers:
			asking = false
			switch {
			case a.taken:
				h.lose(fmt.Errorf("%w: somebody else took it", ErrLockLost), a.err)
				stop()
				return
			case a.err != nil:
				late = a.err
				h.tell(Event{Kind: LockLate, Text: "the lease could not be renewed, trying again", Err: late.Error()})
			default:
				if late != nil {
					h.tell(Event{Kind: LockRenewed, Text: "the lease is renewed again"})
				}
				began, late = a.sent, nil
			}
		case <-tick:
		}
		stop()
		now := h.o.Clock.Now()
		if gone := elapsed(began, now); gone >= h.TTL {
			h.lose(fmt.Errorf("%w: not renewed for %s, it lives for %s", ErrLockLost, gone.Round(time.Millisecond), h.TTL), late)
			return
		}
		if step := h.at(); !asking && (step != told || elapsed(sent, now) >= every) {
			sent, asking, told = now, true, step
			go func() {
				taken, err := h.renew(ctx, h.TTL-elapsed(began, now))
				answers <- answer{now, taken, err}
			}()
		}
	}
}

// renew asks once, and no longer than the lease lives.
func (h *Held) renew(ctx context.Context, left time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	return h.lock.Renew(ctx, h.at())
}

// at is the step at work.
func (h *Held) at() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.step
}

// confirmLimit is how long confirm waits for the lease's keeper.
const confirmLimit = 10 * time.Second

// confirm asks at once whether the lease is still this one's. Whoever took it makes
// hosts refuse what is asked of them and the shelf refuse the journal, and both may
// be met before the next renewal. A keeper that does not answer proves nothing.
func (h *Held) confirm(ctx context.Context) {
	select {
	case <-h.lost:
		return
	default:
	}
	if taken, err := h.renew(context.WithoutCancel(ctx), confirmLimit); taken {
		h.lose(fmt.Errorf("%w: somebody else took it", ErrLockLost), err)
	}
}

func (h *Held) lose(err, last error) {
	h.losing.Do(func() {
		if last != nil {
			err = fmt.Errorf("%w: %w", err, last)
		}
		h.err = err
		close(h.lost)
		h.cancel(err)
		h.tell(Event{Kind: LockLost, Text: "the lease is lost, stopping where it stands", Err: err.Error()})
	})
}

func (h *Held) tell(e Event) {
	e.Time, e.Run = h.o.Clock.Now(), h.o.Run
	h.o.Watch.Observe(e)
}

type heldKey struct{}

// heldFrom returns the lease that ctx was made under, nil if there is none.
func heldFrom(ctx context.Context) *Held {
	h, ok := ctx.Value(heldKey{}).(*Held)
	if !ok {
		return nil
	}
	return h
}

// lockLost tells whether ctx ended, or its lease did, because the lease is lost,
// and why.
func lockLost(ctx context.Context) error {
	if h := heldFrom(ctx); h != nil {
		select {
		case <-h.lost:
			return h.err
		default:
		}
	}
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), ErrLockLost) {
		return context.Cause(ctx)
	}
	return nil
}

// elapsed is the time from a to b by the clock that went further.
func elapsed(a, b time.Time) time.Duration {
	return max(b.Sub(a), b.Round(0).Sub(a.Round(0)))
}
