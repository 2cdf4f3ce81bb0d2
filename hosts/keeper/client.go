package keeper

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/node"
)

// Keeper is the operator's side: the lease and the shelf on the keeper's host. It
// has the shape of the engine's lock and of its shelf.
type Keeper struct {
	// Caller calls verbs on the keeper's host.
	Caller Caller
	// Name of the host, for errors.
	Name string
	// Me is the holder that this process is; see Me.
	Me Holder
	// Run is the ID of the run, for those who find the lease held.
	Run string
	// TTL is how long the lease lives without renewal; 0 for DefaultTTL.
	TTL time.Duration
	// Above gives the highest fence seen on a host, so that a keeper that lost its
	// files does not start with an epoch that hosts refuse; nil for none.
	Above func(context.Context) (int64, error)
	// Patience is how long a save or a load is tried again while the keeper does
	// not answer; 0 for TTL.
	Patience time.Duration
	// Pause between those tries; 0 for two seconds.
	Pause time.Duration
	// Say is told that the keeper does not answer; nil for nobody.
	Say func(text string)

	epoch atomic.Int64
}

// Evidence is what a person saw before taking the lease from its holder.
type Evidence struct {
	// Epoch of the lease that was shown.
	Epoch int64
	// Repair: the lease could not be read (ErrDamaged) and is to be replaced.
	Repair bool
}

// Epoch of the lease in hand; 0 when none is.
func (k *Keeper) Epoch() int64 { return k.epoch.Load() }

// Acquire takes the lease or says who holds it, with a *HeldError. A holder on
// this same machine whose process is no more is succeeded at once.
func (k *Keeper) Acquire(ctx context.Context, why string) (int64, time.Duration, error) {
	in := acquireIn{Holder: k.Me, Run: k.Run, Why: why, TTL: k.ttl()}
	if k.Above != nil {
		above, err := k.Above(ctx)
		if err != nil {
			return 0, 0, fmt.Errorf("cannot tell the highest epoch that hosts have seen: %w", err)
		}
		in.Above = above
	}
	a, err := k.ask(ctx, "lease.acquire", in, few)
	var held *HeldError
	if errors.As(err, &held) && held.Lease.Holder.dead(k.Me) {
		k.say("the holder of the lease, %s, is dead; succeeding it", held.Lease.Holder)
		in.Dead = held.Lease.Epoch
		a, err = k.ask(ctx, "lease.acquire", in, few)
	}
	if err != nil {
		return 0, 0, err
	}
	if a.Lease == nil {
		return 0, 0, fmt.Errorf("keeper %s: its answer holds no lease", k.Name)
	}
	k.epoch.Store(a.Lease.Epoch)
	return a.Lease.Epoch, a.Lease.TTL, nil
}

// Busy returns a *HeldError if somebody else holds the lease, so that Acquire would
// be refused now. Asked before a survey it spares the wait, and the wrong advice
// that a run at work looks like one left half way.
func (k *Keeper) Busy(ctx context.Context) error {
	a, err := k.ask(ctx, "lease.show", nil, once)
	if err != nil || a.Lease == nil {
		return err
	}
	l := *a.Lease
	if !l.Held || k.Succeeds(l) {
		return nil
	}
	return &HeldError{Keeper: k.Name, Lease: l}
}

// Renew makes the lease live on. It is tried once; the caller tries again.
func (k *Keeper) Renew(ctx context.Context, step string) (taken bool, err error) {
	a, err := k.ask(ctx, "lease.renew", renewIn{Epoch: k.Epoch(), Token: k.Me.Token, Step: step}, once)
	return a.Taken, err
}

// Release gives the lease back, if it is still this one.
func (k *Keeper) Release(ctx context.Context) error {
	_, err := k.ask(ctx, "lease.release", renewIn{Epoch: k.Epoch(), Token: k.Me.Token}, few)
	if err == nil {
		k.epoch.Store(0)
	}
	return err
}

// Show returns the lease as it stands. Its Now is the keeper's clock.
func (k *Keeper) Show(ctx context.Context) (Lease, error) {
	a, err := k.ask(ctx, "lease.show", nil, few)
	if err != nil || a.Lease == nil {
		return Lease{}, err
	}
	return *a.Lease, nil
}

// Succeeds tells whether Acquire would take the lease from its holder as it was
// shown: it lived on for its whole second life, or its holder is proven dead.
func (k *Keeper) Succeeds(l Lease) bool {
	return l.Held && (l.over() || l.Holder.dead(k.Me))
}

// Take frees the lease from its holder: the epoch rises, so that the old holder
// can neither save nor, once the next holder has raised the fences, change a host.
// It refuses with ErrStale when the lease is no longer the one that was shown.
func (k *Keeper) Take(ctx context.Context, seen Evidence) (Lease, error) {
	in := takeIn{Holder: k.Me, Epoch: seen.Epoch, Repair: seen.Repair}
	if k.Above != nil {
		above, err := k.Above(ctx)
		if err != nil {
			return Lease{}, fmt.Errorf("cannot tell the highest epoch that hosts have seen: %w", err)
		}
		in.Above = above
	}
	a, err := k.ask(ctx, "lease.take", in, few)
	if err != nil || a.Lease == nil {
		return Lease{}, err
	}
	return *a.Lease, nil
}

// Load returns the journal last saved under id.
func (k *Keeper) Load(ctx context.Context, id string) ([]byte, error) {
	a, err := k.ask(ctx, "shelf.load", map[string]string{"id": id}, few)
	return a.Bytes, err
}

// Save stores a journal. While the keeper does not answer it is tried again, for
// Patience or until ctx ends; a keeper that refuses ends it at once.
func (k *Keeper) Save(ctx context.Context, id string, epoch, seq int64, b []byte) error {
	_, err := k.ask(ctx, "shelf.save", saveIn{ID: id, Epoch: epoch, Token: k.Me.Token, Seq: seq, Bytes: b}, patient)
	return err
}

// Remove removes the journal of a run that is over. Only the holder of the lease can.
func (k *Keeper) Remove(ctx context.Context, id string) error {
	_, err := k.ask(ctx, "shelf.remove", removeIn{ID: id, Epoch: k.Epoch(), Token: k.Me.Token}, few)
	return err
}

// List returns the journals, the last saved first.
func (k *Keeper) List(ctx context.Context) ([]Entry, error) {
	a, err := k.ask(ctx, "shelf.list", nil, few)
	return a.Entries, err
}

// tries tells how often a call is made while the keeper does not answer.
type tries int

const (
	once    tries = 1
	few     tries = 3 // and none begins more than soon after the first
	patient tries = 0 // as long as Patience allows
)

// soon is how long a call that is made few times goes on beginning anew: a host
// that refuses at once may be rebooting its sshd, and one that let a connection
// time out has had its time. A person waits for the answer.
const soon = 8 * time.Second

// ask calls a verb. All verbs may be repeated after a lost answer.
func (k *Keeper) ask(ctx context.Context, verb string, in any, most tries) (answer, error) {
	began := time.Now()
	for n := tries(1); ; n++ {
		var a answer
		err := k.Caller.Call(ctx, verb, in, nil, &a, nil)
		if err == nil {
			return a, a.Refused.err(k.Name)
		}
		err = fmt.Errorf("keeper %s: %w", k.Name, err)
		if ctx.Err() != nil {
			return answer{}, errors.Join(context.Cause(ctx), err)
		}
		if !passing(err) || n == most || most == few && time.Since(began) >= soon {
			return answer{}, err
		}
		if most == patient && time.Since(began) >= k.patience() {
			return answer{}, fmt.Errorf("%w (tried for %s)", err, k.patience())
		}
		k.say("the keeper does not answer, trying again: %v", err)
		pause := time.NewTimer(k.pause())
		select {
		case <-ctx.Done():
			pause.Stop()
			return answer{}, errors.Join(context.Cause(ctx), err)
		case <-pause.C:
		}
	}
}

// passing tells whether to ask again: the way to the host failed, not the host.
func passing(err error) bool {
	var answered *node.Error
	return !errors.As(err, &answered) && !errors.Is(err, hosts.ErrAuth) && !errors.Is(err, hosts.ErrHostKey)
}

func (k *Keeper) ttl() time.Duration {
	if k.TTL <= 0 {
		return DefaultTTL
	}
	return k.TTL
}

func (k *Keeper) patience() time.Duration {
	if k.Patience <= 0 {
		return k.ttl()
	}
	return k.Patience
}

func (k *Keeper) pause() time.Duration {
	if k.Pause <= 0 {
		return 2 * time.Second
	}
	return k.Pause
}

func (k *Keeper) say(format string, args ...any) {
	if k.Say != nil {
		k.Say(fmt.Sprintf(format, args...))
	}
}
