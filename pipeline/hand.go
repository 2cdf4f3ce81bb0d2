package pipeline

import "time"

// Hand is a process that worked on a run: who started it, and by whose word.
type Hand struct {
	// By is the person or machine, "michael on bridge".
	By string `json:"by"`
	// Why is the command or the decision: "upgrade --to v4.5.15".
	Why string `json:"why,omitempty"`
	// Refit is that process's own version.
	Refit string `json:"refit,omitempty"`
	// At is when it had the lease, by the operator's clock; Epoch is the lease's.
	At    time.Time `json:"at"`
	Epoch int64     `json:"epoch"`
	// Plan is the hash of the plan that was looked at, empty where there was none; a
	// resume has none.
	Plan string `json:"plan,omitempty"`
	// Approvals are the words of people that the run was begun by.
	Approvals []Approval `json:"approvals,omitempty"`
}

// Approval is a person's word for a plan, as a run used it up.
type Approval struct {
	By string `json:"by"`
	// Key is the fingerprint of the key that signed it; empty for one that is not signed.
	Key   string    `json:"key,omitempty"`
	Given time.Time `json:"given"`
	Until time.Time `json:"until"`
}

// mostHands bounds what a journal keeps of them: a watcher that cannot go on with a run
// tries again every few minutes, for days.
const mostHands = 40

// TakenUp notes who works on the run from now on. It is saved with the journal's next save.
func (j *Journal) TakenUp(h Hand) {
	if len(j.Hands) >= mostHands { // who began it stays
		j.Hands = append(j.Hands[:1:1], j.Hands[2:]...)
	}
	h.At = h.At.UTC().Round(0)
	j.Hands = append(j.Hands, h)
}

// LastMark is when a step last began or ended, going forward or back; zero where none began.
func (j *Journal) LastMark() time.Time {
	var last time.Time
	for _, m := range j.Marks {
		for _, t := range []time.Time{m.Started, m.Ended, m.UndoStarted, m.UndoEnded} {
			if t.After(last) {
				last = t
			}
		}
	}
	return last
}
