package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/pipeline/report"
	"vmst.io/refit/stages"
)

// execution is a plan to be run under the lease.
type execution struct {
	plan  pipeline.Plan
	facts *stages.Facts
	// journal of a run to go on with; nil for a new one.
	journal *pipeline.Journal
	// back: take the run back instead of going on with it.
	back bool
	stop <-chan struct{}
	// begin is called under the lease once nothing else keeps the run from beginning; its
	// error refuses it. nil for nothing.
	begin func(ctx context.Context) error
	json  bool
	// why is what others read who find the lease held.
	why string
	// hash is the plan's, empty where none was looked at; approvals are what begin used up.
	hash      string
	approvals *[]pipeline.Approval
}

// execute takes the lease, fences every host, runs the plan and reports.
func (x *session) execute(ctx context.Context, s streams, e execution) error {
	told := x.tellers(e.plan.ID)
	watch, end, err := x.observers(ctx, s, e, told)
	if err != nil {
		x.untold(ctx, told)
		return err
	}
	before := x.say
	x.say = func(format string, args ...any) {
		watch.Observe(pipeline.Event{Kind: pipeline.StepSaid, Time: time.Now(), Run: e.plan.ID, Text: fmt.Sprintf(format, args...)})
	}
	res, err := x.underLease(ctx, e, watch)
	x.say = before
	if cerr := end(); cerr != nil {
		s.progress()("closing the live view: %v", cerr)
	}
	if err != nil {
		x.untold(ctx, told)
		return err
	}
	return x.report(ctx, s, e, res, told)
}

func (x *session) underLease(ctx context.Context, e execution, watch pipeline.Observer) (pipeline.Result, error) {
	select {
	case <-e.stop:
		return pipeline.Result{}, exitWith(exitInterrupted, fmt.Errorf("%w; nothing was touched", errStopped))
	default:
	}
	held, err := pipeline.Hold(ctx, x.keeper, e.why, pipeline.HoldOptions{Watch: watch, Run: e.plan.ID})
	if err != nil {
		return pipeline.Result{}, x.noLease(ctx, e, err)
	}
	shelf, err := x.shelf()
	if err == nil {
		err = x.raiseFencesOn(held.Context, x.fenced(e.plan), x.keeper.Epoch(), x.keeper.Me.String()+stages.FenceRun+e.plan.ID)
	}
	if moved := x.unmoved(held.Context); moved != nil && err == nil {
		return pipeline.Result{}, errors.Join(moved, release(ctx, held))
	}
	if end := interrupted(ctx); end != nil {
		return pipeline.Result{}, errors.Join(end, release(ctx, held))
	}
	if err != nil {
		return pipeline.Result{}, errors.Join(x.blocked(ctx, e, "cannot fence every host", "bring the host back", err), release(ctx, held))
	}
	if e.begin != nil {
		if err := e.begin(held.Context); err != nil {
			return pipeline.Result{}, errors.Join(refuse("%w\nnothing was touched", err), release(ctx, held))
		}
	}
	j := e.journal
	if j == nil {
		j = pipeline.NewJournal(e.plan, shelf, held.Epoch, time.Now())
	} else if err := j.Adopt(shelf, held.Epoch); err != nil {
		return pipeline.Result{}, errors.Join(exitWith(exitPerson, err), release(ctx, held))
	}
	j.TakenUp(x.hand(e))
	run := pipeline.Execute
	if e.back {
		run = pipeline.Unwind
	}
	res := run(held.Context, e.plan, j, pipeline.Options{Stop: e.stop, Watch: watch, Ground: x.deps.Ground(), Patience: x.config.Waits.Unreachable})
	if res.Status == pipeline.Done {
		x.shed(held.Context)
	}
	if err := release(ctx, held); err != nil {
		x.say("%v; it ends by itself after %s", err, held.TTL)
	}
	return res, nil
}

// hand is this process, as the journal names those who worked on a run.
func (x *session) hand(e execution) pipeline.Hand {
	h := pipeline.Hand{By: x.keeper.Me.User + " on " + x.keeper.Me.Host, Why: e.why, Refit: version, At: time.Now(), Epoch: x.keeper.Epoch(), Plan: e.hash}
	if e.approvals != nil {
		h.Approvals = *e.approvals
	}
	return h
}

func release(ctx context.Context, held *pipeline.Held) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	return held.Release(ctx)
}

// lockError gives what kept us from the lease its exit code. ctx is the call's.
func lockError(ctx context.Context, err error) error {
	if err := interrupted(ctx); err != nil {
		return err
	}
	if _, ok := errors.AsType[*keeper.HeldError](err); ok {
		return exitWith(exitLocked, fmt.Errorf("%w\nwait for it, or if it is dead: refit unlock", err))
	}
	if errors.Is(err, hosts.ErrAuth) || errors.Is(err, hosts.ErrHostKey) {
		return exitWith(exitAuth, err)
	}
	if errors.Is(err, keeper.ErrDamaged) {
		err = fmt.Errorf("%w\n`refit unlock` replaces a lease that cannot be read, after showing what runs where", err)
	}
	return exitWith(exitRefused, fmt.Errorf("%w\nnothing was touched", err))
}

// observers chooses how the run is shown: live on a terminal, in lines elsewhere; and
// tells it to whom else refit.yml names.
func (x *session) observers(ctx context.Context, s streams, e execution, told *telling) (pipeline.Observer, func() error, error) {
	var hosts []report.HostRow
	live := isTerminalFile(s.err) && os.Getenv("CI") == ""
	if live || len(told.list) > 0 {
		hosts = x.standing(ctx)
	}
	told.begin(x.runOf(e, hosts))
	if f, ok := s.err.(*os.File); ok && live {
		var steps []string
		for _, step := range e.plan.Steps {
			steps = append(steps, step.Name())
		}
		t, err := report.NewTerminal(f, report.TerminalOptions{
			Title: fmt.Sprintf("%s: %s %s → %s", x.config.Fleet, e.plan.Kind, e.plan.From, e.plan.To),
			Hosts: hosts, Steps: steps,
		})
		if err != nil {
			return nil, nil, err
		}
		aside := report.NewAside(t)
		return told.watched(aside), func() error { aside.Close(sayLimit); return t.Close() }, nil
	}
	aside := report.NewAside(report.NewLines(s.err, report.LinesOptions{}))
	return told.watched(aside), func() error { aside.Close(sayLimit); return nil }, nil
}

func isTerminalFile(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isTerminal(f)
}

// standing asks every host of the application where it stands.
func (x *session) standing(ctx context.Context) []report.HostRow {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	rows := make([]report.HostRow, len(x.deps.Fleet))
	many(len(rows), func(i int) {
		n := x.deps.Fleet[i]
		rows[i] = report.HostRow{Name: n.Name, Roles: roles(n)}
		rows[i].State, rows[i].Release = x.stateOf(ctx, n)
	})
	return rows
}

func roles(n stages.Node) string {
	var out []string
	for _, r := range n.Roles {
		out = append(out, string(r))
	}
	return strings.Join(out, ", ")
}

// The states of a host that cannot be asked for its own.
const (
	silentHost      = "silent"
	unreachableHost = "unreachable"
)

// stateOf is a host's state in a word or two, and the release that its link names.
func (x *session) stateOf(ctx context.Context, n stages.Node) (state, release string) {
	f, err := n.Agent.Facts(ctx, node.FactsIn{Home: x.deps.Layout.Home, Units: n.Units()})
	switch {
	case errors.Is(err, hosts.ErrSilent):
		return silentHost, ""
	case err != nil:
		return unreachableHost, ""
	case !n.Has(hosts.Web) && !n.Has(hosts.Sidekiq):
		return "up", ""
	}
	var faults []string
	for _, u := range f.Units {
		switch {
		case !u.Running():
			faults = append(faults, u.Name+" "+u.Active)
		case u.Release != f.Live:
			faults = append(faults, u.Name+" still runs "+u.Release)
		}
	}
	if len(faults) > 0 {
		return strings.Join(faults, ", "), f.Live
	}
	return "running", f.Live
}

// report says how the run ended and what comes next, and gives the exit code. What the
// others could not be told stands in it too.
func (x *session) report(ctx context.Context, s streams, e execution, res pipeline.Result, others *telling) error {
	code := codeOf(res, e.facts)
	var remains []string
	if code != exitDone || e.back {
		for _, m := range e.facts.Applied {
			remains = append(remains, "migration "+m.Version+" "+m.Name)
		}
	}
	notes := remarks(e, res)
	if res.Status != pipeline.Done {
		// What was kept before is of use now.
		notes = append(notes, e.facts.Images()...)
	}
	// A run that was aborted is reported all the same.
	hosts := x.standing(context.WithoutCancel(ctx))
	r := report.Summarise(e.plan, res, report.Extra{Exit: code, Hosts: hosts, Remains: remains, Next: res.Next, Notes: notes})
	others.end(r)
	r.Notes = append(r.Notes, others.close(ctx)...)
	s.job.report(r)
	var printed error
	if e.json {
		printed = r.JSON(s.out)
	}
	// Where the terminal is gone there is nobody to tell that it is; how the run ended
	// does not change by that.
	told := r.Text(s.err)
	if code == exitDone {
		return printed
	}
	if told != nil || printed != nil {
		return exitWith(code, errors.Join(told, printed))
	}
	return exitWith(code, silent{})
}

// silent is the error of a run whose report has said all.
type silent struct{}

func (silent) Error() string { return "" }

// remarks are what a run leaves for people to know: one that went well, and one after
// which somebody may have to restore the database.
func remarks(e execution, res pipeline.Result) []string {
	if res.Status != pipeline.Done {
		return restores(res.Status, e.facts)
	}
	var out []string
	if e.facts.Dump != "" {
		out = append(out, "dump: "+e.facts.Dump)
	}
	if e.facts.Search != "" {
		out = append(out, "search: "+e.facts.Search)
	}
	for _, stored := range e.facts.Stores() {
		out = append(out, "store: "+stored)
	}
	return slices.Concat(out, e.facts.Images(), e.facts.Unproved, e.facts.Said)
}

// restores says how the database gets back to what it was before a run that ended so; a
// run that was taken back before it changed the database leaves nothing to restore.
func restores(ended pipeline.Status, f *stages.Facts) []string {
	gone := ended == pipeline.Undone || ended == pipeline.Refused
	if ended == pipeline.Done || gone && len(f.Applied) == 0 {
		return nil
	}
	return f.Restores()
}

// codeOf maps how a run ended to the exit code. A pre-migration that was applied
// counts as touched: the schema is not what it was.
func codeOf(res pipeline.Result, f *stages.Facts) int {
	touched := res.Touched || len(f.Applied) > 0
	switch res.Status {
	case pipeline.Done:
		return exitDone
	case pipeline.Undone:
		switch {
		case res.Asked:
			return exitDone
		case touched:
			return exitUndone
		}
		return exitFailed
	case pipeline.Refused:
		return exitRefused
	case pipeline.Stopped, pipeline.Interrupted:
		return exitInterrupted
	case pipeline.LostJournal:
		if !touched {
			return exitFailed
		}
	}
	return exitPerson
}

// adopt makes this session part of an earlier run.
func (x *session) adopt(run string) {
	x.keeper.Run = run
	for _, n := range x.deps.Fleet {
		n.Agent.Run = run
	}
}

// notice says what a signal did.
func (s streams) notice(text string) { s.progress()("%s", text) }
