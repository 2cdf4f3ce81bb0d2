package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// LoadOptions tell what the users of the site do while it is worked on.
type LoadOptions struct {
	// Rate is the number of requests a second; 0 for 60. They start on time whether
	// or not earlier ones have been answered, as users do.
	Rate int
	// Sockets is the number of open websockets; 0 for 6, half of them on the
	// account's own stream, half on the public one.
	Sockets int
	// Tokens are the access tokens that post and ask, in turn; nil for the lab's own.
	// Real Mastodon allows each 300 requests in five minutes and each account 300
	// posts in three hours. The first one also listens, so on its own stream come the
	// others' posts only if its account follows theirs.
	Tokens []string
	// Pages, API and Slow are the paths asked for; nil for the stand-in's.
	Pages, API, Slow []string
	// Arrive is how long an event may take before it counts as lost; 0 for 5 s. Where
	// posts reach followers through jobs, a busy machine needs more.
	Arrive time.Duration
	// Timeout is how long a user waits for an answer; 0 for 15 s.
	Timeout time.Duration
}

// mix is the order of kinds: one turn of it is ten requests.
var mix = []string{"page", "api", "asset", "post", "api", "page", "slow", "asset", "api", "page"}

// maxOpen bounds the requests under way; above it the site has long stopped.
const maxOpen = 400

// Load is users at work on the site, from StartLoad until Stop.
type Load struct {
	lab    *Lab
	opts   LoadOptions
	http   *http.Client
	began  time.Time
	stop   context.CancelFunc
	done   sync.WaitGroup
	open   chan struct{}
	mu     sync.Mutex
	tally  map[string]*tally
	assets []string
	report LoadReport
	events []*event
	socks  []*socket
}

// tally counts one kind of request.
type tally struct {
	sent, failed int
	took         []time.Duration
}

// StartLoad sends users to the site through the balancer. They go on until Stop or
// the context's end.
func (l *Lab) StartLoad(ctx context.Context, o LoadOptions) (*Load, error) {
	client, err := l.HTTPClient()
	if err != nil {
		return nil, err
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	o = withDefaults(o, l.Secrets.Load)
	ctx, stop := context.WithCancel(ctx)
	ld := &Load{
		lab: l, opts: o, http: client, began: time.Now(), stop: stop, open: make(chan struct{}, maxOpen),
		tally: map[string]*tally{}, report: LoadReport{Schema: "refit.load/v1", Nodes: map[string]int{}, Versions: map[string]int{}},
	}
	for i := range o.Sockets {
		s := &socket{load: ld, stream: []string{"user", "public"}[i%2]}
		ld.socks = append(ld.socks, s)
		ld.done.Go(func() { s.run(ctx) })
	}
	ld.done.Go(func() { ld.requests(ctx) })
	return ld, nil
}

func withDefaults(o LoadOptions, token string) LoadOptions {
	if o.Rate == 0 {
		o.Rate = 60
	}
	if o.Sockets == 0 {
		o.Sockets = 6
	}
	if o.Timeout == 0 {
		o.Timeout = 15 * time.Second
	}
	if o.Arrive == 0 {
		o.Arrive = 5 * time.Second
	}
	if len(o.Tokens) == 0 {
		o.Tokens = []string{token}
	}
	if o.Pages == nil {
		o.Pages = []string{"/", "/about", "/auth/sign_in"}
	}
	if o.API == nil {
		o.API = []string{"/api/v1/timelines/public?limit=5", "/api/v2/instance", "/api/v1/accounts/verify_credentials"}
	}
	if o.Slow == nil {
		o.Slow = []string{"/slow?ms=800"}
	}
	return o
}

// Stop ends the load, waits for what is under way and for late events, and tells
// what the users met.
func (ld *Load) Stop() LoadReport {
	ended, open := time.Now(), ld.Report().Sockets.Open
	ld.stop()
	ld.done.Wait()
	for _, e := range ld.events {
		ld.judge(e, ended)
	}
	r := ld.Report()
	r.Sockets.Open = open
	r.Seconds = ended.Sub(ld.began).Seconds()
	r.Requests.PerSecond = float64(r.Requests.Sent) / r.Seconds
	return r
}

// requests starts requests at the rate asked for, until the context ends; those
// under way then end in their own time.
func (ld *Load) requests(ctx context.Context) {
	tick := time.NewTicker(time.Second / time.Duration(ld.opts.Rate))
	defer tick.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		kind, path := ld.pick(n)
		select {
		case ld.open <- struct{}{}:
		default:
			ld.count(kind, 0, "", fmt.Errorf("%d requests are under way without an answer", maxOpen))
			continue
		}
		wg.Go(func() {
			defer func() { <-ld.open }()
			// A user does not hang up because the test ends.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ld.opts.Timeout)
			defer cancel()
			ld.request(ctx, n, kind, path)
		})
	}
}

// pick gives the n-th request's kind and path.
func (ld *Load) pick(n int) (kind, path string) {
	kind = mix[n%len(mix)]
	turn := n / len(mix)
	of := func(list []string) string { return list[turn%len(list)] }
	switch kind {
	case "page":
		return kind, of(ld.opts.Pages)
	case "slow":
		if len(ld.opts.Slow) > 0 {
			return kind, of(ld.opts.Slow)
		}
	case "asset":
		ld.mu.Lock()
		defer ld.mu.Unlock()
		if len(ld.assets) > 0 {
			return kind, ld.assets[n%len(ld.assets)]
		}
	case "post":
		return kind, "/api/v1/statuses"
	}
	return "api", of(ld.opts.API)
}

// request does one request and checks its answer.
func (ld *Load) request(ctx context.Context, n int, kind, path string) {
	method, began := http.MethodGet, time.Now()
	var body io.Reader
	if kind == "post" {
		method = http.MethodPost
		form := url.Values{"status": {fmt.Sprintf("post %d", n)}, "visibility": {"public"}}
		// A bare reader: the client cannot rewind it, so it never sends a post twice.
		body = io.MultiReader(strings.NewReader(form.Encode()))
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+Domain+path, body)
	if err != nil {
		ld.count(kind, 0, "", err)
		return
	}
	if kind == "post" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if strings.HasPrefix(path, "/api/") {
		req.Header.Set("Authorization", "Bearer "+ld.token(n))
	}
	// Some users come anew each time, the others keep their connection.
	req.Close = n%5 == 0
	resp, err := ld.http.Do(req)
	if err != nil {
		ld.count(kind, time.Since(began), "", fmt.Errorf("%s %s: %w", method, path, bare(err)))
		return
	}
	defer resp.Body.Close()
	node := answered(resp.Header)
	b, err := io.ReadAll(resp.Body)
	took := time.Since(began)
	switch {
	case err != nil:
		err = fmt.Errorf("%s %s: body: %w", method, path, err)
	case resp.StatusCode != http.StatusOK:
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, first(b))
	case kind == "page":
		err = ld.page(path, b)
	case kind == "post":
		err = ld.posted(b, began)
	case len(b) == 0:
		err = fmt.Errorf("%s %s: 200 with an empty body", method, path)
	}
	ld.count(kind, took, node, err)
}

// token is whose request the n-th is: each kind goes round all of them.
func (ld *Load) token(n int) string {
	return ld.opts.Tokens[(n/len(mix)+n%len(mix))%len(ld.opts.Tokens)]
}

var (
	packPath    = regexp.MustCompile(`"(/packs/[^"]+)"`)
	pageVersion = regexp.MustCompile(`"version":"([^"]+)"`)
)

// page checks a page and remembers the hashed files that it names: they are asked
// for from then on, also once another release serves.
func (ld *Load) page(path string, b []byte) error {
	if !bytes.Contains(b, []byte("</html>")) || (path == "/" && !bytes.Contains(b, []byte(`id="initial-state"`))) {
		return fmt.Errorf("GET %s: a page that is cut short or without its initial state", path)
	}
	ld.mu.Lock()
	defer ld.mu.Unlock()
	if m := pageVersion.FindSubmatch(b); m != nil {
		ld.report.Versions[string(m[1])]++
	}
	for _, m := range packPath.FindAllSubmatch(b, -1) {
		if p := string(m[1]); !slices.Contains(ld.assets, p) {
			ld.assets = append(ld.assets, p)
		}
	}
	return nil
}

// posted notes an event that every connected client must now get.
func (ld *Load) posted(b []byte, began time.Time) error {
	var status struct{ ID string }
	if err := json.Unmarshal(b, &status); err != nil || status.ID == "" {
		return fmt.Errorf("POST: an answer without an id: %s", first(b))
	}
	ld.mu.Lock()
	defer ld.mu.Unlock()
	ld.events = append(ld.events, &event{id: status.ID, began: began, ended: time.Now()})
	return nil
}

// count notes one request's end.
func (ld *Load) count(kind string, took time.Duration, node string, err error) {
	ld.mu.Lock()
	defer ld.mu.Unlock()
	t := ld.tally[kind]
	if t == nil {
		t = &tally{}
		ld.tally[kind] = t
	}
	t.sent++
	if node != "" {
		ld.report.Nodes[node]++
	}
	if err == nil {
		t.took = append(t.took, took)
		return
	}
	t.failed++
	ld.note(Failure{At: time.Now().UTC(), Kind: kind, Node: node, Text: err.Error()})
}

// note keeps the first failures of each sort, for the report.
func (ld *Load) note(f Failure) {
	alike := 0
	for _, g := range ld.report.Failures {
		if g.Kind == f.Kind && (g.Text == f.Text || g.Kind == "event") {
			alike++
		}
	}
	if alike < 3 && len(ld.report.Failures) < maxFailures {
		ld.report.Failures = append(ld.report.Failures, f)
	}
}

// answered is the node that gave the answer: a proxy that asked one node after the
// other names them all.
func answered(h http.Header) string {
	all := strings.Split(h.Get(upstreamHeader), ", ")
	return all[len(all)-1]
}

// bare takes the address off a client's error: the failure's text has the path.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// first is the beginning of an answer, for an error.
func first(b []byte) string {
	return strings.Join(strings.Fields(string(b[:min(len(b), 160)])), " ")
}
