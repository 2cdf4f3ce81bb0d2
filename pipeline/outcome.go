package pipeline

import (
	"errors"
	"fmt"
	"time"
)

// ErrRefused marks an error by which a stage or the engine declines to begin:
// nothing was changed by the one that returns it. Wrap it with Refuse.
var ErrRefused = errors.New("refused")

// ErrStopped is what Safe returns, and a stage passes on, after a person asked
// for a stop. The step is run again on resume.
var ErrStopped = errors.New("stopped on request")

// ErrOneWay tells that a run cannot be walked back: a step that is one-way has
// begun. It comes wrapped with the step's name.
var ErrOneWay = errors.New("the point of no return has been passed")

// Refuse makes an error that says what fmt.Errorf would and is ErrRefused.
func Refuse(format string, args ...any) error {
	return &refusal{fmt.Errorf(format, args...)}
}

type refusal struct{ err error }

func (r *refusal) Error() string        { return r.err.Error() }
func (r *refusal) Unwrap() error        { return r.err }
func (r *refusal) Is(target error) bool { return target == ErrRefused }

// NotBegun wraps an error by which a one-way stage's Run tells that it looked and
// that nothing one-way has happened, now or before a resume. The step then does
// not count as begun one-way, and the run may still be walked back. Alone it lets
// the run go back by itself; wrapped in a NeedsPerson it waits for a person.
func NotBegun(err error) error {
	if err == nil {
		return nil
	}
	return &notBegun{err}
}

type notBegun struct{ err error }

func (n *notBegun) Error() string { return n.err.Error() }
func (n *notBegun) Unwrap() error { return n.err }

// NeedsPerson is an error after which nothing is done by itself: nothing is
// undone past it and no further step begins. Run and Undo may return it. A
// resume tries again from there.
type NeedsPerson struct {
	// State is one sentence: what stands how, on which host.
	State string
	// Next is the command that the person types, or what to mend first.
	Next string
	// Err is what led there; nil if State says all.
	Err error
}

func (n *NeedsPerson) Error() string {
	s := n.State
	if n.Err != nil {
		s += ": " + n.Err.Error()
	}
	return s
}

func (n *NeedsPerson) Unwrap() error { return n.Err }

// Status is how a run ended. The command's exit code follows from it and from
// Result.Touched.
type Status string

// The ways for a run to end.
const (
	// Done: every step done. Exit code 0.
	Done Status = "done"
	// Undone: failed, and every step that began is taken back. Exit code 1 if
	// nothing was touched, else 6. After Unwind: what was asked for, exit code 0.
	Undone Status = "undone"
	// Refused: a stage refused, nothing was touched and every step that began is
	// taken back; or the journal does not fit the plan. Exit code 3.
	Refused Status = "refused"
	// Stopped: ended at a safe point because a person asked. Exit code 130.
	Stopped Status = "stopped"
	// Interrupted: the context was cancelled; the step that ran is unknown. Exit
	// code 130.
	Interrupted Status = "interrupted"
	// Person: something stands that only a person can decide. Exit code 7.
	Person Status = "person"
	// LostLock: the lease is gone; nothing was done or undone after that. Exit
	// code 7.
	LostLock Status = "lock-lost"
	// LostJournal: the journal could not be written; nothing was done or undone
	// after that. Exit code 7, or 1 if nothing was touched.
	LostJournal Status = "journal-lost"
)

// Result is everything that is known when a run ends.
type Result struct {
	Status Status
	// Step and Host name where the way forward ended; empty when Done.
	Step, Host string
	// Err is why it ended there; nil when Done.
	Err error
	// UndoStep, UndoHost and UndoErr name the step that could not be taken back.
	UndoStep, UndoHost string
	UndoErr            error
	// Proof is the lines that show the cause, see Evidence.
	Proof []Proof
	// JournalErr is set when the last word could not be journalled.
	JournalErr error
	// Touched: a step that Switches began in this run, now or before a resume.
	Touched bool
	// OneWay names the one-way step that began; empty if none did.
	OneWay string
	// State and Next are the words of a NeedsPerson error, or the engine's own.
	State, Next string
	// Steps is every step of the plan, in its order.
	Steps []StepResult
	// Seconds of this process, without those before a resume.
	Seconds float64
	// Asked tells that the run was walked back by Unwind, not because of a failure.
	Asked bool
}

// StepResult is where one step stands.
type StepResult struct {
	Name     string `json:"name"`
	Host     string `json:"host,omitempty"`
	State    State  `json:"state"`
	Switches bool   `json:"switches,omitempty"`
	// Seconds that Run took, 0 if it never ended; over a resume, from its last start.
	Seconds float64 `json:"seconds"`
	// UndoSeconds that Undo took.
	UndoSeconds float64 `json:"undo_seconds,omitempty"`
	Error       string  `json:"error,omitempty"`
}

func seconds(from, to time.Time) float64 {
	if from.IsZero() || to.Before(from) {
		return 0
	}
	return to.Sub(from).Round(time.Millisecond).Seconds()
}

// Evidence is an error with the lines that show its cause: of a unit's journal,
// of a build's log. They are journalled and reported; the stage that gives them
// has seen to it that they hold no secret.
type Evidence struct {
	Err error
	// From names where the lines are from: "mastodon-web.service on kirk".
	From string
	// Lines, the oldest first. Only the last forty are kept.
	Lines []string
}

func (e *Evidence) Error() string { return e.Err.Error() }
func (e *Evidence) Unwrap() error { return e.Err }

// Proof is the evidence as it is journalled.
type Proof struct {
	From  string   `json:"from"`
	Lines []string `json:"lines"`
}

// proofOf gathers the evidence in err's tree.
func proofOf(err error) []Proof {
	const most = 40
	var out []Proof
	switch e := err.(type) { //nolint:errorlint // walks the tree itself, to find all of them
	case nil:
	case *Evidence:
		lines := e.Lines[max(0, len(e.Lines)-most):]
		out = append(out, Proof{From: e.From, Lines: lines})
		out = append(out, proofOf(e.Err)...)
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			out = append(out, proofOf(one)...)
		}
	case interface{ Unwrap() error }:
		out = append(out, proofOf(e.Unwrap())...)
	}
	return out
}
