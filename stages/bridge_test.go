package stages

import (
	"testing"
	"time"
)

func TestBridgeWaitsForANodeThatIsStillBooting(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.runs["kirk"] = ""
		w.after(20*time.Second, func() { w.runs["kirk"] = "v4.5.14" })
		if err := (bridge{w.d, w.f}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		if !w.heard("connection refused") || !w.heard("kirk: answers all 4 hashed files") {
			t.Errorf("said %q", w.said)
		}
	})
}

func TestBridgeFailsForANodeThatNeverServes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.runs["kirk"] = ""
		failsWith(t, bridge{w.d, w.f}.Run(t.Context(), w.say), "kirk serves", "connection refused")
	})
}
