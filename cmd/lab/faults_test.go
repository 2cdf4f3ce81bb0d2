package main

import (
	"strings"
	"testing"
	"time"
)

// Ten faults of docs/faults.md by name. All of the table: TestLabEveryFault.

// TestLabFaultsThatPassAreWaitedForInOneUpgrade lets something else break in each
// step of one upgrade, and come back.
func TestLabFaultsThatPassAreWaitedForInOneUpgrade(t *testing.T) {
	f := before(t)
	f.forgetPlaced(t, "scotty")
	faults := []*meddling{
		{step: "place", host: "scotty", fault: isSlow, lasts: 6 * time.Second},
		{step: "bridge assets", host: "kirk", fault: isFrozen, lasts: 15 * time.Second},
		{step: "pre-migrate", host: "uhura", fault: isCut, lasts: 20 * time.Second},
		{step: "roll sidekiq scotty", host: "scotty", fault: isRebooted},
		{step: "roll sidekiq decker", fault: isMoved},
		{step: "roll web kirk", host: "kirk", fault: isCut, lasts: 20 * time.Second},
		{step: "roll web spock", host: "sulu", fault: isFrozen, lasts: 15 * time.Second},
		{step: "soak", fault: isPromoted},
		{step: "record", host: "uhura", fault: isRebooted},
	}
	began, first := time.Now(), f.nextJob(t)
	var a answer
	f.underFaults(t, func() { a = f.meddle(t, "", []string{"upgrade", "--to", "v4.5.2", "--yes"}, faults...) }, faults...)
	t.Logf("refit said:\n%s", a.err)
	if a.code != 0 {
		t.Fatalf("not exit 0 but %d", a.code)
	}
	f.fewLogins(t, began, 12)
	f.runsEverywhere(t, "v4.5.2")
	f.noJobLost(t, first, faults...)
	f.well(t)
}

// TestLabAFullDiskDuringPlaceEndsBeforeAnythingIsSwitched needs no waiting: a disk
// does not empty itself.
func TestLabAFullDiskDuringPlaceEndsBeforeAnythingIsSwitched(t *testing.T) {
	f := before(t)
	f.forgetPlaced(t, "spock")
	full := &meddling{step: "build", host: "spock", fault: isFull}
	var a answer
	f.underFaults(t, func() { a = f.meddle(t, "", []string{"upgrade", "--to", "v4.5.2", "--yes"}, full) }, full)
	t.Logf("refit said:\n%s", a.err)
	if a.code != 1 || !strings.Contains(a.err, "spock") || strings.Contains(a.err, "roll sidekiq scotty: begun") {
		t.Errorf("a full disk on spock: %s", a)
	}
	f.mendAll(t, full)
	f.runsEverywhere(t, "v4.5.1")
	f.must(t, 0, "", []string{"doctor"}, "nothing stands against an upgrade")
}
