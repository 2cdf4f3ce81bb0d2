package githubtest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/hosts/github/githubtest"
)

const (
	read    = "ghp_reader"
	push    = "ghp_publisher"
	propose = "ghp_proposer"
	home    = "mastodon/mastodon"
	list    = "/repos/mastodon/mastodon/releases"
)

var (
	object = githubtest.Hash("the tag object of v4.6.5")
	commit = githubtest.Hash("the commit of v4.6.5")
)

// furnished is a simulation with two published releases, a pre-release, a draft
// and a repository that moved, and the ids of the releases by tag.
func furnished(t *testing.T) (*githubtest.Server, map[string]string) {
	t.Helper()
	s := githubtest.New(githubtest.Options{Fail: t.Error, Tokens: map[string]githubtest.Token{read: {}, push: {Push: true}, propose: {Pulls: true}}})
	s.AddRepo(home)
	s.AddRepo("old/name")
	s.Rename("old/name", "new/name")
	s.SetTag(home, githubtest.Tag{Name: "v4.6.5", Commit: commit, Objects: []string{object}, Date: time.Date(2026, 8, 4, 10, 0, 0, 0, time.UTC)})
	ids := map[string]string{}
	for _, r := range []githubtest.Release{
		{Tag: "v4.6.5", Name: "v4.6.5", Body: "notes", Hearts: 3},
		{Tag: "v4.5.13", Created: time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)},
		{Tag: "v4.7.0-rc.1", Prerelease: true},
		{Tag: "v4.7.0-draft", Draft: true},
	} {
		ids[r.Tag] = fmt.Sprint(s.Publish(home, r))
	}
	return s, ids
}

// limitsOfEachFlavour prepares a simulation to refuse the reader's next request,
// and tells the status.
func limitsOfEachFlavour() map[string]func(*githubtest.Server) int {
	secondary := func(status int, named bool, message string) func(*githubtest.Server) int {
		return func(s *githubtest.Server) int {
			s.Limit(githubtest.Secondary{Status: status, For: time.Minute, Named: named, Message: message})
			return status
		}
	}
	return map[string]func(*githubtest.Server) int{
		"primary":               func(s *githubtest.Server) int { s.Exhaust(read); return http.StatusForbidden },
		"secondary 403":         secondary(http.StatusForbidden, true, githubtest.SecondaryMessage),
		"secondary 429":         secondary(http.StatusTooManyRequests, true, githubtest.SecondaryMessage),
		"secondary, no hint":    secondary(http.StatusForbidden, false, githubtest.SecondaryMessage),
		"abuse, as it once was": secondary(http.StatusForbidden, false, githubtest.AbuseMessage),
	}
}

// ask sends one request straight to the simulation.
func ask(h http.Handler, req *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec
}

func TestWhatNoClientMaySendIsAFault(t *testing.T) {
	for name, req := range map[string]*http.Request{
		"an unknown path":                             request("GET", "/repos/mastodon/mastodon/tags", read, ""),
		"a path of the web site":                      request("GET", "/mastodon/mastodon/releases", read, ""),
		"a redirect that is followed":                 request("GET", "/repositories/2/releases", read, ""),
		"pull requests of a branch without its owner": request("GET", "/repos/mastodon/mastodon/pulls?head=refit%2Frun", read, ""),
		"a wrong method":                              request("PUT", list, read, ""),
		"no User-Agent":                               request("GET", list, read, "", "User-Agent", ""),
		"Go's own User-Agent":                         request("GET", list, read, "", "User-Agent", "Go-http-client/1.1"),
		"no Accept":                                   request("GET", list, read, "", "Accept", ""),
		"any Accept":                                  request("GET", list, read, "", "Accept", "*/*"),
		"no version of the API":                       request("GET", list, read, "", "X-GitHub-Api-Version", ""),
		"another version":                             request("GET", list, read, "", "X-GitHub-Api-Version", "2026-03-10"),
		"an ETag without quotes":                      request("GET", list, read, "", "If-None-Match", "abc"),
		"a page that is no number":                    request("GET", list+"?page=x", read, ""),
		"a page nought":                               request("GET", list+"?page=0", read, ""),
		"too much on a page":                          request("GET", list+"?per_page=101", read, ""),
		"a query nobody knows":                        request("GET", list+"?sort=version", read, ""),
		"a body to a GET":                             request("GET", list, read, "{}"),
		"a property nobody knows":                     request("POST", list, push, `{"tag_name":"v1","notes":"x"}`),
		"a body of another type":                      request("POST", list, push, `{"tag_name":"v1"}`, "Content-Type", "text/plain"),
	} {
		s := githubtest.New(githubtest.Options{Tokens: map[string]githubtest.Token{read: {}, push: {Push: true}}})
		s.AddRepo(home)
		rec := ask(s, req)
		if len(s.Faults()) != 1 || rec.Code < 400 {
			t.Errorf("%s: answered %d, faults %v", name, rec.Code, s.Faults())
		}
	}
}

func TestAnETagChangesWithTheBodyAndWithNothingElse(t *testing.T) {
	s, _ := furnished(t)
	etag := func(path, token string) string { return ask(s, request("GET", path, token, "")).Header().Get("ETag") }
	first := etag(list, read)
	if first == "" || etag(list, read) != first {
		t.Errorf("the same list has the ETags %q and %q", first, etag(list, read))
	}
	if etag(list, "") == first {
		t.Error("an ETag holds for another caller")
	}
	id := s.Publish(home, githubtest.Release{Tag: "v9.0.0"})
	published := etag(list, read)
	s.Edit(home, id, func(r *githubtest.Release) { r.Body = "notes" })
	edited := etag(list, read)
	s.Delete(home, id)
	if published == first || edited == published || etag(list, read) != first {
		t.Errorf("at first %q, published %q, edited %q, deleted %q", first, published, edited, etag(list, read))
	}
	ref := etag("/repos/mastodon/mastodon/git/ref/tags/v4.6.5", read)
	s.SetTag(home, githubtest.Tag{Name: "v4.6.5", Commit: githubtest.Hash("another")})
	if etag("/repos/mastodon/mastodon/git/ref/tags/v4.6.5", read) == ref {
		t.Error("a moved tag has the ETag it had")
	}
}

func TestA304HasNoLinkAndIsFreeForATokenAlone(t *testing.T) {
	s, _ := furnished(t)
	for _, token := range []string{read, ""} {
		rec := ask(s, request("GET", list+"?per_page=1", token, ""))
		if !strings.Contains(rec.Header().Get("Link"), `rel="next"`) {
			t.Errorf("Link is %q", rec.Header().Get("Link"))
		}
		again := ask(s, request("GET", list+"?per_page=1", token, "", "If-None-Match", rec.Header().Get("ETag")))
		if again.Code != http.StatusNotModified || again.Header().Get("Link") != "" || again.Body.Len() > 0 {
			t.Errorf("answered %d, Link %q, %d bytes", again.Code, again.Header().Get("Link"), again.Body.Len())
		}
	}
	if paid, free := s.Count(""), s.Count(read); paid.Spent != 2 || free.Spent != 1 || free.Requests != 2 || free.NotModified != 1 {
		t.Errorf("without a token %+v, with one %+v", paid, free)
	}
}

func TestPagesAreCutWhereTheQuerySays(t *testing.T) {
	s, _ := furnished(t)
	for path, want := range map[string][]string{
		list + "?per_page=2":        {"v4.7.0-rc.1", "v4.6.5"},
		list + "?per_page=2&page=2": {"v4.5.13"},
		list + "?per_page=2&page=3": {},
		list:                        {"v4.7.0-rc.1", "v4.6.5", "v4.5.13"},
	} {
		var got []struct {
			Tag string `json:"tag_name"`
		}
		rec := ask(s, request("GET", path, read, ""))
		if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		tags := []string{}
		for _, r := range got {
			tags = append(tags, r.Tag)
		}
		if fmt.Sprint(tags) != fmt.Sprint(want) {
			t.Errorf("%s: %v, not %v", path, tags, want)
		}
	}
}

func TestLatestIsTheNewestCommitAndNotTheLastPublished(t *testing.T) {
	s, _ := furnished(t)
	s.Publish(home, githubtest.Release{Tag: "v4.4.19", Created: time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)})
	if body := ask(s, request("GET", list+"/latest", read, "")).Body.String(); !strings.Contains(body, `"tag_name":"v4.6.5"`) {
		t.Error(body)
	}
}

func TestWhoAsksOnWhileALimitLastsIsNoticed(t *testing.T) {
	for name, prepare := range limitsOfEachFlavour() {
		synctest.Test(t, func(t *testing.T) {
			s := githubtest.New(githubtest.Options{Tokens: map[string]githubtest.Token{read: {}}})
			s.AddRepo(home)
			want := prepare(s)
			if rec := ask(s, request("GET", list, read, "")); rec.Code != want || len(s.Faults()) != 0 {
				t.Errorf("%s: answered %d, faults %v", name, rec.Code, s.Faults())
			}
			time.Sleep(30 * time.Second)
			if rec := ask(s, request("GET", list, read, "")); rec.Code != want || len(s.Faults()) != 1 {
				t.Errorf("%s, half a minute later: answered %d, faults %v", name, rec.Code, s.Faults())
			}
			time.Sleep(time.Hour)
			if rec := ask(s, request("GET", list, read, "")); rec.Code != http.StatusOK || len(s.Faults()) != 1 {
				t.Errorf("%s, an hour later: answered %d, faults %v", name, rec.Code, s.Faults())
			}
			if n := s.Count(read); n.Requests != 3 || n.Refused != 2 || n.Spent != 1 {
				t.Errorf("%s: %+v", name, n)
			}
		})
	}
}

func TestAPublisherCanDoAllOverTheAPI(t *testing.T) {
	s, _ := furnished(t)
	made := ask(s, request("POST", list, push, `{"tag_name":"v4.7.0","draft":true}`))
	at := strings.TrimPrefix(made.Header().Get("Location"), "http://api.github.test")
	if rec := ask(s, request("GET", list+"/tags/v4.7.0", read, "")); rec.Code != http.StatusNotFound {
		t.Errorf("a draft is public: %s", rec.Body)
	}
	if rec := ask(s, request("PATCH", at, push, `{"draft":false,"body":"notes"}`)); !strings.Contains(rec.Body.String(), `"body":"notes"`) {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	for _, path := range []string{list + "/tags/v4.7.0", "/repos/mastodon/mastodon/git/ref/tags/v4.7.0", at} {
		if rec := ask(s, request("GET", path, read, "")); rec.Code != http.StatusOK {
			t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
		}
	}
	if rec := ask(s, request("DELETE", at, push, "")); rec.Code != http.StatusNoContent {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	if rec := ask(s, request("GET", at, read, "")); rec.Code != http.StatusNotFound {
		t.Errorf("a deleted release is there: %s", rec.Body)
	}
	if rec := ask(s, request("GET", "/repos/mastodon/mastodon/git/ref/tags/v4.7.0", read, "")); rec.Code != http.StatusOK {
		t.Errorf("the tag went with the release: %s", rec.Body)
	}
}

func TestItServesOnASocketToo(t *testing.T) {
	s, _ := furnished(t)
	server := httptest.NewServer(s)
	defer server.Close()
	req := request("GET", list, read, "")
	req.RequestURI = ""
	req.URL.Host = strings.TrimPrefix(server.URL, "http://")
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
}
