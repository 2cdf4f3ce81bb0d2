package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
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
		if err != nil {
			return nil, errors.Join(fmt.Errorf("cannot lock %s: %w", path, err), f.Close())
		}
		return f.Close, nil
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

// endFrozen kills the process that has the lock if it is frozen, and says which it
// is otherwise. The kernel tells: its list of locks has the processes, and what each
// has open the files. What a process writes down itself comes too late for one that
// is frozen right after it got the lock.
func endFrozen(path string) error {
	pids, err := lockers()
	if err != nil {
		return errors.Join(errLocked, err)
	}
	for _, pid := range pids {
		if !hasOpen(pid, path) {
			continue
		}
		_, state, err := stat(pid)
		if err != nil {
			return nil // gone meanwhile
		}
		if !strings.Contains("Tt", state) {
			return fmt.Errorf("process %d of this host has it and does not let go (see: ps -fp %d)", pid, pid)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("process %d has it, is frozen and cannot be ended: %w", pid, err)
		}
	}
	return nil // whoever it was let go of it meanwhile, or the next try tells
}

// lockers are the processes that hold an flock alone, by /proc/locks:
// "1: FLOCK  ADVISORY  WRITE 812 00:2f:5678 0 EOF". Its inodes are not those that
// stat(2) gives on every file system.
func lockers() ([]int, error) {
	b, err := os.ReadFile("/proc/locks")
	if err != nil {
		return nil, err
	}
	var out []int
	for line := range strings.Lines(string(b)) {
		w := strings.Fields(line)
		if len(w) < 5 || w[1] != "FLOCK" || w[3] != "WRITE" {
			continue
		}
		if pid, err := strconv.Atoi(w[4]); err == nil && pid > 0 && pid != os.Getpid() {
			out = append(out, pid)
		}
	}
	return out, nil
}

func hasOpen(pid int, path string) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false // gone, or another user's
	}
	for _, fd := range fds {
		if to, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && to == path {
			return true
		}
	}
	return false
}
