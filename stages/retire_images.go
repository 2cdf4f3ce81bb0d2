package stages

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/pipeline"
)

// retireImages removes old images of the fleet's from the cloud account: of snapshots and
// of golden images, by tier, whatever is neither among the newest nor young enough. It
// comes after an upgrade that is done, so after one that failed every image stays, and it
// fails none: what cannot be removed is said.
type retireImages struct {
	d  Deps
	f  *Facts
	id string
}

func (retireImages) Name() string { return "retire images" }

func (retireImages) Check(context.Context, pipeline.Say) error { return nil }

func (s retireImages) Run(ctx context.Context, say pipeline.Say) error {
	if s.d.Cloud == nil {
		say("images stay: %v", errNoCloud)
		return nil
	}
	err := s.retire(ctx, say)
	if err != nil && ctx.Err() == nil {
		line := fmt.Sprintf("old images stay in the cloud account: %v%s", err, cloudRemedy(err))
		s.note(line)
		say("%s", line)
		return nil
	}
	return err
}

// note adds a line to the facts once.
func (s retireImages) note(line string) {
	if !slices.Contains(s.f.Retired, line) {
		s.f.Retired = append(s.f.Retired, line)
	}
}

func (s retireImages) retire(ctx context.Context, say pipeline.Say) error {
	c := s.d.Cloud
	var runs []CloudRun
	if c.Runs != nil {
		var err error
		if runs, err = c.Runs(ctx); err != nil {
			return fmt.Errorf("which runs may need them yet cannot be asked: %w", err)
		}
	}
	s.claim(ctx, runs, say)
	all, err := c.API.Images(ctx, cloud.FleetTag(c.Fleet))
	if err != nil {
		return err
	}
	var failed error
	for _, kind := range []struct {
		p    cloud.Purpose
		rule Retention
	}{{cloud.ForUndo, c.Snapshots}, {cloud.ForBirth, c.Golden}} {
		for _, img := range c.outdated(all, kind.p, kind.rule, s.needed(runs), time.Now()) {
			if err := s.remove(ctx, img, kind.p, say); err != nil {
				failed = err
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
	return failed
}

// needed are the tags of the runs whose images stay: this one's, and those that were left
// half way.
func (s retireImages) needed(runs []CloudRun) []string {
	out := []string{cloud.RunTag(s.id)}
	for _, r := range runs {
		if r.Open {
			out = append(out, cloud.RunTag(r.ID))
		}
	}
	return out
}

// claim gives their tags to images that earlier runs asked for and did not see: of a run
// that failed while they were being made. Their journals are the proof that they are
// refit's.
func (s retireImages) claim(ctx context.Context, runs []CloudRun, say pipeline.Say) {
	for _, r := range runs {
		if r.Open || r.ID == s.id {
			continue
		}
		for _, of := range []struct {
			p   cloud.Purpose
			all []Kept
		}{{cloud.ForUndo, r.Snapshots}, {cloud.ForBirth, r.Golden}} {
			for _, k := range of.all {
				if k.Asked.IsZero() || k.Image != 0 {
					continue
				}
				w := s.d.keeping(&k, r.ID, of.p)
				img, err := w.find(ctx)
				if err != nil {
					continue // it never came, it is gone, or its droplet is
				}
				if err := s.d.Cloud.API.TagImage(ctx, img.ID, w.tags()...); err != nil {
					say("image %d (%s) is of run %s and cannot be given its tags: %v", img.ID, img.Name, r.ID, err)
				}
			}
		}
	}
}

// outdated are the images of one purpose that no rule keeps, the oldest first.
func (c *Cloud) outdated(all []cloud.Image, p cloud.Purpose, rule Retention, needed []string, now time.Time) []cloud.Image {
	by := map[string][]cloud.Image{}
	for _, img := range all {
		if tier := c.tierOfImage(img, p); tier != "" {
			by[tier] = append(by[tier], img)
		}
	}
	var out []cloud.Image
	for _, tier := range cloudTiers {
		images := by[tier]
		slices.SortFunc(images, func(a, b cloud.Image) int { return b.Created.Compare(a.Created) })
		for i, img := range images {
			old := now.Sub(img.Created) >= rule.Age
			inUse := slices.ContainsFunc(img.Tags, func(t string) bool { return slices.Contains(needed, t) })
			if i >= max(rule.Keep, 1) && old && !inUse {
				out = append(out, img)
			}
		}
	}
	slices.Reverse(out)
	return out
}

// tierOfImage is the tier of an image that refit made of the fleet for the purpose and
// that is complete; empty for any other, which is neither removed nor counted. Beside the
// tags its name must be the fleet's: tags know fewer letters than names, so that two
// fleets of one account may share theirs, and who renames an image keeps it.
func (c *Cloud) tierOfImage(img cloud.Image, p cloud.Purpose) string {
	if !cloud.Ours(img.Tags, c.Fleet, p) || img.Kind != "snapshot" || img.GiB <= 0 || !strings.HasPrefix(img.Name, "refit-"+c.Fleet+"-") {
		return ""
	}
	var found string
	for _, tier := range cloudTiers {
		if !slices.Contains(img.Tags, cloud.TierTag(tier)) {
			continue
		}
		if found != "" {
			return "" // of two tiers: nobody can tell
		}
		found = tier
	}
	return found
}

// remove removes an image that still is what it was when it was listed: somebody may have
// taken its tags, to keep it.
func (s retireImages) remove(ctx context.Context, img cloud.Image, p cloud.Purpose, say pipeline.Say) error {
	now, err := s.d.Cloud.API.Image(ctx, img.ID)
	if err != nil {
		return err
	}
	if s.d.Cloud.tierOfImage(now, p) == "" {
		return nil
	}
	if err := s.d.Cloud.API.DeleteImage(ctx, img.ID); err != nil {
		return fmt.Errorf("image %d (%s) cannot be removed: %w", img.ID, img.Name, err)
	}
	line := fmt.Sprintf("removed from the cloud account: image %d, %s, of %s", img.ID, img.Name, img.Created.Format("2 January 2006"))
	s.note(line)
	say("%s", line)
	return pipeline.Remember(ctx)
}

// Undo cannot bring back what was removed, and need not: the newest of each tier stayed.
func (retireImages) Undo(context.Context, pipeline.Say) error { return nil }
