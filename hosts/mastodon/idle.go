package mastodon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/hosts/node"
)

// IdleOptions says whose end of work is waited for.
type IdleOptions struct {
	Layout Layout
	// Hostname of the host as its processes announce it.
	Hostname string
	// Pids are the processes to wait for; nil for all of the host.
	Pids []int
	// Within is how long jobs may take; 0 for 10 minutes.
	Within time.Duration
	// Every is how often the host and Redis are asked; 0 for one second.
	Every time.Duration
}

// Idle is how the waiting ended.
type Idle struct {
	// Busy is how many jobs were still at work when the time was up; Sidekiq pushes
	// them back after its own timeout when it is stopped.
	Busy int
	// Work is what they were.
	Work []Work
	// Waited is how long it took.
	Waited time.Duration
}

// WaitIdle waits until quieted processes of the agent's host have finished their
// jobs. A process is idle once its record says so in one beat: quiet, and none of
// its threads busy; or, which is seen seconds earlier, once the last of its threads
// that take jobs has ended: a quieted process ends each as it comes to take another
// (Sidekiq::Processor#run). One that has ended, or whose record is gone, is idle.
// Time running out is no error: Idle.Busy tells.
func WaitIdle(ctx context.Context, a *node.Agent, o IdleOptions, say func(string)) (Idle, error) {
	return waitIdle(ctx, func(ctx context.Context) (SidekiqState, error) {
		return ReadSidekiq(ctx, a, SidekiqIn{Layout: o.Layout, Pids: o.Pids})
	}, o, say)
}

func waitIdle(ctx context.Context, read func(context.Context) (SidekiqState, error), o IdleOptions, say func(string)) (Idle, error) {
	within, every := o.Within, o.Every
	if within == 0 {
		within = 10 * time.Minute
	}
	if every == 0 {
		every = time.Second
	}
	begun := time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	var idle Idle
	var told string
	took := map[int]bool{} // processes whose threads were told apart by their names
	for {
		s, err := read(ctx)
		if err != nil {
			return idle, fmt.Errorf("cannot see whether Sidekiq on %s is idle: %w", o.Hostname, err)
		}
		for pid, n := range s.Threads {
			took[pid] = took[pid] || n > 0
		}
		waiting := unfinished(s, o, took)
		idle.Waited, idle.Busy, idle.Work = time.Since(begun), 0, nil
		for _, p := range waiting {
			idle.Busy += p.Busy
			idle.Work = append(idle.Work, p.Work...)
		}
		if len(waiting) == 0 || idle.Waited >= within {
			return idle, nil
		}
		if text := describe(waiting); text != told && say != nil {
			say(text)
			told = text
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return idle, fmt.Errorf("cannot wait until Sidekiq on %s is idle: %w", o.Hostname, context.Cause(ctx))
		}
	}
}

// unfinished are the processes that have not yet said, in one beat, that they are
// quiet and idle, and that still have threads which take jobs. That a process has
// none counts only if it was seen to have some: a Sidekiq that names them otherwise
// is waited for until it says so itself.
func unfinished(s SidekiqState, o IdleOptions, took map[int]bool) []Process {
	var out []Process
	for _, p := range s.On(o.Hostname) {
		if o.Pids != nil && !slices.Contains(o.Pids, p.Pid) {
			continue
		}
		if n, known := s.Threads[p.Pid]; known && (n == Ended || n == 0 && took[p.Pid]) {
			continue
		}
		if !p.Quiet || p.Busy > 0 {
			out = append(out, p)
		}
	}
	return out
}

func describe(ps []Process) string {
	var parts []string
	for _, p := range ps {
		switch {
		case !p.Quiet:
			parts = append(parts, fmt.Sprintf("process %d has not said yet that it is quiet", p.Pid))
		case len(p.Work) > 0:
			parts = append(parts, fmt.Sprintf("process %d works on %s", p.Pid, jobNames(p)))
		default:
			parts = append(parts, fmt.Sprintf("process %d works on %d jobs", p.Pid, p.Busy))
		}
	}
	return strings.Join(parts, ", ")
}

func jobNames(p Process) string {
	counts := map[string]int64{}
	for _, w := range p.Work {
		counts[w.Class]++
	}
	return classes(counts)
}
