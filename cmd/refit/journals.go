package main

import (
	"context"
	"errors"
	"io/fs"

	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/pipeline"
)

// keptJournals is how many journals stay on the keeper and in the copies here.
const keptJournals = 20

// shedder is a shelf from which old journals are removed.
type shedder interface {
	keeper.Shelf
	Remove(ctx context.Context, id string) error
}

// shed removes old journals after a run that is done. What cannot be removed is said,
// and fails nothing.
func (x *session) shed(ctx context.Context) {
	shelves := map[string]shedder{"keeper " + x.keeper.Name: x.keeper}
	if dir, err := keeper.MirrorDir(x.config.Fleet); err == nil {
		shelves["this machine"] = &keeper.Dir{Path: dir}
	}
	for at, shelf := range shelves {
		old, err := outdated(ctx, shelf)
		for _, id := range old {
			err = errors.Join(err, shelf.Remove(ctx, id))
		}
		if err != nil {
			x.say("old journals stay on %s: %v", at, err)
		} else if len(old) > 0 {
			x.say("%d old journals removed from %s, the newest %d stay", len(old), at, keptJournals)
		}
	}
}

// outdated are the runs whose journals are older than the newest twenty and over. A
// journal that cannot be read, one of a run that was left half way, and the newest
// upgrade's, which a rollback needs, stay however old they are.
func outdated(ctx context.Context, shelf keeper.Shelf) ([]string, error) {
	entries, err := shelf.List(ctx)
	if err != nil || len(entries) <= keptJournals {
		return nil, err
	}
	newest, err := newest(ctx, shelf, "the shelf")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries[keptJournals:] {
		j, err := pipeline.LoadJournal(ctx, shelf, e.ID)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, keeper.ErrDamaged), errors.Is(err, keeper.ErrNewerFormat),
			errors.Is(err, pipeline.ErrDamaged), errors.Is(err, pipeline.ErrNewerFormat):
		case err != nil:
			return nil, err
		case !halfWay(j) && (newest == nil || j.ID != newest.ID):
			out = append(out, e.ID)
		}
	}
	return out, nil
}
