package stages

import (
	"context"
	"fmt"
	"reflect"
	"strconv"
	"time"

	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/pipeline"
)

// wallIn makes the firewall that copies are born behind. It is put on by the run's tag.
type wallIn struct{ rehearsing }

func (wallIn) Name() string { return "firewall" }

func (wallIn) Check(context.Context, pipeline.Say) error { return nil }

// wanted is the firewall: refit in, and out to the copy of the database and to the Redis
// that was made, each at its one address and port.
func (s rehearsing) wanted() cloud.Firewall {
	r := s.r()
	w := cloud.Firewall{
		Name: cloud.BirthName(s.d.Cloud.Fleet, s.id), Tags: []string{cloud.RunTag(s.id)},
		In: []cloud.Rule{{Protocol: "tcp", Ports: "22", Addresses: s.d.Births.From}},
	}
	for _, c := range []Copied{r.Fork, r.Valkey} {
		w.Out = append(w.Out, cloud.Rule{Protocol: "tcp", Ports: strconv.Itoa(c.Port), Addresses: []string{c.Address + "/32"}})
	}
	return w
}

func (s wallIn) Run(ctx context.Context, say pipeline.Say) error {
	want := s.wanted()
	w, err := s.d.Rehearsals.API.CreateFirewall(ctx, want)
	if err != nil {
		return s.lost(ctx, fmt.Errorf("%w%s", err, cloudRemedy(err)))
	}
	if !reflect.DeepEqual(w.Out, want.Out) || !reflect.DeepEqual(w.In, want.In) || !reflect.DeepEqual(w.Tags, want.Tags) {
		return fmt.Errorf("the firewall %s is not as it was asked for: it lets through %v and %v, on %v", w.Name, w.In, w.Out, w.Tags)
	}
	s.r().Firewall = w.ID
	say("the firewall %s lets ssh in from %v, and out only to %s:%d and %s:%d", w.Name, s.d.Births.From, s.r().Fork.Address, s.r().Fork.Port, s.r().Valkey.Address, s.r().Valkey.Port)
	return pipeline.Remember(ctx)
}

// Undo removes it, when no machine is behind it any more.
func (s wallIn) Undo(ctx context.Context, say pipeline.Say) error { return s.dropWall(ctx, say) }

// makeCopy makes one droplet.
type makeCopy struct{ oneCopy }

func (s makeCopy) Name() string { return "create " + s.host }

func (makeCopy) Check(context.Context, pipeline.Say) error { return nil }

func (s makeCopy) Run(ctx context.Context, say pipeline.Say) error {
	b := s.b()
	// Asked again right before: in hours, somebody may have removed it.
	if err := (wallIn{s.rehearsing}).Run(ctx, say); err != nil {
		return err
	}
	x, err := s.d.Rehearsals.API.Create(ctx, cloud.NewDroplet{
		Name: b.Host, Region: b.Region, Size: b.Size, Image: b.Image, VPC: b.VPC, SSHKeys: s.d.Births.SSHKeys,
		Tags: s.tags(cloud.TierTag(b.Tier)), UserData: create{s.birthOf(b, "")}.userData(),
	})
	if x.ID != 0 && x.ID != b.Droplet {
		b.Droplet = x.ID
		if err := pipeline.Remember(ctx); err != nil {
			return err
		}
	}
	if err != nil {
		return s.lost(ctx, fmt.Errorf("%w%s", err, cloudRemedy(err)))
	}
	if !s.ours(x.Tags) || s.standsIn(x) {
		return fmt.Errorf("the account gave droplet %d (%s) for a new one, which this run did not make: nothing is done to it", x.ID, x.Name)
	}
	at := b.at(x)
	if !at.IsValid() {
		return fmt.Errorf("droplet %d (%s) has no %s address, by which the fleet's other hosts are reached", x.ID, b.Host, orWhy(b.Private, "private", "public"))
	}
	b.Address = at.String()
	say("%s is droplet %d at %s, made from image %d", b.Host, b.Droplet, b.Address, b.Image)
	return pipeline.Remember(ctx)
}

// standsIn tells whether refit.yml names a droplet, by its ID or by one of its addresses.
func (s rehearsing) standsIn(x cloud.Droplet) bool {
	for _, n := range s.d.Fleet {
		if s.d.Cloud.Droplets[n.Name] == x.ID || isAt(x, n) {
			return true
		}
	}
	return false
}

// Undo destroys it.
func (s makeCopy) Undo(ctx context.Context, say pipeline.Say) error {
	return s.dropMachines(ctx, s.host, say)
}

// meetCopy reaches a copy by the host key of its image, gives it keys of its own, and
// brings it to the release that the fleet runs, if the image is older.
type meetCopy struct{ oneCopy }

func (s meetCopy) Name() string { return "reach " + s.host }

func (meetCopy) Check(context.Context, pipeline.Say) error { return nil }

func (s meetCopy) Run(ctx context.Context, say pipeline.Say) error {
	began := time.Now()
	w := s.birthOf(s.b(), "")
	if err := (reach{w}).Run(ctx, say); err != nil {
		return plainly(err)
	}
	say("%s was reached after %s", s.host, time.Since(began).Round(time.Second))
	return plainly(align{w}.Run(ctx, say))
}

// Undo forgets its address.
func (s meetCopy) Undo(ctx context.Context, say pipeline.Say) error {
	return reach{s.birthOf(s.b(), "")}.Undo(ctx, say)
}
