package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/pipeline/report"
	"vmst.io/refit/pipeline/report/webpage"
	"vmst.io/refit/stages"
	"vmst.io/refit/stages/watcher"
)

// watchedFleet is the fleet as the watcher sees it. Each question has a session of its
// own, made from refit.yml as it stands then: a watcher lives for months, and neither an
// old connection nor an old configuration may live with it.
type watchedFleet struct {
	path string
	// config is what the watcher was made from: by another one nothing is done. nil for
	// whatever stands in the file.
	config *config
	s      streams
	// dial reaches its hosts; nil for the network.
	dial dialer
	// lasting are told of its runs too.
	lasting []teller
	// pace is that of the watcher's own messages.
	pace *report.SlackPace
	// page shows what a look finds; nil for none. pasts is what was read for it.
	page  *webpage.Page
	pasts pasts
	// ran tells that a run was begun or gone on with; ended is the error of the last one,
	// nil if it was done.
	ran   bool
	ended error
}

// session opens one; hang it up.
func (f *watchedFleet) session(run, command string) (*session, error) {
	x, err := openOver(f.path, run, command, func(string, ...any) {}, f.dial)
	if err != nil {
		return nil, err
	}
	if f.config != nil && !reflect.DeepEqual(*f.config, x.config) {
		// The policy in hand is not the one that was written down by now.
		return nil, errors.Join(fmt.Errorf("%s has changed: nothing is done before the watcher has read it anew", f.path), x.config.watchable())
	}
	x.lasting, x.pace = f.lasting, f.pace
	return x, nil
}

// Running implements watcher.Fleet.
func (f *watchedFleet) Running(ctx context.Context) (builds.Version, error) {
	x, err := f.session("", "watch")
	if err != nil {
		return builds.Version{}, err
	}
	defer closing(x, f.s)
	apps := x.deps.Fleet.Apps()
	found := map[string][]string{}
	rows := x.standing(ctx)
	f.show(ctx, x, rows)
	for _, row := range rows {
		if _, app := apps.Named(row.Name); !app {
			continue
		}
		if row.Release == "" {
			return builds.Version{}, fmt.Errorf("%s is %s: what it runs is not known", row.Name, row.State)
		}
		found[row.Release] = append(found[row.Release], row.Name)
	}
	if len(found) != 1 {
		return builds.Version{}, fmt.Errorf("the nodes do not run one release (%v): see `refit status`", found)
	}
	for name := range found {
		return builds.ParseVersion(name)
	}
	return builds.Version{}, errors.New("no node runs Mastodon")
}

// surveyed is a plan with the session that made it.
type surveyed struct {
	x *session
	p *planned
}

// Plan implements watcher.Fleet.
func (f *watchedFleet) Plan(ctx context.Context, to builds.Version) (watcher.Plan, error) {
	run := newRun()
	x, err := f.session(run, "watch: upgrade --to "+to.String())
	if err != nil {
		return watcher.Plan{}, err
	}
	// The plan may wait for days, its connections need not: the next command makes new ones.
	defer x.hangUpAll()
	if err := x.idle(ctx); err != nil {
		return watcher.Plan{}, err
	}
	if err := x.noneLeft(ctx); err != nil {
		return watcher.Plan{}, err
	}
	p, err := x.planAll(ctx, to.String(), func(string, ...any) {})
	if err != nil {
		return watcher.Plan{}, err
	}
	return watcher.Plan{
		Run: run, Hash: p.hash, Commit: p.facts.To.Tag.Commit, Tree: p.facts.To.Tag.Tree,
		Doubts: append(p.way.doubts(), x.config.overridden()...), Refused: p.refused, Ack: p.way.names(), Upgrade: surveyed{x, p},
	}, nil
}

// planAll is plan with everything acknowledged that it asks for: who approves its hash
// acknowledges it, and without an approval nothing that asks for something begins.
func (x *session) planAll(ctx context.Context, to string, say pipeline.Say) (*planned, error) {
	p, err := x.plan(ctx, to, nil, say)
	if err != nil {
		return nil, err
	}
	open := p.way.unacknowledged(nil)
	p.refused = slices.DeleteFunc(p.refused, func(line string) bool { return slices.Contains(open, line) })
	return p, nil
}

// hangUpAll ends the connections; what is asked later makes new ones.
func (x *session) hangUpAll() {
	for _, n := range x.deps.Fleet {
		x.hangUp(n)
	}
}

// Approval implements watcher.Fleet.
func (f *watchedFleet) Approval(ctx context.Context, hash string) (*watcher.Approval, error) {
	x, err := f.session("", "watch")
	if err != nil {
		return nil, err
	}
	defer closing(x, f.s)
	a, err := x.keeper.Approval(ctx, hash)
	if errors.Is(err, keeper.ErrNoApproval) {
		return nil, nil //nolint:nilnil // no approval is no error
	}
	if err != nil {
		return nil, err
	}
	return x.config.approval(a, time.Now()), nil
}

// Begin implements watcher.Fleet.
func (f *watchedFleet) Begin(ctx context.Context, stop <-chan struct{}, p watcher.Plan) watcher.Outcome {
	made, ok := p.Upgrade.(surveyed)
	if !ok {
		return watcher.Outcome{Untouched: true, Text: "the plan is not one of this process"}
	}
	x := made.x
	x.say = f.s.progress()
	defer closing(x, f.s)
	e := execution{plan: made.p.Plan, facts: made.p.facts, stop: stop, why: "refit watch: upgrade --to " + made.p.To, hash: p.Hash}
	if p.ApprovedBy != "" {
		if err := x.byApproval(ctx, &e); err != nil {
			return watcher.Outcome{Untouched: true, Text: err.Error()}
		}
	} else {
		e.why += ": " + p.Why
	}
	x.lookBack(ctx, x.newest, f.s.progress())
	f.s.job.plan(made.p.json())
	if err := made.p.print(f.s.err, false); err != nil {
		f.s.progress()("the plan could not be shown: %v", err)
	}
	x.warn(ctx, f.s)
	return f.outcome(ctx, x, p.Run, x.execute(ctx, f.s, e))
}

// outcome is how a run ended, by its exit code and its journal.
func (f *watchedFleet) outcome(ctx context.Context, x *session, run string, err error) watcher.Outcome {
	f.ran, f.ended = true, err
	text := ""
	if err != nil {
		text = strings.SplitN(err.Error(), "\n", 2)[0]
	}
	at, _, jerr := x.stands(context.WithoutCancel(ctx), run)
	if jerr == nil && text == "" {
		text = at.Outcome.Text
	}
	switch exitCode(err) {
	case exitDone:
		return watcher.Outcome{Done: true, Text: "done"}
	case exitRefused, exitLocked, exitAuth:
		return watcher.Outcome{Untouched: true, Text: text}
	case exitInterrupted:
		return watcher.Outcome{Later: true, Text: "stopped; the next process goes on with it"}
	}
	if text == "" {
		text = "it ended badly; see `refit status`"
	}
	return watcher.Outcome{Text: text}
}

// Stands implements watcher.Fleet.
func (f *watchedFleet) Stands(ctx context.Context, run string) (watcher.Standing, error) {
	x, err := f.session("", "watch")
	if err != nil {
		return watcher.Standing{}, err
	}
	defer closing(x, f.s)
	if err := x.idle(ctx); err != nil {
		return watcher.Standing{}, err
	}
	at, j, err := x.stands(ctx, run)
	if err == nil && !at.HalfWay {
		x.lookBack(ctx, j, f.s.progress()) // its process may not have lived to tell its end
	}
	return at, err
}

// stands says how a run stands, by its journal; nil where it has none.
func (x *session) stands(ctx context.Context, run string) (watcher.Standing, *pipeline.Journal, error) {
	shelf, err := x.shelf()
	if err != nil {
		return watcher.Standing{}, nil, err
	}
	j, err := pipeline.LoadJournal(ctx, shelf, run)
	if errors.Is(err, fs.ErrNotExist) {
		return watcher.Standing{Outcome: watcher.Outcome{Untouched: true}}, nil, nil
	}
	if err != nil {
		return watcher.Standing{}, nil, err
	}
	return standing(j), j, nil
}

// standing is how a run stands by its journal.
func standing(j *pipeline.Journal) watcher.Standing {
	text := standingOf(j)
	if j.Cause != "" {
		text = j.CauseStep + ": " + strings.SplitN(j.Cause, "\n", 2)[0]
	}
	switch j.Outcome {
	case pipeline.Done:
		return watcher.Standing{Outcome: watcher.Outcome{Done: true, Text: "done"}}
	case "", pipeline.Stopped, pipeline.Interrupted:
		return watcher.Standing{HalfWay: true, Outcome: watcher.Outcome{Later: true, Text: text}}
	case pipeline.Refused:
		return watcher.Standing{Outcome: watcher.Outcome{Untouched: true, Text: text}}
	}
	return watcher.Standing{Outcome: watcher.Outcome{Text: string(j.Outcome) + ": " + text}}
}

// Resume implements watcher.Fleet.
func (f *watchedFleet) Resume(ctx context.Context, stop <-chan struct{}, run string) watcher.Outcome {
	x, err := f.session("", "watch: resume")
	if err != nil {
		return watcher.Outcome{Untouched: true, Text: err.Error()}
	}
	x.say = f.s.progress()
	defer closing(x, f.s)
	j, err := x.latest(ctx)
	switch {
	case err != nil:
		return watcher.Outcome{Untouched: true, Text: err.Error()}
	case j == nil:
		return watcher.Outcome{Untouched: true, Text: "the keeper knows of no run"}
	case j.ID != run: // which nobody could begin while this one needed anything
		return watcher.Outcome{Text: "it was given up: run " + j.ID + " has begun since"}
	}
	x.adopt(j.ID)
	facts := &stages.Facts{}
	err = j.LoadFacts(facts)
	if err == nil {
		err = x.sameFleet(j, facts)
	}
	if err != nil {
		return watcher.Outcome{Untouched: true, Text: err.Error()}
	}
	x.warn(ctx, f.s)
	// A node that is switched off for its snapshot would keep the fences from being raised.
	if err := x.deps.Wake(ctx, facts, f.s.progress()); err != nil {
		return watcher.Outcome{Untouched: true, Text: err.Error()}
	}
	err = x.execute(ctx, f.s, execution{plan: stages.Upgrade(j.ID, x.deps, facts), facts: facts, journal: j, stop: stop, why: "refit watch: resume of " + j.ID})
	return f.outcome(ctx, x, run, err)
}
