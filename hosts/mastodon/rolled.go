package mastodon

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// SchedulerQueue is the queue that never more than one process may serve
// (docs.joinmastodon.org/admin/scaling).
const SchedulerQueue = "scheduler"

// MaxBeat is how old a live process's record may be: the beat comes every ten
// seconds (five before Sidekiq 7), and half of that is for a slow host.
const MaxBeat = 15 * time.Second

// Want is what must be true of one host's Sidekiq after its switch.
type Want struct {
	// Hostname as the processes announce it.
	Hostname string
	// Tag is the release that each of its processes must run, "v4.5.15".
	Tag string
	// Units that must run there.
	Units []WantUnit
	// Queues that the host must serve, no more and no fewer; nil does not ask.
	Queues []string
	// FleetQueues that all processes together must serve: those of the new
	// release's config/sidekiq.yml that are served or will be. Nil does not ask.
	FleetQueues []string
	// NoScheduler: the fleet is between two schedulers, so none is no fault. Two are
	// one always.
	NoScheduler bool
	// MaxBeat is the age a record may have; 0 for the constant MaxBeat.
	MaxBeat time.Duration
	// MaxNameErrors is by how many the NameErrors may grow.
	MaxNameErrors int64
}

// WantUnit is a unit that must run on the host.
type WantUnit struct {
	// Unit is its name in systemd.
	Unit string
	// Pid is its main process now, as systemd says.
	Pid int
	// Restarts is how often systemd has restarted it by itself since its start.
	Restarts int
}

// CheckRolled tells what is not yet, or no longer, as it must be on a host whose
// Sidekiq was switched: nil when all is. before is the snapshot from before the
// switch, now the newest one. The error names every fault at once.
func CheckRolled(before, now SidekiqState, want Want) error {
	limit := want.MaxBeat
	if limit == 0 {
		limit = MaxBeat
	}
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }

	here := now.On(want.Hostname)
	silent := 0 // units that have not announced themselves
	for _, u := range want.Units {
		if u.Restarts > 0 {
			fault("systemd restarted %s %s", u.Unit, times(u.Restarts))
		}
		if u.Pid == 0 {
			fault("%s does not run", u.Unit)
			silent++
			continue
		}
		if !slices.ContainsFunc(here, func(p Process) bool { return p.Pid == u.Pid }) {
			fault("%s (process %d) has not announced itself in Redis", u.Unit, u.Pid)
			silent++
		}
	}
	for _, p := range here {
		if len(want.Units) > 0 && !slices.ContainsFunc(want.Units, func(u WantUnit) bool { return u.Pid == p.Pid }) {
			fault("process %d (%s) belongs to none of the units; its record may live for a minute after its end", p.Pid, p.Tag)
			continue
		}
		if p.Tag != want.Tag {
			fault("process %d runs %s, not %s", p.Pid, p.Tag, want.Tag)
		}
		if p.Quiet {
			fault("process %d is quiet: it takes no jobs", p.Pid)
		}
		if age := now.Age(p); age > limit {
			fault("process %d gave its last sign of life %s ago", p.Pid, age.Round(time.Second))
		}
	}
	if len(here) == 0 && len(want.Units) == 0 {
		fault("no Sidekiq process of %s in Redis", want.Hostname)
	}
	if want.Queues != nil && silent == 0 { // or the faults above say it already
		served, expected := union(here), sorted(want.Queues)
		if missing := without(expected, served); len(missing) > 0 {
			fault("%s does not serve %s", want.Hostname, strings.Join(missing, ", "))
		}
		if extra := without(served, expected); len(extra) > 0 {
			fault("%s serves %s, which it should not", want.Hostname, strings.Join(extra, ", "))
		}
	}
	faults = append(faults, fleetFaults(now, want.FleetQueues, want.NoScheduler)...)
	if grown := now.NameErrors - before.NameErrors; grown > want.MaxNameErrors {
		fault("%d jobs failed with NameError, %d allowed: %s", grown, want.MaxNameErrors, classes(now.NameErrorClasses))
	}
	if stuck := stuck(before, now, here); len(stuck) > 0 {
		fault("the processed counter stands at %d while jobs wait in %s", now.Processed, strings.Join(stuck, ", "))
	}
	return joined(faults)
}

// CheckFleet tells what keeps the whole fleet from being on the release tag:
// processes of another release, queues that nobody serves, not exactly one
// scheduler.
func CheckFleet(now SidekiqState, tag string, queues []string) error {
	var faults []string
	for _, p := range now.Processes {
		if p.Tag != tag {
			faults = append(faults, fmt.Sprintf("process %d on %s runs %s, not %s", p.Pid, p.Hostname, p.Tag, tag))
		}
	}
	return joined(append(faults, fleetFaults(now, queues, false)...))
}

// Unserved gives those of queues that no process serves which takes jobs: a
// record must be fresh and not quiet.
func Unserved(now SidekiqState, queues []string) []string {
	var alive []Process
	for _, p := range now.Processes {
		if !p.Quiet && now.Age(p) <= MaxBeat {
			alive = append(alive, p)
		}
	}
	return without(sorted(queues), union(alive))
}

func fleetFaults(now SidekiqState, queues []string, noScheduler bool) []string {
	var faults []string
	var schedulers []string
	for _, p := range now.Processes {
		if p.Serves(SchedulerQueue) {
			schedulers = append(schedulers, fmt.Sprintf("process %d on %s", p.Pid, p.Hostname))
		}
	}
	switch {
	case len(schedulers) > 1:
		faults = append(faults, fmt.Sprintf("%d processes serve the queue scheduler, which only one may: %s", len(schedulers), strings.Join(schedulers, ", ")))
	case len(schedulers) == 0 && !noScheduler:
		faults = append(faults, "no process serves the queue scheduler")
	}
	if noScheduler {
		queues = without(queues, []string{SchedulerQueue})
	}
	if missing := Unserved(now, without(queues, []string{SchedulerQueue})); len(missing) > 0 {
		faults = append(faults, "nobody serves "+strings.Join(missing, ", "))
	}
	return faults
}

// stuck gives the queues that these processes serve in which jobs waited before
// and wait now while nothing at all was processed in between.
func stuck(before, now SidekiqState, here []Process) []string {
	if now.Processed != before.Processed || !now.Now.After(before.Now) {
		return nil
	}
	var out []string
	for _, q := range union(here) {
		if before.Queue(q).Size > 0 && now.Queue(q).Size > 0 {
			out = append(out, q)
		}
	}
	return out
}

// joined makes one error of all faults, nil of none.
func joined(faults []string) error {
	if len(faults) == 0 {
		return nil
	}
	return errors.New(strings.Join(faults, "; "))
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

// without gives those of all that are not in some.
func without(all, some []string) []string {
	var out []string
	for _, s := range all {
		if !slices.Contains(some, s) {
			out = append(out, s)
		}
	}
	return out
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// classes lists counted classes, the most frequent first.
func classes(counts map[string]int64) string {
	names := make([]string, 0, len(counts))
	for c := range counts {
		names = append(names, c)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := counts[b] - counts[a]; d != 0 {
			return int(d)
		}
		return strings.Compare(a, b)
	})
	for i, c := range names {
		names[i] = fmt.Sprintf("%s %d", c, counts[c])
	}
	if len(names) == 0 {
		return "of unknown classes"
	}
	return strings.Join(names, ", ")
}
