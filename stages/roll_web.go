package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/nginx"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// rollWeb moves one web node to the release: out of rotation on every proxy,
// stopped when its requests are answered, started on the new release, proven on
// the node itself, back into rotation, watched.
//
// Units are stopped and started, never reloaded: under preload_app! Puma answers
// a reload with a hot restart that keeps its old environment and folder.
type rollWeb struct {
	d Deps
	f *Facts
	n Node
}

func (s rollWeb) Name() string { return "roll web " + s.n.Name }

// Check asks that another web node serves while this one is out.
func (s rollWeb) Check(ctx context.Context, _ pipeline.Say) error {
	if s.missed(ctx) != nil {
		return nil
	}
	// A peer that is rolled before this node is judged when its turn comes: it may be
	// ill now, and be rolled first for that.
	for _, name := range s.f.Web {
		if name == s.n.Name {
			break
		}
		if peer, ok := s.d.Fleet.Named(name); ok && s.d.runsOnly(ctx, peer, s.f.To.Version.String()) != nil {
			return nil
		}
	}
	if err := s.peerServes(ctx); err != nil {
		return pipeline.Refuse("cannot take %s out: %w", s.n.Name, err)
	}
	return nil
}

// peerServes is true when the other web nodes are in rotation on every proxy and
// answer. Of three or more, one may be ill.
func (s rollWeb) peerServes(ctx context.Context) error {
	peers := s.d.webs().But(s.n.Name)
	var errs []error
	for _, peer := range peers {
		err := s.d.inRotation(ctx, peer)
		if err == nil {
			err = s.d.Answers(ctx, peer)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == len(peers) || len(errs) > 1 {
		return fmt.Errorf("too few other web nodes would serve: %w", errors.Join(errs...))
	}
	return nil
}

// missed is nil when users would miss the node: a unit of it runs, its pages are
// answered, and at least one proxy sends it requests.
func (s rollWeb) missed(ctx context.Context) error {
	out, err := s.n.Agent.Units(ctx, node.UnitsIn{Op: node.ShowUnits, Units: s.n.Units(), Home: s.d.Layout.Home}, nil)
	if err != nil {
		return nil // not known: taken for missed
	}
	if !slices.ContainsFunc(out.Units, node.UnitState.Running) {
		return fmt.Errorf("no unit of %s runs", s.n.Name)
	}
	if err := s.d.probe(ctx, s.n, "", 0, []mastodon.CheckName{mastodon.CheckHealth, mastodon.CheckPage}); err != nil {
		return err
	}
	states, err := nginx.DrainState(ctx, s.d.proxyAgents(), s.d.drainOf(s.n))
	if err != nil {
		return nil
	}
	for _, down := range states {
		if !down {
			return nil
		}
	}
	return fmt.Errorf("%s is out of rotation on every proxy", s.n.Name)
}

func (s rollWeb) Run(ctx context.Context, say pipeline.Say) error {
	return s.move(ctx, s.f.To.Version.String(), false, say)
}

// Undo moves the node back, also from half way: a node that serves the old
// release in rotation is left alone.
func (s rollWeb) Undo(ctx context.Context, say pipeline.Say) error {
	old := s.f.From.Version.String()
	s.d = s.d.passingOver(ctx, say)
	wrong := s.d.runsOnly(ctx, s.n, old)
	if lost(wrong) {
		return wrong // each further question would cost a dead host's deadline again
	}
	if wrong == nil && s.d.inRotation(ctx, s.n) == nil && s.d.Answers(ctx, s.n) == nil {
		say("%s serves %s: nothing to take back", s.n.Name, old)
		// A refit that was killed may have left a proxy's file written and not loaded.
		return s.giveBack(ctx, say)
	}
	for _, peer := range s.d.webs().But(s.n.Name) {
		if s.forbids(ctx, peer, old) {
			if err := (rollWeb{s.d, s.f, peer}).move(ctx, old, true, say); err != nil {
				return err
			}
		}
	}
	return s.move(ctx, old, true, say)
}

// forbids tells whether a peer stands in the way of taking this node out, and must be
// brought back first: it does not answer on the new release, or it is out of rotation
// and too few others serve, as a way back leaves it that ended before it was put back.
func (s rollWeb) forbids(ctx context.Context, peer Node, old string) bool {
	if s.d.Answers(ctx, peer) != nil && s.d.runsOnly(ctx, peer, old) != nil {
		return true
	}
	states, err := nginx.DrainState(ctx, s.d.proxyAgents(), s.d.drainOf(peer))
	if err != nil {
		return false // not known: peerServes says so
	}
	for _, down := range states {
		if down {
			return s.peerServes(ctx) != nil
		}
	}
	return false
}

// move brings the node to a release, from whatever state it is in. On the way back
// the site is not held to its baseline: nodes still on the new release may be what
// is wrong with it.
func (s rollWeb) move(ctx context.Context, release string, back bool, say pipeline.Say) error {
	began := time.Now()
	// A unit that is started now begins to count its restarts at none.
	restarts := map[string]int{}
	wrong := s.d.runsOnly(ctx, s.n, release)
	if lost(wrong) {
		return wrong
	}
	if wrong != nil {
		if err := s.restart(ctx, release, say); err != nil {
			return err
		}
	} else {
		var err error
		if restarts, err = s.d.restarts(ctx, s.n); err != nil {
			return err
		}
	}
	g := s.d.gate(fmt.Sprintf("%s serves %s", s.n.Name, release), 0, func(ctx context.Context) error {
		if err := s.d.stayUp(ctx, s.n, restarts); err != nil {
			return err
		}
		return s.d.serves(ctx, s.n, release, bootLook)
	})
	// Twice, and not at once: a process that dies soon after its start must not pass.
	// The node waits for its processes by itself, so the looks may come soon.
	g.Streak, g.Every = 2, 250*time.Millisecond
	if err := pipeline.Await(ctx, g, say); err != nil {
		return s.d.why(ctx, s.n, began, err)
	}
	if err := s.giveBack(ctx, say); err != nil {
		return err
	}
	pipeline.Tell(ctx, pipeline.HostState{Host: s.n.Name, State: "serving", Release: release})
	if back {
		return nil
	}
	if err := s.d.watchSince(ctx, s.f, fmt.Sprintf("the site is at its baseline with %s on %s", s.n.Name, release), began, s.d.Holds.Web, func(ctx context.Context) error {
		if err := s.d.stayUp(ctx, s.n, restarts); err != nil {
			return err
		}
		return s.d.runsOnly(ctx, s.n, release)
	}, say); err != nil {
		return s.d.why(ctx, s.n, began, err)
	}
	return nil
}

// giveBack puts the node into rotation on every proxy. A proxy that has it there
// already, and has loaded that, is not reloaded.
func (s rollWeb) giveBack(ctx context.Context, say pipeline.Say) error {
	if err := nginx.Undrain(ctx, s.d.proxyAgents(), s.d.drainOf(s.n), func(line string) { say("%s", line) }); err != nil {
		return fmt.Errorf("cannot put %s back into rotation: %w", s.n.Name, err)
	}
	return nil
}

func (s rollWeb) restart(ctx context.Context, release string, say pipeline.Say) error {
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

// takeOut takes the node out of rotation and stops it when its requests are answered.
func (s rollWeb) takeOut(ctx context.Context, say pipeline.Say) error {
	if s.missed(ctx) == nil {
		g := s.d.gate(fmt.Sprintf("another web node serves while %s is out", s.n.Name), 0, s.peerServes)
		g.Safe = true
		if err := pipeline.Await(ctx, g, say); err != nil {
			return fmt.Errorf("cannot take %s out: %w", s.n.Name, err)
		}
	}
	pipeline.Tell(ctx, pipeline.HostState{Host: s.n.Name, State: "draining"})
	drained, err := nginx.Drain(ctx, s.d.proxyAgents(), s.n.Agent, s.d.drainOf(s.n), func(line string) { say("%s", line) })
	if err != nil {
		return fmt.Errorf("cannot take %s out of rotation: %w", s.n.Name, err)
	}
	if drained.Left == 0 {
		say("%s is out of rotation, its requests were answered after %s", s.n.Name, drained.Waited.Round(10*time.Millisecond))
	}
	pipeline.Tell(ctx, pipeline.HostState{Host: s.n.Name, State: "stopping"})
	return s.d.units(ctx, s.n, node.StopUnits, s.n.Units(), say)
}

// inRotation asks every proxy whether it sends requests to the node.
func (d Deps) inRotation(ctx context.Context, n Node) error {
	out, err := nginx.DrainState(ctx, d.proxyAgents(), d.drainOf(n))
	if err != nil {
		return err
	}
	for proxy, down := range out {
		if down {
			return fmt.Errorf("%s is out of rotation on %s", n.Name, proxy)
		}
	}
	return nil
}

// bootLook is how long a node waits by itself for processes that boot, before refit
// looks again whether systemd had to restart them.
const bootLook = 3 * time.Second

// crashes is how many automatic restarts of a unit end the wait for it at once.
const crashes = 3

// restarts counts systemd's automatic restarts of the node's units since each was
// started by hand, by unit.
func (d Deps) restarts(ctx context.Context, n Node) (map[string]int, error) {
	out, err := n.Agent.Units(ctx, node.UnitsIn{Op: node.ShowUnits, Units: n.Units(), Home: d.Layout.Home}, nil)
	if err != nil {
		return nil, err
	}
	count := map[string]int{}
	for _, u := range out.Units {
		count[u.Name] = u.Restarts
	}
	return count, nil
}

// stayUp fails when systemd had to restart one of the node's units more often than
// before: what dies and comes back would pass a gate that looks in between. After
// a few restarts there is nothing to wait for.
func (d Deps) stayUp(ctx context.Context, n Node, before map[string]int) error {
	now, err := d.restarts(ctx, n)
	if err != nil {
		return err
	}
	for _, unit := range n.Units() {
		more := now[unit] - before[unit]
		if more <= 0 {
			continue
		}
		err := fmt.Errorf("%s on %s does not stay up: systemd restarted it (%d times since its start)", unit, n.Name, more)
		if more >= crashes {
			return pipeline.Never(err)
		}
		return err
	}
	return nil
}

// passingOver leaves out the proxies that were waited for in vain and still do not
// answer: the way back must not end half way because a proxy is dead. Going forward
// none is passed over, since one that only refit cannot see may serve users.
func (d Deps) passingOver(ctx context.Context, say pipeline.Say) Deps {
	gone := pipeline.GivenUp(ctx)
	var left Fleet
	for _, n := range d.Fleet {
		if n.Has(hosts.Proxy) && slices.Contains(gone, n.Name) {
			if _, err := n.Agent.FenceShow(ctx); err != nil {
				say("going back without %s, which does not answer: should it come back with a node out of rotation, `refit doctor --fix` puts that right", n.Name)
				continue
			}
		}
		left = append(left, n)
	}
	if len(left.With(hosts.Proxy)) == 0 {
		return d
	}
	d.Fleet = left
	return d
}

func (d Deps) proxyAgents() []*node.Agent {
	var out []*node.Agent
	for _, p := range d.proxies() {
		out = append(out, p.Agent)
	}
	return out
}

func (d Deps) drainOf(n Node) nginx.DrainOptions {
	o := nginx.DrainOptions{Files: []string{d.Proxies.Web, d.Proxies.Streaming}, Address: n.Address, Ports: []int{n.Port}, Within: d.Waits.Drain}
	for _, p := range d.proxies() {
		o.Peers = append(o.Peers, p.Address)
	}
	return o
}
