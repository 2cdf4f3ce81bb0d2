package notes

import (
	"regexp"
	"slices"
	"strings"

	"vmst.io/refit/builds"
)

var (
	backup = regexp.MustCompile(`(?i)\bmake sure you have backups\b`)
	// variant begins a step's line for one of the targets, in notes of 3.x.
	variant = regexp.MustCompile(`(?i)^(non-docker|docker)\s*:\s*`)
	// without and with say whom the text and the steps after it are for.
	without    = regexp.MustCompile(`(?i)\bunless you(?: are|'re|’re) using docker\b`)
	with       = regexp.MustCompile(`(?i)^if you(?: are|'re|’re) using docker\b`)
	sourceOnly = regexp.MustCompile(`(?i)\bnot using (?:our |the )?docker\b`)
	// later are words for the time after the restart.
	later = regexp.MustCompile(`(?i)\bpost-deployment\b|\b(?:after|once) (?:the |your )?(?:restart|upgrade|update|new (?:code|version))|\bnow that the new code\b`)
)

// item reads a point of a list of steps.
func (r *reader) item(it block) {
	var own, codes []string
	var inside []block
	for _, k := range it.kids {
		if k.kind == paragraph || k.kind == html || k.kind == heading {
			own, codes = append(own, k.text), append(codes, k.codes...)
			continue
		}
		inside = append(inside, k)
	}
	text := flat(strings.Join(own, " "))
	if r.variants(text, inside) {
		return
	}
	for _, k := range inside {
		if k.kind == code {
			codes = append(codes, joined(r.ended(k))...)
		}
	}
	if text != "" {
		r.step(text, codes, r.target)
	}
	for _, k := range inside {
		switch {
		case k.kind == quote:
			r.quote(k)
		case k.kind == list:
			for _, sub := range k.kids {
				r.step(under(text, flat(seenOf(sub))), r.codesOf(sub), r.target)
			}
		case text == "":
			r.step(flat(k.text), joined(r.ended(k)), r.target)
		}
	}
}

// variants reads a step that is told once for each target. It tells whether it was one.
func (r *reader) variants(text string, inside []block) bool {
	if len(inside) != 1 || inside[0].kind != list {
		return false
	}
	if !slices.ContainsFunc(inside[0].kids, func(sub block) bool { return variant.MatchString(seenOf(sub)) }) {
		return false
	}
	before, after := r.restarted, r.restarted
	for _, sub := range inside[0].kids {
		line, to := flat(seenOf(sub)), r.target
		if mark := variant.FindStringSubmatch(line); mark != nil {
			line, to = strings.TrimPrefix(line, mark[0]), Target(strings.ToLower(mark[1]))
		} else {
			r.unknown(line)
		}
		r.restarted = before
		r.step(under(text, line), r.codesOf(sub), to)
		after = after || r.restarted
	}
	r.restarted = after
	return true
}

func under(text, sub string) string {
	if text == "" {
		return sub
	}
	return strings.TrimSuffix(text, ":") + ": " + sub
}

// step adds a step, one for each of its commands.
func (r *reader) step(text string, codes []string, to Target) {
	found := r.commands(text, codes)
	if len(found) == 0 {
		found = []string{""}
	}
	was, word := r.restarted, subject(text)
	for _, c := range found {
		s := Step{phaseOf(text, was), to, text, c}
		if restarts(s) {
			r.restarted = true
			if !was {
				s.Phase = During
			}
		}
		r.n.Steps = append(r.n.Steps, s)
		if to != Docker && word == nil && deedOf(s) == nil {
			r.unknown(text)
		}
	}
}

// commands are those of a text, but of one that names more than a text does, which is
// not understood. Each makes a step with the whole text.
func (r *reader) commands(text string, codes []string) []string {
	found := commands(codes)
	if len(found) > mostCommands {
		r.unknown(text)
		found = found[:mostCommands]
	}
	return found
}

// mostCommands is beyond what any line of the notes names: upstream's have two.
const mostCommands = 20

func phaseOf(text string, restarted bool) Phase {
	if restarted || later.MatchString(text) {
		return After
	}
	return Before
}

// backup reads upstream's standing advice; the command beside it is for Docker.
func (r *reader) backup(text string, codes []string) {
	for _, s := range split(flat(text)) {
		switch {
		case backup.MatchString(s):
			r.n.Steps = append(r.n.Steps, Step{Before, Both, s, ""})
		case dockerBackup.MatchString(s):
			r.n.Steps = append(r.n.Steps, Step{Before, Docker, s, first(commands(codes))})
		case !r.standing(s):
			r.unknown(s)
		}
	}
}

var dockerBackup = regexp.MustCompile(`^If you are using docker-compose, this is how a backup command might look\b`)

// Upstream's standing sentences. They are matched whole, so that what is written
// behind one of them is not taken for it.
var (
	checkout = regexp.MustCompile(`^To get the code for (v\S+), use (git fetch && git checkout (v\S+?))\.?$`)
	getting  = regexp.MustCompile(`^To get the code for (v\S+?),? `)
	fetched  = regexp.MustCompile(`^git fetch && git checkout (v\S+)$`)
	origin   = regexp.MustCompile(`^The following instructions are for updating from (.+)\.$`)
	release  = regexp.MustCompile(`^v?(\d+\.\d+\.\d+(?:-?(?:alpha|beta|rc)\.?\d+)?)$`)
	between  = regexp.MustCompile(`,? (?:or|and) |, `)
	empty    = []*regexp.Regexp{
		regexp.MustCompile(`^This release contains upgrade notes that deviate from the norm[:.]?$`),
		regexp.MustCompile(`^For more information, (?:view the complete release notes and )?scroll down to the upgrade instructions section\.?$`),
		regexp.MustCompile(`^If you are upgrading directly from an earlier release, please carefully read the upgrade notes for the skipped releases as well, as they often require extra steps such as database migrations\.?$`),
		regexp.MustCompile(`^In particular, (?:it is very important to|please) read the v?[\d.]+ release notes(?:, as there have been multiple important changes)?\.?$`),
		regexp.MustCompile(`^External dependencies have not changed (?:since|compared to) v?[\w.-]+?(?:, the compatible [\w ,.]+ versions are the same, that is)?[.:]?$`),
		regexp.MustCompile(`^Check out the v?[\w.-]+ release notes for information\.?$`),
		regexp.MustCompile(`^This is a \w+ release for the v?[\d.]+ version, if you(?:'re|’re| are) installing from an earlier version, please check the v?[\d.]+ release notes as they contain important information on how to update\.?$`),
		regexp.MustCompile(`^For the recently released v?[\w.-]+, see v?[\w.-]+ release notes for information\.?$`),
		regexp.MustCompile(`^To get an overview of what this release brings, check out our announcement blog post\.?$`),
		regexp.MustCompile(`(?i)^full (?:changelog|release notes)(?:: \S+)?$`),
	}
)

// standing tells whether a sentence is of upstream's standing wording, and notes what
// it says of this release.
func (r *reader) standing(s string) bool {
	if len(s) > longest {
		return false
	}
	if m := checkout.FindStringSubmatch(s); m != nil {
		return r.tag(s, m)
	}
	if m := origin.FindStringSubmatch(s); m != nil {
		return r.origins(m[1])
	}
	for _, e := range empty {
		if e.MatchString(s) {
			return true
		}
	}
	return false
}

// tag notes the release; notes that name two are wrong in one of them.
func (r *reader) tag(s string, m []string) bool {
	v, err := builds.ParseVersion(m[1])
	if err != nil || m[1] != m[3] || (!r.n.Version.IsZero() && r.n.Version.Compare(v) != 0) {
		return false
	}
	if r.n.Version.IsZero() {
		r.n.Version = v
		r.n.Steps = append(r.n.Steps, Step{Before, Both, s, m[2]})
	}
	return true
}

// tagged notes the release of a sentence that has upstream's start, but was changed.
// The sentence stays for a person.
func (r *reader) tagged(s string, codes []string) {
	m := getting.FindStringSubmatch(s)
	for _, c := range commands(codes) {
		if f := fetched.FindStringSubmatch(c); m != nil && f != nil && f[1] == m[1] && r.n.Version.IsZero() {
			if v, err := builds.ParseVersion(m[1]); err == nil {
				r.n.Version = v
			}
		}
	}
}

// origins notes the releases from which the steps lead here, all or none.
func (r *reader) origins(text string) bool {
	var from []builds.Version
	for _, s := range between.Split(text, -1) {
		m := release.FindStringSubmatch(s)
		if m == nil {
			return false
		}
		v, err := builds.ParseVersion(m[1])
		if err != nil {
			return false
		}
		from = append(from, v)
	}
	for _, v := range from {
		if !r.had["from "+v.String()] {
			r.had["from "+v.String()] = true
			r.n.From = append(r.n.From, v)
		}
	}
	return true
}
