package watcher

import (
	"context"
	"fmt"
	"slices"
	"time"

	"vmst.io/refit/builds/policy"
)

// Plan is what an upgrade of the fleet would do, as it was surveyed.
type Plan struct {
	// Run is the ID of the run that it would be.
	Run string
	// Hash is what an approval names: the same for the same commit, tree, configuration,
	// host keys, steps and acknowledgements.
	Hash string
	// Commit and Tree are what would be built.
	Commit, Tree string
	// Doubts are what only the fleet shows: migrations that its database lacks and after
	// which there is no way back, an overridden pin, what the way asks to be acknowledged.
	Doubts []string
	// Refused is what stands against it.
	Refused []string
	// Ack are the names that its approval has to acknowledge.
	Ack []string
	// ApprovedBy is whose word the run uses up; empty where it begins by itself.
	ApprovedBy string
	// Why is the decision's reason, in words.
	Why string
	// Upgrade is the plan itself, for who made it.
	Upgrade any
}

// Approval is what a person said to a plan.
type Approval struct {
	Hash string    `json:"hash"`
	By   string    `json:"by"`
	At   time.Time `json:"at"`
	// Until is when it expires.
	Until time.Time `json:"until"`
	// AtOnce: outside maintenance windows too.
	AtOnce bool `json:"at_once,omitempty"`
	// Over is why it counts for nothing any more; empty while it is good.
	Over string `json:"over,omitempty"`
}

// Outcome is how a run ended.
type Outcome struct {
	// Done: the fleet runs the release.
	Done bool
	// Untouched: nothing was changed: somebody else holds the lease, or it was refused.
	Untouched bool
	// Later: it was stopped half way, by a signal, and is to be resumed.
	Later bool
	// Text says how it ended.
	Text string
}

// Standing is how a run that was begun stands.
type Standing struct {
	// HalfWay: nobody is at work on it, and it is to be resumed.
	HalfWay bool
	// Outcome is how it ended, where it is not half way. A run that never got as far as
	// its journal is Untouched.
	Outcome Outcome
}

// made is a plan that was made in this process.
type made struct {
	Plan
	at time.Time
}

// planFor is how long a plan is good for showing, and so how long an approval of one that
// has changed meanwhile may have to wait. Before a run a new one is made.
const planFor = 10 * time.Minute

// act does what is due: it plans, asks and begins. At most one run begins at a look; it
// tells whether one did.
func (w *Watcher) act(ctx, idle context.Context, stop <-chan struct{}, s *Sight) (ran bool, err error) {
	for i := range s.Candidates {
		c := &s.Candidates[i]
		if c.Decision.Do == policy.Question {
			w.question(idle, c, s)
		}
		if stopped(ctx, stop) {
			return false, nil
		}
		if c.Decision.Do == policy.Begin {
			if ran, err := w.begin(ctx, idle, stop, s, c); ran || err != nil {
				return ran, err
			}
		}
		if at := c.Decision.At; c.Decision.Do == policy.Wait && (s.Next.IsZero() || at.Before(s.Next)) {
			s.Next = at
		}
	}
	return false, nil
}

// question makes the plan that an approval is asked for, and looks whether there is one.
func (w *Watcher) question(ctx context.Context, c *Candidate, s *Sight) {
	name := c.Version.String()
	p, ok := w.planned[name]
	if !ok || s.At.Sub(p.at) >= planFor {
		if p, ok = w.plan(ctx, s, c); !ok {
			return
		}
	}
	approval, err := w.o.Fleet.Approval(ctx, p.Hash)
	s.polled(byApprovals, err)
	c.Plan, c.Ack = p.Hash, p.Ack
	w.asked(name, p.Hash)
	switch {
	case approval == nil:
	case approval.Over != "": // people believe that it is approved
		c.over = approval.Over
		c.Decision.Reason += "; " + c.over
	default:
		c.approved = approval
		w.decide(s.At, c)
		c.Decision.Reason += ", by " + approval.By
	}
}

// asked remembers which plan people are asked to approve.
func (w *Watcher) asked(name, hash string) {
	o := w.state.Open[name]
	if o.Hash != "" && o.Hash != hash {
		w.say("the plan for %s has changed: an approval of plan %s counts for nothing", name, o.Hash)
	}
	o.Hash = hash
	w.state.Open[name] = o
}

// plan surveys the fleet for a candidate; false where that ends the matter for now.
func (w *Watcher) plan(ctx context.Context, s *Sight, c *Candidate) (made, bool) {
	p, err := w.o.Fleet.Plan(ctx, c.Version)
	switch {
	case err != nil:
		c.Stops = append(c.Stops, fmt.Sprintf("the fleet could not be surveyed: %v", err))
	case p.Commit != c.Commit || p.Tree != c.Tree:
		c.stop(s, "commit/"+c.Version.String()+"/"+p.Commit,
			fmt.Sprintf("%s was pinned as commit %.12s, and the plan would build commit %.12s", c.Version, c.Commit, p.Commit))
	default:
		c.Stops = append(c.Stops, p.Refused...)
	}
	if len(c.Stops) > 0 {
		delete(w.planned, c.Version.String())
		w.decide(s.At, c)
		return made{}, false
	}
	m := made{p, s.At}
	w.planned[c.Version.String()] = m
	return m, true
}

// begin makes the plan anew, holds it to what was decided, and runs it; where it does not
// hold, people are asked.
func (w *Watcher) begin(ctx, idle context.Context, stop <-chan struct{}, s *Sight, c *Candidate) (ran bool, err error) {
	p, ok := w.plan(idle, s, c)
	if !ok || stopped(ctx, stop) {
		return false, nil
	}
	approved := c.approved != nil && c.approved.Hash == p.Hash
	if !approved && (c.approved != nil || len(p.Doubts) > 0) {
		c.approved = nil
		for _, d := range p.Doubts {
			if !slices.Contains(c.Doubts, d) {
				c.Doubts = append(c.Doubts, d)
			}
		}
		w.decide(s.At, c)
		if c.Decision.Do == policy.Question {
			w.question(idle, c, s)
		}
		return false, nil // an approval of the new plan counts at the next look
	}
	if approved {
		p.ApprovedBy = c.approved.By
	}
	p.Why = c.Decision.Reason
	w.state.Run = &run{ID: p.Run, Version: c.Version.String(), Began: s.At}
	w.tell(s) // before it, so that people know why it began
	if err := w.save(idle); err != nil {
		w.state.Run = nil
		return false, err
	}
	w.say("run %s begins: %s → %s: %s", p.Run, s.Running, c.Version, c.Decision.Reason)
	return true, w.ended(ctx, w.o.Fleet.Begin(ctx, stop, p.Plan))
}
