// Package notes reads the notes of a Mastodon release, the markdown body of its
// page on GitHub, and says what they ask for. It claims only what stands there:
// what looks like an instruction or a heading and was not understood is handed on
// as such, for a person to read.
//
// Notes are written by hand, for the step from the patch before, and are wrong at
// times; the trees of the two releases are the better witness (package builds). So
// what is read here is shown beside them, and compared with them.
package notes

import (
	"errors"
	"fmt"

	"vmst.io/refit/builds"
)

// Schema names the JSON form of Notes.
const Schema = "refit.notes/v1"

// Notes is what the notes of one release say. No slice is nil, so that in JSON
// an array is never null.
type Notes struct {
	// Version is the release that the notes tell to check out; zero if they name none.
	Version builds.Version `json:"version"`
	// Flags are the lines of "Upgrade overview", as upstream words them, without their
	// sign. Those with a warning sign stand in Warnings too.
	Flags []string `json:"flags"`
	// Advisories are the GHSA and CVE ids named, in order, each once. One flaw may have
	// an id of each kind.
	Advisories []Advisory `json:"advisories"`
	// Dependencies are the lines of "Dependencies", which upstream always lists in full.
	Dependencies []Dependency `json:"dependencies"`
	// Warnings are what a person should know before: marked lines, alerts, topics of
	// the upgrade notes, what the changelog calls breaking or drops that admins use.
	Warnings []string `json:"warnings"`
	// Steps are what is to be done, one entry a command, in upstream's order.
	Steps []Step `json:"steps"`
	// From are the releases for which the steps were written; for others they are too few.
	From []builds.Version `json:"from"`
	// Unknown is what looks like an instruction or a heading and was not understood.
	Unknown []string `json:"unknown"`
}

// Advisory is a security advisory that the notes name.
type Advisory struct {
	// ID is "GHSA-xxxx-xxxx-xxxx" or "CVE-YYYY-NNNN".
	ID string `json:"id"`
	// Severity is upstream's word in lower case ("critical", "major"); empty where the
	// notes give none, which is the rule.
	Severity string `json:"severity"`
}

// Dependency is a program that the release needs.
type Dependency struct {
	// Name is as upstream writes it: "PostgreSQL", "Node", "FFMpeg".
	Name string `json:"name"`
	// Min is the least version, as written: "14", "8.13", "6.9.7-7"; "7.x" is any of
	// that major. An upper bound beside it is in Warnings.
	Min string `json:"min"`
	// Optional: the line says in brackets that one may do without, or with another.
	Optional bool `json:"-"`
}

// Phase is when a step is done, seen from the restart onto the new code.
type Phase string

// The phases.
const (
	Before Phase = "before" // the old code serves
	During Phase = "during" // processes change to the new code
	After  Phase = "after"  // the new code serves
)

// Target is whom a step is for.
type Target string

// The targets. refit runs Mastodon from source: what is for Docker is not for it.
const (
	NonDocker Target = "non-docker"
	Docker    Target = "docker"
	Both      Target = "both"
)

// Step is one thing to do.
type Step struct {
	Phase  Phase  `json:"phase"`
	Target Target `json:"target"`
	// Text is the line of the notes as a reader sees it. A line that names two commands
	// gives two steps.
	Text string `json:"text"`
	// Command is as it stands in the notes; empty where they give none.
	Command string `json:"command"`
}

// Parse reads a release's body. An error, which wraps ErrUnreadable, means that it
// is no text of that kind at all; whatever else it holds, what was not understood is
// in Unknown.
func Parse(body []byte) (Notes, error) {
	src, whole, err := clean(body)
	if err != nil {
		return Notes{}, err
	}
	r := newReader(src, whole)
	for _, b := range blocks(src) {
		r.block(b)
	}
	return r.end(), nil
}

// ErrOther tells that notes are not those of the release for which they were given.
var ErrOther = errors.New("the notes of another release")

// ParseOf is Parse for the body of the release that is named. Notes that tell to check
// out another one are refused with ErrOther.
func ParseOf(v builds.Version, body []byte) (Notes, error) {
	n, err := Parse(body)
	switch {
	case err != nil:
		return n, err
	case !n.Version.IsZero() && n.Version.Compare(v) != 0:
		return Notes{}, fmt.Errorf("%w: they tell to check out %s", ErrOther, n.Version)
	}
	n.Version = v
	return n, nil
}
