// Package policy decides what becomes of a release that was seen upstream: begun by
// itself, asked for, told of, or left alone, and when. It is pure: it asks nobody, reads
// no clock, and the same situation gives the same decision, with its reason in words.
package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/builds"
)

// Kind is what a release is to a fleet.
type Kind string

// The kinds. A release of another minor series is Minor also where it mends holes: its
// way is another one, whatever it brings.
const (
	Security   Kind = "security"    // of the series that runs, and mends holes
	Patch      Kind = "patch"       // of the series that runs
	Minor      Kind = "minor"       // of a later series, a major one included
	Prerelease Kind = "pre-release" // an alpha, a beta or a release candidate
)

// Kinds are all of them.
func Kinds() []Kind { return []Kind{Security, Patch, Minor, Prerelease} }

// KindOf tells what a release is to a fleet that runs another.
func KindOf(running, v builds.Version, security bool) Kind {
	switch {
	case v.Prerelease():
		return Prerelease
	case !v.SameLine(running):
		return Minor
	case security:
		return Security
	}
	return Patch
}

// Act is what a policy says of a kind.
type Act string

// The acts, from the boldest to the stillest.
const (
	Auto   Act = "auto"   // begun by itself
	Ask    Act = "ask"    // begun when a person has approved its plan
	Notify Act = "notify" // people are told
	Ignore Act = "ignore" // nobody is told
)

// Acts are all of them.
func Acts() []Act { return []Act{Auto, Ask, Notify, Ignore} }

// Policy is what refit.yml says.
type Policy struct {
	// Acts by kind; a kind that is missing is Notify.
	Acts map[Kind]Act
	// Windows are when a run may begin; none means at any time. A run that began in one
	// may end after it.
	Windows []Window
	// Zone is the time zone of Windows; nil is UTC.
	Zone *time.Location
	// Settle is how long a release has been out before it begins by itself: upstream
	// withdraws or mends a bad one within hours.
	Settle time.Duration
	// Deadline is by when a release runs, from the publication of the oldest one that
	// the fleet lacks; 0 for none.
	Deadline time.Duration
	// Overtake: a security release waits neither for a window nor to settle.
	Overtake bool
}

// Default is the policy of a refit.yml that has none: it begins nothing by itself.
func Default() Policy {
	return Policy{
		Acts:   map[Kind]Act{Security: Ask, Patch: Ask, Minor: Notify, Prerelease: Ignore},
		Settle: 6 * time.Hour, Deadline: 48 * time.Hour, Overtake: true,
	}
}

// Act is what the policy says of a kind.
func (p Policy) Act(k Kind) Act {
	if a, ok := p.Acts[k]; ok {
		return a
	}
	return Notify
}

// Situation is what is known of a release and the fleet at one moment.
type Situation struct {
	Now time.Time
	// Running is what the fleet runs, Release what was seen.
	Running, Release builds.Version
	// Published is when the release was published, Since when the oldest one of its
	// series was that the fleet lacks.
	Published, Since time.Time
	// Security: it, or one that it stands above and the fleet lacks, mends holes.
	Security bool
	// Doubts are why a person should look before: a warning of the notes, what they ask
	// for that nobody has acknowledged, a migration after which there is no way back, a
	// risky one, an overridden pin. Each is a few words.
	Doubts []string
	// Stops are why it cannot be begun at all: a tag that moved, witnesses that
	// disagree, a way that is closed.
	Stops []string
	// Approved: a person has approved the plan as it is. AtOnce: also outside windows.
	Approved, AtOnce bool
}

// Do is what is to be done now.
type Do string

// What is to be done.
const (
	Nothing  Do = "nothing"
	Tell     Do = "tell"
	Question Do = "ask"  // tell, and ask for an approval
	Wait     Do = "wait" // begin at Decision.At
	Begin    Do = "begin"
	Refuse   Do = "refuse" // tell why it cannot be begun
)

// Decision is what the policy makes of a situation.
type Decision struct {
	Kind Kind `json:"kind"`
	// Act is the policy's; Ask where it was Auto and there are doubts.
	Act Act `json:"act"`
	Do  Do  `json:"do"`
	// At is when it may begin, where Do is Wait.
	At time.Time `json:"at,omitzero"`
	// Deadline is by when it should run; zero where nobody means to run it.
	Deadline time.Time `json:"deadline,omitzero"`
	// Reason is why, in words for people.
	Reason string `json:"reason"`
}

// Decide decides.
func (p Policy) Decide(s Situation) Decision {
	d := Decision{Kind: KindOf(s.Running, s.Release, s.Security)}
	d.Act = p.Act(d.Kind)
	if d.Act == Ignore {
		d.Do, d.Reason = Nothing, fmt.Sprintf("the policy is to ignore a %s", d.Kind.noun())
		return d
	}
	if (d.Act == Auto || d.Act == Ask) && p.Deadline > 0 && !s.Since.IsZero() {
		d.Deadline = s.Since.Add(p.Deadline)
	}
	switch {
	case len(s.Stops) > 0:
		d.Do, d.Reason = Refuse, strings.Join(s.Stops, "; ")
	case d.Act == Notify:
		d.Do, d.Reason = Tell, fmt.Sprintf("the policy is to tell of a %s", d.Kind.noun())
	case d.Act == Ask || len(s.Doubts) > 0:
		p.ask(&d, s)
	default:
		p.begin(&d, s, fmt.Sprintf("a %s begins by itself", d.Kind.noun()), p.Settle)
	}
	return d
}

func (k Kind) noun() string {
	switch k {
	case Security, Patch, Minor:
		return string(k) + " release"
	}
	return string(k)
}

// ask waits for a person's approval.
func (p Policy) ask(d *Decision, s Situation) {
	why := fmt.Sprintf("the policy is to ask before a %s", d.Kind.noun())
	if d.Act == Auto {
		d.Act, why = Ask, "it would begin by itself, but for this: "+strings.Join(s.Doubts, "; ")
	}
	if s.Approved {
		p.begin(d, s, "its plan is approved", 0)
		return
	}
	d.Do, d.Reason = Question, why
}

// begin begins now, or at the first moment at which it may.
func (p Policy) begin(d *Decision, s Situation, why string, settle time.Duration) {
	if s.AtOnce || (d.Kind == Security && p.Overtake) {
		d.Do, d.Reason = Begin, why+", at once"
		return
	}
	at := s.Now
	if settled := s.Published.Add(settle); settled.After(at) {
		at, why = settled, fmt.Sprintf("%s, %s after its publication", why, spoken(settle))
	}
	if open := p.Opens(at); open.After(at) {
		at, why = open, why+", in a maintenance window"
	}
	if !at.After(s.Now) {
		d.Do, d.Reason = Begin, why
		return
	}
	d.Do, d.At, d.Reason = Wait, at, why
	if !d.Deadline.IsZero() && at.After(d.Deadline) {
		d.Reason += "; that is after its deadline"
	}
}

// spoken is a duration without zeros: "6h", "1h30m".
func spoken(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Opens is the first moment from t on at which a run may begin: t itself within a window.
func (p Policy) Opens(t time.Time) time.Time {
	if len(p.Windows) == 0 {
		return t
	}
	zone := p.Zone
	if zone == nil {
		zone = time.UTC
	}
	var opens []time.Time
	for _, w := range p.Windows {
		opens = append(opens, w.opens(t.In(zone)))
	}
	return slices.MinFunc(opens, time.Time.Compare)
}
