package notes

import (
	"regexp"
	"slices"
	"strings"

	"vmst.io/refit/builds"
)

// reader goes over a body's blocks, once and in order.
type reader struct {
	n     Notes
	ids   map[string]bool // the ids that stand in the source
	named map[string]int  // where in n.Advisories an id stands
	had   map[string]bool // what the lists of n have
	cut   bool            // the last line has no end
	tail  string          // the last line
	in    section
	entry string // in the changelog: "security", "removed"
	// heading is a topic's; known tells that the vocabulary has it.
	heading string
	known   bool
	// target is whom the steps that follow are for; restarted that they come after
	// the restart.
	target    Target
	restarted bool
}

func newReader(src []byte, whole bool) *reader {
	lines := strings.Split(string(src), "\n")
	return &reader{
		tail: strings.TrimSpace(lines[len(lines)-1]), ids: idsOf(src, whole), named: map[string]int{}, had: map[string]bool{}, cut: !whole, target: Both,
		n: Notes{
			Flags: []string{}, Advisories: []Advisory{}, Dependencies: []Dependency{}, Warnings: []string{},
			Steps: []Step{}, From: []builds.Version{}, Unknown: []string{},
		},
	}
}

// end is what was read. Notes without steps are a fragment, and a fragment must not
// pass for notes that ask for nothing.
func (r *reader) end() Notes {
	if !slices.ContainsFunc(r.n.Steps, restarts) {
		r.unknown(NoSteps)
	}
	return r.n
}

// NoSteps stands in Unknown where the notes name no restart, which every release
// needs: they may be cut short, or be something else.
const NoSteps = "no update steps were found: the notes may be cut short"

func (r *reader) unknown(text string) { r.n.Unknown = r.add("unknown", r.n.Unknown, flat(text)) }

func (r *reader) warn(text string) {
	text = flat(text)
	if r.in == topic && r.heading != "" && r.known {
		text = r.heading + ": " + text
	}
	r.n.Warnings = r.add("warning", r.n.Warnings, text)
}

// add appends to the list named what is not empty and not there yet.
func (r *reader) add(name string, list []string, s string) []string {
	if s == "" || r.had[name+" "+s] {
		return list
	}
	r.had[name+" "+s] = true
	return append(list, s)
}

// flat is a text on one line.
func flat(s string) string { return strings.ReplaceAll(s, "\n", " ") }

// block reads a block of the top level.
func (r *reader) block(b block) {
	r.advisories(b)
	switch {
	case b.kind == heading:
		if !r.turn(b.text) {
			r.away(b.text)
		}
		return
	case b.strong && r.turn(b.text):
		return
	}
	switch r.in {
	case overview:
		r.overview(b)
	case changelog:
		r.changelog(b)
	default:
		r.prose(b)
	}
}

// alert is the first line of an alert of GitHub's.
var alert = regexp.MustCompile(`^\[!(NOTE|TIP|IMPORTANT|WARNING|CAUTION)\]\s*`)

// prose reads a block where text, quotes and lists stand.
func (r *reader) prose(b block) {
	switch b.kind {
	case quote:
		r.quote(b)
	case list:
		r.list(b)
	case code:
		r.listing(b)
	default:
		r.text(b)
	}
}

// quote reads a quote, which in older notes is what an alert is in newer ones.
func (r *reader) quote(b block) {
	text := seenOf(b)
	mark := alert.FindStringSubmatch(text)
	text = strings.TrimPrefix(text, first(mark))
	loud := len(mark) > 1 && mark[1] != "NOTE" && mark[1] != "TIP"
	switch {
	case backup.MatchString(text):
		r.backup(text, r.codesOf(b))
	case loud || warns(text):
		r.warn(unsigned(text))
	default:
		// What stands apart is there to be read, wherever it is.
		r.sentences(text, r.codesOf(b), true)
	}
	for _, k := range b.kids {
		if k.kind == list && !loud && !warns(text) {
			r.list(k)
		}
	}
}

// text reads a paragraph.
func (r *reader) text(b block) {
	switch {
	case backup.MatchString(b.text):
		r.backup(b.text, b.codes)
	case r.in == updateSteps && marked(b.text):
		// A paragraph of its own between the steps, with a sign, is a step without a number.
		r.step(unsigned(b.text), b.codes, r.target)
	case warns(b.text):
		r.warn(unsigned(b.text))
	default:
		r.sentences(b.text, b.codes, r.in.instructs())
	}
}

// sentences reads text sentence by sentence: what is upstream's standing wording says
// nothing of this release, or is noted; the rest is for a person. Unless all is told to
// count, or there is a command, only what sounds like an instruction does.
func (r *reader) sentences(text string, codes []string, all bool) {
	switch {
	case without.MatchString(text):
		r.target = NonDocker
	case with.MatchString(text):
		r.target = Docker
	}
	all = all || len(commands(codes)) > 0
	var rest []string
	for _, s := range split(flat(text)) {
		if !r.standing(s) && (all || instructs(s) || announces(s)) {
			rest = append(rest, s)
		}
	}
	if len(rest) == 0 {
		return
	}
	r.tagged(rest[0], codes)
	left := strings.Join(rest, " ")
	word := subject(left)
	for _, c := range r.commands(left, codes) {
		r.n.Steps = append(r.n.Steps, Step{phaseOf(left, r.restarted), r.target, left, c})
	}
	switch {
	case word != nil && word.name == "ffmpeg" && sourceOnly.MatchString(left):
		r.n.Steps = append(r.n.Steps, Step{Before, NonDocker, left, ""})
	case word != nil && word.hint && word.tells(left):
	case word != nil && word.hint:
		r.unknown(left)
	case word != nil, r.in == topic && r.known:
		r.warn(left)
	default:
		r.unknown(left)
	}
}

// listing reads a block of code: commands, or a file's content.
func (r *reader) listing(b block) {
	found := r.commands(b.text, joined(r.ended(b)))
	for _, c := range found {
		r.n.Steps = append(r.n.Steps, Step{phaseOf(b.text, r.restarted), r.target, strings.Join(strings.Fields(b.text), " "), c})
	}
	switch {
	case r.in == topic && r.known:
		r.warn(b.text)
	case r.in.instructs() || len(found) > 0:
		r.unknown(b.text)
	}
}

// ended are the lines of a listing but for one at which the body is cut.
func (r *reader) ended(b block) []string {
	if n := len(b.codes); r.cut && b.last && n > 0 && strings.TrimSpace(b.codes[n-1]) == r.tail {
		return b.codes[:n-1]
	}
	return b.codes
}

// list reads a list: dependencies, steps, or points of a topic.
func (r *reader) list(b block) {
	for _, it := range b.kids {
		switch {
		case r.in == dependencies:
			r.dependency(it)
		case r.in.instructs() && (b.ordered || r.in == updateSteps || len(commands(r.codesOf(it))) > 0):
			r.item(it)
		default:
			r.sentences(seenOf(it), r.codesOf(it), r.in.instructs())
		}
	}
}

func first(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}

// seenOf is a block's whole text.
func seenOf(b block) string {
	if len(b.kids) == 0 {
		return b.text
	}
	var parts []string
	for _, k := range b.kids {
		parts = append(parts, seenOf(k))
	}
	return strings.Join(parts, "\n")
}

// codesOf are the code spans of a block and of all inside it, but for one at which the body is cut.
func (r *reader) codesOf(b block) []string {
	out := slices.Clone(r.ended(b))
	for _, k := range b.kids {
		out = append(out, r.codesOf(k)...)
	}
	return out
}

// split cuts text into sentences: after a full stop, before a capital or a sign that
// may begin one.
func split(s string) []string {
	var out []string
	for {
		i := sentenceEnd.FindStringIndex(s)
		if i == nil {
			return append(out, s)
		}
		out, s = append(out, s[:i[0]+1]), s[i[0]+2:]
	}
}

var sentenceEnd = regexp.MustCompile(`[.!] [A-Z“"(\[]`)
