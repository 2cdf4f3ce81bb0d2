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

// pasts reads the runs of a shelf. It reads a journal again only once it was saved anew.
type pasts struct {
	known map[string]readPast
}

type readPast struct {
	entry keeper.Entry
	past  report.Past
}

// read gives the runs, the newest first. A journal that cannot be read stands there with
// why; only a shelf that does not answer is an error. Nothing is locked: a run that is at
// work goes on.
func (p *pasts) read(ctx context.Context, shelf keeper.Shelf) ([]report.Past, error) {
	entries, err := shelf.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnread, err)
	}
	known := map[string]readPast{}
	out := []report.Past{}
	for _, e := range entries {
		was, ok := p.known[e.ID]
		if !ok || was.entry != e {
			one, err := pastOf(ctx, shelf, e)
			if errors.Is(err, fs.ErrNotExist) { // removed since it was listed
				continue
			}
			if err != nil {
				return nil, err
			}
			was = readPast{e, one}
		}
		known[e.ID] = was
		out = append(out, was.past)
	}
	p.known = known
	newestFirst(out)
	return out, nil
}

// pastOf reads one journal of a shelf.
func pastOf(ctx context.Context, shelf keeper.Shelf, e keeper.Entry) (report.Past, error) {
	bad := report.Past{Run: e.ID, Trouble: e.Damaged}
	if e.Damaged != "" {
		return bad, nil
	}
	j, err := pipeline.LoadJournal(ctx, shelf, e.ID)
	switch {
	case err == nil:
		return report.PastOf(j), nil
	case unreadable(err):
		bad.Trouble = err.Error()
		return bad, nil
	case errors.Is(err, fs.ErrNotExist):
		return bad, err
	}
	return bad, fmt.Errorf("%w: %w", errUnread, err)
}

// unreadable tells that a journal is there and cannot be made anything of.
func unreadable(err error) bool {
	return errors.Is(err, keeper.ErrDamaged) || errors.Is(err, keeper.ErrNewerFormat) || errors.Is(err, pipeline.ErrDamaged) || errors.Is(err, pipeline.ErrNewerFormat)
}

// newestFirst sorts by the runs' IDs, which begin with when each began: those of journals
// that cannot be read too.
func newestFirst(list []report.Past) {
	slices.SortStableFunc(list, func(a, b report.Past) int { return strings.Compare(b.Run, a.Run) })
}

// atWork marks the run that the lease is held for.
func atWork(list []report.Past, run string) []report.Past {
	out := slices.Clone(list)
	for i := range out {
		if out[i].Run == run && run != "" {
			out[i].AtWork = true
		}
	}
	return out
}
