package pipeline

import (
	"context"
	"errors"
	"fmt"
)

// Execute runs the plan: from its beginning with a new journal, or from where a
// loaded one (see Journal.Adopt) ends, forward or back; of a run that is over it
// says again how it ended. ctx is the one that Hold gave: its end stops the run
// at once, where it stands.
//
// A step that fails is taken back, and every step before it, in reverse; once a
// one-way step has begun nothing is, and the run waits for a person. Taking back
// goes on when ctx is cancelled, until the step at work is back; it ends at once
// when the lease is lost.
func Execute(ctx context.Context, p Plan, j *Journal, o Options) Result {
	r, err := open(ctx, p, j, o)
	if err != nil {
		return refusedToOpen(j, err)
	}
	if j.Finished() {
		return r.over()
	}
	ctx = context.WithValue(ctx, runningKey{}, r)
	resumed := j.Seq > 0
	j.Outcome, j.State, j.Next = "", "", ""
	if res := r.begin(ctx); res != nil {
		return *res
	}
	words := fmt.Sprintf("%s, %d steps", p.way(), len(p.Steps))
	if resumed {
		words = fmt.Sprintf("resuming %s, going %s", words, j.Direction)
	}
	defer r.listen()()
	r.emit(Event{Kind: RunStarted, Text: words})
	r.foot(ctx)
	if j.Direction == Backward {
		return r.backward(ctx, nil)
	}
	j.because("", nil)
	return r.forward(ctx)
}

// Unwind takes back every step of a run that has begun, in reverse: the run may
// be finished, stopped or broken off. It refuses with ErrOneWay once a one-way
// step has begun. A crash in it is resumed by Execute.
func Unwind(ctx context.Context, p Plan, j *Journal, o Options) Result {
	if step := j.OneWay(); step != "" {
		return refusedToOpen(j, Refuse("cannot take back run %s: %w: %s", j.ID, ErrOneWay, step))
	}
	r, err := open(ctx, p, j, o)
	if err != nil {
		return refusedToOpen(j, err)
	}
	if j.Outcome == Undone || j.Outcome == Refused {
		return r.over()
	}
	ctx = context.WithValue(ctx, runningKey{}, r)
	j.Outcome, j.State, j.Next = "", "", ""
	j.Direction, j.Asked = Backward, true
	j.because("", nil)
	if res := r.begin(ctx); res != nil {
		return *res
	}
	defer r.listen()()
	r.emit(Event{Kind: RunStarted, Text: "taking back " + p.way()})
	r.foot(ctx)
	return r.backward(ctx, nil)
}

// open binds a plan, its journal and this process together, or says why they do
// not fit.
func open(ctx context.Context, p Plan, j *Journal, o Options) (*running, error) {
	if j.shelf == nil {
		return nil, Refuse("cannot go on with run %s: its journal has no shelf, see Journal.Adopt", j.ID)
	}
	if err := j.fits(p); err != nil {
		return nil, Refuse("%w", err)
	}
	if err := j.validate(); err != nil {
		return nil, Refuse("cannot go on with run %s: %w", j.ID, err)
	}
	o = o.defaults()
	r := &running{p: p, j: j, o: o, held: heldFrom(ctx), at: -1}
	r.began = r.now()
	if r.held != nil && r.held.Epoch != j.Epoch {
		return nil, Refuse("cannot go on with run %s: the journal has epoch %d, the lease in hand %d", j.ID, j.Epoch, r.held.Epoch)
	}
	if j.Seq > 0 {
		if err := j.LoadFacts(p.Facts); err != nil {
			return nil, Refuse("%w", err)
		}
	}
	return r, nil
}

// begin saves the journal before anything is done: under the new epoch, which
// shuts out every earlier process. It gives a result when nothing may be done.
func (r *running) begin(ctx context.Context) *Result {
	res := Result{Status: Interrupted, State: "broken off before anything was done", Err: ended(ctx)}
	if lockLost(ctx) != nil {
		res.Status, res.State = LostLock, "the lease was lost before anything was done"
	}
	if res.Err == nil {
		res = Result{Status: LostJournal, State: "the journal could not be written; nothing was done", Err: r.save(ctx)}
	}
	if res.Err == nil {
		return nil
	}
	res = r.end(ctx, res)
	return &res
}

// over tells how a run ended that is over.
func (r *running) over() Result {
	j := r.j
	res := Result{
		Status: j.Outcome, Touched: j.Touched(), OneWay: j.OneWay(),
		Steps: j.Progress(), Asked: j.Asked, Proof: j.CauseProof,
	}
	if j.CauseStep != "" {
		res.Step, res.Host, res.Err = j.CauseStep, r.hostOf(j.CauseStep), errors.New(j.Cause)
	}
	return res
}

func refusedToOpen(j *Journal, err error) Result {
	return Result{
		Status: Refused, Err: err, OneWay: j.OneWay(), Touched: j.Touched(),
		Steps: j.Progress(), Asked: j.Asked,
	}
}

// listen reports, once, that a person asked to stop. The function that it
// returns ends the listening.
func (r *running) listen() func() {
	if r.o.Stop == nil {
		return func() {}
	}
	quit := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-quit:
		case <-r.o.Stop:
			words := "stopping at the next safe point"
			if r.goingBack() {
				words = "taking back is not stopped half way; it goes on to its end"
			}
			r.emit(Event{Kind: StopAsked, Text: words})
		}
	}()
	return func() {
		close(quit)
		<-ended
	}
}

// forward runs what is not yet done.
func (r *running) forward(ctx context.Context) Result {
	for i, s := range r.p.Steps {
		m := r.j.Marks[s.Name()]
		if m.State == Finish {
			continue
		}
		if err := r.before(ctx); err != nil {
			return r.stop(ctx, i, err)
		}
		r.enter(i)
		if m.State != Pending {
			r.say("begun before and not known to be done: looking, then running it again")
			if err := r.steady(ctx, nil, s.Check); err != nil {
				return r.notAgain(ctx, i, err)
			}
		}
		before := m.OneWayBegun
		if err := r.mark(ctx, i, func(m *Mark) {
			m.State, m.Started, m.Error = Doing, r.now(), ""
			m.OneWayBegun = m.OneWayBegun || s.OneWay
		}); err != nil {
			return r.stop(ctx, i, err)
		}
		if err := ended(ctx); err != nil {
			return r.stop(ctx, i, err)
		}
		r.emit(Event{Kind: StepStarted, Text: s.Why})
		err := r.steady(ctx, s.Check, s.Run)
		if r.journalErr() != nil {
			return r.stop(ctx, i, r.journalErr())
		}
		if err != nil {
			return r.failed(ctx, i, before, err)
		}
		if lost := lockLost(ctx); lost != nil {
			return r.stop(ctx, i, lost)
		}
		saving, free := r.last(ctx)
		err = r.mark(saving, i, func(m *Mark) { m.State, m.Ended = Finish, r.now() })
		free()
		if err != nil {
			return r.stop(ctx, i, err)
		}
		r.emit(Event{Kind: StepDone})
	}
	return r.end(ctx, Result{Status: Done})
}

// ended tells why the context, or the lease that it was made under, has ended.
func ended(ctx context.Context) error {
	if err := lockLost(ctx); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// before tells what forbids to begin a step.
func (r *running) before(ctx context.Context) error {
	if err := lockLost(ctx); err != nil {
		return err
	}
	return Safe(ctx)
}

// notAgain ends a resume whose unfinished step says that it cannot run now.
// Nothing was changed, and the next resume asks again.
func (r *running) notAgain(ctx context.Context, i int, err error) Result {
	if ctx.Err() != nil || errors.Is(err, ErrStopped) {
		return r.stop(ctx, i, err)
	}
	r.emit(Event{Kind: StepFailed, Err: err.Error()})
	res := Result{Status: Person, Step: r.j.Steps[i].Name, Host: r.j.Steps[i].Host, Err: err}
	res.State = "the step was begun before, is not known to have ended, and cannot be run again now"
	var person *NeedsPerson
	if errors.As(err, &person) {
		res.State, res.Next = person.State, person.Next
	}
	return r.end(ctx, res)
}

// failed decides what follows a step's error. oneWay tells that the step had begun
// one-way in an earlier try: that stays true, whatever this try found.
func (r *running) failed(ctx context.Context, i int, oneWay bool, err error) Result {
	if ctx.Err() != nil || errors.Is(err, ErrStopped) || lockLost(ctx) != nil {
		return r.stop(ctx, i, err)
	}
	var person *NeedsPerson
	var unbegun *notBegun
	isPerson, isUnbegun := errors.As(err, &person), errors.As(err, &unbegun)
	s := r.j.Steps[i]
	// Once a one-way step has begun, taking back what follows it leads nowhere: a
	// person mends the cause, and a resume goes on forward.
	if !isPerson && r.committed(i, isUnbegun && !oneWay) {
		isPerson, person = true, &NeedsPerson{
			State: fmt.Sprintf("%s: %s has begun, so nothing is taken back", ErrOneWay, r.j.OneWay()),
			Next:  "mend the cause, then: refit resume (it goes forward)",
		}
	}
	r.j.because(s.Name, err)
	if !isPerson {
		r.j.Direction = Backward
	}
	if jerr := r.mark(ctx, i, func(m *Mark) {
		m.State, m.Ended, m.Error = Failed, r.now(), err.Error()
		if isUnbegun {
			m.OneWayBegun = oneWay
		}
	}); jerr != nil {
		r.emit(Event{Kind: StepFailed, Err: err.Error()})
		return r.stop(ctx, i, errors.Join(jerr, err))
	}
	r.emit(Event{Kind: StepFailed, Err: err.Error()})
	if isPerson {
		return r.end(ctx, Result{Status: Person, Step: s.Name, Host: s.Host, Err: err, State: person.State, Next: person.Next})
	}
	return r.backward(ctx, err)
}

// committed tells whether a one-way step has begun; without one whose own try found
// that it has not.
func (r *running) committed(i int, unbegun bool) bool {
	for k, s := range r.j.Steps {
		if r.j.Marks[s.Name].OneWayBegun && (k != i || !unbegun) {
			return true
		}
	}
	return false
}

// stop ends a run where it stands: the step's mark stays "doing" or "undoing".
func (r *running) stop(ctx context.Context, i int, err error) Result {
	res := Result{Step: r.j.Steps[i].Name, Host: r.j.Steps[i].Host, Err: err, Status: Interrupted}
	lost := lockLost(ctx)
	switch {
	case lost != nil:
		res.Status, res.State = LostLock, "the lease was lost; nothing was done or undone after that"
		if !errors.Is(err, ErrLockLost) {
			res.Err = errors.Join(lost, err)
		}
	case r.journalErr() != nil:
		res.Status, res.State = LostJournal, "the journal could not be written; nothing was done or undone after that"
	case ctx.Err() == nil && errors.Is(err, ErrStopped):
		res.Status, res.State = Stopped, "stopped on request; what is done stays"
	default:
		res.State = "broken off; whether the step at work ended is not known"
	}
	return r.end(ctx, res)
}

// way is what the plan does, in words: of a fleet that runs no release yet there is
// none to come from.
func (p Plan) way() string {
	if p.From == "" {
		return fmt.Sprintf("%s %s", p.Kind, p.To)
	}
	return fmt.Sprintf("%s from %s to %s", p.Kind, p.From, p.To)
}
