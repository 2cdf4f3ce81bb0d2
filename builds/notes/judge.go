package notes

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"vmst.io/refit/builds"
)

// Item is one thing that the notes ask for, or tell, with who does it.
type Item struct {
	// Name is stable: "statsd", or for what has no name of its own some words of the
	// text and a part of its hash. It is what --ack takes.
	Name string
	By   By
	// Why is the reason for By.
	Why string
	// Texts are the lines of the notes about it; Commands what they say to run.
	Texts    []string
	Commands []string
}

// Judge sorts what the notes ask for into what refit does, what an admin must
// acknowledge, and what is only to be known; in the order of the notes, each name once.
// from is the release that the fleet runs, zero if that is not known. Steps for Docker
// are left out: refit runs Mastodon from source. What was not understood is the admin's.
func Judge(n Notes, from builds.Version) []Item { return Way(from, n) }

// Way is Judge for all releases of a way, the oldest first, as upstream wants them read:
// the notes of a release are written for a start from one of a few before it, and hold for
// a start from a later one too. Where they begin above what runs and what was read before
// them, some were skipped.
func Way(from builds.Version, list ...Notes) []Item {
	j := &judge{at: map[string]int{}}
	reached := from
	for _, n := range list {
		j.notes(n)
		above := func(v builds.Version) bool { return v.Compare(reached) > 0 }
		if !from.IsZero() && len(n.From) > 0 && !slices.ContainsFunc(n.From, func(v builds.Version) bool { return !above(v) }) {
			least := slices.MinFunc(n.From, builds.Version.Compare)
			j.add("skipped-notes", Admin, "notes between were not read, and may ask for more: read them",
				fmt.Sprintf("the notes of %s are for an upgrade from %s, and those from %s to there were not read", n.named(), least, reached), "")
		}
		if above(n.Version) {
			reached = n.Version
		}
	}
	return j.items
}

// named is the release that notes are of, in words where they name none.
func (n Notes) named() string {
	if n.Version.IsZero() {
		return "a release that they do not name"
	}
	return n.Version.String()
}

func (j *judge) notes(n Notes) {
	for _, f := range n.Flags {
		j.text(f)
	}
	for _, w := range n.Warnings {
		j.text(w)
	}
	for _, s := range n.Steps {
		if s.Target != Docker {
			j.step(s)
		}
	}
	for _, u := range n.Unknown {
		j.add(nameFor(u), Admin, "it was not understood: read it in the notes", u, "")
	}
}

type judge struct {
	items []Item
	at    map[string]int
}

// add gathers what has one name. An admin's part in it is not lost beside refit's.
func (j *judge) add(name string, by By, why, text, command string) {
	i, ok := j.at[name]
	if !ok {
		i, j.at[name] = len(j.items), len(j.items)
		j.items = append(j.items, Item{Name: name, By: by, Why: why})
	}
	it := &j.items[i]
	if by == Admin && it.By != Admin {
		it.By, it.Why = by, why
	}
	if text != "" && !slices.Contains(it.Texts, text) {
		it.Texts = append(it.Texts, text)
	}
	if command != "" && !slices.Contains(it.Commands, command) {
		it.Commands = append(it.Commands, command)
	}
}

func (j *judge) text(s string) {
	switch w := subject(s); {
	case w != nil && w.by == Nobody && !w.tells(s):
		j.add(w.name, Admin, "it says more than that, and may ask for something: read it", s, "")
		return
	case w != nil:
		j.add(w.name, w.by, w.why, s, "")
		return
	}
	j.add(nameFor(s), Admin, "refit has no part in it: see whether it touches you", s, "")
}

func (j *judge) step(s Step) {
	if d := deedOf(s); d != nil {
		j.add(d.name, d.by, d.why, s.Text, s.Command)
		return
	}
	if w := subject(s.Text); w != nil && s.Command == "" {
		// A step of a known subject is still a thing to do.
		j.add(w.name, Admin, w.why, s.Text, "")
		return
	}
	j.add(nameFor(s.Text), Admin, "refit does not do it", s.Text, s.Command)
}

var (
	letters = regexp.MustCompile(`[\p{L}\p{N}]+`)
	simple  = regexp.MustCompile(`^[a-z0-9]+$`)
)

// nameFor names a text that the vocabulary lacks. The name is the same as long as the
// words are, whatever stands between them.
func nameFor(text string) string {
	words := letters.FindAllString(strings.ToLower(text), -1)
	sum := sha256.Sum256([]byte(strings.Join(words, " ")))
	var name []string
	for _, w := range words {
		if simple.MatchString(w) && len(name) < 4 {
			name = append(name, w[:min(len(w), 16)])
		}
	}
	return strings.Join(append(name, hex.EncodeToString(sum[:4])), "-")
}
