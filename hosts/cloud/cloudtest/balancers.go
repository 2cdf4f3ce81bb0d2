package cloudtest

import (
	"context"
	"net/http"
	"slices"
	"time"
)

// balancing is what a caller may say of a load balancer. What it leaves out has the
// description's default.
type balancing struct {
	Name       string       `json:"name"`
	Project    string       `json:"project_id"`
	SizeUnit   int          `json:"size_unit"`
	Size       string       `json:"size"`
	Algorithm  string       `json:"algorithm"`
	Region     string       `json:"region"`
	Forwarding []forwarding `json:"forwarding_rules"`
	Check      healthCheck  `json:"health_check"`
	Sticky     sticky       `json:"sticky_sessions"`
	Tag        string       `json:"tag"`
	Droplets   []int        `json:"droplet_ids"`
	Redirect   bool         `json:"redirect_http_to_https"`
	Proxied    bool         `json:"enable_proxy_protocol"`
	KeepAlive  bool         `json:"enable_backend_keepalive"`
	Idle       int          `json:"http_idle_timeout_seconds"`
	VPC        string       `json:"vpc_uuid"`
	NoRecords  bool         `json:"disable_lets_encrypt_dns_records"`
	Network    string       `json:"network"`
	Stack      string       `json:"network_stack"`
	Type       string       `json:"type"`
	Cipher     string       `json:"tls_cipher_policy"`
	Firewall   *struct {
		Deny  []string `json:"deny"`
		Allow []string `json:"allow"`
	} `json:"firewall"`
}

type forwarding struct {
	EntryProtocol  string `json:"entry_protocol"`
	EntryPort      int    `json:"entry_port"`
	TargetProtocol string `json:"target_protocol"`
	TargetPort     int    `json:"target_port"`
	Certificate    string `json:"certificate_id,omitempty"`
	Passthrough    bool   `json:"tls_passthrough"`
}

type healthCheck struct {
	Protocol *string `json:"protocol"`
	Port     *int    `json:"port"`
	Path     *string `json:"path"`
	Interval *int    `json:"check_interval_seconds"`
	Timeout  *int    `json:"response_timeout_seconds"`
	Down     *int    `json:"unhealthy_threshold"`
	Up       *int    `json:"healthy_threshold"`
}

type sticky struct {
	Type   string `json:"type,omitempty"`
	Cookie string `json:"cookie_name,omitempty"`
	TTL    int    `json:"cookie_ttl_seconds,omitempty"`
}

type balancer struct {
	ID, Status, IP string
	Created        time.Time
	balancing
}

// settle gives what was left out the description's defaults.
func (b *balancing) settle() {
	put := func(at **int, n int) {
		if *at == nil {
			*at = &n
		}
	}
	text := func(at **string, s string) {
		if *at == nil {
			*at = &s
		}
	}
	c := &b.Check
	text(&c.Protocol, "http")
	text(&c.Path, "/")
	put(&c.Port, 80)
	put(&c.Interval, 10)
	put(&c.Timeout, 5)
	put(&c.Down, 5)
	put(&c.Up, 3)
	b.SizeUnit, b.Idle = number(b.SizeUnit, 1), number(b.Idle, 60)
	b.Size, b.Algorithm = word(b.Size, "lb-small"), word(b.Algorithm, "round_robin")
	b.Network, b.Stack, b.Type = word(b.Network, "EXTERNAL"), word(b.Stack, "IPV4"), word(b.Type, "REGIONAL")
	b.Cipher, b.Sticky.Type = word(b.Cipher, "DEFAULT"), word(b.Sticky.Type, "none")
}

func (a *account) balancer(id string) *balancer {
	return find(a.Balancers, func(b *balancer) bool { return b.ID == id })
}

// balanced are the droplets behind a balancer now.
func (s *Server) balanced(b *balancer) []int {
	if b.Tag == "" {
		return list(b.Droplets)
	}
	return each(only(s.state.Droplets, func(d *droplet) bool { return slices.Contains(d.Tags, b.Tag) }), func(d *droplet) int { return d.ID })
}

func (s *Server) balancerJSON(b *balancer) object {
	out := object{
		"id": b.ID, "name": b.Name, "ip": b.IP, "size_unit": b.SizeUnit, "size": b.Size, "algorithm": b.Algorithm, "status": b.Status,
		"created_at": date(b.Created), "forwarding_rules": b.Forwarding, "health_check": b.Check, "sticky_sessions": b.Sticky,
		"region": regionJSON(b.Region), "tag": b.Tag, "droplet_ids": s.balanced(b), "redirect_http_to_https": b.Redirect,
		"enable_proxy_protocol": b.Proxied, "enable_backend_keepalive": b.KeepAlive, "http_idle_timeout_seconds": b.Idle,
		"disable_lets_encrypt_dns_records": b.NoRecords, "network": b.Network, "network_stack": b.Stack, "type": b.Type,
		"tls_cipher_policy": b.Cipher, "project_id": b.Project,
	}
	if b.VPC != "" {
		out["vpc_uuid"] = b.VPC
	}
	if b.Firewall != nil {
		out["firewall"] = object{"deny": list(b.Firewall.Deny), "allow": list(b.Firewall.Allow)}
	}
	return out
}

func (s *Server) listBalancers(x *exchange) {
	page(x, "load_balancers", s.state.Balancers, s.balancerJSON)
}

// balancer is the one that the path names; nil where the refusal is written.
func (s *Server) balancer(x *exchange) *balancer {
	b := s.state.balancer(x.r.PathValue("id"))
	if b == nil {
		x.notFound()
	}
	return b
}

func (s *Server) getBalancer(x *exchange) {
	if b := s.balancer(x); b != nil {
		x.json(http.StatusOK, object{"load_balancer": s.balancerJSON(b)})
	}
}

// wanted reads a balancer's body; on false the refusal is written.
func (s *Server) wanted(x *exchange) (balancing, bool) {
	var w balancing
	if !x.read(&w) {
		return w, false
	}
	in := func(s string, of ...string) bool { return s == "" || slices.Contains(of, s) }
	why := ""
	switch {
	case w.Name == "":
		why = "Load Balancer name can't be blank"
	case !slices.Contains(regionSlugs(), w.Region):
		why = "Region is invalid"
	case len(w.Forwarding) == 0:
		why = "Forwarding rules can't be blank"
	case w.Tag != "" && w.Droplets != nil:
		why = "droplet_ids and tag exclude each other"
	case w.Tag != "" && !tagForm.MatchString(w.Tag):
		why = "tag is none"
	case w.Idle != 0 && (w.Idle < 30 || w.Idle > 600):
		why = "http_idle_timeout_seconds is not from 30 to 600"
	case !in(w.Algorithm, "round_robin", "least_connections"), !in(w.Size, "lb-small", "lb-medium", "lb-large"),
		!in(w.Network, "EXTERNAL", "INTERNAL"), !in(w.Stack, "IPV4", "DUALSTACK"), !in(w.Cipher, "DEFAULT", "STRONG"),
		!in(w.Type, "REGIONAL", "REGIONAL_NETWORK", "GLOBAL"), !in(w.Sticky.Type, "none", "cookies"), w.SizeUnit < 0 || w.SizeUnit > 100:
		why = "a word or number that the description does not allow there"
	case w.VPC != "" && s.state.vpc(w.VPC) == nil:
		why = "the VPC does not exist"
	}
	for _, f := range w.Forwarding {
		if !slices.Contains([]string{"http", "https", "http2", "http3", "tcp", "udp"}, f.EntryProtocol) || f.EntryPort < 1 || f.TargetPort < 1 ||
			!slices.Contains([]string{"http", "https", "http2", "tcp", "udp"}, f.TargetProtocol) {
			why = "a forwarding rule lacks a protocol or port"
		}
	}
	if p := w.Check.Protocol; p != nil && (*p == "" || !in(*p, "http", "https", "tcp")) {
		why = "the health check's protocol is none"
	}
	for _, id := range w.Droplets {
		if s.state.droplet(id) == nil {
			why = "a droplet does not exist"
		}
	}
	w.settle()
	return w, why == "" || x.unfit(why)
}

func (s *Server) createBalancer(x *exchange) {
	w, ok := s.wanted(x)
	if !ok {
		return
	}
	if find(s.state.Balancers, func(b *balancer) bool { return b.Name == w.Name }) != nil {
		x.unfit("Load Balancer name must be unique")
		return
	}
	s.state.know(tagsOf(w.Tag))
	b := &balancer{ID: s.state.uuid(), Status: "new", Created: s.now(), balancing: w}
	s.state.Balancers = append(s.state.Balancers, b)
	low := 2 + len(s.state.Balancers)
	s.behind(func(ctx context.Context) {
		s.sleep(ctx, s.conf.Pace)
		s.change(func() { b.Status, b.IP = active, address("198.51.100.", low) })
	})
	x.json(http.StatusAccepted, object{"load_balancer": s.balancerJSON(b)})
}

// putBalancer replaces all that a caller says of it, as the description has it: what is
// left out gets its default again.
func (s *Server) putBalancer(x *exchange) {
	b := s.balancer(x)
	if b == nil {
		return
	}
	if w, ok := s.wanted(x); ok {
		s.state.know(tagsOf(w.Tag))
		b.balancing = w
		x.json(http.StatusOK, object{"load_balancer": s.balancerJSON(b)})
	}
}

func (s *Server) deleteBalancer(x *exchange) {
	if b := s.balancer(x); b != nil {
		s.state.Balancers = slices.DeleteFunc(s.state.Balancers, func(o *balancer) bool { return o == b })
		x.done()
	}
}

// ids reads a body of droplets; on false the refusal is written.
func (s *Server) ids(x *exchange) ([]int, bool) {
	var w struct {
		Droplets []int `json:"droplet_ids"`
	}
	if !x.read(&w) {
		return nil, false
	}
	if len(w.Droplets) == 0 {
		return nil, x.unfit("droplet_ids is missing or empty")
	}
	for _, id := range w.Droplets {
		if s.state.droplet(id) == nil {
			x.notFound()
			return nil, false
		}
	}
	return w.Droplets, true
}

func (s *Server) addBalanced(x *exchange)    { s.rebalance(x, join) }
func (s *Server) removeBalanced(x *exchange) { s.rebalance(x, leave) }

// rebalance changes which droplets are behind a balancer; one that has them by tag
// refuses (official description).
func (s *Server) rebalance(x *exchange, change func(have, ids []int) []int) {
	b := s.balancer(x)
	if b == nil {
		return
	}
	ids, ok := s.ids(x)
	switch {
	case !ok:
	case b.Tag != "":
		x.unfit("droplets cannot be added to or removed from a load balancer that has them by tag")
	default:
		b.Droplets = change(b.Droplets, ids)
		x.done()
	}
}

func join(have, ids []int) []int {
	out := slices.Clone(have)
	for _, id := range ids {
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

func leave(have, ids []int) []int {
	return only(have, func(id int) bool { return !slices.Contains(ids, id) })
}
