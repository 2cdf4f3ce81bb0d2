package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"time"
)

// JournalFormat is the number of the journal's format. A journal of a higher
// number is refused: a newer refit wrote it. Format 2 added Hands.
const JournalFormat = 2

// ErrNewerFormat tells that a newer refit wrote the journal.
var ErrNewerFormat = errors.New("the journal was written by a newer refit")

// ErrDamaged tells that a journal cannot be read: truncated or edited.
var ErrDamaged = errors.New("the journal is damaged")

// ErrPlanChanged tells that journal and plan do not have the same steps.
var ErrPlanChanged = errors.New("the plan is not the one in the journal")

// Shelf keeps journals. Save writes whole and durably: after it returned nil, a
// crash of any machine leaves either these bytes or later ones. It refuses a save
// whose epoch is not the lease's, or whose seq is not above the stored one;
// saving the same bytes under the same seq again is accepted, so that a save
// whose answer was lost may be repeated.
type Shelf interface {
	// Load returns the bytes last saved under id; fs.ErrNotExist if none were.
	Load(ctx context.Context, id string) ([]byte, error)
	Save(ctx context.Context, id string, epoch, seq int64, b []byte) error
}

// State is where a step stands.
type State string

// The states of a step. Doing and Undoing in a loaded journal mean "unknown".
const (
	Pending State = ""        // not begun
	Doing   State = "doing"   // begun, not known to have ended
	Failed  State = "failed"  // Run returned an error; not yet taken back
	Finish  State = "done"    // Run returned nil
	Undoing State = "undoing" // being taken back, not known to have ended
	Back    State = "undone"  // Undo returned nil
)

// Direction is which way a run goes.
type Direction string

// The directions of a run.
const (
	Forward  Direction = "forward"
	Backward Direction = "backward"
)

// Mark is what the journal knows of one step.
type Mark struct {
	State State `json:"state"`
	// Started and Ended are of the last Run, UndoStarted and UndoEnded of the last
	// Undo, by the operator's clock.
	Started     time.Time `json:"started,omitzero"`
	Ended       time.Time `json:"ended,omitzero"`
	UndoStarted time.Time `json:"undo_started,omitzero"`
	UndoEnded   time.Time `json:"undo_ended,omitzero"`
	// Error is the text of the last Run's or Undo's error.
	Error string `json:"error,omitempty"`
	// OneWayBegun: a one-way step was begun here. It stays although a later plan
	// no longer calls the step one-way.
	OneWayBegun bool `json:"one_way_begun,omitempty"`
}

// JournalStep is a step as the journal keeps it, so that a journal can be shown
// without its plan.
type JournalStep struct {
	Name     string `json:"name"`
	Host     string `json:"host,omitempty"`
	Why      string `json:"why,omitempty"`
	OneWay   bool   `json:"one_way,omitempty"`
	Switches bool   `json:"switches,omitempty"`
}

// Journal is the durable record of one run. Only the engine changes it while a
// run is on.
type Journal struct {
	Format int    `json:"format"`
	ID     string `json:"id"`
	Kind   string `json:"kind"`
	From   string `json:"from"`
	To     string `json:"to"`
	// Epoch of the lease under which it was last saved.
	Epoch int64 `json:"epoch"`
	// Seq counts saves, over resumes too.
	Seq     int64     `json:"seq"`
	Created time.Time `json:"created"`
	// Hands are the processes that worked on the run, the first one first; empty in a
	// journal of format 1.
	Hands []Hand `json:"hands,omitempty"`
	// Direction says which way the run goes; Cause why it turned back, Asked that a
	// person wanted it.
	Direction Direction `json:"direction"`
	Cause     string    `json:"cause,omitempty"`
	CauseStep string    `json:"cause_step,omitempty"`
	// CauseRefused: what turned it back was a refusal.
	CauseRefused bool    `json:"cause_refused,omitempty"`
	CauseProof   []Proof `json:"cause_proof,omitempty"`
	Asked        bool    `json:"asked,omitempty"`
	// Steps in the plan's order; Marks by step name, missing for a step not begun.
	Steps []JournalStep   `json:"steps"`
	Marks map[string]Mark `json:"marks"`
	Facts json.RawMessage `json:"facts,omitempty"`
	// Outcome is how the last process that worked on the run ended; empty while
	// one works, and after a crash.
	Outcome Status `json:"outcome,omitempty"`
	// State and Next are for the person when Outcome is Person.
	State string `json:"state,omitempty"`
	Next  string `json:"next,omitempty"`

	shelf Shelf
}

// NewJournal makes the journal of a plan that has not begun. Nothing is saved
// until Execute.
func NewJournal(p Plan, shelf Shelf, epoch int64, now time.Time) *Journal {
	j := &Journal{
		Format: JournalFormat, ID: p.ID, Kind: p.Kind, From: p.From, To: p.To,
		Epoch: epoch, Created: now.UTC(), Direction: Forward, Marks: map[string]Mark{}, shelf: shelf,
	}
	for _, s := range p.Steps {
		j.Steps = append(j.Steps, JournalStep{Name: s.Name(), Host: s.Host, Why: s.Why, OneWay: s.OneWay, Switches: s.Switches})
	}
	return j
}

// LoadJournal reads the journal of run id. It is for reading; Adopt makes it one
// that Execute can go on with.
func LoadJournal(ctx context.Context, shelf Shelf, id string) (*Journal, error) {
	b, err := shelf.Load(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("cannot load the journal of run %s: %w", id, err)
	}
	j, err := ParseJournal(b)
	if err != nil {
		return nil, fmt.Errorf("cannot read the journal of run %s: %w", id, err)
	}
	if j.ID != id {
		return nil, fmt.Errorf("cannot read the journal of run %s: %w: it is that of run %s", id, ErrDamaged, j.ID)
	}
	return j, nil
}

// Adopt binds the journal to the shelf on which it is saved from now on and to
// the epoch of the lease just taken, which must not be below the journal's.
func (j *Journal) Adopt(shelf Shelf, epoch int64) error {
	if epoch < j.Epoch {
		return fmt.Errorf("cannot go on with run %s: its journal was saved under epoch %d, the lease has %d", j.ID, j.Epoch, epoch)
	}
	j.shelf, j.Epoch, j.Format = shelf, epoch, JournalFormat
	return nil
}

// ParseJournal reads a journal's bytes. What it does not know, it refuses.
func ParseJournal(b []byte) (*Journal, error) {
	j := &Journal{}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err := d.Decode(j)
	if _, more := d.Token(); err == nil && !errors.Is(more, io.EOF) {
		err = errors.New("something follows its end")
	}
	format := j.Format
	if err != nil { // a newer format may have stopped it before the number was read
		var head struct {
			Format int `json:"format"`
		}
		if json.Unmarshal(b, &head) == nil {
			format = head.Format
		}
	}
	switch {
	case format > JournalFormat:
		return nil, fmt.Errorf("%w: format %d, this one knows %d; use the newer refit", ErrNewerFormat, format, JournalFormat)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	case format < 1:
		return nil, fmt.Errorf("%w: format %d", ErrDamaged, format)
	}
	if err := j.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return j, nil
}

func (j *Journal) validate() error {
	if j.ID == "" || len(j.Steps) == 0 {
		return errors.New("no run or no steps in it")
	}
	if j.Direction != Forward && j.Direction != Backward {
		return fmt.Errorf("unknown direction %q", j.Direction)
	}
	names := map[string]bool{}
	for _, s := range j.Steps {
		if s.Name == "" || names[s.Name] {
			return fmt.Errorf("step %q is nameless or twice there", s.Name)
		}
		names[s.Name] = true
	}
	for name, m := range j.Marks {
		if !names[name] {
			return fmt.Errorf("a mark for the unknown step %q", name)
		}
		switch m.State {
		case Doing, Failed, Finish, Undoing, Back:
		default:
			return fmt.Errorf("step %q in the unknown state %q", name, m.State)
		}
	}
	if j.Marks == nil {
		j.Marks = map[string]Mark{}
	}
	return nil
}

// Finished tells that nothing of the run is left to do.
func (j *Journal) Finished() bool {
	return j.Outcome == Done || j.Outcome == Undone || j.Outcome == Refused
}

// OneWay returns the name of the one-way step that has begun, "" if none has.
func (j *Journal) OneWay() string {
	for _, s := range j.Steps {
		if j.Marks[s.Name].OneWayBegun {
			return s.Name
		}
	}
	return ""
}

// Touched tells that a step that switches what serves has begun.
func (j *Journal) Touched() bool {
	for _, s := range j.Steps {
		if s.Switches && j.Marks[s.Name].State != Pending {
			return true
		}
	}
	return false
}

// LoadFacts replaces what into points to by the journal's facts.
func (j *Journal) LoadFacts(into any) error {
	if len(j.Facts) == 0 || into == nil {
		return nil
	}
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return fmt.Errorf("cannot read the facts of run %s: need a pointer, got %T", j.ID, into)
	}
	fresh := reflect.New(v.Type().Elem())
	d := json.NewDecoder(bytes.NewReader(j.Facts))
	d.DisallowUnknownFields()
	if err := d.Decode(fresh.Interface()); err != nil {
		return fmt.Errorf("cannot read the facts of run %s: %w", j.ID, err)
	}
	v.Elem().Set(fresh.Elem())
	return nil
}

// because notes what ended the way forward; empty to forget it.
func (j *Journal) because(step string, err error) {
	j.Cause, j.CauseStep, j.CauseRefused, j.CauseProof = "", step, false, nil
	if err != nil {
		j.Cause, j.CauseRefused, j.CauseProof = err.Error(), errors.Is(err, ErrRefused), proofOf(err)
	}
}

// fits tells whether the journal is this plan's: the same run and the same steps
// in the same order.
func (j *Journal) fits(p Plan) error {
	if j.ID != p.ID {
		return fmt.Errorf("%w: the journal is that of run %s, the plan that of %s", ErrPlanChanged, j.ID, p.ID)
	}
	if lost, added := j.differs(p); len(lost)+len(added) > 0 {
		return fmt.Errorf("%w: the plan lacks %s; the journal lacks %s", ErrPlanChanged, listed(lost), listed(added))
	}
	if len(j.Steps) != len(p.Steps) {
		return fmt.Errorf("%w: %d steps in the journal, %d in the plan", ErrPlanChanged, len(j.Steps), len(p.Steps))
	}
	for i, s := range p.Steps {
		if j.Steps[i].Name != s.Name() {
			return fmt.Errorf("%w: step %d is %q in the journal, %q in the plan", ErrPlanChanged, i+1, j.Steps[i].Name, s.Name())
		}
	}
	return nil
}

// save writes the journal with these facts. What was marshalled is read back and
// compared before it counts.
func (j *Journal) save(ctx context.Context, facts any) error {
	raw, err := marshalFacts(facts)
	if err != nil {
		return err
	}
	next := *j
	next.Facts, next.Seq = raw, j.Seq+1
	b, err := json.Marshal(&next)
	if err != nil {
		return fmt.Errorf("cannot marshal the journal: %w", err)
	}
	again, err := ParseJournal(b)
	if err != nil {
		return fmt.Errorf("cannot read back the journal before it is saved: %w", err)
	}
	if c, err := json.Marshal(again); err != nil || !bytes.Equal(b, c) {
		return errors.Join(errors.New("cannot save the journal: it does not survive JSON there and back"), err)
	}
	// Seq rises also when the save fails: its answer may only have been lost.
	j.Facts, j.Seq = raw, next.Seq
	if err := j.shelf.Save(ctx, j.ID, j.Epoch, j.Seq, b); err != nil {
		return fmt.Errorf("cannot save the journal of run %s (save %d): %w", j.ID, j.Seq, err)
	}
	return nil
}
