package main

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
)

// cloudConfig is the account that the fleet's machines are in.
type cloudConfig struct {
	Token *secretConfig `yaml:"token"`
	API   string        `yaml:"api"`
	// Balancer and Database are names or IDs; "" for none.
	Balancer  string          `yaml:"balancer"`
	Database  string          `yaml:"database"`
	Snapshots snapshotsConfig `yaml:"snapshots"`
	Golden    goldenConfig    `yaml:"golden"`
	// Born says how new machines are reached; nil where none are made.
	Born *bornConfig `yaml:"born"`
	// Rehearse says what a rehearsal makes and what its copies must not reach.
	Rehearse rehearseConfig `yaml:"rehearse"`
}

// bornConfig says how a machine is reached before it is in service.
type bornConfig struct {
	// From are addresses in CIDR form, SSHKeys the account's keys by ID or fingerprint.
	From    []string `yaml:"from"`
	SSHKeys []string `yaml:"ssh_keys"`
}

// fingerprint is an ssh key's, as the account shows it.
var fingerprint = regexp.MustCompile(`^([0-9]+|[0-9a-f]{2}(:[0-9a-f]{2}){15})$`)

func (c *bornConfig) check(w *wrongs) {
	if c == nil {
		return
	}
	if len(c.From) == 0 {
		w.say("cloud.born.from", "is missing: the addresses from which refit reaches new machines, such as 192.0.2.7/32")
	}
	for i, from := range c.From {
		at := fmt.Sprintf("cloud.born.from[%d]", i)
		p, err := netip.ParsePrefix(from)
		switch {
		case err != nil:
			w.say(at, "%q is no address in CIDR form, such as 192.0.2.7/32", from)
		case p != p.Masked():
			w.say(at, "%q has bits beyond its length: %s", from, p.Masked())
		case p.Bits() == 0:
			w.say(at, "%q is everybody: a new machine must be reached by refit alone", from)
		}
	}
	for i, k := range c.SSHKeys {
		if !fingerprint.MatchString(k) {
			w.say(fmt.Sprintf("cloud.born.ssh_keys[%d]", i), "%q is neither the number nor the fingerprint (MD5) of a key in the account", k)
		}
	}
}

// snapshotsConfig says what is kept of nodes before an upgrade.
type snapshotsConfig struct {
	// Tiers are those of which one node is kept, PowerOff those whose node is switched
	// off for it.
	Tiers    []string `yaml:"tiers"`
	PowerOff []string `yaml:"power_off"`
	// Keep is how many of a tier stay whatever their age, Days how long the others do.
	Keep int `yaml:"keep"`
	Days int `yaml:"days"`
}

// goldenConfig says how many images for new nodes stay.
type goldenConfig struct {
	Keep int `yaml:"keep"`
	Days int `yaml:"days"`
}

// tiers are those whose nodes an upgrade changes.
var tiers = []string{"web", "sidekiq"}

func (c *cloudConfig) check(w *wrongs) {
	if c == nil {
		return
	}
	if c.Token == nil {
		w.say("cloud.token", "is missing: {file: …} or {env: DIGITALOCEAN_ACCESS_TOKEN}")
	}
	c.Token.check(w, "cloud.token")
	c.Born.check(w)
	c.Rehearse.check(w)
	if c.API != "" {
		w.url("cloud.api", c.API, "URL such as https://api.digitalocean.com/")
	}
	for field, list := range map[string][]string{"cloud.snapshots.tiers": c.Snapshots.Tiers, "cloud.snapshots.power_off": c.Snapshots.PowerOff} {
		for _, t := range list {
			if !slices.Contains(tiers, t) {
				w.say(field, "%q: web or sidekiq", t)
			}
		}
	}
	for _, t := range c.Snapshots.PowerOff {
		if slices.Contains(tiers, t) && !slices.Contains(c.Snapshots.Tiers, t) {
			w.say("cloud.snapshots.power_off", "%q is none of cloud.snapshots.tiers, so nothing of it is kept", t)
		}
	}
	for field, n := range map[string]int{"cloud.snapshots.keep": c.Snapshots.Keep, "cloud.golden.keep": c.Golden.Keep} {
		if n < 1 {
			w.say(field, "%d: at least one must stay", n)
		}
	}
	for field, n := range map[string]int{"cloud.snapshots.days": c.Snapshots.Days, "cloud.golden.days": c.Golden.Days} {
		if n < 0 {
			w.say(field, "%d is negative", n)
		}
	}
}

// UnmarshalYAML fills in the defaults of what the file does not name.
func (c *cloudConfig) UnmarshalYAML(unmarshal func(any) error) error {
	type plain cloudConfig
	p := plain{
		API:       "https://api.digitalocean.com/",
		Snapshots: snapshotsConfig{Tiers: slices.Clone(tiers), Keep: 2, Days: 14},
		Golden:    goldenConfig{Keep: 2, Days: 60},
		Rehearse:  rehearseConfig{Valkey: "db-s-1vcpu-1gb", Closed: []string{"1.1.1.1:443", "9.9.9.9:443"}},
	}
	if err := unmarshal(&p); err != nil {
		return err
	}
	*c = cloudConfig(p)
	return nil
}
