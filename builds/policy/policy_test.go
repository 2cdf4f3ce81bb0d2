package policy

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // whatever zones this machine has

	"vmst.io/refit/builds"
)

func version(t *testing.T, s string) builds.Version {
	t.Helper()
	v, err := builds.ParseVersion(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// hour is a moment of the week in which v4.6.5 came out: Thursday, 6 August 2026.
func hour(day, h, m int) time.Time { return time.Date(2026, 8, day, h, m, 0, 0, time.UTC) }

// bold begins all by itself, on working days between two and five in the night.
func bold(t *testing.T) Policy {
	t.Helper()
	w, err := ParseWindow([]string{"mon", "tue", "wed", "thu", "fri"}, "02:00", "05:00")
	if err != nil {
		t.Fatal(err)
	}
	return Policy{
		Acts:    map[Kind]Act{Security: Auto, Patch: Auto, Minor: Ask, Prerelease: Ignore},
		Windows: []Window{w}, Settle: 6 * time.Hour, Deadline: 48 * time.Hour, Overtake: true,
	}
}

func TestEachSituationHasItsDecisionAndItsReason(t *testing.T) {
	out := hour(6, 12, 0) // Thursday noon
	patch := func(change func(*Situation)) Situation {
		s := Situation{Now: out.Add(time.Hour), Running: version(t, "v4.6.4"), Release: version(t, "v4.6.5"), Published: out, Since: out}
		if change != nil {
			change(&s)
		}
		return s
	}
	for name, test := range map[string]struct {
		policy func(*Policy)
		s      Situation
		act    Act
		do     Do
		at     time.Time
		reason string
	}{
		"a patch waits for the night's window": {
			nil, patch(nil), Auto, Wait, hour(7, 2, 0), "a patch release begins by itself, 6h after its publication, in a maintenance window",
		},
		"a patch begins in the window": {
			nil, patch(func(s *Situation) { s.Now = hour(7, 2, 30) }), Auto, Begin, time.Time{}, "a patch release begins by itself",
		},
		"a patch that came out in the window settles past it, over the weekend": {
			nil, patch(func(s *Situation) { s.Published, s.Since, s.Now = hour(7, 2, 0), hour(7, 2, 0), hour(7, 3, 0) }), Auto, Wait, hour(10, 2, 0),
			"a patch release begins by itself, 6h after its publication, in a maintenance window; that is after its deadline",
		},
		"without windows a patch waits until it has settled": {
			func(p *Policy) { p.Windows = nil }, patch(nil), Auto, Wait, hour(6, 18, 0), "a patch release begins by itself, 6h after its publication",
		},
		"a security release overtakes both": {
			nil, patch(func(s *Situation) { s.Security = true }), Auto, Begin, time.Time{}, "a security release begins by itself, at once",
		},
		"a security release overtakes nothing where the policy says so": {
			func(p *Policy) { p.Overtake = false }, patch(func(s *Situation) { s.Security = true }), Auto, Wait, hour(7, 2, 0),
			"a security release begins by itself, 6h after its publication, in a maintenance window",
		},
		"auto becomes ask on one doubt": {
			nil, patch(func(s *Situation) { s.Doubts = []string{"v4.6.5 has a post-migration"} }), Ask, Question,
			time.Time{},
			"it would begin by itself, but for this: v4.6.5 has a post-migration",
		},
		"auto becomes ask on a doubt of a security release too": {
			nil, patch(func(s *Situation) { s.Security, s.Doubts = true, []string{"a", "b"} }), Ask, Question, time.Time{}, "it would begin by itself, but for this: a; b",
		},
		"a doubt that a person has approved is none": {
			nil, patch(func(s *Situation) { s.Doubts, s.Approved, s.Now = []string{"a"}, true, hour(7, 2, 0) }), Ask, Begin, time.Time{}, "its plan is approved",
		},
		"an approval waits for the window": {
			nil, patch(func(s *Situation) { s.Doubts, s.Approved = []string{"a"}, true }), Ask, Wait, hour(7, 2, 0), "its plan is approved, in a maintenance window",
		},
		"an approval for now does not": {
			nil, patch(func(s *Situation) { s.Doubts, s.Approved, s.AtOnce = []string{"a"}, true, true }), Ask, Begin, time.Time{}, "its plan is approved, at once",
		},
		"a minor release is asked for": {
			nil, patch(func(s *Situation) { s.Release = version(t, "v4.7.0") }), Ask, Question, time.Time{}, "the policy is to ask before a minor release",
		},
		"a minor release that mends holes is a minor release": {
			nil, patch(func(s *Situation) { s.Release, s.Security = version(t, "v4.7.1"), true }), Ask, Question, time.Time{}, "the policy is to ask before a minor release",
		},
		"a pre-release is ignored": {
			nil, patch(func(s *Situation) { s.Release, s.Security = version(t, "v4.6.6-rc.1"), true }), Ignore, Nothing, time.Time{}, "the policy is to ignore a pre-release",
		},
		"a kind without an act is told of": {
			func(p *Policy) { delete(p.Acts, Patch) }, patch(nil), Notify, Tell, time.Time{}, "the policy is to tell of a patch release",
		},
		"a tag that moved is refused, whatever was approved": {
			nil, patch(func(s *Situation) { s.Stops, s.Approved, s.AtOnce = []string{"the tag moved"}, true, true }), Auto, Refuse, time.Time{}, "the tag moved",
		},
		"what is only told of is refused aloud too": {
			func(p *Policy) { p.Acts[Patch] = Notify }, patch(func(s *Situation) { s.Stops = []string{"the tag moved"} }), Notify, Refuse, time.Time{}, "the tag moved",
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := bold(t)
			if test.policy != nil {
				test.policy(&p)
			}
			d := p.Decide(test.s)
			if d.Act != test.act || d.Do != test.do || !d.At.Equal(test.at) || d.Reason != test.reason {
				t.Errorf("got %s, %s at %s: %q", d.Act, d.Do, d.At, d.Reason)
			}
			if again := p.Decide(test.s); again != d {
				t.Errorf("asked again: %+v", again)
			}
		})
	}
}

func TestTheDeadlineCountsFromTheOldestReleaseThatIsLacking(t *testing.T) {
	p := bold(t)
	s := Situation{Now: hour(7, 12, 0), Running: version(t, "v4.6.3"), Release: version(t, "v4.6.5"), Published: hour(6, 12, 0), Since: hour(1, 9, 0)}
	if d := p.Decide(s); !d.Deadline.Equal(hour(3, 9, 0)) {
		t.Errorf("deadline %s", d.Deadline)
	}
	p.Acts[Patch] = Notify
	if d := p.Decide(s); !d.Deadline.IsZero() {
		t.Errorf("nobody means to run it, and its deadline is %s", d.Deadline)
	}
}

func TestTheDefaultBeginsNothingByItself(t *testing.T) {
	for _, k := range Kinds() {
		if Default().Act(k) == Auto {
			t.Errorf("%s begins by itself", k)
		}
	}
}

func TestAWindowOpensByTheWallsClock(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	night := func(days, from, to string) Window {
		w, err := ParseWindow(strings.Fields(days), from, to)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	local := func(y int, m time.Month, d, h, min int) time.Time { return time.Date(y, m, d, h, min, 0, 0, berlin) }
	for name, test := range map[string]struct {
		w        Window
		at, want time.Time
	}{
		"before it":                       {night("", "02:00", "05:00"), local(2026, 8, 6, 1, 0), local(2026, 8, 6, 2, 0)},
		"at its first moment":             {night("", "02:00", "05:00"), local(2026, 8, 6, 2, 0), local(2026, 8, 6, 2, 0)},
		"at its end":                      {night("", "02:00", "05:00"), local(2026, 8, 6, 5, 0), local(2026, 8, 7, 2, 0)},
		"past midnight, on the day after": {night("sat", "22:00", "04:00"), local(2026, 8, 9, 3, 0), local(2026, 8, 9, 3, 0)},
		"past midnight, too late":         {night("sat", "22:00", "04:00"), local(2026, 8, 9, 4, 0), local(2026, 8, 15, 22, 0)},
		"a week ahead":                    {night("thursday", "02:00", "05:00"), local(2026, 8, 6, 6, 0), local(2026, 8, 13, 2, 0)},
		"over the end of the month":       {night("", "02:00", "05:00"), local(2026, 8, 31, 6, 0), local(2026, 9, 1, 2, 0)},
		"through an hour that comes twice": {
			night("", "02:00", "05:00"), local(2026, 10, 24, 12, 0), time.Date(2026, 10, 25, 1, 0, 0, 0, time.UTC),
		},
		"from an hour that does not come": {
			night("", "02:00", "05:00"), local(2026, 3, 28, 12, 0), time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC),
		},
		"in an hour that does not come: the next night": {
			night("", "02:00", "03:00"), local(2026, 3, 28, 12, 0), local(2026, 3, 30, 2, 0),
		},
		"in an hour that does not come, once a week: the next week": {
			night("sun", "02:00", "03:00"), local(2026, 3, 23, 12, 0), local(2026, 4, 5, 2, 0),
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := Policy{Windows: []Window{test.w}, Zone: berlin}
			if got := p.Opens(test.at.UTC()); !got.Equal(test.want) {
				t.Errorf("opens at %s, not %s", got, test.want)
			}
		})
	}
}

func TestOfSeveralWindowsTheNextCounts(t *testing.T) {
	late, err := ParseWindow([]string{"sat"}, "10:00", "12:00")
	if err != nil {
		t.Fatal(err)
	}
	p := bold(t)
	p.Windows = append(p.Windows, late)
	if got := p.Opens(hour(7, 6, 0)); !got.Equal(hour(8, 10, 0)) {
		t.Errorf("opens at %s", got)
	}
}

func TestAWindowThatCannotBeReadIsRefusedWithItsWord(t *testing.T) {
	for _, test := range []struct {
		days     []string
		from, to string
		want     string
	}{
		{[]string{"tues"}, "02:00", "05:00", `"tues"`},
		{nil, "2am", "05:00", `"2am"`},
		{nil, "02:00", "25:00", `"25:00"`},
		{nil, "02:00", "02:00", "02:00"},
	} {
		if _, err := ParseWindow(test.days, test.from, test.to); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v", test, err)
		}
	}
}
