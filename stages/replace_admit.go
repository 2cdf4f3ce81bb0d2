package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// admit lets the new machine be a node: the team's tags, by which databases and firewalls
// let it through, its permit, no firewall of its birth, then its units.
type admit struct{ birth }

func (s admit) Name() string { return "admit " + s.b().Host }

func (s admit) Check(context.Context, pipeline.Say) error { return nil }

func (s admit) Run(ctx context.Context, say pipeline.Say) error {
	b, api, release := s.b(), s.d.Cloud.API, s.f.To.Version.String()
	n, d, err := s.here(ctx)
	if err != nil {
		return err
	}
	// Asked right before, for a person may have switched it on again.
	if b.alone() {
		if err := s.provenOff(ctx, b.Old.Droplet); err != nil {
			return fmt.Errorf("%s gets no permit: the old machine would work beside it: %w", b.Host, err)
		}
	}
	if d.runsOnly(ctx, n, release) != nil {
		if err := api.TagDroplet(ctx, b.Droplet, b.Tags...); err != nil {
			return fmt.Errorf("%w%s", err, cloudRemedy(err))
		}
	}
	if err := d.WritePermit(ctx, n, say); err != nil {
		return err
	}
	if err := s.open(ctx, say); err != nil {
		return err
	}
	if d.runsOnly(ctx, n, release) == nil {
		return nil
	}
	if err := s.ways(ctx, n, d, say); err != nil {
		return err
	}
	if err := d.boots(ctx, n, release, true, say); err != nil {
		return fmt.Errorf("%s: the release does not boot on the new machine: %w", n.Name, err)
	}
	pipeline.Tell(ctx, pipeline.HostState{Host: n.Name, State: "starting", Release: release})
	return d.units(ctx, n, node.StartUnits, n.Units(), say)
}

// open takes away the firewall of its birth, which lets nothing out.
func (s admit) open(ctx context.Context, say pipeline.Say) error {
	b := s.b()
	all, err := s.d.Cloud.API.Firewalls(ctx)
	if err != nil {
		return fmt.Errorf("%w%s", err, cloudRemedy(err))
	}
	for _, w := range all {
		if w.ID != b.Firewall || w.Name != cloud.BirthName(s.d.Cloud.Fleet, s.id) {
			continue
		}
		if err := s.d.Cloud.API.DestroyFirewall(ctx, w.ID); err != nil {
			return fmt.Errorf("%w%s", err, cloudRemedy(err))
		}
		say("the firewall %s is gone: %s has a permit, and the team's own tags %v", w.Name, b.Host, b.Tags)
	}
	return nil
}

// ways waits until the machine reaches the database and Redis: rules by tag take a while
// to be everywhere.
func (s admit) ways(ctx context.Context, n Node, d Deps, say pipeline.Say) error {
	g := d.gate(n.Name+" reaches the database and Redis", 0, func(ctx context.Context) error {
		if _, err := mastodon.ReadDatabase(ctx, n.Agent, mastodon.DatabaseIn{Layout: d.Layout, Direct: d.Direct, SkipSchema: true}); err != nil {
			return err
		}
		_, err := mastodon.ReadRedis(ctx, n.Agent, mastodon.RedisIn{Layout: d.Layout})
		return err
	})
	g.Safe = true
	if err := pipeline.Await(ctx, g, say); err != nil {
		return fmt.Errorf("%w. It has the tags %v: does the database trust one of them, or this machine?", err, s.b().Tags)
	}
	return nil
}

// Undo stops what runs there and withdraws the permit. A machine that does not answer is
// shut in and switched off instead, by the account.
func (s admit) Undo(ctx context.Context, say pipeline.Say) error {
	b := s.b()
	if b.Address == "" {
		return nil
	}
	err := s.withdraw(ctx, say)
	if err != nil {
		say("%s: its permit could not be withdrawn: %v; it stays behind the firewall of its birth", b.Host, err)
	}
	if werr := s.wall(ctx); werr != nil && err != nil {
		// Neither sealed nor shut in: to be off is not enough, for it can be switched on.
		return errors.Join(err, werr)
	}
	if err := s.off(ctx, b.Droplet); err != nil {
		return err
	}
	x, err := s.d.Cloud.API.Droplet(ctx, b.Droplet)
	if errors.Is(err, cloud.ErrNotFound) {
		return nil
	}
	for _, t := range b.Tags {
		if err == nil && slices.Contains(x.Tags, t) {
			err = s.d.Cloud.API.Untag(ctx, t, cloud.KindDroplet, b.Droplet)
		}
	}
	return err
}

func (s admit) withdraw(ctx context.Context, say pipeline.Say) error {
	if s.provenOff(ctx, s.b().Droplet) == nil {
		x, err := s.d.Cloud.API.Droplet(ctx, s.b().Droplet)
		if errors.Is(err, cloud.ErrNotFound) {
			return nil
		}
		return errors.Join(fmt.Errorf("droplet %d is off already", x.ID), err)
	}
	n, d, err := s.here(ctx)
	if err != nil {
		return err
	}
	if _, err := n.Agent.WithdrawPermit(ctx, d.permitIn(n)); err != nil {
		return err
	}
	return d.units(ctx, n, node.StopUnits, n.Units(), say)
}
