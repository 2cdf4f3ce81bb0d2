package watcher

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/policy"
	"vmst.io/refit/pipeline/report"
)

// project is how people call what the fleet runs.
const project = "Mastodon"

// note remembers what was seen: what runs, and which releases are open.
func (w *Watcher) note(s *Sight) {
	if !s.Assumed && !s.Running.IsZero() {
		w.state.Ran = s.Running
	}
	for _, c := range s.Candidates {
		name := c.Version.String()
		if _, known := w.state.Open[name]; c.Decision.Do != policy.Nothing && !known {
			w.state.Open[name] = open{}
		}
		if w.state.Open[name].Settled != "" { // it came again
			w.state.Open[name] = open{}
		}
	}
	w.settle(*s)
}

// failing remembers which sources do not answer, and has people told of what has not for
// long.
func (w *Watcher) failing(s *Sight) {
	for _, p := range s.Sources {
		since, failing := w.state.Failing[p.Source]
		switch {
		case p.err == nil && failing:
			delete(w.state.Failing, p.Source)
			w.say("%s answers again", p.Source)
			if s.At.Sub(since) >= w.o.Alarm {
				s.alarms = append(s.alarms, alarm{failKey(p.Source, since) + "/over", p.Source + " answers again"})
			}
		case p.err != nil && !failing:
			w.state.Failing[p.Source] = s.At
			w.say("%s: %v", p.Source, p.err)
		case p.err != nil && s.At.Sub(since) >= w.o.Alarm:
			s.alarms = append(s.alarms, alarm{failKey(p.Source, since), fmt.Sprintf("⚠️ refit has had no answer from %s since %s, so it may not know of new releases: %s", p.Source, since.Format("15:04 MST, 2 January"), p.Trouble)})
		}
	}
}

func failKey(source string, since time.Time) string {
	return "source/" + source + "/" + since.Format(time.RFC3339)
}

// tell tells everything, as at each look.
func (w *Watcher) tell(s *Sight) {
	w.failing(s)
	for _, p := range s.Sources {
		w.o.Teller.Polled(p.Source, p.err)
	}
	for _, a := range s.alarms {
		w.o.Teller.Notice(a.key, a.text)
	}
	if s.looked && !s.Running.IsZero() {
		w.o.Teller.Behind(project, s.Behind)
	}
	for _, c := range s.Candidates {
		if o, ok := w.state.Open[c.Version.String()]; ok {
			o.Told = c.announcement(s.Running)
			w.state.Open[c.Version.String()] = o
		}
	}
	// Also while nothing is known of it: its deadline comes nearer all the same.
	for _, name := range slices.Sorted(maps.Keys(w.state.Open)) {
		if told := w.state.Open[name].Told; told.Version != "" {
			w.o.Teller.Release(told)
		}
	}
	for _, f := range s.flings {
		w.o.Teller.Release(report.Release{
			Project: f.project, Version: f.Tag, URL: f.URL, Published: f.Release.Published,
			Decision: "announced only", Reason: "refit does not run it",
		})
	}
}

// announcement is a candidate as people are told of it.
func (c Candidate) announcement(running builds.Version) report.Release {
	r := report.Release{
		Project: project, Version: c.Version.String(), Running: running.String(), URL: c.URL, Published: c.Published, Deadline: c.Decision.Deadline,
		Security: c.Security, Urgent: c.Urgent, Advisories: c.Advisory, Plan: c.Brings, Decision: c.words(), Reason: c.Decision.Reason,
	}
	if c.Decision.Do == policy.Question && c.Plan != "" {
		r.Question = "approve its plan? " + c.command()
		if c.over != "" {
			r.Question = c.over + ": approve its plan again? " + c.command()
		}
	}
	return r
}

// command is what a person types to approve the plan.
func (c Candidate) command() string {
	out := "refit approve --to " + c.Version.String() + " --plan " + c.Plan
	for _, name := range c.Ack {
		out += " --ack " + name
	}
	return out
}

// words are the decision's.
func (c Candidate) words() string {
	switch c.Decision.Do {
	case policy.Begin:
		return "begins now"
	case policy.Wait:
		return "begins at " + c.Decision.At.UTC().Format("15:04 MST on 2 January")
	case policy.Question:
		return "waits for an approval"
	case policy.Refuse:
		return "is not begun"
	case policy.Tell, policy.Nothing:
	}
	return "told only"
}

// brings is what a release brings, in three lines.
func brings(u builds.Understanding) []string {
	c := u.Changes
	var first, second []string
	m := c.Migrations
	switch {
	case u.MigrationFree:
		first = append(first, "no migrations: it can be undone at any time")
	case u.Reversible:
		first = append(first, fmt.Sprintf("%d pre-migrations, none after: it can be undone at any time", len(m.Pre)))
	default:
		first = append(first, fmt.Sprintf("%d pre-migrations, %d post-migrations: no way back after those", len(m.Pre), len(m.Post)))
	}
	if n := len(m.Risky); n > 0 {
		first = append(first, fmt.Sprintf("%d to look at before", n))
	}
	for _, pin := range []struct {
		name string
		builds.Pin
	}{{"Ruby", c.Ruby}, {"Node", c.Node}} {
		if pin.Changed() {
			second = append(second, fmt.Sprintf("%s %s → %s", pin.name, pin.From, pin.To))
		}
	}
	for what, changed := range map[string]bool{"gems": c.Gems != nil, "javascript": c.JavaScript != nil, "streaming": c.Streaming != nil, "search": c.Search != nil, "units": len(c.Units) > 0, "nginx": c.Nginx != nil} {
		if changed {
			second = append(second, what)
		}
	}
	slices.Sort(second)
	third := u.Order + " is rolled first"
	if n := len(c.Jobs.Added) + len(c.Jobs.Removed); n > 0 {
		third += fmt.Sprintf(" (job classes: %d new, %d gone)", len(c.Jobs.Added), len(c.Jobs.Removed))
	}
	out := []string{strings.Join(first, "; ")}
	if len(second) > 0 {
		out = append(out, "changes "+strings.Join(second, ", "))
	}
	return append(out, third)
}
