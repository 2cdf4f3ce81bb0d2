package stages

import (
	"context"
	"errors"
	"fmt"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/nginx"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// parting takes the old machine out before the new one may start: a node with workers, whose
// deeds and whose scheduler there must be once only, and one that does not answer, of
// which nobody knows what it does. That it is off is the account's own word.
type parting struct{ birth }

func (s parting) Name() string { return "part " + s.b().Host }

func (s parting) Check(ctx context.Context, say pipeline.Say) error {
	if s.b().Old.State != OldUp {
		return nil
	}
	if done, err := s.isOff(ctx); done || err != nil {
		return err
	}
	return rollSidekiq{s.withOld(), s.f, s.old()}.Check(ctx, say)
}

func (s parting) isOff(ctx context.Context) (bool, error) {
	x, err := s.d.Cloud.API.Droplet(ctx, s.b().Old.Droplet)
	if errors.Is(err, cloud.ErrNotFound) {
		return true, nil
	}
	return err == nil && x.Status == "off", err
}

func (s parting) Run(ctx context.Context, say pipeline.Say) error {
	b := s.b()
	if b.web() { // it does not answer: users are served sooner where nobody asks it any more
		if err := s.down(ctx, say); err != nil {
			return err
		}
	}
	if b.Old.Droplet == 0 {
		return nil
	}
	done, err := s.isOff(ctx)
	if err != nil {
		return err
	}
	if !done && b.Old.State == OldUp {
		if err := s.fence(ctx, s.old()); err != nil {
			return err
		}
		if err := (rollSidekiq{s.withOld(), s.f, s.old()}).takeOut(ctx, say); err != nil {
			return err
		}
		if err := s.shutdown(ctx, say); err != nil {
			return err
		}
	} else if !done {
		if err := s.birth.off(ctx, b.Old.Droplet); err != nil {
			return err
		}
	}
	if err := s.provenOff(ctx, b.Old.Droplet); err != nil {
		return err
	}
	say("the old %s (droplet %d) is off, by the account's word", b.Host, b.Old.Droplet)
	return nil
}

// shutdown asks the old machine's system to end, and pulls its plug where it does not.
func (s birth) shutdown(ctx context.Context, say pipeline.Say) error {
	id := s.b().Old.Droplet
	err := s.d.Cloud.API.Power(ctx, id, cloud.Shutdown)
	if err == nil || errors.Is(err, cloud.ErrNotFound) {
		return s.provenOff(ctx, id)
	}
	if ctx.Err() != nil || hopeless(err) {
		return fmt.Errorf("cannot switch droplet %d off: %w%s", id, err, cloudRemedy(err))
	}
	say("the old %s does not shut down (%v): its plug is pulled, since nothing of Mastodon's runs there", s.b().Host, err)
	return s.off(ctx, id)
}

// down takes the old address out of every proxy's rotation. Of one where it would be the
// last, or where it does not stand, nothing is changed.
func (s birth) down(ctx context.Context, say pipeline.Say) error {
	return s.d.proxies().each(ctx, func(ctx context.Context, p Node) error {
		_, err := nginx.SetUpstream(ctx, p.Agent, nginx.SetIn{Files: s.files(), Address: s.b().Old.Address, Down: true}, sayer(p, say))
		if errors.Is(err, node.ErrNotFound) {
			return nil
		}
		if errors.Is(err, node.ErrInUse) {
			say("%s: the old %s is the only node there and stays in rotation until the new one serves", p.Name, s.b().Host)
			return nil
		}
		return err
	})
}

func (s birth) files() []string { return []string{s.d.Proxies.Web, s.d.Proxies.Streaming} }

// Undo brings the old machine back, if it answered before: nothing of the new one runs any
// more by then.
func (s parting) Undo(ctx context.Context, say pipeline.Say) error {
	b := s.b()
	if b.Old.State != OldUp {
		say("the old %s did not answer before, and is left as it is", b.Host)
		return nil
	}
	if err := s.wake(ctx, say); err != nil {
		return err
	}
	old, d := s.old(), s.withOld()
	if d.runsOnly(ctx, old, s.f.To.Version.String()) != nil {
		if err := d.units(ctx, old, node.StartUnits, old.Units(), say); err != nil {
			return err
		}
	}
	started, err := d.sidekiq(ctx, mastodon.SidekiqIn{Since: s.f.Baseline.At})
	if err != nil {
		return err
	}
	return rollSidekiq{d, s.f, old}.gate(ctx, s.f.To.Version.String(), started, map[string]int{}, 0, say)
}

// wake switches the old machine on and waits until it answers. No machine that this run
// made may run beside it.
func (s birth) wake(ctx context.Context, say pipeline.Say) error {
	b := s.b()
	if b.Tier == string(hosts.Sidekiq) {
		all, err := s.born(ctx)
		if err != nil {
			return err
		}
		for _, x := range all {
			if err := s.provenOff(ctx, x.ID); err != nil {
				return fmt.Errorf("the old %s is not switched on again: %w", b.Host, err)
			}
		}
	}
	if err := s.d.Cloud.API.Power(ctx, b.Old.Droplet, cloud.PowerOn); err != nil {
		return &pipeline.NeedsPerson{
			State: fmt.Sprintf("the old %s (droplet %d) was switched off and cannot be switched on again", b.Host, b.Old.Droplet),
			Next:  fmt.Sprintf("switch droplet %d on in the control panel, then: refit resume", b.Old.Droplet), Err: err,
		}
	}
	old := s.old()
	g := s.d.gate("the old "+b.Host+" answers again", 0, func(ctx context.Context) error {
		_, err := old.Agent.FenceShow(ctx)
		return never(err)
	})
	if err := pipeline.Await(ctx, g, say); err != nil {
		return err
	}
	return s.fence(ctx, old)
}
