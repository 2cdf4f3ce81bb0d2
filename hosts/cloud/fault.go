package cloud

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/digitalocean/godo"
)

// fate is what became of a request that failed.
type fate int

const (
	// refused: nothing was done, and asking again would not help.
	refused fate = iota
	// unsent: nothing was done, and it may be sent again.
	unsent
	// unknown: no whole answer came. What reads is asked again, what writes is not.
	unknown
)

// fault is a request that failed.
type fault struct {
	deed     deed
	host     string
	happened string
	advice   string
	kind     error // one of the package's errors, or nil
	cause    error // the error below, or nil
	fate     fate
	code     int           // of the answer, 0 where none came
	wait     time.Duration // the least pause before the next attempt
}

func (f *fault) Error() string {
	return fmt.Sprintf("cannot %s at %s: %s; %s", f.deed.what, f.host, f.happened, f.advice)
}

// Unwrap gives the errors below.
func (f *fault) Unwrap() []error {
	var out []error
	for _, err := range []error{f.kind, f.cause} {
		if err != nil {
			out = append(out, err)
		}
	}
	return out
}

const (
	adviceStatus = "see this machine's way out and https://status.digitalocean.com, and run it again"
	// shown is how much of a server's own text stands in an error, in characters.
	shown = 200
	// farthest is the most that is believed of a limit: its longest window is an hour.
	farthest = 2 * time.Hour
)

// errSlow ends an answer that takes longer than Options.Answer.
var errSlow = errors.New("the answer took too long")

// errHollow: an answer came that lacks what was asked for.
var errHollow = errors.New("the answer lacks what was asked for")

// judge tells what an error of godo's means. It is not asked about the end of ctx.
func (c *Client) judge(d deed, within context.Context, err error) *fault {
	f := &fault{deed: d, host: c.host, advice: adviceStatus, fate: unknown}
	var said *godo.ErrorResponse
	if errors.As(err, &said) { // it is no cause: its text is as long as the answer, and it panics without a request
		c.refusal(f, said)
		return f
	}
	if !strings.Contains(err.Error(), c.token) {
		f.cause = err
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // its text repeats the address
	}
	var (
		dial  *net.OpError
		cert  *tls.CertificateVerificationError
		arg   *godo.ArgError
		junk  *json.SyntaxError
		wrong *json.UnmarshalTypeError
	)
	switch {
	case within.Err() != nil:
		f.happened, f.cause = fmt.Sprintf("no whole answer within %s", c.answer), errSlow
	case errors.As(err, &arg):
		f.happened, f.advice, f.fate = c.quote(err.Error()), "give a right one", refused
	case errors.As(err, &cert):
		f.happened, f.fate = "the certificate is not trusted: "+c.quote(err.Error()), refused
		f.advice = "somebody stands between this machine and the API, or its clock or its certificates are wrong"
	case errors.As(err, &dial) && (dial.Op == "dial" || dial.Op == "proxyconnect"):
		f.happened, f.fate = "no connection: "+c.quote(err.Error()), unsent
	case errors.As(err, &junk) || errors.As(err, &wrong) || errors.Is(err, errHollow):
		f.happened = "the answer is none of the API's: " + c.quote(err.Error())
		f.advice = "see what answers there (a proxy, a login page?), and run it again"
	default:
		f.happened = "the connection failed: " + c.quote(err.Error())
	}
	return f
}

// refusal tells what an answer that is no success means.
func (c *Client) refusal(f *fault, said *godo.ErrorResponse) {
	resp := said.Response
	code := resp.StatusCode
	f.code = code
	f.happened = strings.TrimSpace(fmt.Sprintf("it answered %d %s", code, http.StatusText(code)))
	if text := c.quote(said.Message); text != "" {
		f.happened += ": " + strings.TrimRight(text, ". ")
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	fromAPI := err == nil && kind == "application/json"
	f.fate = refused
	switch {
	case code >= 500 || code == http.StatusRequestTimeout:
		f.fate = unknown
		f.wait, _ = retryAfter(resp)
	case code == http.StatusTooManyRequests:
		c.limited(f, resp)
	case code >= 300 && code < 400:
		f.happened += ", which points to " + c.quote(resp.Header.Get("Location"))
		f.advice = "nothing was sent there: see what answers for the API (cloud.api)"
	case !fromAPI: // a proxy's 404 does not mean that the droplet is gone
		f.advice = "the answer is none of the API's: see cloud.api and what stands before it"
	case code == http.StatusUnauthorized:
		f.kind, f.advice = ErrDenied, "make a new token with refit's scopes and put it where cloud.token points"
	case code == http.StatusForbidden:
		f.kind = &ScopeError{Scope: f.deed.scope}
		f.happened += " (" + f.kind.Error() + ")"
		f.advice = "make a token that has it and put it where cloud.token points; refit doctor tests all scopes"
	case code == http.StatusNotFound:
		f.kind, f.advice = ErrNotFound, "see whether it is there in the control panel, in the account of this token"
	case code == http.StatusUnprocessableEntity && pending(said.Message):
		f.kind, f.advice = ErrBusy, "see the droplet's history in the control panel, and run it again when it has ended"
	default:
		f.advice = "nothing was done; set right what it names, and run it again"
	}
}

// pending tells whether the words are those of a droplet on which an action is open. The
// description has no code for it (hashicorp/packer#1814, DigitalOceanPHP/Client#164).
func pending(message string) bool {
	m := strings.ToLower(message)
	return strings.Contains(m, "pending event") || strings.Contains(m, "blocking event")
}

// limited notes until when nothing is to be sent: the burst limit names it in Retry-After,
// the hourly one as the time when the oldest request falls out of the window (official
// description, Rate Limit).
func (c *Client) limited(f *fault, resp *http.Response) {
	f.kind, f.fate = ErrLimit, unsent
	after, named := retryAfter(resp)
	if !named && resp.Header.Get("ratelimit-remaining") == "0" {
		after, named = untilReset(resp)
	}
	if !named {
		after = 5 * time.Second
	}
	f.wait = min(max(after, time.Second), farthest)
	until := time.Now().Add(f.wait)
	c.mu.Lock()
	if c.held.Before(until) {
		c.held = until
	}
	c.mu.Unlock()
	f.advice = "nothing was done; run it again after " + clock(until)
}

// heldBack is a fault while a limit lasts that another request was told of.
func (c *Client) heldBack(d deed) *fault {
	c.mu.Lock()
	until := c.held
	c.mu.Unlock()
	left := time.Until(until)
	if left <= 0 {
		return nil
	}
	return &fault{
		deed: d, host: c.host, kind: ErrLimit, fate: unsent, wait: left,
		happened: "it has asked to be left alone", advice: "nothing was sent; run it again after " + clock(until),
	}
}

// retryAfter reads Retry-After, in seconds or as a date.
func retryAfter(resp *http.Response) (time.Duration, bool) {
	text := resp.Header.Get("Retry-After")
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(n) * time.Second, true
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(at.Sub(theirNow(resp)), 0), true
	}
	return 0, false
}

// untilReset reads ratelimit-reset, in seconds since 1970 by the API's clock.
func untilReset(resp *http.Response) (time.Duration, bool) {
	n, err := strconv.ParseInt(resp.Header.Get("ratelimit-reset"), 10, 64)
	if err != nil || n <= 0 {
		return 0, false
	}
	left := min(n-theirNow(resp).Unix(), int64(farthest/time.Second)) // before it can overflow
	return max(time.Duration(left)*time.Second, 0), true
}

// theirNow is the time at the API when it answered: this machine's clock may be off.
func theirNow(resp *http.Response) time.Time {
	if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		return at
	}
	return time.Now()
}

// clock writes a time for people, to the second, in UTC.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }

// quote makes text of a server's own fit for an error: short, on one line, of characters
// that can be seen, without the token, should a server repeat it.
func (c *Client) quote(s string) string {
	s = strings.ReplaceAll(s, c.token, "[token]")
	if r := []rune(s); len(r) > 10*shown { // an HTML page may be long
		s = string(r[:10*shown])
	}
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if r := []rune(s); len(r) > shown {
		s = string(r[:shown]) + "…"
	}
	return s
}
