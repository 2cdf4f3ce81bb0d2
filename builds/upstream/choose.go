package upstream

import (
	"slices"
	"time"

	"vmst.io/refit/builds"
)

// Line is what of upstream's releases a fleet follows.
type Line struct {
	// Stay is the minor series, "4.6", that the fleet does not leave; empty to follow
	// upstream from one series to the next.
	Stay string
	// Early: pre-releases count too.
	Early bool
}

// Candidate is a release that the fleet could run next.
type Candidate struct {
	Published
	// Over are the releases of its series between the one that runs and it, the newest
	// first: what it brings is theirs too.
	Over []Published
	// Since is when the oldest of them and itself was published: from then on the fleet
	// has been behind.
	Since time.Time
}

// Choose picks by version, never by date: the newest release of the series that runs,
// and, unless the fleet stays, the newest of the next series that there is. Of
// pre-releases, where they count, the newest that is above both. Upstream releases
// several series on one day, and what it calls the latest may be an old one.
func Choose(all []Published, running builds.Version, line Line) []Candidate {
	var newer []Published
	for _, p := range all {
		if !p.Version.IsZero() && p.Version.Compare(running) > 0 && (line.Stay == "" || !beyond(p.Version, line.Stay)) && (line.Early || !p.Early()) {
			newer = append(newer, p)
		}
	}
	slices.SortFunc(newer, func(a, b Published) int { return b.Version.Compare(a.Version) })
	early := func(p Published) bool { return p.Early() }
	stable := slices.DeleteFunc(slices.Clone(newer), early)
	var out []Candidate
	if c, ok := newestOf(stable, running.Line()); ok {
		out = append(out, c)
	}
	if next := nextLine(stable, running); next != "" {
		if c, ok := newestOf(stable, next); ok {
			out = append(out, c)
		}
	}
	if i := slices.IndexFunc(newer, early); i >= 0 {
		p := newer[i]
		if !slices.ContainsFunc(out, func(c Candidate) bool { return c.Version.Compare(p.Version) > 0 }) {
			out = append(out, Candidate{Published: p, Since: p.Release.Published})
		}
	}
	return out
}

// OnTheWay tells whether a release's notes speak of the way from one release to another:
// it stands above the first, is not above the second, and is of the second's series.
// What an older series got meanwhile is in the newer one as well.
func OnTheWay(v, from, to builds.Version) bool {
	early := v.Prerelease() && v.Compare(to) != 0
	return !early && v.Compare(from) > 0 && v.Compare(to) <= 0 && v.SameLine(to)
}

// beyond tells whether a version is of a later series than the one named.
func beyond(v builds.Version, stay string) bool {
	last, err := builds.ParseVersion(stay + ".0")
	return err == nil && !v.SameLine(last) && v.Compare(last) > 0
}

// newestOf is the newest release of a series, over the older ones of it. list is sorted.
func newestOf(list []Published, line string) (Candidate, bool) {
	var c Candidate
	for _, p := range list {
		switch {
		case p.Version.Line() != line:
			continue
		case c.Version.IsZero():
			c = Candidate{Published: p, Since: p.Release.Published}
			continue
		}
		c.Over = append(c.Over, p)
		if p.Release.Published.Before(c.Since) {
			c.Since = p.Release.Published
		}
	}
	return c, !c.Version.IsZero()
}

// nextLine is the first series above the running one that has a release. list is sorted.
func nextLine(list []Published, running builds.Version) string {
	for _, p := range slices.Backward(list) {
		if !p.Version.SameLine(running) {
			return p.Version.Line()
		}
	}
	return ""
}
