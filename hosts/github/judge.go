package github

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	adviceStatus = "look at this machine's way out and at https://www.githubstatus.com, and ask again"

	// unnamed is the least pause where GitHub names none
	// (docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api);
	// it doubles with each refusal in a row.
	unnamed = time.Minute
	// longest is the most that is believed. GitHub's longest window is an hour;
	// a mistaken header must not silence the watcher for good.
	longest = 24 * time.Hour
)

// judge tells what an answer that is neither 200 nor 304 means.
func (c *Client) judge(q question, resp *http.Response, body []byte) *Error {
	var said struct {
		Message string `json:"message"`
		Docs    string `json:"documentation_url"`
		Errors  []any  `json:"errors"`
	}
	if json.Unmarshal(body, &said) != nil { // a page for people; its status is all it says
		said.Message, said.Docs, said.Errors = "", "", nil
	}
	e := &Error{Source: c.base.Host, What: q.what, Happened: "it answered " + status(resp), token: c.token != ""}
	if said.Message != "" && said.Message != http.StatusText(resp.StatusCode) {
		e.Happened += ": " + strings.TrimRight(c.quote(said.Message), ". ")
	}
	code := resp.StatusCode
	switch {
	case (code == http.StatusForbidden || code == http.StatusTooManyRequests) && c.limited(e, resp, said.Message+" "+said.Docs):
	case code >= 500:
		e.Kind, e.Advice, e.again = ErrUnreachable, adviceStatus, true
		if after, named := retryAfter(resp); named {
			e.leaveAlone(after)
			e.Advice = "nothing is sent before " + clock(e.Until) + "; " + adviceStatus
		}
	case code >= 300 && code < 400 && code != http.StatusNotModified:
		e.Kind = ErrMoved
		e.Happened += ", which points to " + c.quote(resp.Header.Get("Location"))
		e.Advice = "the repository was renamed or given away: open it in a browser, look at who owns it now, and put the new name into the configuration if you trust it"
	case code == http.StatusUnauthorized:
		e.Kind, e.Advice = ErrDenied, "the token is wrong, expired or revoked: make a new one (public repositories need no scope), or take it out"
	case code == http.StatusForbidden || code == http.StatusUnavailableForLegalReasons:
		e.Kind, e.Advice = ErrDenied, "see what the token may do and whether its organisation asks for single sign-on; public repositories can be read without a token"
	case code == http.StatusNotFound || code == http.StatusGone:
		e.Kind, e.Advice = ErrNotFound, "see whether the name is right; if it was there yesterday, find out who removed it before you upgrade"
	case code == http.StatusUnprocessableEntity && q.send != nil:
		e.Kind, e.Advice = ErrRefused, "what was sent does not suit the repository as it is: look at it there"
		for _, one := range said.Errors {
			e.Happened += "; " + c.quote(wordsOf(one))
		}
	default:
		e.Kind, e.Advice = ErrAnswer, "see what answers there (a proxy?); what it said is not used"
	}
	c.hold(*e)
	return e
}

// wordsOf is one of the errors of a 422: an object with a message or with a field and a
// code, or a text.
func wordsOf(one any) string {
	text, plain := one.(string)
	m, ok := one.(map[string]any)
	switch {
	case plain:
		return text
	case !ok:
		return "an error without words"
	case m["message"] != nil:
		return fmt.Sprint(m["message"])
	}
	return fmt.Sprint(cmp.Or[any](m["field"], "something"), " ", cmp.Or[any](m["code"], "is wrong"))
}

// status writes a code with its name, which HTTP/2 does not carry.
func status(resp *http.Response) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode)))
}

// limited tells whether a 403 or 429 is a limit, and if so until when. The order
// is GitHub's own: Retry-After, else the reset where nothing remains, else at
// least a minute. Where both are named, the later one counts.
func (c *Client) limited(e *Error, resp *http.Response, says string) bool {
	after, named := retryAfter(resp)
	primary := resp.Header.Get("X-RateLimit-Remaining") == "0"
	says = strings.ToLower(says)
	if !named && !primary && resp.StatusCode != http.StatusTooManyRequests &&
		!strings.Contains(says, "rate limit") && !strings.Contains(says, "rate-limit") && !strings.Contains(says, "abuse") {
		return false
	}
	if primary {
		if reset, ok := untilReset(resp); ok {
			after, named = max(after, reset), true
		}
	}
	if !named {
		after = c.strike()
	}
	e.Kind, e.again = ErrLimited, true
	e.leaveAlone(after)
	e.Advice = "nothing is sent before " + clock(e.Until)
	if primary && c.token == "" {
		e.Advice += "; a token raises the limit from " + cmp.Or(digits(resp.Header.Get("X-RateLimit-Limit")), "60") + " to 5000 requests an hour"
	}
	return true
}

// leaveAlone notes how long nothing is to be sent.
func (e *Error) leaveAlone(after time.Duration) {
	e.wait = min(max(after, time.Second), longest)
	e.Until = time.Now().Add(e.wait)
}

// strike is the pause after a refusal that named none.
func (c *Client) strike() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	pause := min(unnamed<<min(c.strikes, 6), time.Hour)
	c.strikes++
	return pause
}

// hold keeps all later calls from sending anything before e.Until, if it has one.
func (c *Client) hold(e Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held.Until.Before(e.Until) {
		c.held = e
	}
}

// heldBack is what still keeps everything from being sent, as an error for this
// question; nil if nothing does.
func (c *Client) heldBack(q question) *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	left := time.Until(c.held.Until)
	if left <= 0 {
		return nil
	}
	e := c.held
	e.What, e.wait = q.what, left
	return &e
}

// accepted notes that GitHub answers again.
func (c *Client) accepted() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.strikes = 0
}

// retryAfter reads Retry-After, in seconds or as a date.
func retryAfter(resp *http.Response) (time.Duration, bool) {
	text := resp.Header.Get("Retry-After")
	if n, err := strconv.ParseUint(text, 10, 32); err == nil {
		return time.Duration(n) * time.Second, true
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(at.Sub(theirNow(resp)), 0), true
	}
	return 0, false
}

// untilReset reads X-RateLimit-Reset, seconds since 1970 by GitHub's clock.
func untilReset(resp *http.Response) (time.Duration, bool) {
	n, err := strconv.ParseInt(resp.Header.Get("X-RateLimit-Reset"), 10, 64)
	if err != nil || n <= 0 {
		return 0, false
	}
	left := min(n-theirNow(resp).Unix(), int64(longest/time.Second)) // before it can overflow
	return max(time.Duration(left)*time.Second, 0), true
}

// theirNow is the time at GitHub when it answered: its reset is a time of its
// own clock, and this machine's may be off.
func theirNow(resp *http.Response) time.Time {
	if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		return at
	}
	return time.Now()
}

// digits is s if it is a plain number, else "".
func digits(s string) string {
	if _, err := strconv.ParseUint(s, 10, 32); err != nil {
		return ""
	}
	return s
}
