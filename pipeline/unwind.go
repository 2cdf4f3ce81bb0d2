package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// backward takes back, in reverse, every step that began, down to a one-way one.
// cause is the error that led here, nil after a resume: then the journal has its
// words.
func (r *running) backward(ctx context.Context, cause error) Result {
	r.back.Store(true)
	undo, free := untilLost(ctx)
	defer free()
	res := Result{Status: Undone, Asked: r.j.Asked}
	if r.j.CauseStep != "" {
		res.Step, res.Err = r.j.CauseStep, cause
		if cause == nil {
			res.Err = errors.New(r.j.Cause)
		}
		res.Host = r.hostOf(r.j.CauseStep)
	}
	for i := len(r.p.Steps) - 1; i >= 0; i-- {
		s := r.p.Steps[i]
		m := r.j.Marks[s.Name()]
		if m.State == Pending || m.State == Back {
			continue
		}
		if m.OneWayBegun {
			res.Status = Person
			res.State = fmt.Sprintf("%s: %s has begun, so it and what came before it is not taken back", ErrOneWay, s.Name())
			return r.end(ctx, res)
		}
		if err := ended(ctx); err != nil {
			return r.stop(ctx, i, err)
		}
		r.enter(i)
		if err := r.mark(undo, i, func(m *Mark) { m.State, m.UndoStarted = Undoing, r.now() }); err != nil {
			return r.stop(ctx, i, err)
		}
		if err := ended(ctx); err != nil {
			return r.stop(ctx, i, err)
		}
		r.emit(Event{Kind: StepUndoing})
		err := r.steady(undo, nil, s.Undo)
		if r.journalErr() != nil {
			return r.stop(ctx, i, r.journalErr())
		}
		if lost := lockLost(ctx); lost != nil {
			return r.stop(ctx, i, errors.Join(lost, err))
		}
		if errors.Is(err, errAbandoned) {
			return r.stop(ctx, i, err)
		}
		if err != nil {
			return r.undoFailed(ctx, undo, i, res, err)
		}
		if err := r.mark(undo, i, func(m *Mark) { m.State, m.UndoEnded = Back, r.now() }); err != nil {
			return r.stop(ctx, i, err)
		}
		r.emit(Event{Kind: StepUndone})
	}
	if r.j.CauseRefused {
		res.Status = Refused
	}
	return r.end(ctx, res)
}

// undoFailed ends the run: the first Undo that fails stops it.
func (r *running) undoFailed(ctx, undo context.Context, i int, res Result, err error) Result {
	s := r.j.Steps[i]
	res.Status, res.UndoStep, res.UndoHost, res.UndoErr = Person, s.Name, s.Host, err
	res.State = fmt.Sprintf("%s could not be taken back", s.Name)
	if gone, ok := errors.AsType[*GroundError](err); ok {
		names := strings.Join(gone.Missing, ", ")
		res.State = fmt.Sprintf("%s could not be taken back: %s did not come back within %s", s.Name, names, round(r.o.Patience))
		res.Next = fmt.Sprintf("bring %s back, then `refit resume` (it goes on with going back)", names)
	}
	var person *NeedsPerson
	if errors.As(err, &person) {
		res.State, res.Next = person.State, person.Next
	}
	jerr := r.mark(undo, i, func(m *Mark) { m.UndoEnded, m.Error = r.now(), err.Error() })
	r.emit(Event{Kind: UndoFailed, Err: err.Error()})
	if jerr != nil {
		return r.stop(ctx, i, errors.Join(jerr, err))
	}
	return r.end(ctx, res)
}

func (r *running) hostOf(name string) string {
	for _, s := range r.j.Steps {
		if s.Name == name {
			return s.Host
		}
	}
	return ""
}

// untilLost is ctx without its cancellation, except that it ends when the lease
// is lost.
func untilLost(ctx context.Context) (context.Context, func()) {
	undo, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	check := func() {
		if lost := lockLost(ctx); lost != nil {
			cancel(lost)
		}
	}
	unhook := context.AfterFunc(ctx, check)
	quit := make(chan struct{})
	if h := heldFrom(ctx); h != nil {
		go func() {
			select {
			case <-h.lost:
				check()
			case <-quit:
			}
		}()
	}
	return undo, func() {
		unhook()
		close(quit)
		cancel(nil)
	}
}

// last gives the context for a save that must be tried though ctx may have ended.
func (r *running) last(ctx context.Context) (context.Context, func()) {
	if ctx.Err() == nil {
		return ctx, func() {}
	}
	return context.WithTimeout(context.WithoutCancel(ctx), r.o.Grace)
}

// end journals how the process's work on the run ended, and reports it.
func (r *running) end(ctx context.Context, res Result) Result {
	if lost := lockLost(ctx); lost != nil && res.Status != LostLock {
		res.Status, res.Err = LostLock, errors.Join(lost, res.Err)
		res.State = "the lease was lost; everything is as the steps say, but the journal lacks the last word"
	}
	r.mu.Lock()
	r.at = -1
	res.Touched, res.OneWay = r.j.Touched(), r.j.OneWay()
	if res.Status == Refused && res.Touched {
		res.Status = Undone
	}
	r.j.Outcome, r.j.State, r.j.Next = res.Status, res.State, res.Next
	r.mu.Unlock()
	if r.journalErr() == nil && res.Status != LostLock {
		saving, free := r.last(ctx)
		if err := r.save(saving); err != nil {
			res.JournalErr = err
			if res.Status == Done || res.Status == Undone || res.Status == Refused {
				res.Status, res.State = LostJournal, "everything is as the steps say, but the journal's last word could not be written"
			}
		}
		free()
	} else {
		res.JournalErr = r.journalErr()
	}
	res.Steps, res.Proof = stepsOf(r.j), append(r.j.CauseProof, proofOf(res.UndoErr)...)
	res.Seconds = seconds(r.began, r.now())
	e := Event{Kind: RunEnded, Text: string(res.Status)}
	if res.Err != nil {
		e.Err = res.Err.Error()
	}
	r.emit(e)
	return res
}

// stepsOf tells where every step stands.
func stepsOf(j *Journal) []StepResult {
	if j == nil {
		return nil
	}
	out := make([]StepResult, len(j.Steps))
	for i, s := range j.Steps {
		m := j.Marks[s.Name]
		out[i] = StepResult{
			Name: s.Name, Host: s.Host, State: m.State, Switches: s.Switches, Error: m.Error,
			Seconds: seconds(m.Started, m.Ended), UndoSeconds: seconds(m.UndoStarted, m.UndoEnded),
		}
	}
	return out
}

// Progress tells where every step of the journal's run stands.
func (j *Journal) Progress() []StepResult { return stepsOf(j) }
