package report

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Release is what the team is told of a release that was seen upstream. The watcher
// fills it and tells it again when anything in it changes, and at each look.
type Release struct {
	// Project is whose release it is ("Mastodon", "Elk"); Version its tag.
	Project, Version string
	// Running is the release that the fleet runs; empty where that is not known.
	Running string
	// URL of the release's page.
	URL string
	// Published is when upstream published it, Deadline by when it is to run here;
	// zero for none.
	Published, Deadline time.Time
	// Security: it mends holes; Urgent: upstream's own update check says so.
	Security, Urgent bool
	// Advisories are GHSA or CVE names, with their severity.
	Advisories []string
	// Plan is what it brings and asks for, in three lines at most.
	Plan []string
	// Decision is what the policy makes of it ("ask", "auto at 03:00 UTC"), Reason why.
	Decision, Reason string
	// Question is what the team is asked for, with the command that answers; empty if
	// nothing is.
	Question string
	// Settled is what became of it ("runs since …", "taken back upstream"): nobody is
	// reminded any more. Empty while it is open.
	Settled string
}

// notice is something that is told once in its life.
type notice struct{ key, text string }

// The key is told as a digest: everybody in Slack can read it, and the words of an error
// may be part of it.
func (w *slackWork) notice(n notice, now time.Time) {
	key := "notice/" + body{Text: n.key}.digest(false)
	w.put(post{Key: key, Few: true, Tried: w.maybeSent(time.Time{}, now), Body: body{Text: w.say(n.text, 2000)}}, now)
}

// maybeSent is since when a message may stand in Slack although nothing is remembered of
// it, so that it is looked for before it is sent; zero if it was surely not sent.
func (w *slackWork) maybeSent(since, now time.Time) time.Time {
	if !w.state.blank || !w.door.edits() {
		return time.Time{}
	}
	return latest(since, now.Add(-slackKeep))
}

// release queues the release's message, or changes it, and reminds of a deadline.
func (w *slackWork) release(r Release, now time.Time) {
	key := "release/" + r.Project + "/" + r.Version
	fresh := !w.state.Told[key]
	root := w.put(post{Key: key, Few: true, Tried: w.maybeSent(r.Published, now), Body: w.releaseBody(r, now)}, now)
	// A message that is still to be sent asks by itself, and tells how little time is left;
	// one that stands there may be days up the channel.
	fresh = fresh || root != nil && root.open() && root.Tried.IsZero()
	asked, left := "", ""
	if r.Question != "" {
		b := body{Text: w.say(fmt.Sprintf("🙋 %s %s: %s", r.Project, r.Version, r.Question), 2000)}
		asked = key + "/question/" + b.digest(false)
		if fresh {
			w.state.Told[asked], w.dirty = true, true
		}
		w.put(post{Key: asked, Thread: key, Loud: true, Few: true, Body: b}, now)
	}
	if r.Settled == "" && !r.Deadline.IsZero() {
		left = w.remind(r, key, fresh, now)
	}
	w.withdraw(key+"/question/", asked)
	w.withdraw(key+"/left/", left)
}

func (w *slackWork) releaseBody(r Release, now time.Time) body {
	icon, what := "📦", "a release"
	if r.Security {
		icon, what = "🔒", "a security release"
	}
	if r.Urgent {
		what += ", urgent says upstream"
	}
	if r.Settled != "" {
		icon = "✅"
	}
	name := r.Project + " " + r.Version
	b := body{
		Text: w.say(fmt.Sprintf("%s %s: %s", icon, name, with(what, r.Decision)), 1500),
		Head: printable(w.o.Redact(icon + " " + name)),
	}
	field := func(title, value string) {
		if value != "" {
			b.Fields = append(b.Fields, "*"+title+"*\n"+value)
		}
	}
	field("Kind", w.say(what, mostField))
	field("Here runs", w.say(r.Running, mostField))
	if !r.Published.IsZero() {
		field("Published", slackTime(r.Published))
	}
	if !r.Deadline.IsZero() {
		field("To run by", slackTime(r.Deadline))
	}
	field("Decision", w.say(with(r.Decision, r.Reason), mostField))
	field("Advisories", w.say(strings.Join(r.Advisories, ", "), mostField))
	if lines := r.Plan[:min(len(r.Plan), 3)]; len(lines) > 0 {
		b.Parts = append(b.Parts, w.say("• "+strings.Join(lines, "\n• "), mostSection))
	}
	if r.Settled != "" {
		b.Parts = append(b.Parts, w.say("✅ "+r.Settled, 1000))
	} else if r.Question != "" {
		b.Parts = append(b.Parts, "*"+w.say("🙋 "+r.Question, 1000)+"*")
	}
	if strings.HasPrefix(r.URL, "https://") && !strings.ContainsAny(r.URL, "<>|\" ") {
		b.Parts = append(b.Parts, "<"+escape(r.URL, 500)+"|release notes>")
	}
	b.Foot = r.clock(now)
	return b
}

// clock is how old the release is and how much time is left, in hours: so the message
// is edited once an hour, and no more when it is a week old or settled.
func (r Release) clock(now time.Time) string {
	if r.Settled != "" || r.Published.IsZero() {
		return ""
	}
	age := now.Sub(r.Published)
	if age > 7*24*time.Hour {
		return "out for more than a week"
	}
	text := "out for " + hours(age)
	switch {
	case r.Deadline.IsZero():
	case now.Before(r.Deadline):
		// Rounded up, it changes when the age does.
		text += " · " + hours(r.Deadline.Sub(now)+time.Hour-time.Second) + " left"
	default:
		text += " · " + hours(now.Sub(r.Deadline)) + " late"
	}
	return text
}

// remind tells, loudly and once for each, that the deadline is near: of several
// moments that have passed unseen the last alone, whose key it returns.
func (w *slackWork) remind(r Release, key string, fresh bool, now time.Time) (said string) {
	moments := slices.Clone(w.o.Escalate)
	slices.Sort(moments) // the last one first: the least time left
	for _, before := range moments {
		if now.Before(r.Deadline.Add(-before)) {
			continue
		}
		k := key + "/left/" + before.String()
		if said != "" || fresh {
			// The message itself says how little time is left.
			if !w.state.Told[k] {
				w.state.Told[k], w.dirty = true, true
			}
			continue
		}
		said = k
		text := fmt.Sprintf("⏰ %s %s: %s left to run it here", r.Project, r.Version, hours(r.Deadline.Sub(now)))
		if !now.Before(r.Deadline) {
			text = fmt.Sprintf("🚨 %s %s: its deadline passed %s ago, and the fleet still runs %s", r.Project, r.Version, hours(now.Sub(r.Deadline)), dash(r.Running))
		}
		if r.Decision != "" {
			text += " (" + r.Decision + ")"
		}
		if old := w.get(k); old == nil || old.open() {
			w.put(post{Key: k, Thread: key, Loud: true, Few: true, Body: body{Text: w.say(text, 2000)}}, now)
		}
	}
	return said
}

// hours is a duration in hours, the first of them in quarters.
func hours(d time.Duration) string {
	if d < time.Hour {
		return fmt.Sprintf("%d min", int(max(d, 0).Minutes())/15*15)
	}
	return fmt.Sprintf("%d h", int(d.Hours()))
}
