package github_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"

	"vmst.io/refit/hosts/github"
)

// Whatever answers for GitHub, the outcome is a list whose releases are whole, or
// an *Error that says enough and does not show the token.
func FuzzAnyAnswerIsReadOrRefused(f *testing.F) {
	const whole = `[{"id":1,"tag_name":"v1","draft":false,"prerelease":false,"created_at":"2026-08-04T10:00:00Z","published_at":"2026-08-04T10:00:00Z"}]`
	f.Add(200, "application/json", "", "", "", whole)
	f.Add(200, "application/json; charset=utf-8", "", "", "", `[{"id":1,"tag_name":null}]`)
	f.Add(200, "text/html", "", "", "", "<html>")
	f.Add(403, "application/json", "0", "1795000000", "", `{"message":"API rate limit exceeded"}`)
	f.Add(429, "", "", "", "30", "")
	f.Add(403, "application/json", "59", "x", "", `{"message":"secondary rate limit","documentation_url":"x"}`)
	f.Add(503, "text/html", "", "", "Fri, 31 Dec 2199 23:59:59 GMT", "unicorn")
	f.Add(301, "application/json", "", "", "", `{"url":"`+token+`"}`)
	f.Add(304, "", "", "", "", "")
	f.Fuzz(func(t *testing.T, status int, kind, remaining, reset, after, body string) {
		if status < 200 || status > 599 {
			return // net/http gives no others to a caller
		}
		c, err := github.New(github.Options{Token: token, Patience: time.Nanosecond, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			h := http.Header{}
			for k, v := range map[string]string{
				"Content-Type": kind, "X-RateLimit-Remaining": remaining, "X-RateLimit-Reset": reset,
				"Retry-After": after, "Location": body, "Link": body, "ETag": kind,
			} {
				h.Set(k, v)
			}
			return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(bytes.NewBufferString(body)), Request: r}, nil
		})})
		if err != nil {
			t.Fatal(err)
		}
		list, err := c.Releases(t.Context(), mastodon, github.Known{})
		var e *github.Error
		switch {
		case err == nil:
			for _, r := range list.Releases {
				if r.ID <= 0 || (!r.Draft && (r.Tag == "" || r.Published.IsZero())) {
					t.Errorf("taken for a release: %+v", r)
				}
			}
		case !errors.As(err, &e) || e.Kind == nil || e.Happened == "" || e.Advice == "":
			t.Errorf("an error that does not say enough: %#v", err)
		case strings.Contains(err.Error(), token) || strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) || len(err.Error()) > 2000:
			t.Errorf("an error not fit to be shown: %q", err)
		}
	})
}
