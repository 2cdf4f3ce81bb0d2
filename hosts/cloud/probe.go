package cloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Grant is whether the token has a scope.
type Grant string

// The grants.
const (
	Granted Grant = "granted"
	Lacking Grant = "lacking"
	// NotProbed: it cannot be found out without changing something, or was not answered.
	NotProbed Grant = "not probed"
)

// question is what shows a scope. The official description names the scope of each
// endpoint and says nothing of the order in which a request is judged; that the scope
// comes before the thing that is named, and before the body, is how the API behaves. So
// a 403 says that the scope lacks, the status awaited that it is there, and any other
// answer says nothing.
type question struct {
	method, path, body string
	// awaited are the statuses of who has the scope.
	awaited []int
	// guard is a path that must answer 404 first: nothing is sent to what exists.
	guard string
}

// nobody is an ID that no account of today has, nowhere the ID of a database or
// firewall, and noTag a tag that refit never makes.
const (
	nobody  = "1"
	nowhere = "00000000-0000-4000-8000-000000000000"
	noTag   = "refit:probe:never-made"
)

// questions are asked by scope. Reads read one entry. Deletions and changes name what
// does not exist. Creations send an empty object, which lacks what the official
// description requires of them all: name, size and image of a droplet; name, engine,
// size, region and nodes of a database; name and a rule of a firewall; name, URL and
// region of an image.
var questions = map[string]question{
	"account:read":       {method: "GET", path: "account", awaited: []int{200}},
	"droplet:read":       {method: "GET", path: "droplets?per_page=1", awaited: []int{200}},
	"image:read":         {method: "GET", path: "images?private=true&per_page=1", awaited: []int{200}},
	"snapshot:read":      {method: "GET", path: "snapshots?per_page=1", awaited: []int{200}},
	"tag:read":           {method: "GET", path: "tags?per_page=1", awaited: []int{200}},
	"load_balancer:read": {method: "GET", path: "load_balancers?per_page=1", awaited: []int{200}},
	"monitoring:read":    {method: "GET", path: "monitoring/alerts?per_page=1", awaited: []int{200}},
	"database:read":      {method: "GET", path: "databases", awaited: []int{200}},
	"firewall:read":      {method: "GET", path: "firewalls?per_page=1", awaited: []int{200}},

	"droplet:update": {"POST", "droplets/" + nobody + "/actions", `{"type":"power_on"}`, []int{404}, "droplets/" + nobody},
	"droplet:delete": {"DELETE", "droplets/" + nobody, "", []int{404}, "droplets/" + nobody},
	"image:update":   {"PUT", "images/" + nobody, `{}`, []int{404}, "images/" + nobody},
	"image:delete":   {"DELETE", "images/" + nobody, "", []int{404}, "images/" + nobody},
	// It asks image:delete too, which is asked alone above.
	"snapshot:delete": {"DELETE", "snapshots/" + nobody, "", []int{404}, "snapshots/" + nobody},
	"tag:create":      {"POST", "tags/" + noTag + "/resources", `{"resources":[]}`, []int{404, 422}, "tags/" + noTag},
	"tag:delete":      {"DELETE", "tags/" + noTag, "", []int{404}, "tags/" + noTag},
	"database:delete": {"DELETE", "databases/" + nowhere, "", []int{404}, "databases/" + nowhere},
	"firewall:delete": {"DELETE", "firewalls/" + nowhere, "", []int{404}, "firewalls/" + nowhere},

	"droplet:create":  {method: "POST", path: "droplets", body: `{}`, awaited: []int{400, 422}},
	"image:create":    {method: "POST", path: "images", body: `{}`, awaited: []int{400, 422}},
	"database:create": {method: "POST", path: "databases", body: `{}`, awaited: []int{400, 422}},
	"firewall:create": {method: "POST", path: "firewalls", body: `{}`, awaited: []int{400, 422}},
	// droplet:admin has none: it is asked of rebuild and restore alone, which are judged
	// on a droplet that exists.
}

// Prober finds out what a token may do. Each question is sent once; none is retried.
type Prober struct {
	// API is its base URL with a slash at the end, Token the secret.
	API, Token string
	// HTTP is nil for a client of its own.
	HTTP *http.Client
	// Patience bounds one question; 0 for 15 seconds.
	Patience time.Duration

	meter Meter
}

// Meter is what the API's answers say beside their content.
type Meter struct {
	// Limit is how many requests an hour the token has, Left how many of them are; both
	// are -1 while no answer said it.
	Limit, Left int
	// Skew is how far this machine's clock is ahead of the API's; not known before Heard.
	Skew  time.Duration
	Heard bool
}

// Meter is of the last answer.
func (p *Prober) Meter() Meter {
	if !p.meter.Heard && p.meter.Limit == 0 {
		return Meter{Limit: -1, Left: -1}
	}
	return p.meter
}

// Ask finds out whether the token has a scope, and why that is not known. The error is
// ErrDenied where the token itself is not accepted; nothing else need be asked then.
func (p *Prober) Ask(ctx context.Context, scope string) (Grant, string, error) {
	q, ok := questions[scope]
	if !ok {
		return NotProbed, "there is no way to ask without changing something", nil
	}
	if q.guard != "" {
		switch status, err := p.send(ctx, question{method: "GET", path: q.guard}); {
		case errors.Is(err, ErrDenied):
			return NotProbed, "", err
		case err != nil:
			return NotProbed, err.Error(), nil
		case status == http.StatusForbidden:
			read, _, _ := strings.Cut(scope, ":")
			return NotProbed, "it is only asked once " + read + ":read is there", nil
		case status != http.StatusNotFound:
			return NotProbed, fmt.Sprintf("GET /v2/%s answers %d and not 404, so nothing is sent to it", q.guard, status), nil
		}
	}
	status, err := p.send(ctx, q)
	switch {
	case errors.Is(err, ErrDenied):
		return NotProbed, "", err
	case err != nil:
		return NotProbed, err.Error(), nil
	case status == http.StatusForbidden:
		return Lacking, "", nil
	}
	for _, s := range q.awaited {
		if status == s {
			return Granted, "", nil
		}
	}
	what, _, _ := strings.Cut(q.path, "?")
	return NotProbed, fmt.Sprintf("%s /v2/%s answers %d, which says neither", q.method, what, status), nil
}

func (p *Prober) send(ctx context.Context, q question) (status int, err error) {
	patience := p.Patience
	if patience <= 0 {
		patience = 15 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, q.method, strings.TrimSuffix(p.API, "/")+"/v2/"+q.path, strings.NewReader(q.body))
	if err != nil {
		return 0, errors.New("the API's URL cannot be used")
	}
	r.Header.Set("Authorization", "Bearer "+p.Token)
	r.Header.Set("Accept", "application/json")
	if q.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	// A copy: no redirect may carry the token elsewhere.
	client := http.Client{}
	if p.HTTP != nil {
		client = *p.HTTP
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	asked := time.Now()
	answer, err := client.Do(r)
	if err != nil {
		return 0, fmt.Errorf("the API does not answer: %w", err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<20)); err != nil {
		return 0, fmt.Errorf("the API's answer broke off: %w", err)
	}
	p.read(answer.Header, asked)
	// A 404 or 403 of something between says nothing of the token.
	if kind, _, err := mime.ParseMediaType(answer.Header.Get("Content-Type")); answer.StatusCode >= 400 && answer.StatusCode < 500 && (err != nil || kind != "application/json") {
		return 0, fmt.Errorf("what answers %d there is not the API: see cloud.api and what stands before it", answer.StatusCode)
	}
	if answer.StatusCode == http.StatusUnauthorized {
		return 0, ErrDenied
	}
	return answer.StatusCode, nil
}

// read takes the rate limit and the clock from an answer's head.
func (p *Prober) read(h http.Header, asked time.Time) {
	m := p.Meter()
	number := func(name string, into *int) {
		if n, err := strconv.Atoi(h.Get(name)); err == nil {
			*into = n
		}
	}
	number("ratelimit-limit", &m.Limit)
	number("ratelimit-remaining", &m.Left)
	if at, err := http.ParseTime(h.Get("Date")); err == nil {
		// The answer was made at some moment between; its head has whole seconds.
		now := time.Now()
		m.Skew, m.Heard = asked.Add(now.Sub(asked)/2).Sub(at.Add(500*time.Millisecond)), true
	}
	p.meter = m
}
