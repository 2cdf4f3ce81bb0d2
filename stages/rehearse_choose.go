package stages

import (
	"context"
	"fmt"
	"strings"
	"time"

	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/pipeline"
)

// Hosts of a rehearsal are called by their tier and its run, so that no two rehearsals meet.
func copyHost(tier, run string) string { return "rehearsal-" + tier + "-" + run }

// ConceiveCopy asks the account what it takes to rehearse the upgrade that facts are of, and
// writes it down there. Refusals are what stands against it. Nothing is changed.
func (d Deps) ConceiveCopy(ctx context.Context, id string, f *Facts, say pipeline.Say) (refused []string, err error) {
	if d.Cloud == nil || d.Births == nil || d.Rehearsals == nil {
		return []string{"refit.yml does not say what is to be copied and how: a rehearsal needs cloud.database, the managed database's name, and cloud.born.from, the addresses from which refit reaches new machines"}, nil
	}
	r := &Rehearsal{Until: time.Now().Add(rehearsalLife).UTC().Truncate(time.Second), From: d.Rehearsals.Database}
	r.Fork.Name, r.Valkey.Name = cloud.CopyName(d.Cloud.Fleet, id, "pg", r.Until), cloud.CopyName(d.Cloud.Fleet, id, "valkey", r.Until)
	f.Rehearsal = r
	// A rehearsal keeps no image of a node, before or after.
	f.Snapshots, f.Golden = nil, nil
	var all []cloud.Droplet
	var monthly float64
	for _, tier := range cloudTiers {
		c := conceiving{d: d, r: BirthRequest{Tier: tier, Name: copyHost(tier, id)}, f: &Facts{Birth: &Birth{Expires: r.Until}}}
		if c.who() {
			for _, ask := range []func(context.Context, pipeline.Say) error{c.machines, c.image} {
				if err := ask(ctx, say); err != nil {
					return refused, err
				}
			}
		}
		refused, all = append(refused, c.refused...), c.all
		b := c.f.Birth
		// The fleet's own tags open the fleet's database and firewalls: a copy never gets them.
		b.Tags = nil
		r.Copies = append(r.Copies, b)
		if like, why := d.Cloud.machine(c.all, d.like(b)); why == "" {
			monthly += like.Monthly
		}
	}
	api := d.Rehearsals.API
	account, err := api.Account(ctx)
	if err != nil {
		return refused, fmt.Errorf("cannot ask the cloud account for its limits: %w%s", err, cloudRemedy(err))
	}
	if room := account.DropletLimit - len(all); account.DropletLimit > 0 && room < len(r.Copies) {
		refused = append(refused, fmt.Sprintf("the account has %d droplets and may have %d, and a rehearsal needs %d more: destroy some, or ask the provider for a higher limit", len(all), account.DropletLimit, len(r.Copies)))
	}
	db, err := api.Database(ctx, r.From)
	if err != nil {
		return refused, fmt.Errorf("%w%s", err, cloudRemedy(err))
	}
	if db.Engine != "pg" || db.Status != online {
		refused = append(refused, fmt.Sprintf("the database %s is %s, of engine %s: it is copied when it is online, and PostgreSQL", db.Name, db.Status, db.Engine))
	}
	f.Said = append(f.Said, r.cost(db, d.Rehearsals.Valkey, monthly)...)
	return refused, nil
}

func (d Deps) like(b *Birth) Node {
	n, _ := d.Fleet.Named(b.Like)
	return n
}

// hoursInMonth is how many hours the provider counts in one.
const hoursInMonth = 672

// cost says what is made, for how long, and what of its price is known.
func (r *Rehearsal) cost(db cloud.Database, valkey string, monthly float64) []string {
	var made []string
	for _, b := range r.Copies {
		made = append(made, fmt.Sprintf("a droplet of size %s from image %d of %s (%s)", b.Size, b.Image, b.Of, b.Tier))
	}
	price := "the account does not tell the droplets' price"
	if monthly > 0 {
		price = fmt.Sprintf("the droplets cost about $%.2f an hour", monthly/hoursInMonth)
	}
	return []string{
		fmt.Sprintf("made for some hours, then destroyed: %s; a copy of the database %s (%s, one node) and a Valkey (%s)", strings.Join(made, "; "), db.Name, db.Size, valkey),
		price + "; what databases cost stands in the provider's price list, by their sizes, by the hour",
		fmt.Sprintf("what is left of it after %s, should refit never come back, is destroyed by `refit sweep --yes`", r.Until.Format("2006-01-02 15:04 MST")),
		"the copy has the users and passwords of the fleet's database; it can be reached by whoever has those, as the provider's firewall of databases does not go with a copy",
		"copies send no mail, no files, no searches, no reports and no federation; VAPID's keys stay, since Mastodon does not boot without them, and no push gets out",
	}
}

// FitsCopy tells why a rehearsal cannot be gone on with in a fleet; empty if it can.
func (f *Facts) FitsCopy(fleet Fleet) string {
	r := f.Rehearsal
	for _, b := range r.Copies {
		if !fleet.has(b.Like) {
			return fmt.Sprintf("refit.yml has no %s any more, which %s is a copy of", b.Like, b.Host)
		}
		if fleet.has(b.Host) {
			return fmt.Sprintf("refit.yml names %s, which is a copy", b.Host)
		}
	}
	return ""
}
