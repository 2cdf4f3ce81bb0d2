package github_test

import (
	"net/http"
	"strings"
	"testing"

	"vmst.io/refit/hosts/github"
	"vmst.io/refit/hosts/github/githubtest"
)

func TestAnAnswerThatIsNoneOfTheAPIsIsNotTakenForNews(t *testing.T) {
	const whole = `"id":1,"tag_name":"v1","draft":false,"prerelease":false,"created_at":"2026-08-04T10:00:00Z","published_at":"2026-08-04T10:00:00Z"`
	html := http.Header{"Content-Type": {"text/html"}}
	for name, bad := range map[string]githubtest.Trouble{
		"a login page":                  {Status: 200, Header: html, Body: "<html>Sign in to the network</html>"},
		"JSON that is said to be HTML":  {Status: 200, Header: html, Body: "[]"},
		"no type":                       {Status: 200, Header: http.Header{"Content-Type": {""}}, Body: "[]"},
		"nothing":                       {Status: 200, Header: jsonHeader()},
		"null":                          {Status: 200, Header: jsonHeader(), Body: "null"},
		"an object":                     {Status: 200, Header: jsonHeader(), Body: `{"message":"fine"}`},
		"half a list":                   {Status: 200, Header: jsonHeader(), Body: `[{` + whole + `},`},
		"two lists":                     {Status: 200, Header: jsonHeader(), Body: `[{` + whole + `}][]`},
		"an empty release":              {Status: 200, Header: jsonHeader(), Body: `[{}]`},
		"null for a release":            {Status: 200, Header: jsonHeader(), Body: `[null]`},
		"a release without a draft bit": {Status: 200, Header: jsonHeader(), Body: `[{` + strings.Replace(whole, `"draft":false,`, "", 1) + `}]`},
		"a release of no date":          {Status: 200, Header: jsonHeader(), Body: `[{` + strings.Replace(whole, `"published_at":"2026-08-04T10:00:00Z"`, `"published_at":null`, 1) + `}]`},
		"a release without a tag":       {Status: 200, Header: jsonHeader(), Body: `[{` + strings.Replace(whole, `"v1"`, `""`, 1) + `}]`},
		"a date that is none":           {Status: 200, Header: jsonHeader(), Body: `[{` + strings.Replace(whole, "2026-08-04T10", "yesterday", 1) + `}]`},
		"no content":                    {Status: 204},
		"accepted":                      {Status: 202, Header: jsonHeader(), Body: "{}"},
		"a 304 that nobody asked for":   {Status: 304},
		"a teapot":                      {Status: 418},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, githubtest.Options{}, func(s story) {
				s.Trouble(bad)
				_, err := s.client(github.Options{Token: token}).Releases(s.Context(), mastodon, github.Known{})
				s.failure(err, github.ErrAnswer)
			})
		})
	}
	play(t, githubtest.Options{}, func(s story) { // what the cases above spoil is right
		s.Trouble(githubtest.Trouble{Status: 200, Header: jsonHeader(), Body: `[{` + whole + `}]`})
		s.wantTags(s.poll(s.client(github.Options{Token: token}), github.Known{}), "v1")
	})
}

func TestOneReleaseOfAnotherTagIsRefused(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.Publish(upstream, githubtest.Release{Tag: "v4.6.5"})
		s.Trouble(githubtest.Trouble{
			Match: "v4.6.5", Status: 200, Header: jsonHeader(),
			Body: `{"id":1,"tag_name":"v4.6.50","draft":false,"prerelease":false,"created_at":"2026-08-04T10:00:00Z","published_at":"2026-08-04T10:00:00Z"}`,
		})
		_, err := s.client(github.Options{}).Release(s.Context(), mastodon, "v4.6.5")
		s.failure(err, github.ErrAnswer)
	})
}

func TestARenamedRepositoryIsSaidAndNotFollowed(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.fill(1)
		c := s.client(github.Options{Token: token})
		known := s.poll(c, github.Known{}).Known
		s.Rename(upstream, "somebody-else/mastodon")
		_, err := c.Releases(s.Context(), mastodon, known)
		if e := s.failure(err, github.ErrMoved); !strings.Contains(e.Error(), "/repositories/1/releases") || !strings.Contains(e.Error(), "renamed or given away") {
			s.Error(e)
		}
		_, err = c.Tag(s.Context(), mastodon, "v1.0.1", github.Identity{})
		s.failure(err, github.ErrMoved)
	})
}

func TestTemporaryRedirectsAreNotFollowedEither(t *testing.T) {
	for _, status := range []int{302, 307, 308} {
		play(t, githubtest.Options{}, func(s story) {
			s.Trouble(githubtest.Trouble{Status: status, Header: http.Header{"Location": {"http://127.0.0.1/repositories/9/releases"}}})
			_, err := s.client(github.Options{Token: token}).Releases(s.Context(), mastodon, github.Known{})
			s.failure(err, github.ErrMoved)
		})
	}
}

func TestAMissingRepositoryIsSaidAtOnce(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		_, err := s.client(github.Options{Token: token}).Releases(s.Context(), github.Repo{Owner: "mastodon", Name: "mastodonn"}, github.Known{})
		if e := s.failure(err, github.ErrNotFound); !strings.Contains(e.Error(), "mastodon/mastodonn") || s.Count(token).Requests != 1 {
			s.Error(e)
		}
	})
}

func TestARefusedTokenIsSaidAndNotShown(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		_, err := s.client(github.Options{Token: "ghp_revoked"}).Releases(s.Context(), mastodon, github.Known{})
		if e := s.failure(err, github.ErrDenied); strings.Contains(e.Error(), "ghp_revoked") || !strings.Contains(e.Error(), "expired or revoked") {
			s.Error(e)
		}
	})
}

func TestATokenThatAServerRepeatsIsNotShown(t *testing.T) {
	for name, trouble := range map[string]githubtest.Trouble{
		"in a message":   {Status: 403, Header: jsonHeader(), Body: `{"message":"the token ` + token + ` is no good"}`},
		"in an outage":   {Status: 502, Header: jsonHeader(), Body: `{"message":"` + token + `"}`, Times: -1},
		"in a redirect":  {Status: 302, Header: http.Header{"Location": {"http://elsewhere.example/?token=" + token}}},
		"in a type":      {Status: 200, Header: http.Header{"Content-Type": {"text/" + token}}, Body: "x"},
		"in a JSON type": {Status: 200, Header: jsonHeader(), Body: `{"message":"` + token + `"}`},
		"in a date":      {Status: 200, Header: jsonHeader(), Body: `[{"created_at":"` + token + `"}]`},
		"in no limit":    {Status: 429, Header: http.Header{"X-Ratelimit-Limit": {token}, "X-Ratelimit-Remaining": {"0"}}, Times: -1},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, githubtest.Options{}, func(s story) {
				s.Trouble(trouble)
				_, err := s.client(github.Options{Token: token}).Releases(s.Context(), mastodon, github.Known{})
				if err == nil || strings.Contains(err.Error(), token) {
					s.Errorf("got %v", err)
				}
			})
		})
	}
}

func TestWhatAServerSaysCannotDriveATerminal(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.Trouble(githubtest.Trouble{Status: 403, Header: jsonHeader(), Body: `{"message":"a\u001b[2Jb\u0007c\u202ed\u2028e\n::error::f"}`})
		_, err := s.client(github.Options{Token: token}).Releases(s.Context(), mastodon, github.Known{})
		if e := s.failure(err, github.ErrDenied); !strings.Contains(e.Error(), "a?[2Jb?c?d e ::error::f;") {
			s.Errorf("%q", e.Error())
		}
	})
}
