package builds

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
)

// Verdict is what the rules of the path say of the way from one release to another.
type Verdict struct {
	// Refused says why the way is closed, with the way to go; empty where it is open.
	Refused string
	// Via is the way to go, release by release, the target last: one element where it is open.
	Via []string
	// Said is worth knowing on the way, and stops nobody.
	Said []string
}

// PathOptions are what the rules judge by beside the two releases.
type PathOptions struct {
	// Known are the releases that exist, to name those on the way; may be empty.
	Known []Version
	// Now is the time by which support has ended or has not.
	Now time.Time
}

// line is a minor series.
type line struct{ major, minor uint64 }

func lineOf(v Version) line { return line{v.v.Major(), v.v.Minor()} }

func (l line) String() string { return fmt.Sprintf("%d.%d", l.major, l.minor) }

// Path judges the way from one release to another, which must not be zero:
//
//   - an upgrade goes forward;
//   - it goes through every minor series: "you should deploy at least one release
//     from every MINOR version series" (Mastodon's documentation, admin/upgrading);
//     patches may be left out;
//   - it starts at or above the release from which the next series can be reached
//     without downtime, which is what refit promises.
func Path(from, to Version, o PathOptions) Verdict {
	v := Verdict{Via: []string{to.String()}}
	if to.Compare(from) < 0 {
		return Verdict{Refused: fmt.Sprintf("%s is older than %s, and no upgrade leads back: `refit rollback` goes back one release", to, from)}
	}
	between := linesBetween(from, to, o.Known)
	if len(between) > 0 {
		v.Via = nil
		for _, l := range between {
			v.Via = append(v.Via, newest(l, o.Known))
		}
		v.Via = append(v.Via, to.String())
		v.Refused = fmt.Sprintf("from %s straight to %s skips a minor series, for which Mastodon's migrations are not made: upgrade to the series between first (%s → %s)",
			from, to, from, strings.Join(v.Via, " → "))
		return v
	}
	if lineOf(from) != lineOf(to) {
		if f, ok := floors[lineOf(to)]; ok && from.v.LessThan(semver.MustParse(f.from)) {
			first := newest(lineOf(from), o.Known)
			v.Via = []string{first, to.String()}
			v.Refused = fmt.Sprintf("%s can be reached without downtime from v%s on (%s), and %s comes before: upgrade to %s first", to, f.from, f.why, from, first)
			return v
		}
		v.Said = append(v.Said, crossings[lineOf(to)]...)
	}
	v.Said = append(v.Said, ages(from, to, o)...)
	return v
}

// lastMinors are the last minor series of majors that are closed.
var lastMinors = map[uint64]uint64{1: 6, 2: 9, 3: 5}

// lastAsked is the least last minor series of a major that is not closed yet:
// "Updating to this version will be required for zero-downtime migration to the
// upcoming Mastodon 5.0" (release notes of v4.7.0).
var lastAsked = map[uint64]uint64{4: 7}

// linesBetween are the minor series that lie between two releases.
func linesBetween(from, to Version, known []Version) []line {
	var out []line
	end := lineOf(to)
	for l := lineOf(from); ; {
		if l.minor < lastOf(l.major, end, known) {
			l.minor++
		} else {
			l = line{l.major + 1, 0}
		}
		if l.major > end.major || l.major == end.major && l.minor >= end.minor {
			return out
		}
		out = append(out, l)
	}
}

// lastOf is the last minor series of a major on the way to a series.
func lastOf(major uint64, end line, known []Version) uint64 {
	if last, closed := lastMinors[major]; closed {
		return last
	}
	if major == end.major {
		return end.minor
	}
	last := lastAsked[major]
	for _, k := range known {
		if l := lineOf(k); l.major == major && !k.Prerelease() {
			last = max(last, l.minor)
		}
	}
	return last
}

// newest is the newest release of a series that is known, in words where none is.
func newest(l line, known []Version) string {
	var best Version
	for _, k := range known {
		if lineOf(k) == l && !k.Prerelease() && k.Compare(best) > 0 {
			best = k
		}
	}
	if best.IsZero() {
		return "the newest v" + l.String() + ".x"
	}
	return best.String()
}

// floors are the least releases from which a series is reached without downtime.
var floors = map[line]struct{ from, why string }{
	// CHANGELOG, 4.3.0: sessions are signed by another digest, which 4.2 can read and older releases cannot.
	{4, 3}: {"4.2.0", "older releases cannot read the sessions that 4.3 writes"},
	// CHANGELOG, 4.4.0: "breaks zero-downtime migrations from versions earlier than 4.3.0" (the old OTP secrets go).
	{4, 4}: {"4.3.0", "older releases still read the two-factor secrets that 4.4 takes away"},
	// Release notes of v4.7.0: no downtime "if you are migrating from Mastodon 4.6".
	{4, 7}: {"4.6.0", "its migrations are made for what 4.6 writes"},
	// Release notes of v4.7.0, of the upcoming 5.0.
	{5, 0}: {"4.7.0", "upstream asks for 4.7 first"},
}

// crossings are worth knowing when a series is entered from the one before.
var crossings = map[line][]string{
	// CHANGELOG, 4.3.0; config/initializers/active_record_encryption.rb aborts without them.
	{4, 3}: {"4.3 does not start without three encryption keys (ACTIVE_RECORD_ENCRYPTION_*) in the environment of every node: `bin/rails db:encryption:init` makes them, once; they are never made anew"},
	// config/initializers/deprecations.rb of 4.4.
	{4, 4}: {"4.4 does not start where REDIS_NAMESPACE is set: upstream's redis_namespace_migration comes first"},
	// Release notes of v4.7.0, "Cookies from pre-4.3.0 Mastodon".
	{4, 7}: {"4.7 reads no cookies of 4.2 and older: who has not come by since this site left 4.2 is signed out"},
}

// supportEnds are the days on which upstream's fixes for a series end
// (SECURITY.md of v4.6.5 for 4.4; the project's blog for 4.3; release notes of v4.5.20 for 4.5).
var supportEnds = map[line]time.Time{
	{4, 3}: time.Date(2026, 5, 6, 0, 0, 0, 0, time.UTC),
	{4, 4}: time.Date(2026, 12, 17, 0, 0, 0, 0, time.UTC),
	{4, 5}: time.Date(2027, 2, 20, 0, 0, 0, 0, time.UTC),
}

// oldestKept is the oldest series whose end of support is known; those before have ended.
var oldestKept = line{4, 3}

// SupportEnds is the last day on which upstream mends a release's series; ok is
// false where no end has been named. For series so old that the day is of no
// use any more it is the zero time.
func SupportEnds(v Version) (day time.Time, ok bool) {
	l := lineOf(v)
	if l.major < oldestKept.major || l.major == oldestKept.major && l.minor < oldestKept.minor {
		return time.Time{}, true
	}
	day, ok = supportEnds[l]
	return day, ok
}

// soon is how long before the end of a series' support it is said.
const soon = 60 * 24 * time.Hour

// ages says what is old, ends soon or is not finished yet.
func ages(from, to Version, o PathOptions) []string {
	var out []string
	if to.Prerelease() {
		out = append(out, fmt.Sprintf("%s is a pre-release: upstream says of those that there is no safe way back from them", to))
	}
	if best := newest(lineOf(to), o.Known); best != to.String() && slices.ContainsFunc(o.Known, func(k Version) bool { return k.String() == best && k.Compare(to) > 0 }) {
		out = append(out, fmt.Sprintf("%s is the newest of its series: %s lacks what was mended since", best, to))
	}
	if s := support(to, o.Now, true); s != "" {
		out = append(out, s)
	}
	if s := support(from, o.Now, false); s != "" && lineOf(from) != lineOf(to) {
		out = append(out, s)
	}
	return out
}

// support says that a series' support has ended, or for a target that it will soon.
func support(v Version, now time.Time, target bool) string {
	day, ok := SupportEnds(v)
	ended := ok && !now.Before(day.AddDate(0, 0, 1))
	advice := "leave it soon"
	if target {
		advice = "it is a step on the way, no place to stay"
	}
	switch {
	case ended && day.IsZero():
		return fmt.Sprintf("upstream mends nothing in v%s.x any more: %s", lineOf(v), advice)
	case ended:
		return fmt.Sprintf("upstream has mended nothing in v%s.x since %s: %s", lineOf(v), day.Format(time.DateOnly), advice)
	case ok && target && day.Sub(now) < soon:
		return fmt.Sprintf("upstream mends v%s.x until %s", lineOf(v), day.Format(time.DateOnly))
	}
	return ""
}
