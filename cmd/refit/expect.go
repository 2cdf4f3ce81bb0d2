package main

import (
	"context"
	"slices"
	"time"

	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/pipeline"
)

// judgedRuns is how many earlier runs say how long a step takes.
const judgedRuns = 5

// expect writes into a plan's steps how long they usually take: the median of the newest
// runs that were done, by this machine's copies of their journals. It tells how many runs
// there were. What cannot be read says nothing: it is no more than a help.
func expect(ctx context.Context, shelf keeper.Shelf, p *pipeline.Plan) (runs int) {
	entries, err := shelf.List(ctx)
	if err != nil {
		return 0
	}
	took := map[string][]time.Duration{}
	for _, e := range entries {
		j, err := pipeline.LoadJournal(ctx, shelf, e.ID)
		if err != nil || j.Outcome != pipeline.Done || j.Kind != p.Kind {
			continue
		}
		for _, s := range j.Progress() {
			if s.State == pipeline.Finish && s.Seconds > 0 {
				took[s.Name] = append(took[s.Name], time.Duration(s.Seconds*float64(time.Second)))
			}
		}
		if runs++; runs == judgedRuns {
			break
		}
	}
	for i, s := range p.Steps {
		if list := took[s.Name()]; len(list) > 0 {
			slices.Sort(list)
			p.Steps[i].Expect = list[len(list)/2].Round(time.Second)
		}
	}
	return runs
}
