package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"vmst.io/refit/builds"
)

// print writes the plan for people: the decision first, then what to know of it,
// then what changes. What is long stands in the JSON.
func (p planJSON) print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s → %s: %s\n", p.From, p.To, p.decision())
	for _, line := range p.summary() {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	whole := func(title string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(&b, "\n%s\n  %s\n", title, strings.Join(lines, "\n  "))
		}
	}
	list := func(title string, lines []string) { whole(title, short(lines)) }
	c := p.Changes
	whole(leftToYou, p.asks)
	list("the notes and the source differ", p.Differences)
	whole("to be known", p.Said)
	list("migrations to look at before", risky(c.Migrations.Risky))
	list("migrations that changed in place and will not run again where they ran", c.Migrations.Changed)
	if lines := changeLines(c); len(lines) > 0 {
		fmt.Fprintf(&b, "\nwhat changes\n  %s\n", strings.Join(lines, "\n  "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// leftToYou is the title over what a person has to see to, none of which is left out.
const leftToYou = "left to you, acknowledged with --ack and the name; `refit notes` has more of the words"

// short leaves out what would fill a screen; the JSON has it.
func short(lines []string) []string {
	const enough = 8
	if len(lines) <= enough+1 {
		return lines
	}
	return append(slices.Clone(lines[:enough]), fmt.Sprintf("and %d more (see --json)", len(lines)-enough))
}

func (p planJSON) decision() string { return decision("the way is open", p.Blockers) }

// decision is the first thing to know of a plan. What stands against it is named whole
// at its end, where a person's eyes are when it has scrolled by.
func decision(open string, against []string) string {
	switch len(against) {
	case 0:
		return open
	case 1:
		return "no: " + against[0]
	}
	return fmt.Sprintf("no: %d things stand against it, named at the end", len(against))
}

// security is a line where the notes name advisories.
func security(advisories []string) []string {
	if len(advisories) == 0 {
		return nil
	}
	return []string{"security: " + strings.Join(advisories, ", ")}
}

// wayBack says whether an upgrade can be undone, by the migrations that it applies.
func wayBack(from string, pre, post []string, risky []builds.Risky) string {
	switch {
	case len(pre)+len(post) == 0:
		return "no migration: it can be undone at any time"
	case len(post) == 0:
		return fmt.Sprintf("%s while %s serves, none after: it can be undone at any time%s", count(len(pre), "migration"), from, kept(risky))
	}
	return fmt.Sprintf("%s while %s serves, then %s after which it cannot be undone: %s",
		count(len(pre), "migration"), from, count(len(post), "migration"), strings.Join(post, ", "))
}

// summary is what a person decides by: can it be undone, how long may it take, in which order.
func (p planJSON) summary() []string {
	m := p.Changes.Migrations
	out := append(security(p.Advisory), wayBack(p.From, m.Pre, m.Post, m.Risky))
	jobs := p.Changes.Jobs
	switch {
	case len(jobs.Added) > 0:
		out = append(out, fmt.Sprintf("Sidekiq goes first: it must know %s before the web queues them", count(len(jobs.Added), "new job class")))
	case len(jobs.Removed) > 0:
		out = append(out, fmt.Sprintf("the web goes first: nothing may queue %s any more when the last old Sidekiq goes", count(len(jobs.Removed), "removed job class")))
	default:
		out = append(out, "Sidekiq goes first, as upstream has it")
	}
	out = append(out, "asks for "+needed(p.Requirements))
	return append(out, fmt.Sprintf("commit %.12s, tree %.12s, %s", p.Commit, p.Tree, differ(p.Changes.Files, "file")))
}

// kept is what going back does not bring back.
func kept(list []builds.Risky) string {
	for _, r := range list {
		for _, why := range r.Reasons {
			if strings.HasPrefix(why, "rewrites data") {
				return ", but for data that the migrations below rewrite"
			}
		}
	}
	return ""
}

// count is a number with its noun.
func count(n int, noun string) string {
	switch {
	case n == 0:
		return "no " + noun
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "s"):
		return fmt.Sprintf("%d %ses", n, noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// differ says how many of something differ.
func differ(n int, noun string) string {
	if n == 1 {
		return "1 " + noun + " differs"
	}
	return strings.Replace(count(n, noun), "no "+noun, "no "+noun+"s", 1) + " differ"
}

// needed are the oldest versions that the code accepts, in one line.
func needed(r map[string]builds.Minimum) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(r)) {
		if name != "schema" { // a migration's number, which the path rules put in words
			out = append(out, name+" "+r[name].Min)
		}
	}
	if out == nil {
		return "nothing that its code checks"
	}
	return strings.Join(out, ", ")
}

func risky(list []builds.Risky) []string {
	var out []string
	for _, r := range list {
		out = append(out, r.Name+": "+strings.Join(r.Reasons, "; "))
	}
	return out
}

// changeLines are what changes, a line for each kind that does.
func changeLines(c builds.Changes) []string {
	var out []string
	say := func(title string, names ...string) {
		if len(names) > 0 {
			out = append(out, title+": "+strings.Join(short(names), ", "))
		}
	}
	for _, tool := range []struct {
		name string
		builds.Pin
	}{{"Ruby", c.Ruby}, {"Node", c.Node}, {"Bundler", c.Bundler}, {"Yarn", c.Yarn}} {
		if tool.Changed() {
			say(tool.name, fmt.Sprintf("%s → %s", tool.From, tool.To))
		}
	}
	if c.Gems != nil {
		say("gems", gemLine(c.Gems.Changed))
	}
	if c.JavaScript != nil {
		say("javascript, so assets are built", c.JavaScript.Files...)
	}
	if c.Streaming != nil {
		say("streaming, so its server is restarted", c.Streaming.Files...)
	}
	say("job classes added", jobNames(c.Jobs.Added)...)
	say("job classes removed", jobNames(c.Jobs.Removed)...)
	say("queues added, which some Sidekiq has to work off", c.Queues.Added...)
	say("queues removed", c.Queues.Removed...)
	say("queues that only running code knows", c.Queues.Unknown...)
	say("scheduled jobs added", c.Schedule.Added...)
	say("scheduled jobs removed", c.Schedule.Removed...)
	say("scheduled jobs changed", c.Schedule.Changed...)
	say("environment names that are new", c.Env.Added...)
	say("environment names that are no longer read", c.Env.Removed...)
	say("of these only comments speak of", c.Env.Comments...)
	say("environment names that only running code knows", c.Env.Unknown...)
	say("example units changed (compare with yours; --json has the diff)", c.Units...)
	if c.Nginx != nil {
		say("example of nginx changed (compare with yours; --json has the diff)", c.Nginx.Files...)
	}
	if c.Search != nil {
		title := "search definitions changed"
		if c.Search.Blanks {
			title = "search definitions changed in nothing but blanks"
		}
		say(title, c.Search.Files...)
	}
	if out == nil && c.Files > 0 {
		say("code alone", differ(c.Files, "file"))
	}
	return out
}

// knownGems are the gems whose versions an admin may want to know.
var knownGems = []string{"rails", "puma", "sidekiq"}

func gemLine(changed []builds.GemChange) string {
	out := differ(len(changed), "version")
	for _, g := range changed {
		if slices.Contains(knownGems, g.Name) {
			out += fmt.Sprintf(", %s %s → %s", g.Name, g.From, g.To)
		}
	}
	return out
}

func jobNames(jobs []builds.Job) []string {
	var out []string
	for _, j := range jobs {
		out = append(out, j.Class)
	}
	return out
}
