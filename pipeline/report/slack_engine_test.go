package report

import (
	"context"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/pipeline"
)

// nap is a stage that takes a minute and speaks.
type nap struct{ name string }

func (n nap) Name() string                            { return n.name }
func (nap) Check(context.Context, pipeline.Say) error { return nil }
func (nap) Undo(context.Context, pipeline.Say) error  { return nil }
func (nap) Run(ctx context.Context, _ pipeline.Say) error {
	for range 60 {
		pipeline.Tell(ctx, pipeline.HostState{Host: "kirk", State: "starting"})
		pipeline.CountFailed(ctx, 100, 1)
		<-time.After(time.Second)
	}
	return nil
}

// shelf forgets.
type shelf struct{}

func (shelf) Load(context.Context, string) ([]byte, error)             { return nil, fs.ErrNotExist }
func (shelf) Save(context.Context, string, int64, int64, []byte) error { return nil }

// The engine itself, with everybody watching: whatever Slack does, the run takes as
// long as its steps.
func TestARunTakesAsLongWithASlackThatHangsAsWithout(t *testing.T) {
	for name, ill := range map[string]func(*story){
		"well": func(*story) {}, "hangs": func(x *story) { x.slack.Slow(time.Hour) }, "down": func(x *story) { x.slack.Down(true) }, "revoked": func(x *story) { x.slack.Revoke() },
	} {
		synctest.Test(t, func(t *testing.T) {
			x := begin(t, nil)
			ill(x)
			m := metrics(t, MetricsOptions{})
			k := kuma(t, &kumaServer{hang: true})
			plan := pipeline.Plan{ID: x.run.ID, Kind: "upgrade", From: "v4.5.14", To: "v4.5.15", Facts: &struct{}{}}
			for _, s := range x.run.Steps {
				plan.Steps = append(plan.Steps, pipeline.Step{Stage: nap{s.Name}, Host: s.Host})
			}
			x.s.Begin(x.run)
			began := time.Now()
			res := pipeline.Execute(t.Context(), plan, pipeline.NewJournal(plan, shelf{}, 1, began), pipeline.Options{Watch: pipeline.Watch(x.s, m, k)})
			if took := time.Since(began); took != 3*time.Minute || res.Status != pipeline.Done {
				t.Errorf("%s: %s in %s", name, res.Status, took)
			}
			has(t, "the metrics", page(t, m), `refit_gate_failed_requests_total{fleet="vmst.io"} 180`, `state="done"} 1`)
			began = time.Now()
			said := x.s.Close(15 * time.Second)
			k.Close(15 * time.Second)
			m.Close(15 * time.Second)
			if took := time.Since(began); took > 31*time.Second {
				t.Errorf("%s: the end took %s", name, took)
			}
			if (len(said) > 0) == (name == "well") {
				t.Errorf("%s: %q", name, said)
			}
			if name == "well" && !strings.Contains(x.root().Text, "done") {
				t.Error(x.root().Text)
			}
		})
	}
}
