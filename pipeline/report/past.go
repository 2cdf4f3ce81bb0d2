package report

import (
	"time"

	"vmst.io/refit/pipeline"
)

// Past is one run in the history.
type Past struct {
	Run  string `json:"run"`
	Kind string `json:"kind,omitempty"`
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// Began is when its journal was made, Ended when its last step ended; zero while it has
	// not ended. Both are by the operator's clock.
	Began time.Time `json:"began,omitzero"`
	Ended time.Time `json:"ended,omitzero"`
	// Seconds from the one to the other, or until the last step's mark, pauses included.
	Seconds float64 `json:"seconds"`
	// By began it and Why is the command or the decision; both empty in journals that were
	// written before they were kept.
	By  string `json:"by,omitempty"`
	Why string `json:"why,omitempty"`
	// ApprovedBy are those whose word it used up.
	ApprovedBy []string `json:"approved_by,omitempty"`
	// Outcome is how it ended; empty while it has not.
	Outcome pipeline.Status `json:"outcome,omitempty"`
	// Cause is why it did not end well, in its first line.
	Cause string `json:"cause,omitempty"`
	// AtWork: somebody holds the lease for it.
	AtWork bool `json:"at_work,omitempty"`
	// OneWay is the step after which there was no way back, if it was passed.
	OneWay string `json:"one_way,omitempty"`
	// Place is where its journal was found, where that is not the keeper's shelf.
	Place string `json:"place,omitempty"`
	// Trouble is why its journal cannot be read; then the rest may be empty.
	Trouble string `json:"trouble,omitempty"`
}

// PastOf is a run as its journal knows it.
func PastOf(j *pipeline.Journal) Past {
	p := Past{
		Run: j.ID, Kind: j.Kind, From: j.From, To: j.To, Began: j.Created.UTC(),
		Outcome: j.Outcome, OneWay: j.OneWay(), Cause: FirstLine(j.Cause),
	}
	last := j.LastMark()
	if last.After(j.Created) {
		p.Seconds = last.Sub(j.Created).Round(time.Second).Seconds()
	}
	if j.Outcome != "" {
		p.Ended = last.UTC()
	}
	for i, h := range j.Hands {
		if i == 0 {
			p.By, p.Why = h.By, h.Why
		}
		for _, a := range h.Approvals {
			p.ApprovedBy = append(p.ApprovedBy, a.By)
		}
	}
	return p
}

// Result is how it ended, in words.
func (p Past) Result() string {
	switch {
	case p.Trouble != "":
		return "its journal cannot be read"
	case p.AtWork:
		return "at work"
	}
	switch p.Outcome {
	case "":
		return "broken off"
	case pipeline.Done:
		return "done"
	case pipeline.Undone:
		return "failed, taken back"
	case pipeline.Refused:
		return "refused"
	case pipeline.Stopped:
		return "stopped half way"
	case pipeline.Interrupted:
		return "interrupted"
	case pipeline.Person:
		return "needs a person"
	case pipeline.LostLock:
		return "lost the lease"
	case pipeline.LostJournal:
		return "lost its journal"
	}
	return string(p.Outcome)
}

// Took is how long it took, as people say it; empty where nothing of it began.
func (p Past) Took() string {
	if p.Seconds == 0 {
		return ""
	}
	return Span(time.Duration(p.Seconds * float64(time.Second)))
}

// Span writes a time that may be long: "41 s", "2:05 min", "3 h 20 min", "2 days 4 h".
func Span(d time.Duration) string {
	switch {
	case d < time.Hour:
		return round(d)
	case d < 48*time.Hour:
		return fmtUnits(d.Round(time.Minute), time.Hour, "h", time.Minute, "min")
	}
	return fmtUnits(d.Round(time.Hour), 24*time.Hour, "days", time.Hour, "h")
}
