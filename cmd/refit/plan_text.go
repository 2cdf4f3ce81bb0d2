package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"vmst.io/refit/builds"
)

// print writes the plan for people: the decision first, then what to know of it, then
// what changes, and the steps. What is long stands in the JSON.
func (p planJSON) print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s → %s: %s\n", cmp.Or(p.From, "what runs"), p.To, p.decision())
	for _, line := range p.summary() {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	list := func(title string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(&b, "\n%s\n  %s\n", title, strings.Join(lines, "\n  "))
		}
	}
	list("left to you, acknowledged with --ack and the name; `refit notes` has more of the words", p.asks)
	list("the notes and the source differ", p.Differences)
	list("to be known", p.Said)
	if m := p.Pending; m != nil {
		list("migrations while the old code serves", short(m.Pre))
		list("migrations after which the old code cannot run", short(m.Post))
		if len(p.rehearsal) > 0 {
			list("measured, not guessed", short(p.rehearsal))
		} else if len(m.Pre)+len(m.Post) > 0 && p.canRehearse {
			list("how long the migrations take is not known", []string{"refit rehearse --to " + p.To + " measures it on a copy"})
		}
	}
	if c := p.Changes; c != nil {
		list("migrations to look at before", risky(c.Migrations.Risky))
		list("what changes", changeLines(*c))
	}
	if len(p.Steps) > 0 {
		b.WriteByte('\n')
		t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for i, s := range p.Steps {
			fmt.Fprintf(t, "%2d\t%s\t%s\t%s\n", i+1, s.Name, s.Host, s.Why)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, visible(b.String()))
	return err
}

// visible replaces what would act on a terminal instead of standing there: the names of
// a release's gems, files and settings are upstream's words.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// short leaves out what would fill a screen; the JSON has it.
func short(lines []string) []string {
	const enough = 8
	if len(lines) <= enough+1 {
		return lines
	}
	return append(slices.Clone(lines[:enough]), fmt.Sprintf("and %d more (see --json)", len(lines)-enough))
}

func (p planJSON) decision() string {
	switch len(p.Blockers) {
	case 0:
		return "the way is open"
	case 1:
		return "no: " + p.Blockers[0]
	}
	return fmt.Sprintf("no: %d things stand against it, named at the end", len(p.Blockers))
}

// summary is what a person decides by: can it be undone, how long may it take, in which
// order. Of a fleet whose release is not known there is none.
func (p planJSON) summary() []string {
	if p.From == "" {
		return nil
	}
	var out []string
	if len(p.Advisory) > 0 {
		out = append(out, "security: "+strings.Join(p.Advisory, ", "))
	}
	out = append(out, p.undo(), p.why())
	if p.takes > 0 {
		by := count(p.earlier, "earlier run")
		if p.Rehearsed != nil {
			by += " and a rehearsal of the migrations"
		}
		out = append(out, fmt.Sprintf("it takes about %s, by %s", p.takes.Round(time.Minute), by))
	}
	if p.Published != "" {
		line := "published " + p.Published
		if p.Deadline != "" {
			line += ", to run by " + p.Deadline
		}
		out = append(out, line)
	}
	line := fmt.Sprintf("commit %.12s, tree %.12s", p.Commit, p.Tree)
	if p.Changes != nil {
		out = append(out, "asks for "+needed(p.Requirements))
		line += ", " + differ(p.Changes.Files, "file")
	}
	out = append(out, line)
	if p.Hash != "" {
		out = append(out, fmt.Sprintf("plan %s, which an approval names: refit approve --to %s --plan %s", p.Hash, p.To, p.Hash))
	}
	return out
}

// undo says which migrations there are, and whether there is a way back after them. What
// a fleet's database lacks counts where there is a fleet.
func (p planJSON) undo() string {
	var pre, post []string
	var rewritten string
	if p.Changes != nil {
		pre, post, rewritten = p.Changes.Migrations.Pre, p.Changes.Migrations.Post, kept(p.Changes.Migrations.Risky)
	}
	if p.Pending != nil {
		pre, post = p.Pending.Pre, p.Pending.Post
	}
	switch {
	case len(pre)+len(post) == 0:
		return "no migration: it can be undone at any time"
	case len(post) == 0:
		return fmt.Sprintf("%s while %s serves, none after: it can be undone at any time%s", count(len(pre), "migration"), p.From, rewritten)
	}
	return fmt.Sprintf("%s while %s serves, then %s after which it cannot be undone: %s",
		count(len(pre), "migration"), p.From, count(len(post), "migration"), strings.Join(short(post), ", "))
}

// why says which tier goes first, and why.
func (p planJSON) why() string {
	var jobs builds.JobChanges
	if p.Changes != nil {
		jobs = p.Changes.Jobs
	}
	switch {
	case p.Changes == nil:
		return p.Order + " goes first"
	case len(jobs.Added) > 0:
		return fmt.Sprintf("Sidekiq goes first: it must know %s before the web queues them", count(len(jobs.Added), "new job class"))
	case len(jobs.Removed) > 0:
		return fmt.Sprintf("the web goes first: nothing may queue %s any more when the last old Sidekiq goes", count(len(jobs.Removed), "removed job class"))
	}
	return "Sidekiq goes first, as upstream has it"
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
	if n := len(c.Migrations.Changed); n > 0 {
		say(count(n, "earlier migration")+" changed in place", "none runs again where it ran")
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
