package stages

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// golden makes one image of each tier, of a node that serves the new release and has
// passed its gates, for a node that is lost or new to start from. It comes last, when old
// releases are gone from the disks, and fails no upgrade: that is done by then. What could
// not be made stands in the facts and in the outcome.
type golden struct {
	d  Deps
	f  *Facts
	id string
}

func (golden) Name() string { return "golden" }

func (golden) Check(context.Context, pipeline.Say) error { return nil }

// Run begins the images of all tiers and then waits for each.
func (s golden) Run(ctx context.Context, say pipeline.Say) error {
	if s.d.Cloud == nil {
		say("no golden image: %v", errNoCloud)
		return nil
	}
	for _, begin := range []bool{true, false} {
		for i := range s.f.Golden {
			if err := s.make(ctx, &s.f.Golden[i], begin, say); err != nil {
				return err
			}
		}
	}
	return nil
}

// make begins a tier's image, or waits for it. Its error is that the run ends or is to
// stop; whatever else goes wrong is said and written down.
func (s golden) make(ctx context.Context, k *Kept, begin bool, say pipeline.Say) error {
	if k.Image != 0 || !begin && k.Asked.IsZero() {
		return nil
	}
	w := s.d.keeping(k, s.id, cloud.ForBirth)
	var err error
	switch {
	case begin && k.Asked.IsZero():
		if err = s.choose(ctx, k); err == nil {
			err = w.started(ctx, say)
		}
	case begin: // asked for before a crash, of that very node
		err = w.started(ctx, say)
	default:
		err = w.complete(ctx, true, say)
	}
	if err == nil || ctx.Err() != nil || errors.Is(err, pipeline.ErrStopped) {
		return err
	}
	k.Why = err.Error()
	say("no golden image of the tier %s: %v; the one before stays", k.Tier, err)
	return pipeline.Remember(ctx)
}

// choose picks the tier's node: of those that serve the release and are sealed, the one
// that a snapshot would be of.
func (s golden) choose(ctx context.Context, k *Kept) error {
	c := s.d.Cloud
	if c.Sealed == nil {
		return errors.New("whether a machine made from it would start Mastodon by itself cannot be asked")
	}
	found, refused, err := c.machines(ctx, s.d.Fleet.Apps())
	if err != nil {
		return err
	}
	var why []error
	for _, n := range pick(s.d.tierOf(k.Tier), s.f.rolled(k.Tier)) {
		x, ok := found[n.Name]
		if !ok {
			why = append(why, errors.New(strings.Join(refused, "; ")))
			continue
		}
		if err := s.well(ctx, n); err != nil {
			why = append(why, err)
			continue
		}
		if err := c.Sealed(ctx, n); err != nil {
			why = append(why, fmt.Errorf("%s is not sealed: %w", n.Name, err))
			continue
		}
		facts, err := n.Agent.Facts(ctx, node.FactsIn{Paths: []string{node.StateDir}})
		if err != nil {
			why = append(why, err)
			continue
		}
		k.Host, k.Droplet, k.Used, k.Why = n.Name, x.ID, used(facts), ""
		return nil
	}
	return errors.Join(why...)
}

// well asks the gates of a node once more.
func (s golden) well(ctx context.Context, n Node) error {
	release := s.f.To.Version.String()
	if err := s.d.runsOnly(ctx, n, release); err != nil {
		return err
	}
	if !n.Has(hosts.Web) {
		return s.d.workersRun(ctx, n, release, mastodon.SidekiqState{}, s.f)
	}
	if err := s.d.inRotation(ctx, n); err != nil {
		return err
	}
	return s.d.serves(ctx, n, release, 0)
}

// Undo leaves golden images as they are: those of the release before, from which the
// fleet's nodes were made, were never touched, and each says in its tags what it holds.
func (s golden) Undo(_ context.Context, say pipeline.Say) error {
	for _, k := range s.f.Golden {
		if k.Image != 0 {
			say("the golden image of the tier %s with %s stays: image %d, %s", k.Tier, k.Release, k.Image, k.Name)
		}
	}
	return nil
}
