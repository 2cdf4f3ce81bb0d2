package upstream

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/github"
)

// answer is an answer without a network.
func answer(r *http.Request, status int, kind, body string) *http.Response {
	h := http.Header{"Content-Type": {kind}, "Location": {"https://elsewhere.example/"}}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: h, Body: io.NopCloser(strings.NewReader(body)), Request: r}
}

// listed are releases in the order given, each published a day after the one before.
func listed(t *testing.T, tags ...string) []Published {
	t.Helper()
	var out []Published
	for i, tag := range tags {
		out = append(out, Published{
			Release: github.Release{Tag: tag, Published: time.Date(2026, 8, 1+i, 12, 0, 0, 0, time.UTC)}, Version: v(t, tag),
		})
	}
	return out
}

func TestTheChoiceGoesByVersionInsideTheLine(t *testing.T) {
	for name, test := range map[string]struct {
		running string
		line    Line
		tags    []string
		want    []string
	}{
		"nothing newer":                           {"v4.6.5", Line{}, []string{"v4.6.5", "v4.6.4"}, nil},
		"an older line that came out later":       {"v4.6.5", Line{}, []string{"v4.6.5", "v4.5.15", "v4.4.22"}, nil},
		"three lines on one day":                  {"v4.5.14", Line{}, []string{"v4.6.4", "v4.6.5", "v4.5.15", "v4.4.22"}, []string{"v4.5.15", "v4.6.5"}},
		"three lines, and the fleet stays":        {"v4.5.14", Line{Stay: "4.5"}, []string{"v4.6.4", "v4.6.5", "v4.5.15", "v4.4.22"}, []string{"v4.5.15"}},
		"the newest patch, not the last listed":   {"v4.6.1", Line{}, []string{"v4.6.10", "v4.6.2", "v4.6.9"}, []string{"v4.6.10"}},
		"one series at a time":                    {"v4.4.1", Line{}, []string{"v4.6.5", "v4.5.15"}, []string{"v4.5.15"}},
		"on the way to the line it stays in":      {"v4.4.1", Line{Stay: "4.6"}, []string{"v4.7.0", "v4.6.5", "v4.5.15"}, []string{"v4.5.15"}},
		"over a major":                            {"v4.7.3", Line{}, []string{"v5.0.0", "v4.7.3"}, []string{"v5.0.0"}},
		"pre-releases do not count":               {"v4.6.5", Line{}, []string{"v4.7.0-rc.1", "v4.6.6-beta.1"}, nil},
		"pre-releases count where asked for":      {"v4.6.5", Line{Early: true}, []string{"v4.7.0-beta.1", "v4.7.0-rc.1", "v4.6.6"}, []string{"v4.6.6", "v4.7.0-rc.1"}},
		"a pre-release that was overtaken":        {"v4.6.5", Line{Early: true}, []string{"v4.7.0-rc.1", "v4.7.0"}, []string{"v4.7.0"}},
		"a pre-release beyond where it stays":     {"v4.6.5", Line{Stay: "4.6", Early: true}, []string{"v4.7.0-rc.1"}, nil},
		"the fleet is beyond where it is to stay": {"v4.6.5", Line{Stay: "4.5"}, []string{"v4.6.6"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, c := range Choose(listed(t, test.tags...), v(t, test.running), test.line) {
				got = append(got, c.Tag)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("chose %v, not %v", got, test.want)
			}
		})
	}
}

func TestAPreReleaseByItsPublishersMarkIsOne(t *testing.T) {
	all := listed(t, "v4.6.6")
	all[0].Prerelease = true
	if c := Choose(all, v(t, "v4.6.5"), Line{}); len(c) > 0 {
		t.Errorf("chose %+v", c)
	}
}

func TestACandidateStandsOverWhatTheFleetLacks(t *testing.T) {
	c := Choose(listed(t, "v4.6.2", "v4.6.4", "v4.6.3", "v4.6.5"), v(t, "v4.6.2"), Line{})
	if len(c) != 1 || c[0].Tag != "v4.6.5" || len(c[0].Over) != 2 || c[0].Over[0].Tag != "v4.6.4" || c[0].Over[1].Tag != "v4.6.3" {
		t.Fatalf("%+v", c)
	}
	if want := time.Date(2026, 8, 2, 12, 0, 0, 0, time.UTC); !c[0].Since.Equal(want) { // v4.6.4 came before v4.6.3
		t.Errorf("behind since %s", c[0].Since)
	}
}

func TestTheNotesOfAWayAreThoseOfTheTargetsSeries(t *testing.T) {
	for name, want := range map[string]bool{
		"v4.6.5": true, "v4.6.4": true, "v4.6.0": true, "v4.6.6": false, "v4.5.15": false, "v4.6.5-rc.1": false, "v4.5.14": false, "v4.7.0": false,
	} {
		if got := OnTheWay(v(t, name), v(t, "v4.5.14"), v(t, "v4.6.5")); got != want {
			t.Errorf("%s is on the way: %v", name, got)
		}
	}
	if OnTheWay(v(t, "v4.6.3"), v(t, "v4.6.3"), v(t, "v4.6.5")) || !OnTheWay(v(t, "v4.7.0-rc.1"), v(t, "v4.6.3"), v(t, "v4.7.0-rc.1")) {
		t.Error("the ends")
	}
}
