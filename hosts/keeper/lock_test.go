package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// locker is another process that has the lock on a file.
func locker(t *testing.T, path string) *os.Process {
	t.Helper()
	c := exec.CommandContext(t.Context(), "flock", "--no-fork", path, "sh", "-c", "echo; exec sleep 600")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill() //nolint:errcheck // it may be dead
		c.Wait()         //nolint:errcheck // it was killed
	})
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return c.Process
}

func TestAFrozenVerbDoesNotKeepEverybodyFromTheLease(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lease.lock")
	p := locker(t, path)
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for start, state, err := stat(p.Pid); state != "T"; start, state, err = stat(p.Pid) {
		if err != nil {
			t.Fatal(start, err)
		}
	}
	unlock, err := exclusive(50*time.Millisecond)(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}

func TestAVerbAtWorkIsNamedAndNotKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lease.lock")
	p := locker(t, path)
	_, err := exclusive(50*time.Millisecond)(t.Context(), path)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint("process ", p.Pid)) {
		t.Errorf("got %v", err)
	}
	if err := p.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("it was killed: %v", err)
	}
}

func TestAVerbWhoseCallerIsGoneWaitsForNoLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lease.lock")
	locker(t, path)
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the caller is gone")
	cancel(gone)
	if _, err := exclusive(time.Hour)(ctx, path); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}
