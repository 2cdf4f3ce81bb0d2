package stages

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// rollSidekiq moves one Sidekiq node to the release: its workers are told to take
// no new jobs, finish those they have, stop, and start on the new release.
// Sidekiq itself puts back what it could not finish within its timeout.
type rollSidekiq struct {
	d Deps
	f *Facts
	n Node
}

func (s rollSidekiq) Name() string { return "roll sidekiq " + s.n.Name }

// Check asks that the other nodes serve every queue but the scheduler's, which
// stands still while its node is rolled (seconds; its jobs are periodic).
func (s rollSidekiq) Check(ctx context.Context, _ pipeline.Say) error {
	if working, err := s.running(ctx); err == nil && len(working) == 0 {
		return nil // it serves nobody, so nobody misses it
	}
	if err := s.peersServe(ctx); err != nil {
		return pipeline.Refuse("cannot take %s out: %w", s.n.Name, err)
	}
	return nil
}

func (s rollSidekiq) peersServe(ctx context.Context) error {
	queues := slices.DeleteFunc(s.n.Queues(), func(q string) bool { return q == mastodon.SchedulerQueue })
	return s.d.served(ctx, s.d.sidekiqs().But(s.n.Name), queues)
}

func (s rollSidekiq) Run(ctx context.Context, say pipeline.Say) error {
	return s.move(ctx, s.f.To.Version.String(), say)
}

// Undo moves the node back. Jobs of classes that only the new release knows are
// worked off first, as far as the allowed time goes: the old one would only raise
// a NameError on them.
func (s rollSidekiq) Undo(ctx context.Context, say pipeline.Say) error {
	old := s.f.From.Version.String()
	if err := s.d.runsOnly(ctx, s.n, old); err == nil {
		if err := s.d.workersRun(ctx, s.n, old, mastodon.SidekiqState{}, s.f); err == nil {
			say("%s runs %s: nothing to take back", s.n.Name, old)
			return nil
		}
	}
	if err := s.workOff(ctx, say); err != nil {
		return err
	}
	// A peer that was rolled before this node and does not work on the new release
	// would forbid to take this one out: it is brought back first.
	for _, peer := range s.d.sidekiqs().But(s.n.Name) {
		other := rollSidekiq{s.d, s.f, peer}
		if working, err := other.running(ctx); err == nil && len(working) < len(peer.Workers) && s.d.runsOnly(ctx, peer, old) != nil {
			if err := other.move(ctx, old, say); err != nil {
				return err
			}
		}
	}
	return s.move(ctx, old, say)
}

// workOff waits until no job of a class that the old release lacks is queued.
func (s rollSidekiq) workOff(ctx context.Context, say pipeline.Say) error {
	if len(s.f.Facets.JobsAdded) == 0 || s.d.runsOnly(ctx, s.n, s.f.To.Version.String()) != nil {
		return nil
	}
	g := s.d.gate("jobs of new classes worked off", 0, func(ctx context.Context) error {
		now, err := s.d.sidekiq(ctx, mastodon.SidekiqIn{Jobs: true})
		if err != nil {
			return err
		}
		if left := queued(now, s.f.Facets.JobsAdded); len(left) > 0 {
			return fmt.Errorf("still queued: %s", strings.Join(left, ", "))
		}
		return nil
	})
	g.Within = s.d.Waits.Idle
	if err := pipeline.Await(ctx, g, say); err != nil {
		if ctx.Err() != nil {
			return err
		}
		say("going back all the same: %v. %s keeps them in its retry set until it knows their class again", err, s.f.From.Version)
	}
	return nil
}

func queued(now mastodon.SidekiqState, classes []string) []string {
	var out []string
	for _, c := range classes {
		if now.Jobs != nil && now.Jobs.Queued[c] > 0 {
			out = append(out, fmt.Sprintf("%s %d", c, now.Jobs.Queued[c]))
		}
	}
	return out
}

// move brings the node's workers to a release, from whatever state they are in.
func (s rollSidekiq) move(ctx context.Context, release string, say pipeline.Say) error {
	before, err := s.d.sidekiq(ctx, mastodon.SidekiqIn{Since: s.f.Baseline.At})
	if err != nil {
		return err
	}
	began := time.Now()
	restarts := map[string]int{}
	// A worker that was told to take no new jobs cannot be told otherwise: only a
	// restart brings it back.
	wrong := s.d.runsOnly(ctx, s.n, release)
	if lost(wrong) {
		return wrong
	}
	if wrong != nil || slices.ContainsFunc(before.On(s.n.Name), func(p mastodon.Process) bool { return p.Quiet }) {
		if err := s.restart(ctx, release, say); err != nil {
			return err
		}
	} else if restarts, err = s.d.restarts(ctx, s.n); err != nil {
		return err
	}
	started, err := s.d.sidekiq(ctx, mastodon.SidekiqIn{Since: s.f.Baseline.At})
	if err != nil {
		return err
	}
	// The counter must grow from here on; NameErrors count from before the switch.
	started.NameErrors = before.NameErrors
	if release == s.f.From.Version.String() {
		// On the way back some jobs of new classes are bound to fail; they wait in
		// the retry set until their class is known again.
		started.NameErrors = math.MaxInt64 / 2
	}
	if err := s.gate(ctx, release, started, restarts, s.d.Holds.Sidekiq, say); err != nil {
		return s.d.why(ctx, s.n, began, err)
	}
	pipeline.Tell(ctx, pipeline.HostState{Host: s.n.Name, State: "working", Release: release})
	return nil
}

func (s rollSidekiq) restart(ctx context.Context, release string, say pipeline.Say) error {
	digest, err := s.d.proven(ctx, s.n, s.f, release, say)
	if err != nil {
		return err
	}
	if err := s.takeOut(ctx, say); err != nil {
		return err
	}
	if err := s.d.configureFor(ctx, s.n, s.f, release, say); err != nil {
		return err
	}
	if err := s.d.switchTo(ctx, s.n, release, digest, say); err != nil {
		return err
	}
	pipeline.Tell(ctx, pipeline.HostState{Host: s.n.Name, State: "starting", Release: release})
	return s.d.units(ctx, s.n, node.StartUnits, s.n.Units(), say)
}

// takeOut quiets the workers that run, and stops them when they are idle.
func (s rollSidekiq) takeOut(ctx context.Context, say pipeline.Say) error {
	// A worker that does not run is missed by nobody: its peers need not be asked.
	working, err := s.running(ctx)
	if err != nil {
		return err
	}
	if len(working) > 0 {
		g := s.d.gate(fmt.Sprintf("other nodes serve the queues while %s is out", s.n.Name), 0, s.peersServe)
		g.Safe = true
		if err := pipeline.Await(ctx, g, say); err != nil {
			return fmt.Errorf("cannot take %s out: %w", s.n.Name, err)
		}
		if err := s.quiet(ctx, working, say); err != nil {
			return err
		}
	}
	pipeline.Tell(ctx, pipeline.HostState{Host: s.n.Name, State: "stopping"})
	return s.d.units(ctx, s.n, node.StopUnits, s.n.Units(), say)
}

func (s rollSidekiq) running(ctx context.Context) ([]string, error) {
	out, err := s.n.Agent.Units(ctx, node.UnitsIn{Op: node.ShowUnits, Units: s.n.Units(), Home: s.d.Layout.Home}, nil)
	if err != nil {
		return nil, err
	}
	var running []string
	for _, u := range out.Units {
		if u.Running() {
			running = append(running, u.Name)
		}
	}
	return running, nil
}

// quiet tells the workers to take no new jobs and waits until they are idle. Jobs
// that last longer than the allowed time are put back by Sidekiq when it stops.
func (s rollSidekiq) quiet(ctx context.Context, units []string, say pipeline.Say) error {
	pipeline.Tell(ctx, pipeline.HostState{Host: s.n.Name, State: "quiet"})
	out, err := s.n.Agent.Units(ctx, node.UnitsIn{Op: node.KillUnits, Signal: "TSTP", Units: units}, nil)
	if err != nil {
		return fmt.Errorf("cannot quiet the workers on %s: %w", s.n.Name, err)
	}
	// Redis lists a killed process for a minute; only those that live are waited for.
	var pids []int
	for _, u := range out.Units {
		pids = append(pids, u.Pid)
	}
	idle, err := mastodon.WaitIdle(ctx, s.n.Agent, mastodon.IdleOptions{
		Layout: s.d.Layout, Hostname: s.n.Name, Pids: pids, Within: s.d.Waits.Idle, Every: 250 * time.Millisecond,
	}, sayer(s.n, say))
	if err != nil {
		return err
	}
	if idle.Busy > 0 {
		say("%d jobs on %s outlast %s; stopping all the same: Sidekiq puts back what it cannot finish", idle.Busy, s.n.Name, s.d.Waits.Idle)
	}
	return nil
}

// gate waits until the node's workers run the release and prove it in Redis, and
// holds them to it.
func (s rollSidekiq) gate(ctx context.Context, release string, before mastodon.SidekiqState, restarts map[string]int, hold time.Duration, say pipeline.Say) error {
	g := s.d.gate(fmt.Sprintf("Sidekiq on %s works with %s", s.n.Name, release), hold, func(ctx context.Context) error {
		if err := s.d.stayUp(ctx, s.n, restarts); err != nil {
			return err
		}
		return s.d.workersRun(ctx, s.n, release, before, s.f)
	})
	return pipeline.Await(ctx, g, say)
}

// workersRun asks systemd and Redis whether a node's workers run the release.
func (d Deps) workersRun(ctx context.Context, n Node, release string, before mastodon.SidekiqState, f *Facts) error {
	out, err := n.Agent.Units(ctx, node.UnitsIn{Op: node.ShowUnits, Units: n.Units(), Home: d.Layout.Home}, nil)
	if err != nil {
		return err
	}
	want := mastodon.Want{
		Hostname: n.Name, Tag: release, Queues: n.Queues(), MaxNameErrors: int64(d.Limits.NameErrors),
		// Until the scheduler's own node has passed, the scheduler may be between two processes.
		NoScheduler: !n.Schedules(),
	}
	for _, u := range out.Units {
		want.Units = append(want.Units, mastodon.WantUnit{Unit: u.Name, Pid: u.Pid})
	}
	now, err := d.sidekiq(ctx, mastodon.SidekiqIn{Since: f.Baseline.At})
	if err != nil {
		return err
	}
	// Units run one process each. Another one of this host that gave no sign of life
	// since the snapshot before is a dead one's record, which lives for a minute.
	now.Processes = slices.DeleteFunc(now.Processes, func(p mastodon.Process) bool {
		ours := slices.ContainsFunc(want.Units, func(u mastodon.WantUnit) bool { return u.Pid == p.Pid })
		return p.Hostname == n.Name && !ours && p.Beat.Before(before.Now)
	})
	return mastodon.CheckRolled(before, now, want)
}

// units does one operation on a node's units within the allowed time.
func (d Deps) units(ctx context.Context, n Node, op node.UnitOp, units []string, say pipeline.Say) error {
	_, err := n.Agent.Units(ctx, node.UnitsIn{Op: op, Units: units, Timeout: d.Waits.Stop, Home: d.Layout.Home}, sayer(n, say))
	if err != nil {
		return fmt.Errorf("cannot %s %s: %w", op, strings.Join(units, ", "), err)
	}
	return nil
}

// switchTo points a node's live link at a release; the digest, if any, is that of its
// verified manifest.
func (d Deps) switchTo(ctx context.Context, n Node, release, digest string, say pipeline.Say) error {
	out, err := n.Agent.Switch(ctx, node.SwitchIn{Home: d.Layout.Home, Release: release, Digest: digest})
	if err != nil {
		return fmt.Errorf("cannot switch %s to %s: %w", n.Name, release, err)
	}
	if out.Changed {
		say("%s: live is %s now, was %s", n.Name, out.New, orUnknown(out.Old))
	}
	return nil
}
