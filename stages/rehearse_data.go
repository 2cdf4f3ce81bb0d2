package stages

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/pipeline"
)

// lookAround asks the account, right before anything is made, for what was planned with.
type lookAround struct{ rehearsing }

func (lookAround) Name() string { return "look" }

func (s lookAround) Check(ctx context.Context, _ pipeline.Say) error { return s.look(ctx) }

func (s lookAround) Run(ctx context.Context, say pipeline.Say) error {
	if err := s.look(ctx); err != nil {
		return err
	}
	for _, b := range s.r().Copies {
		say("%s: a droplet of size %s in %s, from image %d of %s", b.Host, b.Size, b.Region, b.Image, b.Of)
	}
	return nil
}

func (s lookAround) look(ctx context.Context) error {
	api := s.d.Rehearsals.API
	for _, b := range s.r().Copies {
		if _, err := api.Image(ctx, b.Image); errors.Is(err, cloud.ErrNotFound) {
			return pipeline.Refuse("the account has no image %d any more, of which %s was to be made: start again", b.Image, b.Host)
		} else if err != nil {
			return fmt.Errorf("cannot read image %d: %w%s", b.Image, err, cloudRemedy(err))
		}
	}
	db, err := api.Database(ctx, s.r().From)
	if err != nil {
		return fmt.Errorf("%w%s", err, cloudRemedy(err))
	}
	if db.Status != online || db.Engine != "pg" {
		return pipeline.Refuse("the database %s is %s, of engine %s: it is copied when it is online, and PostgreSQL", db.Name, db.Status, db.Engine)
	}
	return nil
}

// Undo has nothing to take back.
func (lookAround) Undo(context.Context, pipeline.Say) error { return nil }

// online is the status of a database that can be used.
const online = "online"

// copyData asks for the copy of the database and for a Redis, and does not wait.
type copyData struct{ rehearsing }

func (copyData) Name() string { return "copy data" }

func (copyData) Check(context.Context, pipeline.Say) error { return nil }

func (s copyData) Run(ctx context.Context, say pipeline.Say) error {
	r, api := s.r(), s.d.Rehearsals.API
	from, err := api.Database(ctx, r.From)
	if err != nil {
		return fmt.Errorf("%w%s", err, cloudRemedy(err))
	}
	tags := s.tags()
	for _, c := range []struct {
		to *Copied
		of cloud.NewDatabase
	}{
		{&r.Fork, cloud.NewDatabase{From: from.Name, Nodes: 1, VPC: r.Copies[0].VPC, Tags: tags}},
		{&r.Valkey, cloud.NewDatabase{Engine: "valkey", Size: s.d.Rehearsals.Valkey, Region: from.Region, Nodes: 1, VPC: r.Copies[0].VPC, Tags: tags}},
	} {
		if c.to.ID != "" {
			continue
		}
		if c.to.Begun.IsZero() {
			c.to.Begun = time.Now().UTC()
			if err := pipeline.Remember(ctx); err != nil {
				return err
			}
		}
		c.of.Name = c.to.Name
		made, err := api.Fork(ctx, c.of)
		if err != nil {
			return s.lost(ctx, fmt.Errorf("%w%s", err, cloudRemedy(err)))
		}
		if !s.ours(made.Tags) || made.ID == from.ID {
			return fmt.Errorf("the account has a database %s that this run did not make: nothing is done to it", made.Name)
		}
		c.to.ID = made.ID
		if err := pipeline.Remember(ctx); err != nil {
			return err
		}
		say("%s is being made (%s)", made.Name, made.ID)
	}
	return nil
}

// tags are those of all that a rehearsal makes.
func (s rehearsing) tags(more ...string) []string {
	return cloud.Marks(s.d.Cloud.Fleet, cloud.ForRehearsal, s.id, append(more, cloud.ExpiryTag(s.r().Until))...)
}

// ours tells whether this very run made something.
func (s rehearsing) ours(tags []string) bool {
	return cloud.Ours(tags, s.d.Cloud.Fleet, cloud.ForRehearsal) && slices.Contains(tags, cloud.RunTag(s.id))
}

// lost notes that the account may still make what it did not answer for.
func (s rehearsing) lost(ctx context.Context, err error) error {
	if errors.Is(err, cloud.ErrLost) {
		s.r().Lost = true
		return errors.Join(err, pipeline.Remember(ctx))
	}
	return err
}

// Undo destroys both.
func (s copyData) Undo(ctx context.Context, say pipeline.Say) error { return s.dropData(ctx, say) }

// dataReady waits for both, and finds out where they are: copies can ask no name server.
type dataReady struct{ rehearsing }

func (dataReady) Name() string { return "data ready" }

func (dataReady) Check(context.Context, pipeline.Say) error { return nil }

// forkLimit is how long a copy may take; the provider restores a backup and its log.
const forkLimit = 3 * time.Hour

func (s dataReady) Run(ctx context.Context, say pipeline.Say) error {
	r, api := s.r(), s.d.Rehearsals.API
	for _, c := range []*Copied{&r.Fork, &r.Valkey} {
		var db cloud.Database
		g := pipeline.Gate{Name: c.Name + " is online", Every: 15 * time.Second, Within: forkLimit, Each: 2 * time.Minute, Safe: true, Probe: func(ctx context.Context) error {
			var err error
			if db, err = api.Database(ctx, c.ID); err != nil {
				if hopeless(err) || errors.Is(err, cloud.ErrNotFound) {
					return pipeline.Never(err)
				}
				return err
			}
			if db.Status != online || db.Host == "" || db.Port == 0 {
				return fmt.Errorf("it is %s", db.Status)
			}
			return nil
		}}
		if err := pipeline.Await(ctx, g, say); err != nil {
			return err
		}
		address, err := s.resolve(ctx, db.Host)
		if err != nil {
			return err
		}
		if c.Took == 0 {
			c.Took = time.Since(c.Begun).Round(time.Second)
		}
		c.Host, c.Port, c.Address = db.Host, db.Port, address.String()
		say("%s is at %s:%d (%s) after %s", c.Name, c.Host, c.Port, c.Address, c.Took)
		if err := pipeline.Remember(ctx); err != nil {
			return err
		}
	}
	from, err := api.Database(ctx, r.From)
	if err != nil {
		return fmt.Errorf("%w%s", err, cloudRemedy(err))
	}
	if from.Host == r.Fork.Host && from.Port == r.Fork.Port {
		return fmt.Errorf("the copy %s is at %s:%d, as the fleet's own database is: nothing is done with it", r.Fork.Name, from.Host, from.Port)
	}
	return nil
}

func (s rehearsing) resolve(ctx context.Context, host string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap(), nil
	}
	all, err := s.d.Rehearsals.Resolve(ctx, host)
	for _, a := range all {
		if a = a.Unmap(); a.Is4() {
			return a, nil
		}
	}
	if err != nil {
		return netip.Addr{}, fmt.Errorf("cannot find out where %s is: %w", host, err)
	}
	return netip.Addr{}, fmt.Errorf("%s has no IPv4 address", host)
}

// Undo has nothing to take back.
func (dataReady) Undo(context.Context, pipeline.Say) error { return nil }
