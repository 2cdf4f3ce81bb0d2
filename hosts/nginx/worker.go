package nginx

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// errNotRunning: nginx has no master process.
var errNotRunning = errors.New("nginx does not run")

// worker is a worker process of nginx.
type worker struct {
	pid int
	// leaving: it belongs to an older generation and only finishes what it has.
	leaving bool
}

// tally counts the workers that serve and those that leave.
func tally(ws []worker) (serving, leaving int) {
	for _, w := range ws {
		if w.leaving {
			leaving++
		} else {
			serving++
		}
	}
	return serving, leaving
}

// workersOf finds the workers in /proc: children of the master that systemd
// knows, told apart by their titles, "nginx: worker process" and "nginx: worker
// process is shutting down" (ngx_setproctitle).
func workersOf(ctx context.Context) ([]worker, error) {
	out, err := runCommand(ctx, "systemctl", "show", "--property=MainPID", "--value", "nginx.service")
	if err != nil {
		return nil, fmt.Errorf("cannot find nginx's master process: %w", err)
	}
	master := strings.TrimSpace(out)
	if master == "0" || master == "" {
		return nil, errNotRunning
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("cannot list processes: %w", err)
	}
	var ws []worker
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		w, child, err := childOf(pid, master)
		if err != nil {
			return nil, fmt.Errorf("cannot look at process %d: %w", pid, err)
		}
		if child {
			ws = append(ws, w)
		}
	}
	return ws, nil
}

// childOf tells whether a process is a worker of the master. One that ends
// meanwhile is none.
func childOf(pid int, master string) (w worker, child bool, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if gone(err) {
		return w, false, nil
	}
	if err != nil {
		return w, false, err
	}
	// The name in parentheses may hold anything; the state and the parent follow it.
	_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')'):]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 2 || fields[1] != master {
		return w, false, nil
	}
	title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if gone(err) {
		return w, false, nil
	}
	if err != nil {
		return w, false, err
	}
	if !strings.HasPrefix(string(title), "nginx: worker process") {
		return w, false, nil
	}
	return worker{pid: pid, leaving: strings.Contains(string(title), "is shutting down")}, true, nil
}

func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

// awaitGeneration waits until workers serve that are not among the old ones, and
// no old one serves any more.
func (p *proxy) awaitGeneration(ctx context.Context, old []worker, within time.Duration) (leaving int, err error) {
	was := map[int]bool{}
	for _, w := range old {
		was[w.pid] = true
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	for {
		now, err := p.workers(ctx)
		if err != nil {
			return 0, err
		}
		fresh, stale := 0, 0
		for _, w := range now {
			switch {
			case w.leaving:
			case was[w.pid]:
				stale++
			default:
				fresh++
			}
		}
		if fresh > 0 && stale == 0 {
			_, leaving = tally(now)
			return leaving, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("nginx did not start new workers within %s: %d new, %d old ones still serve; look at \"journalctl -u nginx\"", within, fresh, stale)
		}
	}
}

// chownLike gives a file the owner of another.
func chownLike(f *os.File, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return f.Chown(int(st.Uid), int(st.Gid))
}
