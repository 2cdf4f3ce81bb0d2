package drift

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/node"
)

// aFleet is one in which nothing differs: two proxies, two web nodes, three Sidekiq nodes
// of which one has the scheduler, and a builder that keeps the lease.
func aFleet() Fleet {
	unit := func(name, start string) node.UnitShape {
		return node.UnitShape{
			UnitState: node.UnitState{Name: name, Load: "loaded", Active: "active", Sub: "running", ExecStart: start},
			Enabled:   "enabled", File: "/etc/systemd/system/" + name, DropIns: []string{"/etc/systemd/system/" + name + ".d/local.conf"},
		}
	}
	base := func(name string, role hosts.Role, units ...node.UnitShape) Node {
		n := Node{Name: name, Roles: []hosts.Role{role}}
		n.State = node.State{
			Units: append(units, unit("ssh.service", "")), Packages: map[string]string{"openssl": "3.5.1", "kernel": "6.12.1"},
			Ports:    []node.Port{{Protocol: "tcp", Address: "*", Port: 22, Program: "sshd"}},
			Firewall: node.Firewall{Tool: "nft", Text: "table inet filter {\n  tcp dport 22 accept\n}"},
		}
		return n
	}
	proxy := func(name string) Node {
		n := base(name, hosts.Proxy, unit("nginx.service", ""))
		n.State.Packages["nginx"] = "1.26.3"
		n.State.Ports = append(n.State.Ports, node.Port{Protocol: "tcp", Address: "*", Port: 443, Program: "nginx"})
		return n
	}
	env := func(n *Node) {
		n.State.Env = map[string]string{"DB_PASS": "h1", "LOCAL_DOMAIN": "h2"}
		n.State.Units = append(n.State.Units, unit("stunnel-redis.service", ""))
	}
	web := func(name string) Node {
		n := base(name, hosts.Web, unit("mastodon-web.service", "bundle exec puma"), unit("mastodon-streaming@4000.service", "node"), unit("mastodon-streaming.service", "true"))
		n.Units = []Wanted{{Name: "mastodon-web.service"}, {Name: "mastodon-streaming@4000.service"}}
		env(&n)
		n.State.Env["WEB_CONCURRENCY"] = "h3"
		return n
	}
	worker := func(name string) Node {
		n := base(name, hosts.Sidekiq, unit("mastodon-sidekiq-a.service", "bundle exec sidekiq -c 5 -q default,8 -q push"))
		n.Units = []Wanted{{Name: "mastodon-sidekiq-a.service", Queues: []string{"push", "default"}}}
		env(&n)
		return n
	}
	decker := worker("decker")
	decker.Units = append(decker.Units, Wanted{Name: "mastodon-sidekiq-s.service", Queues: []string{"scheduler"}})
	decker.State.Units = append(decker.State.Units, unit("mastodon-sidekiq-s.service", "bundle exec sidekiq -q scheduler"))
	khan := base("khan", hosts.Builder)
	khan.Roles = append(khan.Roles, hosts.Keeper)
	khan.State.Packages["gcc"] = "14.2"
	return Fleet{
		Nodes: []Node{proxy("sulu"), proxy("chekov"), web("kirk"), web("spock"), worker("scotty"), worker("uhura"), decker, khan},
		Same:  []string{"DB_PASS", "LOCAL_DOMAIN"},
	}
}

func (f Fleet) node(name string) *Node {
	for i := range f.Nodes {
		if f.Nodes[i].Name == name {
			return &f.Nodes[i]
		}
	}
	panic(name)
}

func (n *Node) unit(name string) *node.UnitShape {
	for i := range n.State.Units {
		if n.State.Units[i].Name == name {
			return &n.State.Units[i]
		}
	}
	panic(name)
}

func TestAFleetInWhichNothingDiffersHasNoFinding(t *testing.T) {
	for _, f := range Compare(aFleet()) {
		t.Error(f)
	}
}

// Each kind of drift is planted alone: what is found are these findings and no others.
func TestEachKindOfDriftIsFoundAloneOnItsHostWithARemedy(t *testing.T) {
	const worker = "mastodon-sidekiq-a.service"
	for name, test := range map[string]struct {
		plant func(Fleet)
		want  []string
	}{
		"a host that does not answer": {
			func(f Fleet) {
				*f.node("kirk") = Node{Name: "kirk", Roles: []hosts.Role{hosts.Web}, Err: errors.New("no route")}
			},
			[]string{"kirk: unreachable host: no route; expected an answer. bring it back"},
		},
		"what could not be read": {
			func(f Fleet) {
				f.node("kirk").State.Blind = map[string]string{"firewall": "nft: not permitted"}
				f.node("kirk").State.Firewall = node.Firewall{}
			},
			[]string{"kirk: unread firewall: nft: not permitted"},
		},
		"files that could not be compared": {
			func(f Fleet) { f.node("kirk").FilesErr = errors.New("no commit") },
			[]string{"kirk: unread files: no commit; expected to be compared with the last commit"},
		},
		"a file that was changed": {
			func(f Fleet) {
				f.node("kirk").Files = []Other{{Path: "/etc/a", Expected: "as committed", Found: "other content", Difference: "-a\n+b\n"}}
			},
			[]string{"kirk: file /etc/a: other content; expected as committed. put the repository"},
		},
		"a file that could not be compared": {
			func(f Fleet) {
				f.node("kirk").Files = []Other{{Path: "/etc/a", Expected: "as committed", Found: "not known: x", Unknown: true}}
			},
			[]string{"kirk: unread /etc/a: not known: x; expected as committed"},
		},
		"a file that was changed in the same way on two": {
			func(f Fleet) {
				for _, n := range []string{"sulu", "kirk"} {
					f.node(n).Files = []Other{{Path: "/etc/a", Expected: "as committed", Found: "other content", Difference: "-a\n+b\n"}}
				}
			},
			[]string{"sulu, kirk: file /etc/a"},
		},
		"a file that was changed in two ways": {
			func(f Fleet) {
				f.node("sulu").Files = []Other{{Path: "/etc/a", Expected: "as committed", Found: "other content", Difference: "-a\n+b\n"}}
				f.node("kirk").Files = []Other{{Path: "/etc/a", Expected: "as committed", Found: "other content", Difference: "-a\n+c\n"}}
			},
			[]string{"sulu: file /etc/a", "kirk: file /etc/a"},
		},
		"a unit that is not there": {
			func(f Fleet) { f.node("scotty").unit(worker).Load = "not-found" },
			[]string{"scotty: unit " + worker + ": there is no such unit; expected the unit, as refit.yml says"},
		},
		"a unit that does not run": {
			func(f Fleet) { u := f.node("scotty").unit(worker); u.Active, u.Sub = "failed", "failed" },
			[]string{"scotty: unit " + worker + ": failed (failed); expected active, as refit.yml says…systemctl start " + worker},
		},
		"a unit that is not enabled": {
			func(f Fleet) { f.node("scotty").unit(worker).Enabled = "disabled" },
			[]string{"scotty: unit " + worker + ": disabled, so that it does not start with the host; expected enabled. systemctl enable " + worker},
		},
		"nginx that is not enabled": {
			func(f Fleet) { f.node("chekov").unit("nginx.service").Enabled = "disabled" },
			[]string{"chekov: unit nginx.service: disabled, so that"},
		},
		"a unit that refit.yml does not name": {
			func(f Fleet) {
				n := f.node("uhura")
				n.State.Units = append(n.State.Units, node.UnitShape{UnitState: node.UnitState{Name: "mastodon-sidekiq-x.service", Load: "loaded", Active: "active"}, Enabled: "disabled"})
			},
			[]string{"uhura: unit mastodon-sidekiq-x.service: disabled, active; expected no such unit…name it in refit.yml"},
		},
		"a unit whose files were changed since": {
			func(f Fleet) { f.node("kirk").unit("mastodon-web.service").NeedReload = true },
			[]string{"kirk: unit mastodon-web.service: its files were changed since…systemctl daemon-reload"},
		},
		"queues that are not refit.yml's": {
			func(f Fleet) { f.node("scotty").unit(worker).ExecStart = "bundle exec sidekiq -q default" },
			[]string{"scotty: queues " + worker + ": default; expected the queues default, push, as refit.yml says"},
		},
		"a drop-in that a peer lacks": {
			func(f Fleet) {
				u := f.node("spock").unit("mastodon-web.service")
				u.DropIns = append(u.DropIns, "/run/x.conf")
			},
			[]string{"kirk, spock: unit mastodon-web.service: kirk has /etc/systemd/system/mastodon-web.service, changed by…; spock has…/run/x.conf; expected the same on each of them"},
		},
		"a service that its peers have": {
			func(f Fleet) {
				u := f.node("uhura").unit("stunnel-redis.service")
				u.Active, u.Enabled = "inactive", "disabled"
			},
			[]string{"uhura: unit stunnel-redis.service: has none; expected as scotty, decker has enabled, active"},
		},
		"a setting with another value, judged by the other tier": {
			func(f Fleet) { f.node("spock").State.Env["DB_PASS"] = "h9" },
			[]string{"spock: env DB_PASS: has another value; expected as kirk has a value"},
		},
		"a setting of one tier with two values": {
			func(f Fleet) { f.node("spock").State.Env["WEB_CONCURRENCY"] = "h9" },
			[]string{"kirk, spock: env WEB_CONCURRENCY: kirk has a value; spock has another value; expected the same on each"},
		},
		"a setting that is missing": {
			func(f Fleet) { delete(f.node("scotty").State.Env, "LOCAL_DOMAIN") },
			[]string{"scotty: env LOCAL_DOMAIN: has none; expected as uhura, decker has a value"},
		},
		"a tier with another value of what must be the same": {
			func(f Fleet) {
				for _, n := range []string{"kirk", "spock"} {
					f.node(n).State.Env["DB_PASS"] = "h9"
				}
			},
			[]string{"kirk, spock: env DB_PASS: has another value; expected as scotty, uhura, decker has a value"},
		},
		"another version of a package": {
			func(f Fleet) { f.node("kirk").State.Packages["openssl"] = "3.0.1" },
			[]string{"kirk: package openssl: has 3.0.1; expected as spock has 3.5.1. bring openssl to one version"},
		},
		"another version of a package on the node that keeps the lease": {
			func(f Fleet) {
				n := f.node("spock")
				n.Roles = append(n.Roles, hosts.Keeper)
				n.State.Packages["openssl"] = "3.0.1"
			},
			[]string{"spock: package openssl: has 3.0.1; expected as kirk has 3.5.1"},
		},
		"another kernel": {
			func(f Fleet) { f.node("decker").State.Packages["kernel"] = "6.1.0" },
			[]string{"decker: package kernel: has 6.1.0; expected as scotty, uhura has 6.12.1"},
		},
		"a port that nobody else has": {
			func(f Fleet) {
				n := f.node("decker")
				n.State.Ports = append(n.State.Ports, node.Port{Protocol: "tcp", Address: "*", Port: 4444, Program: "nc"})
			},
			[]string{"decker: port tcp 4444: has nc on *; expected as scotty, uhura has none. find out which program"},
		},
		"another program at a port": {
			func(f Fleet) { f.node("chekov").State.Ports[1].Program = "python3" },
			[]string{"sulu, chekov: port tcp 443: sulu has nginx on *; chekov has python3 on *"},
		},
		"another firewall": {
			func(f Fleet) { f.node("uhura").State.Firewall.Text = "table inet filter {\n}" },
			[]string{"uhura: firewall rules: has other rules; expected as scotty, decker has rules"},
		},
		"no firewall": {
			func(f Fleet) { f.node("uhura").State.Firewall = node.Firewall{} },
			[]string{"uhura: firewall rules: has none"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := aFleet()
			test.plant(f)
			found := Compare(f)
			if len(found) != len(test.want) {
				t.Errorf("%d findings, want %d: %v", len(found), len(test.want), found)
			}
			for i, x := range found[:min(len(found), len(test.want))] {
				at := 0
				for part := range strings.SplitSeq(test.want[i], "…") {
					j := strings.Index(x.String()[at:], part)
					if j < 0 {
						t.Errorf("%q does not hold %q", x, part)
						break
					}
					at += j + len(part)
				}
				if x.Remedy == "" || x.Mends != (x.Kind == File) {
					t.Errorf("remedy %q, mends %v", x.Remedy, x.Mends)
				}
				if (x.Kind == Env) && strings.ContainsAny(x.Found+x.Expected, "0123456789") {
					t.Errorf("a hash is shown: %s", x)
				}
			}
		})
	}
}

func TestADifferenceOfRulesIsShownByLine(t *testing.T) {
	f := aFleet()
	f.node("uhura").State.Firewall.Text = "table inet filter {\n  tcp dport 23 accept\n}"
	if found := Compare(f); len(found) != 1 || found[0].Difference != "-  tcp dport 22 accept\n+  tcp dport 23 accept\n" {
		t.Errorf("%+v", found)
	}
	if got := Diff("", "a\nb\n"); got != "+a\n+b\n" {
		t.Errorf("%q", got)
	}
}

func TestEveryKindHasItsPlaceInTheOrder(t *testing.T) {
	f := aFleet()
	f.node("kirk").FilesErr = errors.New("no commit")
	f.node("decker").State.Packages = maps.Clone(f.node("decker").State.Packages)
	f.node("decker").State.Packages["kernel"] = "6.1.0"
	f.node("sulu").Files = []Other{{Path: "/etc/a"}}
	var got []string
	for _, x := range Compare(f) {
		got = append(got, string(x.Kind))
	}
	if strings.Join(got, " ") != "unread file package" {
		t.Error(got)
	}
}
