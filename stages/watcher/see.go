package watcher

import (
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

// Sight is what one look saw and decided.
type Sight struct {
	At time.Time `json:"at"`
	// Running is what the fleet runs; zero where that could not be found out, and then
	// nothing is decided.
	Running builds.Version `json:"running"`
	// Candidates are the releases that the fleet could run next, with what was decided.
	Candidates []Candidate `json:"candidates"`
	// Behind is since when the fleet lacks a release that it follows; zero if it lacks none.
	Behind time.Time `json:"behind,omitzero"`
	// Gone are tags that upstream listed once and lists no more.
	Gone []string `json:"gone"`
	// Warnings are what a person should know beside: the end of a series' support, what
	// only one witness says.
	Warnings []string `json:"warnings"`
	// Sources are those that were asked, with what kept one from answering.
	Sources []Polled `json:"sources"`
	// Next is when something is due before the next look; zero if nothing is.
	Next time.Time `json:"next,omitzero"`

	alarms []alarm
	flings []announced
	looked bool // upstream's list was read
}

// Polled is a source that was asked.
type Polled struct {
	Source string `json:"source"`
	// Trouble is why it did not answer; empty if it did.
	Trouble string `json:"trouble,omitempty"`

	err error
}

// Candidate is a release that the fleet could run next.
type Candidate struct {
	Version   builds.Version  `json:"version"`
	Kind      policy.Kind     `json:"kind"`
	URL       string          `json:"url"`
	Published time.Time       `json:"published"`
	Since     time.Time       `json:"since"`
	Commit    string          `json:"commit,omitempty"`
	Tree      string          `json:"tree,omitempty"`
	Security  bool            `json:"security"`
	Urgent    bool            `json:"urgent"`
	Advisory  []string        `json:"advisories"`
	Ack       []string        `json:"acknowledgements"`
	Doubts    []string        `json:"doubts"`
	Stops     []string        `json:"stops"`
	Brings    []string        `json:"brings"`
	Decision  policy.Decision `json:"decision"`
	// Plan is the hash of the plan that waits for an approval; empty for none.
	Plan string `json:"plan,omitempty"`
	// Failed is how a run to it ended that this watcher began; empty for none.
	Failed string `json:"failed,omitempty"`

	running  builds.Version
	pin      upstream.Pin
	approved *Approval
}

// alarm is told once.
type alarm struct{ key, text string }

// announced is a fling's release.
type announced struct {
	project string
	upstream.Published
}

// See looks at everything and decides; it changes nothing, tells nobody and asks the
// fleet for nothing but its release.
func (w *Watcher) See(ctx context.Context) Sight {
	s := Sight{At: w.o.Now().UTC(), Gone: []string{}, Warnings: []string{}, Candidates: []Candidate{}}
	running, err := w.o.Fleet.Running(ctx)
	s.polled("the fleet", err)
	if err == nil {
		s.Running = running
	}
	list, err := w.o.Upstream.Look(ctx)
	s.polled(w.o.Upstream.Repo().String(), err)
	if err == nil {
		s.looked = true
		s.Gone = append(s.Gone, list.Gone...)
		updates := w.ask(ctx, &s, list)
		if !s.Running.IsZero() {
			w.weigh(ctx, &s, list, updates)
		}
	}
	for _, f := range w.o.Flings {
		w.fling(ctx, &s, f)
	}
	return s
}

func (s *Sight) polled(source string, err error) {
	p := Polled{Source: source, err: err}
	if err != nil {
		p.Trouble = err.Error()
	}
	s.Sources = append(s.Sources, p)
}

// ask asks the update check. What it alone names is asked for at GitHub once more, since
// it may have been published between the two questions.
func (w *Watcher) ask(ctx context.Context, s *Sight, list upstream.Look) []upstream.Update {
	if w.o.Feed == nil || s.Running.IsZero() {
		return nil
	}
	updates, err := w.o.Feed.Ask(ctx, s.Running)
	s.polled("update check", err)
	odd := upstream.Unlisted(updates, list.Releases)
	if len(odd) > 0 {
		if again, err := w.o.Upstream.Look(ctx); err == nil {
			odd = upstream.Unlisted(updates, again.Releases)
		}
	}
	for _, v := range odd {
		text := fmt.Sprintf("Mastodon's update check names %s, and GitHub lists no such release: one of the two is not what it should be; look at both before you upgrade", v)
		s.Warnings = append(s.Warnings, text)
		s.alarms = append(s.alarms, alarm{"unlisted/" + v.String(), text})
	}
	return updates
}

// weigh decides on each candidate.
func (w *Watcher) weigh(ctx context.Context, s *Sight, list upstream.Look, updates []upstream.Update) {
	var known []builds.Version
	for _, p := range list.Releases {
		if !p.Version.IsZero() {
			known = append(known, p.Version)
		}
	}
	if day, ends := builds.SupportEnds(s.Running); ends {
		s.ends(day)
	}
	for _, c := range upstream.Choose(list.Releases, s.Running, w.o.Line) {
		one := w.candidate(ctx, s, c, known)
		one.Urgent = upstream.Urgent(updates, c)
		one.Security = one.Security || one.Urgent
		one.Kind = policy.KindOf(s.Running, one.Version, one.Security)
		w.tried(&one)
		w.decide(s.At, &one)
		if act := w.o.Policy.Act(one.Kind); (act == policy.Auto || act == policy.Ask) && (s.Behind.IsZero() || one.Since.Before(s.Behind)) {
			s.Behind = one.Since
		}
		s.Candidates = append(s.Candidates, one)
	}
}

// supportSoon is how long before the end of a series' support it is said.
const supportSoon = 60 * 24 * time.Hour

// ends says that the support of the series that runs ends, or has.
func (s *Sight) ends(day time.Time) {
	line := s.Running.Line()
	over := day.AddDate(0, 0, 1) // support lasts through its last day
	var a alarm
	switch {
	case !s.At.Before(over):
		a = alarm{"support/" + line + "/over", fmt.Sprintf("upstream mends v%s.x no more: leave it", line)}
	case over.Sub(s.At) <= supportSoon:
		a = alarm{"support/" + line + "/soon", fmt.Sprintf("upstream mends v%s.x until %s: plan the way to the next series", line, day.Format(time.DateOnly))}
	default:
		return
	}
	s.Warnings, s.alarms = append(s.Warnings, a.text), append(s.alarms, a)
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
		s.polled("upstream's source", err)
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
			s.polled("upstream's repository", err)
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
		n, err := notes.Parse([]byte(p.Body))
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
		for _, line := range n.Warnings {
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

// tried stops what began by itself once and failed, and all while a run stands half way.
func (w *Watcher) tried(c *Candidate) {
	if r := w.state.Run; r != nil {
		c.Stops = append(c.Stops, fmt.Sprintf("run %s to %s was left half way, and cannot be gone on with: %s", r.ID, r.Version, r.Trouble))
	}
	if f, failed := w.state.Failed[c.Version.String()]; failed {
		c.Failed = f.Text
		c.Stops = append(c.Stops, fmt.Sprintf("run %s to it failed: %s. It does not begin by itself again; `refit upgrade --to %s` does it", f.Run, f.Text, c.Version))
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
}

// fling looks at another project.
func (w *Watcher) fling(ctx context.Context, s *Sight, f Fling) {
	list, err := f.Upstream.Look(ctx)
	s.polled(f.Upstream.Repo().String(), err)
	for _, p := range list.Releases {
		if p.Fresh && (f.Early || !p.Early()) && s.At.Sub(p.Release.Published) < settledFor {
			s.flings = append(s.flings, announced{f.Name, p})
		}
	}
}

// became says what became of a release that people were told of; empty while it is a
// candidate, or nothing is known.
func (s Sight) became(version string) string {
	v, err := builds.ParseVersion(version)
	if err != nil || !s.looked || s.Running.IsZero() {
		return ""
	}
	switch {
	case v.Compare(s.Running) == 0:
		return "the fleet runs it"
	case v.Compare(s.Running) < 0:
		return "the fleet runs " + s.Running.String()
	case slices.Contains(s.Gone, version):
		return "upstream has taken it back"
	}
	for _, c := range s.Candidates {
		if c.Version.Compare(v) == 0 {
			return ""
		}
	}
	for _, c := range s.Candidates {
		if c.Version.SameLine(v) && c.Version.Compare(v) > 0 {
			return c.Version.String() + " takes its place"
		}
	}
	return "it is not what the fleet follows any more"
}
