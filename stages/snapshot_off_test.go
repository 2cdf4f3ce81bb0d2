package stages

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/pipeline"
)

func TestANodeThatIsSwitchedOffForItsSnapshotComesBackThroughItsGates(t *testing.T) {
	for name, deaf := range map[string]bool{"it shuts down": false, "its plug is pulled": true} {
		t.Run(name, func(t *testing.T) {
			inCloud(t, func(t *testing.T, w *world, a *account) {
				a.deaf = deaf
				w.f.Snapshots[0].Off, w.f.Snapshots[1].Off, w.f.Golden = true, true, nil
				if res := w.run(t, t.Context(), &dying{left: 1000}, w.keeps(buildFor{}, changed{w: w})); res.Status != pipeline.Done {
					t.Fatalf("%s: %v", res.Status, res.Err)
				}
				web := []string{"both: 10.77.0.22 down", "spock: stop", "spock: sync", "spock: shutdown", "spock: power_on", "both: 10.77.0.22 up"}
				work := []string{"scotty: kill TSTP", "scotty: stop", "scotty: sync", "scotty: shutdown", "scotty: power_on", "change"}
				if deaf {
					web, work = slices.Insert(web, 4, "spock: power_off"), slices.Insert(work, 4, "scotty: power_off")
				}
				didAll(t, w, append(web, work...)...)
				if len(a.asked) != 2 || w.f.Snapshots[0].Image == 0 || w.f.Snapshots[0].Down {
					t.Errorf("%q, %+v", a.asked, w.f.Snapshots)
				}
			})
		})
	}
}

func TestANodeDoesNotStayOffForASnapshotThatFailed(t *testing.T) {
	inCloud(t, func(t *testing.T, w *world, a *account) {
		w.f.Snapshots[0].Off, a.errored[a.id("spock")] = true, true
		res := w.run(t, t.Context(), &dying{left: 1000}, w.keeps(buildFor{}, changed{w: w}))
		if res.Status != pipeline.Undone || res.Touched {
			t.Fatalf("%s: %v, %v", res.Status, res.Err, res.UndoErr)
		}
		if _, waited := errors.AsType[*pipeline.GroundError](res.Err); waited {
			t.Errorf("it was left off, and waited for: %v", res.Err)
		}
		if w.cut["spock"] || w.runs["spock"] != "v4.5.14" || w.down["sulu"]["10.77.0.22"] || strings.Contains(w.done(), "change") {
			t.Errorf("spock is not back: %s", w.done())
		}
	})
}

func TestANodeThatCannotBeSwitchedOnNeedsAPerson(t *testing.T) {
	inCloud(t, func(t *testing.T, w *world, a *account) {
		w.f.Snapshots[0].Off = true
		a.fails["Power power_on"] = errors.New("the rack is dark")
		shelf := &dying{left: 1000}
		res := w.run(t, t.Context(), shelf, w.keeps(buildFor{}, changed{w: w}))
		if res.Status != pipeline.Person || !strings.Contains(res.State, "spock (droplet 14) was switched off for its snapshot") || !strings.Contains(res.Next, "switch droplet 14 on") {
			t.Fatalf("%s, %q, next %q: %v", res.Status, res.State, res.Next, res.Err)
		}
		clear(a.fails)
		if err := w.d.Wake(t.Context(), w.f, w.say); err != nil {
			t.Fatal(err)
		}
		if res := w.run(t, t.Context(), shelf, w.keeps(buildFor{}, changed{w: w})); res.Status != pipeline.Done || len(a.asked) != 4 {
			t.Errorf("%s: %v, asked %q", res.Status, res.Err, a.asked)
		}
	})
}

func TestANodeIsNotSwitchedOffWithoutAPeerThatServes(t *testing.T) {
	inCloud(t, func(t *testing.T, w *world, a *account) {
		w.f.Snapshots[0].Off, w.sick["kirk"] = true, "/ answers 500"
		res := w.run(t, t.Context(), &dying{left: 1000}, w.keeps(buildFor{}, changed{w: w}))
		if res.Status != pipeline.Undone || len(a.powers) > 0 || !strings.Contains(res.Err.Error(), "cannot take spock out") {
			t.Errorf("%s: %v, powers %q", res.Status, res.Err, a.powers)
		}
	})
}
