package stages

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/pipeline"
)

// snapshot begins to keep one node of each tier as an image, while the nodes work and the
// release is built: an image takes the account half an hour, and nothing waits for it yet.
type snapshot struct {
	d  Deps
	f  *Facts
	id string
}

func (snapshot) Name() string { return "snapshot" }

// errNoCloud is of a run that was planned with a cloud account.
var errNoCloud = errors.New("the run keeps images in the cloud account, and refit.yml names none any more: put the block `cloud` back")

// Check asks whether the droplets are still those of the plan.
func (s snapshot) Check(ctx context.Context, _ pipeline.Say) error {
	return sameDroplets(ctx, s.d, live(s.f))
}

// sameDroplets asks whether nodes that are to be kept have the droplets that were found.
func sameDroplets(ctx context.Context, d Deps, all []*Kept) error {
	if d.Cloud == nil {
		return pipeline.Refuse("%w", errNoCloud)
	}
	var fleet Fleet
	for _, k := range all {
		n, ok := d.Fleet.Named(k.Host)
		if !ok {
			return pipeline.Refuse("%s is to be kept as an image, and refit.yml does not name it any more", k.Host)
		}
		fleet = append(fleet, n)
	}
	found, refused, err := d.Cloud.machines(ctx, fleet)
	if err != nil {
		return err
	}
	for _, why := range refused {
		return pipeline.Refuse("%s", why)
	}
	for _, k := range all {
		if got := found[k.Host].ID; got != k.Droplet {
			return pipeline.Refuse("%s was droplet %d when this was planned and is %d now: plan again", k.Host, k.Droplet, got)
		}
	}
	return nil
}

func (s snapshot) Run(ctx context.Context, say pipeline.Say) error {
	if err := s.Check(ctx, say); err != nil {
		return err
	}
	for _, k := range live(s.f) {
		if err := s.d.keeping(k, s.id, cloud.ForUndo).started(ctx, say); err != nil {
			return err
		}
	}
	return nil
}

// Undo leaves what was kept: after a failure it is of use. It says where it is.
func (s snapshot) Undo(ctx context.Context, say pipeline.Say) error {
	for _, k := range live(s.f) {
		if s.d.Cloud == nil {
			say("%s: what was kept of it stays in the cloud account (%s)", k.Host, orUnnamed(k.Name))
			continue
		}
		s.d.keeping(k, s.id, cloud.ForUndo).stay(ctx, say)
	}
	return nil
}

func orUnnamed(name string) string {
	if name == "" {
		return "nothing was asked for"
	}
	return name
}

// keeping is the work on an image of the fleet's.
func (d Deps) keeping(k *Kept, run string, p cloud.Purpose) *keeping {
	return &keeping{c: d.Cloud, d: d, k: k, run: run, purpose: p}
}

// live are the nodes that are kept while they work, off those that are switched off for it.
func live(f *Facts) []*Kept { return f.snapshots(false) }

func (f *Facts) snapshots(off bool) []*Kept {
	var out []*Kept
	for i := range f.Snapshots {
		if f.Snapshots[i].Off == off {
			out = append(out, &f.Snapshots[i])
		}
	}
	return out
}

// snapshotsDone waits until what was begun is complete: nothing is changed before.
type snapshotsDone struct {
	d  Deps
	f  *Facts
	id string
}

func (snapshotsDone) Name() string { return "snapshots done" }

func (s snapshotsDone) Check(context.Context, pipeline.Say) error {
	if s.d.Cloud == nil {
		return pipeline.Refuse("%w", errNoCloud)
	}
	return nil
}

// Run waits for one after the other, which are made at once. An image that fails ends the
// run, of which nothing that serves was changed yet.
func (s snapshotsDone) Run(ctx context.Context, say pipeline.Say) error {
	if err := s.Check(ctx, say); err != nil {
		return err
	}
	for _, k := range live(s.f) {
		if err := s.d.keeping(k, s.id, cloud.ForUndo).complete(ctx, true, say); err != nil {
			return err
		}
	}
	return nil
}

// Undo has nothing to take back: the step that began them says where they are.
func (snapshotsDone) Undo(context.Context, pipeline.Say) error { return nil }

// expected is how long the longest of them takes.
func expected(all []*Kept) time.Duration {
	var most time.Duration
	for _, k := range all {
		most = max(most, k.most())
	}
	return most
}

// keptNames names nodes with their tiers.
func keptNames(all []*Kept) string {
	var out []string
	for _, k := range all {
		out = append(out, fmt.Sprintf("%s (%s)", k.Host, k.Tier))
	}
	return orNone(out)
}
