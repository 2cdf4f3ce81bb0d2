package drift

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/node"
)

// tiers are the nodes that do the same, at least two each. Who keeps the lease may be any.
func tiers(all []Node) [][]Node {
	by := map[string][]Node{}
	var order []string
	for _, n := range all {
		var roles []string
		for _, r := range n.Roles {
			if r != hosts.Keeper {
				roles = append(roles, string(r))
			}
		}
		if len(roles) == 0 {
			continue
		}
		slices.Sort(roles)
		key := strings.Join(roles, " ")
		if by[key] == nil {
			order = append(order, key)
		}
		by[key] = append(by[key], n)
	}
	var out [][]Node
	for _, key := range order {
		if len(by[key]) > 1 {
			out = append(out, by[key])
		}
	}
	return out
}

// values are what a node has of one kind, by name; false where it is not known.
type values func(Node) (map[string]string, bool)

// aspect is one kind of thing in which peers are alike.
type aspect struct {
	kind Kind
	of   values
	// hidden: values are hashes, and say nothing to a person.
	hidden bool
	// own: a node need not have what another has.
	own    bool
	remedy string
}

var aspects = []aspect{
	{kind: Unit, of: services, remedy: "bring them together: systemctl status %s on both says what differs"},
	{kind: Unit, of: shapes, own: true, remedy: "bring them together: systemctl cat %s on both says what differs"},
	{kind: Env, of: settings, hidden: true, remedy: "compare %s in the environment files by hand, and mend the one that is wrong"},
	{kind: Package, of: packages, remedy: "bring %s to one version on all of them"},
	{kind: Listening, of: ports, remedy: "find out which program listens there (ss -lntup), and who started it"},
	{kind: Firewall, of: rules, remedy: "bring the rules together: one of the hosts may be open"},
}

// tier holds nodes that do the same against each other.
func (c *comparison) tier(tier []Node) {
	for _, a := range aspects {
		c.hold(a, tier, nil)
	}
}

// everywhere holds all nodes that run Mastodon against each other, in what must be the same.
func (c *comparison) everywhere() {
	var apps []Node
	for _, n := range c.known {
		if slices.Contains(n.Roles, hosts.Web) || slices.Contains(n.Roles, hosts.Sidekiq) {
			apps = append(apps, n)
		}
	}
	for _, a := range aspects {
		if a.kind == Env {
			c.hold(a, apps, c.fleet.Same)
		}
	}
}

// hold compares one aspect of peers; names are those that are meant, nil for all.
func (c *comparison) hold(a aspect, peers []Node, names []string) {
	all := map[string]map[string]string{} // by host
	union := map[string]bool{}
	var known []Node
	for _, n := range peers {
		v, ok := a.of(n)
		if !ok {
			continue // it was said that it is not known
		}
		known = append(known, n)
		all[n.Name] = v
		for k := range v {
			union[k] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(union)) {
		if names != nil && !slices.Contains(names, name) {
			continue
		}
		by := map[string][]string{}
		for _, n := range known {
			v, has := all[n.Name][name]
			if a.own && !has || c.told(a.kind, n.Name, name) {
				continue
			}
			by[v] = append(by[v], n.Name)
		}
		if len(by) > 1 {
			c.differs(a, name, by, c.usual(a, name, by))
		}
	}
}

// usual is the value that most have: of the peers, else of the whole fleet, which decides
// between two. There may be none.
func (c *comparison) usual(a aspect, name string, by map[string][]string) (value *string) {
	count := map[string]int{}
	for v, hosts := range by {
		count[v] = len(hosts)
	}
	if v := most(count); v != nil {
		return v
	}
	if a.kind != Package && a.kind != Env {
		return nil
	}
	for _, n := range c.known {
		if all, ok := a.of(n); ok {
			v, has := all[name]
			peer := slices.ContainsFunc(slices.Collect(maps.Values(by)), func(hosts []string) bool { return slices.Contains(hosts, n.Name) })
			if _, meant := by[v]; has && meant && !peer {
				count[v]++
			}
		}
	}
	return most(count)
}

// most is what has the highest count, alone.
func most(count map[string]int) *string {
	var best *string
	high := 0
	for v, n := range count {
		switch {
		case n > high:
			best, high = &v, n
		case n == high:
			best = nil
		}
	}
	return best
}

// differs tells that peers are not alike: of those that have not what is usual, or of all
// where nothing is.
func (c *comparison) differs(a aspect, name string, by map[string][]string, usual *string) {
	remedy := a.remedy
	if strings.Contains(remedy, "%s") {
		remedy = fmt.Sprintf(remedy, name)
	}
	if usual == nil {
		// In the fleet's order: the first is told as expected in the difference, and neither is right.
		groups := slices.SortedFunc(maps.Keys(by), func(x, y string) int { return cmp.Compare(c.order[by[x][0]], c.order[by[y][0]]) })
		var hosts, found []string
		for _, v := range groups {
			hosts = append(hosts, by[v]...)
			found = append(found, strings.Join(by[v], ", ")+" "+a.words(v, len(found) > 0))
		}
		slices.SortFunc(hosts, func(x, y string) int { return cmp.Compare(c.order[x], c.order[y]) })
		f := Finding{Kind: a.kind, Hosts: hosts, What: name, Expected: "the same on each of them", Found: strings.Join(found, "; "), Remedy: remedy}
		if a.kind == Firewall {
			f.Difference = Diff(groups[0], groups[1])
		}
		c.add(f)
		return
	}
	for _, v := range slices.Sorted(maps.Keys(by)) {
		if v == *usual {
			continue
		}
		f := Finding{
			Kind: a.kind, Hosts: by[v], What: name, Remedy: remedy,
			Expected: "as " + strings.Join(by[*usual], ", ") + " " + a.words(*usual, false), Found: a.words(v, true),
		}
		if a.kind == Firewall {
			f.Difference = Diff(*usual, v)
		}
		c.add(f)
	}
}

// words say what a host has.
func (a aspect) words(v string, another bool) string {
	switch {
	case v == "":
		return "has none"
	case a.kind == Firewall && another:
		return "has other rules"
	case a.kind == Firewall:
		return "has rules"
	case a.hidden && another:
		return "has another value"
	case a.hidden:
		return "has a value"
	}
	return "has " + v
}

// services are the units beside Mastodon's that do anything, and how they are set up.
func services(n Node) (map[string]string, bool) {
	out := map[string]string{}
	for _, u := range n.State.Units {
		if !runsMastodon(u.Name) && counts(u) {
			out[u.Name] = shape(u.Enabled+", "+u.Active, u)
		}
	}
	return out, n.State.Blind["units"] == ""
}

// shapes are the files of Mastodon's units.
func shapes(n Node) (map[string]string, bool) {
	out := map[string]string{}
	for _, u := range n.State.Units {
		if runsMastodon(u.Name) && u.Load == "loaded" {
			out[u.Name] = shape(u.File, u)
		}
	}
	return out, n.State.Blind["units"] == ""
}

func shape(words string, u node.UnitShape) string {
	if len(u.DropIns) > 0 {
		words += ", changed by " + strings.Join(u.DropIns, ", ")
	}
	return words
}

func settings(n Node) (map[string]string, bool) {
	return n.State.Env, n.State.Blind["env"] == ""
}

func packages(n Node) (map[string]string, bool) {
	return n.State.Packages, n.State.Blind["packages"] == ""
}

// ports are by protocol and number.
func ports(n Node) (map[string]string, bool) {
	out := map[string]string{}
	for _, p := range n.State.Ports {
		name := fmt.Sprintf("%s %d", p.Protocol, p.Port)
		who := cmp.Or(p.Program, "a program that could not be told") + " on " + p.Address
		if was, ok := out[name]; ok {
			who = was + ", " + who
		}
		out[name] = who
	}
	return out, n.State.Blind["ports"] == ""
}

func rules(n Node) (map[string]string, bool) {
	return map[string]string{"rules": n.State.Firewall.Text}, n.State.Blind["firewall"] == ""
}
