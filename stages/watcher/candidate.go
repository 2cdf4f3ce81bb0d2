package watcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/notes"
	"vmst.io/refit/builds/policy"
	"vmst.io/refit/builds/upstream"
	"vmst.io/refit/hosts/github"
)

// Candidate is a release that the fleet could run next.
type Candidate struct {
	Version builds.Version `json:"version"`
	Kind    policy.Kind    `json:"kind"`
	// URL is its page.
	URL       string    `json:"url"`
	Published time.Time `json:"published"`
	// Since is when the oldest release of its series that the fleet lacks was published.
	Since time.Time `json:"since"`
	// Commit and Tree are what its tag was pinned to; empty where that is not known.
	Commit string `json:"commit,omitempty"`
	Tree   string `json:"tree,omitempty"`
	// Security: it, or one that it stands above, mends holes; Urgent: upstream says so.
	Security bool `json:"security"`
	Urgent   bool `json:"urgent"`
	// Advisory are the ids that the notes on the way name.
	Advisory []string `json:"advisories"`
	// Ack are the names of what the notes leave to an admin.
	Ack []string `json:"acknowledgements"`
	// Doubts and Stops are the policy's: why not by itself, and why not at all.
	Doubts []string `json:"doubts"`
	Stops  []string `json:"stops"`
	// Brings is what it brings, in three lines at most.
	Brings   []string        `json:"brings"`
	Decision policy.Decision `json:"decision"`
	// Plan is the hash of the plan that waits for an approval; empty for none.
	Plan string `json:"plan,omitempty"`
	// Failed is how a run to it ended that this watcher began; empty for none.
	Failed string `json:"failed,omitempty"`

	running  builds.Version
	pin      upstream.Pin
	approved *Approval
	over     string    // why an approval of its plan counts no more
	unbegun  string    // why the last run to it touched nothing
	again    time.Time // when another may begin by itself
}

// candidate gathers what is known of a release.
func (w *Watcher) candidate(ctx context.Context, s *Sight, c upstream.Candidate, known []builds.Version) Candidate {
	out := Candidate{
		running: s.Running, Version: c.Version, URL: c.URL, Published: c.Release.Published, Since: c.Since,
		Advisory: []string{}, Ack: []string{}, Stops: []string{}, Brings: []string{}, Doubts: append([]string{}, w.o.Doubts...),
	}
	w.identify(ctx, s, &out, c.Tag)
	if v := builds.Path(s.Running, c.Version, builds.PathOptions{Known: known, Now: s.At}); v.Refused != "" {
		out.Stops = append(out.Stops, v.Refused)
	}
	w.readNotes(&out, s.Running, c)
	if len(out.Stops) > 0 {
		return out // the source of what is not what it was is not read
	}
	u, err := w.o.Source.Understand(ctx, s.Running, c.Version)
	switch {
	case err != nil:
		s.polled(bySource, err)
		out.Stops = append(out.Stops, fmt.Sprintf("what it changes could not be read: %v", err))
	case !out.pin.Fits(u.To.Tag):
		out.stop(s, "commit/"+out.Version.String()+"/"+u.To.Tag.Commit,
			fmt.Sprintf("%s was pinned as commit %.12s, and its source is that of commit %.12s", out.Version, out.Commit, u.To.Tag.Commit))
	default:
		out.understood(u)
	}
	return out
}

// stop stops a release aloud.
func (c *Candidate) stop(s *Sight, key, text string) {
	c.Stops = append(c.Stops, text)
	s.alarms = append(s.alarms, alarm{key, "🛑 " + text})
}

// identify pins what the tag stands for.
func (w *Watcher) identify(ctx context.Context, s *Sight, c *Candidate, tag string) {
	pin, err := w.o.Upstream.Pin(ctx, tag)
	c.pin, c.Commit, c.Tree = pin, pin.Commit, pin.Tree
	switch {
	case errors.Is(err, upstream.ErrMoved), errors.Is(err, upstream.ErrDisagree):
		c.stop(s, "identity/"+tag+"/"+err.Error(), err.Error()+"; it is not built. Find out why before anything else")
	case err != nil:
		if _, of := errors.AsType[*github.Error](err); !of {
			s.polled(byGit, err)
		}
		c.Stops = append(c.Stops, fmt.Sprintf("what its tag stands for could not be found out: %v", err))
	}
}

// readNotes reads the notes of all releases on the way, the oldest first.
func (w *Watcher) readNotes(c *Candidate, running builds.Version, from upstream.Candidate) {
	way := append([]upstream.Published{}, from.Over...)
	slices.Reverse(way)
	var read []notes.Notes
	for _, p := range append(way, from.Published) {
		n, err := notes.ParseOf(p.Version, []byte(p.Body))
		if err != nil {
			c.Doubts = append(c.Doubts, fmt.Sprintf("the notes of %s cannot be read: %v", p.Tag, err))
			continue
		}
		read = append(read, n)
		for _, a := range n.Advisories {
			if !slices.Contains(c.Advisory, a.ID) {
				c.Advisory = append(c.Advisory, a.ID)
			}
		}
		for _, text := range n.Warnings {
			line := strings.Join(strings.Fields(text), " ") // nothing of upstream's begins a line of ours
			c.Doubts = append(c.Doubts, fmt.Sprintf("the notes of %s warn: %s", p.Tag, cut(line, 200)))
		}
	}
	c.Security = len(c.Advisory) > 0
	for _, it := range notes.Way(running, read...) {
		if it.By == notes.Admin {
			c.Ack = append(c.Ack, it.Name)
			c.Doubts = append(c.Doubts, fmt.Sprintf("%s: %s", it.Name, it.Why))
		}
	}
}

// understood adds what the sources say.
func (c *Candidate) understood(u builds.Understanding) {
	m := u.Changes.Migrations
	for _, name := range m.Post {
		c.Doubts = append(c.Doubts, "post-migration "+name+": there is no way back after it")
	}
	for _, r := range m.Risky {
		c.Doubts = append(c.Doubts, "migration "+r.Name+": "+strings.Join(r.Reasons, ", "))
	}
	c.Brings = brings(u)
}

// cut shortens a text to so many characters.
func cut(s string, limit int) string {
	r := []rune(s)
	if len(r) <= limit {
		return s
	}
	return string(r[:limit-1]) + "…"
}

// held stops all while the fleet is silent or a run stands half way, and what began by
// itself once and failed. A run that touched nothing is tried again, and said.
func (w *Watcher) held(s *Sight, c *Candidate) {
	if s.Assumed {
		c.Stops = append(c.Stops, "the fleet does not say what it runs: "+s.Sources[0].Trouble)
	}
	if r := w.state.Run; r != nil {
		c.Stops = append(c.Stops, cmp.Or(s.Stuck, fmt.Sprintf("run %s to %s has begun and is not over", r.ID, r.Version)))
	}
	name := c.Version.String()
	if f, failed := w.state.Failed[name]; failed {
		c.Failed = f.Text
		c.Stops = append(c.Stops, fmt.Sprintf("run %s to it failed: %s. It does not begin by itself again; `refit upgrade --to %s` does it", f.Run, f.Text, c.Version))
	}
	if f, tried := w.state.Unbegun[name]; tried {
		c.unbegun, c.again = fmt.Sprintf("run %s touched nothing: %s", f.Run, f.Text), f.again()
		s.alarms = append(s.alarms, alarm{"unbegun/" + name, fmt.Sprintf("⚠️ %s could not begin: %s. It is tried again, at last every six hours", name, c.unbegun)})
	}
}

// decide asks the policy, by what is known of the candidate so far.
func (w *Watcher) decide(now time.Time, c *Candidate) {
	s := policy.Situation{
		Now: now, Running: c.running, Release: c.Version, Published: c.Published, Since: c.Since, Security: c.Security,
		Doubts: c.Doubts, Stops: c.Stops,
	}
	if c.approved != nil {
		s.Approved, s.AtOnce = true, c.approved.AtOnce
	}
	c.Decision = w.o.Policy.Decide(s)
	if c.unbegun != "" && c.Decision.Do != policy.Refuse {
		c.Decision.Reason += "; " + c.unbegun
	}
	if c.Decision.Do == policy.Begin && c.approved == nil && c.again.After(now) {
		c.Decision.Do, c.Decision.At = policy.Wait, c.again
	}
}
