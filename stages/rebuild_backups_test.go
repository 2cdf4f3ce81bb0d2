package stages

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/builds"
	"vmst.io/refit/pipeline"
)

func TestARebuiltRunTakesNoDumpAndNotesNoInstantAfterItsMigrations(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.f.Asked = &Asked{Dump: DumpAlways, Restore: true}
		w.f.Pre = []builds.Migration{preMigration}
		w.live["kirk"], w.runs["kirk"] = "v4.5.15", "v4.5.15" // rolled, so the migrations came before
		for name, state := range map[string]pipeline.State{"nothing of them": pipeline.Pending, "that they were begun": pipeline.Doing} {
			r := rebuilt(t, w, copyOf(t, w, map[string]pipeline.State{"dump": state, "restore point": state}, pipeline.Forward))
			for _, step := range []string{"dump", "restore point"} {
				if got := r.Journal.Marks[step].State; got != pipeline.Finish || !strings.Contains(r.Why[step], "taken as done") {
					t.Errorf("the copy says %s: %s is %q (%s)", name, step, got, r.Why[step])
				}
			}
		}
	})
}

func TestARunIsRecoveredWithoutItsCloudAccountAndSaysWhatIsLeftOut(t *testing.T) {
	inCloud(t, func(t *testing.T, w *world, a *account) {
		a.fails["Droplets"] = errors.New("there is no token")
		w.f.Said = nil
		w.d.recoverImages(t.Context(), &View{}, w.f)
		if len(w.f.Snapshots)+len(w.f.Golden) > 0 || len(w.f.Said) != 1 || !strings.Contains(w.f.Said[0], "there is no token") || !strings.Contains(w.f.Said[0], "without its snapshots, golden images") {
			t.Errorf("%+v, %+v, %q", w.f.Snapshots, w.f.Golden, w.f.Said)
		}
		w.live["kirk"], w.runs["kirk"] = "v4.5.15", "v4.5.15"
		if r := rebuilt(t, w, nil); !slices.Contains(r.Said, w.f.Said[0]) {
			t.Errorf("who accepts the run is not told: %q", r.Said)
		}
	})
}
