package stages

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// shutIn takes from a copy whatever leads to the fleet or lets anything out, and proves
// that nothing gets out. Before this no process of Mastodon's can start there: it has no permit.
type shutIn struct{ oneCopy }

func (s shutIn) Name() string { return "shut in " + s.host }

func (shutIn) Check(context.Context, pipeline.Say) error { return nil }

func (s shutIn) Run(ctx context.Context, say pipeline.Say) error {
	w := s.birthOf(s.b(), "")
	n := w.node("")
	if err := w.fence(ctx, n); err != nil {
		return err
	}
	if err := s.outside(ctx, n, say); err != nil {
		return err
	}
	in, err := s.settings(ctx)
	if err != nil {
		return err
	}
	out, err := n.Agent.Rehearse(ctx, in)
	if err != nil {
		return err
	}
	say("%s: taken from its settings: %s; it uses %s and %s", n.Name, orNone(out.Dropped), s.r().Fork.Name, s.r().Valkey.Name)
	if len(out.Tunnels) > 0 {
		say("%s: tunnels stopped for good: %s", n.Name, strings.Join(out.Tunnels, ", "))
	}
	return s.proveShut(ctx, n, say)
}

// outside writes down where the copy's settings lead to, once: after they are rewritten
// nobody knows.
func (s shutIn) outside(ctx context.Context, n Node, say pipeline.Say) error {
	r := s.r()
	if r.Outside[n.Name] != nil {
		return nil
	}
	found, err := mastodon.ReadOutside(ctx, n.Agent, mastodon.OutsideIn{Layout: s.d.Layout})
	if err != nil {
		return err
	}
	if r.Name == "" {
		r.Name, r.User = found.Name, found.User
		if d := s.d.Direct; d.Name != "" {
			r.Name = d.Name
		}
		if d := s.d.Direct; d.User != "" {
			r.User = d.User
		}
	}
	must := map[string]bool{}
	all := slices.Concat(found.Addresses, s.d.Rehearsals.Closed, []string{net.JoinHostPort(s.d.Domain, "443")})
	if s.d.Direct.Host != "" {
		all = append(all, net.JoinHostPort(s.d.Direct.Host, strconv.Itoa(s.d.Direct.Port)))
	}
	// The fleet's hosts answer on that port, or refit would not reach them: that they do
	// not answer here says something.
	for _, h := range s.d.Fleet {
		all = append(all, net.JoinHostPort(h.Address, "22"))
	}
	for _, a := range all {
		host, port, err := net.SplitHostPort(a)
		if err != nil {
			return fmt.Errorf("cannot try %q: %w", a, err)
		}
		at, err := s.resolve(ctx, host)
		if err != nil {
			say("%s: %s is not tried: %v", n.Name, a, err)
			continue
		}
		if !at.IsLoopback() {
			must[netip.AddrPortFrom(at, portNumber(port)).String()] = true
		}
	}
	for _, c := range []Copied{r.Fork, r.Valkey} {
		if must[c.at()] {
			return fmt.Errorf("the fleet itself uses %s, which was to be this rehearsal's %s: nothing is done with it", c.at(), c.Name)
		}
	}
	if r.Outside == nil {
		r.Outside = map[string][]string{}
	}
	r.Outside[n.Name] = slices.Sorted(maps.Keys(must))
	return pipeline.Remember(ctx)
}

func portNumber(text string) uint16 {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}

// at is where a copy of the data answers.
func (c Copied) at() string { return net.JoinHostPort(c.Address, strconv.Itoa(c.Port)) }

// settings are those that a copy gets. The password is the new Redis's own, and goes to
// the copy alone.
func (s shutIn) settings(ctx context.Context) (node.RehearseIn, error) {
	r := s.r()
	login, err := s.d.Rehearsals.API.Login(ctx, r.Valkey.ID)
	if err != nil {
		return node.RehearseIn{}, fmt.Errorf("%w%s", err, cloudRemedy(err))
	}
	to := &url.URL{Scheme: orWhy(login.TLS, "rediss", "redis"), User: url.UserPassword(login.User, login.Password), Host: net.JoinHostPort(r.Valkey.Host, strconv.Itoa(r.Valkey.Port)), Path: "/0"}
	in := mastodon.RehearsalEnv(s.d.Layout, mastodon.Direct{Host: r.Fork.Host, Port: r.Fork.Port, Name: r.Name, User: r.User}, to)
	in.Instance, in.Hosts = strconv.Itoa(s.b().Droplet), map[string]string{}
	for _, c := range []Copied{r.Fork, r.Valkey} {
		if c.Host != c.Address {
			in.Hosts[c.Host] = c.Address
		}
	}
	return in, nil
}

// proveShut is nil when a copy reaches its own database and Redis and none of what it must not.
func (s rehearsing) proveShut(ctx context.Context, n Node, say pipeline.Say) error {
	r := s.r()
	within, closed := []string{r.Fork.at(), r.Valkey.at()}, r.Outside[n.Name]
	if len(closed) == 0 {
		return fmt.Errorf("%s: there is no address to prove by that nothing gets out", n.Name)
	}
	g := s.d.gate(n.Name+" reaches its own database and Redis, and nothing else", 0, func(ctx context.Context) error {
		out, err := n.Agent.Egress(ctx, node.EgressIn{Addresses: slices.Concat(within, closed)})
		if err != nil {
			return err
		}
		for _, a := range closed {
			if how, ok := out.Reached[a]; ok {
				return pipeline.Never(fmt.Errorf("%s reaches %s (%s): it is not shut in, so nothing is started there", n.Name, a, how))
			}
			if _, ok := out.Unreached[a]; !ok {
				return pipeline.Never(fmt.Errorf("%s did not try %s", n.Name, a))
			}
		}
		for _, a := range within {
			if how, ok := out.Reached[a]; how != "connected" {
				return fmt.Errorf("%s does not reach %s: %s", n.Name, a, orWhy(ok, how, out.Unreached[a]))
			}
		}
		return nil
	})
	g.Every = 5 * time.Second
	if err := pipeline.Await(ctx, g, say); err != nil {
		return err
	}
	line := fmt.Sprintf("%s is shut in: tried and not reached are %s", n.Name, strings.Join(closed, ", "))
	say("%s", line)
	s.passed(line)
	return nil
}

// passed notes a gate, once.
func (s rehearsing) passed(line string) {
	if m := &s.r().Measured; !slices.Contains(m.Gates, line) {
		m.Gates = append(m.Gates, line)
	}
}

// Undo has nothing to take back: the machine is destroyed.
func (shutIn) Undo(context.Context, pipeline.Say) error { return nil }
