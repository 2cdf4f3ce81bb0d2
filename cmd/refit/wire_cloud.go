package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

// wireCloud puts in the cloud account that was written down. It asks the account nothing,
// and the token is read at the first question: what asks nothing needs none.
func (x *session) wireCloud() {
	c := x.config
	if c.Cloud == nil {
		return
	}
	x.cloud = &lateCloud{open: sync.OnceValues(func() (*cloud.Client, error) {
		client, known, err := openCloud(c, *c.Cloud, x.say)
		if known != "" {
			x.say("%s", known)
		}
		return client, err
	})}
	x.deps.Cloud = c.account(x.cloud)
	x.deps.Cloud.Sealed = x.deps.Sealed
	x.deps.Cloud.Runs = x.cloudRuns
	x.wireRehearsals(x.cloud)
}

// canKeep refuses to go forward with a run that has snapshots to make where the account's
// token is not to be had: they would fail, and the run would be taken back for that.
func (x *session) canKeep(f *stages.Facts) error {
	if x.cloud == nil {
		return nil // the steps themselves say that the block lacks
	}
	_, err := x.cloud.open()
	if err == nil {
		return nil
	}
	if slices.ContainsFunc(f.Snapshots, func(k stages.Kept) bool { return k.Image == 0 || k.Down }) {
		return exitWith(exitUsage, fmt.Errorf("cannot use the cloud account, and the run's snapshots are not complete: %w: put the token there, then `refit resume`; `refit rollback` goes back without it", err))
	}
	x.say("warning: cannot use the cloud account (%v): the run goes on without it, and no golden image is made", err)
	return nil
}

// account is the cloud account as stages know it.
func (c config) account(api stages.CloudAPI) *stages.Cloud {
	out := &stages.Cloud{
		API: api, Fleet: c.Fleet, Tiers: c.Cloud.Snapshots.Tiers, PowerOff: c.Cloud.Snapshots.PowerOff,
		Snapshots: stages.Retention{Keep: c.Cloud.Snapshots.Keep, Age: time.Duration(c.Cloud.Snapshots.Days) * day},
		Golden:    stages.Retention{Keep: c.Cloud.Golden.Keep, Age: time.Duration(c.Cloud.Golden.Days) * day},
		Droplets:  map[string]int{},
	}
	for _, h := range c.Hosts {
		if h.Droplet != 0 {
			out.Droplets[h.Name] = h.Droplet
		}
	}
	return out
}

// cloudRuns are the runs whose journals there are, with what they keep in the account.
func (x *session) cloudRuns(ctx context.Context) ([]stages.CloudRun, error) {
	shelf, err := x.shelf()
	if err != nil {
		return nil, err
	}
	return runsOn(ctx, shelf)
}

// runsOn reads the runs of a shelf. One whose journal cannot be read counts as left half
// way: nobody knows that it was not.
func runsOn(ctx context.Context, shelf keeper.Shelf) ([]stages.CloudRun, error) {
	entries, err := shelf.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []stages.CloudRun
	for _, e := range entries {
		j, err := pipeline.LoadJournal(ctx, shelf, e.ID)
		var kept struct {
			Snapshots []stages.Kept `json:"snapshots"`
			Golden    []stages.Kept `json:"golden"`
		}
		if err == nil && len(j.Facts) > 0 {
			// Another version's facts may have more, which does not matter here.
			err = json.Unmarshal(j.Facts, &kept)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil && ctx.Err() != nil:
			return nil, err
		case err != nil:
			out = append(out, stages.CloudRun{ID: e.ID, Open: true})
		default:
			// A rehearsal that was left half way needs nothing past its time.
			out = append(out, stages.CloudRun{ID: e.ID, Open: halfWay(j) && j.Kind != stages.Rehearsing, Snapshots: kept.Snapshots, Golden: kept.Golden})
		}
	}
	return out, nil
}

// imagesOf are where the images of a journal's run are.
func imagesOf(j *pipeline.Journal) []string {
	f := &stages.Facts{}
	if j.LoadFacts(f) != nil {
		return nil // of another version, which says so where it matters
	}
	return f.Images()
}
