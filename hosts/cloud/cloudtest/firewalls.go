package cloudtest

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// peers are the other ends of a rule.
type peers struct {
	Addresses []string `json:"addresses,omitempty"`
	Droplets  []int    `json:"droplet_ids,omitempty"`
	Balancers []string `json:"load_balancer_uids,omitempty"`
	Clusters  []string `json:"kubernetes_ids,omitempty"`
	Tags      []string `json:"tags,omitempty"`
}

type wayIn struct {
	Protocol string `json:"protocol"`
	Ports    string `json:"ports"`
	From     *peers `json:"sources"`
}

type wayOut struct {
	Protocol string `json:"protocol"`
	Ports    string `json:"ports"`
	To       *peers `json:"destinations"`
}

// walling is what a caller may say of a firewall.
type walling struct {
	Name     string   `json:"name"`
	Droplets []int    `json:"droplet_ids"`
	Tags     []string `json:"tags"`
	In       []wayIn  `json:"inbound_rules"`
	Out      []wayOut `json:"outbound_rules"`
}

type firewall struct {
	ID, Status string
	Created    time.Time
	walling
}

func (s *Server) firewallJSON(f *firewall) object {
	waiting := []object{}
	if f.Status == "waiting" {
		for _, d := range s.state.Droplets {
			if f.on(d) {
				waiting = append(waiting, object{"droplet_id": d.ID, "removing": false, "status": "waiting"})
			}
		}
	}
	return object{
		"id": f.ID, "status": f.Status, "created_at": date(f.Created), "pending_changes": waiting, "name": f.Name,
		"droplet_ids": list(f.Droplets), "tags": list(f.Tags), "inbound_rules": list(f.In), "outbound_rules": list(f.Out),
	}
}

// on tells whether a firewall is put on a droplet.
func (f *firewall) on(d *droplet) bool {
	return slices.Contains(f.Droplets, d.ID) || slices.ContainsFunc(f.Tags, func(t string) bool { return slices.Contains(d.Tags, t) })
}

// walled tells whether a droplet has a firewall.
func (s *Server) walled(d *droplet) bool {
	return slices.ContainsFunc(s.state.Firewalls, func(f *firewall) bool { return f.on(d) })
}

// rules are all that a droplet's firewalls let through now.
func (s *Server) rules(d *droplet) []Rule {
	out := []Rule{}
	for _, f := range s.state.Firewalls {
		if !f.on(d) {
			continue
		}
		for _, r := range f.In {
			out = append(out, Rule{In: true, Protocol: r.Protocol, Ports: r.Ports, Addresses: s.addresses(r.From)})
		}
		for _, r := range f.Out {
			out = append(out, Rule{Protocol: r.Protocol, Ports: r.Ports, Addresses: s.addresses(r.To)})
		}
	}
	return out
}

// addresses are those of a rule's other ends now.
func (s *Server) addresses(p *peers) []string {
	out := []string{}
	for _, a := range p.Addresses {
		if one, err := netip.ParseAddr(a); err == nil {
			a = netip.PrefixFrom(one, one.BitLen()).String()
		}
		out = append(out, a)
	}
	for _, d := range s.state.Droplets {
		if slices.Contains(p.Droplets, d.ID) || slices.ContainsFunc(p.Tags, func(t string) bool { return slices.Contains(d.Tags, t) }) {
			for _, ip := range []string{d.Public, d.Private} {
				if ip != "" {
					out = append(out, ip+"/32")
				}
			}
		}
	}
	for _, b := range s.state.Balancers {
		if slices.Contains(p.Balancers, b.ID) && b.IP != "" {
			out = append(out, b.IP+"/32")
		}
	}
	return out
}

// fence puts on a droplet's machine what its firewalls say now. The lock is not held.
func (s *Server) fence(ctx context.Context, d *droplet) error {
	s.fences <- struct{}{}
	defer func() { <-s.fences }()
	s.mu.Lock()
	on, rules, machine := s.walled(d), s.rules(d), d.Machine
	s.mu.Unlock()
	if !on {
		return nil
	}
	return s.conf.Machines.Fence(ctx, machine, rules, true)
}

// refence puts all firewalls on all machines again, behind the answer; machines that have
// none any more are told so. The lock is held.
func (s *Server) refence(were ...*droplet) {
	if len(s.state.Firewalls) == 0 && len(were) == 0 {
		return
	}
	for _, f := range s.state.Firewalls {
		f.Status = "waiting"
	}
	s.behind(func(ctx context.Context) {
		s.fences <- struct{}{}
		defer func() { <-s.fences }()
		s.mu.Lock()
		type wall struct {
			machine string
			rules   []Rule
			on      bool
		}
		var all []wall
		for _, d := range s.state.Droplets {
			if on := s.walled(d); on || slices.Contains(were, d) {
				all = append(all, wall{d.Machine, s.rules(d), on})
			}
		}
		firewalls := slices.Clone(s.state.Firewalls)
		s.mu.Unlock()
		status := "succeeded"
		for _, w := range all {
			if !w.on {
				w.rules = nil
			}
			if err := s.conf.Machines.Fence(ctx, w.machine, w.rules, w.on); err != nil {
				status = "failed"
				s.change(func() { s.fault("the firewalls of %s were not set: %v", w.machine, err) })
			}
		}
		s.change(func() {
			for _, f := range firewalls {
				f.Status = status
			}
		})
	})
}

// behindWalls are the droplets that have a firewall now.
func (s *Server) behindWalls() []*droplet { return only(s.state.Droplets, s.walled) }

func (s *Server) listFirewalls(x *exchange) {
	page(x, "firewalls", s.state.Firewalls, s.firewallJSON)
}

func (s *Server) listFirewallsOf(x *exchange) {
	if d := s.droplet(x); d != nil {
		page(x, "firewalls", only(s.state.Firewalls, func(f *firewall) bool { return f.on(d) }), s.firewallJSON)
	}
}

// firewall is the one that the path names; nil where the refusal is written.
func (s *Server) firewall(x *exchange) *firewall {
	f := find(s.state.Firewalls, func(f *firewall) bool { return f.ID == x.r.PathValue("id") })
	if f == nil {
		x.notFound()
	}
	return f
}

func (s *Server) getFirewall(x *exchange) {
	if f := s.firewall(x); f != nil {
		x.json(http.StatusOK, object{"firewall": s.firewallJSON(f)})
	}
}

// ported tells whether a rule's ports are as the description has them.
func ported(protocol, ports string) bool {
	if protocol == "icmp" {
		return ports == "" || ports == "0" || ports == "all"
	}
	if protocol != "tcp" && protocol != "udp" {
		return false
	}
	if ports == "all" || ports == "0" {
		return true
	}
	low, high, ranged := strings.Cut(ports, "-")
	a, err1 := strconv.ParseUint(low, 10, 16)
	b, err2 := a, error(nil)
	if ranged {
		b, err2 = strconv.ParseUint(high, 10, 16)
	}
	return err1 == nil && err2 == nil && a > 0 && a <= b
}

// unfit tells why a rule's other ends cannot be, "" where they can.
func (s *Server) unfit(p *peers) string {
	if p == nil || len(p.Addresses)+len(p.Droplets)+len(p.Balancers)+len(p.Clusters)+len(p.Tags) == 0 {
		return "a rule has no sources or destinations"
	}
	for _, a := range p.Addresses {
		_, err1 := netip.ParsePrefix(a)
		_, err2 := netip.ParseAddr(a)
		if err1 != nil && err2 != nil {
			return "a rule has an address that is none"
		}
	}
	for _, id := range p.Droplets {
		if s.state.droplet(id) == nil {
			return "a rule's droplet does not exist"
		}
	}
	for _, id := range p.Balancers {
		if s.state.balancer(id) == nil {
			return "a rule's load balancer does not exist"
		}
	}
	return s.untagged(p.Tags)
}

// untagged tells of a tag that there is not. A firewall creates none.
func (s *Server) untagged(tags []string) string {
	for _, t := range tags {
		if !slices.Contains(s.state.Tags, t) {
			return "the tag " + strconv.Quote(t) + " does not exist"
		}
	}
	return ""
}

// walls reads a firewall's body; on false the refusal is written.
func (s *Server) walls(x *exchange, own *firewall) (walling, bool) {
	var w walling
	if !x.read(&w, "droplet_ids", "tags", "inbound_rules", "outbound_rules") {
		return w, false
	}
	why := s.untagged(w.Tags)
	switch {
	case !wallForm.MatchString(w.Name):
		why = "name is not of letters, digits, dots and dashes"
	case slices.ContainsFunc(s.state.Firewalls, func(f *firewall) bool { return f.Name == w.Name && f != own }):
		why = "duplicate name"
	case len(w.In)+len(w.Out) == 0:
		why = "a firewall needs a rule"
	}
	for _, id := range w.Droplets {
		if s.state.droplet(id) == nil {
			why = "a droplet does not exist"
		}
	}
	for _, r := range w.In {
		if !ported(r.Protocol, r.Ports) {
			why = "a rule's protocol or ports are none"
		} else if bad := s.unfit(r.From); bad != "" {
			why = bad
		}
	}
	for _, r := range w.Out {
		if !ported(r.Protocol, r.Ports) {
			why = "a rule's protocol or ports are none"
		} else if bad := s.unfit(r.To); bad != "" {
			why = bad
		}
	}
	return w, why == "" || x.unfit(why)
}

func (s *Server) createFirewall(x *exchange) {
	if w, ok := s.walls(x, nil); ok {
		f := &firewall{ID: s.state.uuid(), Status: "waiting", Created: s.now(), walling: w}
		s.state.Firewalls = append(s.state.Firewalls, f)
		s.refence()
		x.json(http.StatusAccepted, object{"firewall": s.firewallJSON(f)})
	}
}
