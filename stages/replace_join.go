package stages

import (
	"context"
	"fmt"
	"time"

	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/nginx"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// join gates a new web node and puts it into the proxies, one after the other.
type join struct{ birth }

func (s join) Name() string { return "join " + s.b().Host }

func (s join) Check(context.Context, pipeline.Say) error { return nil }

func (s join) Run(ctx context.Context, say pipeline.Say) error {
	began, release := time.Now(), s.f.To.Version.String()
	n, d, err := s.here(ctx)
	if err != nil {
		return err
	}
	restarts := map[string]int{}
	g := d.gate(fmt.Sprintf("%s serves %s", n.Name, release), 0, func(ctx context.Context) error {
		if err := d.stayUp(ctx, n, restarts); err != nil {
			return err
		}
		return d.serves(ctx, n, release, bootLook)
	})
	g.Streak, g.Every = 2, 250*time.Millisecond
	if err := pipeline.Await(ctx, g, say); err != nil {
		return d.why(ctx, n, began, err)
	}
	for _, p := range d.proxies() {
		if err := s.into(ctx, p, n, d, say); err != nil {
			return err
		}
	}
	pipeline.Tell(ctx, pipeline.HostState{Host: n.Name, State: "serving", Release: release})
	err = d.watch(ctx, s.f, fmt.Sprintf("the site is at its baseline with the new %s", n.Name), d.Holds.Web, func(ctx context.Context) error {
		if err := d.stayUp(ctx, n, restarts); err != nil {
			return err
		}
		return d.runsOnly(ctx, n, release)
	}, say)
	return d.why(ctx, n, began, err)
}

// into writes the node into one proxy's files, like another that stands there, and lets
// requests come.
func (s birth) into(ctx context.Context, p, n Node, d Deps, say pipeline.Say) error {
	like, err := s.like(ctx, p, n.Address)
	if err != nil {
		return err
	}
	if _, err := nginx.JoinUpstream(ctx, p.Agent, nginx.JoinIn{Files: s.files(), Address: n.Address, Like: like}, sayer(p, say)); err != nil {
		return fmt.Errorf("cannot write %s into %s: %w", n.Name, p.Name, err)
	}
	if err := nginx.Undrain(ctx, []*node.Agent{p.Agent}, d.drainOf(n), func(line string) { say("%s", line) }); err != nil {
		return fmt.Errorf("cannot let requests come to %s: %w", n.Name, err)
	}
	say("%s sends requests to %s at %s", p.Name, n.Name, n.Address)
	return nil
}

// like is the address of a node of the tier that stands on the proxy, the model's first.
func (s birth) like(ctx context.Context, p Node, but string) (string, error) {
	out, err := nginx.GetUpstream(ctx, p.Agent, nginx.UpstreamIn{Files: s.files()})
	if err != nil {
		return "", fmt.Errorf("cannot read the upstreams of %s: %w", p.Name, err)
	}
	b := s.b()
	var have []string
	if n, ok := s.d.Fleet.Named(b.Like); ok {
		have = append(have, n.Address)
	}
	if b.Old != nil {
		have = append(have, b.Old.Address)
	}
	for _, n := range s.d.webs() {
		have = append(have, n.Address)
	}
	for _, a := range have {
		if _, known := out.Down(a); known && a != but {
			return a, nil
		}
	}
	return "", fmt.Errorf("%s: no web node of refit.yml stands in %v, so there is no line that a new one could be like", p.Name, s.files())
}

// Undo takes the node out of the proxies' files.
func (s join) Undo(ctx context.Context, say pipeline.Say) error {
	if s.b().Address == "" {
		return nil
	}
	return s.outOf(ctx, s.node(""), say)
}

// outOf takes a web node out of every proxy: down, its requests answered where it can be
// asked, then its lines away.
func (s birth) outOf(ctx context.Context, n Node, say pipeline.Say) error {
	d := s.d.passingOver(ctx, say)
	var stands []Node
	for _, p := range d.proxies() {
		out, err := nginx.GetUpstream(ctx, p.Agent, nginx.UpstreamIn{Files: s.files()})
		if err != nil {
			return fmt.Errorf("cannot read the upstreams of %s: %w", p.Name, err)
		}
		if _, known := out.Down(n.Address); known {
			stands = append(stands, p)
		}
	}
	if len(stands) == 0 {
		return nil
	}
	d.Fleet = stands
	drained, err := nginx.Drain(ctx, d.proxyAgents(), n.Agent, d.drainOf(n), func(line string) { say("%s", line) })
	switch {
	case lost(err):
		for _, p := range stands {
			if _, err := nginx.SetUpstream(ctx, p.Agent, nginx.SetIn{Files: s.files(), Address: n.Address, Down: true}, sayer(p, say)); err != nil {
				return fmt.Errorf("cannot take %s out of rotation: %w", n.Name, err)
			}
		}
	case err != nil:
		return fmt.Errorf("cannot take %s out of rotation: %w", n.Name, err)
	case drained.Left == 0:
		say("%s at %s is out of rotation, its requests were answered after %s", n.Name, n.Address, drained.Waited.Round(10*time.Millisecond))
	}
	for _, p := range stands {
		if _, err := nginx.LeaveUpstream(ctx, p.Agent, nginx.LeaveIn{Files: s.files(), Address: n.Address}, sayer(p, say)); err != nil {
			return fmt.Errorf("cannot take %s out of the files of %s: %w", n.Name, p.Name, err)
		}
	}
	return nil
}

// work gates a new node's workers.
type work struct{ birth }

func (s work) Name() string { return "work " + s.b().Host }

func (s work) Check(context.Context, pipeline.Say) error { return nil }

func (s work) Run(ctx context.Context, say pipeline.Say) error {
	n, d, err := s.here(ctx)
	if err != nil {
		return err
	}
	began, release := time.Now(), s.f.To.Version.String()
	restarts, err := d.restarts(ctx, n)
	if err != nil {
		return err
	}
	started, err := d.sidekiq(ctx, mastodon.SidekiqIn{Since: s.f.Baseline.At})
	if err != nil {
		return err
	}
	if err := (rollSidekiq{d, s.f, n}).gate(ctx, release, started, restarts, d.Holds.Sidekiq, say); err != nil {
		return d.why(ctx, n, began, err)
	}
	pipeline.Tell(ctx, pipeline.HostState{Host: n.Name, State: "working", Release: release})
	return nil
}

// Undo lets the workers finish what they have; what they do not, Sidekiq puts back.
func (s work) Undo(ctx context.Context, say pipeline.Say) error {
	b := s.b()
	if b.Address == "" || s.provenOff(ctx, b.Droplet) == nil {
		return nil
	}
	n, d, err := s.here(ctx)
	if err == nil {
		r := rollSidekiq{d, s.f, n}
		var working []string
		if working, err = r.running(ctx); err == nil && len(working) > 0 {
			err = r.quiet(ctx, working, say)
		}
	}
	if err != nil && ctx.Err() == nil {
		say("%s: its workers could not be quieted: %v; they are stopped all the same", b.Host, err)
		return nil
	}
	return err
}
