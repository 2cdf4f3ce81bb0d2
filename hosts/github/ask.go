package github

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	gogithub "github.com/google/go-github/v60/github"
)

// question is one GET, a POST if it sends something, or a PATCH if that changes something.
type question struct {
	what   string // for people
	path   string // below the API's address, escaped
	etag   string // of the answer that is known already, "" if none
	send   any    // the body, as JSON; nil for none
	change bool   // what is sent changes what is there
}

// method and good are how it is asked, and the status of an answer that is one.
func (q question) method() string {
	switch {
	case q.change:
		return http.MethodPatch
	case q.send != nil:
		return http.MethodPost
	}
	return http.MethodGet
}

func (q question) good() int {
	if q.method() == http.MethodPost {
		return http.StatusCreated
	}
	return http.StatusOK
}

// answer is what came: the body of a 200, or that nothing changed.
type answer struct {
	same bool // 304: what came with the ETag is still so
	body []byte
	etag string
	more bool // the Link header names a next page
}

// errSlow ends an answer that takes longer than Options.Answer.
var errSlow = errors.New("the answer took too long")

// ask sends a question once and waits for the whole answer. All its errors are
// *Error, but for the cause that ended ctx.
//
// The client of go-github is made anew each time: an old one would refuse by
// limits that it remembers, by this machine's clock, and knows no 429.
func (c *Client) ask(ctx context.Context, q question) (answer, error) {
	gh := gogithub.NewClient(&c.http)
	gh.BaseURL, gh.UserAgent = c.base, c.agent
	req, err := gh.NewRequest(q.method(), q.path, q.send)
	if err != nil {
		return answer{}, fmt.Errorf("cannot ask %s for %s: %w", c.base.Host, q.what, err)
	}
	if q.etag != "" {
		req.Header.Set("If-None-Match", q.etag)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	within, cancel := context.WithTimeoutCause(ctx, c.answer, errSlow)
	defer cancel()
	var body bytes.Buffer
	resp, err := gh.Do(within, req, &body)
	switch {
	case err == nil && resp.StatusCode == q.good():
		return c.read(q, resp, body.Bytes())
	case ctx.Err() != nil:
		return answer{}, context.Cause(ctx)
	case within.Err() != nil:
		return answer{}, c.slow(q)
	case resp == nil || resp.StatusCode == q.good():
		return answer{}, c.cut(q, err)
	case resp.StatusCode == http.StatusNotModified && q.etag != "":
		return answer{same: true, etag: q.etag}, nil
	case resp.StatusCode < 300: // no question has such an answer, and go-github has read it
		return answer{}, c.judge(q, resp.Response, nil)
	}
	text, err := io.ReadAll(resp.Body) // of go-github's copy, which may be cut: it drops that error
	if err == nil && resp.ContentLength > int64(len(text)) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil { // a refusal that is cut may have been a limit
		return answer{}, c.cut(q, err)
	}
	return answer{}, c.judge(q, resp.Response, text)
}

// read takes a good status for an answer only if it says that it is JSON and is it.
func (c *Client) read(q question, resp *gogithub.Response, body []byte) (answer, error) {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return answer{}, c.strange(q, fmt.Sprintf("the answer is no JSON, but %q", c.quote(resp.Header.Get("Content-Type"))))
	}
	if !json.Valid(body) {
		return answer{}, c.strange(q, fmt.Sprintf("the answer's %d bytes are not JSON", len(body)))
	}
	return answer{body: body, etag: resp.Header.Get("ETag"), more: resp.NextPage != 0}, nil
}

func (c *Client) slow(q question) *Error {
	return &Error{
		Kind: ErrUnreachable, Source: c.base.Host, What: q.what, Cause: errSlow, again: true,
		Happened: fmt.Sprintf("no whole answer within %s", c.answer), Advice: adviceStatus,
	}
}

// cut is for what breaks below HTTP.
func (c *Client) cut(q question, err error) *Error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // its text repeats the question
	}
	e := &Error{
		Kind: ErrUnreachable, Source: c.base.Host, What: q.what, Cause: err, again: true,
		Happened: "the connection failed: " + c.quote(err.Error()), Advice: adviceStatus,
	}
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		e.again = false // a certificate does not mend within a call
		e.Advice = "somebody stands between this machine and GitHub, or its clock or its certificates are wrong"
	}
	if errors.Is(err, errHuge) {
		return c.strange(q, err.Error())
	}
	return e
}

func (c *Client) strange(q question, happened string) *Error {
	return &Error{
		Kind: ErrAnswer, Source: c.base.Host, What: q.what, Happened: happened,
		Advice: "see what answers there (a proxy, a login page?); what it said is not used",
	}
}

// quote makes text of a server's own fit for an error: short, on one line, of
// characters that can be seen, without the token, should a server repeat it.
func (c *Client) quote(s string) string {
	if c.token != "" {
		s = strings.ReplaceAll(s, c.token, "[token]")
	}
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200]) + "…"
	}
	return s
}

var errHuge = fmt.Errorf("the answer is larger than %d MiB", maxBody>>20)

// bounded ends a body that is larger than any answer of the API.
type bounded struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(req)
	if err == nil {
		resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxBody}
	}
	return resp, err
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errHuge
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
