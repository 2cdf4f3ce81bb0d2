package upstream

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestTheFeedIsAskedForWhatRunsAndNothingElseIsTakenForIt(t *testing.T) {
	running := v(t, "v4.6.4")
	feed := func(status int, kind, body string) ([]Update, error) {
		f := Feed{URL: "https://updates.example/check?lang=en", Agent: "refit/1", Transport: carrier(func(r *http.Request) (*http.Response, error) {
			if r.URL.Query().Get("version") != "4.6.4" || r.URL.Query().Get("lang") != "en" || r.Header.Get("User-Agent") != "refit/1" {
				t.Errorf("asked %s as %q", r.URL, r.Header.Get("User-Agent"))
			}
			return answer(r, status, kind, body), nil
		})}
		return f.Ask(t.Context(), running)
	}
	got, err := feed(200, "application/json; charset=utf-8", `{"updatesAvailable":[{"version":"4.6.5","urgent":true,"type":"patch","releaseNotes":"https://x"},{"version":"4.7.0","urgent":false,"type":"minor"}],"more":1}`)
	want := []Update{{v(t, "v4.6.5"), true}, {v(t, "v4.7.0"), false}}
	if err != nil || !slices.EqualFunc(got, want, func(a, b Update) bool { return a.Version.Compare(b.Version) == 0 && a.Urgent == b.Urgent }) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := feed(200, "application/json", `{"updatesAvailable":[]}`); err != nil || got == nil || len(got) != 0 {
		t.Errorf("nothing newer: %+v, %v", got, err)
	}
	for name, bad := range map[string][3]string{
		"an outage":               {"503", "text/html", "<html>"},
		"another place":           {"302", "application/json", "{}"},
		"a page for people":       {"200", "text/html", "<html>"},
		"half a JSON":             {"200", "application/json", `{"updatesAvailable":[{"ver`},
		"no list":                 {"200", "application/json", `{}`},
		"null for a list":         {"200", "application/json", `{"updatesAvailable":null}`},
		"a version that is none":  {"200", "application/json", `{"updatesAvailable":[{"version":"latest","urgent":false}]}`},
		"nothing of the urgency":  {"200", "application/json", `{"updatesAvailable":[{"version":"4.6.5"}]}`},
		"more than it ever gives": {"200", "application/json", `{"updatesAvailable":[]}` + strings.Repeat(" ", feedBody)},
	} {
		status := map[string]int{"503": 503, "302": 302, "200": 200}[bad[0]]
		if got, err := feed(status, bad[1], bad[2]); !errors.Is(err, ErrFeed) || got != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestTheSilenceOfTheFeedIsNoDisagreement(t *testing.T) {
	listed := []Published{{Version: v(t, "v4.6.5")}, {Version: v(t, "v4.6.4")}}
	if odd := Unlisted(nil, listed); len(odd) > 0 {
		t.Errorf("silence: %v", odd)
	}
	if odd := Unlisted([]Update{{Version: v(t, "v4.6.4")}}, listed); len(odd) > 0 {
		t.Errorf("it lags: %v", odd)
	}
	if odd := Unlisted([]Update{{Version: v(t, "v4.6.6")}}, listed); len(odd) != 1 || odd[0].String() != "v4.6.6" {
		t.Errorf("a release that GitHub does not list: %v", odd)
	}
}

func TestWhatIsUrgentStaysUrgentUnderANewerRelease(t *testing.T) {
	c := Candidate{Published: Published{Version: v(t, "v4.6.5")}, Over: []Published{{Version: v(t, "v4.6.4")}}}
	for tag, want := range map[string]bool{"v4.6.5": true, "v4.6.4": true, "v4.6.3": false, "v4.7.0": false} {
		if got := Urgent([]Update{{v(t, tag), true}, {v(t, "v4.6.5"), false}}, c); got != want {
			t.Errorf("%s urgent: %v", tag, got)
		}
	}
}

// carrier is a transport of one function.
type carrier func(*http.Request) (*http.Response, error)

func (c carrier) RoundTrip(r *http.Request) (*http.Response, error) { return c(r) }
