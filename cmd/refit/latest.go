package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

// latest is the newest upgrade's journal, from the keeper; nil if there never was one.
func (x *session) latest(ctx context.Context) (*pipeline.Journal, error) {
	if x.away != nil {
		return nil, x.withoutKeeper(ctx, x.away)
	}
	j, err := newest(ctx, x.keeper, x.keeper.Name)
	switch {
	case errors.Is(err, errUnread):
		return nil, x.withoutKeeper(ctx, err)
	case errors.Is(err, keeper.ErrNewerFormat), errors.Is(err, pipeline.ErrNewerFormat):
		return nil, exitWith(exitPerson, fmt.Errorf("%w: use the newer refit; nothing was changed", err))
	case errors.Is(err, keeper.ErrDamaged), errors.Is(err, pipeline.ErrDamaged):
		return nil, exitWith(exitPerson, fmt.Errorf("%w\nnothing was changed. `refit resume --from-hosts` (or `refit rollback --from-hosts`) rebuilds it from this machine's copy and from what the hosts say, shows it, and asks", err))
	case err != nil:
		return nil, err
	case j == nil:
		x.seen = &seen{}
		return nil, x.forgotten(ctx)
	}
	x.seen, x.newest = &seen{j.ID, j.Seq}, j
	return j, nil
}

// forgotten is the error of a keeper that has no journal of any upgrade while this
// machine has the copy of one that was left half way: it was set up anew.
func (x *session) forgotten(ctx context.Context) error {
	dir, err := keeper.MirrorDir(x.config.Fleet)
	if err != nil {
		return err
	}
	j, damaged, err := readable(ctx, &keeper.Dir{Path: dir})
	if err == nil && damaged == "" && (j == nil || !halfWay(j)) {
		return nil
	}
	what := fmt.Sprintf("and the copies in %s cannot be read (%s %v)", dir, damaged, err)
	if j != nil {
		what = fmt.Sprintf("and this machine's copy in %s says that run %s (%s → %s) was left half way: %s", dir, j.ID, j.From, j.To, standingOf(j))
	}
	return exitWith(exitPerson, fmt.Errorf("keeper %s knows of no upgrade, %s.\nNothing was changed. `refit resume --from-hosts` rebuilds the run from the copy and from what the hosts say, shows it, and asks; if that run is long over, move the copy away", x.keeper.Name, what))
}

// seen is the newest run as this session has seen it: what it decided by.
type seen struct {
	run string
	seq int64
}

// unmoved refuses to go on, under the lease, by what was seen before it was taken:
// between the two another operator may have begun a run, or gone on with one.
func (x *session) unmoved(ctx context.Context) error {
	if x.above != 0 && x.keeper.Epoch() != x.above+1 {
		return refuse("another operator was at work while you looked: the lease has epoch %d, and %d was the highest that anybody had seen. See `refit status`, then decide again; nothing was touched", x.keeper.Epoch(), x.above)
	}
	if x.seen == nil {
		return nil
	}
	was := *x.seen
	if _, err := x.latest(ctx); err != nil {
		return err
	}
	if *x.seen != was {
		return refuse("another operator was at work while you looked: run %s has gone on since. See `refit status`, then decide again; nothing was touched", x.seen.run)
	}
	return nil
}

// idle refuses while somebody else holds the lease, before anything is looked at: a
// run at work looks like one that was left half way. A lease that cannot be read
// here is a matter of what follows.
func (x *session) idle(ctx context.Context) error {
	err := x.keeper.Busy(ctx)
	if _, held := errors.AsType[*keeper.HeldError](err); held {
		return lockError(ctx, err)
	}
	if errors.Is(err, hosts.ErrUnreachable) || errors.Is(err, hosts.ErrSilent) {
		x.away = err // that took long enough to find out
	}
	return nil
}

// errUnread tells that a shelf could not be asked for its journals.
var errUnread = errors.New("cannot read the journals")

// changesFleet tells whether a run is one to be gone on with or taken back: it changed the fleet.
func changesFleet(j *pipeline.Journal) bool {
	if j.Kind == stages.Rehearsing || j.Kind == stages.Aligning {
		return !j.Finished() // or it has not destroyed its copy yet, or left its node out
	}
	return slices.Contains([]string{"upgrade", stages.Replacing, stages.Adding}, j.Kind)
}

// newest is the newest such run's journal on a shelf at the place named; nil if
// there is none.
func newest(ctx context.Context, shelf keeper.Shelf, at string) (*pipeline.Journal, error) {
	entries, err := shelf.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnread, err)
	}
	for _, entry := range entries {
		if entry.Damaged != "" {
			if _, err := shelf.Load(ctx, entry.ID); errors.Is(err, keeper.ErrNewerFormat) {
				return nil, exitWith(exitPerson, fmt.Errorf("the journal of run %s on %s: %w", entry.ID, at, err))
			}
			return nil, exitWith(exitPerson, fmt.Errorf("the journal of run %s on %s is %w: %s", entry.ID, at, keeper.ErrDamaged, entry.Damaged))
		}
		j, err := pipeline.LoadJournal(ctx, shelf, entry.ID)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if errors.Is(err, pipeline.ErrDamaged) || errors.Is(err, pipeline.ErrNewerFormat) || errors.Is(err, keeper.ErrDamaged) || errors.Is(err, keeper.ErrNewerFormat) {
			return nil, exitWith(exitPerson, err)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errUnread, err)
		}
		if changesFleet(j) && j.Outcome != pipeline.Refused {
			return j, nil
		}
	}
	return nil, nil
}

// noneLeft refuses to begin while an earlier run stands half way.
func (x *session) noneLeft(ctx context.Context) error {
	j, err := x.latest(ctx)
	if gone, ok := errors.AsType[*keeperGone](err); ok && gone.run == "" && gone.mirrorErr == nil {
		return refuse("%w\nnothing was touched", err)
	}
	if err != nil || j == nil || !halfWay(j) {
		return err
	}
	return refuse("run %s (%s → %s) was left half way: %s. Go on with `refit resume`, or back with `refit rollback`; `refit status` shows where every host stands", j.ID, j.From, j.To, standingOf(j))
}

// halfWay tells that a run must be ended, forward or back, before another begins.
// One that was stopped while it only prepared may be forgotten.
func halfWay(j *pipeline.Journal) bool {
	if j.Finished() {
		return false
	}
	for _, s := range j.Progress() {
		if s.State != pipeline.Pending && !stages.Prepares(s.Name) {
			return true
		}
	}
	return j.Outcome == "" || j.Outcome == pipeline.Person
}

// standingOf tells in words where a journal's run stands.
func standingOf(j *pipeline.Journal) string {
	if j.Outcome == pipeline.Done {
		return "done"
	}
	var last string
	for _, s := range j.Progress() {
		if s.State != pipeline.Pending {
			last = fmt.Sprintf("%s is %s", s.Name, s.State)
		}
	}
	if last == "" {
		last = "nothing had begun"
	}
	if j.Direction == pipeline.Backward {
		last += ", on the way back"
	}
	if j.State != "" {
		last += "; " + j.State
	}
	return last
}

// keeperGone tells that the keeper, and with it every journal, cannot be reached.
type keeperGone struct {
	name string
	err  error
	// mirror is the folder of the journals' copies on this machine; run the run that
	// stands half way by them, with its words, if there is one; mirrorErr why they
	// could not be read.
	mirror, run, stands string
	mirrorErr           error
}

func (k *keeperGone) Error() string {
	return fmt.Sprintf("keeper %s does not give the journals: %v\n%s", k.name, k.err, k.next())
}

func (k *keeperGone) Unwrap() error { return k.err }

// next is what a person does about it.
func (k *keeperGone) next() string {
	s := fmt.Sprintf("bring keeper %s back, then see `refit status`; nothing can be changed without it. If it is gone for good: give the role keeper to another host in refit.yml, then `refit resume --from-hosts`. The journal's mirror lies at %s", k.name, k.mirror)
	switch {
	case k.mirrorErr != nil:
		s += fmt.Sprintf(" (and cannot be read: %v)", k.mirrorErr)
	case k.run == "":
		s += " (it knows of no run that was left half way)"
	default:
		s += fmt.Sprintf(" (run %s: %s)", k.run, k.stands)
	}
	return s
}

// withoutKeeper is the error of a command that needs the journals and does not get
// them from the keeper. A run may stand half way, so a person is needed; the copies
// on this machine say which, but a copy is never gone on from: it may be older.
func (x *session) withoutKeeper(ctx context.Context, err error) error {
	if end := interrupted(ctx); end != nil {
		return end
	}
	if errors.Is(err, hosts.ErrAuth) || errors.Is(err, hosts.ErrHostKey) {
		return exitWith(exitAuth, err)
	}
	gone := &keeperGone{name: x.keeper.Name, err: err}
	gone.mirror, gone.mirrorErr = keeper.MirrorDir(x.config.Fleet)
	if gone.mirrorErr == nil {
		var j *pipeline.Journal
		if j, gone.mirrorErr = newest(ctx, &keeper.Dir{Path: gone.mirror}, "this machine"); j != nil && halfWay(j) {
			gone.run, gone.stands = j.ID, standingOf(j)
		}
	}
	return exitWith(exitPerson, gone)
}
