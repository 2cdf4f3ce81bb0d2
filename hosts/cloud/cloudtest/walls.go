package cloudtest

import (
	"net/http"
	"net/netip"
	"slices"
)

func (s *Server) putFirewall(x *exchange) {
	f := s.firewall(x)
	if f == nil {
		return
	}
	if w, ok := s.walls(x, f); ok {
		s.rewall(func() { f.walling = w })
		x.json(http.StatusOK, object{"firewall": s.firewallJSON(f)})
	}
}

// rewall changes firewalls, and lets the machines that had one before know.
func (s *Server) rewall(change func()) {
	were := s.behindWalls()
	change()
	s.refence(were...)
}

func (s *Server) deleteFirewall(x *exchange) {
	if f := s.firewall(x); f != nil {
		s.rewall(func() {
			s.state.Firewalls = slices.DeleteFunc(s.state.Firewalls, func(o *firewall) bool { return o == f })
		})
		x.done()
	}
}

func (s *Server) addFenced(x *exchange)    { s.refenced(x, join) }
func (s *Server) removeFenced(x *exchange) { s.refenced(x, leave) }

func (s *Server) refenced(x *exchange, change func(have, ids []int) []int) {
	f := s.firewall(x)
	if f == nil {
		return
	}
	if ids, ok := s.ids(x); ok {
		s.rewall(func() { f.Droplets = change(f.Droplets, ids) })
		x.done()
	}
}

func (s *Server) addFencedTags(x *exchange)    { s.refencedTags(x, with) }
func (s *Server) removeFencedTags(x *exchange) { s.refencedTags(x, without) }

func (s *Server) refencedTags(x *exchange, change func([]string, string) []string) {
	f := s.firewall(x)
	var w struct {
		Tags []string `json:"tags"`
	}
	if f == nil || !x.read(&w) {
		return
	}
	if why := s.untagged(w.Tags); why != "" || len(w.Tags) == 0 {
		x.unfit(word(why, "tags is missing or empty"))
		return
	}
	s.rewall(func() {
		for _, t := range w.Tags {
			f.Tags = change(f.Tags, t)
		}
	})
	x.done()
}

func vpcJSON(v *vpc) object {
	return object{
		"id": v.ID, "urn": "do:vpc:" + v.ID, "name": v.Name, "description": v.About, "region": v.Region, "ip_range": v.Range,
		"default": v.Default, "created_at": date(v.Created),
	}
}

func (s *Server) listVPCs(x *exchange) { page(x, "vpcs", s.state.VPCs, vpcJSON) }

// vpc is the one that the path names; nil where the refusal is written.
func (s *Server) vpc(x *exchange) *vpc {
	v := s.state.vpc(x.r.PathValue("id"))
	if v == nil {
		x.notFound()
	}
	return v
}

func (s *Server) getVPC(x *exchange) {
	if v := s.vpc(x); v != nil {
		x.json(http.StatusOK, object{"vpc": vpcJSON(v)})
	}
}

func (s *Server) createVPC(x *exchange) {
	var w struct {
		Name   string `json:"name"`
		About  string `json:"description"`
		Region string `json:"region"`
		Range  string `json:"ip_range"`
	}
	if !x.read(&w) {
		return
	}
	w.Range = word(w.Range, "10.116.0.0/20")
	wanted, err := netip.ParsePrefix(w.Range)
	switch {
	case !netForm.MatchString(w.Name) || len(w.About) > 255:
		x.unfit("name is not of letters, digits, dots and dashes, or the description is too long")
	case find(s.state.VPCs, func(v *vpc) bool { return v.Name == w.Name }) != nil:
		x.unfit("a VPC of that name is there")
	case !slices.Contains(regionSlugs(), w.Region):
		x.unfit("invalid region")
	case err != nil || !wanted.Addr().IsPrivate() || wanted.Bits() < 16 || wanted.Bits() > 28:
		x.unfit("ip_range is no private network from /16 to /28")
	case slices.ContainsFunc(s.state.VPCs, func(v *vpc) bool {
		p, err := netip.ParsePrefix(v.Range)
		return err == nil && p.Overlaps(wanted)
	}):
		x.unfit("this range overlaps with another VPC network in your account")
	default:
		v := &vpc{ID: s.state.uuid(), Name: w.Name, About: w.About, Region: w.Region, Range: w.Range, Created: s.now()}
		s.state.VPCs = append(s.state.VPCs, v)
		x.json(http.StatusCreated, object{"vpc": vpcJSON(v)})
	}
}

func (s *Server) deleteVPC(x *exchange) {
	v := s.vpc(x)
	switch {
	case v == nil:
	case v.Default:
		x.fail(http.StatusForbidden, "forbidden", "Can not delete default VPCs")
	case find(s.state.Droplets, func(d *droplet) bool { return d.VPC == v.ID }) != nil,
		find(s.state.Clusters, func(c *cluster) bool { return c.VPC == v.ID }) != nil:
		x.fail(http.StatusForbidden, "forbidden", "Can not delete VPC with members")
	default:
		s.state.VPCs = slices.DeleteFunc(s.state.VPCs, func(o *vpc) bool { return o == v })
		x.done()
	}
}
