package stages

import (
	"context"
	"fmt"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/pipeline"
)

// soak asks the gates already passed again and again until its time is over: on
// every web node, of every worker, and of the site as a whole.
type soak struct {
	d Deps
	f *Facts
}

func (soak) Name() string { return "soak" }

func (soak) Check(context.Context, pipeline.Say) error { return nil }

func (s soak) Run(ctx context.Context, say pipeline.Say) error {
	release := s.f.To.Version.String()
	before, err := s.d.sidekiq(ctx, mastodon.SidekiqIn{Since: s.f.Baseline.At})
	if err != nil {
		return err
	}
	restarts := map[string]map[string]int{}
	for _, n := range s.d.Fleet.Apps() {
		if restarts[n.Name], err = s.d.restarts(ctx, n); err != nil {
			return err
		}
	}
	return s.d.watch(ctx, s.f, fmt.Sprintf("the whole fleet is well on %s", release), s.d.Holds.Soak, func(ctx context.Context) error {
		return s.d.Fleet.Apps().each(ctx, func(ctx context.Context, n Node) error {
			if err := s.d.stayUp(ctx, n, restarts[n.Name]); err != nil {
				return err
			}
			if err := s.d.runsOnly(ctx, n, release); err != nil {
				return err
			}
			if n.Has(hosts.Web) {
				if err := s.d.inRotation(ctx, n); err != nil {
					return err
				}
				if err := s.d.serves(ctx, n, release, 0); err != nil {
					return err
				}
			}
			if n.Has(hosts.Sidekiq) {
				return s.d.workersRun(ctx, n, release, before, s.f)
			}
			return nil
		})
	}, say)
}

// Undo has nothing to take back.
func (soak) Undo(context.Context, pipeline.Say) error { return nil }
