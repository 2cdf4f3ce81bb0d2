//go:build !race

package keeper

import "testing"

// Finding some flaws takes hundreds of courses, which the race detector would make
// into half a minute.

func TestTheModelFindsEachFlawPutIntoTheProtocol(t *testing.T) {
	for name, f := range map[string]flaws{
		"hosts do not compare epochs":             {noFence: true},
		"the fence is raised host by host":        {raiseLazily: true},
		"a host that is cut off is left out":      {skipCutHosts: true},
		"raising does not wait for changes":       {raiseNotWait: true},
		"the shelf does not compare epochs":       {shelfBlind: true},
		"an expired lease is shared by its epoch": {keepLeaseOpen: true},
		"an epoch given twice is anybody's":       {equalIsMine: true},
		"fences are not asked for":                {equalIsMine: true, forgetFences: true},
	} {
		if wrong, _ := walk(t, f, 0, 4000); wrong == "" {
			t.Errorf("%s: nothing was found", name)
		} else {
			t.Logf("%s: %s", name, wrong)
		}
	}
}
