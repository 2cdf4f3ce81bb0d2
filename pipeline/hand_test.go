package pipeline

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestWhoWorkedOnARunStandsInItsJournalAndTheFirstOneStays(t *testing.T) {
	w := newWorld(t, 2)
	w.crash["run step b before"] = true
	if _, dead := w.live(t.Context(), false); !dead {
		t.Fatal("it did not die")
	}
	j, err := LoadJournal(t.Context(), w.disk, "run-1")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now() // with a monotonic part, which does not survive JSON
	j.TakenUp(Hand{By: "ana on bridge", Why: "upgrade", At: at, Approvals: []Approval{{By: "michael", Key: "SHA256:x", Given: at.UTC().Round(0)}}})
	for i := range 3 * mostHands {
		j.TakenUp(Hand{By: fmt.Sprint("watcher ", i), At: at})
	}
	if err := j.Adopt(w.disk, w.disk.epoch); err != nil {
		t.Fatal(err)
	}
	if err := j.save(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	again, err := LoadJournal(t.Context(), w.disk, "run-1")
	if err != nil {
		t.Fatal(err)
	}
	n := len(again.Hands)
	if n != mostHands || again.Hands[0].By != "ana on bridge" || again.Hands[0].Approvals[0].Key != "SHA256:x" || again.Hands[n-1].By != fmt.Sprint("watcher ", 3*mostHands-1) {
		t.Errorf("%d hands: %+v", n, again.Hands)
	}
	if again.LastMark().IsZero() {
		t.Error("a run of which a step has begun says that none has")
	}
}

func TestAJournalOfTheFormatBeforeIsReadAndGoneOnWithInThisOne(t *testing.T) {
	old := strings.Replace(string(journalBytes(t)), `"format":2`, `"format":1`, 1)
	j, err := ParseJournal([]byte(old))
	if err != nil || j.Format != 1 {
		t.Fatalf("%v: %s", err, old)
	}
	if err := j.Adopt(nil, j.Epoch); err != nil || j.Format != JournalFormat {
		t.Errorf("format %d, %v: an older refit would take it for damaged, and not for newer", j.Format, err)
	}
}
