package mastodon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// prober makes the checks of one probe.
type prober struct {
	in        ProbeIn
	web       *site
	streaming *site
	token     string
	noToken   string // why there is none
	page      page
	pageErr   error
	account   string
	publish   func(ctx context.Context, channel, message string) (receivers int64, err error)
}

// errSkip is a check that cannot be made; its text says why.
type errSkip struct{ why string }

func (e *errSkip) Error() string { return e.why }

// runProbe is the verb "probe".
func runProbe(ctx context.Context, in ProbeIn, say func(string)) (Probe, error) {
	if in.Domain == "" {
		return Probe{}, errors.New("cannot probe without the site's domain")
	}
	p := newProber(in)
	defer p.web.close()
	defer p.streaming.close()
	if err := p.readToken(); err != nil {
		return Probe{}, err
	}
	p.awaitBoot(ctx)
	return p.run(ctx)
}

// awaitBoot waits, at most so long, until both servers accept connections. Whatever
// else is wrong with them, the checks say.
func (p *prober) awaitBoot(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, p.in.Boot)
	defer cancel()
	t := time.NewTicker(25 * time.Millisecond)
	defer t.Stop()
	for _, s := range []*site{p.web, p.streaming} {
		for s.refuses(ctx) {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
		}
	}
}

func newProber(in ProbeIn) *prober {
	in.Layout = in.Layout.filled()
	if in.WebPort == 0 {
		in.WebPort = 3000
	}
	if in.StreamingPort == 0 {
		in.StreamingPort = 4000
	}
	if in.Checks == nil {
		in.Checks = AllChecks()
	}
	if in.TokenFile == "" {
		in.TokenFile = "/etc/refit/probe.token"
	}
	if in.Deadline == 0 {
		in.Deadline = 10 * time.Second
	}
	if in.Requests == 0 {
		in.Requests = 20
	}
	p := &prober{in: in, pageErr: errors.New("not asked for yet")}
	p.web = newSite(in.Domain, in.Address, in.WebPort)
	p.streaming = newSite(in.Domain, in.Address, in.StreamingPort)
	p.publish = p.publishInRedis
	return p
}

// readToken reads the probe account's token; it is no error that there is none.
func (p *prober) readToken() error {
	b, err := os.ReadFile(p.in.TokenFile)
	if errors.Is(err, fs.ErrNotExist) {
		p.noToken = "no token: " + p.in.TokenFile + " does not exist"
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the probe account's token: %w", err)
	}
	p.token = strings.TrimSpace(string(b))
	if p.token == "" {
		p.noToken = "no token: " + p.in.TokenFile + " is empty"
	}
	return nil
}

func (p *prober) run(ctx context.Context) (Probe, error) {
	out := Probe{Checks: []Check{}}
	checks := map[CheckName]func(context.Context) (string, error){
		CheckHealth:    p.health,
		CheckPage:      p.checkPage,
		CheckPacks:     p.packs,
		CheckDatabase:  p.database,
		CheckStreaming: p.streamingHealth,
		CheckEvent:     p.event,
	}
	for _, name := range p.in.Checks {
		if name == CheckLatency {
			continue
		}
		check, known := checks[name]
		if !known {
			return out, fmt.Errorf("there is no check %q", name)
		}
		out.Checks = append(out.Checks, p.one(ctx, name, check))
	}
	out.Version = p.page.version
	if slices.Contains(p.in.Checks, CheckLatency) {
		out.Latency = p.latency(ctx)
	}
	return out, nil
}

// one makes a check within its deadline.
func (p *prober) one(ctx context.Context, name CheckName, check func(context.Context) (string, error)) Check {
	ctx, cancel := context.WithTimeout(ctx, p.in.Deadline)
	defer cancel()
	begun := time.Now()
	detail, err := check(ctx)
	c := Check{Name: name, Took: time.Since(begun), Detail: detail}
	var skip *errSkip
	switch {
	case errors.As(err, &skip):
		c.Skipped = skip.why
	case err != nil:
		c.Error = scrub(err.Error(), p.secrets())
	default:
		c.OK = true
	}
	return c
}

func (p *prober) secrets() []string {
	if p.token == "" {
		return nil
	}
	return []string{p.token}
}

func (p *prober) health(ctx context.Context) (string, error) {
	_, err := p.web.get(ctx, "/health", "")
	return "", err
}

func (p *prober) streamingHealth(ctx context.Context) (string, error) {
	_, err := p.streaming.get(ctx, "/api/v1/streaming/health", "")
	return "", err
}

// load asks for the page once for all checks that need it.
func (p *prober) load(ctx context.Context) error {
	if p.pageErr == nil {
		return nil
	}
	body, err := p.web.get(ctx, "/", "")
	if err == nil {
		p.page, err = readPage(body)
	}
	p.pageErr = err
	return err
}

func (p *prober) checkPage(ctx context.Context) (string, error) {
	if err := p.load(ctx); err != nil {
		return "", err
	}
	if p.in.Release != "" && !sameVersion(p.page.version, p.in.Release) {
		return p.page.version, fmt.Errorf("/ is rendered by version %s, not %s", p.page.version, strings.TrimPrefix(p.in.Release, "v"))
	}
	return p.page.version, nil
}

func (p *prober) packs(ctx context.Context) (string, error) {
	if err := p.load(ctx); err != nil {
		return "", err
	}
	if len(p.page.packs) == 0 {
		return "", errors.New("/ names no file below /packs/")
	}
	files := slices.Concat(p.page.packs, p.in.Packs)
	slices.Sort(files)
	files = slices.Compact(files)
	for _, f := range files {
		if _, err := p.web.get(ctx, f, ""); err != nil {
			return "", staticHint(err)
		}
	}
	return fmt.Sprintf("%d files", len(files)), nil
}

// staticHint adds to a 404 the setting that makes Rails serve files itself.
func staticHint(err error) error {
	var status *statusError
	if errors.As(err, &status) && status.status == http.StatusNotFound {
		return fmt.Errorf("%w; it is not in the release, or RAILS_SERVE_STATIC_FILES is not true", err)
	}
	return err
}

// database makes Puma read the database: the probe account's own record, or
// without a token the public timeline, which a site may have closed.
func (p *prober) database(ctx context.Context) (string, error) {
	if p.token != "" {
		id, err := p.verify(ctx)
		if err != nil {
			return "", err
		}
		return "account " + id, nil
	}
	_, err := p.web.get(ctx, "/api/v1/timelines/public?limit=1", "")
	var status *statusError
	if errors.As(err, &status) && (status.status == http.StatusUnauthorized || status.status == http.StatusUnprocessableEntity) {
		return "", &errSkip{"the public timeline is closed to visitors, and " + p.noToken}
	}
	if err != nil {
		return "", err
	}
	return "public timeline", nil
}

// verify asks who the token belongs to.
func (p *prober) verify(ctx context.Context) (string, error) {
	if p.account != "" {
		return p.account, nil
	}
	body, err := p.web.get(ctx, "/api/v1/accounts/verify_credentials", p.token)
	if err != nil {
		return "", err
	}
	var v struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(body, &v); err != nil || v.ID == "" {
		return "", errors.New("/api/v1/accounts/verify_credentials tells no account")
	}
	p.account = v.ID
	return v.ID, nil
}

// latency times requests for the page, one after the other.
func (p *prober) latency(ctx context.Context) *Latency {
	l := &Latency{Path: "/"}
	var took []time.Duration
	for range p.in.Requests {
		if ctx.Err() != nil {
			break
		}
		one, cancel := context.WithTimeout(ctx, p.in.Deadline)
		begun := time.Now()
		_, err := p.web.get(one, l.Path, "")
		cancel()
		l.Requests++
		if err != nil {
			l.Failed++
			continue
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	if n := len(took); n > 0 {
		l.P50, l.P95, l.Max = took[(n-1)/2], took[(n-1)*95/100], took[n-1]
	}
	return l
}
