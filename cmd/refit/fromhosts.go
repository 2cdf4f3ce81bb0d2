package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

// fromHostsFlags let resume and rollback go on from what the hosts say.
func fromHostsFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "from-hosts", Usage: "the journal is lost: rebuild where the run stands from what the hosts say and from this machine's copy, show it, and ask"},
		&cli.StringFlag{Name: "to", Usage: "with --from-hosts and no copy: the `RELEASE` that the run went to"},
	}
}

// copies is what is found of a run whose journal is lost.
type copies struct {
	// journal is the newest half-way journal that can be read, nil without one; from
	// tells where it was found.
	journal *pipeline.Journal
	from    string
	// damaged is the run whose journal on the keeper cannot be read, which is
	// replaced by the one that is rebuilt; empty for none.
	damaged string
	said    []string
}

// findCopies looks for journals on the keeper and on this machine. A copy of another
// run than the one that the hosts or the keeper's damaged file speak of is not used.
func (x *session) findCopies(ctx context.Context, t *stages.Testimony) (copies, error) {
	var c copies
	onKeeper, damaged, err := readable(ctx, x.keeper)
	if err != nil {
		if errors.Is(err, pipeline.ErrNewerFormat) || errors.Is(err, keeper.ErrNewerFormat) {
			return c, exitWith(exitPerson, fmt.Errorf("%w: use the newer refit", err))
		}
		return c, x.withoutKeeper(ctx, err)
	}
	if damaged != "" {
		c.damaged = damaged
		c.said = append(c.said, fmt.Sprintf("the journal of run %s on %s is damaged; it is kept beside under another name", damaged, x.keeper.Name))
	}
	dir, err := keeper.MirrorDir(x.config.Fleet)
	if err != nil {
		return c, err
	}
	here, bad, err := readable(ctx, &keeper.Dir{Path: dir})
	if err != nil || bad != "" {
		c.said = append(c.said, fmt.Sprintf("the copies in %s cannot all be read (%s %v)", dir, bad, err))
	}
	if onKeeper != nil && halfWay(onKeeper) {
		c.journal, c.from = onKeeper, x.keeper.Name
	}
	if here != nil && (halfWay(here) || here.ID == c.damaged) && newer(here, c.journal) {
		c.journal, c.from = here, dir
	}
	if c.journal == nil {
		return c, nil
	}
	epoch, holder, run := t.Epoch()
	switch {
	case c.damaged != "" && c.journal.ID != c.damaged:
		c.said = append(c.said, fmt.Sprintf("the copy in %s is of run %s, not of the one whose journal is damaged: it is not used", c.from, c.journal.ID))
		c.journal = nil
	case epoch > c.journal.Epoch && run != "" && run != c.journal.ID:
		c.said = append(c.said, fmt.Sprintf("the copy in %s is of run %s, and the hosts were worked on later by run %s (%s): it is not used", c.from, c.journal.ID, run, holder))
		c.journal = nil
	}
	return c, nil
}

// newer tells whether a was saved after b.
func newer(a, b *pipeline.Journal) bool {
	return b == nil || a.Epoch > b.Epoch || a.Epoch == b.Epoch && a.Seq > b.Seq
}

// readable is the newest upgrade's journal on a shelf that can be read, and the run
// of the damaged one that is newer than it, if there is one.
func readable(ctx context.Context, shelf keeper.Shelf) (j *pipeline.Journal, damaged string, err error) {
	entries, err := shelf.List(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", errUnread, err)
	}
	for _, e := range entries {
		j, err := pipeline.LoadJournal(ctx, shelf, e.ID)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, keeper.ErrDamaged), errors.Is(err, pipeline.ErrDamaged):
			if damaged == "" {
				damaged = e.ID
			}
		case err != nil:
			return nil, damaged, err
		case j.Kind == "upgrade" && j.Outcome != pipeline.Refused:
			return j, damaged, nil
		}
	}
	return nil, damaged, nil
}

// rebuild puts together where the run stands, without its journal. to is empty where
// a copy must say it.
func (x *session) rebuild(ctx context.Context, s streams, to string) (*stages.Rebuilt, error) {
	if x.away != nil {
		return nil, x.withoutKeeper(ctx, x.away)
	}
	s.progress()("asking every host where it stands")
	t := x.deps.Testify(ctx)
	if err := interrupted(ctx); err != nil {
		return nil, err
	}
	c, err := x.findCopies(ctx, t)
	if err != nil {
		return nil, err
	}
	for _, line := range c.said {
		s.progress()("%s", line)
	}
	id, facts := newRun(), &stages.Facts{}
	switch {
	case c.journal != nil && to != "" && c.journal.To != to:
		return nil, refuse("the copy in %s is of a run to %s, not to %s: leave --to out, or move the copy of run %s away if it is wrong", c.from, c.journal.To, to, c.journal.ID)
	case c.journal != nil:
		id = c.journal.ID
		if err := c.journal.LoadFacts(facts); err != nil {
			return nil, exitWith(exitPerson, err)
		}
		s.progress()("the copy in %s, save %d under epoch %d: run %s, %s to %s, %s", c.from, c.journal.Seq, c.journal.Epoch, id, c.journal.From, c.journal.To, standingOf(c.journal))
	case to == "":
		return nil, refuse("there is no copy of a run that was left half way, neither on %s nor on this machine: say which release it went to, with --from-hosts --to vX.Y.Z, or use the machine that ran the upgrade. Nothing was changed", x.keeper.Name)
	default:
		if c.damaged != "" {
			id = c.damaged
		}
		version, err := builds.ParseVersion(to)
		if err != nil {
			return nil, exitWith(exitUsage, fmt.Errorf("--to %w", err))
		}
		if facts, err = x.deps.Recover(ctx, x.request(version, true), t, s.progress()); err != nil {
			if errors.Is(err, pipeline.ErrRefused) {
				err = exitWith(exitRefused, err)
			}
			return nil, surveyErrorOr(ctx, err)
		}
	}
	r, err := x.deps.Rebuild(id, t, facts, c.journal, time.Now())
	if err != nil {
		return nil, exitWith(exitRefused, err)
	}
	lease, err := x.keeper.Show(ctx)
	if err != nil {
		return nil, lockError(ctx, err)
	}
	fence, _, _ := t.Epoch()
	x.above = max(lease.Epoch, fence, r.Journal.Epoch)
	// Above the copy too, whose epoch no host may have seen.
	highest := x.keeper.Above
	x.keeper.Above = func(ctx context.Context) (int64, error) {
		epoch, err := highest(ctx)
		return max(epoch, r.Journal.Epoch), err
	}
	x.adopt(id)
	return r, x.show(s.err, t, r, c)
}

// surveyErrorOr leaves an error that has its exit code.
func surveyErrorOr(ctx context.Context, err error) error {
	if _, ok := errors.AsType[*exitError](err); ok {
		return err
	}
	return surveyError(ctx, err)
}

// show tells what was rebuilt, host by host and step by step, with what it follows from.
func (x *session) show(w io.Writer, t *stages.Testimony, r *stages.Rebuilt, c copies) error {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tab, "\nwhat the hosts say\n")
	for _, n := range x.deps.Fleet {
		h := t.Hosts[n.Name]
		fmt.Fprintf(tab, "  %s\t%s\t%s\t%s\tfence %d\n", n.Name, roles(n), h.Facts.Live, h.Stands(), h.Fence.Epoch)
	}
	fmt.Fprintf(tab, "\nrun %s, %s → %s, going %s\n", r.Plan.ID, r.Plan.From, r.Plan.To, r.Journal.Direction)
	for i, s := range r.Journal.Progress() {
		state := string(s.State)
		if s.State == pipeline.Pending {
			state = "not begun"
		}
		fmt.Fprintf(tab, "  %2d  %s\t%s\t%s\n", i+1, s.Name, state, r.Why[s.Name])
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	for _, line := range r.Said {
		fmt.Fprintf(w, "\n%s\n", line)
	}
	if c.journal == nil {
		fmt.Fprintf(w, "\ntaken from the hosts alone\n")
	}
	fmt.Fprintln(w)
	return nil
}
