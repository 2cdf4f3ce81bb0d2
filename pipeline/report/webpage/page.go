// Package webpage is a small web page of the watcher's process: the fleet, the run at work,
// the history, and by how long the fleet is behind upstream. It shows what it was told,
// with the time of it, and asks nobody when it is looked at. It changes nothing, needs no
// script, and everything that others wrote is escaped.
package webpage

import (
	"bytes"
	"cmp"
	_ "embed"
	"html/template"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"vmst.io/refit/pipeline"
	"vmst.io/refit/pipeline/report"
)

//go:embed page.html
var pageHTML string

//go:embed style.css
var styleCSS []byte

// Options are the choices of New.
type Options struct {
	Fleet string
	// Version of refit.
	Version string
	// Redact is what every text passes first; nil for report.Redactor.
	Redact func(string) string
	// Everywhere: the page is served to other machines too. Otherwise only requests that
	// name this machine are answered, so that no web site can have a browser read the page
	// under a name of its own (DNS rebinding).
	Everywhere bool
	// Now; nil for time.Now.
	Now func() time.Time
}

// Work is a run that somebody is at work on, as the lease says it.
type Work struct {
	Run string
	// By holds the lease; Why is the command.
	By, Why string
	// Step at work, and since when the lease is held.
	Step  string
	Since time.Time
	// Silent: the lease was not renewed for its whole life.
	Silent bool
}

// Page holds what was told. Its methods may be called from any goroutine; none waits.
type Page struct {
	o    Options
	form *template.Template

	mu       sync.Mutex
	hosts    []report.HostRow
	hostsAt  time.Time
	history  []report.Past
	kept     time.Time // when the keeper last answered
	keeper   string    // why it does not
	work     *Work
	live     *live
	releases map[string]seen // by project and version
	behind   map[string]time.Time
	sources  map[string]source
}

// live is a run of this very process.
type live struct {
	report.Run
	step     string
	index    int
	of       int
	text     string
	since    time.Time
	back     bool
	ended    string
	endedAt  time.Time
	failures int
}

type seen struct {
	report.Release
	at time.Time
}

type source struct {
	at    time.Time // when it last answered
	since time.Time // when it first failed to
	why   string
}

// New makes a page that knows nothing yet.
func New(o Options) (*Page, error) {
	if o.Redact == nil {
		o.Redact = report.Redactor()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &Page{o: o, releases: map[string]seen{}, behind: map[string]time.Time{}, sources: map[string]source{}}
	var err error
	p.form, err = template.New("page").Funcs(template.FuncMap{
		"clean": func(s string) string { return report.Printable(p.o.Redact(s)) },
		"stamp": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" },
		"iso":   func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"ago":   func(t time.Time) string { return report.Span(max(p.o.Now().Sub(t), 0)) },
		"https": func(s string) bool { return strings.HasPrefix(s, "https://") },
	}).Parse(pageHTML)
	return p, err
}

// Hosts are the fleet's, as they were found now.
func (p *Page) Hosts(rows []report.HostRow) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hosts, p.hostsAt = slices.Clone(rows), p.o.Now()
}

// Kept is what the keeper knows now: who is at work, nil for nobody, and the history, the
// newest run first. On an error what was known stays, with its time.
func (p *Page) Kept(work *Work, history []report.Past, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.keeper = err.Error()
		return
	}
	p.keeper, p.kept, p.work, p.history = "", p.o.Now(), work, slices.Clone(history)
}

// Release tells of a release; told again, it shows what has changed.
func (p *Page) Release(r report.Release) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.releases[r.Project+" "+r.Version] = seen{r, p.o.Now()}
	const most = 40 // announced ones are told again for two months
	if len(p.releases) > most {
		oldest := slices.MinFunc(slices.Collect(maps.Keys(p.releases)), func(a, b string) int {
			return p.releases[a].Published.Compare(p.releases[b].Published)
		})
		delete(p.releases, oldest)
	}
}

// Behind says since when something that a project released does not run here; zero if the
// newest does.
func (p *Page) Behind(project string, since time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.behind[project] = since
}

// Polled says that a source was asked, and whether it answered.
func (p *Page) Polled(name string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, now := p.sources[name], p.o.Now()
	if err == nil {
		s = source{at: now}
	} else {
		if s.why == "" {
			s.since = now
		}
		s.why = err.Error()
	}
	p.sources[name] = s
}

// Begin says which run this process is about to work on.
func (p *Page) Begin(r report.Run) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live = &live{Run: r, since: p.o.Now(), of: len(r.Steps)}
	if len(r.Hosts) > 0 {
		p.hosts, p.hostsAt = slices.Clone(r.Hosts), p.o.Now()
	}
}

// Observe takes an event of that run.
func (p *Page) Observe(e pipeline.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.live
	if l == nil {
		return
	}
	switch e.Kind {
	case pipeline.StepStarted, pipeline.StepUndoing:
		l.step, l.index, l.since, l.text = e.Step, e.Index, e.Time, ""
		l.of = max(l.of, e.Total)
		l.back = e.Kind == pipeline.StepUndoing
	case pipeline.StepSaid, pipeline.StepWaiting:
		l.text = report.FirstLine(e.Text)
	case pipeline.StepFailed, pipeline.UndoFailed:
		l.failures++
		l.text = report.FirstLine(e.Err)
	case pipeline.HostSeen:
		p.host(e)
	case pipeline.RunEnded:
		l.ended, l.endedAt = e.Text, e.Time
	default:
	}
}

// host notes what a stage said of a host.
func (p *Page) host(e pipeline.Event) {
	for i, h := range p.hosts {
		if h.Name != e.Host {
			continue
		}
		p.hosts[i].State, p.hosts[i].Release = e.State, cmp.Or(e.Release, h.Release)
		p.hostsAt = p.o.Now()
	}
}

// Handler serves the page at / and its style. It answers GET and HEAD alone.
func (p *Page) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.serve)
	mux.HandleFunc("GET /style.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		w.Write(styleCSS) //nolint:errcheck // a reader that went away is nobody's trouble
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if !p.o.Everywhere && !local(r.Host) {
			http.Error(w, "this page is for the machine that it runs on: ask for it as localhost or 127.0.0.1", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// local tells whether a Host header names this machine.
func local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.IsLoopback()
}

func (p *Page) serve(w http.ResponseWriter, r *http.Request) {
	var b bytes.Buffer
	if err := p.form.Execute(&b, p.view(r.URL.Query().Get("refresh") != "off")); err != nil {
		http.Error(w, "the page cannot be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(b.Bytes()) //nolint:errcheck // a reader that went away is nobody's trouble
}
