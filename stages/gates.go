package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// Gates by role. A gate asks the node itself, past balancer and proxies:
// /health proves only that Puma booted, and the instance API is cached in Redis
// for the whole fleet (mastodon-web's cache_concern), so neither says which code
// a node runs.

// serves asks a web node whether it serves the release: the version in its page,
// the files that the page names, a database read, its streaming servers and an
// event delivered on a websocket. A node whose processes do not listen yet waits
// that long for them.
func (d Deps) serves(ctx context.Context, n Node, release string, boot time.Duration) error {
	return d.probe(ctx, n, release, boot, mastodon.AllChecks())
}

// Answers asks a web node whether it serves any release well enough that its
// peer may be taken out.
func (d Deps) Answers(ctx context.Context, n Node) error {
	return d.probe(ctx, n, "", 0, []mastodon.CheckName{
		mastodon.CheckHealth, mastodon.CheckPage, mastodon.CheckPacks, mastodon.CheckDatabase, mastodon.CheckStreaming,
	})
}

func (d Deps) probe(ctx context.Context, n Node, release string, boot time.Duration, checks []mastodon.CheckName) error {
	var errs []error
	for i, port := range n.Streaming {
		wanted := checks
		if i > 0 {
			wanted = []mastodon.CheckName{mastodon.CheckStreaming, mastodon.CheckEvent}
		}
		in := d.probeIn(n, port, release, wanted)
		in.Boot = boot
		p, err := mastodon.RunProbe(ctx, n.Agent, in)
		if err != nil {
			return err
		}
		errs = append(errs, p.Err())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s: %w", n.Name, err)
	}
	return nil
}

func (d Deps) probeIn(n Node, streaming int, release string, checks []mastodon.CheckName) mastodon.ProbeIn {
	return mastodon.ProbeIn{
		Layout: d.Layout, Domain: d.Domain, Address: n.Address, WebPort: n.Port, StreamingPort: streaming,
		Checks: checks, Release: release, TokenFile: d.ProbeToken,
	}
}

// runsOnly asks a node whether its units run, and run the release.
func (d Deps) runsOnly(ctx context.Context, n Node, release string) error {
	out, err := n.Agent.Units(ctx, node.UnitsIn{Op: node.ShowUnits, Units: n.Units(), Home: d.Layout.Home}, nil)
	if err != nil {
		return err
	}
	var faults []string
	for _, u := range out.Units {
		switch {
		case !u.Running():
			faults = append(faults, fmt.Sprintf("%s is %s (%s)", u.Name, u.Active, u.Result))
		case u.Release != release:
			faults = append(faults, fmt.Sprintf("%s runs %s", u.Name, orUnknown(u.Release)))
		}
	}
	if len(faults) > 0 {
		return fmt.Errorf("%s does not run %s: %s", n.Name, release, strings.Join(faults, "; "))
	}
	return nil
}

// sidekiq reads the state of all workers through any node that reaches Redis.
func (d Deps) sidekiq(ctx context.Context, in mastodon.SidekiqIn) (mastodon.SidekiqState, error) {
	in.Layout = d.Layout
	var errs []error
	for _, n := range append(d.sidekiqs(), d.webs()...) {
		s, err := mastodon.ReadSidekiq(ctx, n.Agent, in)
		if err == nil {
			// A live process beats every ten seconds; the record of a killed one stays for a minute.
			s.Processes = slices.DeleteFunc(s.Processes, func(p mastodon.Process) bool { return s.Age(p) > 2*mastodon.MaxBeat })
			return s, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return mastodon.SidekiqState{}, fmt.Errorf("no node could ask Redis about Sidekiq: %w", errors.Join(errs...))
}

// served tells whether the nodes' workers together serve the queues, each process
// fresh and not quiet.
func (d Deps) served(ctx context.Context, by Fleet, queues []string) error {
	now, err := d.sidekiq(ctx, mastodon.SidekiqIn{})
	if err != nil {
		return err
	}
	hosts := map[string]bool{}
	for _, n := range by {
		hosts[n.Name] = true
	}
	var here []mastodon.Process
	for _, p := range now.Processes {
		if hosts[p.Hostname] {
			here = append(here, p)
		}
	}
	now.Processes = here
	if missing := mastodon.Unserved(now, queues); len(missing) > 0 {
		return fmt.Errorf("%s would be left without a worker on %s", strings.Join(missing, ", "), strings.Join(names(by), ", "))
	}
	return nil
}

// why adds what the units' journals say to the error of a gate, so that the report
// names the cause and not only that waiting was in vain.
func (d Deps) why(ctx context.Context, n Node, since time.Time, err error) error {
	if err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	for _, u := range n.Units() {
		out, jerr := n.Agent.Journal(ctx, node.JournalIn{Unit: u, Since: since, Lines: 200})
		if jerr != nil {
			err = fmt.Errorf("%w (and the journal of %s on %s cannot be read: %w)", err, u, n.Name, jerr)
			continue
		}
		if lines := mastodon.LinesThatMatter(out.Lines, 12); len(lines) > 0 {
			err = &pipeline.Evidence{Err: err, From: u + " on " + n.Name, Lines: lines}
		}
	}
	return err
}

func orUnknown(s string) string {
	if s == "" {
		return "no known release"
	}
	return s
}

// gate fills what all gates on a node have in common. They are asked twice in a
// second: while they wait a node is out of rotation, and its processes boot, whose
// processor each question takes a little of.
func (d Deps) gate(name string, hold time.Duration, probe func(context.Context) error) pipeline.Gate {
	return pipeline.Gate{Name: name, Probe: probe, Every: 500 * time.Millisecond, Within: d.Waits.Boot, Each: 30 * time.Second, Hold: hold}
}
