package mastodon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxBody bounds what is read of an answer.
const maxBody = 8 << 20

// site speaks to one server of this host as nginx would: with the site's domain
// as Host and as if the browser had come by TLS. Without both Mastodon answers
// every path but /health with 403 or a redirect.
type site struct {
	domain string
	addr   string // host:port that is really asked
	http   *http.Client
}

func newSite(domain, address string, port int) *site {
	if address == "" {
		address = "127.0.0.1"
	}
	addr := net.JoinHostPort(address, strconv.Itoa(port))
	s := &site{domain: domain, addr: addr}
	s.http = &http.Client{
		Transport: &http.Transport{
			DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return s.dial(ctx) },
			MaxIdleConnsPerHost: 8,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s
}

func (s *site) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	return d.DialContext(ctx, "tcp", s.addr)
}

// refuses tells whether nothing listens there.
func (s *site) refuses(ctx context.Context) bool {
	c, err := s.dial(ctx)
	if err != nil {
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	c.Close() //nolint:errcheck // nothing was written
	return false
}

// close drops idle connections, which would count as requests in flight.
func (s *site) close() { s.http.CloseIdleConnections() }

// headers are what nginx would set.
func (s *site) headers(token string) http.Header {
	h := http.Header{}
	h.Set("X-Forwarded-Proto", "https")
	h.Set("User-Agent", "refit")
	if token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
	return h
}

// get asks for a path and returns the body of an answer of status 200; another
// status is an error that tells it.
func (s *site) get(ctx context.Context, path, token string) ([]byte, error) {
	return s.ask(ctx, http.MethodGet, path, token)
}

func (s *site) ask(ctx context.Context, method, path, token string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.domain+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header = s.headers(token)
	res, err := s.http.Do(req)
	if err != nil {
		return nil, s.explain(ctx, path, err)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	err = errors.Join(err, res.Body.Close())
	if err != nil {
		return nil, s.explain(ctx, path, err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, &statusError{path: path, status: res.StatusCode, location: res.Header.Get("Location"), reason: reason(body)}
	}
	return body, nil
}

// explain tells a deadline from a refused connection, without repeating the URL.
func (s *site) explain(ctx context.Context, path string, err error) error {
	if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return fmt.Errorf("%s on %s: no answer in time", path, s.addr)
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return fmt.Errorf("%s on %s: %w", path, s.addr, err)
		}
		err = inner
	}
}

// statusError is an answer with another status than 200.
type statusError struct {
	path     string
	status   int
	location string
	reason   string // what Mastodon's API says of it, or empty
}

// reason is the text of an answer of Mastodon's API that is an error: "Your login is
// currently pending approval".
func reason(body []byte) string {
	var answer struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil || len(answer.Error) > 200 {
		return ""
	}
	return strings.Join(strings.Fields(answer.Error), " ")
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("%s answers %d", e.path, e.status)
	switch {
	case e.location != "":
		text += " to " + e.location
	case e.reason != "":
		text += ": " + e.reason
	case e.status == http.StatusForbidden:
		text += "; is the domain in refit.yml the site's LOCAL_DOMAIN or WEB_DOMAIN?"
	}
	return text
}
