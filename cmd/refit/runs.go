package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/pipeline/report"
)

// library is a shelf whose files beside the journals can be read too: the keeper, and the
// folder of this machine's copies.
type library interface {
	keeper.Shelf
	Aside(ctx context.Context) ([]keeper.Entry, error)
	LoadAside(ctx context.Context, file string) ([]byte, error)
}

// knownRun is a run with the way to its journal.
type knownRun struct {
	report.Past
	load func(ctx context.Context) (*pipeline.Journal, error)
}

// runs are all that the keeper and this machine know of, the newest first: the keeper's
// shelf, what lies beside it under other names, and this machine's copies of those that the
// keeper has no more, or cannot read. Nothing is locked and nothing written, so that a run
// at work goes on. On an error of the keeper's the runs are those of the copies alone.
func (x *session) runs(ctx context.Context) ([]knownRun, error) {
	var out []knownRun
	lease, err := x.keeper.Show(ctx)
	if err == nil {
		out, err = shelved(ctx, x.keeper, "")
	}
	if err == nil && lease.Held && !x.keeper.Succeeds(lease) {
		for i := range out {
			out[i].AtWork = out[i].Run == lease.Run && lease.Run != ""
		}
	}
	if err != nil {
		err = x.withoutKeeper(ctx, err)
	}
	dir, mirrorErr := keeper.MirrorDir(x.config.Fleet)
	if mirrorErr != nil {
		return out, errors.Join(err, mirrorErr)
	}
	copies, mirrorErr := shelved(ctx, &keeper.Dir{Path: dir}, "this machine's copy in "+dir)
	if mirrorErr != nil && err != nil {
		return out, err // which says of the copies what there is to say
	}
	for _, c := range copies {
		i := slices.IndexFunc(out, func(k knownRun) bool { return k.Run == c.Run })
		switch {
		case i < 0:
			out = append(out, c)
		case out[i].Trouble != "" && c.Trouble == "":
			c.Place += "; the keeper's cannot be read: " + out[i].Trouble
			out[i] = c
		}
	}
	slices.SortStableFunc(out, func(a, b knownRun) int { return strings.Compare(b.Run, a.Run) })
	return out, errors.Join(err, mirrorErr)
}

// shelved are the runs of one shelf, at the place named.
func shelved(ctx context.Context, shelf library, place string) ([]knownRun, error) {
	entries, err := shelf.List(ctx)
	if err != nil {
		return nil, err
	}
	beside, err := shelf.Aside(ctx)
	if err != nil {
		return nil, err
	}
	var out []knownRun
	for _, e := range slices.Concat(entries, beside) {
		if e.File == "" && slices.ContainsFunc(beside, func(b keeper.Entry) bool { return b.File == e.ID+".json" }) {
			continue // it is another run's, under this name
		}
		one := knownRun{load: func(ctx context.Context) (*pipeline.Journal, error) { return journalAt(ctx, shelf, e) }}
		j, err := one.load(ctx)
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed since it was listed
			continue
		case unreadable(err):
			one.Past = report.Past{Run: e.ID, Trouble: err.Error()}
		case err != nil:
			return nil, err
		default:
			one.Past = report.PastOf(j)
		}
		one.Place = place
		if e.File != "" {
			one.Place = strings.TrimPrefix(place+", "+e.File, ", ")
		}
		i := slices.IndexFunc(out, func(k knownRun) bool { return k.Run == one.Run })
		switch {
		case i < 0:
			out = append(out, one)
		case out[i].Trouble != "" && one.Trouble == "":
			out[i] = one
		}
	}
	return out, nil
}

// journalAt reads the journal of an entry.
func journalAt(ctx context.Context, shelf library, e keeper.Entry) (*pipeline.Journal, error) {
	if e.File == "" {
		return pipeline.LoadJournal(ctx, shelf, e.ID)
	}
	b, err := shelf.LoadAside(ctx, e.File)
	if err != nil {
		return nil, fmt.Errorf("cannot load %s: %w", e.File, err)
	}
	j, err := pipeline.ParseJournal(b)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", e.File, err)
	}
	return j, nil
}
