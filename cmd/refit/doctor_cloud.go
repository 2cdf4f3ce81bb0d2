package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/cloud"
)

// examined is what doctor asks of the account. *cloud.Client is one.
type examined interface {
	Account(ctx context.Context) (cloud.Account, error)
	Droplets(ctx context.Context, tag string) ([]cloud.Droplet, error)
	Balancer(ctx context.Context, idOrName string) (cloud.Balancer, error)
	Database(ctx context.Context, idOrName string) (cloud.Database, error)
	Backups(ctx context.Context, database string) ([]cloud.Backup, error)
}

// prober finds out what the token may do. *cloud.Prober is one.
type prober interface {
	Ask(ctx context.Context, scope string) (cloud.Grant, string, error)
	Meter() cloud.Meter
}

// What doctor holds the account to.
const (
	// spareDroplets are what a rehearsal of one node a tier makes, and one for a replacement.
	spareDroplets = 3
	// backupAge is when a provider's daily backup is late by two hours.
	backupAge = 26 * time.Hour
	// leastLeft is what a run with snapshots and a watched balancer asks, with room.
	leastLeft = 1000
	// mostSkew is above what certificates and expiry marks bear.
	mostSkew = 30 * time.Second
)

// checkup gathers what doctor found in the account, one line each.
type checkup struct {
	config config
	api    examined
	now    time.Time

	well, known, refused []string
	scopes               map[string]cloud.Grant
}

func (c *checkup) ok(format string, args ...any) {
	c.well = append(c.well, fmt.Sprintf(format, args...))
}

func (c *checkup) say(format string, args ...any) {
	c.known = append(c.known, fmt.Sprintf(format, args...))
}

func (c *checkup) fail(format string, args ...any) {
	c.refused = append(c.refused, fmt.Sprintf(format, args...))
}

// examineCloud asks the account all that an upgrade, a rehearsal or a replacement would
// need of it. It changes nothing.
func examineCloud(ctx context.Context, c config, api examined, p prober) *checkup {
	k := &checkup{config: c, api: api, now: time.Now(), scopes: map[string]cloud.Grant{}}
	if !k.token(ctx, p) {
		return k
	}
	droplets, err := api.Droplets(ctx, "")
	if err != nil {
		k.fail("the account's droplets cannot be listed: %v", err)
	} else {
		k.account(ctx, len(droplets))
		k.droplets(droplets)
	}
	k.balancer(ctx)
	k.database(ctx)
	k.meter(p.Meter())
	return k
}

// token asks for each scope. It is false when the token itself is not accepted.
func (c *checkup) token(ctx context.Context, p prober) bool {
	var granted []string
	for _, s := range scopes {
		if s.wanted != nil && !s.wanted(*c.config.Cloud) {
			continue
		}
		grant, why, err := p.Ask(ctx, s.Name)
		if errors.Is(err, cloud.ErrDenied) {
			c.fail("cloud.token: %v: make a new one with the scopes of docs/cloud.md and put it where refit.yml says", err)
			return false
		}
		if err != nil {
			grant, why = cloud.NotProbed, err.Error()
		}
		c.scopes[s.Name] = grant
		switch {
		case grant == cloud.Granted:
			granted = append(granted, s.Name)
		case grant == cloud.Lacking && s.spared != nil && s.spared(*c.config.Cloud):
			c.say("the token lacks the scope %s (%s), without which an upgrade makes no golden images: add it in the control panel, API, Tokens", s.Name, s.For)
		case grant == cloud.Lacking && s.Upgrade:
			c.fail("the token lacks the scope %s (%s): add it to the token in the control panel, API, Tokens", s.Name, s.For)
		case grant == cloud.Lacking:
			c.say("the token lacks the scope %s (%s), which %s needs: add it in the control panel, API, Tokens", s.Name, s.For, s.Since)
		default:
			c.say("the scope %s (%s) was not probed: %s", s.Name, s.For, why)
		}
	}
	c.ok("the token is accepted")
	if len(granted) > 0 {
		c.ok("the token has the scopes %s", strings.Join(granted, ", "))
	}
	return true
}

func (c *checkup) account(ctx context.Context, used int) {
	a, err := c.api.Account(ctx)
	if err != nil {
		c.say("the account's status and limit of droplets are not known: %v", err)
		return
	}
	switch a.Status {
	case "active":
		c.ok("the account is active")
	case "locked":
		c.fail("the account is locked: nothing can be made in it until the provider's support unlocks it")
	default:
		c.say("the account's status is %q: the control panel says why", a.Status)
	}
	switch left := a.DropletLimit - used; {
	case a.DropletLimit == 0:
		c.say("how many droplets the account may have is not told (that takes droplet:read)")
	case left < spareDroplets:
		c.say("the account has %d of at most %d droplets: a rehearsal or a replacement may need %d more; ask for a higher limit in the control panel, Settings, Team", used, a.DropletLimit, spareDroplets)
	default:
		c.ok("the account has %d of at most %d droplets", used, a.DropletLimit)
	}
}

func (c *checkup) droplets(all []cloud.Droplet) {
	for _, h := range c.config.Hosts {
		d, err := dropletOf(h, all)
		switch {
		case err != nil && (slices.Contains(h.Roles, hosts.Web) || slices.Contains(h.Roles, hosts.Sidekiq) || slices.Contains(h.Roles, hosts.Proxy)):
			c.fail("%v", err)
		case err != nil:
			c.say("%v", err)
		case d.Status != "active":
			c.fail("%s: droplet %d is %s and not active: switch it on in the control panel, or find out who switched it off", h.Name, d.ID, d.Status)
		case d.Locked:
			c.say("%s: droplet %d is locked, so an action is open on it: a snapshot waits until that has ended", h.Name, d.ID)
		default:
			c.ok("%s is droplet %d (%s, %s, %s)", h.Name, d.ID, d.Name, d.Region, d.Size)
		}
	}
}

// balancer tells how the balancer is set; whether its proxies serve is judged by the
// same rule as before an upgrade.
func (c *checkup) balancer(ctx context.Context) {
	if c.config.Cloud.Balancer == "" {
		return
	}
	b, err := c.api.Balancer(ctx, c.config.Cloud.Balancer)
	if errors.Is(err, cloud.ErrNotFound) {
		c.fail("the account has no balancer %s: correct cloud.balancer in refit.yml", c.config.Cloud.Balancer)
		return
	}
	if err != nil {
		c.fail("the balancer %s cannot be asked: %v", c.config.Cloud.Balancer, err)
		return
	}
	by := fmt.Sprintf("%d droplets by ID", len(b.Droplets))
	if b.Tag != "" {
		by = "droplets by the tag " + b.Tag
	}
	h := b.Check
	c.ok("the balancer %s is %s, has %s and asks %s port %d %s every %s: a proxy goes out after %s and comes back after %s", b.Name, b.Status, by,
		h.Protocol, h.Port, h.Path, h.Every, time.Duration(h.Down)*h.Every, time.Duration(h.Up)*h.Every)
	if b.Tag != "" {
		c.say("the balancer %s finds its droplets by the tag %s: a droplet that is given this tag gets users at once, so no image or new node may carry it before it serves", b.Name, b.Tag)
	}
	if strings.EqualFold(h.Protocol, "tcp") {
		c.say("the balancer %s only asks whether port %d opens: an nginx that answers errors stays in; a check by http notices", b.Name, h.Port)
	}
}

func (c *checkup) database(ctx context.Context) {
	name := c.config.Cloud.Database
	if name == "" {
		return
	}
	d, err := c.api.Database(ctx, name)
	switch {
	case errors.Is(err, cloud.ErrNotFound):
		c.fail("the account has no database %s: correct cloud.database in refit.yml", name)
		return
	case err != nil:
		c.fail("the database %s cannot be asked: %v", name, err)
		return
	case d.Engine != "pg":
		c.fail("the database %s is %s, and Mastodon's is PostgreSQL: correct cloud.database in refit.yml", name, d.Engine)
		return
	case d.Status != "online":
		c.fail("the database %s is %s and not online: wait until it is", name, d.Status)
	default:
		c.ok("the database %s is online, PostgreSQL %s", name, d.Version)
	}
	if d.Host == c.config.Database.Host && d.Port != c.config.Database.Port {
		c.fail("database.port in refit.yml is %d, and the cluster %s itself listens on %d: the other is a connection pool's", c.config.Database.Port, name, d.Port)
	}
	backups, err := c.api.Backups(ctx, d.ID)
	if err != nil {
		c.fail("the backups of the database %s cannot be listed: %v", name, err)
		return
	}
	if len(backups) == 0 {
		c.fail("the database %s has no backup at the provider: wait for the first, or make one of your own before an upgrade", name)
		return
	}
	newest := slices.MaxFunc(backups, func(a, b cloud.Backup) int { return a.At.Compare(b.At) })
	if age := c.now.Sub(newest.At); age > backupAge {
		c.fail("the newest backup of the database %s is %s old, and one is made each day: ask the provider why before an upgrade", name, age.Round(time.Minute))
	} else {
		c.ok("the newest backup of the database %s is %s old", name, age.Round(time.Minute))
	}
}

func (c *checkup) meter(m cloud.Meter) {
	switch {
	case m.Left < 0:
		c.say("how many requests the token has left is not told")
	case m.Left < leastLeft:
		c.say("the token has %d of %d requests an hour left, and an upgrade may need %d: give other programs tokens of their own, or wait", m.Left, m.Limit, leastLeft)
	default:
		c.ok("the token has %d of %d requests an hour left", m.Left, m.Limit)
	}
	switch {
	case !m.Heard:
	case m.Skew.Abs() > mostSkew:
		c.say("this machine's clock is %s off the provider's: actions and backups are told apart by their time; is its clock set by NTP?", m.Skew.Round(time.Second))
	default:
		c.ok("this machine's clock agrees with the provider's")
	}
}

// membersOf are the IDs of the droplets that a balancer sends users to, by ID or by tag.
func membersOf(b cloud.Balancer, droplets []cloud.Droplet) []int {
	ids := slices.Clone(b.Droplets)
	for _, d := range droplets {
		if sentTo(d, b) {
			ids = append(ids, d.ID)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// sortOut tells which hosts of refit.yml are behind a balancer, and the names of the
// droplets there that are none.
func sortOut(b cloud.Balancer, all []hostConfig, droplets []cloud.Droplet) (behindIt, strange []string) {
	host := map[int]string{}
	for _, h := range all {
		if d, err := dropletOf(h, droplets); err == nil {
			host[d.ID] = h.Name
		}
	}
	name := map[int]string{}
	for _, d := range droplets {
		name[d.ID] = d.Name
	}
	for _, id := range membersOf(b, droplets) {
		switch {
		case host[id] != "":
			behindIt = append(behindIt, host[id])
		case name[id] != "":
			strange = append(strange, fmt.Sprintf("droplet %d (%s)", id, name[id]))
		default:
			strange = append(strange, fmt.Sprintf("droplet %d", id))
		}
	}
	return behindIt, strange
}

// cloudCheckup is doctor's look at the account; nil without one in refit.yml.
func (x *session) cloudCheckup(ctx context.Context) *checkup {
	c := x.config
	if c.Cloud == nil {
		return nil
	}
	api, known, err := openCloud(c, *c.Cloud, nil)
	if err != nil {
		return &checkup{refused: []string{err.Error()}}
	}
	token, _, err := c.secret(c.Cloud.Token, "cloud.token")
	if err != nil {
		return &checkup{refused: []string{err.Error()}}
	}
	k := examineCloud(ctx, c, api, &cloud.Prober{API: c.Cloud.API, Token: token})
	if known != "" {
		k.say("%s", known)
	}
	return k
}
