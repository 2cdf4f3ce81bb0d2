package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

// lockLimit is how long a verb waits for another that has the folder's lock. One
// that is well has it for milliseconds.
const lockLimit = 10 * time.Second

// lockPoll is how often the lock is tried: flock(2) cannot wait with a limit.
const lockPoll = 10 * time.Millisecond

// exclusive gives a function that takes the flock on a file and returns what gives
// it back. The kernel gives it back too when the process dies. One that is frozen
// would keep everybody from the lease for ever: after the limit it is killed, which
// harms nothing, since files are written under another name and renamed.
func exclusive(limit time.Duration) func(context.Context, string) (func() error, error) {
	return func(ctx context.Context, path string) (func() error, error) {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("cannot lock %s: %w", path, typed(err))
		}
		err = tryLock(ctx, f, limit)
		if errors.Is(err, errLocked) {
			if err = endFrozen(path); err == nil {
				// On a busy host the kernel comes to ending a process only when it can.
				err = tryLock(ctx, f, max(limit, lockLimit))
			}
		}
		if err == nil {
			err = note(f)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("cannot lock %s: %w", path, err), f.Close())
		}
		return func() error { return errors.Join(f.Truncate(0), f.Close()) }, nil
	}
}

var errLocked = errors.New("another process has it")

func tryLock(ctx context.Context, f *os.File, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errLocked)
	defer cancel()
	t := time.NewTicker(lockPoll)
	defer t.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil || !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
		}
	}
}

// note writes into the lock's file which process has it: its number and its start,
// since a number alone is soon another's. A full disk keeps nobody from the lock.
func note(f *os.File) error {
	start, _, _ := stat(os.Getpid())
	err := f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintf(f, "%d %s", os.Getpid(), start)
	}
	if errors.Is(typed(err), ErrNoSpace) {
		return nil
	}
	return err
}

// endFrozen kills the process that has the lock if it is frozen, and says which it
// is otherwise.
func endFrozen(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var pid int
	var start string
	if _, err := fmt.Sscanf(string(b), "%d %s", &pid, &start); err != nil {
		return fmt.Errorf("%w and has not said which it is", errLocked)
	}
	now, state, err := stat(pid)
	switch {
	case err != nil || now != start:
		return nil // gone meanwhile
	case !strings.Contains("Tt", state):
		return fmt.Errorf("process %d of this host has it and does not let go (see: ps -fp %d)", pid, pid)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("process %d has it, is frozen and cannot be ended: %w", pid, err)
	}
	return nil
}
