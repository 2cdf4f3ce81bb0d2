package stages

import (
	"context"
	"errors"
	"strings"
	"time"

	"vmst.io/refit/builds/toolchain"
	"vmst.io/refit/hosts/nginx"
	"vmst.io/refit/pipeline"
)

// preflight asks once more, right before anything is touched, all that the survey
// asked: an approval may be hours old.
type preflight struct {
	d Deps
	f *Facts
}

func (preflight) Name() string { return "preflight" }

func (preflight) Check(context.Context, pipeline.Say) error { return nil }

func (s preflight) Run(ctx context.Context, say pipeline.Say) error {
	// What users meet while the hosts are asked counts as well.
	began := time.Now()
	users, blind := s.d.newSite(ctx, Baseline{})
	v := s.d.lookWithDrift(ctx, []toolchain.Probe{}, say)
	refused := unreachable(s.d, v)
	if len(refused) == 0 {
		if release, refusal := runs(s.d, v); refusal != "" {
			refused = append(refused, refusal)
		} else if release != s.f.From.Version.String() {
			refused = append(refused, "the fleet runs "+release+" now, and this plan starts from "+s.f.From.Version.String()+": plan again")
		}
	}
	if len(refused) == 0 {
		refused, _ = rules(s.d, s.f, v)
	}
	if n := len(v.Drift); n > 0 {
		say("%d ways in which hosts are not what they should be: `refit drift` tells them", n)
	}
	refused = append(refused, s.d.staleConfigs(ctx, s.f)...)
	if len(refused) > 0 {
		return pipeline.Refuse("%w", errors.New(strings.Join(refused, "\n  ")))
	}
	s.f.Baseline = baseline(v)
	if blind != nil {
		return blind
	}
	if err := s.measure(ctx, users, began, say); err != nil {
		return err
	}
	say("%d hosts, the database, Redis and the proxies have nothing against it; the page takes %s", len(s.d.Fleet), s.f.Baseline.Latency.Round(1e6))
	return nil
}

// measured is how long at most the proxies' logs are watched for the share of
// errors that is usual here. A fleet that has fewer requests is taken for one
// without errors.
const measured = 10 * time.Second

// measure completes the baseline by the errors that users have met since a time.
func (s preflight) measure(ctx context.Context, users *site, began time.Time, say pipeline.Say) error {
	// What a web node is held to for a shorter time need not be known better.
	within := min(measured, max(s.d.Holds.Web, time.Second))
	var sum nginx.Traffic
	for {
		t, err := users.traffic(ctx)
		if err != nil {
			return err
		}
		sum.Requests += t.Requests
		sum.Errors += t.Errors
		left := within - time.Since(began)
		if left <= 0 || sum.Requests >= 10*leastRequests {
			break
		}
		if err := pause(ctx, min(left, time.Second)); err != nil {
			return err
		}
	}
	if sum.Requests < leastRequests {
		say("only %d requests in %s: the usual share of errors is not known and taken for none", sum.Requests, within)
		return nil
	}
	s.f.Baseline.Errors = sum.ErrorRate()
	say("%d of %d requests were answered with a 5xx before anything was touched", sum.Errors, sum.Requests)
	return nil
}

// Undo has nothing to take back.
func (preflight) Undo(context.Context, pipeline.Say) error { return nil }
