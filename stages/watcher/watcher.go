// Package watcher looks at upstream again and again, for months: it finds the release
// that the fleet should run next, says what it means, and has it begun, asked for or told
// of, as the policy says.
//
// The rules it holds:
//
//   - a look is a function of what upstream lists and what was remembered: nothing depends
//     on having been awake when something happened;
//   - everything is told again at each look, to a Teller that knows what it has told, so
//     that nothing is told twice or forgotten, wherever the process was killed;
//   - a run is written down before it begins, is resumed by the next process, and is not
//     begun again by itself once it has failed;
//   - a source that fails is reported, and never taken for "nothing new".
package watcher

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/policy"
	"vmst.io/refit/builds/upstream"
	"vmst.io/refit/hosts/github"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/pipeline/report"
)

// Upstream is a repository whose releases are followed: a *upstream.Follower.
type Upstream interface {
	Repo() github.Repo
	Look(ctx context.Context) (upstream.Look, error)
	Pin(ctx context.Context, tag string) (upstream.Pin, error)
	Memory() (m upstream.Memory, changed bool)
}

// Feed is the second witness of what was released: an upstream.Feed.
type Feed interface {
	Ask(ctx context.Context, running builds.Version) ([]upstream.Update, error)
}

// Source says what two releases' trees mean for the way from one to the other.
type Source interface {
	Understand(ctx context.Context, from, to builds.Version) (builds.Understanding, error)
}

// Fleet is what runs, and what can be done to it.
type Fleet interface {
	// Running is the release that every node runs; an error where they differ or cannot
	// be asked.
	Running(ctx context.Context) (builds.Version, error)
	// Plan surveys the fleet for an upgrade. It changes nothing.
	Plan(ctx context.Context, to builds.Version) (Plan, error)
	// Approval is the one that a person gave to the plan of that hash, nil for none.
	Approval(ctx context.Context, hash string) (*Approval, error)
	// Begin uses up the plan's approval, if it needs one, and runs it. stop acts as one
	// Ctrl-C. It returns when the run is over or has stopped.
	Begin(ctx context.Context, stop <-chan struct{}, p Plan) Outcome
	// Stands says how a run that was begun stands, by its journal.
	Stands(ctx context.Context, run string) (Standing, error)
	// Resume goes on with a run that was left half way.
	Resume(ctx context.Context, stop <-chan struct{}, run string) Outcome
}

// Teller tells people and machines. It knows what it has told: all of it is told again
// at each look. Nothing of it fails or waits.
type Teller interface {
	// Release tells of a release; told again, it shows what has changed.
	Release(r report.Release)
	// Notice tells something once in its life; the key names it.
	Notice(key, text string)
	// Polled says that a source was asked, and whether it answered.
	Polled(source string, err error)
	// Behind says since when something that a project released does not run here; zero
	// if the newest does.
	Behind(project string, since time.Time)
}

// Store keeps what was remembered, as a whole and durably: a *keeper.Dir.
type Store interface {
	Load(ctx context.Context, id string) ([]byte, error)
	Save(ctx context.Context, id string, epoch, seq int64, b []byte) error
}

// Fling is another project, whose releases are announced and never run here.
type Fling struct {
	// Name is how people call it: "Elk".
	Name     string
	Upstream Upstream
	// Early: its pre-releases are announced too.
	Early bool
}

// Options of a Watcher.
type Options struct {
	Upstream Upstream
	// Feed; nil to ask no second witness.
	Feed   Feed
	Source Source
	Fleet  Fleet
	Teller Teller
	Store  Store
	Flings []Fling
	Policy policy.Policy
	Line   upstream.Line
	// Doubts stand against every run that begins by itself, such as an overridden pin.
	Doubts []string
	// Every is the pause between looks.
	Every time.Duration
	// Alarm is how long a source may fail before people are told; 0 for an hour.
	Alarm time.Duration
	// Stale tells, before each look but the first, that what the watcher was made from has
	// changed: another one is to be made, and Run ends. nil for never.
	Stale func() bool
	// Say is the log, a line each.
	Say func(format string, args ...any)
	// Now; nil for time.Now.
	Now func() time.Time
}

// Watcher watches. It is for one goroutine.
type Watcher struct {
	o     Options
	state state
	// planned are the plans that were made in this process, by release.
	planned map[string]made
	// unsaved is what each Upstream remembers and is not on the disk yet.
	unsaved map[string]upstream.Memory
}

// New makes a watcher that goes on from what the store remembers; it asks nobody yet.
func New(ctx context.Context, o Options) (*Watcher, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Alarm <= 0 {
		o.Alarm = time.Hour
	}
	s, err := loadState(ctx, o.Store)
	if err != nil {
		return nil, err
	}
	return &Watcher{o: o, state: s, planned: map[string]made{}, unsaved: map[string]upstream.Memory{}}, nil
}

// Run looks until stop is closed, ctx ends, or what it was made from is stale. Its only
// error is that another watcher writes to its memory; all others are told, and tried again.
func (w *Watcher) Run(ctx context.Context, stop <-chan struct{}) error {
	for {
		s, err := w.Once(ctx, stop)
		if errors.Is(err, keeper.ErrStale) || stopped(ctx, stop) {
			return err
		}
		w.remembered(err)
		if !w.rest(ctx, stop, s.Next) || (w.o.Stale != nil && w.o.Stale()) {
			return nil
		}
	}
}

// remembered tells whether what was seen could be kept. Where not (a full disk) this
// process still knows it, and to end would tell all of it again at each new start; nothing
// begins meanwhile, since a run is written down before.
func (w *Watcher) remembered(err error) {
	w.o.Teller.Polled("memory", err)
	if err != nil {
		w.say("%v", err)
		w.o.Teller.Notice("memory/"+w.o.Now().UTC().Format(time.DateOnly), "🛑 nothing begins by itself: "+err.Error())
	}
}

// Once looks once, and does what is due. An error of a source stands in the Sight.
func (w *Watcher) Once(ctx context.Context, stop <-chan struct{}) (Sight, error) {
	idle, cancel := until(ctx, stop)
	defer cancel()
	if err := w.resume(ctx, idle, stop); err != nil || stopped(ctx, stop) {
		return Sight{}, err
	}
	s := w.See(idle)
	if stopped(ctx, stop) {
		return s, nil // what failed meanwhile failed because of that
	}
	w.note(&s)
	ran, err := w.act(ctx, idle, stop, &s)
	if err == nil && ran && !stopped(ctx, stop) {
		s = w.See(idle) // the fleet runs something else now
		w.note(&s)
	}
	if !stopped(ctx, stop) {
		w.tell(&s)
	}
	return s, errors.Join(err, w.save(context.WithoutCancel(ctx)))
}

// until is a context that ends with stop too: for what may be dropped at any moment.
func until(ctx context.Context, stop <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

func stopped(ctx context.Context, stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return ctx.Err() != nil
	}
}

// rest waits for the next look, which comes earlier where something is due before; false
// if there is none. The pause varies by a tenth, so that a thousand watchers that began
// with their machines do not ask at once for ever.
func (w *Watcher) rest(ctx context.Context, stop <-chan struct{}, due time.Time) bool {
	pause := w.o.Every + time.Duration((rand.Float64()-0.5)*0.2*float64(w.o.Every))
	if left := due.Sub(w.o.Now()); !due.IsZero() && left < pause {
		pause = max(left, time.Second)
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-stop:
	case <-ctx.Done():
	}
	return false
}

func (w *Watcher) say(format string, args ...any) {
	if w.o.Say != nil {
		w.o.Say(format, args...)
	}
}

// resume goes on with a run that an earlier process began, or notes how it ended.
func (w *Watcher) resume(ctx, idle context.Context, stop <-chan struct{}) error {
	if w.state.Run == nil {
		return nil
	}
	id := w.state.Run.ID
	at, err := w.o.Fleet.Stands(idle, id)
	switch {
	case idle.Err() != nil:
		return nil
	case err != nil:
		w.left(err.Error(), false)
		return nil // nothing is begun while it is not known how that one stands
	case at.HalfWay:
		w.say("going on with run %s", id)
		w.state.Run.Trouble, w.state.Run.Since, w.state.Run.Refused = "", time.Time{}, false
		o := w.o.Fleet.Resume(ctx, stop, id)
		if o.Untouched {
			w.left(o.Text, true)
			return nil
		}
		return w.ended(ctx, o)
	}
	return w.ended(ctx, at.Outcome)
}

// left notes why the run is left as it stands.
func (w *Watcher) left(why string, refused bool) {
	r := w.state.Run
	w.say("run %s could not be resumed: %s", r.ID, why)
	r.Trouble, r.Refused = why, refused
	if r.Since.IsZero() {
		r.Since = w.o.Now().UTC()
	}
}

// ended notes how the run at work ended.
func (w *Watcher) ended(ctx context.Context, o Outcome) error {
	run := *w.state.Run
	w.say("run %s to %s: %s", run.ID, run.Version, cmp.Or(o.Text, "it never began"))
	if o.Later {
		return nil // the next process goes on with it
	}
	how := failure{Run: run.ID, At: w.o.Now().UTC(), Text: o.Text}
	before := w.state.Unbegun[run.Version].Times
	delete(w.state.Unbegun, run.Version)
	switch {
	case o.Done:
	case !o.Untouched:
		w.state.Failed[run.Version] = how
	case o.Text != "":
		how.Times = before + 1
		w.state.Unbegun[run.Version] = how
	}
	delete(w.planned, run.Version)
	w.state.Run = nil
	return w.save(context.WithoutCancel(ctx))
}
