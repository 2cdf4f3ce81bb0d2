package cloudtest

import (
	"strconv"
	"time"
)

// Seed is a droplet that is there from the beginning. Where ID is 0 it gets one; Region,
// Size and Image have defaults: tor1, s-2vcpu-4gb and the account's first image.
type Seed struct {
	ID              int
	Name            string
	Region, Size    string
	Image           int
	Public, Private string
	VPC             string
	Tags            []string
	Off             bool
}

// SeedImage is an image that is there from the beginning. Key is what Machines calls it;
// "" is its ID. One with a Slug is the provider's own.
type SeedImage struct {
	ID              int
	Key, Name, Slug string
	Tags            []string
	// Origin is the droplet that it is a snapshot of, 0 if none.
	Origin int
	GiB    float64
	// MinDisk is the least disk of a droplet made from it, in GiB; 0 is 25, and 7 for
	// the provider's own.
	MinDisk int
	Created time.Time
}

// SeedBalancer is a load balancer that is there from the beginning, with the provider's
// health check unless Path or Port says otherwise.
type SeedBalancer struct {
	ID, Name, IP string
	Region       string
	// Tag names its droplets, or Droplets do.
	Tag      string
	Droplets []int
	Port     int
	Path     string
}

// SeedCluster is a database cluster that is there from the beginning. Defaults: pg, 16,
// db-s-1vcpu-2gb, tor1, one node.
type SeedCluster struct {
	ID, Name, Engine, Version, Size, Region string
	Host                                    string
	Port, Nodes                             int
	VPC                                     string
	Tags                                    []string
	// Backups are what there is in memory; another Databases is asked instead.
	Backups []time.Time
}

// SeedVPC is a private network that is there from the beginning.
type SeedVPC struct{ ID, Name, Region, Range string }

// firstID is below all IDs that the account gives.
const firstID = 1000

// seed makes the first state. The lock is held.
func (s *Server) seed() {
	a := &s.state
	a.Last = firstID
	for _, d := range s.conf.Droplets {
		a.Last = max(a.Last, d.ID)
	}
	for _, i := range s.conf.Images {
		a.Last = max(a.Last, i.ID)
	}
	for _, v := range s.conf.VPCs {
		a.VPCs = append(a.VPCs, &vpc{
			ID: or(v.ID, a.uuid), Name: v.Name, Region: word(v.Region, "tor1"), Range: word(v.Range, "10.20.0.0/20"),
			Default: len(a.VPCs) == 0, Created: s.now(),
		})
	}
	images := s.conf.Images
	if len(images) == 0 {
		images = []SeedImage{{Name: "12 x64", Slug: "debian-12-x64", GiB: 1}}
	}
	for _, i := range images {
		a.Images = append(a.Images, s.seedImage(i))
	}
	for _, d := range s.conf.Droplets {
		a.Droplets = append(a.Droplets, s.seedDroplet(d))
	}
	for _, b := range s.conf.Balancers {
		a.Balancers = append(a.Balancers, s.seedBalancer(b))
	}
	for _, c := range s.conf.Clusters {
		a.know(c.Tags)
		a.Clusters = append(a.Clusters, &cluster{
			ID: or(c.ID, a.uuid), Name: c.Name, Engine: word(c.Engine, "pg"), Version: word(c.Version, "16"),
			Size: word(c.Size, "db-s-1vcpu-2gb"), Region: word(c.Region, "tor1"), Status: online, VPC: c.VPC, Tags: c.Tags,
			Host: word(c.Host, c.Name+".db.example"), Port: number(c.Port, 25060), Nodes: number(c.Nodes, 1),
			Storage: 30720, Created: s.now(), Backups: c.Backups, Project: a.uuid(),
		})
	}
}

func (s *Server) seedImage(i SeedImage) *image {
	a := &s.state
	a.know(i.Tags)
	id := number(i.ID, 0)
	if id == 0 {
		id = a.next()
	}
	out := &image{
		ID: id, Key: word(i.Key, strconv.Itoa(id)), Name: i.Name, Slug: i.Slug, Kind: "snapshot", Origin: i.Origin,
		Distribution: "Debian", Regions: []string{"tor1"}, Tags: i.Tags, Bytes: int64(i.GiB * 1e9), MinDisk: number(i.MinDisk, 25), Created: i.Created,
	}
	if out.Created.IsZero() {
		out.Created = s.now()
	}
	if i.Slug != "" {
		out.Kind, out.Regions, out.MinDisk = "base", regionSlugs(), number(i.MinDisk, 7)
	}
	return out
}

func (s *Server) seedDroplet(d Seed) *droplet {
	a := &s.state
	a.know(d.Tags)
	if d.ID == 0 {
		d.ID = a.next()
	}
	out := &droplet{
		ID: d.ID, Name: d.Name, Machine: a.free(d.Name, d.ID), Region: word(d.Region, "tor1"), Size: word(d.Size, "s-2vcpu-4gb"),
		Image: number(d.Image, a.Images[0].ID), VPC: d.VPC, Public: d.Public, Private: d.Private, Tags: d.Tags,
		Status: active, Created: s.now(),
	}
	if d.Off {
		out.Status = "off"
	}
	return out
}

func (s *Server) seedBalancer(b SeedBalancer) *balancer {
	s.state.know(tagsOf(b.Tag))
	out := &balancer{
		ID: or(b.ID, s.state.uuid), Status: active, IP: word(b.IP, "203.0.113.1"), Created: s.now(),
		balancing: balancing{
			Name: b.Name, Region: word(b.Region, "tor1"), Tag: b.Tag, Droplets: b.Droplets,
			Forwarding: []forwarding{{EntryProtocol: "tcp", EntryPort: 443, TargetProtocol: "tcp", TargetPort: 443}},
		},
	}
	out.settle()
	if b.Port != 0 {
		out.Check.Port = &b.Port
	}
	if b.Path != "" {
		out.Check.Path = &b.Path
	}
	return out
}

func or(s string, otherwise func() string) string {
	if s == "" {
		return otherwise()
	}
	return s
}

func word(s, otherwise string) string { return or(s, func() string { return otherwise }) }

func number(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}

func tagsOf(tag string) []string {
	if tag == "" {
		return nil
	}
	return []string{tag}
}

func address(net string, low int) string { return net + strconv.Itoa(low) }
