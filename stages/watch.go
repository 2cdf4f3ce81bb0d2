package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/nginx"
	"vmst.io/refit/pipeline"
)

// leastRequests is how many requests a look at the proxies' logs must have seen
// before their share of errors says anything.
const leastRequests = 20

// site watches what users feel: errors in the proxies' logs and the latency of
// the web nodes in rotation, against the baseline.
type site struct {
	d    Deps
	base Baseline

	mu      sync.Mutex
	cursors map[string]nginx.Cursor
	total   nginx.Traffic
}

// newSite begins to watch: errors before now are not counted.
func (d Deps) newSite(ctx context.Context, base Baseline) (*site, error) {
	s := &site{d: d, base: base, cursors: map[string]nginx.Cursor{}}
	_, err := s.traffic(ctx)
	return s, err
}

// traffic is what the proxies logged since the last call, and remembers the place.
func (s *site) traffic(ctx context.Context) (nginx.Traffic, error) {
	var sum nginx.Traffic
	err := s.d.proxies().each(ctx, func(ctx context.Context, p Node) error {
		s.mu.Lock()
		since := s.cursors[p.Name]
		s.mu.Unlock()
		for {
			a, err := nginx.ReadAccess(ctx, p.Agent, nginx.AccessIn{Path: s.d.Proxies.AccessLog, Since: since})
			if err != nil {
				return fmt.Errorf("cannot read the access log: %w", err)
			}
			since = a.Next
			s.mu.Lock()
			s.cursors[p.Name] = since
			sum.Requests += a.Requests
			sum.Errors += a.Errors
			s.mu.Unlock()
			if !a.More {
				return nil
			}
		}
	})
	return sum, err
}

// look is one look: nil when the site is at its baseline.
func (s *site) look(ctx context.Context) error {
	now, err := s.traffic(ctx)
	if err != nil {
		return err
	}
	pipeline.CountFailed(ctx, now.Requests, now.Errors)
	s.mu.Lock()
	s.total.Requests += now.Requests
	s.total.Errors += now.Errors
	total := s.total
	if total.Requests >= leastRequests {
		s.total = nginx.Traffic{}
	}
	s.mu.Unlock()
	var errs []error
	if total.Requests >= leastRequests && total.ErrorRate() > s.base.Errors+s.d.Limits.Errors {
		errs = append(errs, fmt.Errorf("%d of %d requests were answered with a 5xx", total.Errors, total.Requests))
	}
	latency, err := s.d.latency(ctx)
	if err != nil {
		errs = append(errs, err)
	}
	if limit := s.limit(); latency > limit {
		errs = append(errs, fmt.Errorf("the page takes %s, %s before and %s allowed", latency.Round(time.Millisecond), s.base.Latency.Round(time.Millisecond), limit.Round(time.Millisecond)))
	}
	return errors.Join(errs...)
}

func (s *site) limit() time.Duration {
	return max(time.Duration(float64(s.base.Latency)*s.d.Limits.Latency), s.d.Limits.LatencyFloor)
}

// latency is the median answer of the slowest web node in rotation. A node that
// is out of rotation is not asked.
func (d Deps) latency(ctx context.Context) (time.Duration, error) {
	var mu sync.Mutex
	var all []time.Duration
	err := d.webs().each(ctx, func(ctx context.Context, n Node) error {
		if d.inRotation(ctx, n) != nil {
			return nil
		}
		p, err := mastodon.RunProbe(ctx, n.Agent, func() mastodon.ProbeIn {
			in := d.probeIn(n, n.Streaming[0], "", []mastodon.CheckName{mastodon.CheckPage, mastodon.CheckDatabase, mastodon.CheckLatency})
			in.Requests = 7
			return in
		}())
		if err != nil {
			return err
		}
		if err := p.Err(); err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		if p.Latency == nil {
			return fmt.Errorf("%s: the probe measured no latency", n.Name)
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, p.Latency.P50)
		return nil
	})
	if err != nil {
		return 0, err
	}
	if len(all) == 0 {
		return 0, errors.New("no web node is in rotation")
	}
	return slices.Max(all), nil
}

// watch holds the site to its baseline, and to also, for as long as told. One bad
// look is let pass: a look during a proxy's reload or a spike of load is no trend.
func (d Deps) watch(ctx context.Context, f *Facts, name string, hold time.Duration, also func(context.Context) error, say pipeline.Say) error {
	return d.watchSince(ctx, f, name, time.Now(), hold, also, say)
}

// watchSince is watch for a deed that began earlier: the balancer's answers since then
// count. What the proxies logged before the watch does not.
func (d Deps) watchSince(ctx context.Context, f *Facts, name string, since time.Time, hold time.Duration, also func(context.Context) error, say pipeline.Say) error {
	s, err := d.newSite(ctx, f.Baseline)
	if err != nil {
		return err
	}
	front := d.newFrontWatch(f.Baseline, since, say)
	return pipeline.Await(ctx, pipeline.Gate{
		Name: name, Hold: hold, Within: d.Waits.Boot, Every: 2 * time.Second, Each: 30 * time.Second, Forgive: 1,
		// Nothing is half done while the site is watched: the step is watched again on resume.
		Safe: true,
		Probe: func(ctx context.Context) error {
			if also != nil {
				if err := also(ctx); err != nil {
					return err
				}
			}
			return errors.Join(s.look(ctx), front.look(ctx))
		},
	}, say)
}
