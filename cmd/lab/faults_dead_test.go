package main

import (
	"strings"
	"testing"
)

// TestLabAWebNodeThatDiesInItsOwnRollWaitsForAPerson powers a node off for good and
// asks for the exact state and the next command, which then leads out.
func TestLabAWebNodeThatDiesInItsOwnRollWaitsForAPerson(t *testing.T) {
	full(t)
	f := before(t)
	dead := &meddling{step: "roll web kirk", host: "kirk", fault: isOff}
	config := f.config(t, "unreachable: 60s", "unreachable: 10s")
	var a answer
	f.underFaults(t, func() { a = f.meddle(t, config, []string{"upgrade", "--to", "v4.5.2", "--yes"}, dead) }, dead)
	t.Logf("refit said:\n%s", a.err)
	if a.code != 7 {
		t.Fatalf("kirk is off for good: not exit 7 but %s", a)
	}
	for _, w := range []string{"asking whether all that it stands on answers", "for kirk in vain", "roll web kirk could not be taken back: kirk did not come back", "bring kirk back, then `refit resume`"} {
		if !strings.Contains(a.err, w) {
			t.Errorf("the report does not say %q", w)
		}
	}
	f.mendAll(t, dead)
	b := f.must(t, 6, "", []string{"resume", "--yes"})
	t.Logf("resume said:\n%s", b.err)
	f.runsEverywhere(t, "v4.5.1")
	f.well(t)
	f.must(t, 0, "", []string{"upgrade", "--to", "v4.5.2", "--yes"}, "DONE")
	f.runsEverywhere(t, "v4.5.2")
}
