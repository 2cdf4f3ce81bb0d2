package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/pipeline"
)

func TestTheNewestTwentyJournalsStayAndAllThatAreNeeded(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	shelf := &keeper.Dir{Path: t.TempDir(), Now: func() time.Time { return now }}
	save := func(id, kind string, end pipeline.Status) {
		t.Helper()
		now = now.Add(time.Minute)
		j := halfDone()
		j.ID, j.Kind, j.Outcome = id, kind, end
		b, err := json.Marshal(j)
		if err != nil {
			t.Fatal(err)
		}
		if err := shelf.Save(t.Context(), id, j.Epoch, j.Seq, b); err != nil {
			t.Fatal(err)
		}
	}
	save("done", "upgrade", pipeline.Done)
	save("half", "upgrade", "")
	save("torn", "upgrade", pipeline.Done)
	save("newest-upgrade", "upgrade", pipeline.Done)
	for i := range keptJournals {
		save(fmt.Sprintf("place-%02d", i), "place", pipeline.Done)
	}
	torn := filepath.Join(shelf.Path, "torn.json")
	if err := os.WriteFile(torn, []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := now.Add(-time.Hour)
	if err := os.Chtimes(torn, old, old); err != nil {
		t.Fatal(err)
	}
	got, err := outdated(t.Context(), shelf)
	if err != nil || !slices.Equal(got, []string{"done"}) {
		t.Errorf("%v, %v", got, err)
	}
	save("place-20", "place", pipeline.Done)
	if got, err = outdated(t.Context(), shelf); err != nil || !slices.Equal(got, []string{"place-00", "done"}) {
		t.Errorf("with one more: %v, %v", got, err)
	}
	x := &session{config: config{Fleet: "vmst.io"}, keeper: &keeper.Keeper{Caller: gone{os.ErrPermission}, Name: "uhura", Pause: time.Microsecond}, say: t.Logf}
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	x.shed(t.Context()) // says what it could not do, and that is all
}
