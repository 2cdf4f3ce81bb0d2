package stages

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts"
	"vmst.io/refit/pipeline"
)

// rolls runs the roll of kirk with the engine's patience.
func (w *world) rolls(t *testing.T) pipeline.Result {
	t.Helper()
	p := pipeline.Plan{ID: "u-1", Kind: "upgrade", From: "v4.5.14", To: "v4.5.15", Facts: w.f, Steps: []pipeline.Step{
		{Stage: rollWeb{w.d, w.f, w.node("kirk")}, Host: "kirk", Switches: true},
	}}
	watch := pipeline.Watch(pipeline.ObserverFunc(func(e pipeline.Event) { w.say("%s %s %s", e.Kind, e.Text, e.Err) }))
	return pipeline.Execute(t.Context(), p, pipeline.NewJournal(p, &oneShelf{}, 1, morning), pipeline.Options{Ground: w.d.Ground(), Patience: time.Minute, Watch: watch})
}

// dies makes a host of the fleet silent.
func (w *world) dies(name string) {
	for _, verb := range []string{"facts", "fence.show", "upstream.get", "upstream.set", "access", "units", "units.show"} {
		w.fails[name+" "+verb] = fmt.Errorf("%s: %w", name, hosts.ErrSilent)
	}
}

func TestAProxyThatStaysAwayIsPassedOverOnTheWayBackAndNotBefore(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.d.Holds.Web = 5 * time.Minute
		w.after(2*time.Minute, func() { w.dies("chekov") }) // while the rolled node is watched
		res := w.rolls(t)
		if res.Status != pipeline.Undone {
			t.Fatalf("%s: %v, %v", res.Status, res.Err, res.UndoErr)
		}
		didAll(t, w, "both: 10.77.0.21 down", "kirk: stop", "kirk: switch to v4.5.15", "kirk: start", "both: 10.77.0.21 up",
			"sulu: 10.77.0.21 down", "kirk: stop", "kirk: switch to v4.5.14", "kirk: start", "sulu: 10.77.0.21 up")
		if !w.heard("waited 1m0s for chekov in vain") || !w.heard("going back without chekov") {
			t.Errorf("said %s", strings.Join(w.said, "\n"))
		}
	})
}

func TestAProxyThatIsSilentForSecondsCostsNoRoll(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.dies("chekov")
		w.after(20*time.Second, func() { clear(w.fails) })
		if res := w.rolls(t); res.Status != pipeline.Done || w.runs["kirk"] != "v4.5.15" {
			t.Errorf("%s: %v, %s", res.Status, res.Err, strings.Join(w.said, "\n"))
		}
		if w.heard("going back without chekov") {
			t.Error("a proxy that came back was passed over")
		}
	})
}
