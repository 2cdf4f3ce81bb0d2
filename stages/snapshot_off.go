package stages

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/pipeline"
)

// snapshotOff keeps one node as an image while it is switched off, for tiers of which that
// is asked for: out of rotation or quieted as for a roll, stopped, shut down, kept,
// switched on, and back through the gates of the release that it runs. It is the last step
// before anything is changed, and each node has its own, so that no node is out for a
// build that fails and never two at once.
type snapshotOff struct {
	d  Deps
	f  *Facts
	id string
	n  Node
}

func (s snapshotOff) Name() string { return "snapshot off " + s.n.Name }

// offWait is how long a system may take to shut down before its plug is pulled: Mastodon
// is stopped by then, and what it held is on the disk.
const offWait = 2 * time.Minute

// kept is what the facts say of the node's image.
func (s snapshotOff) kept() *Kept {
	for _, k := range s.f.snapshots(true) {
		if k.Host == s.n.Name {
			return k
		}
	}
	return &Kept{Host: s.n.Name}
}

func (s snapshotOff) Check(ctx context.Context, _ pipeline.Say) error {
	return sameDroplets(ctx, s.d, []*Kept{s.kept()})
}

func (s snapshotOff) Run(ctx context.Context, say pipeline.Say) error {
	if err := s.Check(ctx, say); err != nil {
		return err
	}
	k := s.kept()
	if k.Image == 0 {
		err := s.keep(ctx, s.d.keeping(k, s.id, cloud.ForUndo), say)
		if err != nil && (ctx.Err() != nil || !k.Down) {
			return err
		}
		if err != nil {
			// It must not stay off for a snapshot that failed.
			return errors.Join(err, s.on(ctx, say))
		}
	}
	if err := s.on(ctx, say); err != nil {
		return err
	}
	return s.back(ctx, say)
}

// keep switches the node off and waits for its image. One that was asked for before a
// crash is waited for as the node is.
func (s snapshotOff) keep(ctx context.Context, w *keeping, say pipeline.Say) error {
	if w.k.Action == 0 {
		err := fmt.Errorf("it was never asked for: %w", cloud.ErrNotFound)
		if !w.k.Asked.IsZero() {
			_, err = w.find(ctx)
		}
		if errors.Is(err, cloud.ErrNotFound) {
			err = s.off(ctx, w.k, say)
		}
		if err != nil {
			return err
		}
	}
	return w.complete(ctx, false, say)
}

// off takes the node out and switches it off.
func (s snapshotOff) off(ctx context.Context, k *Kept, say pipeline.Say) error {
	if !k.Down || s.answers(ctx) == nil {
		if err := s.takeOut(ctx, say); err != nil {
			return err
		}
		if err := s.n.Agent.Sync(ctx); err != nil {
			return fmt.Errorf("%s: cannot have it write its memory to its disk: %w", s.n.Name, err)
		}
	}
	// From here on a resume switches it on before it asks the hosts anything.
	k.Down = true
	if err := pipeline.Remember(ctx); err != nil {
		return err
	}
	pipeline.Tell(ctx, pipeline.HostState{Host: s.n.Name, State: "switched off"})
	within, cancel := context.WithTimeout(ctx, offWait)
	defer cancel()
	err := s.d.Cloud.API.Power(within, k.Droplet, cloud.Shutdown)
	if err != nil && ctx.Err() == nil && !hopeless(err) {
		say("%s does not shut down by itself (%v): its plug is pulled", s.n.Name, err)
		err = s.d.Cloud.API.Power(ctx, k.Droplet, cloud.PowerOff)
	}
	if err != nil {
		return fmt.Errorf("%s: cannot switch off droplet %d: %w%s", s.n.Name, k.Droplet, err, cloudRemedy(err))
	}
	say("%s is switched off", s.n.Name)
	return nil
}

func (s snapshotOff) takeOut(ctx context.Context, say pipeline.Say) error {
	if s.n.Has(hosts.Web) {
		return rollWeb{s.d, s.f, s.n}.takeOut(ctx, say)
	}
	return rollSidekiq{s.d, s.f, s.n}.takeOut(ctx, say)
}

func (s snapshotOff) answers(ctx context.Context) error {
	_, err := s.n.Agent.FenceShow(ctx)
	return err
}

// on switches the node on and waits until it answers.
func (s snapshotOff) on(ctx context.Context, say pipeline.Say) error {
	k := s.kept()
	if !k.Down {
		return nil
	}
	if err := s.d.wake(ctx, s.n, k.Droplet, say); err != nil {
		return err
	}
	k.Down = false
	return pipeline.Remember(ctx)
}

// wake switches a droplet on, unless it is, and waits for its host.
func (d Deps) wake(ctx context.Context, n Node, droplet int, say pipeline.Say) error {
	person := func(err error) error {
		if ctx.Err() != nil {
			return err
		}
		return &pipeline.NeedsPerson{
			State: fmt.Sprintf("%s (droplet %d) was switched off for its snapshot and is not back", n.Name, droplet),
			Next:  fmt.Sprintf("switch droplet %d on in the account's control panel, then `refit resume`", droplet), Err: err,
		}
	}
	if err := d.Cloud.API.Power(ctx, droplet, cloud.PowerOn); err != nil {
		return person(fmt.Errorf("%w%s", err, cloudRemedy(err)))
	}
	g := d.gate(fmt.Sprintf("%s answers after it was switched on", n.Name), 0, func(ctx context.Context) error {
		_, err := n.Agent.FenceShow(ctx)
		return err
	})
	g.Every = 2 * time.Second
	if err := pipeline.Await(ctx, g, say); err != nil {
		return person(err)
	}
	say("%s is switched on and answers", n.Name)
	return nil
}

// back brings the node back to work on the release that it runs, as a roll that is taken
// back does: it is left alone where it serves, else started, held to its gates and put
// into rotation.
func (s snapshotOff) back(ctx context.Context, say pipeline.Say) error {
	if s.n.Has(hosts.Web) {
		return rollWeb{s.d, s.f, s.n}.Undo(ctx, say)
	}
	return rollSidekiq{s.d, s.f, s.n}.Undo(ctx, say)
}

// Undo brings the node back, from wherever Run left it. The image stays.
func (s snapshotOff) Undo(ctx context.Context, say pipeline.Say) error {
	k := s.kept()
	if s.d.Cloud == nil && k.Down {
		return &pipeline.NeedsPerson{
			State: fmt.Sprintf("%s (droplet %d) was switched off for its snapshot", s.n.Name, k.Droplet),
			Next:  "put the block `cloud` back into refit.yml, then `refit resume`", Err: errNoCloud,
		}
	}
	if err := s.on(ctx, say); err != nil {
		return err
	}
	if s.d.Cloud != nil {
		s.d.keeping(k, s.id, cloud.ForUndo).stay(ctx, say)
	}
	return s.back(ctx, say)
}

// Wake switches on what a run that was killed left switched off: every host must answer
// before a run goes on. It is called when no run is at work, and waits for an action that
// is open on the droplet, a snapshot too.
func (d Deps) Wake(ctx context.Context, f *Facts, say pipeline.Say) error {
	for _, k := range f.snapshots(true) {
		n, ok := d.Fleet.Named(k.Host)
		if !k.Down || !ok {
			continue
		}
		if d.Cloud == nil {
			return pipeline.Refuse("%s (droplet %d) was switched off by the run: %w, or switch it on by hand", k.Host, k.Droplet, errNoCloud)
		}
		if err := d.wake(ctx, n, k.Droplet, say); err != nil {
			return err
		}
	}
	return nil
}
