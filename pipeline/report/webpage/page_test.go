package webpage_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"vmst.io/refit/pipeline"
	"vmst.io/refit/pipeline/report"
	"vmst.io/refit/pipeline/report/webpage"
)

var began = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// clock is a time that tests move.
type clock struct{ now time.Time }

func (c *clock) after(d time.Duration) { c.now = c.now.Add(d) }

func newPage(t *testing.T, change func(*webpage.Options)) (*webpage.Page, *clock) {
	t.Helper()
	c := &clock{began}
	o := webpage.Options{Fleet: "vmst.io", Version: "v1.2.3", Now: func() time.Time { return c.now }}
	if change != nil {
		change(&o)
	}
	p, err := webpage.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p, c
}

// ask asks a page for a path as a browser on this machine does.
func ask(t *testing.T, p *webpage.Page, change func(*http.Request)) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:9465/", nil)
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	p.Handler().ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, p *webpage.Page) string {
	t.Helper()
	resp := ask(t, p, nil)
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v: %s", resp.StatusCode, err, b)
	}
	return string(b)
}

// words is the page's text as people read it.
func words(t *testing.T, p *webpage.Page) string {
	t.Helper()
	var b strings.Builder
	z := html.NewTokenizer(strings.NewReader(body(t, p)))
	for {
		switch z.Next() {
		case html.ErrorToken:
			return strings.Join(strings.Fields(b.String()), " ")
		case html.TextToken:
			b.Write(z.Text())
			b.WriteByte(' ')
		default:
		}
	}
}

func fleet() []report.HostRow {
	return []report.HostRow{
		{Name: "kirk", Roles: "web", State: "running", Release: "v4.5.14"},
		{Name: "scotty", Roles: "sidekiq", State: "mastodon-sidekiq.service failed", Release: "v4.5.14"},
		{Name: "uhura", Roles: "keeper, builder", State: "up"},
		{Name: "spock", Roles: "web", State: "silent"},
	}
}

func history() []report.Past {
	return []report.Past{
		{Run: "20260228-100000-abcde", Kind: "upgrade", From: "v4.5.13", To: "v4.5.14", Began: began.Add(-26 * time.Hour), Seconds: 125, By: "michael on bridge", ApprovedBy: []string{"ana"}, Outcome: pipeline.Done},
		{Run: "20260101-100000-fghij", Kind: "upgrade", From: "v4.5.12", To: "v4.5.13", Began: began.Add(-1000 * time.Hour), Outcome: pipeline.Undone, Cause: "roll web kirk: no answer"},
		{Run: "20251201-100000-klmno", Trouble: "damaged: cut short"},
	}
}

func release() report.Release {
	return report.Release{Project: "Mastodon", Version: "v4.5.15", URL: "https://github.com/mastodon/mastodon/releases/tag/v4.5.15", Published: began.Add(-31 * time.Hour), Security: true, Decision: "waits for an approval", Reason: "the policy is to ask"}
}

func has(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in %s", w, text)
		}
	}
}

func TestAPageThatKnowsNothingYetSaysSo(t *testing.T) {
	p, _ := newPage(t, nil)
	has(t, words(t, p), "Not known yet: no look has found it out.", "No run is at work. By the keeper's lease, not known yet", "No host was looked at yet.", "None is open.", "journals were not read yet", "None was asked yet.")
}

func TestThePageShowsFleetRunHistoryAndByHowLongItIsBehind(t *testing.T) {
	p, c := newPage(t, nil)
	p.Hosts(fleet())
	p.Kept(&webpage.Work{Run: "20260301-110000-zzzzz", By: "ana on bridge", Why: "upgrade --to v4.5.15", Step: "roll web kirk", Since: began.Add(-time.Minute)}, history(), nil)
	p.Release(release())
	p.Behind("Mastodon", began.Add(-31*time.Hour))
	p.Polled("mastodon/mastodon", nil)
	p.Polled("update check", errors.New("no route"))
	c.after(3 * time.Minute)
	has(
		t, words(t, p), "Mastodon is behind by 31 h 3 min", "4 hosts, 2 of them not healthy; as of 2026-03-01 12:00:00 UTC , 3:00 min ago",
		"kirk web v4.5.14 ✓ yes running", "scotty sidekiq v4.5.14 ✗ no mastodon-sidekiq.service failed", "uhura keeper, builder none ✓ yes up", "spock web none ✗ no silent",
		"upgrade --to v4.5.15 (20260301-110000-zzzzz)", "ana on bridge", "roll web kirk",
		"2026-02-28 10:00:00 UTC 20260228-100000-abcde upgrade v4.5.13 → v4.5.14 done 2:05 min michael on bridge, approved by ana",
		"failed, taken back: roll web kirk: no answer", "not recorded", "its journal cannot be read: damaged: cut short",
		"Mastodon v4.5.15 security", "waits for an approval", "the policy is to ask",
		"update check: ✗ no answer since 2026-03-01 12:00:00 UTC : no route", "mastodon/mastodon: ✓ answers",
	)
	p.Behind("Mastodon", time.Time{})
	has(t, words(t, p), "Mastodon is up to date")
}

func TestARunOfTheWatchersOwnIsShownStepByStep(t *testing.T) {
	p, c := newPage(t, nil)
	p.Kept(nil, nil, nil)
	p.Begin(report.Run{ID: "20260301-120000-aaaaa", Kind: "upgrade", From: "v4.5.14", To: "v4.5.15", Who: "refit on bridge", Why: "refit watch", Began: began, Hosts: fleet(), Steps: make([]pipeline.StepResult, 12)})
	has(t, words(t, p), "Step none yet, for 0.0 s")
	p.Observe(pipeline.Event{Kind: pipeline.StepStarted, Step: "roll web kirk", Index: 7, Total: 12, Time: c.now})
	p.Observe(pipeline.Event{Kind: pipeline.StepWaiting, Text: "kirk serves\nand more", Time: c.now})
	p.Observe(pipeline.Event{Kind: pipeline.HostSeen, Host: "kirk", State: "serving", Release: "v4.5.15", Time: c.now})
	c.after(42 * time.Second)
	has(t, words(t, p), "upgrade, v4.5.14 → v4.5.15 (20260301-120000-aaaaa)", "roll web kirk, 7 of 12, for 42 s", "Says kirk serves", "kirk web v4.5.15 ✓ yes serving", "Read anew every 10 seconds")
	p.Observe(pipeline.Event{Kind: pipeline.StepFailed, Step: "roll web kirk", Err: "no answer", Time: c.now})
	p.Observe(pipeline.Event{Kind: pipeline.StepUndoing, Step: "roll web kirk", Index: 7, Total: 12, Time: c.now})
	has(t, words(t, p), "Step taking back: roll web kirk, 7 of 12")
	p.Observe(pipeline.Event{Kind: pipeline.RunEnded, Text: "undone", Time: c.now})
	text := words(t, p)
	has(t, text, "Ended undone, 2026-03-01 12:00:42 UTC", "Read anew every 60 seconds")
	// A look after it finds another operator at work: that is the run to show.
	p.Kept(&webpage.Work{Run: "20260301-130000-bbbbb", By: "ana on bridge", Why: "rollback", Since: c.now, Silent: true}, nil, nil)
	has(t, words(t, p), "rollback (20260301-130000-bbbbb)", "not renewed in time")
}

func TestWhatIsOldSaysHowOldItIsWhileTheKeeperDoesNotAnswer(t *testing.T) {
	p, c := newPage(t, nil)
	p.Kept(nil, history(), nil)
	c.after(2 * time.Hour)
	p.Kept(nil, nil, errors.New("uhura is silent: bring it back"))
	has(t, words(t, p), "The keeper does not answer : uhura is silent: bring it back", "as of 2026-03-01 12:00:00 UTC , 2 h ago", "20260228-100000-abcde")
	p.Kept(nil, history(), nil)
	if strings.Contains(words(t, p), "does not answer") {
		t.Error("it answers again, and the page says that it does not")
	}
}

// everything tells the page a text wherever others may have written one.
func everything(p *webpage.Page, text string) {
	p.Hosts([]report.HostRow{{Name: text, Roles: text, State: text, Release: text}})
	p.Kept(&webpage.Work{Run: text, By: text, Why: text, Step: text}, []report.Past{
		{Run: text, Kind: text, From: text, To: text, Began: began, By: text, ApprovedBy: []string{text}, Outcome: pipeline.Status(text), Cause: text},
		{Run: text, Trouble: text},
	}, nil)
	p.Release(report.Release{Project: text, Version: text, URL: "javascript:" + text, Published: began, Decision: text, Reason: text, Plan: []string{text}, Question: text})
	p.Release(report.Release{Project: text, Version: "2", URL: "https://x.test/\"" + text, Settled: text})
	p.Behind(text, began)
	p.Polled(text, errors.New(text))
	p.Kept(nil, nil, errors.New(text))
}

func TestNothingThatOthersWroteBecomesMarkup(t *testing.T) {
	const evil = `<script>alert(1)</script><img src=x onerror="alert(1)">"'><meta http-equiv=refresh content="0;url=//evil.test">` + "\u202e\x1b[2J"
	p, _ := newPage(t, func(o *webpage.Options) { o.Fleet, o.Version = evil, evil })
	everything(p, evil)
	p.Begin(report.Run{ID: evil, Kind: evil, From: evil, To: evil, Who: evil, Why: evil})
	p.Observe(pipeline.Event{Kind: pipeline.StepStarted, Step: evil, Index: 1})
	p.Observe(pipeline.Event{Kind: pipeline.StepSaid, Text: evil})
	text := body(t, p)
	if strings.ContainsAny(text, "\u202e\x1b") {
		t.Error("a text can turn the order of what is read around")
	}
	allowed := map[string]bool{"a": true, "body": true, "br": true, "caption": true, "dd": true, "div": true, "dl": true, "dt": true, "footer": true, "h1": true, "h2": true, "head": true, "header": true, "html": true, "li": true, "link": true, "main": true, "meta": true, "p": true, "section": true, "span": true, "table": true, "tbody": true, "td": true, "th": true, "thead": true, "time": true, "title": true, "tr": true, "ul": true}
	evils := 0
	for z := html.NewTokenizer(strings.NewReader(text)); ; {
		kind := z.Next()
		if kind == html.ErrorToken {
			break
		}
		tok := z.Token()
		if kind == html.TextToken {
			evils += strings.Count(tok.Data, "<script>alert(1)</script>")
		}
		if kind != html.StartTagToken {
			continue
		}
		if !allowed[tok.Data] {
			t.Errorf("the page holds %s", tok)
		}
		for _, a := range tok.Attr {
			if strings.HasPrefix(a.Key, "on") || strings.HasPrefix(a.Val, "javascript:") || tok.Data == "meta" && strings.Contains(a.Val, "url=") {
				t.Errorf("the page holds %s", tok)
			}
		}
	}
	if evils < 25 {
		t.Errorf("only %d of the texts are shown, so the test saw too little", evils)
	}
}

func TestSecretsInTextsOfOthersAreHidden(t *testing.T) {
	p, _ := newPage(t, func(o *webpage.Options) { o.Redact = report.Redactor("c4nary-s3cret") })
	everything(p, "c4nary-s3cret ghp_0123456789abcdefghij0 postgres://mastodon:hunter2@majel/x")
	p.Begin(report.Run{ID: "c4nary-s3cret", Why: "c4nary-s3cret"})
	p.Observe(pipeline.Event{Kind: pipeline.StepFailed, Err: "hunter2 and PASSWORD=c4nary-s3cret"})
	text := body(t, p)
	for _, secret := range []string{"c4nary", "ghp_0123", ":hunter2@"} {
		if strings.Contains(text, secret) {
			t.Errorf("the page shows %s", secret)
		}
	}
	has(t, text, "[hidden]")
}

func TestAWebSiteCannotHaveABrowserReadThePageUnderANameOfItsOwn(t *testing.T) {
	p, _ := newPage(t, nil)
	everywhere, _ := newPage(t, func(o *webpage.Options) { o.Everywhere = true })
	for host, want := range map[string]int{"127.0.0.1:9465": 200, "localhost:9465": 200, "localhost": 200, "[::1]:9465": 200, "evil.test:9465": 403, "127.0.0.1.evil.test": 403, "10.1.2.3": 403, "": 403} {
		if got := ask(t, p, func(r *http.Request) { r.Host = host }).StatusCode; got != want {
			t.Errorf("%q: status %d, want %d", host, got, want)
		}
	}
	if got := ask(t, everywhere, func(r *http.Request) { r.Host = "refit.vmst.io" }).StatusCode; got != http.StatusOK {
		t.Errorf("served to others: status %d", got)
	}
}

func TestThePageIsReadAloneAndRunsNoScript(t *testing.T) {
	p, _ := newPage(t, nil)
	resp := ask(t, p, nil)
	for name, want := range map[string]string{
		"Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		"X-Content-Type-Options":  "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "Content-Type": "text/html; charset=utf-8",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch} {
		if got := ask(t, p, func(r *http.Request) { r.Method = method }).StatusCode; got != http.StatusMethodNotAllowed {
			t.Errorf("%s: status %d", method, got)
		}
	}
	if got := ask(t, p, func(r *http.Request) { r.URL.Path = "/refit.yml" }).StatusCode; got != http.StatusNotFound {
		t.Errorf("another path: status %d", got)
	}
	text := body(t, p)
	has(t, text, `<meta http-equiv="refresh" content="60">`)
	if resp := ask(t, p, func(r *http.Request) { r.URL.RawQuery = "refresh=off" }); resp.StatusCode == http.StatusOK {
		b, err := io.ReadAll(resp.Body)
		if err != nil || strings.Contains(string(b), "http-equiv") {
			t.Errorf("it still comes again by itself: %v", err)
		}
	}
}

func TestAReleaseMoreThanThePageKeepsPushesTheOldestOut(t *testing.T) {
	p, _ := newPage(t, nil)
	for i := range 60 {
		p.Release(report.Release{Project: "Elk", Version: fmt.Sprintf("v0.%d", i), Published: began.Add(time.Duration(i) * time.Hour)})
	}
	text := words(t, p)
	if strings.Contains(text, "Elk v0.19 ") || !strings.Contains(text, "Elk v0.20 ") || !strings.Contains(text, "Elk v0.59 ") {
		t.Error(text)
	}
}
