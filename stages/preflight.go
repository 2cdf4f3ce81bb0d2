package stages

import (
	"context"
	"errors"
	"strings"

	"vmst.io/refit/builds/toolchain"
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
	v := s.d.Look(ctx, []toolchain.Probe{}, say)
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
	if len(refused) > 0 {
		return pipeline.Refuse("%w", errors.New(strings.Join(refused, "\n  ")))
	}
	s.f.Baseline = baseline(v)
	say("%d hosts, the database, Redis and the proxies have nothing against it; the page takes %s", len(s.d.Fleet), s.f.Baseline.Latency.Round(1e6))
	return nil
}

// Undo has nothing to take back.
func (preflight) Undo(context.Context, pipeline.Say) error { return nil }
