package main

import (
	"context"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/cloud"
)

// grants answers for a token.
type grants struct {
	lacks    []string
	unprobed map[string]string
	denied   bool
	meter    cloud.Meter
	asked    []string
}

func (g *grants) Ask(_ context.Context, scope string) (cloud.Grant, string, error) {
	g.asked = append(g.asked, scope)
	switch {
	case g.denied:
		return cloud.NotProbed, "", cloud.ErrDenied
	case slices.Contains(g.lacks, scope):
		return cloud.Lacking, "", nil
	case g.unprobed[scope] != "":
		return cloud.NotProbed, g.unprobed[scope], nil
	}
	return cloud.Granted, "", nil
}

func (g *grants) Meter() cloud.Meter { return g.meter }

// aCheckup is doctor's look at the seed's account, with something spoiled.
func aCheckup(t *testing.T, spoil func(*config, *anAccount, *grants)) *checkup {
	t.Helper()
	a := seed()
	a.backups = []cloud.Backup{{At: time.Now().Add(-50 * time.Hour)}, {At: time.Now().Add(-2 * time.Hour)}}
	a.balancers[0].Check = cloud.HealthCheck{Protocol: "http", Port: 80, Path: "/health", Every: 10 * time.Second, Down: 5, Up: 3}
	g := &grants{meter: cloud.Meter{Limit: 5000, Left: 4990, Heard: true}}
	c := config{Database: databaseConfig{Host: "private-majel.db.example", Port: 25060}, Cloud: &cloudConfig{
		Balancer: "pike", Database: "majel", Snapshots: snapshotsConfig{Tiers: tiers},
	}}
	for _, h := range []struct {
		name, address string
		droplet       int
		role          hosts.Role
	}{{"sulu", "10.10.0.11", 0, hosts.Proxy}, {"kirk", "203.0.113.21", 0, hosts.Web}, {"scotty", "scotty.internal", 31, hosts.Sidekiq}, {"uhura", "10.10.0.61", 0, hosts.Keeper}} {
		c.Hosts = append(c.Hosts, hostConfig{Name: h.name, Address: h.address, Droplet: h.droplet, Roles: []hosts.Role{h.role}})
	}
	if spoil != nil {
		spoil(&c, a, g)
	}
	return examineCloud(t.Context(), c, a, g)
}

func TestAnAccountInWhichAllIsWellIsToldLineByLine(t *testing.T) {
	k := aCheckup(t, nil)
	if len(k.refused)+len(k.known) > 0 {
		t.Errorf("refused %q, said %q", k.refused, k.known)
	}
	all := strings.Join(k.well, "\n")
	for _, words := range []string{
		"the token is accepted", "the token has the scopes account:read, droplet:read,", "the account is active", "8 of at most 25 droplets",
		"sulu is droplet 11 (sulu.vmst.io, tor1, s-2vcpu-4gb)", "kirk is droplet 21", "scotty is droplet 31", "uhura is droplet 61",
		"the balancer pike is active, has 2 droplets by ID and asks http port 80 /health every 10s: a proxy goes out after 50s and comes back after 30s",
		"the database majel is online, PostgreSQL 16", "the newest backup of the database majel is 2h0m0s old",
		"4990 of 5000 requests", "clock agrees",
	} {
		if !strings.Contains(all, words) {
			t.Errorf("not told %q:\n%s", words, all)
		}
	}
}

func TestEachFaultOfTheAccountIsToldAloneWithItsRemedy(t *testing.T) {
	for name, test := range map[string]struct {
		spoil         func(*config, *anAccount, *grants)
		refused, said string
	}{
		"the token": {func(_ *config, _ *anAccount, g *grants) { g.denied = true }, "cloud.token: the token is not accepted…make a new one", ""},
		"a scope that every upgrade needs": {
			func(_ *config, _ *anAccount, g *grants) { g.lacks = []string{"droplet:update"} },
			"the token lacks the scope droplet:update (begin a snapshot; power): add it", "",
		},
		"a scope that golden images need, without snapshots": {
			func(c *config, _ *anAccount, g *grants) {
				c.Cloud.Snapshots.Tiers, g.lacks = nil, []string{"image:create"}
			},
			"", "the token lacks the scope image:create…golden images",
		},
		"a scope that a rehearsal needs": {
			func(_ *config, _ *anAccount, g *grants) { g.lacks = []string{"firewall:create"} },
			"", "the token lacks the scope firewall:create…which refit rehearse, refit replace, refit add needs",
		},
		"a scope that cannot be probed": {
			func(_ *config, _ *anAccount, g *grants) {
				g.unprobed = map[string]string{"droplet:admin": "there is no way to ask"}
			},
			"", "the scope droplet:admin…was not probed: there is no way to ask",
		},
		"a locked account":   {func(_ *config, a *anAccount, _ *grants) { a.account.Status = "locked" }, "the account is locked", ""},
		"a warned account":   {func(_ *config, a *anAccount, _ *grants) { a.account.Status = "warning" }, "", `status is "warning"`},
		"no room":            {func(_ *config, a *anAccount, _ *grants) { a.account.DropletLimit = 10 }, "", "has 8 of at most 10 droplets…ask for a higher limit"},
		"no limit told":      {func(_ *config, a *anAccount, _ *grants) { a.account.DropletLimit = 0 }, "", "is not told"},
		"an account unasked": {func(_ *config, a *anAccount, _ *grants) { a.fails = map[string]error{"Account": errNoWay} }, "", "are not known: no way"},
		"droplets unlisted": {
			func(_ *config, a *anAccount, _ *grants) { a.fails = map[string]error{"Droplets": errNoWay} }, "the account's droplets cannot be listed: no way", "",
		},
		"a host without a droplet": {
			func(c *config, _ *anAccount, _ *grants) { c.Hosts[1].Address = "10.9.9.9" }, "kirk: no droplet of the account has the address 10.9.9.9…hosts[].droplet", "",
		},
		"a keeper elsewhere": {
			func(c *config, _ *anAccount, _ *grants) { c.Hosts[3].Address = "10.9.9.9" }, "", "uhura: no droplet of the account has the address 10.9.9.9",
		},
		"a host known by name": {func(c *config, _ *anAccount, _ *grants) { c.Hosts[2].Droplet = 0 }, "scotty: its address scotty.internal is a name", ""},
		"a droplet that is gone": {
			func(c *config, _ *anAccount, _ *grants) { c.Hosts[2].Droplet = 99 }, "scotty: the account has no droplet 99", "",
		},
		"two with one address": {
			func(_ *config, a *anAccount, _ *grants) {
				d := a.droplets[0]
				d.ID = 77
				a.droplets = append(a.droplets, d)
			},
			"sulu: 2 droplets have the address 10.10.0.11", "",
		},
		"a droplet that is off":    {func(_ *config, a *anAccount, _ *grants) { a.droplets[2].Status = "off" }, "kirk: droplet 21 is off and not active", ""},
		"a droplet that is locked": {func(_ *config, a *anAccount, _ *grants) { a.droplets[2].Locked = true }, "", "kirk: droplet 21 is locked"},
		"a balancer misnamed":      {func(c *config, _ *anAccount, _ *grants) { c.Cloud.Balancer = "puke" }, "the account has no balancer puke: correct cloud.balancer", ""},
		"a balancer unasked": {
			func(_ *config, a *anAccount, _ *grants) { a.fails = map[string]error{"Balancer": errNoWay} }, "the balancer pike cannot be asked: no way", "",
		},
		"a balancer by tag":   {func(_ *config, a *anAccount, _ *grants) { a.balancers[0].Tag = "edge" }, "", "finds its droplets by the tag edge…gets users at once"},
		"a check by tcp":      {func(_ *config, a *anAccount, _ *grants) { a.balancers[0].Check.Protocol = "tcp" }, "", "only asks whether port 80 opens"},
		"a database misnamed": {func(c *config, _ *anAccount, _ *grants) { c.Cloud.Database = "x" }, "the account has no database x: correct cloud.database", ""},
		"a database unasked": {
			func(_ *config, a *anAccount, _ *grants) { a.fails = map[string]error{"Database": errNoWay} }, "the database majel cannot be asked: no way", "",
		},
		"a database of another kind": {func(c *config, _ *anAccount, _ *grants) { c.Cloud.Database = "cache" }, "the database cache is valkey", ""},
		"a database that moves":      {func(_ *config, a *anAccount, _ *grants) { a.databases[0].Status = "migrating" }, "majel is migrating and not online", ""},
		"a pool's port":              {func(c *config, _ *anAccount, _ *grants) { c.Database.Port = 25061 }, "database.port in refit.yml is 25061…listens on 25060", ""},
		"an old backup":              {func(_ *config, a *anAccount, _ *grants) { a.backups = a.backups[:1] }, "the newest backup of the database majel is 50h0m0s old", ""},
		"no backup":                  {func(_ *config, a *anAccount, _ *grants) { a.backups = nil }, "majel has no backup", ""},
		"backups unlisted": {
			func(_ *config, a *anAccount, _ *grants) { a.fails = map[string]error{"Backups": errNoWay} }, "the backups of the database majel cannot be listed", "",
		},
		"few requests left": {func(_ *config, _ *anAccount, g *grants) { g.meter.Left = 30 }, "", "the token has 30 of 5000 requests an hour left"},
		"no count of them":  {func(_ *config, _ *anAccount, g *grants) { g.meter.Left = -1 }, "", "is not told"},
		"a clock that is off": {
			func(_ *config, _ *anAccount, g *grants) { g.meter.Skew = -2 * time.Minute }, "", "clock is -2m0s off the provider's…NTP",
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := aCheckup(t, test.spoil)
			for _, side := range []struct {
				what, want string
				got        []string
			}{{"refused", test.refused, k.refused}, {"said", test.said, k.known}} {
				if (side.want == "") != (len(side.got) == 0) || len(side.got) > 1 || !hasAll(strings.Join(side.got, ""), side.want) {
					t.Errorf("%s %q, want %q", side.what, side.got, side.want)
				}
			}
		})
	}
}

var errNoWay = errors.New("no way")

// hasAll tells whether the text has all words, parted by "…", in their order.
func hasAll(text, words string) bool {
	for part := range strings.SplitSeq(words, "…") {
		_, rest, ok := strings.Cut(text, part)
		if !ok {
			return false
		}
		text = rest
	}
	return true
}

func TestOnlyScopesThatThisFileUsesAreAsked(t *testing.T) {
	g := &grants{}
	aCheckup(t, func(c *config, _ *anAccount, asked *grants) {
		*c.Cloud = cloudConfig{}
		g = asked
	})
	for _, s := range []string{"load_balancer:read", "database:read", "database:create"} {
		if slices.Contains(g.asked, s) {
			t.Errorf("%s was asked for", s)
		}
	}
	if !slices.Contains(g.asked, "droplet:read") {
		t.Errorf("asked %q", g.asked)
	}
}

func TestTheTableOfScopesInDocsIsTheOneThatDoctorProbes(t *testing.T) {
	text, err := os.ReadFile("../../docs/cloud.md")
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+:[a-z_]+)` \\| (.*?) \\| (.*?) \\|").FindAllStringSubmatch(string(text), -1) {
		got = append(got, m[1]+": "+m[2]+": "+strings.ReplaceAll(m[3], "`", ""))
	}
	for _, s := range scopes {
		want = append(want, s.Name+": "+s.For+": "+s.Since)
	}
	if !slices.Equal(got, want) {
		t.Errorf("docs/cloud.md:\n%s\nthe code:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
