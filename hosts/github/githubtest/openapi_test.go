package githubtest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"vmst.io/refit/hosts/github"
	"vmst.io/refit/hosts/github/githubtest"
)

// description is GitHub's official description of the part of its API that is
// simulated, made stricter: an object has no properties but those described.
type description struct {
	*testing.T
	doc    *openapi3.T
	router routers.Router
}

// describe reads the description that REFIT_OPENAPI names (github.json, or its
// folder), or skips the test.
func describe(t *testing.T) description {
	t.Helper()
	path := os.Getenv("REFIT_OPENAPI")
	if path == "" {
		t.Skip("not held to GitHub's description: REFIT_OPENAPI names no folder with a github.json")
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "github.json")
	}
	doc, err := openapi3.NewLoader().LoadFromFile(path)
	if err != nil {
		t.Fatalf("REFIT_OPENAPI: %v", err)
	}
	doc.Servers = nil // any host will do
	router, err := legacy.NewRouter(doc, openapi3.DisableExamplesValidation())
	if err != nil {
		t.Fatalf("REFIT_OPENAPI: %v", err)
	}
	seen := map[*openapi3.Schema]bool{}
	for _, s := range doc.Components.Schemas {
		strict(s, seen)
	}
	for _, path := range doc.Paths.Map() {
		for _, op := range path.Operations() {
			if op.RequestBody != nil {
				for _, media := range op.RequestBody.Value.Content {
					strict(media.Schema, seen)
				}
			}
		}
	}
	return description{t, doc, router}
}

func strict(ref *openapi3.SchemaRef, seen map[*openapi3.Schema]bool) {
	if ref == nil || ref.Value == nil || seen[ref.Value] {
		return
	}
	seen[ref.Value] = true
	if s := ref.Value; len(s.Properties) > 0 && len(s.AllOf)+len(s.OneOf)+len(s.AnyOf) == 0 {
		no := false
		s.AdditionalProperties = openapi3.AdditionalProperties{Has: &no}
	}
	for _, p := range ref.Value.Properties {
		strict(p, seen)
	}
	strict(ref.Value.Items, seen)
}

// hold tells where a request or its answer is not as described. Refusals that the
// description does not list for an operation are held to the form of its errors.
func (d description) hold(req *http.Request, sent []byte, resp *http.Response, body []byte) error {
	route, params, err := d.router.FindRoute(req)
	if err != nil {
		return err
	}
	req = req.Clone(req.Context())
	req.Body = io.NopCloser(bytes.NewReader(sent))
	uri := openapi3.NewCallbackValidator(func(s string) error {
		u, err := url.Parse(s)
		if err == nil && (u.Scheme == "" || u.Host == "") {
			err = errors.New("no absolute address")
		}
		return err
	})
	opts := &openapi3filter.Options{
		IncludeResponseStatus:   true,
		SchemaValidationOptions: []openapi3.SchemaValidationOption{openapi3.EnableFormatValidation(), openapi3.WithStringFormatValidator("uri", uri)},
	}
	in := &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route, Options: opts}
	if err := openapi3filter.ValidateRequest(req.Context(), in); err != nil {
		return err
	}
	switch described := route.Operation.Responses.Status(resp.StatusCode); {
	case resp.StatusCode == http.StatusNotModified && len(body) > 0:
		return errors.New("a 304 with a body")
	case described == nil && resp.StatusCode >= 300 && resp.StatusCode != http.StatusNotModified:
		var v any
		if err := json.Unmarshal(body, &v); err != nil {
			return err
		}
		form := "basic-error"
		if resp.StatusCode == http.StatusUnprocessableEntity {
			form = "validation-error"
		}
		return d.doc.Components.Schemas[form].Value.VisitJSON(v)
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: resp.StatusCode, Header: resp.Header, Options: opts}
	out.SetBodyBytes(body)
	return openapi3filter.ValidateResponse(req.Context(), out)
}

// exchange sends one request to the simulation and holds both sides of it.
func (d description) exchange(h http.Handler, method, path, token, body string, header ...string) *http.Response {
	d.Helper()
	req := request(method, path, token, body, header...)
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	resp := rec.Result()
	if err := d.hold(req, []byte(body), resp, rec.Body.Bytes()); err != nil {
		d.Errorf("%s %s answered %d: %v\n%s", method, path, resp.StatusCode, err, rec.Body)
	}
	return resp
}

// request is one that the simulation admits.
func request(method, path, token, body string, header ...string) *http.Request {
	req := httptest.NewRequest(method, "http://api.github.test"+path, strings.NewReader(body))
	req.Header.Set("Accept", "application/vnd.github+json")
	req.Header.Set("User-Agent", "refit")
	req.Header.Set("X-GitHub-Api-Version", "2022-11-28")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

func TestEveryAnswerIsAsGitHubDescribesIt(t *testing.T) {
	d := describe(t)
	s, ids := furnished(t)
	const at = "/repos/mastodon/mastodon"
	for _, x := range []struct {
		method, path, token, body string
		status                    int
	}{
		{"GET", at + "/releases", "", "", 200},
		{"GET", at + "/releases?per_page=2&page=2", "", "", 200},
		{"GET", at + "/releases?per_page=100", push, "", 200},
		{"GET", at + "/releases?page=9", "", "", 200},
		{"GET", at + "/releases/latest", "", "", 200},
		{"GET", at + "/releases/tags/v4.6.5", "", "", 200},
		{"GET", at + "/releases/tags/v9.9.9", "", "", 404},
		{"GET", at + "/releases/" + ids["v4.6.5"], "", "", 200},
		{"GET", at + "/git/ref/tags/v4.6.5", "", "", 200},
		{"GET", at + "/git/ref/tags/v4.5.13", "", "", 200},
		{"GET", at + "/git/ref/tags/v9.9.9", "", "", 404},
		{"GET", at + "/git/tags/" + object, "", "", 200},
		{"GET", at + "/git/commits/" + commit, "", "", 200},
		{"GET", at + "/git/commits/" + object, "", "", 404},
		{"GET", "/repos/nobody/nothing/releases", "", "", 404},
		{"GET", "/repos/old/name/releases", "", "", 301},
		{"GET", at + "/releases", "wrong", "", 401},
		{"GET", "/rate_limit", push, "", 200},
		{"POST", at + "/deployments", push, `{"ref":"main","task":"refit:run-1","environment":"production","description":"x","auto_merge":false,"required_contexts":[]}`, 201},
		{"POST", at + "/deployments", read, `{"ref":"main","auto_merge":false,"required_contexts":[]}`, 404},
		{"POST", at + "/deployments", push, `{"ref":"","auto_merge":false,"required_contexts":[]}`, 422},
		{"GET", at + "/deployments?task=refit%3Arun-1&environment=production&per_page=1", push, "", 200},
		{"GET", at + "/deployments/99999/statuses", push, "", 404},
		{"POST", at + "/releases", push, `{"tag_name":"v4.7.0","name":"v4.7.0","body":"notes","draft":true}`, 201},
		{"POST", at + "/releases", push, `{"tag_name":"v4.6.5"}`, 422},
		{"POST", at + "/releases", read, `{"tag_name":"v4.7.1"}`, 404},
		{"PATCH", at + "/releases/" + ids["v4.6.5"], push, `{"prerelease":true,"body":"read this again"}`, 200},
		{"PATCH", at + "/releases/" + ids["v4.6.5"], push, `{"tag_name":"v4.5.13"}`, 422},
		{"DELETE", at + "/releases/" + ids["v4.6.5"], push, "", 204},
		{"DELETE", at + "/releases/" + ids["v4.6.5"], push, "", 404},
	} {
		if resp := d.exchange(s, x.method, x.path, x.token, x.body); resp.StatusCode != x.status {
			t.Errorf("%s %s: %d, not %d", x.method, x.path, resp.StatusCode, x.status)
		}
	}
	var made struct {
		ID int64 `json:"id"`
	}
	if err := json.NewDecoder(d.exchange(s, "POST", at+"/deployments", push, `{"ref":"main","auto_merge":false,"required_contexts":[]}`).Body).Decode(&made); err != nil {
		t.Fatal(err)
	}
	statuses := fmt.Sprintf("%s/deployments/%d/statuses", at, made.ID)
	for body, want := range map[string]int{
		`{"state":"success","description":"done","log_url":"https://a.test/","environment_url":"https://b.test/"}`: 201,
		// Without a log the description contradicts itself: target_url is a URI, and "" by default.
		`{"state":"pending","description":"","log_url":"https://a.test/"}`:    201,
		`{"state":"queued","description":"` + strings.Repeat("x", 141) + `"}`: 422,
	} {
		if resp := d.exchange(s, "POST", statuses, push, body); resp.StatusCode != want {
			t.Errorf("%s: %d, not %d", body, resp.StatusCode, want)
		}
	}
	if resp := d.exchange(s, "GET", statuses+"?per_page=1", push, ""); resp.StatusCode != 200 {
		t.Errorf("statuses: %d", resp.StatusCode)
	}
	first := d.exchange(s, "GET", at+"/releases", read, "")
	if again := d.exchange(s, "GET", at+"/releases", read, "", "If-None-Match", first.Header.Get("ETag")); again.StatusCode != 304 {
		t.Errorf("the same again: %d", again.StatusCode)
	}
}

func TestEveryPullRequestIsAsGitHubDescribesIt(t *testing.T) {
	d := describe(t)
	const at = "/repos/mastodon/mastodon/pulls"
	if d.doc.Paths.Find("/repos/{owner}/{repo}/pulls") == nil {
		t.Skip("the description that REFIT_OPENAPI names has no pull requests")
	}
	s, _ := furnished(t)
	s.Branches(home, func(branch string) string {
		return map[string]string{"main": commit, "refit/one": object, "refit/two": githubtest.Hash("two")}[branch]
	})
	ask := func(method, path, token, body string, want int) {
		t.Helper()
		if resp := d.exchange(s, method, path, token, body); resp.StatusCode != want {
			t.Errorf("%s %s %s: %d, not %d", method, path, body, resp.StatusCode, want)
		}
	}
	ask("GET", at+"?state=all&head=mastodon%3Arefit%2Fone&base=main&sort=created&direction=desc&per_page=10", propose, "", 200)
	ask("POST", at, propose, `{"title":"one","head":"refit/one","base":"main","body":"","maintainer_can_modify":false}`, 201)
	ask("POST", at, propose, `{"title":"two","head":"refit/two","base":"main","body":"x","draft":true}`, 201)
	ask("POST", at, propose, `{"title":"again","head":"refit/one","base":"main"}`, 422)
	ask("POST", at, propose, `{"title":"nothing","head":"main","base":"main"}`, 422)
	ask("POST", at, propose, `{"title":"none","head":"refit/none","base":"main"}`, 422)
	ask("POST", at, read, `{"title":"one","head":"refit/one","base":"main"}`, 403)
	ask("GET", at+"/1", propose, "", 200)
	ask("GET", at+"/9", propose, "", 404)
	ask("PATCH", at+"/2", propose, `{"state":"closed","body":"no more wanted"}`, 200)
	ask("PATCH", at+"/2", read, `{"state":"closed"}`, 403)
	s.Merge(home, 1, githubtest.Hash("the merge"))
	ask("GET", at+"/1", propose, "", 200)
	ask("GET", at+"?state=all", propose, "", 200)
	ask("PATCH", at+"/1", propose, `{"state":"open"}`, 422)
}

func TestEveryRefusalIsAsGitHubDescribesErrors(t *testing.T) {
	d := describe(t)
	const path = "/repos/mastodon/mastodon/releases"
	for name, prepare := range limitsOfEachFlavour() {
		s, _ := furnished(t)
		want := prepare(s)
		if resp := d.exchange(s, "GET", path, read, ""); resp.StatusCode != want {
			t.Errorf("%s: %d, not %d", name, resp.StatusCode, want)
		}
	}
}

func TestTheDescriptionIsHeldTo(t *testing.T) {
	d := describe(t)
	s, _ := furnished(t)
	req := request("GET", "/repos/mastodon/mastodon/releases/tags/v4.6.5", "", "")
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, req)
	for name, spoil := range map[string]func(release map[string]any){
		"a property left out":      func(r map[string]any) { delete(r, "prerelease") },
		"one that is not there":    func(r map[string]any) { r["is_prerelease"] = true },
		"a number for a string":    func(r map[string]any) { r["tag_name"] = 4.6 },
		"null where it may not be": func(r map[string]any) { r["draft"] = nil },
		"a date that is none":      func(r map[string]any) { r["published_at"] = "yesterday" },
		"an address that is none":  func(r map[string]any) { r["html_url"] = "here" },
		"an author without a name": func(r map[string]any) { delete(r["author"].(map[string]any), "login") },
	} {
		var release map[string]any
		if err := json.Unmarshal(rec.Body.Bytes(), &release); err != nil {
			t.Fatal(err)
		}
		spoil(release)
		body, err := json.Marshal(release)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.hold(req, nil, rec.Result(), body); err == nil {
			t.Errorf("%s is not noticed", name)
		}
	}
	for name, req := range map[string]*http.Request{
		"a page that is no number": request("GET", "/repos/mastodon/mastodon/releases?page=one", "", ""),
		"a path of its own":        request("GET", "/repos/mastodon/mastodon/news", "", ""),
	} {
		if err := d.hold(req, nil, &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}}, []byte("[]")); err == nil {
			t.Errorf("%s is not noticed", name)
		}
	}
}

func TestWhatTheClientSendsAndGetsIsAsGitHubDescribesIt(t *testing.T) {
	d := describe(t)
	s, _ := furnished(t)
	held := 0
	c, err := github.New(github.Options{Token: read, BaseURL: "http://127.0.0.1/", Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
		rec := ask(s, req)
		held++
		return rec.Result(), d.hold(req, nil, rec.Result(), rec.Body.Bytes())
	})})
	if err != nil {
		t.Fatal(err)
	}
	repo := github.Repo{Owner: "mastodon", Name: "mastodon"}
	var known github.Known
	var id github.Identity
	for range 2 { // the second time conditionally
		got, err := c.Releases(t.Context(), repo, known)
		if err != nil {
			t.Fatal(err)
		}
		known = got.Known
		if id, err = c.Tag(t.Context(), repo, "v4.6.5", id); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Release(t.Context(), repo, "v4.6.5"); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.Count(read); n.NotModified != 2 || held != 8 {
		t.Errorf("%d exchanges were held to the description, %+v", held, n)
	}
}

// roundTrip is a transport made of a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
