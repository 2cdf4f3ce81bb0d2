package cloud_test

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/cloud"
)

// gate answers as an account does that holds nothing: by scope first, then by what is
// named. Whatever would change something is noted.
type gate struct {
	t       *testing.T
	scopes  []string
	exists  []string // paths that answer 200
	answers int      // to all, if not 0
	kind    string   // of all answers
	asked   []string
	made    []string
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		g.t.Error(err)
	}
	g.asked = append(g.asked, r.Method+" "+r.URL.Path)
	w.Header().Set("Content-Type", g.kind)
	w.Header().Set("ratelimit-limit", "5000")
	w.Header().Set("ratelimit-remaining", "4321")
	if r.Header.Get("Authorization") != "Bearer secret" {
		w.WriteHeader(401)
		return
	}
	if g.answers != 0 {
		w.Header().Set("Location", "http://127.0.0.1:1/")
		w.WriteHeader(g.answers)
		return
	}
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/v2/"), "/")
	verb := map[string]string{"GET": "read", "POST": "create", "PUT": "update", "DELETE": "delete"}[r.Method]
	if len(parts) == 3 && parts[2] == "actions" {
		verb = "update"
	}
	resource := strings.TrimSuffix(parts[0], "s")
	switch {
	case !slices.Contains(g.scopes, resource+":"+verb):
		w.WriteHeader(403)
	case slices.Contains(g.exists, r.URL.Path):
		if r.Method != "GET" {
			g.made = append(g.made, r.Method+" "+r.URL.Path)
		}
		w.WriteHeader(200)
	case len(parts) > 1 && r.URL.Path != "/v2/monitoring/alerts":
		w.WriteHeader(404)
	case r.Method == "POST" && string(body) == "{}":
		w.WriteHeader(422)
	case r.Method == "GET":
		w.WriteHeader(200)
	default:
		g.made = append(g.made, r.Method+" "+r.URL.Path)
		w.WriteHeader(202)
	}
}

var someScopes = []string{
	"account:read", "droplet:read", "image:read", "snapshot:read", "tag:read", "load_balancer:read", "monitoring:read", "database:read", "firewall:read",
	"droplet:update", "droplet:delete", "image:update", "image:delete", "snapshot:delete", "tag:create", "tag:delete", "database:delete", "firewall:delete",
	"droplet:create", "image:create", "database:create", "firewall:create",
}

func prober(t *testing.T, g *gate) *cloud.Prober {
	t.Helper()
	g.t, g.kind = t, cmp.Or(g.kind, "application/json; charset=utf-8")
	s := httptest.NewServer(g)
	t.Cleanup(s.Close)
	return &cloud.Prober{API: s.URL + "/", Token: "secret"}
}

func TestEachScopeIsToldAloneAndNothingIsChanged(t *testing.T) {
	for _, scope := range someScopes {
		t.Run(scope, func(t *testing.T) {
			g := &gate{scopes: someScopes}
			p := prober(t, g)
			if got, why, err := p.Ask(t.Context(), scope); got != cloud.Granted || err != nil {
				t.Errorf("with it: %s (%s), %v; asked %q", got, why, err, g.asked)
			}
			g.scopes = slices.DeleteFunc(slices.Clone(someScopes), func(s string) bool { return s == scope })
			if got, why, err := p.Ask(t.Context(), scope); got != cloud.Lacking || err != nil {
				t.Errorf("without it: %s (%s), %v; asked %q", got, why, err, g.asked)
			}
			if len(g.made) > 0 {
				t.Errorf("changed: %q", g.made)
			}
		})
	}
}

func TestNothingIsSentToWhatExists(t *testing.T) {
	for _, test := range []struct{ scope, path string }{
		{"droplet:update", "/v2/droplets/1"},
		{"droplet:delete", "/v2/droplets/1"},
		{"image:delete", "/v2/images/1"},
		{"image:update", "/v2/images/1"},
		{"snapshot:delete", "/v2/snapshots/1"},
		{"tag:create", "/v2/tags/refit:probe:never-made"},
		{"tag:delete", "/v2/tags/refit:probe:never-made"},
		{"database:delete", "/v2/databases/00000000-0000-4000-8000-000000000000"},
		{"firewall:delete", "/v2/firewalls/00000000-0000-4000-8000-000000000000"},
	} {
		g := &gate{scopes: someScopes, exists: []string{test.path}}
		got, why, err := prober(t, g).Ask(t.Context(), test.scope)
		if got != cloud.NotProbed || !strings.Contains(why, "answers 200 and not 404") || err != nil || len(g.made) > 0 || len(g.asked) != 1 {
			t.Errorf("%s: %s (%s), %v; asked %q, changed %q", test.scope, got, why, err, g.asked, g.made)
		}
	}
}

func TestAWriteIsNotProbedWithoutItsReadScope(t *testing.T) {
	g := &gate{scopes: []string{"droplet:delete"}}
	got, why, _ := prober(t, g).Ask(t.Context(), "droplet:delete")
	if got != cloud.NotProbed || !strings.Contains(why, "droplet:read") || len(g.asked) != 1 {
		t.Errorf("%s (%s), asked %q", got, why, g.asked)
	}
}

func TestWhatHasNoHarmlessQuestionIsNotProbed(t *testing.T) {
	g := &gate{scopes: someScopes}
	if got, why, err := prober(t, g).Ask(t.Context(), "droplet:admin"); got != cloud.NotProbed || why == "" || err != nil || len(g.asked) > 0 {
		t.Errorf("%s (%s), %v, asked %q", got, why, err, g.asked)
	}
}

func TestAnAnswerThatSaysNeitherIsNoGrant(t *testing.T) {
	for _, status := range []int{202, 302, 429, 500, 503} {
		g := &gate{answers: status}
		got, why, err := prober(t, g).Ask(t.Context(), "droplet:create")
		if got != cloud.NotProbed || !strings.Contains(why, fmt.Sprint(status)) || err != nil || len(g.asked) != 1 {
			t.Errorf("%d: %s (%s), %v, asked %q", status, got, why, err, g.asked)
		}
	}
}

func TestATokenThatIsNotAcceptedIsAnErrorWithoutIt(t *testing.T) {
	p := prober(t, &gate{})
	p.Token = "s3cr3t-and-wrong"
	for _, scope := range []string{"account:read", "droplet:delete"} {
		if _, _, err := p.Ask(t.Context(), scope); !errors.Is(err, cloud.ErrDenied) || strings.Contains(err.Error(), p.Token) {
			t.Errorf("%s: %v", scope, err)
		}
	}
	p.API = "http://127.0.0.1:1/"
	if got, why, err := p.Ask(t.Context(), "account:read"); got != cloud.NotProbed || why == "" || strings.Contains(why, p.Token) || err != nil {
		t.Errorf("%s (%s), %v", got, why, err)
	}
}

func TestAPagesOwnRefusalSaysNothingOfTheToken(t *testing.T) {
	for _, status := range []int{401, 403, 404, 422} {
		g := &gate{answers: status, kind: "text/html"}
		got, why, err := prober(t, g).Ask(t.Context(), "droplet:create")
		if got != cloud.NotProbed || !strings.Contains(why, "is not the API") || err != nil {
			t.Errorf("%d: %s (%s), %v", status, got, why, err)
		}
	}
}

func TestTheMeterTellsLimitAndClock(t *testing.T) {
	p := prober(t, &gate{scopes: someScopes})
	if m := p.Meter(); m.Heard || m.Left != -1 || m.Limit != -1 {
		t.Errorf("before any answer: %+v", m)
	}
	if _, _, err := p.Ask(t.Context(), "account:read"); err != nil {
		t.Fatal(err)
	}
	if m := p.Meter(); !m.Heard || m.Left != 4321 || m.Limit != 5000 || m.Skew.Abs() > 5*time.Second {
		t.Errorf("%+v", m)
	}
}
