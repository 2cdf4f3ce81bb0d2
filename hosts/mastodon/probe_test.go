package mastodon

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	redisserver "github.com/alicebob/miniredis/v2/server"
	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
)

const (
	domain   = "lab.vmst.test"
	token    = "canary-probe-token"
	homePage = `<!doctype html><html><head>
<link rel="modulepreload" href="https://cdn.test/packs/assets/common-1a.js" integrity="x">
<link rel="stylesheet" href="/packs/assets/theme-2b.css"><link href="/favicon.ico">
<script src="/packs/assets/theme-2b.css"></script><script type="module" src="/packs/entry-3c.js"></script>
<script id="other" type="application/json">{"meta":{"version":"0.0.1"}}</script>
</head><body><script id="initial-state" type="application/json">{"meta":{"version":"4.5.15","x":"a<b"}}</script></body></html>`
)

// app is a web node: Puma's and the streaming server's answers by path.
type app struct {
	web, streaming *http.ServeMux
	redis          *miniredis.Miniredis
	layout         Layout
	in             ProbeIn
}

// newApp makes one on which every check passes.
func newApp(t *testing.T) *app {
	t.Helper()
	a := &app{web: http.NewServeMux(), streaming: http.NewServeMux()}
	a.redis = miniredis.RunT(t)
	a.layout = layoutWith(t, fmt.Sprintf("REDIS_HOST=%s\nREDIS_PORT=%s\n", a.redis.Host(), a.redis.Port()))
	a.answer("/health", 200, "OK")
	a.answer("/{$}", 200, homePage)
	a.answer("/packs/", 200, "x")
	a.answer("/api/v1/timelines/public", 200, "[]")
	a.web.HandleFunc("/api/v1/accounts/verify_credentials", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"id":"42"}`)
	})
	a.streaming.HandleFunc("/api/v1/streaming/health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "OK") })
	a.streaming.HandleFunc("/api/v1/streaming", a.websocket(t, "timeline:42"))
	tokenFile := filepath.Join(t.TempDir(), "probe.token")
	if err := os.WriteFile(tokenFile, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.in = ProbeIn{Layout: a.layout, Domain: domain, Release: "v4.5.15", TokenFile: tokenFile, Deadline: time.Minute}
	_, a.in.WebPort = serving(t, a.rules(a.web))
	_, a.in.StreamingPort = serving(t, a.rules(a.streaming))
	return a
}

func (a *app) answer(path string, status int, body string) {
	a.web.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})
}

// rules are Mastodon's: another host is refused and plain http sent away, but for
// /health.
func (a *app) rules(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/health" && r.Host != domain:
			http.Error(w, "blocked host", http.StatusForbidden)
		case r.URL.Path != "/health" && r.Header.Get("X-Forwarded-Proto") != "https":
			http.Redirect(w, r, "https://"+domain+r.URL.Path, http.StatusMovedPermanently)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// websocket passes on what is published to the channel, as streaming does.
func (a *app) websocket(t *testing.T, channel string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token || r.URL.Query().Get("stream") != "user" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		sub := a.redis.NewSubscriber()
		defer sub.Close()
		sub.Subscribe(channel)
		ctx := c.CloseRead(r.Context())
		for {
			select {
			case m := <-sub.Messages():
				var event map[string]any
				if err := json.Unmarshal([]byte(m.Message), &event); err != nil {
					t.Error(err)
				}
				event["stream"] = []string{"user"}
				b, err := json.Marshal(event)
				if err != nil {
					t.Error(err)
				}
				// Another event first: it must be passed over.
				if err := c.Write(ctx, websocket.MessageText, []byte(`{"event":"update","payload":{}}`)); err != nil {
					return
				}
				if err := c.Write(ctx, websocket.MessageText, b); err != nil {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

func serving(t *testing.T, h http.Handler) (address string, port int) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	host, p, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	port, err = strconv.Atoi(p)
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}

// probe runs it and fails the test if the token is in the result.
func (a *app) probe(t *testing.T, change func(*ProbeIn)) Probe {
	t.Helper()
	return a.probeIn(t.Context(), t, change)
}

func (a *app) probeIn(ctx context.Context, t *testing.T, change func(*ProbeIn)) Probe {
	t.Helper()
	in := a.in
	if change != nil {
		change(&in)
	}
	p, err := runProbe(ctx, in, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(p)
	if err != nil || strings.Contains(string(b), token) {
		t.Fatalf("%v, %s", err, b)
	}
	return p
}

func TestAHealthyNodePassesEveryCheck(t *testing.T) {
	p := newApp(t).probe(t, func(in *ProbeIn) { in.Checks = append(AllChecks(), CheckLatency); in.Requests = 3 })
	if p.Err() != nil || p.NotChecked() != nil || p.Version != "4.5.15" || len(p.Checks) != len(AllChecks()) {
		t.Errorf("%+v", p)
	}
	if c, _ := p.Check(CheckPacks); c.Detail != "3 files" {
		t.Errorf("packs: %+v", c)
	}
	if p.Latency.Requests != 3 || p.Latency.Failed != 0 || p.Latency.P95 < p.Latency.P50 || p.Latency.P50 == 0 {
		t.Errorf("%+v", p.Latency)
	}
}

func TestWhatMastodonSaysOfARefusalIsTold(t *testing.T) {
	for body, want := range map[string]string{
		`{"error":"Your login is currently\npending approval"}`: "/x answers 403: Your login is currently pending approval",
		`{"error":"` + strings.Repeat("long ", 60) + `"}`:       "/x answers 403; is the domain",
		"<html>Blocked host</html>":                             "/x answers 403; is the domain",
	} {
		if got := (&statusError{path: "/x", status: http.StatusForbidden, reason: reason([]byte(body))}).Error(); !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestEachWayToBreakFailsItsOwnCheck(t *testing.T) {
	for name, c := range map[string]struct {
		breaks func(t *testing.T, a *app, in *ProbeIn)
		fails  map[CheckName]string // by part of the error
	}{
		"another release": {
			func(_ *testing.T, _ *app, in *ProbeIn) { in.Release = "v4.6.0" },
			map[CheckName]string{CheckPage: "version 4.5.15, not 4.6.0"},
		},
		"Puma is down": {
			func(_ *testing.T, _ *app, in *ProbeIn) { in.WebPort = 1 },
			map[CheckName]string{CheckHealth: "connection refused", CheckPage: "connection refused", CheckPacks: "refused", CheckDatabase: "refused", CheckEvent: "refused"},
		},
		"streaming is down": {
			func(_ *testing.T, _ *app, in *ProbeIn) { in.StreamingPort = 1 },
			map[CheckName]string{CheckStreaming: "connection refused", CheckEvent: "connection refused"},
		},
		"another domain": {
			func(_ *testing.T, _ *app, in *ProbeIn) { in.Domain = "elsewhere.test" },
			map[CheckName]string{CheckPage: "answers 403; is the domain", CheckPacks: "403", CheckDatabase: "403", CheckStreaming: "403", CheckEvent: "403"},
		},
		"a pack asked for is missing": {
			func(_ *testing.T, a *app, in *ProbeIn) {
				a.answer("/packs/gone-4d.js", 404, "")
				in.Packs = []string{"/packs/gone-4d.js"}
			},
			map[CheckName]string{CheckPacks: "/packs/gone-4d.js answers 404; it is not in the release, or RAILS_SERVE_STATIC_FILES"},
		},
		"a pack that the page names is missing": {
			func(_ *testing.T, a *app, _ *ProbeIn) { a.answer("/packs/entry-3c.js", 404, "") },
			map[CheckName]string{CheckPacks: "/packs/entry-3c.js answers 404"},
		},
		"the token is refused": {
			func(t *testing.T, _ *app, in *ProbeIn) {
				if err := os.WriteFile(in.TokenFile, []byte("another"), 0o600); err != nil {
					t.Fatal(err)
				}
			},
			map[CheckName]string{CheckDatabase: "verify_credentials answers 401", CheckEvent: "verify_credentials answers 401"},
		},
		"Redis is away": {
			func(_ *testing.T, a *app, _ *ProbeIn) { a.redis.Close() },
			map[CheckName]string{CheckEvent: "cannot ask Redis"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newApp(t)
			p := a.probe(t, func(in *ProbeIn) { c.breaks(t, a, in) })
			for _, check := range p.Checks {
				want, fails := c.fails[check.Name]
				if fails == check.OK || !strings.Contains(check.Error, want) {
					t.Errorf("%+v", check)
				}
			}
		})
	}
}

func TestAPageThatIsNotTheSitesFailsItsChecks(t *testing.T) {
	for name, c := range map[string]struct {
		status     int
		body, says string
	}{
		"an error":            {500, "We're sorry", "/ answers 500"},
		"a redirect":          {302, "", "/ answers 302"},
		"no initial state":    {200, "<html></html>", "no initial state"},
		"a broken state":      {200, `<script id="initial-state">{</script>`, "no JSON"},
		"a state without one": {200, `<script id="initial-state">{"meta":{}}</script>`, "no meta.version"},
		"no packs":            {200, `<script id="initial-state">{"meta":{"version":"4.5.15"}}</script>`, "names no file below /packs/"},
	} {
		t.Run(name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.body)
			})
			_, port := serving(t, mux)
			p, err := runProbe(context.Background(), ProbeIn{Domain: domain, WebPort: port, TokenFile: filepath.Join(t.TempDir(), "none"), Checks: []CheckName{CheckPage, CheckPacks}}, nil)
			if err != nil || p.Err() == nil || !strings.Contains(p.Err().Error(), c.says) {
				t.Errorf("%v, %v", p.Err(), err)
			}
		})
	}
}

func TestWithoutATokenTheEventIsNotCheckedAndThatIsSaid(t *testing.T) {
	a := newApp(t)
	p := a.probe(t, func(in *ProbeIn) { in.TokenFile = "/nonexistent/probe.token" })
	if p.Err() != nil {
		t.Error(p.Err())
	}
	if diff := cmp.Diff([]string{"event not checked: no token: /nonexistent/probe.token does not exist"}, p.NotChecked()); diff != "" {
		t.Error(diff)
	}
	if c, _ := p.Check(CheckDatabase); !c.OK || c.Detail != "public timeline" {
		t.Errorf("%+v", c)
	}
}

func TestAClosedTimelineIsNoFailureOfTheDatabase(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnprocessableEntity) })
	_, port := serving(t, mux)
	p, err := runProbe(context.Background(), ProbeIn{Domain: domain, WebPort: port, TokenFile: "/nonexistent/t", Checks: []CheckName{CheckDatabase}}, nil)
	if err != nil || p.Err() != nil || len(p.NotChecked()) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestAStreamingServerThatDeliversNothingIsFoundOut(t *testing.T) {
	// What ends these checks is not a time but what they were to see: a busy machine
	// may take any time until then.
	deaf := func(t *testing.T, a *app, ctx context.Context) Probe {
		mux := http.NewServeMux()
		mux.HandleFunc("/api/v1/streaming", a.websocket(t, "timeline:7"))
		_, port := serving(t, mux)
		return a.probeIn(ctx, t, func(in *ProbeIn) { in.StreamingPort, in.Checks = port, []CheckName{CheckEvent} })
	}
	t.Run("it subscribed to nothing", func(t *testing.T) {
		a := newApp(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var published atomic.Int64
		a.redis.Server().SetPreHook(func(_ *redisserver.Peer, cmd string, _ ...string) bool {
			if strings.EqualFold(cmd, "publish") {
				if published.Add(1) == 3 {
					cancel()
				}
			}
			return false
		})
		p := deaf(t, a, ctx)
		if p.Err() == nil || !strings.Contains(p.Err().Error(), "did not subscribe") {
			t.Errorf("%v", p.Err())
		}
	})
	t.Run("it swallows the event", func(t *testing.T) {
		a := newApp(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		sub := a.redis.NewSubscriber()
		defer sub.Close()
		sub.Subscribe("timeline:42")
		go func() {
			for range 3 {
				select {
				case <-sub.Messages():
				case <-ctx.Done():
					return
				}
			}
			cancel()
			for range sub.Messages() { // so that nobody waits to publish
			}
		}()
		p := deaf(t, a, ctx)
		if p.Err() == nil || !strings.Contains(p.Err().Error(), "did not come out of the websocket") {
			t.Errorf("%v", p.Err())
		}
	})
	t.Run("it cuts the websocket", func(t *testing.T) {
		a := newApp(t)
		cut := http.NewServeMux()
		cut.HandleFunc("/api/v1/streaming", func(w http.ResponseWriter, r *http.Request) {
			c, err := websocket.Accept(w, r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if err := c.Close(websocket.StatusInternalError, "no"); err != nil {
				t.Log(err)
			}
		})
		_, port := serving(t, cut)
		p := a.probe(t, func(in *ProbeIn) { in.StreamingPort, in.Checks = port, []CheckName{CheckEvent} })
		if p.Err() == nil || !strings.Contains(p.Err().Error(), "the websocket ended before the event came") {
			t.Errorf("%v", p.Err())
		}
	})
}

func TestANodeThatHangsFailsWithinTheDeadlineOfEachCheck(t *testing.T) {
	hang := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	_, port := serving(t, mux)
	defer close(hang)
	p, err := runProbe(context.Background(), ProbeIn{Domain: domain, WebPort: port, StreamingPort: port, TokenFile: "/nonexistent/t", Deadline: 20 * time.Millisecond}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range p.Checks {
		if c.Name != CheckEvent && !strings.Contains(c.Error, "no answer in time") {
			t.Errorf("%+v", c)
		}
	}
}

func TestAnUnknownCheckIsAnError(t *testing.T) {
	if _, err := runProbe(context.Background(), ProbeIn{Domain: domain, TokenFile: "/nonexistent/t", Checks: []CheckName{"helth"}}, nil); err == nil {
		t.Error("no error")
	}
}

func TestANodeWaitsForProcessesThatBoot(t *testing.T) {
	a := newApp(t)
	// A port that is taken and that nobody listens at refuses connections.
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "port")
	defer file.Close()
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	health := func(boot time.Duration) Check {
		p := a.probe(t, func(in *ProbeIn) {
			in.WebPort, in.Boot, in.Checks = name.(*syscall.SockaddrInet4).Port, boot, []CheckName{CheckHealth}
		})
		return p.Checks[0]
	}
	for _, boot := range []time.Duration{0, time.Millisecond} {
		if c := health(boot); !strings.Contains(c.Error, "connection refused") {
			t.Errorf("before it listens, after %s: %+v", boot, c)
		}
	}
	go func() {
		if err := syscall.Listen(fd, 16); err != nil {
			t.Error(err)
			return
		}
		l, err := net.FileListener(file)
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { l.Close() })
		(&http.Server{Handler: a.rules(a.web)}).Serve(l)
	}()
	if c := health(time.Minute); c.Error != "" {
		t.Errorf("once it listens: %+v", c)
	}
}
