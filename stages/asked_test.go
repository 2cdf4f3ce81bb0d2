package stages

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/store"
	"vmst.io/refit/pipeline"
)

// everything is a fleet that asks for every step there is.
func everything(t *testing.T) (Deps, *Facts) {
	t.Helper()
	d, f := someDeps(), someFacts(t)
	d.Seal, d.Backups, d.CDN = true, &Backups{Dump: DumpOneWay}, &store.CDN{Host: "https://assets.example"}
	f.Pre, f.Post = []builds.Migration{preMigration}, []builds.Migration{postMigration}
	return d, f
}

func TestARunKeepsItsStepsWhateverBecomesOfTheConfiguration(t *testing.T) {
	d, f := everything(t)
	f.Asked = d.asks()
	want := stepNames(Upgrade("u-1", d, f))
	for _, step := range []string{"seal", "dump", "restore point", "last restore point", cdn{}.Name()} {
		if !slices.Contains(want, step) {
			t.Fatalf("the plan lacks %q: %q", step, want)
		}
	}
	b, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	journalled := &Facts{}
	if err := json.Unmarshal(b, journalled); err != nil {
		t.Fatal(err)
	}
	if got := stepNames(Upgrade("u-1", someDeps(), journalled)); !slices.Equal(got, want) {
		t.Errorf("without the blocks %q, begun as %q", got, want)
	}
	// Nor are steps added to a run that was begun without them.
	bare, f := someDeps(), someFacts(t)
	f.Asked = bare.asks()
	want = stepNames(Upgrade("u-1", bare, f))
	if got := stepNames(Upgrade("u-1", d, f)); !slices.Equal(got, want) {
		t.Errorf("with the blocks %q, begun as %q", got, want)
	}
}

func TestAJournalThatDoesNotSayWhatWasAskedGoesByTheConfiguration(t *testing.T) {
	d, f := everything(t)
	if got := stepNames(Upgrade("u-1", d, f)); !slices.Contains(got, "seal") || !slices.Contains(got, "dump") || !slices.Contains(got, "restore point") {
		t.Errorf("%q", got)
	}
	if got := stepNames(Upgrade("u-1", someDeps(), f)); slices.Contains(got, "seal") || slices.Contains(got, "dump") {
		t.Errorf("%q", got)
	}
}

func TestAStepWhoseBlockIsGoneNamesItAndItsWayBackNeedsNone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.f.Asked, w.f.Post = &Asked{Seal: true, Dump: DumpAlways, Restore: true, CDN: "https://assets.example"}, []builds.Migration{postMigration}
		for block, s := range map[string]pipeline.Stage{"backups": dump{w.d, w.f, aRun}, "cdn": cdn{w.d, w.f}} {
			failsWith(t, s.Run(t.Context(), w.say), "put the block `"+block+"` back", "`refit rollback`")
			if err := s.Undo(t.Context(), w.say); err != nil {
				t.Errorf("%s: %v", s.Name(), err)
			}
		}
		failsWith(t, cdn{w.d, w.f}.Check(t.Context(), w.say), "put the block `cdn` back")
		failsWith(t, preflight{w.d, w.f}.Run(t.Context(), w.say), "put the block `backups` back")
		for _, s := range []pipeline.Stage{seal{w.d}, restorePoint{w.d, w.f, false}} {
			if err := s.Run(t.Context(), w.say); err != nil {
				t.Errorf("%s needs no block: %v", s.Name(), err)
			}
			if err := s.Undo(t.Context(), w.say); err != nil {
				t.Errorf("%s: %v", s.Name(), err)
			}
		}
		w.d.Backups = &Backups{Dump: DumpNever, Fleet: "vmst.io"}
		w.kept()
		w.d.Backups.Dump = DumpNever
		if err := (preflight{w.d, w.f}).Run(t.Context(), w.say); err != nil && strings.Contains(err.Error(), "pg_dump") {
			t.Errorf("nodes that were not asked are said to have no pg_dump: %v", err)
		}
	})
}
