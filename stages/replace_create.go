package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/pipeline"
)

// create makes the droplet. It is never without the firewall: that is put on by a tag
// which the droplet is born with.
type create struct{ birth }

func (s create) Name() string { return "create " + s.b().Host }

func (s create) Check(context.Context, pipeline.Say) error { return nil }

func (s create) Run(ctx context.Context, say pipeline.Say) error {
	b, api := s.b(), s.d.Cloud.API
	if err := s.wall(ctx); err != nil {
		return err
	}
	say("the firewall %s lets ssh in from %v, and nothing out", cloud.BirthName(s.d.Cloud.Fleet, s.id), s.d.Births.From)
	x, err := api.Create(ctx, cloud.NewDroplet{
		Name: b.Host, Region: b.Region, Size: b.Size, Image: b.Image, VPC: b.VPC, SSHKeys: s.d.Births.SSHKeys, Tags: s.tags(), UserData: s.userData(),
	})
	if x.ID != 0 && x.ID != b.Droplet {
		b.Droplet = x.ID
		if err := pipeline.Remember(ctx); err != nil {
			return err
		}
	}
	if err != nil {
		return fmt.Errorf("%w%s", err, cloudRemedy(err))
	}
	if s.standing(x.ID) {
		return fmt.Errorf("the account gave droplet %d for a new one, and refit.yml names that: nothing is done to it", x.ID)
	}
	at := b.at(x)
	if !at.IsValid() {
		return fmt.Errorf("droplet %d (%s) has no %s address, by which the fleet's other hosts are reached", x.ID, b.Host, orWhy(b.Private, "private", "public"))
	}
	b.Address = at.String()
	say("%s is droplet %d at %s, made from image %d", b.Host, b.Droplet, b.Address, b.Image)
	return pipeline.Remember(ctx)
}

// standing tells whether refit.yml names a droplet by its ID.
func (s create) standing(id int) bool {
	for _, has := range s.d.Cloud.Droplets {
		if has == id && id != s.b().Droplet {
			return true
		}
	}
	return s.b().Old != nil && s.b().Old.Droplet == id
}

// tags are those that it is born with. The firewall goes by the run's; what expires is
// swept, should nobody take it into service.
func (s create) tags() []string {
	b := s.b()
	return cloud.Marks(s.d.Cloud.Fleet, cloud.ForReplacement, s.id, cloud.TierTag(b.Tier), cloud.HostTag(b.Host), cloud.ExpiryTag(b.Expires))
}

// userData keeps the image's host keys, by which it is met first, and gives it its name.
func (s create) userData() string {
	return "#cloud-config\nssh_deletekeys: false\npreserve_hostname: false\nhostname: " + s.b().Host + "\n"
}

// wall makes the firewall, unless it is there.
func (s birth) wall(ctx context.Context) error {
	b := s.b()
	w, err := s.d.Cloud.API.CreateFirewall(ctx, cloud.Firewall{
		Name: cloud.BirthName(s.d.Cloud.Fleet, s.id), Tags: []string{cloud.RunTag(s.id)},
		In: []cloud.Rule{{Protocol: "tcp", Ports: "22", Addresses: s.d.Births.From}},
	})
	if err != nil {
		return fmt.Errorf("%w%s", err, cloudRemedy(err))
	}
	if len(w.Out) > 0 || !slices.Contains(w.Tags, cloud.RunTag(s.id)) {
		return fmt.Errorf("the firewall %s is there, and is not as refit makes it: it lets something out, or is not put on by %s; remove it in the control panel", w.Name, cloud.RunTag(s.id))
	}
	if b.Firewall == w.ID {
		return nil
	}
	b.Firewall = w.ID
	return pipeline.Remember(ctx)
}

// Undo leaves the new machine switched off and expired, behind its firewall: what went
// wrong can be looked at, and `refit sweep` destroys it.
func (s create) Undo(ctx context.Context, say pipeline.Say) error {
	all, err := s.born(ctx)
	if err != nil {
		return err
	}
	for _, x := range all {
		if err := s.off(ctx, x.ID); err != nil {
			return err
		}
		if err := s.d.Cloud.API.TagDroplet(ctx, x.ID, cloud.ExpiryTag(time.Now())); err != nil {
			return fmt.Errorf("cannot mark droplet %d as expired: %w", x.ID, err)
		}
		say("%s: droplet %d is off and stays until `refit sweep`", s.b().Host, x.ID)
	}
	if len(all) == 0 && s.b().Firewall != "" {
		if err := s.d.Cloud.API.DestroyFirewall(ctx, s.b().Firewall); err != nil {
			return err
		}
	}
	return nil
}

// born are the machines that this run made for its host: found by tag and name, so that
// one is found whose ID a crash kept from being written down.
func (s birth) born(ctx context.Context) ([]cloud.Droplet, error) {
	all, err := s.d.Cloud.API.Droplets(ctx, cloud.RunTag(s.id))
	if err != nil {
		return nil, fmt.Errorf("cannot ask the cloud account for the droplets of this run: %w%s", err, cloudRemedy(err))
	}
	return slices.DeleteFunc(all, func(x cloud.Droplet) bool {
		return x.Name != s.b().Host || !cloud.Ours(x.Tags, s.d.Cloud.Fleet, cloud.ForReplacement) || s.b().Old != nil && x.ID == s.b().Old.Droplet
	}), nil
}

// off switches a droplet off without asking its system, and proves it. One that is gone
// is off.
func (s birth) off(ctx context.Context, id int) error {
	err := s.d.Cloud.API.Power(ctx, id, cloud.PowerOff)
	if err == nil {
		return s.provenOff(ctx, id)
	}
	if errors.Is(err, cloud.ErrNotFound) {
		return nil
	}
	return fmt.Errorf("cannot switch droplet %d off: %w%s", id, err, cloudRemedy(err))
}

// provenOff is nil when the account itself says that a droplet is off, or has none.
func (s birth) provenOff(ctx context.Context, id int) error {
	x, err := s.d.Cloud.API.Droplet(ctx, id)
	switch {
	case errors.Is(err, cloud.ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("cannot prove that droplet %d is off: %w%s", id, err, cloudRemedy(err))
	case x.Status != "off":
		return fmt.Errorf("droplet %d (%s) is %s, not off", id, x.Name, x.Status)
	}
	return nil
}
