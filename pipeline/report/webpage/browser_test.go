package webpage_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"vmst.io/refit/pipeline"
	"vmst.io/refit/pipeline/report"
	"vmst.io/refit/pipeline/report/webpage"
)

// browser starts the machine's own Chromium, with a new folder for its data and asking nobody but
// the page; the test is left out where there is none.
func browser(t *testing.T) context.Context {
	t.Helper()
	var program string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if at, err := exec.LookPath(name); err == nil {
			program = at
			break
		}
	}
	if program == "" {
		t.Skip("no browser is installed here (Debian: apt-get install chromium): how the page looks in one is not tested")
	}
	flags := append(
		chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.WSURLReadTimeout(time.Minute),
	)
	if os.Geteuid() == 0 {
		flags = append(flags, chromedp.NoSandbox) // Chromium's own needs another user
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, flags...)
	t.Cleanup(cancel)
	ctx, _ = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Error(err)
		}
	})
	return ctx
}

// full is a page that has something in each of its parts, served on this machine.
func full(t *testing.T) string {
	t.Helper()
	p, _ := newPage(t, nil)
	var rows []report.HostRow
	for i := range 12 {
		rows = append(rows, report.HostRow{Name: fmt.Sprintf("a-host-with-quite-a-name-%d", i), Roles: "web, sidekiq, proxy", State: "mastodon-streaming@4000.service failed", Release: "v4.5.14"})
	}
	everything(p, `<script>document.title='taken'</script><img src=x onerror="document.title='taken'"><style>body{display:none}</style>`)
	p.Hosts(append(rows, fleet()...))
	p.Kept(nil, history(), nil)
	p.Release(release())
	p.Behind("Mastodon", began.Add(-31*time.Hour))
	p.Polled("update check", fmt.Errorf("a long error without any space: %s", strings.Repeat("x", 200)))
	p.Begin(report.Run{ID: "20260301-120000-aaaaa", Kind: "upgrade", From: "v4.5.14", To: "v4.5.15", Who: "refit on bridge", Why: "refit watch", Began: began})
	p.Observe(pipeline.Event{Kind: pipeline.StepStarted, Step: "roll web kirk", Index: 7, Total: 12, Time: began})
	return serve(t, p)
}

func serve(t *testing.T, p *webpage.Page) string {
	t.Helper()
	s := httptest.NewServer(p.Handler())
	t.Cleanup(s.Close)
	return s.URL + "/"
}

// contrast gives the least contrast of any text on the page, as WCAG 2 counts it, and where.
const contrast = `(() => {
  const parse = c => c.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => { const f = v => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4 }; return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b) };
  const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c } return [255, 255, 255] };
  let least = 99, where = "", n = 0;
  for (const e of document.querySelectorAll("body *")) {
    if (![...e.childNodes].some(c => c.nodeType === 3 && c.data.trim())) continue;
    n++;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    const c = (a + 0.05) / (b + 0.05);
    if (c < least) { least = c; where = e.outerHTML.slice(0, 80) }
  }
  return [least, where, n];
})()`

func TestABrowserWithoutScriptsShowsThePageAndNothingOnItRuns(t *testing.T) {
	ctx := browser(t)
	var dialogs, others atomic.Int32
	url := full(t)
	chromedp.ListenTarget(ctx, func(e any) {
		switch e := e.(type) {
		case *cdppage.EventJavascriptDialogOpening:
			dialogs.Add(1)
		case *network.EventRequestWillBeSent:
			if !strings.HasPrefix(e.Request.URL, url) {
				others.Add(1)
			}
		}
	})
	for _, scripts := range []bool{false, true} {
		var title, font string
		var rows, shown int
		var ran bool
		err := chromedp.Run(
			ctx, network.Enable(), emulation.SetScriptExecutionDisabled(!scripts), chromedp.Navigate(url),
			chromedp.Title(&title),
			chromedp.Evaluate(`getComputedStyle(document.body).fontFamily`, &font),
			chromedp.Evaluate(`document.querySelectorAll("tbody tr").length`, &rows),
			chromedp.Evaluate(`document.body.innerText.split("document.title=").length - 1`, &shown),
			// Even what would get onto the page does not run.
			chromedp.Evaluate(`(() => { const s = document.createElement("script"); s.textContent = "window.ran = true"; document.body.append(s); return window.ran === true })()`, &ran),
		)
		if err != nil {
			t.Fatal(err)
		}
		if title != "vmst.io: refit" || !strings.Contains(font, "system-ui") || rows != 16+3+3 || shown < 2 || ran {
			t.Errorf("scripts %t: title %q, font %q, %d rows, %d texts, an inline script ran: %t", scripts, title, font, rows, shown, ran)
		}
	}
	if dialogs.Load() != 0 || others.Load() != 0 {
		t.Errorf("%d dialogs opened, %d requests went elsewhere", dialogs.Load(), others.Load())
	}
}

func TestThePageFitsANarrowScreenAndCanBeReadThere(t *testing.T) {
	ctx := browser(t)
	url := full(t)
	for _, width := range []int64{320, 768, 1440} {
		for _, scheme := range []string{"light", "dark"} {
			var wide int64
			var found []any
			err := chromedp.Run(
				ctx, chromedp.EmulateViewport(width, 640), emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
				chromedp.Navigate(url), chromedp.Evaluate(`document.documentElement.scrollWidth`, &wide), chromedp.Evaluate(contrast, &found),
			)
			if err != nil {
				t.Fatal(err)
			}
			if wide > width {
				t.Errorf("%d px: the page is %d px wide, so it must be pushed sideways to be read", width, wide)
			}
			if least, ok := found[0].(float64); !ok || least < 4.5 || found[2].(float64) < 50 {
				t.Errorf("%s, %d px: contrast, where, of how many texts: %v", scheme, width, found)
			}
		}
	}
}

func TestAScreenReaderFindsLandmarksHeadingsAndTheHeadersOfTables(t *testing.T) {
	ctx := browser(t)
	roles, unnamed := map[string]int{}, 0
	err := chromedp.Run(ctx, chromedp.Navigate(full(t)), chromedp.ActionFunc(func(ctx context.Context) error {
		nodes, err := accessibility.GetFullAXTree().Do(ctx)
		for _, n := range nodes {
			if n.Ignored || n.Role == nil {
				continue
			}
			role := strings.Trim(string(n.Role.Value), `"`)
			roles[role]++
			if role == "region" && (n.Name == nil || strings.Trim(string(n.Name.Value), `"`) == "") {
				unnamed++
			}
		}
		return err
	}))
	if err != nil {
		t.Fatal(err)
	}
	for role, least := range map[string]int{"main": 1, "banner": 1, "contentinfo": 1, "heading": 7, "region": 6, "table": 3, "columnheader": 15, "rowheader": 22, "link": 4} {
		if roles[role] < least {
			t.Errorf("%d of role %s, want %d: %v", roles[role], role, least, roles)
		}
	}
	if unnamed > 0 {
		t.Errorf("%d regions have no name", unnamed)
	}
}
