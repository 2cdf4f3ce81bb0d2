package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"
)

// store is the keeper's side: the lease and the shelf in one folder. Each method
// holds the folder's lock, so that verbs of two operators take turns.
type store struct {
	dir  string
	fs   FS
	now  func() time.Time
	lock func(ctx context.Context, path string) (func() error, error)
}

func newStore(dir string) *store {
	return &store{dir: dir, fs: Disk{}, now: time.Now, lock: exclusive(lockLimit)}
}

type acquireIn struct {
	Holder Holder        `json:"holder"`
	Run    string        `json:"run"`
	Why    string        `json:"why"`
	TTL    time.Duration `json:"ttl_ns"`
	// Above: the new epoch must be above it: the highest fence seen on a host.
	Above int64 `json:"above"`
	// Dead is the epoch of a holder that the caller knows to be dead; 0 for none.
	Dead int64 `json:"dead"`
}

type renewIn struct {
	Epoch int64  `json:"epoch"`
	Token string `json:"token"`
	Step  string `json:"step"`
}

type takeIn struct {
	Holder Holder `json:"holder"`
	// Epoch that the person saw in the evidence.
	Epoch int64 `json:"epoch"`
	// Above as in acquireIn.
	Above int64 `json:"above"`
	// Repair: the lease's file is damaged and is to be replaced.
	Repair bool `json:"repair"`
}

type saveIn struct {
	ID    string `json:"id"`
	Epoch int64  `json:"epoch"`
	Token string `json:"token"`
	Seq   int64  `json:"seq"`
	Bytes []byte `json:"bytes"`
}

type removeIn struct {
	ID    string `json:"id"`
	Epoch int64  `json:"epoch"`
	Token string `json:"token"`
}

func (s *store) shelf() *Dir {
	return &Dir{Path: filepath.Join(s.dir, "journal"), FS: s.fs, Now: s.now}
}

// locked runs f under the folder's lock.
func (s *store) locked(ctx context.Context, f func() error) error {
	if err := s.fs.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("cannot make %s: %w", s.dir, typed(err))
	}
	unlock, err := s.lock(ctx, filepath.Join(s.dir, "lease.lock"))
	if err != nil {
		return err
	}
	return errors.Join(f(), unlock())
}

func (s *store) leaseFile() string { return filepath.Join(s.dir, "lease.json") }

// lease reads the lease; a zero one if there never was any. Then the epoch is at
// least that of the newest journal, in case the file was deleted by hand.
func (s *store) lease(ctx context.Context) (Lease, error) {
	now := s.now().UTC()
	_, b, err := read(s.fs, s.leaseFile())
	if errors.Is(err, fs.ErrNotExist) {
		l := Lease{Now: now}
		journals, err := s.shelf().List(ctx)
		for _, e := range journals {
			l.Epoch = max(l.Epoch, e.Epoch)
		}
		return l, err
	}
	if err != nil {
		return Lease{}, err
	}
	var l Lease
	if err := json.Unmarshal(b, &l); err != nil {
		return Lease{}, fmt.Errorf("%s is %w: %w", s.leaseFile(), ErrDamaged, err)
	}
	l.Now = now
	return l, nil
}

func (s *store) put(l Lease) error {
	l.Now = time.Time{}
	b, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("cannot write the lease: %w", err)
	}
	return write(s.fs, s.leaseFile(), head{ID: "lease", Epoch: l.Epoch, Saved: s.now().UTC()}, append(b, '\n'))
}

func (s *store) acquire(ctx context.Context, in acquireIn) (l Lease, err error) {
	err = s.locked(ctx, func() error {
		old, err := s.lease(ctx)
		if err != nil {
			return err
		}
		// A second call of the same process: the answer to the first was lost.
		again := old.Held && old.Holder.Token == in.Holder.Token
		dead := in.Dead != 0 && in.Dead == old.Epoch
		if old.Held && !again && !dead && !old.over() {
			return &HeldError{Lease: old}
		}
		l = Lease{
			Epoch: max(old.Epoch, in.Above) + 1, Held: true, Holder: in.Holder, Run: in.Run, Why: in.Why,
			Acquired: old.Now, Beat: old.Now, TTL: in.TTL, Now: old.Now, Freed: old.Freed,
		}
		return s.put(l)
	})
	return l, err
}

// renew tells whether the lease was taken by somebody else.
func (s *store) renew(ctx context.Context, in renewIn) (taken bool, err error) {
	err = s.locked(ctx, func() error {
		l, err := s.lease(ctx)
		if err != nil {
			return err
		}
		if !l.heldBy(in.Epoch, in.Token) {
			taken = true
			return nil
		}
		l.Beat, l.Step = l.Now, in.Step
		return s.put(l)
	})
	return taken, err
}

func (s *store) release(ctx context.Context, in renewIn) error {
	return s.locked(ctx, func() error {
		l, err := s.lease(ctx)
		if err != nil || !l.heldBy(in.Epoch, in.Token) {
			return err
		}
		l.Held = false
		return s.put(l)
	})
}

// take frees the lease from its holder and raises the epoch, if it is still the
// one that the person was shown.
func (s *store) take(ctx context.Context, in takeIn) (l Lease, err error) {
	err = s.locked(ctx, func() error {
		old, err := s.lease(ctx)
		if in.Repair && errors.Is(err, ErrDamaged) {
			old, err = s.ruin(ctx)
		}
		if err != nil {
			return err
		}
		l = old
		if f := old.Freed; f != nil && f.By.Token == in.Holder.Token && f.Epoch == in.Epoch && !old.Held {
			return nil // the answer to the first call was lost
		}
		if old.Epoch != in.Epoch && !in.Repair {
			return fmt.Errorf("what was shown is %w: the lease has epoch %d now, not %d; look again", ErrStale, old.Epoch, in.Epoch)
		}
		if !old.Held && !in.Repair {
			return nil
		}
		l.Epoch, l.Held = max(old.Epoch, in.Above)+1, false
		l.Freed = &Freed{By: in.Holder, From: old.Holder, At: old.Now, Epoch: in.Epoch}
		return s.put(l)
	})
	return l, err
}

// ruin sets a damaged lease aside and gives the epoch that can still be known.
func (s *store) ruin(ctx context.Context) (Lease, error) {
	aside := fmt.Sprintf("%s.damaged-%d", s.leaseFile(), s.now().Unix())
	if err := s.fs.Rename(s.leaseFile(), aside); err != nil {
		return Lease{}, fmt.Errorf("cannot set the damaged lease aside: %w", typed(err))
	}
	return s.lease(ctx)
}

// save stores a journal for the holder of the lease and nobody else.
func (s *store) save(ctx context.Context, in saveIn) error {
	return s.locked(ctx, func() error {
		l, err := s.lease(ctx)
		if err != nil {
			return err
		}
		if !l.heldBy(in.Epoch, in.Token) {
			return fmt.Errorf("the save under epoch %d is %w: the lease has epoch %d%s", in.Epoch, ErrStale, l.Epoch, heldBy(l))
		}
		return s.shelf().Save(ctx, in.ID, in.Epoch, in.Seq, in.Bytes)
	})
}

// remove removes an old journal for the holder of the lease and nobody else.
func (s *store) remove(ctx context.Context, in removeIn) error {
	return s.locked(ctx, func() error {
		l, err := s.lease(ctx)
		if err != nil {
			return err
		}
		if !l.heldBy(in.Epoch, in.Token) {
			return fmt.Errorf("the removal under epoch %d is %w: the lease has epoch %d%s", in.Epoch, ErrStale, l.Epoch, heldBy(l))
		}
		return s.shelf().Remove(ctx, in.ID)
	})
}

func heldBy(l Lease) string {
	if !l.Held {
		return " and is held by nobody"
	}
	return ", held by " + l.Holder.String()
}
