// Package drift tells where a fleet is not what it should be: each node is held against
// what the configuration repository's last commit renders for it, against refit.yml, and
// against the other nodes that do the same. It is pure; what it judges was read before.
package drift

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
)

// Kind is what a finding is about.
type Kind string

// The kinds of findings. Unread and Unreachable say that something is not known, which
// is no proof that all is well.
const (
	File        Kind = "file"
	Unit        Kind = "unit"
	Queues      Kind = "queues"
	Env         Kind = "env"
	Package     Kind = "package"
	Listening   Kind = "port"
	Firewall    Kind = "firewall"
	Unread      Kind = "unread"
	Unreachable Kind = "unreachable"
)

// Node is one host as refit.yml has it and as it was found.
type Node struct {
	Name  string
	Roles []hosts.Role
	// Units are those that refit.yml has run Mastodon's code there.
	Units []Wanted
	// Err is why it could not be asked; then nothing else is known of it.
	Err   error
	State node.State
	// Files are those that are not as the last commit has them.
	Files []Other
	// FilesErr is why they could not be compared.
	FilesErr error
}

// Wanted is a unit of refit.yml; Queues is nil for one that serves none.
type Wanted struct {
	Name   string
	Queues []string
}

// Other is a file that is not what the last commit renders for its host.
type Other struct {
	Path string
	// Expected and Found are in words, "0644 root:root"; Difference is by line, with
	// references in the place of secrets.
	Expected, Found, Difference string
	// Unknown: it could not be compared, and Found says why.
	Unknown bool
}

// Fleet is all that is compared.
type Fleet struct {
	// Nodes are in refit.yml's order.
	Nodes []Node
	// Same are the names of settings that must be the same on all nodes that run Mastodon;
	// all others are only held against a tier's.
	Same []string
}

// Finding is one way in which hosts are not what they should be.
type Finding struct {
	Kind  Kind     `json:"kind"`
	Hosts []string `json:"hosts"`
	// What is it that differs: a path, a unit, the name of a setting.
	What     string `json:"what"`
	Expected string `json:"expected"`
	Found    string `json:"found"`
	// Difference is by line: "-" as expected, "+" as found.
	Difference string `json:"difference,omitempty"`
	Remedy     string `json:"remedy"`
	// Mends: `refit drift --mend` puts it right.
	Mends bool `json:"mends"`
}

// String is the finding in one line, without its difference.
func (f Finding) String() string {
	return fmt.Sprintf("%s: %s %s: %s; expected %s. %s", strings.Join(f.Hosts, ", "), f.Kind, f.What, f.Found, f.Expected, f.Remedy)
}

// Compare gives what differs, by kind and host. What several hosts have in the same way is
// one finding.
func Compare(f Fleet) []Finding {
	c := &comparison{fleet: f, order: map[string]int{}}
	for i, n := range f.Nodes {
		c.order[n.Name] = i
		if n.Err != nil {
			c.add(Finding{Kind: Unreachable, Hosts: []string{n.Name}, What: "host", Expected: "an answer", Found: n.Err.Error(), Remedy: "bring it back, then ask again: nothing is known of it"})
			continue
		}
		c.known = append(c.known, n)
		c.blind(n)
		c.files(n)
		c.units(n)
	}
	for _, tier := range tiers(c.known) {
		c.tier(tier)
	}
	c.everywhere()
	slices.SortStableFunc(c.found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)), strings.Compare(a.What, b.What), cmp.Compare(c.order[a.Hosts[0]], c.order[b.Hosts[0]]))
	})
	return c.found
}

// kinds in the order in which they are told: what is not known first.
var kinds = []Kind{Unreachable, Unread, File, Unit, Queues, Env, Package, Listening, Firewall}

type comparison struct {
	fleet Fleet
	known []Node // those that answered
	order map[string]int
	found []Finding
}

// add tells a finding, together with one that is the same but for its hosts.
func (c *comparison) add(f Finding) {
	for i, x := range c.found {
		hosts := x.Hosts
		x.Hosts = f.Hosts
		if equal(x, f) {
			c.found[i].Hosts = slices.Concat(hosts, f.Hosts)
			return
		}
	}
	c.found = append(c.found, f)
}

func equal(a, b Finding) bool {
	return a.Kind == b.Kind && slices.Equal(a.Hosts, b.Hosts) && a.What == b.What && a.Expected == b.Expected && a.Found == b.Found && a.Difference == b.Difference && a.Remedy == b.Remedy
}

// told tells whether something was said of a host's unit already.
func (c *comparison) told(k Kind, host, what string) bool {
	return slices.ContainsFunc(c.found, func(f Finding) bool {
		return f.Kind == k && f.What == what && slices.Contains(f.Hosts, host)
	})
}

// blind: what could not be read is no proof that it is as it should be.
func (c *comparison) blind(n Node) {
	for what, why := range n.State.Blind {
		c.add(Finding{Kind: Unread, Hosts: []string{n.Name}, What: what, Expected: "to be read", Found: why, Remedy: "mend that, then ask again: until then it is not known"})
	}
	if n.FilesErr != nil {
		c.add(Finding{Kind: Unread, Hosts: []string{n.Name}, What: "files", Expected: "to be compared with the last commit", Found: n.FilesErr.Error(), Remedy: "mend that, then ask again: until then it is not known"})
	}
}

// files: what the last commit renders lies there as it was rendered.
func (c *comparison) files(n Node) {
	for _, f := range n.Files {
		if f.Unknown {
			c.add(Finding{Kind: Unread, Hosts: []string{n.Name}, What: f.Path, Expected: f.Expected, Found: f.Found, Remedy: "mend that, then ask again: until then it is not known"})
			continue
		}
		c.add(Finding{
			Kind: File, Hosts: []string{n.Name}, What: f.Path, Expected: f.Expected, Found: f.Found, Difference: f.Difference, Mends: true,
			Remedy: "put the repository's back on the host, or what the host has into templates/",
		})
	}
}

// units: those of refit.yml are set up and at work with its queues, and no other runs
// Mastodon's code.
func (c *comparison) units(n Node) {
	if n.State.Blind["units"] != "" {
		return
	}
	tell := func(k Kind, what, expected, found, remedy string) {
		c.add(Finding{Kind: k, Hosts: []string{n.Name}, What: what, Expected: expected, Found: found, Remedy: remedy})
	}
	wanted := n.Units
	if slices.Contains(n.Roles, hosts.Proxy) {
		wanted = append(slices.Clone(wanted), Wanted{Name: "nginx.service"})
	}
	for _, w := range wanted {
		i := slices.IndexFunc(n.State.Units, func(u node.UnitShape) bool { return u.Name == w.Name })
		if i < 0 || n.State.Units[i].Load != "loaded" {
			tell(Unit, w.Name, "the unit, as refit.yml says", "there is no such unit", "set it up, or take it out of refit.yml")
			continue
		}
		u := n.State.Units[i]
		if !u.Running() {
			tell(Unit, w.Name, "active, as refit.yml says", u.Active+" ("+u.Sub+")", "find out why (journalctl -u "+w.Name+"), then systemctl start "+w.Name)
		}
		if u.Enabled != "enabled" {
			tell(Unit, w.Name, "enabled", orNone(u.Enabled)+", so that it does not start with the host", "systemctl enable "+w.Name)
		}
		if serves := mastodon.SidekiqQueues(strings.Fields(u.ExecStart)); w.Queues != nil && !slices.Equal(serves, sorted(w.Queues)) {
			tell(Queues, w.Name, "the queues "+strings.Join(sorted(w.Queues), ", ")+", as refit.yml says", orNone(strings.Join(serves, ", ")), "bring the unit's command line and refit.yml together")
		}
	}
	for _, u := range n.State.Units {
		if u.NeedReload {
			tell(Unit, u.Name, "its files as systemd has read them", "its files were changed since", "look at them, then systemctl daemon-reload")
		}
		named := slices.ContainsFunc(wanted, func(w Wanted) bool { return w.Name == u.Name })
		if !named && runsMastodon(u.Name) && counts(u) {
			tell(Unit, u.Name, "no such unit, as refit.yml names none", u.Enabled+", "+u.Active, "name it in refit.yml (else no upgrade switches it), or systemctl disable --now "+u.Name)
		}
	}
}

// runsMastodon tells the units that upstream's processes run in. mastodon-streaming.service
// itself only starts its instances.
func runsMastodon(unit string) bool {
	return strings.HasPrefix(unit, "mastodon-web") || strings.HasPrefix(unit, "mastodon-sidekiq") || strings.HasPrefix(unit, "mastodon-streaming@")
}

// counts tells whether a unit does anything, now or after a boot.
func counts(u node.UnitShape) bool {
	return u.Active != "inactive" || strings.HasPrefix(u.Enabled, "enabled")
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

func orNone(s string) string { return cmp.Or(s, "none") }
