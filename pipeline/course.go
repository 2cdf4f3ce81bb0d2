package pipeline

import (
	"context"
	"time"
)

// Course is how a run has gone so far, for a stage that writes it down elsewhere.
type Course struct {
	Run, Kind, From, To string
	// Began is when the run was made, over all resumes.
	Began time.Time
	// Back: it is being taken back, Asked because a person wanted it, else for Cause, the
	// error of CauseStep.
	Back, Asked      bool
	Cause, CauseStep string
	Steps            []CourseStep
}

// CourseStep is where a step stands.
type CourseStep struct {
	Name, Host string
	Mark       Mark
}

// CourseOf is the course of the run that ctx belongs to; false outside of one.
func CourseOf(ctx context.Context) (Course, bool) {
	r := runningFrom(ctx)
	if r == nil {
		return Course{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	j := r.j
	c := Course{
		Run: j.ID, Kind: j.Kind, From: j.From, To: j.To, Began: j.Created,
		Back: j.Direction == Backward, Asked: j.Asked, Cause: j.Cause, CauseStep: j.CauseStep,
	}
	for _, s := range j.Steps {
		c.Steps = append(c.Steps, CourseStep{Name: s.Name, Host: s.Host, Mark: j.Marks[s.Name]})
	}
	return c, true
}
