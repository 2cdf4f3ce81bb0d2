package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/node"
)

// wire carries calls to verbs in this process, by way of JSON as the real one.
type wire struct {
	verbs []node.Verb
	// lose tells, for the number of a call, what the wire does to it.
	lose  func(n int) loss
	mu    sync.Mutex
	calls int
}

type loss int

const (
	carried loss = iota
	lostCall
	lostAnswer
)

func (w *wire) Call(ctx context.Context, verb string, in any, payload io.Reader, out any, say func(string)) error {
	w.mu.Lock()
	w.calls++
	l := carried
	if w.lose != nil {
		l = w.lose(w.calls)
	}
	w.mu.Unlock()
	if l == lostCall {
		return fmt.Errorf("uhura: %w", hosts.ErrUnreachable)
	}
	for _, v := range w.verbs {
		if v.Name != verb {
			continue
		}
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		res, err := v.Run(ctx, raw, payload, say)
		if err != nil {
			return &node.Error{Host: "uhura", Verb: verb, Code: node.CodeFailed, Text: err.Error()}
		}
		b, err := json.Marshal(res)
		if err != nil {
			return err
		}
		if l == lostAnswer {
			return fmt.Errorf("uhura: %w", hosts.ErrLost)
		}
		return json.Unmarshal(b, out)
	}
	return fmt.Errorf("no verb %s", verb)
}

// clock is the keeper's, set by hand.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time          { return c.now }
func (c *clock) forward(d time.Duration) { c.now = c.now.Add(d) }

func testStore(t *testing.T) (*store, *clock) {
	c := &clock{now: time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)}
	s := newStore(filepath.Join(t.TempDir(), "keeper"))
	s.now = c.Now
	return s, c
}

func person(s *store, name string) *Keeper {
	return &Keeper{
		Caller: &wire{verbs: verbs(s)}, Name: "uhura", Run: "run-" + name, TTL: time.Minute,
		Me: Holder{User: name, Host: name + "-laptop", PID: 4711, Token: name},
	}
}

func acquire(t *testing.T, k *Keeper) int64 {
	t.Helper()
	epoch, ttl, err := k.Acquire(t.Context(), "upgrade to v4.5.15")
	if err != nil {
		t.Fatal(err)
	}
	if ttl != time.Minute {
		t.Fatalf("the lease lives for %s", ttl)
	}
	return epoch
}

func TestTheSecondOperatorIsToldWhoHoldsTheLeaseAtWhichStepAndSinceWhen(t *testing.T) {
	s, c := testStore(t)
	ana, bob := person(s, "ana"), person(s, "bob")
	acquire(t, ana)
	if taken, err := ana.Renew(t.Context(), "roll web kirk"); taken || err != nil {
		t.Fatal(taken, err)
	}
	c.forward(12 * time.Second)
	_, _, err := bob.Acquire(t.Context(), "upgrade")
	var held *HeldError
	if !errors.As(err, &held) {
		t.Fatalf("want a HeldError, got %v", err)
	}
	for _, word := range []string{"uhura", "ana@ana-laptop", "upgrade to v4.5.15", "roll web kirk", "12s ago", "2026-11-22T18:00:00Z", "refit unlock"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q is missing in: %v", word, err)
		}
	}
	if bob.Epoch() != 0 {
		t.Errorf("who was refused has epoch %d", bob.Epoch())
	}
}

func TestEveryAcquiringRaisesTheEpoch(t *testing.T) {
	s, _ := testStore(t)
	ana, bob := person(s, "ana"), person(s, "bob")
	var last int64
	for _, k := range []*Keeper{ana, bob, ana} {
		epoch := acquire(t, k)
		if epoch <= last {
			t.Errorf("epoch %d after %d", epoch, last)
		}
		last = epoch
		if err := k.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnEpochIsAboveEveryFenceThatHostsHaveSeen(t *testing.T) {
	s, _ := testStore(t)
	ana := person(s, "ana")
	ana.Above = func(context.Context) (int64, error) { return 41, nil }
	if epoch := acquire(t, ana); epoch != 42 {
		t.Errorf("epoch %d, want 42", epoch)
	}
}

func TestADeletedLeaseDoesNotMakeTheEpochFall(t *testing.T) {
	s, _ := testStore(t)
	ana := person(s, "ana")
	for range 3 {
		acquire(t, ana)
	}
	if err := ana.Save(t.Context(), "run-1", 3, 1, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.leaseFile()); err != nil {
		t.Fatal(err)
	}
	if epoch := acquire(t, person(s, "bob")); epoch != 4 {
		t.Errorf("epoch %d, want 4", epoch)
	}
}

func TestAnEpochGivenTwiceIsNobodyElses(t *testing.T) {
	s, _ := testStore(t)
	ana, bob := person(s, "ana"), person(s, "bob")
	epoch := acquire(t, ana)
	bob.epoch.Store(epoch) // from a keeper that was put back to an older file
	for what, err := range map[string]error{
		"save":   bob.Save(t.Context(), "run-1", epoch, 1, []byte("x")),
		"remove": bob.Remove(t.Context(), "run-1"),
	} {
		if !errors.Is(err, ErrStale) {
			t.Errorf("%s: %v, want ErrStale", what, err)
		}
	}
	if taken, err := bob.Renew(t.Context(), ""); !taken || err != nil {
		t.Errorf("renew: taken %v, %v", taken, err)
	}
	if err := bob.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if taken, err := ana.Renew(t.Context(), ""); taken || err != nil {
		t.Errorf("the holder lost it: %v, %v", taken, err)
	}
}

func TestBusyTellsOfAHolderWhoWorksAndOfNoOther(t *testing.T) {
	s, c := testStore(t)
	ana, bob := person(s, "ana"), person(s, "bob")
	if err := bob.Busy(t.Context()); err != nil {
		t.Errorf("the lease is free: %v", err)
	}
	acquire(t, ana)
	var held *HeldError
	if err := bob.Busy(t.Context()); !errors.As(err, &held) || held.Keeper != "uhura" || held.Lease.Holder.User != "ana" {
		t.Errorf("held: %v", err)
	}
	c.forward(2*time.Minute + time.Second)
	if err := bob.Busy(t.Context()); err != nil {
		t.Errorf("after twice its life: %v", err)
	}
}

func TestAnExpiredLeaseIsTakenOnlyAfterTwiceItsLife(t *testing.T) {
	s, c := testStore(t)
	ana, bob := person(s, "ana"), person(s, "bob")
	acquire(t, ana)
	c.forward(90 * time.Second)
	_, _, err := bob.Acquire(t.Context(), "upgrade")
	var held *HeldError
	if !errors.As(err, &held) || !held.Lease.Expired() {
		t.Fatalf("want an expired lease that is held, got %v", err)
	}
	c.forward(31 * time.Second)
	acquire(t, bob)
	if taken, err := ana.Renew(t.Context(), ""); err != nil || !taken {
		t.Errorf("the old holder's renewal: taken %v, %v", taken, err)
	}
}

func TestALateHolderWhoseLeaseNobodyTookKeepsIt(t *testing.T) {
	s, c := testStore(t)
	ana := person(s, "ana")
	acquire(t, ana)
	c.forward(time.Hour)
	if taken, err := ana.Renew(t.Context(), ""); taken || err != nil {
		t.Errorf("taken %v, %v", taken, err)
	}
}

func TestUnlockFreesTheLeaseThatWasShownAndNoOther(t *testing.T) {
	s, _ := testStore(t)
	ana, bob, eve := person(s, "ana"), person(s, "bob"), person(s, "eve")
	acquire(t, ana)
	shown, err := bob.Show(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := ana.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	acquire(t, eve)
	if _, err := bob.Take(t.Context(), Evidence{Epoch: shown.Epoch}); !errors.Is(err, ErrStale) {
		t.Fatalf("taking on old evidence: %v", err)
	}
	l, err := bob.Take(t.Context(), Evidence{Epoch: eve.Epoch()})
	if err != nil {
		t.Fatal(err)
	}
	if l.Held || l.Epoch <= eve.Epoch() || l.Freed == nil || l.Freed.From.User != "eve" || l.Freed.By.User != "bob" {
		t.Errorf("after unlock: %+v", l)
	}
	if taken, err := eve.Renew(t.Context(), ""); !taken || err != nil {
		t.Errorf("the holder that was freed: taken %v, %v", taken, err)
	}
	if err := eve.Save(t.Context(), "run-1", eve.Epoch(), 1, []byte("{}")); !errors.Is(err, ErrStale) {
		t.Errorf("the holder that was freed saves: %v", err)
	}
	acquire(t, bob)
}

func TestALostAnswerIsAskedForAgain(t *testing.T) {
	s, _ := testStore(t)
	synctest.Test(t, func(t *testing.T) {
		odd := func(n int) loss {
			if n%2 == 1 {
				return lostAnswer
			}
			return carried
		}
		ana := person(s, "ana")
		ana.Caller = &wire{verbs: verbs(s), lose: odd}
		epoch := acquire(t, ana)
		if err := ana.Save(t.Context(), "run-1", epoch, 1, []byte("{}")); err != nil {
			t.Errorf("save: %v", err)
		}
		bob := person(s, "bob")
		bob.Caller = &wire{verbs: verbs(s), lose: odd}
		l, err := bob.Take(t.Context(), Evidence{Epoch: epoch})
		if err != nil || l.Held || l.Epoch != epoch+1 {
			t.Errorf("take: %+v, %v", l, err)
		}
	})
}

func TestASaveWaitsForAKeeperThatReboots(t *testing.T) {
	s, _ := testStore(t)
	synctest.Test(t, func(t *testing.T) {
		ana := person(s, "ana")
		var said []string
		ana.Say = func(text string) { said = append(said, text) }
		epoch := acquire(t, ana)
		began := time.Now()
		ana.Caller = &wire{verbs: verbs(s), lose: func(int) loss {
			if time.Since(began) < 40*time.Second {
				return lostCall
			}
			return carried
		}}
		if err := ana.Save(t.Context(), "run-1", epoch, 1, []byte("{}")); err != nil {
			t.Errorf("save: %v", err)
		}
		if len(said) == 0 || !strings.Contains(said[0], "does not answer") {
			t.Errorf("said %q", said)
		}
	})
}

func TestASaveEndsWithTheLeaseWhenTheKeeperIsGone(t *testing.T) {
	s, _ := testStore(t)
	synctest.Test(t, func(t *testing.T) {
		ana := person(s, "ana")
		epoch := acquire(t, ana)
		ana.Caller = &wire{verbs: verbs(s), lose: func(int) loss { return lostCall }}
		lost := errors.New("the lease is lost")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(30*time.Second, func() { cancel(lost) })
		began := time.Now()
		if err := ana.Save(ctx, "run-1", epoch, 1, []byte("{}")); !errors.Is(err, lost) || !errors.Is(err, hosts.ErrUnreachable) {
			t.Errorf("the save's error: %v", err)
		}
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("it took %s", took)
		}
		began = time.Now()
		if err := ana.Save(t.Context(), "run-1", epoch, 1, []byte("{}")); !errors.Is(err, hosts.ErrUnreachable) {
			t.Errorf("the save's error: %v", err)
		}
		if took := time.Since(began); took < time.Minute || took > 65*time.Second {
			t.Errorf("it was tried for %s", took)
		}
	})
}

func TestARefusalIsNotAskedForAgain(t *testing.T) {
	s, _ := testStore(t)
	ana := person(s, "ana")
	acquire(t, ana)
	w := &wire{verbs: verbs(s)}
	ana.Caller = w
	if err := ana.Save(t.Context(), "../lease", 1, 1, nil); err == nil || !strings.Contains(err.Error(), "cannot be the name of a run") {
		t.Errorf("a bad name: %v", err)
	}
	if err := ana.Save(t.Context(), "run-1", 77, 1, nil); !errors.Is(err, ErrStale) {
		t.Errorf("a wrong epoch: %v", err)
	}
	if w.calls != 2 {
		t.Errorf("%d calls for 2 refusals", w.calls)
	}
}

func TestADamagedLeaseIsNotTakenForFreeAndUnlockRepairsIt(t *testing.T) {
	s, _ := testStore(t)
	ana, bob := person(s, "ana"), person(s, "bob")
	epoch := acquire(t, ana)
	if err := ana.Save(t.Context(), "run-1", epoch, 1, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(s.leaseFile())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.leaseFile(), b[:len(b)-3], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := bob.Acquire(t.Context(), ""); !errors.Is(err, ErrDamaged) {
		t.Errorf("acquiring: %v", err)
	}
	if _, err := bob.Show(t.Context()); !errors.Is(err, ErrDamaged) {
		t.Errorf("showing: %v", err)
	}
	if _, err := ana.Renew(t.Context(), ""); !errors.Is(err, ErrDamaged) {
		t.Errorf("renewing: %v", err)
	}
	if _, err := bob.Take(t.Context(), Evidence{}); !errors.Is(err, ErrDamaged) {
		t.Errorf("taking without the word: %v", err)
	}
	bob.Above = func(context.Context) (int64, error) { return 9, nil }
	l, err := bob.Take(t.Context(), Evidence{Repair: true})
	if err != nil || l.Held || l.Epoch != 10 {
		t.Fatalf("after the repair: %+v, %v", l, err)
	}
	aside, err := filepath.Glob(s.leaseFile() + ".damaged-*")
	if err != nil || len(aside) != 1 {
		t.Errorf("what was damaged is not kept: %v %v", aside, err)
	}
}

func TestNothingIsMissingBeforeTheFirstRun(t *testing.T) {
	s, _ := testStore(t)
	ana := person(s, "ana")
	if _, err := ana.Load(t.Context(), "run-1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a journal that is not there: %v", err)
	}
	if l, err := ana.Show(t.Context()); err != nil || l.Held || l.Epoch != 0 {
		t.Errorf("the lease: %+v, %v", l, err)
	}
	if list, err := ana.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("the list: %v, %v", list, err)
	}
	if err := ana.Release(t.Context()); err != nil {
		t.Errorf("releasing what is not held: %v", err)
	}
}
