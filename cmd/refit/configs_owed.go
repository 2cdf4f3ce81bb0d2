package main

import (
	"context"
	"fmt"

	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

// payConfigs tells the config repository what the newest run, which is over, could not tell
// it. Whether that was done meanwhile is asked there.
func (x *session) payConfigs(ctx context.Context, j *pipeline.Journal, say pipeline.Say) error {
	f := &stages.Facts{}
	if j == nil || j.LoadFacts(f) != nil || f.ConfigsOwed() == "" {
		return nil // a journal of another version says so where it matters
	}
	if err := x.deps.PayConfigs(ctx, f, j.ID, say); err != nil {
		return exitWith(exitPerson, fmt.Errorf("the config repository could still not be told how run %s ended: %w", j.ID, err))
	}
	return nil
}
