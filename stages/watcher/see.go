package watcher

import (
	"context"
	"fmt"
	"slices"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/policy"
	"vmst.io/refit/builds/upstream"
)

// Sight is what one look saw and decided.
type Sight struct {
	At time.Time `json:"at"`
	// Running is what the fleet runs; zero where that was never found out, and then
	// nothing is decided.
	Running builds.Version `json:"running"`
	// Assumed: the fleet did not answer, and Running is what it ran when it last did. What
	// is new is told of all the same, and nothing begins.
	Assumed bool `json:"assumed,omitempty"`
	// Stuck is the run that stands half way and that nobody goes on with; empty for none.
	Stuck string `json:"stuck,omitempty"`
	// Candidates are the releases that the fleet could run next, with what was decided.
	Candidates []Candidate `json:"candidates"`
	// Behind is since when the fleet lacks a release that it follows; zero if it lacks none.
	Behind time.Time `json:"behind,omitzero"`
	// Gone are tags that upstream listed once and lists no more.
	Gone []string `json:"gone"`
	// Warnings are what a person should know beside: the end of a series' support, what
	// only one witness says.
	Warnings []string `json:"warnings"`
	// Sources are those that were asked or that no release needed asked, with what kept one
	// from answering.
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
	if err != nil { // one node that is down must hide no release
		running, s.Assumed = w.state.Ran, !w.state.Ran.IsZero()
	}
	s.Running = running
	w.stuck(&s)
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
	for _, source := range []string{bySource, byGit, byApprovals} {
		s.polled(source, nil)
	}
	return s
}

// Sources that are asked where a release asks for it. One that failed and is not asked any
// more is no trouble: else nothing would ever end that.
const (
	bySource    = "upstream's source"
	byGit       = "upstream's repository"
	byApprovals = "approvals"
)

// polled notes that a source was asked; of several times at one look, that it failed once.
func (s *Sight) polled(source string, err error) {
	p := Polled{Source: source, err: err}
	if err != nil {
		p.Trouble = err.Error()
	}
	i := slices.IndexFunc(s.Sources, func(o Polled) bool { return o.Source == source })
	switch {
	case i < 0:
		s.Sources = append(s.Sources, p)
	case s.Sources[i].err == nil:
		s.Sources[i] = p
	}
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
		again, err := w.o.Upstream.Look(ctx)
		if err != nil {
			return updates // whether they disagree is seen at the next look
		}
		odd = upstream.Unlisted(updates, again.Releases)
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
		w.held(s, &one)
		w.decide(s.At, &one)
		if act := w.o.Policy.Act(one.Kind); (act == policy.Auto || act == policy.Ask) && (s.Behind.IsZero() || one.Since.Before(s.Behind)) {
			s.Behind = one.Since
		}
		s.Candidates = append(s.Candidates, one)
	}
}

// stuckPause is how soon a run that stands half way is tried to be gone on with again. A
// process that was killed holds the lease for two minutes.
const stuckPause = 2 * time.Minute

// stuck tells of a run that stands half way and that nobody goes on with: at once where
// going on was refused, later where it is not known how it stands, since somebody may be
// at work on it.
func (w *Watcher) stuck(s *Sight) {
	r := w.state.Run
	if r == nil {
		return
	}
	s.Next = s.At.Add(stuckPause)
	if r.Trouble == "" {
		return
	}
	s.Stuck = fmt.Sprintf("run %s to %s was left half way, and cannot be gone on with: %s", r.ID, r.Version, r.Trouble)
	if r.Refused || (!r.Since.IsZero() && s.At.Sub(r.Since) >= w.o.Alarm) {
		s.alarms = append(s.alarms, alarm{"stuck/" + r.ID, "🛑 " + s.Stuck + ". It is tried again every few minutes; see `refit status`, then `refit resume` or `refit rollback`"})
	}
}

// announcedFor is how long after its publication another project's release is announced
// to whom it was not: longer than anybody's watcher is away.
const announcedFor = 60 * 24 * time.Hour

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

// fling looks at another project.
func (w *Watcher) fling(ctx context.Context, s *Sight, f Fling) {
	list, err := f.Upstream.Look(ctx)
	s.polled(f.Upstream.Repo().String(), err)
	for _, p := range list.Releases {
		if p.Fresh && (f.Early || !p.Early()) && s.At.Sub(p.Release.Published) < announcedFor {
			s.flings = append(s.flings, announced{f.Name, p})
		}
	}
}

// became says what became of a release that people were told of; empty while it is a
// candidate, or nothing is known.
func (s Sight) became(version string) string {
	v, err := builds.ParseVersion(version)
	if err != nil || !s.looked || s.Assumed || s.Running.IsZero() {
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
