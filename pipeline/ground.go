package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Ground is what the steps stand on and none of them can mend: hosts, the
// database, Redis. A step that fails because the ground gave way says nothing of
// the release: the engine waits until the ground bears again and runs it again.
type Ground interface {
	// Look sees the whole ground once. It changes nothing.
	Look(ctx context.Context) Footing
	// Shook tells whether an error came of the way to something, and not of what
	// was done there.
	Shook(err error) bool
}

// Footing is the ground as one look found it.
type Footing struct {
	// Marks are by the name of each thing that answered. A mark that changes tells
	// that the thing was restarted, or is another one.
	Marks map[string]string
	// Missing tells of each thing that does not bear, why.
	Missing map[string]error
}

// GroundError tells that a step failed and that the ground did not bear again in
// the time allowed.
type GroundError struct {
	// Missing are the names of what does not bear.
	Missing []string
	// Waited is how long it was waited for.
	Waited time.Duration
	// Err is the step's error, Why what each missing thing answered.
	Err, Why error
}

func (e *GroundError) Error() string {
	return fmt.Sprintf("%v\n  waited %s for %s in vain: %v", e.Err, round(e.Waited), strings.Join(e.Missing, ", "), e.Why)
}

func (e *GroundError) Unwrap() error { return e.Err }

// errAbandoned ends the wait of a run that goes back and was aborted: the step at
// work is not half taken back then, it waits.
var errAbandoned = errors.New("aborted while waiting")

// settlePause is the time between two looks at a ground that does not bear.
const settlePause = 2 * time.Second

// steady does a step's Run or Undo, and does it again for as long as it is the
// ground that fails it. check, where there is one, is asked before it is done
// again: a step that cannot run again fails with its first error.
func (r *running) steady(ctx context.Context, check, do func(context.Context, Say) error) error {
	var trouble time.Time // since when
	for {
		began := r.o.Clock.Now()
		err := do(ctx, r.say)
		if err != nil && r.held != nil {
			r.held.confirm(ctx)
		}
		if err == nil || r.o.Ground == nil || errors.Is(err, ErrRefused) || errors.Is(err, ErrStopped) || ended(ctx) != nil || r.journalErr() != nil {
			return err
		}
		if now := r.o.Clock.Now(); trouble.IsZero() || elapsed(began, now) > r.o.Patience {
			trouble = now
		}
		r.say("failed: %v; asking whether all that it stands on answers", err)
		why, settled := r.settle(ctx, check, err, trouble)
		if settled != nil {
			return settled
		}
		r.say("%s, so the step is run again; it had failed: %v", why, err)
	}
}

// settle waits until the ground bears again. It returns what had happened to it,
// or the error with which the step fails for good.
func (r *running) settle(ctx context.Context, check func(context.Context, Say) error, failed error, since time.Time) (why string, err error) {
	told := telling{}
	for {
		now := r.o.Ground.Look(ctx)
		waited := elapsed(since, r.o.Clock.Now())
		var notYet error
		switch {
		case ended(ctx) != nil:
			return "", failed
		case len(now.Missing) > 0:
			if waited >= r.o.Patience || r.givenUp(now.Missing) {
				r.giveUp(now.Missing)
				return "", &GroundError{Missing: slices.Sorted(maps.Keys(now.Missing)), Waited: waited, Err: failed, Why: joined(now.Missing)}
			}
			notYet = joined(now.Missing)
		default:
			why = r.moved(now, failed)
			if why == "" {
				return "", failed
			}
			if waited >= r.o.Patience {
				return "", fmt.Errorf("%w\n  %s, but the step is not run again: its troubles have taken %s together, and it is given %s for all of them (waits.unreachable)", failed, why, round(waited), round(r.o.Patience))
			}
			if check != nil {
				notYet = check(ctx, r.say)
			}
			if notYet == nil {
				r.stand(now)
				return why, nil
			}
			var person *NeedsPerson
			if errors.As(failed, &person) {
				return "", failed
			}
		}
		if told.due(notYet.Error(), r.o.Clock.Now()) {
			names := slices.Sorted(maps.Keys(now.Missing))
			if len(names) == 0 {
				names = []string{"what the step needs"}
			}
			r.emit(Event{Kind: StepWaiting, Text: strings.Join(names, ", "), Err: notYet.Error(), Elapsed: waited, Expect: r.o.Patience})
		}
		if err := r.restBetweenLooks(ctx); err != nil {
			return "", err
		}
	}
}

// restBetweenLooks waits a moment. Nothing is at work meanwhile, so a person who
// asks to stop is heard.
func (r *running) restBetweenLooks(ctx context.Context) error {
	var stop <-chan struct{}
	if !r.goingBack() {
		stop = r.o.Stop
	}
	t, free := r.o.Clock.After(settlePause)
	defer free()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-r.abort:
		return errAbandoned
	case <-stop:
		return ErrStopped
	case <-t:
		return nil
	}
}

// moved tells what happened to the ground since the last look at it that counted;
// empty when the step cannot blame it.
func (r *running) moved(now Footing, failed error) string {
	var names []string
	for name, mark := range now.Marks {
		if r.footing.Marks[name] != mark {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	switch {
	case len(names) == 1:
		return names[0] + " was away or was restarted"
	case len(names) > 1:
		return strings.Join(names, ", ") + " were away or were restarted"
	case r.o.Ground.Shook(failed):
		return "everything answers again"
	}
	return ""
}

// stand takes a look as the one that later looks are compared with.
func (r *running) stand(now Footing) {
	r.footing = now
	r.gone = nil
}

// givenUp tells whether all of it was waited for in vain before: the way back does
// not wait a second time for a host that is dead.
func (r *running) givenUp(missing map[string]error) bool {
	for name := range missing {
		if !slices.Contains(r.gone, name) {
			return false
		}
	}
	return true
}

func (r *running) giveUp(missing map[string]error) {
	for name := range missing {
		if !slices.Contains(r.gone, name) {
			r.gone = append(r.gone, name)
		}
	}
}

// GivenUp are the names of what this run has waited for in vain. A stage that is
// taken back may do without them, if it can.
func GivenUp(ctx context.Context) []string {
	r := runningFrom(ctx)
	if r == nil {
		return nil
	}
	return slices.Clone(r.gone)
}

func joined(missing map[string]error) error {
	var errs []string
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		errs = append(errs, missing[name].Error())
	}
	return errors.New(strings.Join(errs, "; "))
}

// telling says a thing when it changes, and every ten seconds.
type telling struct {
	words string
	at    time.Time
}

func (t *telling) due(words string, now time.Time) bool {
	if words == t.words && now.Sub(t.at) < 10*time.Second {
		return false
	}
	t.words, t.at = words, now
	return true
}
