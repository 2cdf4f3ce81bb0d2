package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// fenceWait is how long a verb waits while the fence is being raised.
const fenceWait = 30 * time.Second

// endWait is the least time that a killed verb is given to be gone: on a busy host
// the kernel ends a process, and frees its locks, only when it comes to it. How
// long verbs at work are waited for says nothing about that.
const endWait = 20 * time.Second

// lockPoll is how often a lock that another holds is tried again. flock(2) cannot
// wait with a limit.
const lockPoll = 20 * time.Millisecond

// pass lets a verb that changes the host through the fence: it holds the fence's
// lock shared until the returned function is called, and the epoch is compared
// while it is held, so that no raising can come between the check and the change.
// A verb is on record as a holder before it asks for the lock: wherever it is
// frozen, the raising finds it.
func (m Machine) pass(ctx context.Context, verb string, req Request) (release func(), err error) {
	if req.Epoch <= 0 {
		return nil, Failf(CodeFenced, "%s changes the host and needs the lease: the request has no epoch", verb)
	}
	forget, err := m.recordHolder(Holder{Pid: os.Getpid(), Verb: verb, Run: req.Run, Epoch: req.Epoch, Since: time.Now()})
	if err != nil {
		return nil, err
	}
	lock, err := flock(ctx, m.state("fence.lock"), syscall.LOCK_SH, fenceWait)
	if err != nil {
		forget()
		return nil, fmt.Errorf("cannot pass the fence: %w", err)
	}
	release = func() {
		// In this order: a verb that is frozen here must be found by who raises the fence.
		lock.Close() //nolint:errcheck // closing gives the lock back; there is nothing written
		forget()
	}
	f, err := m.readFence()
	if err == nil && req.Epoch < f.Epoch {
		err = Failf(CodeFenced, "epoch %d is over: %s raised the fence to %d at %s", req.Epoch, f.Holder, f.Epoch, f.Raised.UTC().Format(time.RFC3339))
	}
	if err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// flock takes a lock on a file, which it makes, and waits at most so long. The
// descriptor is closed on exec, so no child can keep the lock.
func flock(ctx context.Context, path string, how int, wait time.Duration) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wait, errLocked)
	defer cancel()
	t := time.NewTicker(lockPoll)
	defer t.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("cannot lock %s: %w", path, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("cannot lock %s: %w", path, context.Cause(ctx)), f.Close())
		case <-t.C:
		}
	}
}

var errLocked = errors.New("another process holds it")

// readFence reads the stored fence; a host that has none is at epoch 0. The file
// holds the epoch on its first line, then who raised it and when.
func (m Machine) readFence() (Fence, error) {
	b, err := os.ReadFile(m.state("fence"))
	if errors.Is(err, fs.ErrNotExist) {
		return Fence{}, nil
	}
	if err != nil {
		return Fence{}, fmt.Errorf("cannot read the fence: %w", err)
	}
	lines := strings.SplitN(string(b), "\n", 3)
	epoch, err := strconv.ParseInt(lines[0], 10, 64)
	if err != nil {
		return Fence{}, fmt.Errorf("cannot read the fence %s: its first line is %q, not an epoch; see what runs on this host, then remove the file", m.state("fence"), lines[0])
	}
	f := Fence{Epoch: epoch}
	if len(lines) > 1 {
		f.Holder = lines[1]
	}
	if len(lines) > 2 {
		if f.Raised, err = time.Parse(time.RFC3339, strings.TrimSpace(lines[2])); err != nil {
			return Fence{}, fmt.Errorf("cannot read the fence %s: %w", m.state("fence"), err)
		}
	}
	return f, nil
}

func (m Machine) fenceShow(_ context.Context, _ struct{}, _ io.Reader, _ func(string)) (Fence, error) {
	f, err := m.readFence()
	if err != nil {
		return f, err
	}
	f.Verbs, err = m.holders()
	return f, err
}

func (m Machine) fenceRaise(ctx context.Context, in RaiseIn, _ io.Reader, say func(string)) (Fence, error) {
	if in.Epoch <= 0 {
		return Fence{}, fmt.Errorf("epoch %d is none: epochs begin at 1", in.Epoch)
	}
	now, err := m.readFence()
	if err != nil {
		return Fence{}, err
	}
	if in.Epoch < now.Epoch {
		return now, lowEpoch(in, now)
	}
	in.Holder = strings.ReplaceAll(in.Holder, "\n", " ")
	if in.Epoch == now.Epoch {
		// Verbs of this epoch may be at work; nothing is to be waited for. A keeper that
		// was put back to an older file may give one epoch twice: who raised it first
		// has it.
		if in.Holder != now.Holder {
			return now, lowEpoch(in, now)
		}
		return now, nil
	}
	if in.Wait == 0 {
		in.Wait = 20 * time.Second
	}
	forget, err := m.recordHolder(Holder{Pid: os.Getpid(), Verb: "fence.raise", Epoch: in.Epoch, Run: RequestOf(ctx).Run, Since: time.Now()})
	if err != nil {
		return Fence{}, err
	}
	defer forget() // after the lock is given back, as in pass
	lock, killed, err := m.lockFence(ctx, in, say)
	if err != nil {
		return now, err
	}
	defer lock.Close()
	// Another may have raised it while this one waited.
	if now, err = m.readFence(); err != nil {
		return Fence{}, err
	}
	if in.Epoch < now.Epoch || in.Epoch == now.Epoch && in.Holder != now.Holder {
		return now, lowEpoch(in, now)
	}
	if len(killed) > 0 {
		m.calm(ctx, in.Wait, say)
	}
	next := Fence{Epoch: in.Epoch, Holder: in.Holder, Raised: time.Now().UTC().Truncate(time.Second), Killed: killed}
	text := fmt.Sprintf("%d\n%s\n%s\n", next.Epoch, next.Holder, next.Raised.Format(time.RFC3339))
	if err := writeFile(m.state("fence"), []byte(text), 0o644); err != nil {
		return now, fmt.Errorf("cannot raise the fence: %w", err)
	}
	return next, nil
}

func lowEpoch(in RaiseIn, now Fence) error {
	return Failf(CodeFenced, "cannot raise the fence to %d: %s raised it to %d at %s", in.Epoch, now.Holder, now.Epoch, now.Raised.UTC().Format(time.RFC3339))
}

// lockFence takes the fence's lock alone. Verbs at work are waited for; those of
// a lower epoch that do not end in time are killed if the request says so.
func (m Machine) lockFence(ctx context.Context, in RaiseIn, say func(string)) (*os.File, []Holder, error) {
	lock, err := flock(ctx, m.state("fence.lock"), syscall.LOCK_EX, in.Wait)
	if err == nil || !errors.Is(err, errLocked) {
		return lock, nil, err
	}
	held, lookErr := m.holders()
	if lookErr != nil {
		return nil, nil, errors.Join(err, lookErr)
	}
	var names []string
	var stale []Holder
	for _, h := range held {
		if h.Pid == os.Getpid() {
			continue
		}
		names = append(names, h.String())
		if h.Epoch < in.Epoch {
			stale = append(stale, h)
		}
	}
	who := strings.Join(names, "; ")
	if who == "" {
		who = "a process that is not on record in " + m.holdersDir()
	}
	if !in.Kill || len(stale) == 0 {
		return nil, nil, Failf(CodeInUse, "cannot raise the fence to %d: after %s it is still held by %s", in.Epoch, in.Wait, who)
	}
	for _, h := range stale {
		say("ending " + h.String())
		if err := m.end(h); err != nil {
			return nil, nil, fmt.Errorf("cannot end %s: %w", h, err)
		}
	}
	lock, err = flock(ctx, m.state("fence.lock"), syscall.LOCK_EX, max(in.Wait, endWait))
	if errors.Is(err, errLocked) {
		return nil, nil, Failf(CodeInUse, "cannot raise the fence to %d: it is still held after ending %s", in.Epoch, who)
	}
	return lock, stale, err
}

// calm waits, at most so long, until systemd has done what verbs that were ended had
// asked it for: a stop that is on its way is no longer a verb's, and it would
// overtake what the next holder sees.
func (m Machine) calm(ctx context.Context, wait time.Duration, say func(string)) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	t := time.NewTicker(5 * lockPoll)
	defer t.Stop()
	for {
		out, err := m.exec(ctx, "systemctl", "list-jobs", "--no-legend", "--plain")
		jobs := strings.TrimSpace(string(out))
		if ctx.Err() == nil && err != nil {
			say("cannot ask systemd what it still does: " + err.Error())
			return
		}
		if err == nil && jobs == "" {
			return
		}
		select {
		case <-ctx.Done():
			say("systemd is still at work on what was asked before: " + strings.Join(strings.Fields(jobs), " "))
			return
		case <-t.C:
		}
	}
}

// readJSON reads a file of JSON into v.
func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("cannot read %s: %w", path, err)
	}
	return nil
}
