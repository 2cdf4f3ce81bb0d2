package main

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/cloud"
)

// guess is what a droplet seems to be, and by what.
type guess struct {
	droplet cloud.Droplet
	name    string
	roles   []hosts.Role
	// why is the evidence; where roles is empty, the question.
	why string
	// apart: it is plainly something that refit has nothing to do with.
	apart bool
	// scheduler: its tags or name say so.
	scheduler bool
}

// roleWords are the words of tags and names that say what a droplet does.
var roleWords = map[string]hosts.Role{
	"proxy": hosts.Proxy, "proxies": hosts.Proxy, "nginx": hosts.Proxy, "lb": hosts.Proxy,
	"web": hosts.Web, "puma": hosts.Web, "app": hosts.Web,
	"sidekiq": hosts.Sidekiq, "worker": hosts.Sidekiq, "workers": hosts.Sidekiq,
	"builder": hosts.Builder, "build": hosts.Builder, "keeper": hosts.Keeper,
}

// apartWords say that a droplet is none of those that refit upgrades.
var apartWords = []string{
	"opensearch", "elasticsearch", "elastic", "search", "postgres", "postgresql", "mysql", "database", "db", "redis", "valkey",
	"monitoring", "monitor", "kuma", "status", "prometheus", "grafana", "backup", "backups", "bastion", "vpn", "matrix", "synapse",
}

var wordEnds = regexp.MustCompile(`[^a-z]+`)

// wordsOf are the words of a tag or name: "role:web-01" has "role" and "web".
func wordsOf(text string) []string {
	return slices.DeleteFunc(wordEnds.Split(strings.ToLower(text), -1), func(w string) bool { return w == "" })
}

// evidence gathers roles and what speaks for each.
type evidence struct {
	roles []hosts.Role
	why   []string
}

func (e *evidence) add(role hosts.Role, why string) {
	if !slices.Contains(e.roles, role) {
		e.roles = append(e.roles, role)
	}
	if !slices.Contains(e.why, why) {
		e.why = append(e.why, why)
	}
}

// guessOf says what a droplet is: by its tags and by the balancer that it is behind,
// and by its name only where both say nothing. What contradicts itself is a question.
func guessOf(d cloud.Droplet, balancers []cloud.Balancer) guess {
	g := guess{droplet: d, name: d.Name}
	var e evidence
	apart := ""
	read := func(kind, text string) {
		for _, w := range wordsOf(text) {
			if role, ok := roleWords[w]; ok {
				e.add(role, kind+" "+text)
			}
			if slices.Contains(apartWords, w) {
				apart = kind + " " + text
			}
			g.scheduler = g.scheduler || w == "scheduler"
		}
	}
	for _, t := range d.Tags {
		if t != cloud.MadeTag && !strings.HasPrefix(t, cloud.MadeTag+":") {
			read("tag", t)
		}
	}
	for _, b := range balancers {
		if sentTo(d, b) {
			e.add(hosts.Proxy, "behind the balancer "+b.Name)
		}
	}
	if len(e.roles) == 0 && apart == "" {
		read("name", d.Name)
	}
	g.roles, g.why = e.roles, strings.Join(e.why, ", ")
	has := func(r hosts.Role) bool { return slices.Contains(e.roles, r) }
	switch {
	case len(e.roles) == 0 && apart != "":
		g.apart, g.why = true, apart
	case len(e.roles) == 0:
		g.why = "neither tags, balancer nor name say what it is"
	case apart != "":
		g.roles, g.why = nil, fmt.Sprintf("%s, and %s", g.why, apart)
	case has(hosts.Proxy) && (has(hosts.Web) || has(hosts.Sidekiq)) || has(hosts.Web) && has(hosts.Sidekiq):
		g.roles, g.why = nil, fmt.Sprintf("%s: %s", g.why, join(e.roles, " or "))
	}
	return g
}

// sentTo tells whether a balancer sends users to a droplet.
func sentTo(d cloud.Droplet, b cloud.Balancer) bool {
	return slices.Contains(b.Droplets, d.ID) || b.Tag != "" && slices.Contains(d.Tags, b.Tag)
}

func join(roles []hosts.Role, with string) string {
	var out []string
	for _, r := range roles {
		out = append(out, string(r))
	}
	return strings.Join(out, with)
}

// guesses are those of all droplets, in the order in which the file has them, with
// host names made of the droplets'.
func guesses(in inventoried) (out []guess, domain string) {
	for _, d := range in.droplets {
		out = append(out, guessOf(d, in.balancers))
	}
	domain = shared(in.droplets)
	for i := range out {
		name := strings.TrimSuffix(strings.ToLower(out[i].droplet.Name), "."+domain)
		out[i].name = strings.Trim(regexp.MustCompile(`[^a-z0-9-]+`).ReplaceAllString(name, "-"), "-")
	}
	slices.SortStableFunc(out, func(a, b guess) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a.name, b.name), cmp.Compare(a.droplet.ID, b.droplet.ID))
	})
	return out, domain
}

// rank orders hosts as the example has them; questions stand before what is left out.
func rank(g guess) int {
	switch {
	case g.apart:
		return len(allRoles) + 1
	case len(g.roles) == 0:
		return len(allRoles)
	}
	return slices.Index(allRoles, slices.MinFunc(g.roles, func(a, b hosts.Role) int {
		return cmp.Compare(slices.Index(allRoles, a), slices.Index(allRoles, b))
	}))
}

// shared is the domain that all droplets' names end in; "" if there is none.
func shared(all []cloud.Droplet) string {
	var common string
	for i, d := range all {
		_, rest, _ := strings.Cut(strings.ToLower(d.Name), ".")
		if !domain.MatchString(rest) || i > 0 && rest != common {
			return ""
		}
		common = rest
	}
	return common
}
