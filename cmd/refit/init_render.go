package main

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/cloud"
)

// page writes the file: lines with what they are guessed by behind them.
type page struct{ bytes.Buffer }

func (p *page) line(text, why string) {
	if why != "" {
		text = fmt.Sprintf("%-34s # %s", text, plain(why))
	}
	p.WriteString(strings.TrimRight(text, " ") + "\n")
}

func (p *page) note(format string, args ...any) {
	p.WriteString("# " + plain(fmt.Sprintf(format, args...)) + "\n")
}

// plain keeps text of the account in its comment's line.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, text)
}

// quoted is text of the account as a YAML value.
func quoted(text string) string { return strconv.Quote(plain(text)) }

// render is the file. It holds no secret: the token is named by where it is.
func (r initRequest) render(in inventoried) []byte {
	p := &page{}
	found, ending := guesses(in)
	p.note("refit.yml, made by `refit init --cloud` from what the account has. Behind each guess stands what")
	p.note("it was made by; \"?\" is what you must answer, and refit refuses the file until you have. All")
	p.note("other settings have defaults, which `refit example` shows.")
	for _, line := range in.unread {
		p.note("%s", line)
	}
	p.line("", "")
	r.renderNames(p, ending)
	p.line("ssh:", "")
	p.line("  user: refit", "the login on every host; docs/adopt.md says what it needs")
	p.line("  key: ~/.ssh/refit", "its private key")
	p.line("  known_hosts: ./known_hosts", "make it with ssh-keyscan and compare it on the hosts; no key is ever learned")
	p.line("", "")
	p.note("refit rolls the nodes of a tier in this order. Private addresses are taken where there are any.")
	p.line("hosts:", "")
	scheduler := schedulerOf(found)
	for _, g := range found {
		renderHost(p, g, scheduler)
	}
	for _, role := range allRoles {
		if !slices.ContainsFunc(found, func(g guess) bool { return slices.Contains(g.roles, role) }) {
			p.note("? Which host has the role %s? Nothing in the account says it: add it to one of the above.", role)
		}
	}
	p.line("", "")
	db := r.renderDatabase(p, in)
	p.line("", "")
	r.renderCloud(p, in, db)
	return p.Bytes()
}

func (r initRequest) renderNames(p *page, ending string) {
	local, why := r.Domain, "as you said"
	if local == "" && ending != "" {
		local, why = ending, "the droplets' names end in it; LOCAL_DOMAIN of .env.production must be the same"
	}
	fleet, named := r.Fleet, "as you said"
	if fleet == "" {
		fleet, named = local, "the domain; it stands in journals and messages"
	}
	ask := func(key, value, why, question string) {
		if value == "" {
			p.line(key+`: "?"`, question)
			return
		}
		p.line(key+": "+quoted(value), why)
	}
	ask("fleet", fleet, named, "a name for the fleet, in journals and messages, such as its domain?")
	ask("domain", local, why, "LOCAL_DOMAIN of your Mastodon? An account does not say it (--domain)")
	p.line("", "")
}

// schedulerOf is the Sidekiq host that is guessed to serve the queue scheduler, which
// exactly one may.
func schedulerOf(found []guess) string {
	var last string
	for _, g := range found {
		if slices.Contains(g.roles, hosts.Sidekiq) {
			if last = g.name; g.scheduler {
				break
			}
		}
	}
	return last
}

func renderHost(p *page, g guess, scheduler string) {
	if g.apart {
		p.note("left out: %s, droplet %d, %s", g.name, g.droplet.ID, g.why)
		return
	}
	p.line("  - name: "+quoted(g.name), "droplet "+plain(g.droplet.Name)+", "+g.droplet.Region)
	d := g.droplet
	switch {
	case d.Private.IsValid():
		why := "private"
		if d.Public.IsValid() {
			why += "; public is " + d.Public.String()
		}
		p.line("    address: "+d.Private.String(), why)
	case d.Public.IsValid():
		p.line("    address: "+d.Public.String(), "public: it has no private one")
	default:
		p.line(`    address: "?"`, "the account knows no address of it; is it on?")
	}
	p.line("    droplet: "+strconv.Itoa(d.ID), "")
	if len(g.roles) == 0 {
		p.line(`    roles: ["?"]`, g.why+": proxy, web, sidekiq, builder, keeper? If it is none of them, remove these four lines")
		return
	}
	p.line("    roles: ["+join(g.roles, ", ")+"]", g.why)
	if slices.Contains(g.roles, hosts.Web) {
		p.line("    web: {port: 3000, streaming: [4000]}", "Mastodon's own ports; refit doctor asks them")
	}
	if slices.Contains(g.roles, hosts.Sidekiq) {
		p.line("    sidekiq:", "a guess that refit doctor holds to the units: systemctl cat 'mastodon-sidekiq*'")
		p.line("      - {unit: mastodon-sidekiq.service, queues: [default, push, ingress, mailers, pull, fasp]}", "")
		if g.name == scheduler {
			why := "on one node only; taken to be the last"
			if g.scheduler {
				why = "on one node only; its tags or its name say scheduler"
			}
			p.line("      - {unit: mastodon-sidekiq-scheduler.service, queues: [scheduler]}", why)
		}
	}
}

// renderDatabase writes where PostgreSQL is, and is its cluster's name; "" where that is
// not known.
func (r initRequest) renderDatabase(p *page, in inventoried) string {
	all := slices.DeleteFunc(slices.Clone(in.databases), func(d cloud.Database) bool { return d.Engine != "pg" })
	p.note("Migrations go straight to PostgreSQL: the cluster's own port, never a connection pool's.")
	p.line("database:", "")
	if len(all) != 1 {
		question := "where is PostgreSQL? The account has no managed cluster of it"
		if in.noDatabases {
			question = "where is PostgreSQL? The account's databases could not be read"
		}
		if len(all) > 1 {
			var each []string
			for _, d := range all {
				each = append(each, fmt.Sprintf("%s at %s:%d", d.Name, d.Host, d.Port))
			}
			question = "which? " + strings.Join(each, ", ")
		}
		p.line(`  host: "?"`, question)
		p.line(`  port: "?"`, "")
		p.line("  name: mastodon_production", "Mastodon's own default; DB_NAME of .env.production, not a pool's name")
		return ""
	}
	d := all[0]
	p.line("  host: "+quoted(d.Host), fmt.Sprintf("managed cluster %s, PostgreSQL %s, in the private network", d.Name, d.Version))
	p.line("  port: "+strconv.Itoa(d.Port), "the cluster's own")
	p.line("  name: mastodon_production", "Mastodon's own default; DB_NAME of .env.production, not a pool's name")
	return d.Name
}

func (r initRequest) renderCloud(p *page, in inventoried, database string) {
	if in.account.Email != "" {
		p.note("The account of %s, which may have %d droplets.", in.account.Email, in.account.DropletLimit)
	}
	p.line("cloud:", "")
	where := "{env: " + r.Token.Env + "}"
	if r.Token.File != "" {
		where = "{file: " + quoted(r.Token.File) + "}"
	}
	p.line("  token: "+where, "where it is, never the token itself; docs/cloud.md lists its scopes")
	if r.API != "" && r.API != cloudAPI {
		p.line("  api: "+quoted(r.API), "as you said")
	}
	switch with := fronting(in); {
	case len(with) == 1:
		p.line("  balancer: "+quoted(with[0].Name), "it sends users to droplets above")
	case len(with) > 1:
		var each []string
		for _, b := range with {
			each = append(each, b.Name)
		}
		p.line(`  balancer: "?"`, "which one do users of Mastodon come through? "+strings.Join(each, ", "))
	case in.noBalancers:
		p.line("  # balancer:", "the account's could not be read; name the one that users come through, if there is one")
	default:
		p.line("  # balancer:", "none sends users to droplets above")
	}
	if database != "" {
		p.line("  database: "+quoted(database), "its backups are looked at before each upgrade")
	}
}

// fronting are the balancers with a droplet of these behind them.
func fronting(in inventoried) []cloud.Balancer {
	var out []cloud.Balancer
	for _, b := range in.balancers {
		if slices.ContainsFunc(in.droplets, func(d cloud.Droplet) bool { return sentTo(d, b) }) {
			out = append(out, b)
		}
	}
	return out
}
