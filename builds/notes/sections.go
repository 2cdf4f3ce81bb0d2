package notes

import (
	"regexp"
	"strings"
)

// section is where in the notes a block stands.
type section int

const (
	preface section = iota
	overview
	changelog
	upgradeNotes
	dependencies
	updateSteps
	topic   // of the upgrade notes, under a heading that the vocabulary knows or not
	strange // a heading outside the upgrade notes that is not known
)

// instructs tells whether a section's every sentence is there to be heeded, so that
// one that is not understood is handed on. Elsewhere only what sounds like an
// instruction is.
func (s section) instructs() bool {
	return s == upgradeNotes || s == dependencies || s == updateSteps || s == topic
}

// titles are the headings of upstream's notes, 3.0 to 4.7, as titled writes them.
var titles = map[string]section{
	"upgrade overview": overview, "changelog": changelog,
	"upgrade notes": upgradeNotes, "upgrade instructions": upgradeNotes,
	"dependencies": dependencies,
	"update steps": updateSteps, "upgrade steps": updateSteps,
}

// entries are the headings inside the changelog.
var entries = map[string]bool{
	"security": true, "added": true, "changed": true, "deprecated": true, "removed": true, "fixed": true, "fixes": true,
}

// targets are the headings of the update steps.
var targets = map[string]Target{
	"non-docker": NonDocker, "non docker": NonDocker, "without docker": NonDocker, "not using docker": NonDocker, "from source": NonDocker,
	"docker": Docker, "using docker": Docker, "when using docker": Docker, "with docker": Docker,
	"both docker and non-docker": Both, "docker and non-docker": Both, "both non-docker and docker": Both,
}

// ofChangelog is a changelog's heading, which may name its release: notes that
// gather several releases have one for each.
var ofChangelog = regexp.MustCompile(`^changelog(?: \(?v?\d[\w.-]*\)?)?$`)

// titled is a heading as the tables have it.
func titled(s string) string {
	s = strings.ToLower(strings.Join(strings.Fields(strings.TrimLeft(s, "#*ℹ⚠\ufe0f ")), " "))
	s = strings.TrimRight(s, ":. ")
	return strings.TrimSuffix(s, " only")
}

// turn follows a heading, also one that is only bold; it tells whether it is one of
// upstream's.
func (r *reader) turn(text string) bool {
	t := titled(text)
	if to, ok := targets[t]; ok {
		r.in, r.target, r.restarted = updateSteps, to, false
		return true
	}
	if r.in == changelog && entries[t] {
		r.entry = t
		return true
	}
	to, ok := titles[t]
	if ofChangelog.MatchString(t) {
		to, ok = changelog, true
	}
	if ok {
		r.in, r.entry, r.heading, r.target, r.restarted = to, "", "", Both, false
	}
	return ok
}

// away follows a heading that is none of upstream's.
func (r *reader) away(text string) {
	known := subject(text) != nil
	r.heading, r.target, r.restarted = text, Both, false
	if !r.in.instructs() {
		r.in = strange
		r.unknown(text)
		return
	}
	r.in = topic
	if r.known = known; !known {
		r.unknown(text)
	}
}
