package notes

import (
	"regexp"
	"slices"
	"strings"
)

const number = `\d+(?:\.\d+)*(?:-\d+)?(?:\.x)?`

var (
	// needs is a line of the list: "Node: 22 or newer", "libvips (optional, …): 8.13 or newer".
	needs   = regexp.MustCompile(`^([A-Za-z][\w .+-]*?)(?: \(([^()]*)\))?: (.+)$`)
	mayLack = regexp.MustCompile(`(?i)^(?:optional|recommended)\b`)
	// atLeast is what a line asks for: "7.0 or newer", "14 or higher", "2.7 to 3.0", ">= 14, < 18", "7.x".
	atLeast = regexp.MustCompile(`^(?:>= ?)?(` + number + `)(?: or (?:newer|higher|later|above|greater))?` +
		`((?: to|, ?<=?| and below) ?` + number + `)?(?: \([^()]*\))?\.?(.*)$`)
)

// dependency reads a line of "Dependencies". What it says beyond a least version, an
// upper bound or releases that do not work, is a warning.
func (r *reader) dependency(b block) {
	line := flat(seenOf(b))
	m := needs.FindStringSubmatch(line)
	var v []string
	if m != nil {
		v = atLeast.FindStringSubmatch(m[3])
	}
	// The end of a body that is cut may be half a number.
	if v == nil || (b.last && r.cut) || len(b.kids) > 1 || (v[3] != "" && !strings.HasPrefix(v[3], " ")) {
		r.unknown(line)
		return
	}
	d := Dependency{Name: m[1], Min: v[1], Optional: mayLack.MatchString(m[2])}
	i := slices.IndexFunc(r.n.Dependencies, func(o Dependency) bool { return o.Name == d.Name })
	switch {
	case i < 0 && len(r.n.Dependencies) < mostDependencies:
		r.n.Dependencies = append(r.n.Dependencies, d)
	case i < 0 || r.n.Dependencies[i] != d:
		r.unknown(line)
		return
	}
	if v[2] != "" || v[3] != "" {
		r.warn(line)
	}
}

// mostDependencies is far beyond what a release needs: upstream names eight.
const mostDependencies = 100
