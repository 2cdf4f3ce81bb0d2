package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/pipeline"
)

// Expired is something in the account that refit made for this fleet and that nobody
// needs any more.
type Expired struct {
	// Kind is "droplet", "database" or "firewall"; ID and Name are the account's.
	Kind string `json:"kind"`
	ID   string `json:"id"`
	Name string `json:"name"`
	// Since is when it expired; zero for a firewall whose machines are gone.
	Since time.Time `json:"since,omitzero"`
	// Monthly is what it costs in US dollars, 0 where that is not known.
	Monthly float64 `json:"monthly,omitempty"`

	droplet int
	behind  int // how many machines are behind a firewall
}

func (e Expired) String() string {
	out := fmt.Sprintf("%s %s (%s)", e.Kind, e.Name, e.ID)
	if e.Monthly > 0 {
		out += fmt.Sprintf(", $%.2f a month", e.Monthly)
	}
	if !e.Since.IsZero() {
		out += ", expired " + e.Since.Format("2006-01-02 15:04 MST")
	}
	return out
}

// sweepable are the purposes of what is swept. Images have rules of their own.
var sweepable = []cloud.Purpose{cloud.ForReplacement, cloud.ForRehearsal}

// Expired lists what may be swept: what refit made for this fleet and one of those
// purposes, past its time, of no run that is half way, and nothing that refit.yml names.
func (d Deps) Expired(ctx context.Context) ([]Expired, error) {
	open, err := d.openRuns(ctx)
	if err != nil {
		return nil, err
	}
	var out []Expired
	all, err := d.Cloud.API.Droplets(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("cannot ask the cloud account for its droplets: %w%s", err, cloudRemedy(err))
	}
	going := map[int]bool{}
	for _, x := range all {
		if since, ok := d.expired(x.Tags, open); ok && !d.standsIn(x) {
			going[x.ID] = true
			out = append(out, Expired{Kind: "droplet", ID: fmt.Sprint(x.ID), Name: x.Name, Since: since, Monthly: x.Monthly, droplet: x.ID})
		}
	}
	bases, err := d.Cloud.API.Databases(ctx)
	if err != nil && !hopeless(err) {
		return nil, fmt.Errorf("cannot ask the cloud account for its databases: %w%s", err, cloudRemedy(err))
	}
	for _, x := range bases { // none, for a token that may not see any
		if since, ok := d.expired(x.Tags, open); ok {
			out = append(out, Expired{Kind: "database", ID: x.ID, Name: x.Name, Since: since})
		}
	}
	walls, err := d.Cloud.API.Firewalls(ctx)
	if err != nil && !hopeless(err) {
		return nil, fmt.Errorf("cannot ask the cloud account for its firewalls: %w%s", err, cloudRemedy(err))
	}
	for _, w := range walls {
		if behind, ok := d.idleWall(w, all, going, open); ok {
			out = append(out, Expired{Kind: "firewall", ID: w.ID, Name: w.Name, behind: behind})
		}
	}
	return out, nil
}

// openRuns are the tags of runs that were left half way: what they made is theirs.
func (d Deps) openRuns(ctx context.Context) ([]string, error) {
	if d.Cloud == nil {
		return nil, errors.New("refit.yml names no cloud account (cloud)")
	}
	if d.Cloud.Runs == nil {
		return nil, errors.New("which runs are half way cannot be asked, so nothing is swept")
	}
	runs, err := d.Cloud.Runs(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot tell which runs are half way, so nothing is swept: %w", err)
	}
	var out []string
	for _, r := range runs {
		if r.Open {
			out = append(out, cloud.RunTag(r.ID))
		}
	}
	return out, nil
}

// expired tells whether tags are of something that may be swept, and since when. Of
// several times the last counts; without one it never expires.
func (d Deps) expired(tags, open []string) (time.Time, bool) {
	ours := slices.ContainsFunc(sweepable, func(p cloud.Purpose) bool { return cloud.Ours(tags, d.Cloud.Fleet, p) })
	if !ours || slices.ContainsFunc(open, func(t string) bool { return slices.Contains(tags, t) }) {
		return time.Time{}, false
	}
	var last time.Time
	for _, t := range tags {
		if !strings.HasPrefix(t, cloud.ExpiryPrefix) {
			continue
		}
		at, ok := cloud.Expiry([]string{t})
		if !ok {
			return time.Time{}, false // not as refit writes it
		}
		if at.After(last) {
			last = at
		}
	}
	return last, !last.IsZero() && last.Before(time.Now())
}

// standsIn tells whether refit.yml names a droplet, by its ID or by one of its addresses.
func (d Deps) standsIn(x cloud.Droplet) bool {
	for _, n := range d.Fleet {
		if d.Cloud.Droplets[n.Name] == x.ID || isAt(x, n) {
			return true
		}
	}
	return false
}

// idleWall tells whether a firewall is one of a birth that is over: by its name, with the
// tag of that run and nothing else, and each machine behind it goes too.
func (d Deps) idleWall(w cloud.Firewall, all []cloud.Droplet, going map[int]bool, open []string) (behind int, ok bool) {
	run, ours := cloud.BirthRun(d.Cloud.Fleet, w.Name)
	if !ours || !slices.Equal(w.Tags, []string{cloud.RunTag(run)}) || len(w.Droplets) > 0 || slices.Contains(open, w.Tags[0]) {
		return 0, false
	}
	for _, x := range all {
		if !slices.Contains(x.Tags, w.Tags[0]) {
			continue
		}
		if !going[x.ID] {
			return 0, false
		}
		behind++
	}
	return behind, true
}

// Sweep destroys what is on the list, each looked at once more right before. What cannot
// be destroyed does not keep the others.
func (d Deps) Sweep(ctx context.Context, list []Expired, say pipeline.Say) error {
	var errs []error
	for _, e := range list {
		if err := pipeline.Safe(ctx); err != nil {
			return errors.Join(append(errs, err)...)
		}
		now, err := d.Expired(ctx)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		at := slices.IndexFunc(now, func(x Expired) bool { return x.Kind == e.Kind && x.ID == e.ID })
		if at < 0 || now[at].behind > 0 {
			say("%s stays: %s", e, orWhy(at < 0, "it is not what it was when it was listed", "a machine is behind it yet"))
			continue
		}
		switch e.Kind {
		case "droplet":
			err = d.Cloud.API.Destroy(ctx, e.droplet)
		case "database":
			err = d.Cloud.API.DestroyDatabase(ctx, e.ID)
		case "firewall":
			err = d.Cloud.API.DestroyFirewall(ctx, e.ID)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w%s", e, err, cloudRemedy(err)))
			continue
		}
		say("destroyed %s", e)
	}
	return errors.Join(errs...)
}
