package stages

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/pipeline"
)

// keeping is the work on one image of a node's disk. Each of its calls looks before it
// acts and writes down in the facts what it is about to do, so that a run that was killed
// anywhere, or whose request lost its answer, never asks for a second image: what exists
// is found by its name, which carries the run, or by the action that makes it.
type keeping struct {
	c       *Cloud
	d       Deps
	k       *Kept
	run     string
	purpose cloud.Purpose

	// listed is since when the image should be listed: its action is over. Where the action
	// is not known, quiet is since when nothing was seen at work on the droplet.
	listed, quiet time.Time
}

const (
	// keepLook is the pause between two looks at an image that is being made.
	keepLook = 12 * time.Second
	// keepListed is how long an image may take to be listed after its action is over. One
	// whose action is not known, since the answer was lost or the process was killed, is
	// asked for again after as long in which nothing was at work on the droplet.
	keepListed = 10 * time.Minute
	// keepBegin is how long the account may refuse to begin for reasons that pass.
	keepBegin = 3 * time.Minute
	// keepFind bounds one look for an image.
	keepFind = 20 * time.Second
	// keepAsk bounds one look, the account's own patience with a busy API included.
	keepAsk = 2 * time.Minute
)

func (s *keeping) name() string {
	if s.purpose == cloud.ForBirth {
		return cloud.GoldenName(s.c.Fleet, s.run, s.k.Tier, s.k.Release)
	}
	return cloud.SnapshotName(s.c.Fleet, s.run, s.k.Host)
}

func (s *keeping) tags() []string {
	return cloud.Marks(s.c.Fleet, s.purpose, s.run, cloud.TierTag(s.k.Tier), cloud.ReleaseTag(s.k.Release), cloud.HostTag(s.k.Host))
}

// what names it for people.
func (s *keeping) what() string {
	return fmt.Sprintf("the %s image of %s (droplet %d)", s.purpose, s.k.Host, s.k.Droplet)
}

// begin asks for the image, unless it was asked for. It is not an error that something
// else is at work on the droplet, or that an answer was lost: ready goes on from there.
func (s *keeping) begin(ctx context.Context, say pipeline.Say) error {
	if s.k.Image != 0 || s.k.Action != 0 {
		return nil
	}
	open, busy, err := s.c.API.Pending(ctx, s.k.Droplet)
	if err != nil {
		return err
	}
	if busy {
		s.quiet = time.Now()
		say("%s: droplet %d has an action at work (%s, %d): %s comes after it, unless that is it", s.k.Host, s.k.Droplet, open.Type, open.ID, s.name())
		return nil
	}
	if s.k.Asked.IsZero() {
		return s.ask(ctx, say)
	}
	if _, err = s.find(ctx); !errors.Is(err, cloud.ErrNotFound) {
		return err
	}
	if s.quiet.IsZero() {
		s.quiet = time.Now()
	}
	if time.Since(s.quiet) < keepListed {
		return nil
	}
	return s.ask(ctx, say)
}

// find looks for the image, for a short while only: the account's own patience with an
// image that is listed late is longer than a look may take.
func (s *keeping) find(ctx context.Context) (cloud.Image, error) {
	within, cancel := context.WithTimeout(ctx, keepFind)
	defer cancel()
	img, err := s.c.API.SnapshotOf(within, s.k.Droplet, s.name())
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w (%w)", cloud.ErrNotFound, err)
	}
	return img, err
}

// ask asks the account for the image: journalled before, and after.
func (s *keeping) ask(ctx context.Context, say pipeline.Say) error {
	if n, ok := s.d.Fleet.Named(s.k.Host); ok && !s.k.Down {
		if err := n.Agent.Sync(ctx); err != nil {
			return fmt.Errorf("%s: cannot have it write its memory to its disk: %w", n.Name, err)
		}
	}
	before := s.k.Asked
	s.k.Name, s.k.Asked, s.k.Why = s.name(), time.Now().UTC().Truncate(time.Millisecond), ""
	if err := pipeline.Remember(ctx); err != nil {
		return err
	}
	a, err := s.c.API.Snapshot(ctx, s.k.Droplet, s.k.Name)
	switch {
	case errors.Is(err, cloud.ErrBusy):
		s.k.Asked = before // it was refused, so it was not done
		say("%s: something else is at work on droplet %d: %s comes after it", s.k.Host, s.k.Droplet, s.k.Name)
		return pipeline.Remember(ctx)
	case errors.Is(err, cloud.ErrLost):
		say("%s: the answer to the request for %s was lost, so it is looked for", s.k.Host, s.k.Name)
		return nil
	case hopeless(err):
		s.k.Asked = before
		return err
	case err != nil:
		return err
	}
	s.k.Action = a.ID
	say("%s: its disk is being kept as %s (action %d)", s.k.Host, s.k.Name, a.ID)
	return pipeline.Remember(ctx)
}

// ready is nil when the image is complete, has its tags and stands in the facts. It begins
// what was not begun.
func (s *keeping) ready(ctx context.Context, say pipeline.Say) error {
	if s.k.Image != 0 {
		return nil
	}
	err := s.look(ctx, say)
	if hopeless(err) {
		return pipeline.Never(fmt.Errorf("%w%s", err, cloudRemedy(err)))
	}
	return err
}

func (s *keeping) look(ctx context.Context, say pipeline.Say) error {
	open, busy, err := s.c.API.Pending(ctx, s.k.Droplet)
	if err != nil {
		return err
	}
	if busy && (s.k.Action == 0 || open.ID == s.k.Action) {
		s.quiet = time.Now()
		return fmt.Errorf("%s: action %d (%s) is at work on droplet %d", s.k.Host, open.ID, open.Type, s.k.Droplet)
	}
	if s.k.Action != 0 {
		if err := s.over(ctx); err != nil {
			return err
		}
	}
	img, err := s.find(ctx)
	switch {
	case err == nil:
		return s.mark(ctx, img, say)
	case !errors.Is(err, cloud.ErrNotFound):
		return err
	case s.k.Action != 0:
		return s.late()
	}
	if err := s.begin(ctx, say); err != nil {
		return err
	}
	return fmt.Errorf("%s: no image %s yet", s.k.Host, s.name())
}

// over asks how the image's action ended; one that is still at work is an error too.
func (s *keeping) over(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, keepLook)
	defer cancel()
	err := s.c.API.Await(ctx, s.k.Droplet, s.k.Action, keepLook, func(string, ...any) {})
	switch {
	case errors.Is(err, cloud.ErrNotFound):
		return nil // the account forgets old actions; the image speaks for itself
	case errors.Is(err, cloud.ErrErrored):
		return pipeline.Never(fmt.Errorf("%s: action %d on droplet %d gave no image: %w. The account gives no reason; the droplet's page in its control panel may. Try again, or take the tier %s out of cloud.snapshots.tiers",
			s.k.Host, s.k.Action, s.k.Droplet, err, s.k.Tier))
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("%s: action %d is at work on droplet %d", s.k.Host, s.k.Action, s.k.Droplet)
	}
	return err
}

// late is the error of an image whose action is over and that is not listed; after a time
// it is not waited for any more.
func (s *keeping) late() error {
	if s.listed.IsZero() {
		s.listed = time.Now()
	}
	err := fmt.Errorf("%s: action %d on droplet %d is complete, and the account does not list its image %s", s.k.Host, s.k.Action, s.k.Droplet, s.k.Name)
	if time.Since(s.listed) >= keepListed {
		return pipeline.Never(fmt.Errorf("%w, %s later: look for it in the control panel under Backups & Snapshots, and try again", err, keepListed))
	}
	return err
}

// mark gives a complete image its tags, by which it is known as refit's for ever after,
// and then writes it down.
func (s *keeping) mark(ctx context.Context, img cloud.Image, say pipeline.Say) error {
	if err := s.c.API.TagImage(ctx, img.ID, s.tags()...); err != nil {
		return fmt.Errorf("image %d (%s) is complete and cannot be given its tags: %w", img.ID, img.Name, err)
	}
	s.k.Name, s.k.Image, s.k.GiB, s.k.Why = img.Name, img.ID, img.GiB, ""
	say("%s: kept as image %d, %s, %.1f GiB", s.k.Host, img.ID, img.Name, img.GiB)
	return pipeline.Remember(ctx)
}

// started waits until the image was asked for. What passes by itself is borne for a while.
func (s *keeping) started(ctx context.Context, say pipeline.Say) error {
	return pipeline.Await(ctx, pipeline.Gate{
		Name: s.what() + " is begun", Every: keepLook, Within: keepBegin, Each: keepAsk, Safe: true,
		Probe: func(ctx context.Context) error {
			err := s.begin(ctx, say)
			if lost(err) || hopeless(err) {
				return pipeline.Never(fmt.Errorf("%w%s", err, cloudRemedy(err)))
			}
			return err
		},
	}, say)
}

// complete waits until the image is ready. safe: a person's wish to stop ends the wait.
func (s *keeping) complete(ctx context.Context, safe bool, say pipeline.Say) error {
	return pipeline.Await(ctx, pipeline.Gate{
		Name: s.what() + " is complete", Every: keepLook, Within: s.k.patience(), Each: keepAsk, Safe: safe,
		Probe: func(ctx context.Context) error { return s.ready(ctx, say) },
	}, say)
}

// stay makes sure, when the run goes back, that what was kept is known as refit's, and
// says where it is. It fails nothing.
func (s *keeping) stay(ctx context.Context, say pipeline.Say) {
	if s.k.Asked.IsZero() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, keepAsk)
	defer cancel()
	if s.k.Image == 0 {
		img, err := s.find(ctx)
		if err == nil {
			err = s.mark(ctx, img, say)
		}
		if err != nil {
			say("%s was asked for as %s, and is not complete yet (%v): it may come. The next upgrade that ends well gives it its tags, and retires it in its time", s.what(), s.k.Name, err)
			return
		}
	}
	say("%s stays: image %d, %s", s.what(), s.k.Image, s.k.Name)
}
