package githubtest

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Count is what one caller did since the server was made.
type Count struct {
	// Requests are all that came.
	Requests int
	// Spent is what they cost of the primary limit, over all hours.
	Spent int
	// NotModified are the answers 304.
	NotModified int
	// Refused are those that a limit refused.
	Refused int
}

// bucket is one caller's primary limit.
type bucket struct {
	Count
	limit, used int
	reset       time.Time
	told        bool // whether the caller was refused since the last reset
}

// Count tells what a token did; "" is all who have none.
func (s *Server) Count(token string) Count {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bucket(token).Count
}

// Exhaust uses up a caller's primary limit until its next reset.
func (s *Server) Exhaust(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.bucket(token)
	b.used = b.limit
}

// bucket is a caller's limit in this hour. Windows begin with the first request.
func (s *Server) bucket(token string) *bucket {
	b := s.buckets[token]
	if b == nil {
		b = &bucket{limit: 60}
		switch t := s.opts.Tokens[token]; {
		case token == "" && s.opts.Anonymous > 0:
			b.limit = s.opts.Anonymous
		case token != "" && t.Limit > 0:
			b.limit = t.Limit
		case token != "":
			b.limit = 5000
		}
		s.buckets[token] = b
	}
	if now := s.opts.Now(); !now.Before(b.reset) {
		b.used, b.told, b.reset = 0, false, now.Add(time.Hour).Truncate(time.Second)
	}
	return b
}

// Secondary is a limit that GitHub sets to whoever asks too much at once.
type Secondary struct {
	// Status is 403 or 429.
	Status int
	// For is how long it lasts from the first refusal on.
	For time.Duration
	// Named tells it in Retry-After. Where it is not named, For must not be more
	// than a minute, which is what a caller waits then.
	Named bool
	// Message is the body's message; see SecondaryMessage and AbuseMessage. ""
	// sends no body.
	Message string
}

// What GitHub says in its refusals.
const (
	SecondaryMessage = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
	AbuseMessage     = "You have triggered an abuse detection mechanism. Please wait a few minutes before you try again."
)

const limitsPage = "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api"

// Limit refuses all callers from the next request on.
func (s *Server) Limit(l Secondary) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.block, s.blocked, s.blockHit = &l, time.Time{}, false
}

// withinLimits writes a refusal and is false where a limit holds. A caller that
// was refused and asks again too early is a fault.
func (s *Server) withinLimits(x *exchange) bool {
	b, now := s.bucket(x.who), s.opts.Now()
	b.Requests++
	if s.block != nil && s.blocked.IsZero() {
		s.blocked = now.Add(s.block.For)
	}
	if s.block != nil && !now.Before(s.blocked) {
		s.block = nil
	}
	switch {
	case s.block != nil:
		s.refuseSecondary(x, s.blocked.Sub(now))
	case b.used >= b.limit && x.r.URL.Path != "/rate_limit":
		s.refusePrimary(x, b)
	default:
		return true
	}
	b.Refused++
	b.headers(x.header)
	return false
}

func (s *Server) refuseSecondary(x *exchange, left time.Duration) {
	if s.blockHit {
		s.fault("%s was asked for %s before the secondary limit was over", x.r.URL.RequestURI(), left)
	}
	s.blockHit = true
	if s.block.Named {
		x.header.Set("Retry-After", strconv.Itoa(int((left+time.Second-1)/time.Second)))
	}
	x.status = s.block.Status
	if s.block.Message != "" {
		page := limitsPage + "#about-secondary-rate-limits"
		if s.block.Message == AbuseMessage {
			page = "https://developer.github.com/v3/#abuse-rate-limits"
		}
		x.say(s.block.Status, s.block.Message, page)
	}
}

func (s *Server) refusePrimary(x *exchange, b *bucket) {
	if b.told {
		s.fault("%s was asked for %s before the primary limit's reset", x.r.URL.RequestURI(), b.reset.Sub(s.opts.Now()))
	}
	b.told = true
	status := s.opts.LimitStatus
	if status == 0 {
		status = http.StatusForbidden
	}
	message := "API rate limit exceeded for user ID 1."
	if x.who == "" {
		message = "API rate limit exceeded for 192.0.2.1. (But here's the good news: Authenticated requests get a higher rate limit. Check out the documentation for more details.)"
	}
	x.say(status, message, limitsPage)
}

// charge counts an answer. An authorised caller pays nothing for a 304, nobody
// pays for a look at the limit or for an outage.
func (s *Server) charge(x *exchange) {
	b := s.bucket(x.who)
	same := x.status == http.StatusNotModified
	if same {
		b.NotModified++
	}
	if x.r.URL.Path != "/rate_limit" && x.status < 500 && !(same && x.who != "") {
		b.Spent++
		b.used++
	}
	b.headers(x.header)
}

func (b *bucket) headers(h http.Header) {
	h.Set("X-RateLimit-Limit", strconv.Itoa(b.limit))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(b.limit-b.used))
	h.Set("X-RateLimit-Used", strconv.Itoa(b.used))
	h.Set("X-RateLimit-Reset", fmt.Sprint(b.reset.Unix()))
	h.Set("X-RateLimit-Resource", "core")
}

func (s *Server) getRateLimit(x *exchange) {
	b := s.bucket(x.who)
	core := map[string]any{"limit": b.limit, "remaining": b.limit - b.used, "used": b.used, "reset": b.reset.Unix()}
	search := map[string]any{"limit": 10, "remaining": 10, "used": 0, "reset": b.reset.Unix()}
	x.json(http.StatusOK, map[string]any{"resources": map[string]any{"core": core, "search": search}, "rate": core})
}
