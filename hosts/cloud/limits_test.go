package cloud_test

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/cloud"
)

const limitBody = `{"id":"too_many_requests","message":"API rate limit exceeded."}`

func TestALimitIsWaitedForAsTheAPIAsks(t *testing.T) {
	for story, header := range map[string]func() http.Header{
		"retry-after": func() http.Header {
			return http.Header{"Retry-After": {"29"}, "Ratelimit-Remaining": {"0"}, "Ratelimit-Reset": {strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)}}
		},
		"ratelimit-reset": func() http.Header {
			return http.Header{"Ratelimit-Remaining": {"0"}, "Ratelimit-Reset": {strconv.FormatInt(time.Now().Add(29*time.Second).Unix(), 10)}}
		},
		"a clock that is off": func() http.Header {
			off := time.Now().Add(-3 * time.Hour)
			return http.Header{"Date": {off.UTC().Format(http.TimeFormat)}, "Ratelimit-Remaining": {"0"}, "Ratelimit-Reset": {strconv.FormatInt(off.Add(29*time.Second).Unix(), 10)}}
		},
	} {
		for _, what := range []string{"GET /v2/account", "DELETE /v2/droplets/1"} {
			t.Run(story+" "+what, func(t *testing.T) {
				play(t, func(w *world) {
					w.troubles = []*trouble{{at: what, status: 429, header: header(), body: limitBody}}
					c := w.client()
					began := time.Now()
					if strings.HasPrefix(what, "GET") {
						_, err := c.Account(w.Context())
						w.must(err)
					} else {
						w.must(c.Destroy(w.Context(), 1))
					}
					if took := time.Since(began); took < 29*time.Second || took > 32*time.Second {
						w.Errorf("waited %s", took)
					}
					w.want(what, 2)
				})
			})
		}
	}
}

func TestALongLimitIsAnErrorAtOnceForEverybody(t *testing.T) {
	play(t, func(w *world) {
		w.troubles = []*trouble{{at: "", times: -1, status: 429, header: http.Header{"Retry-After": {"1800"}}, body: limitBody}}
		c := w.client()
		began := time.Now()
		_, err := c.Account(w.Context())
		w.fails(err, cloud.ErrLimit, "2000-01-01 00:30:00 UTC")
		w.fails(c.Destroy(w.Context(), 1), cloud.ErrLimit, "nothing was", "2000-01-01 00:30:00 UTC")
		_, err = c.Snapshot(w.Context(), 1, name)
		w.fails(err, cloud.ErrLimit)
		if len(w.asked) != 1 || time.Since(began) != 0 {
			w.Errorf("asked %q in %s", w.asked, time.Since(began))
		}
		time.Sleep(30 * time.Minute)
		w.troubles = nil
		_, err = c.Account(w.Context())
		w.must(err)
	})
}

func TestALimitWithoutATimeDoesNotMakeItSpin(t *testing.T) {
	play(t, func(w *world) {
		w.troubles = []*trouble{{at: "DELETE", times: -1, status: 429, body: limitBody}}
		began := time.Now()
		w.fails(w.client().Destroy(w.Context(), 1), cloud.ErrLimit)
		if n := w.count("DELETE"); n > 25 || time.Since(began) > 3*time.Minute || time.Since(began) < time.Minute {
			w.Errorf("%d times in %s", n, time.Since(began))
		}
	})
}

func TestAReadIsAskedAgainThroughEveryTroubleThatPasses(t *testing.T) {
	for story, bad := range passing() {
		t.Run(story, func(t *testing.T) {
			play(t, func(w *world) {
				bad.at, bad.times = "GET /v2/droplets/1", 3
				w.troubles = []*trouble{&bad}
				d, err := w.client().Droplet(w.Context(), 1)
				w.must(err)
				if d.Name != "kirk" || d.Public.String() != "192.0.2.1" || d.Private.String() != "10.0.0.1" || d.Region != "tor1" || d.Monthly != 24 || d.Image != 7 || d.DiskGiB != 80 {
					w.Errorf("%+v", d)
				}
				w.want("GET /v2/droplets/1", 4)
			})
		})
	}
}

func TestAReadWhoseTroubleLastsEndsAfterThePatience(t *testing.T) {
	for story, bad := range passing() {
		t.Run(story, func(t *testing.T) {
			play(t, func(w *world) {
				bad.at, bad.times = "GET", -1
				w.troubles = []*trouble{&bad}
				began := time.Now()
				_, err := w.client().Droplet(w.Context(), 1)
				w.fails(err, nil, "read the droplet 1 at api.example", "attempts failed", "run it again")
				if errors.Is(err, cloud.ErrNotFound) {
					w.Error(err)
				}
				if took := time.Since(began); took < time.Minute || took > cloud.DefaultPatience+cloud.DefaultAnswer || len(w.asked) > 20 {
					w.Errorf("%d times in %s", len(w.asked), took)
				}
			})
		})
	}
}

func passing() map[string]trouble {
	return map[string]trouble{
		"500":         {status: 500, body: `{"id":"server_error","message":"Unexpected server-side error"}`},
		"503 in HTML": {status: 503, header: http.Header{"Content-Type": {"text/html"}}, body: "<html>" + strings.Repeat("sorry ", 5000) + "</html>"},
		"a cut":       {before: true},
		"a hang":      {hang: true},
		"half":        {status: 200, body: `{"droplet":{"id":1`},
		"nothing":     {status: 200, body: `{}`},
		"a page":      {status: 200, header: http.Header{"Content-Type": {"text/html"}}, body: "<html>Sign in</html>"},
	}
}

func TestAnOutageThatNamesItsEndIsLeftAloneUntilThen(t *testing.T) {
	play(t, func(w *world) {
		w.troubles = []*trouble{{at: "GET", status: 503, header: http.Header{"Retry-After": {"70"}}}}
		began := time.Now()
		_, err := w.client().Account(w.Context())
		w.must(err)
		if took := time.Since(began); took != 70*time.Second {
			w.Errorf("waited %s", took)
		}
	})
}

func TestACertificateThatIsNotTheAPIsIsSaidAtOnce(t *testing.T) {
	asked := 0
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it notes the handshake that the client breaks off
	server.StartTLS()
	defer server.Close()
	c, err := cloud.New(cloud.Options{Token: canary, API: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, read := c.Account(t.Context())
	write := c.Destroy(t.Context(), 1)
	for _, err := range []error{read, write} {
		if err == nil || !strings.Contains(err.Error(), "certificates are wrong") || errors.Is(err, cloud.ErrLost) {
			t.Errorf("got %v", err)
		}
	}
	if asked != 0 || time.Since(began) > 20*time.Second {
		t.Errorf("%d requests in %s", asked, time.Since(began))
	}
}

func TestAnHTMLPageIsCutTo200Characters(t *testing.T) {
	play(t, func(w *world) {
		w.troubles = []*trouble{{at: "GET", times: -1, status: 503, header: http.Header{"Content-Type": {"text/html"}}, body: "<html>\x1b[2J\u202e" + strings.Repeat("ä ", 9000) + "</html>"}}
		_, err := w.client().Account(w.Context())
		w.fails(err, nil, "503 Service Unavailable: <html>?[2J?ä ä")
		w.clean(err)
		if n := len([]rune(err.Error())); n > 450 || strings.ContainsAny(err.Error(), "\x1b\n\u202e") {
			w.Errorf("%d characters: %q", n, err.Error())
		}
	})
}

func TestAnExpiredTokenIsSaidAtOnce(t *testing.T) {
	play(t, func(w *world) {
		w.troubles = []*trouble{{times: -1, status: 401, body: `{"id":"unauthorized","message":"Unable to authenticate you."}`}}
		c := w.client()
		began := time.Now()
		_, err := c.Droplets(w.Context(), "")
		w.fails(err, cloud.ErrDenied, "401", "make a new token")
		w.fails(c.Destroy(w.Context(), 1), cloud.ErrDenied, "destroy the droplet 1")
		if len(w.asked) != 2 || time.Since(began) != 0 {
			w.Errorf("asked %q in %s", w.asked, time.Since(began))
		}
	})
}

func TestAMissingScopeIsNamed(t *testing.T) {
	const no = `{"id":"forbidden","message":"You do not have access for the attempted action."}`
	play(t, func(w *world) {
		c := w.client()
		w.images[5] = image(5, 1, "x")
		for at, want := range map[string]struct {
			scope string
			call  func() error
		}{
			"GET /v2/account":             {"account:read", func() error { _, err := c.Account(w.Context()); return err }},
			"POST /v2/droplets/1/actions": {"droplet:update and image:create", func() error { _, err := c.Snapshot(w.Context(), 1, name); return err }},
			"GET /v2/images":              {"image:read", func() error { _, err := c.Images(w.Context(), ""); return err }},
			"DELETE /v2/images/5":         {"image:delete", func() error { return c.DeleteImage(w.Context(), 5) }},
			"POST /v2/tags":               {"tag:create and image:update", func() error { return c.TagImage(w.Context(), 5, "refit") }},
			"DELETE /v2/droplets/1":       {"droplet:delete", func() error { return c.Destroy(w.Context(), 1) }},
			"GET /v2/databases":           {"database:read", func() error { _, err := c.Database(w.Context(), "db"); return err }},
			"POST /v2/firewalls":          {"firewall:create", func() error { _, err := c.CreateFirewall(w.Context(), cloud.Firewall{Name: "f"}); return err }},
			"GET /v2/load_balancers":      {"load_balancer:read", func() error { _, err := c.Balancer(w.Context(), "lb"); return err }},
		} {
			w.troubles = []*trouble{{at: at, times: -1, status: 403, body: no}}
			n := w.count(at)
			err := want.call()
			var s *cloud.ScopeError
			if !errors.As(err, &s) || s.Scope != want.scope || w.count(at) != n+1 {
				w.Errorf("%s: %v", at, err)
				continue
			}
			w.fails(err, nil, want.scope)
		}
		w.sure = map[string]int{}
	})
}

func TestAnAnswerThatIsNoneOfTheAPIsDoesNotMeanThatSomethingIsGone(t *testing.T) {
	html := http.Header{"Content-Type": {"text/html"}}
	for story, bad := range map[string]trouble{
		"a proxy's 404":  {status: 404, header: html, body: "<html>no such page</html>"},
		"a proxy's 403":  {status: 403, header: html, body: "<html>blocked</html>"},
		"a redirect":     {status: 302, header: http.Header{"Location": {"https://evil.example/v2/droplets/1"}}},
		"a kept request": {status: 307, header: http.Header{"Location": {"https://evil.example/v2/droplets/1"}}},
	} {
		t.Run(story, func(t *testing.T) {
			play(t, func(w *world) {
				bad.at, bad.times = "", -1
				w.troubles = []*trouble{&bad}
				c := w.client()
				err := c.Destroy(w.Context(), 1)
				w.fails(err, nil)
				_, read := c.Droplet(w.Context(), 1)
				w.fails(read, nil)
				var s *cloud.ScopeError
				if errors.Is(err, cloud.ErrNotFound) || errors.Is(read, cloud.ErrNotFound) || errors.As(err, &s) || errors.As(read, &s) || len(w.asked) != 2 {
					w.Errorf("%v; %v; %q", err, read, w.asked)
				}
			})
		})
	}
}

func TestTheTokenIsInNoError(t *testing.T) {
	header := http.Header{"Location": {"https://evil.example/?t=" + canary}, "Content-Type": {"application/json"}}
	for story, bad := range map[string]trouble{
		"a message":   {status: 422, body: `{"id":"x","message":"the token ` + canary + ` is no good"}`},
		"an outage":   {status: 500, body: `{"message":"` + strings.Repeat(canary+" ", 100) + `"}`},
		"a redirect":  {status: 302, header: header},
		"a transport": {err: errors.New("proxy said: " + canary)},
		"a status":    {status: 200, body: `{"droplet":{"id":1,"created_at":"` + canary + `"},"action":{"id":1,"status":"` + canary + `"}}`},
		"a type":      {status: 200, body: `{"droplet":"` + canary + `"}`},
		"a limit":     {status: 429, header: http.Header{"Retry-After": {canary}}, body: `{"message":"` + canary + `"}`},
		"a scope":     {status: 403, body: `{"message":"` + canary + `"}`},
	} {
		t.Run(story, func(t *testing.T) {
			play(t, func(w *world) {
				bad.times = -1
				w.troubles = []*trouble{&bad}
				c := w.client()
				_, err := c.Droplet(w.Context(), 1)
				w.fails(err, nil)
				w.clean(err)
				bad.at = "DELETE"
				if bad.status != 200 {
					w.clean(c.Destroy(w.Context(), 1))
				}
				bad.at = "GET /v2/droplets/1/actions/1"
				w.clean(c.Await(w.Context(), 1, 1, 0, nil))
				if said := strings.Join(w.said, "\n"); strings.Contains(said, canary) {
					w.Errorf("said %q", said)
				}
			})
		})
	}
}

func TestOptionsThatWouldDoHarmAreRefused(t *testing.T) {
	for story, o := range map[string]cloud.Options{
		"no token":         {},
		"a token in words": {Token: "DIGITALOCEAN " + canary},
		"two lines":        {Token: canary + "\n" + canary},
		"in the clear":     {Token: canary, API: "http://api.digitalocean.com/"},
		"a password":       {Token: canary, API: "https://me:" + canary + "@api.example/"},
		"a path":           {Token: canary, API: "https://api.example/v2/"},
		"a query":          {Token: canary, API: "https://api.example/?x=1"},
		"no address":       {Token: canary, API: "::" + canary},
		"another scheme":   {Token: canary, API: "ftp://api.example/"},
	} {
		if c, err := cloud.New(o); err == nil || c != nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", story, err)
		}
	}
	for _, api := range []string{"", "https://api.example", "http://127.0.0.1:8080/", "http://10.0.0.5"} {
		if _, err := cloud.New(cloud.Options{Token: " " + canary + "\n", API: api}); err != nil {
			t.Errorf("%s: %v", api, err)
		}
	}
}
