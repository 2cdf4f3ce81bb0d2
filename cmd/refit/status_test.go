package main

import (
	"testing"

	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/pipeline"
)

func TestStatusNamesTheNextCommandAlsoWhenTheHolderWasKilled(t *testing.T) {
	half := pipeline.Journal{
		Direction: pipeline.Forward,
		Steps:     []pipeline.JournalStep{{Name: "roll web kirk"}, {Name: "post-migrate"}},
		Marks:     map[string]pipeline.Mark{"roll web kirk": {State: pipeline.Doing}},
	}
	back, past, told, done := half, half, half, half
	back.Direction = pipeline.Backward
	past.Marks = map[string]pipeline.Mark{"post-migrate": {State: pipeline.Doing, OneWayBegun: true}}
	told.Next = "mend kirk"
	done.Outcome = pipeline.Done
	held := keeper.Lease{Held: true, Holder: keeper.Holder{User: "ann", Host: "bridge", PID: 7}}
	const dead = "ann@bridge (process 7), who holds the lease, works no more: "
	for name, test := range map[string]struct {
		lease    keeper.Lease
		succeeds bool
		journal  *pipeline.Journal
		want     string
	}{
		"somebody works":                   {held, false, &half, "wait for the run at work, or `refit unlock` if its holder is dead"},
		"killed on the way forward":        {held, true, &half, dead + "`refit resume` to go on, or `refit rollback` to go back"},
		"killed on the way back":           {held, true, &back, dead + "`refit resume` to end going back"},
		"killed past the point of return":  {held, true, &past, dead + "`refit resume` to go on; there is no way back any more"},
		"killed with its last word":        {held, true, &done, dead + "nothing: no run was left half way"},
		"killed while it placed a release": {held, true, nil, dead + "nothing: no run was left half way"},
		"left half way":                    {keeper.Lease{}, false, &half, "`refit resume` to go on, or `refit rollback` to go back"},
		"a person is needed":               {keeper.Lease{}, false, &told, "mend kirk"},
		"nothing is left":                  {keeper.Lease{}, false, &done, "nothing: no run was left half way"},
	} {
		if got := nextOf(test.lease, test.succeeds, test.journal); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
