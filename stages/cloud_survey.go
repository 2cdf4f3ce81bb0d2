package stages

import (
	"context"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/hosts/node"
)

// choose decides which nodes an upgrade keeps as images, and says what that takes. What
// keeps it from being done is refused here, before anything is touched.
func (c *Cloud) choose(ctx context.Context, d Deps, v *View, f *Facts) (refused, said []string) {
	found, refused, err := c.machines(ctx, d.Fleet.Apps())
	if err != nil {
		return []string{err.Error()}, nil
	}
	f.Snapshots, f.Golden = nil, nil
	for _, tier := range cloudTiers {
		f.Golden = append(f.Golden, Kept{Tier: tier, Release: f.To.Version.String()})
		all := pick(d.tierOf(tier), f.rolled(tier))
		if !slices.Contains(c.Tiers, tier) || len(all) == 0 {
			continue
		}
		n := all[0]
		x, ok := found[n.Name]
		if !ok {
			continue // refused above
		}
		if i := slices.IndexFunc(f.Snapshots, func(k Kept) bool { return k.Host == n.Name }); i >= 0 {
			// A second image of the same disk would have the same name.
			if slices.Contains(c.PowerOff, tier) != f.Snapshots[i].Off {
				refused = append(refused, fmt.Sprintf("%s is to be kept for the tiers %s and %s, and only one of them is in cloud.snapshots.power_off: name both there or neither", n.Name, f.Snapshots[i].Tier, tier))
			}
			said = append(said, fmt.Sprintf("the snapshot of %s, which is kept for the tier %s, is the tier %s's too", n.Name, f.Snapshots[i].Tier, tier))
			continue
		}
		k := Kept{Tier: tier, Host: n.Name, Droplet: x.ID, Release: f.From.Version.String(), Used: used(v.Facts[n.Name])}
		if slices.Contains(c.PowerOff, tier) {
			k.Off = true
			if why := unsafeOff(n, x); why != "" {
				refused = append(refused, why)
			}
		}
		f.Snapshots = append(f.Snapshots, k)
		said = append(said, k.costs(x.DiskGiB))
		if elsewhere(d, v.Facts[n.Name]) {
			said = append(said, fmt.Sprintf("%s: releases lie on another file system than %s: if that is a volume, no snapshot and no golden image holds it", n.Name, node.StateDir))
		}
		if x.Locked {
			said = append(said, fmt.Sprintf("%s: something is being done to its droplet %d (a backup, perhaps): the snapshot waits for its end", n.Name, x.ID))
		}
	}
	if len(f.Snapshots) > 0 {
		said = append(said, c.terms(f.Snapshots))
	}
	return refused, append(said, fmt.Sprintf("at the end a golden image of each tier is made, of about the same size, for new nodes; the newest %d of a tier stay, and others for %s", max(c.Golden.Keep, 1), days(c.Golden.Age)))
}

// unsafeOff tells why a node must not be switched off; empty if it may.
func unsafeOff(n Node, x cloud.Droplet) string {
	for _, r := range n.Roles {
		if r != hosts.Web && r != hosts.Sidekiq {
			return fmt.Sprintf("%s is %s too and cannot be switched off for a snapshot: take its tier out of cloud.snapshots.power_off", n.Name, r)
		}
	}
	if !isAt(x, n) && x.Name != n.Name {
		return fmt.Sprintf("%s: its droplet %d has neither its address nor its name (it is called %s), and is not switched off on refit.yml's word alone: correct hosts[].droplet there, or take the tier out of cloud.snapshots.power_off", n.Name, x.ID, x.Name)
	}
	return ""
}

// used is how much of its disk a node uses, 0 for unknown: of the file system that holds
// refit's own files, the droplet's own disk.
func used(f node.Facts) int64 {
	for _, disk := range f.Disks {
		if disk.Path == node.StateDir && disk.Total > disk.Free {
			return int64(min(disk.Total-disk.Free, math.MaxInt64))
		}
	}
	return 0
}

// elsewhere tells whether releases lie on another file system than refit's own files.
func elsewhere(d Deps, f node.Facts) bool {
	by := map[string]uint64{}
	for _, disk := range f.Disks {
		by[disk.Path] = disk.Device
	}
	return by[node.StateDir] != by[path.Join(d.Layout.Home, "releases")]
}

// What a snapshot takes. Nearly all take 50 to 70 seconds for each GB in use (a million
// of them: https://snapshooter.io/blog/how-long-does-a-digitalocean-snapshot-take), and
// the provider says up to three minutes. Prices are the provider's, each month:
// https://docs.digitalocean.com/products/snapshots/details/pricing/
const (
	fastest, slowest = 50 * time.Second, 70 * time.Second
	promised         = 3 * time.Minute
	monthly          = 0.06
	leastMonthly     = 0.01
)

// estimate is how long an image of so many bytes takes, and what it costs a month.
func estimate(used int64) (least, most time.Duration, dollars float64) {
	gib := float64(used) / (1 << 30)
	return time.Duration(gib * float64(fastest)), time.Duration(gib * float64(slowest)), max(gib*monthly, leastMonthly)
}

// most is how long it is expected to take at most, patience how long it is waited for.
func (k Kept) most() time.Duration {
	_, most, _ := estimate(k.Used)
	return most.Round(time.Second)
}

func (k Kept) patience() time.Duration {
	gib := float64(k.Used) / (1 << 30)
	if k.Used == 0 {
		gib = 60 // as much as a node's disk may well hold
	}
	return 15*time.Minute + time.Duration(gib*float64(promised))
}

// costs says what keeping the node takes. disk, in GiB, stands in where its use is not
// known.
func (k Kept) costs(disk int) string {
	holds := humanize.IBytes(uint64(k.Used)) + " in use"
	if k.Used == 0 {
		k.Used = int64(disk) << 30
		holds = fmt.Sprintf("how much is in use is not known, at most the %d GiB of its disk", disk)
	}
	least, most, dollars := estimate(k.Used)
	return fmt.Sprintf("a snapshot of %s is kept for the tier %s (%s): it takes %d to %d minutes%s and costs $%.2f a month", k.Host, k.Tier, holds, minutes(least), minutes(most),
		orWhy(k.Off, ", in which the node is switched off and its peers carry its load,", " beside the build"), dollars)
}

func minutes(d time.Duration) int { return max(int(math.Ceil(d.Minutes())), 1) }

func days(age time.Duration) string { return count(int(age/(24*time.Hour)), "day") }

// terms say what the snapshots hold and what they do not.
func (c *Cloud) terms(all []Kept) string {
	var live []string
	for _, k := range all {
		if !k.Off {
			live = append(live, k.Host)
		}
	}
	words := "snapshots hold the droplet's own disk alone: no volume, no database, no Redis, no bucket"
	if len(live) > 0 {
		words += fmt.Sprintf("; %s work while theirs is taken, so it is what a power cut would leave (sync is called before)", strings.Join(live, ", "))
	}
	return words + fmt.Sprintf(". When the provider's own backup of a droplet is due is not known here: one that is at work is waited for. The newest %d of a tier stay, and others for %s", max(c.Snapshots.Keep, 1), days(c.Snapshots.Age))
}
