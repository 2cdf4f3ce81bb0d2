package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/notes"
	"vmst.io/refit/builds/upstream"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

// way is what upstream's source and notes say of the way from one release to another.
type way struct {
	// understood is what the two sources mean; nil where they could not be read.
	understood *builds.Understanding
	// read are the notes of the releases on the way, the oldest first.
	read []notes.Notes
	// items are what they ask for.
	items []notes.Item
	// advisories are the ids that they name.
	advisories []string
	// differences are where notes and source do not say the same.
	differences []string
	// said is to be known.
	said []string
	// published is when the target was published, since when the oldest release on the way
	// was; zero where that is not known.
	published, since time.Time
	// post are migrations after which there is no way back, by name.
	post []string
}

func ackFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "ack", Usage: "acknowledge the `NAME` of something that the release notes leave to you; may be given again"}
}

// readWay reads what upstream says. What cannot be read is to be acknowledged.
func (x *session) readWay(ctx context.Context, from, to builds.Version, say pipeline.Say) way {
	var w way
	u, err := upstream.Reader{Say: say}.Understand(ctx, x.source, from, to)
	if err == nil {
		w.understood = &u
		w.post = u.Changes.Migrations.Post
	}
	f := x.config.wayNotes(ctx, from, to)
	if f.said != "" {
		w.said = append(w.said, f.said)
	}
	w.published, w.since = f.published, f.since
	w.judge(from, f.read, f.unread)
	if err != nil {
		w.lacks(sourceUnread, "what the release changes could not be read from its source, so nobody knows of risky migrations: compare the two releases yourself", err.Error())
	}
	return w
}

// lacks makes what could not be read something to acknowledge.
func (w *way) lacks(name, why string, reasons ...string) {
	w.items = append(w.items, notes.Item{Name: name, By: notes.Admin, Why: why, Texts: reasons})
}

// drops makes an item of each environment name that the target reads no more, with the
// nodes that set it: what it switched is gone, whatever the notes say.
func (w *way) drops(to builds.Version, names map[string][]string) {
	for _, name := range slices.Sorted(maps.Keys(names)) {
		w.items = append(w.items, notes.Item{
			Name: "env-" + strings.ToLower(strings.ReplaceAll(name, "_", "-")), By: notes.Admin,
			Why: fmt.Sprintf("%s does not read %s any more, which %s set: see what took its place", to, name, strings.Join(names[name], ", ")),
		})
	}
}

// readFolder reads the notes of a folder; known are the releases that there are, of which
// each on the way should have some.
func (w *way) readFolder(dir string, from, to builds.Version, known []builds.Version) error {
	bodies, err := readFolder(dir, from, to)
	if err != nil {
		return err
	}
	read, unread := parseAll(bodies)
	var missing []string
	for _, v := range append([]builds.Version{to}, known...) {
		if _, ok := bodies[v.String()]; !ok && upstream.OnTheWay(v, from, to) && !slices.Contains(missing, v.String()) {
			missing = append(missing, v.String())
		}
	}
	if len(missing) > 0 {
		unread = append(unread, fmt.Sprintf("%s has none of %s", dir, strings.Join(missing, ", ")))
	}
	w.judge(from, read, unread)
	return nil
}

// judge says what the notes ask for, and holds them against the source.
func (w *way) judge(from builds.Version, read []notes.Notes, unread []string) {
	w.read, w.items = read, notes.Way(from, read...)
	if len(unread) > 0 {
		w.lacks(notesUnread, "release notes could not be read: read them yourself", unread...)
	}
	for _, n := range read {
		for _, a := range n.Advisories {
			if !slices.Contains(w.advisories, a.ID) {
				w.advisories = append(w.advisories, a.ID)
			}
		}
	}
	if w.understood != nil && len(read) > 0 {
		w.differences = notes.Against(read, *w.understood)
	}
}

// fleet replaces what the source says of migrations by what the database lacks.
func (w *way) fleet(f *stages.Facts) { w.post = migrationNames(f.Post) }

// left are the items that a person has to acknowledge.
func (w way) left() []notes.Item {
	return slices.DeleteFunc(slices.Clone(w.items), func(it notes.Item) bool { return it.By != notes.Admin })
}

// names are those of what is left, sorted.
func (w way) names() []string {
	out := []string{}
	for _, it := range w.left() {
		out = append(out, it.Name)
	}
	slices.Sort(out)
	return out
}

// asks are what is left, for people: the name for --ack, the reason, the first words of
// the notes and every command.
func (w way) asks() []string {
	var out []string
	for _, it := range w.left() {
		text := it.Name + ": " + it.Why
		if len(it.Texts) > 0 {
			text += " (" + cut(strings.ReplaceAll(it.Texts[0], "\n", " "), 120)
			if more := len(it.Texts) - 1; more > 0 {
				text += fmt.Sprintf("; %d more", more)
			}
			text += ")"
		}
		for _, c := range it.Commands {
			text += "\n    $ " + c
		}
		out = append(out, text)
	}
	return out
}

// asked are what is left as a plan's hash has it: who acknowledged it has read these
// words. Why something could not be read is no part of it: that is another at each look.
func (w way) asked() [][]string {
	out := [][]string{}
	for _, it := range w.left() {
		one := []string{it.Name}
		if it.Name != notesUnread && it.Name != sourceUnread && it.Name != templatesUnread {
			one = slices.Concat(one, it.Texts, it.Commands)
		}
		out = append(out, one)
	}
	slices.SortFunc(out, slices.Compare)
	return out
}

// unacknowledged are what stands against a plan whose items nobody has acknowledged, and
// names that were acknowledged and are none: a slip of the finger must not pass.
func (w way) unacknowledged(acks []string) []string {
	var open, out []string
	for _, name := range w.names() {
		if !slices.Contains(acks, name) {
			open = append(open, name)
		}
	}
	if len(open) > 0 {
		out = append(out, fmt.Sprintf("nobody has acknowledged %s; once you have seen to it, add --ack %s", strings.Join(open, ", "), strings.Join(open, " --ack ")))
	}
	for _, name := range acks {
		if !slices.Contains(w.names(), name) {
			out = append(out, fmt.Sprintf("--ack %s acknowledges nothing that this way asks for (it asks for: %s)", name, orNothing(w.names())))
		}
	}
	return out
}

func orNothing(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

// doubts are why a run must not begin by itself.
func (w way) doubts() []string {
	var out []string
	for _, it := range w.left() {
		out = append(out, it.Name+": "+it.Why)
	}
	for _, n := range w.read {
		for _, line := range n.Warnings {
			out = append(out, fmt.Sprintf("the notes of %s warn: %s", n.Version, cut(line, 160)))
		}
	}
	for _, name := range w.post {
		out = append(out, "post-migration "+name+": there is no way back after it")
	}
	for _, line := range risky(w.changes().Migrations.Risky) {
		out = append(out, "migration "+line)
	}
	return out
}

// minimums are what the code asks for, and of what no code checks what the newest notes do.
func (w way) minimums() map[string]builds.Minimum {
	out := map[string]builds.Minimum{}
	if len(w.read) > 0 {
		for _, d := range w.read[len(w.read)-1].Dependencies {
			if !d.Optional {
				out[strings.ToLower(d.Name)] = builds.Minimum{Min: d.Min, By: "the release notes"}
			}
		}
	}
	if w.understood != nil {
		maps.Copy(out, w.understood.Requirements)
	}
	return out
}

// changes are what the source says, nothing where it could not be read.
func (w way) changes() builds.Changes {
	if w.understood == nil {
		return builds.Changes{}
	}
	return w.understood.Changes
}

// flags are the overview's lines of all notes on the way.
func (w way) flags() []string {
	seen := map[string]bool{}
	for _, n := range w.read {
		for _, f := range n.Flags {
			seen[f] = true
		}
	}
	return append([]string{}, slices.Sorted(maps.Keys(seen))...)
}
