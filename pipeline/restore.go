package pipeline

import (
	"fmt"
	"strings"
	"time"
)

// RestoreJournal makes the journal of a run whose own is lost: of a plan, and of
// where each step stands as far as that could be found out elsewhere (a step that
// marks do not name has not begun). was is an older copy of the journal, from which
// it takes when the run began, why it turned back, and the count of saves, so that
// later saves are above it; nil for none. A mark of a step that the plan lacks is an
// error. Nothing is saved until Execute; see Adopt.
func RestoreJournal(p Plan, was *Journal, marks map[string]Mark, d Direction, now time.Time) (*Journal, error) {
	j := NewJournal(p, nil, 0, now)
	if was != nil {
		j.Created, j.Seq, j.Epoch = was.Created, was.Seq, was.Epoch
		if d == Backward {
			j.Cause, j.CauseStep, j.CauseRefused, j.CauseProof, j.Asked = was.Cause, was.CauseStep, was.CauseRefused, was.CauseProof, was.Asked
		}
	}
	j.Direction = d
	for name, m := range marks {
		if m.State != Pending {
			j.Marks[name] = m
		}
	}
	raw, err := marshalFacts(p.Facts)
	if err != nil {
		return nil, err
	}
	j.Facts = raw
	if err := j.validate(); err != nil {
		return nil, fmt.Errorf("cannot restore the journal of run %s: %w", p.ID, err)
	}
	return j, nil
}

// differs names the journal's steps that the plan lacks, and the plan's that the
// journal lacks, each in its order.
func (j *Journal) differs(p Plan) (lost, added []string) {
	have, want := map[string]bool{}, map[string]bool{}
	for _, s := range j.Steps {
		have[s.Name] = true
	}
	for _, s := range p.Steps {
		want[s.Name()] = true
		if !have[s.Name()] {
			added = append(added, s.Name())
		}
	}
	for _, s := range j.Steps {
		if !want[s.Name] {
			lost = append(lost, s.Name)
		}
	}
	return lost, added
}

func listed(steps []string) string {
	if len(steps) == 0 {
		return "nothing"
	}
	return `"` + strings.Join(steps, `", "`) + `"`
}
