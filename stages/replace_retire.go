package stages

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// retire takes the old machine out of service for good, and keeps it, switched off, until
// `refit sweep`.
type retire struct{ birth }

func (s retire) Name() string { return "retire " + s.b().Host }

func (s retire) Check(context.Context, pipeline.Say) error { return nil }

func (s retire) Run(ctx context.Context, say pipeline.Say) error {
	b := s.b()
	if b.web() {
		if err := s.outOf(ctx, s.old(), say); err != nil {
			return err
		}
	}
	if b.Old.Droplet == 0 {
		return nil
	}
	if s.provenOff(ctx, b.Old.Droplet) != nil {
		old := s.old()
		if err := s.fence(ctx, old); err != nil {
			return err
		}
		if err := s.withOld().units(ctx, old, node.StopUnits, old.Units(), say); err != nil {
			return err
		}
		if err := s.shutdown(ctx, say); err != nil {
			return err
		}
	}
	// The marks are what lets it be swept, and come last.
	err := s.d.Cloud.API.TagDroplet(ctx, b.Old.Droplet, s.marks()...)
	if err == nil {
		err = s.d.Cloud.API.TagDroplet(ctx, b.Old.Droplet, cloud.ExpiryTag(time.Now().Add(spare)))
	}
	if errors.Is(err, cloud.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w%s", err, cloudRemedy(err))
	}
	say("the old %s, droplet %d, is off; `refit sweep` destroys it after %s", b.Host, b.Old.Droplet, time.Now().Add(spare).UTC().Format("2 January 15:04 MST"))
	return nil
}

func (s retire) marks() []string {
	return cloud.Marks(s.d.Cloud.Fleet, cloud.ForReplacement, s.id)
}

// Undo brings the old machine back into service, if it was in it.
func (s retire) Undo(ctx context.Context, say pipeline.Say) error {
	b := s.b()
	if b.Old.Droplet != 0 {
		if err := s.unmark(ctx); err != nil {
			return err
		}
	}
	if !b.web() || b.Old.State != OldUp {
		return nil // what is to be done besides is part's
	}
	if err := s.wake(ctx, say); err != nil {
		return err
	}
	release, old, d := s.f.To.Version.String(), s.old(), s.withOld()
	if d.runsOnly(ctx, old, release) != nil {
		if err := d.units(ctx, old, node.StartUnits, old.Units(), say); err != nil {
			return err
		}
	}
	g := d.gate("the old "+b.Host+" serves again", 0, func(ctx context.Context) error { return d.serves(ctx, old, release, bootLook) })
	if err := pipeline.Await(ctx, g, say); err != nil {
		return err
	}
	for _, p := range d.passingOver(ctx, say).proxies() {
		if err := s.into(ctx, p, old, d, say); err != nil {
			return err
		}
	}
	return nil
}

// unmark takes away what lets the old machine be swept, and whatever this run put on it.
func (s retire) unmark(ctx context.Context) error {
	x, err := s.d.Cloud.API.Droplet(ctx, s.b().Old.Droplet)
	if errors.Is(err, cloud.ErrNotFound) {
		return fmt.Errorf("droplet %d, the old %s, is gone: there is no way back to it", s.b().Old.Droplet, s.b().Host)
	}
	if err != nil {
		return err
	}
	for _, t := range x.Tags {
		if t != cloud.RunTag(s.id) && t != cloud.PurposeTag(cloud.ForReplacement) && !strings.HasPrefix(t, cloud.ExpiryPrefix) {
			continue
		}
		if err := s.d.Cloud.API.Untag(ctx, t, cloud.KindDroplet, x.ID); err != nil {
			return err
		}
	}
	return nil
}

// write puts the node into refit.yml and known_hosts.
type write struct{ birth }

func (s write) Name() string { return "write " + s.b().Host }

func (s write) Check(context.Context, pipeline.Say) error { return nil }

// Run fails nothing that a person can do by hand: the node serves by now.
func (s write) Run(ctx context.Context, say pipeline.Say) error {
	b := s.b()
	// It is no more to be swept, whatever becomes of the file.
	x, err := s.d.Cloud.API.Droplet(ctx, b.Droplet)
	if err != nil {
		return fmt.Errorf("%w%s", err, cloudRemedy(err))
	}
	for _, t := range x.Tags {
		if strings.HasPrefix(t, cloud.ExpiryPrefix) {
			if err := s.d.Cloud.API.Untag(ctx, t, cloud.KindDroplet, x.ID); err != nil {
				return fmt.Errorf("%w%s", err, cloudRemedy(err))
			}
		}
	}
	if b.Change, err = s.d.Births.Write(*b, false); err != nil {
		return &pipeline.NeedsPerson{
			State: fmt.Sprintf("%s at %s is in service; only refit.yml could not be written", b.Host, b.Address),
			Next:  "mend that, then `refit resume`", Err: err,
		}
	}
	b.Written = b.Change == ""
	if b.Written {
		say("refit.yml has %s at %s, droplet %d", b.Host, b.Address, b.Droplet)
	} else {
		say("refit.yml is left as it is, for it cannot be changed safely. %s", b.Change)
	}
	if b.Old != nil && b.Old.Address != b.Address {
		return s.d.Births.Unlearn(b.Old.Address, ImageKey(b.Host))
	}
	return nil
}

// Undo puts the old node back into refit.yml.
func (s write) Undo(_ context.Context, say pipeline.Say) error {
	b := s.b()
	change, err := s.d.Births.Write(*b, true)
	if err != nil {
		return err
	}
	if change != "" {
		say("refit.yml is left as it is. %s", change)
	}
	if b.Old == nil || b.Old.Address == b.Address {
		return nil
	}
	return s.d.Births.Relearn(b.Old.Address, ImageKey(b.Host))
}

// destroy takes the old machine away at once.
type destroy struct{ birth }

func (s destroy) Name() string { return "destroy " + s.b().Host }

func (s destroy) Check(context.Context, pipeline.Say) error { return nil }

func (s destroy) Run(ctx context.Context, say pipeline.Say) error {
	b := s.b()
	x, err := s.d.Cloud.API.Droplet(ctx, b.Old.Droplet)
	switch {
	case errors.Is(err, cloud.ErrNotFound):
		say("droplet %d is gone", b.Old.Droplet)
		return nil
	case err != nil:
		return pipeline.NotBegun(fmt.Errorf("%w%s", err, cloudRemedy(err)))
	case x.Status != "off" || !cloud.Ours(x.Tags, s.d.Cloud.Fleet, cloud.ForReplacement):
		return pipeline.NotBegun(fmt.Errorf("droplet %d (%s) is %s and has the tags %v: it is not the machine that this run retired, and is not destroyed", x.ID, x.Name, x.Status, x.Tags))
	}
	if err := s.d.Cloud.API.Destroy(ctx, x.ID); err != nil {
		return fmt.Errorf("%w%s", err, cloudRemedy(err))
	}
	say("the old %s, droplet %d, is destroyed", b.Host, x.ID)
	return nil
}

// Undo has nothing to give back.
func (destroy) Undo(context.Context, pipeline.Say) error { return nil }
