package main

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/cloud"
)

// anAccount is one in memory, with the fleet of the project's own seed.
type anAccount struct {
	account   cloud.Account
	droplets  []cloud.Droplet
	balancers []cloud.Balancer
	databases []cloud.Database
	backups   []cloud.Backup
	fails     map[string]error // by method
}

func (a *anAccount) Account(context.Context) (cloud.Account, error) {
	return a.account, a.fails["Account"]
}

func (a *anAccount) Droplets(_ context.Context, tag string) ([]cloud.Droplet, error) {
	var out []cloud.Droplet
	for _, d := range a.droplets {
		if tag == "" || slices.Contains(d.Tags, tag) {
			out = append(out, d)
		}
	}
	return out, a.fails["Droplets"]
}

func (a *anAccount) Balancers(context.Context) ([]cloud.Balancer, error) {
	return a.balancers, a.fails["Balancers"]
}

func (a *anAccount) Databases(context.Context) ([]cloud.Database, error) {
	return a.databases, a.fails["Databases"]
}

func (a *anAccount) Balancer(_ context.Context, name string) (cloud.Balancer, error) {
	for _, b := range a.balancers {
		if b.Name == name || b.ID == name {
			return b, a.fails["Balancer"]
		}
	}
	return cloud.Balancer{}, errors.Join(cloud.ErrNotFound, a.fails["Balancer"])
}

func (a *anAccount) Database(_ context.Context, name string) (cloud.Database, error) {
	for _, d := range a.databases {
		if d.Name == name || d.ID == name {
			return d, a.fails["Database"]
		}
	}
	return cloud.Database{}, errors.Join(cloud.ErrNotFound, a.fails["Database"])
}

func (a *anAccount) Backups(context.Context, string) ([]cloud.Backup, error) {
	return a.backups, a.fails["Backups"]
}

func aDroplet(id int, name string, tags ...string) cloud.Droplet {
	return cloud.Droplet{
		ID: id, Name: name, Status: "active", Region: "tor1", Size: "s-2vcpu-4gb", Tags: tags,
		Private: netip.AddrFrom4([4]byte{10, 10, 0, byte(id)}), Public: netip.AddrFrom4([4]byte{203, 0, 113, byte(id)}),
	}
}

func seed() *anAccount {
	return &anAccount{
		account: cloud.Account{Email: "ops@vmst.io", Status: "active", DropletLimit: 25},
		droplets: []cloud.Droplet{
			aDroplet(11, "sulu.vmst.io"), aDroplet(12, "chekov.vmst.io"),
			aDroplet(21, "kirk.vmst.io", "tier:web"), aDroplet(22, "spock.vmst.io", "tier:web"),
			aDroplet(31, "scotty.vmst.io", "mastodon", "sidekiq"), aDroplet(32, "decker.vmst.io", "mastodon", "sidekiq", "scheduler"),
			aDroplet(51, "khan.vmst.io", "opensearch"), aDroplet(61, "uhura.vmst.io", "builder", "keeper"),
		},
		balancers: []cloud.Balancer{{ID: "lb-1", Name: "pike", Status: "active", Droplets: []int{11, 12}}},
		databases: []cloud.Database{
			{ID: "db-1", Name: "majel", Engine: "pg", Version: "16", Status: "online", Host: "private-majel.db.example", Port: 25060},
			{ID: "db-2", Name: "cache", Engine: "valkey", Host: "private-cache.db.example", Port: 25061},
		},
	}
}

func anInit() initRequest {
	return initRequest{Token: secretConfig{Env: cloudTokenEnv}, API: cloudAPI}
}

// wrote is what init prints and what it says beside.
func wrote(t *testing.T, r initRequest, a *anAccount) (text, said string) {
	t.Helper()
	var out, errw bytes.Buffer
	if err := r.write(t.Context(), a, "", streams{out: &out, err: &errw}); err != nil {
		t.Fatal(err)
	}
	return out.String(), errw.String()
}

func TestAnAccountThatSaysAllBecomesAFileThatRefitTakes(t *testing.T) {
	text, said := wrote(t, anInit(), seed())
	c, err := parseConfig("refit.yml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var got []string
	for _, h := range c.Hosts {
		got = append(got, h.Name+" "+h.Address+" "+join(h.Roles, "+"))
	}
	want := []string{
		"chekov 10.10.0.12 proxy", "sulu 10.10.0.11 proxy", "kirk 10.10.0.21 web", "spock 10.10.0.22 web",
		"decker 10.10.0.32 sidekiq", "scotty 10.10.0.31 sidekiq", "uhura 10.10.0.61 builder+keeper",
	}
	if !slices.Equal(got, want) {
		t.Errorf("hosts %q", got)
	}
	if c.Hosts[0].Droplet != 12 || c.Fleet != "vmst.io" || c.Domain != "vmst.io" || c.Cloud.Balancer != "pike" || c.Cloud.Database != "majel" ||
		c.Cloud.Token.Env != cloudTokenEnv || c.Cloud.API != cloudAPI || c.Database.Host != "private-majel.db.example" || c.Database.Port != 25060 {
		t.Errorf("%+v\n%+v", c, c.Cloud)
	}
	for _, why := range []string{
		"# behind the balancer pike", "# tag tier:web", "# tag sidekiq", "# private; public is 203.0.113.11",
		"# left out: khan, droplet 51, tag opensearch", "# on one node only; its tags or its name say scheduler", "# the droplets' names end in it",
	} {
		if !strings.Contains(text, why) {
			t.Errorf("the file does not say %q:\n%s", why, text)
		}
	}
	if !strings.Contains(said, "nothing is left to answer") {
		t.Errorf("said %q", said)
	}
}

func TestWhatCannotBeGuessedIsAskedAndRefusedUntilAnswered(t *testing.T) {
	a := seed()
	for i := range a.droplets {
		a.droplets[i].Tags = nil // star-trek names say nothing
	}
	text, said := wrote(t, anInit(), a)
	_, err := parseConfig("refit.yml", []byte(text))
	for _, words := range []string{"hosts[2].roles[0]: is a question that `refit init` could not answer", "refit.yml:"} {
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Fatalf("%v does not say %q", err, words)
		}
	}
	if n := strings.Count(text, `roles: ["?"]`); n != 6 || strings.Count(err.Error(), "is a question") != 6 {
		t.Errorf("%d questions:\n%s\n%v", n, text, err)
	}
	for _, words := range []string{"# ? Which host has the role web?", "# ? Which host has the role keeper?", "roles: [proxy]", "neither tags, balancer nor name say what it is: proxy, web"} {
		if !strings.Contains(text, words) {
			t.Errorf("no %q in\n%s", words, text)
		}
	}
	if !strings.Contains(said, "asks for what could not be guessed") {
		t.Errorf("said %q", said)
	}
}

func TestEachGuessNamesItsEvidence(t *testing.T) {
	pike := []cloud.Balancer{{Name: "pike", Droplets: []int{1}}}
	byTag := []cloud.Balancer{{Name: "pike", Tag: "edge"}}
	for name, test := range map[string]struct {
		droplet   cloud.Droplet
		balancers []cloud.Balancer
		roles     []hosts.Role
		why       string
	}{
		"a tag":                            {aDroplet(2, "kirk", "puma"), pike, []hosts.Role{hosts.Web}, "tag puma"},
		"a tag of several words":           {aDroplet(2, "kirk", "role:web-01"), pike, []hosts.Role{hosts.Web}, "tag role:web-01"},
		"the balancer":                     {aDroplet(1, "sulu"), pike, []hosts.Role{hosts.Proxy}, "behind the balancer pike"},
		"the balancer's tag":               {aDroplet(2, "sulu", "edge"), byTag, []hosts.Role{hosts.Proxy}, "behind the balancer pike"},
		"the name alone":                   {aDroplet(2, "mastodon-worker2"), pike, []hosts.Role{hosts.Sidekiq}, "name mastodon-worker2"},
		"a tag before the name":            {aDroplet(2, "web-1", "sidekiq"), pike, []hosts.Role{hosts.Sidekiq}, "tag sidekiq"},
		"two roles that go together":       {aDroplet(2, "uhura", "builder", "keeper"), pike, []hosts.Role{hosts.Builder, hosts.Keeper}, "tag builder, tag keeper"},
		"a word within another":            {aDroplet(2, "kirk", "webhooks"), pike, nil, "neither tags, balancer nor name"},
		"refit's own tags":                 {aDroplet(2, "kirk", "refit", "refit:tier:web"), pike, nil, "neither tags, balancer nor name"},
		"behind the balancer and web":      {aDroplet(1, "kirk", "web"), pike, nil, "tag web, behind the balancer pike: web or proxy"},
		"web and sidekiq":                  {aDroplet(2, "kirk", "web", "sidekiq"), pike, nil, "web or sidekiq"},
		"a role and something else's word": {aDroplet(2, "kirk", "web", "redis"), pike, nil, "tag web, and tag redis"},
	} {
		t.Run(name, func(t *testing.T) {
			g := guessOf(test.droplet, test.balancers)
			if !slices.Equal(g.roles, test.roles) || !strings.Contains(g.why, test.why) || g.apart {
				t.Errorf("%q because %q", g.roles, g.why)
			}
		})
	}
	if g := guessOf(aDroplet(2, "khan", "opensearch"), nil); !g.apart || g.why != "tag opensearch" {
		t.Errorf("%+v", g)
	}
}

func TestTextOfTheAccountStaysWhereItStands(t *testing.T) {
	a := seed()
	a.account.Email = "x\nfleet: taken"
	a.balancers[0].Name = "pike\"\n  token: {file: /etc/shadow}"
	a.droplets[0].Region = "tor1\nkeep: 0"
	text, _ := wrote(t, anInit(), a)
	c, err := parseConfig("refit.yml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if c.Fleet != "vmst.io" || c.Cloud.Token.File != "" || c.Keep != 2 || !strings.Contains(c.Cloud.Balancer, "/etc/shadow") {
		t.Errorf("%+v %+v", c, c.Cloud)
	}
}

func TestSeveralDatabasesOrBalancersAreAskedFor(t *testing.T) {
	a := seed()
	a.databases = append(a.databases, cloud.Database{Name: "other", Engine: "pg", Host: "o.example", Port: 25060})
	a.balancers = append(a.balancers, cloud.Balancer{Name: "decoy", Droplets: []int{11}}, cloud.Balancer{Name: "elsewhere", Droplets: []int{999}})
	text, _ := wrote(t, anInit(), a)
	_, err := parseConfig("refit.yml", []byte(text))
	for _, field := range []string{"database.host: is a question", "database.port: is a question", "cloud.balancer: is a question"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%v does not say %q", err, field)
		}
	}
	if !strings.Contains(text, "which? majel at private-majel.db.example:25060, other at o.example:25060") || !strings.Contains(text, "? pike, decoy") || strings.Contains(text, "elsewhere") {
		t.Error(text)
	}
}

func TestAScopeThatLacksIsANoteAndNoDropletsAreAnError(t *testing.T) {
	a := seed()
	a.fails = map[string]error{"Balancers": &cloud.ScopeError{Scope: "load_balancer:read"}, "Account": cloud.ErrDenied}
	text, _ := wrote(t, anInit(), a)
	if !strings.Contains(text, "# load balancers could not be read: the token lacks the scope load_balancer:read") {
		t.Error(text)
	}
	for _, test := range []struct {
		r     initRequest
		fails error
		words string
	}{
		{initRequest{Tag: "nobody"}, nil, "no droplet with the tag nobody"},
		{anInit(), cloud.ErrDenied, "the token is not accepted"},
	} {
		a := seed()
		a.fails = map[string]error{"Droplets": test.fails}
		var out bytes.Buffer
		err := test.r.write(t.Context(), a, "", streams{out: &out, err: &out})
		if err == nil || !strings.Contains(err.Error(), test.words) || out.Len() > 0 {
			t.Errorf("%v, wrote %q", err, out.String())
		}
	}
}

func TestWhatWasNotReadIsNotSaidToLack(t *testing.T) {
	a := seed()
	a.balancers, a.databases = nil, nil
	a.fails = map[string]error{"Balancers": errNoWay, "Databases": errNoWay}
	text, _ := wrote(t, anInit(), a)
	for _, wrong := range []string{"has no managed cluster", "none sends users"} {
		if strings.Contains(text, wrong) {
			t.Errorf("says %q of what could not be read:\n%s", wrong, text)
		}
	}
	if !strings.Contains(text, "where is PostgreSQL? The account's databases could not be read") || !strings.Contains(text, "# balancer:") {
		t.Error(text)
	}
}

func TestAFileThatIsThereIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "refit.yml")
	r := anInit()
	r.Token = secretConfig{File: "/home/ops/token"}
	s := streams{out: &bytes.Buffer{}, err: &bytes.Buffer{}}
	if err := r.write(t.Context(), seed(), path, s); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(before), `token: {file: "/home/ops/token"}`) {
		t.Fatalf("%v\n%s", err, before)
	}
	err = r.write(t.Context(), seed(), path, s)
	if err == nil || !strings.Contains(err.Error(), "is there already") || exitCode(err) != exitRefused {
		t.Errorf("%v", err)
	}
	if err := createFile(path, []byte("x")); err == nil {
		t.Error("written over")
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("%v: changed", err)
	}
}

func TestInitReadsItsTokenFromNoFlag(t *testing.T) {
	for _, f := range initCommand(streams{}).Flags {
		for _, name := range f.Names() {
			if name == "token" {
				t.Error("a flag's value stands in the process list and the shell's history")
			}
		}
	}
	t.Setenv(cloudTokenEnv, "")
	for line, words := range map[string]string{
		"init":                                 "needs --cloud",
		"init --cloud":                         "the environment has no " + cloudTokenEnv,
		"init --cloud --api http://u:p@h.org/": "--api is no URL",
		"init --cloud --token-file /none":      "no such file",
	} {
		var out, errw bytes.Buffer
		code := run(t.Context(), append([]string{"refit"}, strings.Fields(line)...), nil, &out, &errw)
		if code != exitUsage || !strings.Contains(errw.String(), words) || strings.Contains(errw.String(), "u:p") {
			t.Errorf("%s: %d, %q", line, code, errw.String())
		}
	}
}
