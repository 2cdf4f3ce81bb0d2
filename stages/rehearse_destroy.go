package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/pipeline"
)

// destroyCopies leaves nothing of a rehearsal.
type destroyCopies struct{ rehearsing }

func (destroyCopies) Name() string { return "destroy" }

func (destroyCopies) Check(context.Context, pipeline.Say) error { return nil }

func (s destroyCopies) Run(ctx context.Context, say pipeline.Say) error {
	// First the machines, so that none is ever without its firewall.
	for _, b := range s.r().Copies {
		if err := s.dropMachines(ctx, b.Host, say); err != nil {
			return err
		}
		if err := (meetCopy{oneCopy{s.rehearsing, b.Host}}).Undo(ctx, say); err != nil {
			return err
		}
	}
	if err := s.dropData(ctx, say); err != nil {
		return err
	}
	return s.dropWall(ctx, say)
}

// Undo has nothing to give back; the steps before destroy what is left.
func (destroyCopies) Undo(context.Context, pipeline.Say) error { return nil }

// machines are the droplets that have this run's tag, by which its firewall goes.
func (s rehearsing) machines(ctx context.Context) ([]cloud.Droplet, error) {
	tag := cloud.RunTag(s.id)
	all, err := s.d.Rehearsals.API.Droplets(ctx, tag)
	if err != nil {
		return nil, fmt.Errorf("cannot ask the cloud account for the droplets of this run: %w%s", err, cloudRemedy(err))
	}
	return slices.DeleteFunc(all, func(x cloud.Droplet) bool { return !slices.Contains(x.Tags, tag) }), nil
}

// dropMachines destroys what this run made of that name: found by its tags, so that one is
// found whose ID a crash kept from being written down.
func (s rehearsing) dropMachines(ctx context.Context, name string, say pipeline.Say) error {
	api := s.d.Rehearsals.API
	all, err := s.machines(ctx)
	if err != nil {
		return err
	}
	for _, x := range all {
		if x.Name != name || !s.ours(x.Tags) || s.standsIn(x) {
			continue
		}
		if err := api.Destroy(ctx, x.ID); err != nil {
			return fmt.Errorf("droplet %d (%s) is left: %w%s", x.ID, x.Name, err, cloudRemedy(err))
		}
		say("%s, droplet %d, is destroyed", x.Name, x.ID)
	}
	return nil
}

// dropData destroys both databases: by their exact names, with this run's tags.
func (s rehearsing) dropData(ctx context.Context, say pipeline.Say) error {
	api, r := s.d.Rehearsals.API, s.r()
	all, err := api.Databases(ctx)
	if err != nil {
		return fmt.Errorf("cannot ask the cloud account for its databases: %w%s", err, cloudRemedy(err))
	}
	var errs []error
	for _, x := range all {
		if x.Name != r.Fork.Name && x.Name != r.Valkey.Name || !s.ours(x.Tags) {
			continue
		}
		if err := api.DestroyDatabase(ctx, x.ID); err != nil {
			errs = append(errs, fmt.Errorf("the database %s is left: %w%s", x.Name, err, cloudRemedy(err)))
			continue
		}
		say("the database %s is destroyed", x.Name)
	}
	return errors.Join(errs...)
}

// dropWall removes the firewall of this run. It stays while a machine may be behind it, or
// may come: `refit sweep` removes both then.
func (s rehearsing) dropWall(ctx context.Context, say pipeline.Say) error {
	api, name := s.d.Rehearsals.API, cloud.BirthName(s.d.Cloud.Fleet, s.id)
	all, err := api.Firewalls(ctx)
	if err != nil {
		return fmt.Errorf("cannot ask the cloud account for its firewalls: %w%s", err, cloudRemedy(err))
	}
	behind, err := s.machines(ctx)
	if err != nil {
		return err
	}
	for _, w := range all {
		if w.Name != name || !slices.Equal(w.Tags, []string{cloud.RunTag(s.id)}) || len(w.Droplets) > 0 {
			continue
		}
		if len(behind) > 0 || s.r().Lost {
			say("the firewall %s stays for machines that may come yet; `refit sweep` removes it", w.Name)
			continue
		}
		if err := api.DestroyFirewall(ctx, w.ID); err != nil {
			return fmt.Errorf("the firewall %s is left: %w%s", w.Name, err, cloudRemedy(err))
		}
		say("the firewall %s is removed", w.Name)
	}
	return nil
}
