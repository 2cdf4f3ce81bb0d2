package builds_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vmst.io/refit/builds"
)

// series are the minor series of Mastodon in their order, with the first and a
// late release of each; 3.5 was the last of 3.
var series = [][2]string{
	{"v3.3.0", "v3.3.3"},
	{"v3.4.0", "v3.4.10"},
	{"v3.5.0", "v3.5.19"},
	{"v4.0.0", "v4.0.15"},
	{"v4.1.0", "v4.1.25"},
	{"v4.2.0", "v4.2.29"},
	{"v4.3.0", "v4.3.23"},
	{"v4.4.0", "v4.4.22"},
	{"v4.5.0", "v4.5.15"},
	{"v4.6.0", "v4.6.5"},
	{"v4.7.0", "v4.7.4"},
	{"v5.0.0", "v5.0.1"},
}

func known(t *testing.T) []builds.Version {
	var out []builds.Version
	for _, s := range series {
		out = append(out, version(t, s[0]), version(t, s[1]))
	}
	return out
}

var autumn = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// Every series with every other, from the first and the last release of one to
// the first and the last of the other.
func TestEveryPairOfSeriesHasItsVerdict(t *testing.T) {
	for _, names := range [][]builds.Version{nil, known(t)} {
		o := builds.PathOptions{Known: names, Now: autumn}
		for i, a := range series {
			for j, b := range series {
				for _, from := range a {
					for _, to := range b {
						got := builds.Path(version(t, from), version(t, to), o)
						back := j < i || j == i && from == a[1] && to == b[0]
						switch {
						case back:
							if !strings.Contains(got.Refused, "refit rollback") || got.Via != nil {
								t.Errorf("%s to %s: %+v", from, to, got)
							}
						case j-i <= 1:
							if got.Refused != "" || !slices.Equal(got.Via, []string{to}) {
								t.Errorf("%s to %s: %+v", from, to, got)
							}
						default:
							var way []string
							for _, s := range series[i+1 : j] {
								if names == nil {
									way = append(way, "the newest "+s[0][:len("v4.6")]+".x")
								} else {
									way = append(way, s[1])
								}
							}
							way = append(way, to)
							if diff := cmp.Diff(way, got.Via); diff != "" || !strings.Contains(got.Refused, "skips a minor series") {
								t.Errorf("%s to %s: %s %s", from, to, got.Refused, diff)
							}
							if want := from + " → " + strings.Join(way, " → "); !strings.Contains(got.Refused, want) {
								t.Errorf("%s to %s: %q lacks %q", from, to, got.Refused, want)
							}
						}
					}
				}
			}
		}
	}
}

func TestTheFloorsOfZeroDowntimeAreHeld(t *testing.T) {
	for name, c := range map[string]struct{ from, to, refused string }{
		"a pre-release of 4.6 to 4.7":      {"v4.6.0-rc.1", "v4.7.0", "from v4.6.0 on"},
		"a pre-release of 4.6 to its own":  {"v4.6.0-rc.1", "v4.6.0", ""},
		"a pre-release of 4.3 to 4.4":      {"v4.3.0-beta.2", "v4.4.0", "from v4.3.0 on"},
		"a pre-release of 4.2 to 4.3":      {"v4.2.0-rc.1", "v4.3.0", "from v4.2.0 on"},
		"a pre-release of 4.4 to 4.5":      {"v4.4.0-rc.1", "v4.5.0", ""},
		"4.6 to a pre-release of 4.7":      {"v4.6.5", "v4.7.0-rc.1", ""},
		"4.6 to 5.0":                       {"v4.6.5", "v5.0.0", "skips a minor series"},
		"4.7 to 5.0":                       {"v4.7.0", "v5.0.0", ""},
		"a pre-release of 4.7 to 5.0":      {"v4.7.0-rc.1", "v5.0.0", "from v4.7.0 on"},
		"3.5 to 4.0":                       {"v3.5.3", "v4.0.0", ""},
		"3.4 to 4.0":                       {"v3.4.1", "v4.0.0", "v3.4.1 → the newest v3.5.x → v4.0.0"},
		"a release to its pre-release":     {"v4.7.0", "v4.7.0-rc.1", "refit rollback"},
		"the same":                         {"v4.6.5", "v4.6.5", ""},
		"two majors":                       {"v3.5.3", "v5.1.0", "v4.7.x → the newest v5.0.x → v5.1.0"},
		"a patch of an old series upwards": {"v4.4.0", "v4.4.22", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := builds.Path(version(t, c.from), version(t, c.to), builds.PathOptions{Now: autumn})
			if (c.refused == "") != (got.Refused == "") || !strings.Contains(got.Refused, c.refused) {
				t.Errorf("%q, want %q", got.Refused, c.refused)
			}
			if got.Refused != "" && got.Via != nil && got.Via[len(got.Via)-1] != c.to {
				t.Errorf("the way to go ends at %v", got.Via)
			}
		})
	}
}

// A series of 4 after 4.7 would lie on the way to 5.0 as well.
func TestASeriesThatCameSinceLiesOnTheWayToTheNextMajor(t *testing.T) {
	o := builds.PathOptions{Known: []builds.Version{version(t, "v4.8.2"), version(t, "v4.9.0-rc.1")}, Now: autumn}
	got := builds.Path(version(t, "v4.7.4"), version(t, "v5.0.0"), o)
	if diff := cmp.Diff([]string{"v4.8.2", "v5.0.0"}, got.Via); diff != "" || got.Refused == "" {
		t.Errorf("%q %s", got.Refused, diff)
	}
	if got := builds.Path(version(t, "v4.8.2"), version(t, "v5.0.0"), o); got.Refused != "" {
		t.Error(got.Refused)
	}
}

func TestWhatIsWorthKnowingOnTheWayIsSaid(t *testing.T) {
	day := func(s string) time.Time {
		d, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return d.Add(12 * time.Hour)
	}
	for name, c := range map[string]struct {
		from, to string
		now      time.Time
		says     string // empty for nothing
		never    string
	}{
		"encryption keys":                 {"v4.2.10", "v4.3.0", day("2025-01-01"), "ACTIVE_RECORD_ENCRYPTION_", ""},
		"not within a series":             {"v4.3.0", "v4.3.5", day("2025-01-01"), "", "ACTIVE_RECORD"},
		"a namespace in Redis":            {"v4.3.5", "v4.4.0", day("2025-01-01"), "REDIS_NAMESPACE", ""},
		"old cookies":                     {"v4.6.5", "v4.7.0", day("2025-01-01"), "signed out", ""},
		"a pre-release":                   {"v4.6.5", "v4.7.0-rc.1", day("2025-01-01"), "no safe way back", ""},
		"the last day of support":         {"v4.3.1", "v4.3.23", day("2026-05-06"), "until 2026-05-06", "since"},
		"the day after":                   {"v4.3.1", "v4.3.23", day("2026-05-07"), "since 2026-05-06", "until"},
		"long before":                     {"v4.4.1", "v4.4.22", day("2026-01-01"), "", "2026-12-17"},
		"soon":                            {"v4.4.1", "v4.4.22", autumn, "until 2026-12-17", ""},
		"the series that is left":         {"v4.3.23", "v4.4.22", autumn, "leave it soon", ""},
		"one that ended long ago":         {"v4.1.0", "v4.2.0", autumn, "mends nothing in v4.2.x any more", ""},
		"one without an end":              {"v4.6.4", "v4.6.5", autumn, "", "mend"},
		"there is a newer one":            {"v4.5.15", "v4.6.0", day("2026-01-01"), "v4.6.5 is the newest of its series: v4.6.0 lacks", ""},
		"this is the newest":              {"v4.5.15", "v4.6.5", day("2026-01-01"), "", "newest"},
		"a pre-release of a newer series": {"v4.6.5", "v4.7.0-rc.1", day("2026-01-01"), "v4.7.4 is the newest", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := builds.Path(version(t, c.from), version(t, c.to), builds.PathOptions{Known: known(t), Now: c.now})
			said := strings.Join(got.Said, "\n")
			if got.Refused != "" || !strings.Contains(said, c.says) || c.never != "" && strings.Contains(said, c.never) {
				t.Errorf("%q %q", got.Refused, said)
			}
		})
	}
}
