package cloud

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/digitalocean/godo"
)

func toDroplet(g godo.Droplet) (Droplet, error) {
	d := Droplet{
		ID: g.ID, Name: g.Name, Status: g.Status, Locked: g.Locked, Size: g.SizeSlug, DiskGiB: g.Disk,
		VPC: g.VPCUUID, Tags: g.Tags, Snapshots: g.SnapshotIDs,
	}
	if g.Region != nil {
		d.Region = g.Region.Slug
	}
	if g.Image != nil {
		d.Image = g.Image.ID
	}
	if g.Size != nil {
		d.Monthly = g.Size.PriceMonthly
	}
	var err error
	if d.Created, err = toTime(g.Created); err != nil {
		return d, err
	}
	for kind, at := range map[string]*netip.Addr{"public": &d.Public, "private": &d.Private} {
		if *at, err = v4(g.Networks, kind); err != nil {
			return d, err
		}
	}
	return d, nil
}

// v4 is the first address of that kind; not valid where there is none yet.
func v4(n *godo.Networks, kind string) (netip.Addr, error) {
	if n == nil {
		return netip.Addr{}, nil
	}
	for _, a := range n.V4 {
		if a.Type == kind && a.IPAddress != "" {
			at, err := netip.ParseAddr(a.IPAddress)
			if err != nil {
				return at, fmt.Errorf("%w: %q is no address", errHollow, a.IPAddress)
			}
			return at, nil
		}
	}
	return netip.Addr{}, nil
}

// toTime reads a time; "" is none.
func toTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, fmt.Errorf("%w: %q is no time", errHollow, text)
	}
	return at, nil
}

func toAction(g godo.Action) Action {
	a := Action{ID: g.ID, Type: g.Type, Status: g.Status}
	if g.StartedAt != nil {
		a.Started = g.StartedAt.Time
	}
	if g.CompletedAt != nil {
		a.Completed = g.CompletedAt.Time
	}
	return a
}

func toImage(g godo.Image) (Image, error) {
	at, err := toTime(g.Created)
	return Image{
		ID: g.ID, Name: g.Name, Kind: g.Type, Regions: g.Regions, GiB: g.SizeGigaBytes,
		MinDiskGiB: g.MinDiskSize, Tags: g.Tags, Created: at,
	}, err
}

func toBalancer(g godo.LoadBalancer) Balancer {
	b := Balancer{ID: g.ID, Name: g.Name, Status: g.Status, IP: g.IP, Tag: g.Tag, Droplets: g.DropletIDs}
	if h := g.HealthCheck; h != nil {
		b.Check = HealthCheck{
			Protocol: h.Protocol, Port: h.Port, Path: h.Path,
			Every: time.Duration(h.CheckIntervalSeconds) * time.Second,
			Wait:  time.Duration(h.ResponseTimeoutSeconds) * time.Second,
			Down:  h.UnhealthyThreshold, Up: h.HealthyThreshold,
		}
	}
	return b
}

func toDatabase(g godo.Database) Database {
	d := Database{
		ID: g.ID, Name: g.Name, Engine: g.EngineSlug, Version: g.VersionSlug, Status: g.Status,
		Region: g.RegionSlug, Size: g.SizeSlug, Nodes: g.NumNodes, Tags: g.Tags, Created: g.CreatedAt,
	}
	if p := g.PrivateConnection; p != nil {
		d.Host, d.Port = p.Host, p.Port
	}
	return d
}

func toFirewall(g godo.Firewall) Firewall {
	f := Firewall{ID: g.ID, Name: g.Name, Droplets: g.DropletIDs, Tags: g.Tags}
	for _, r := range g.InboundRules {
		rule := Rule{Protocol: r.Protocol, Ports: allPorts(r.PortRange)}
		if r.Sources != nil {
			rule.Addresses = r.Sources.Addresses
		}
		f.In = append(f.In, rule)
	}
	for _, r := range g.OutboundRules {
		rule := Rule{Protocol: r.Protocol, Ports: allPorts(r.PortRange)}
		if r.Destinations != nil {
			rule.Addresses = r.Destinations.Addresses
		}
		f.Out = append(f.Out, rule)
	}
	return f
}

// allPorts is "all" for "0", which is how the API has it (official description, firewall
// rules).
func allPorts(ports string) string {
	if ports == "0" {
		return "all"
	}
	return ports
}

// zeroPorts is the API's word for "all", and for ICMP, which has none.
func zeroPorts(r Rule) string {
	if r.Ports == "all" || r.Ports == "" || r.Protocol == "icmp" {
		return "0"
	}
	return r.Ports
}

// each converts a list.
func each[G, T any](list []G, to func(G) (T, error)) ([]T, error) {
	out := make([]T, 0, len(list))
	for _, g := range list {
		t, err := to(g)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// sent is a list that goes out as [], since the API refuses null.
func sent[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
