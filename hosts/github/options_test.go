package github_test

import (
	"net/http"
	"strings"
	"testing"

	"vmst.io/refit/hosts/github"
	"vmst.io/refit/hosts/github/githubtest"
)

func TestOptionsThatWouldDoHarmAreRefused(t *testing.T) {
	for name, opts := range map[string]github.Options{
		"a token in the clear":       {Token: token, BaseURL: "http://api.github.com/"},
		"a token to a public number": {Token: token, BaseURL: "http://192.0.2.1/"},
		"a password in the address":  {BaseURL: "https://me:" + token + "@api.github.com/"},
		"a query":                    {BaseURL: "https://api.github.com/?token=" + token},
		"no address":                 {BaseURL: "::" + token},
		"another scheme":             {BaseURL: "ftp://api.github.com/"},
		"no host":                    {BaseURL: "https:///"},
		"a token of two words":       {Token: "GITHUB_TOKEN " + token},
		"a token of two lines":       {Token: token + "\n" + token},
	} {
		c, err := github.New(opts)
		if err == nil || c != nil {
			t.Errorf("%s is not refused", name)
		} else if strings.Contains(err.Error(), token) && !strings.Contains(opts.BaseURL, "?token") {
			t.Errorf("%s: the error shows the secret: %v", name, err)
		}
	}
}

func TestATokenOutOfAFileIsTrimmed(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.poll(s.client(github.Options{Token: "\t" + token + "\r\n"}), github.Known{})
		if n := s.Count(token); n.Requests != 1 {
			s.Errorf("%+v", n)
		}
	})
}

func TestAnAddressWithAPathIsKept(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		var asked []string
		tr := s.wire.Transport()
		defer tr.CloseIdleConnections()
		c := s.client(github.Options{BaseURL: "http://10.0.0.9/api/v3", Token: token, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			asked = append(asked, r.URL.String())
			r.URL.Path = strings.TrimPrefix(r.URL.Path, "/api/v3")
			return tr.RoundTrip(r)
		})})
		s.poll(c, github.Known{})
		if len(asked) != 1 || asked[0] != "http://10.0.0.9/api/v3/repos/mastodon/mastodon/releases?per_page=100" {
			s.Errorf("asked %v", asked)
		}
	})
}

func TestARepositoryIsReadFromItsNameOrItsAddress(t *testing.T) {
	for text, want := range map[string]string{
		"mastodon/mastodon":                        "mastodon/mastodon",
		"https://github.com/mastodon/mastodon":     "mastodon/mastodon",
		"https://github.com/mastodon/mastodon.git": "mastodon/mastodon",
		"https://github.com/elk-zone/elk/":         "elk-zone/elk",
		"writefreely/writefreely.go":               "writefreely/writefreely.go",
		"":                                         "",
		"mastodon":                                 "",
		"mastodon/":                                "",
		"mastodon/..":                              "",
		"mastodon/mastodon/releases":               "",
		"mastodon/mastodon?x":                      "",
		"../mastodon":                              "",
		"https://gitlab.com/mastodon/mastodon":     "",
		"https://github.com.example/mastodon/mastodon":  "",
		"git@github.com:mastodon/mastodon.git":          "",
		"https://github.com/mastodon/mastodon/releases": "",
	} {
		r, err := github.ParseRepo(text)
		if (want == "") != (err != nil) || (err == nil && r.String() != want) {
			t.Errorf("%q is %v (%v), not %q", text, r, err, want)
		}
	}
}
