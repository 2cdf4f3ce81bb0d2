package cloudtest

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// admit asks of a request whose it is and whether a limit holds. On false the refusal is
// written. The lock is held.
func (s *Server) admit(x *exchange) bool {
	kind, token, _ := strings.Cut(x.r.Header.Get("Authorization"), " ")
	has, known := s.conf.Scopes[token]
	if known && has == nil {
		has = []string{}
	}
	if !strings.EqualFold(kind, "Bearer") || token == "" || (token != s.conf.Token && !known) {
		x.fail(http.StatusUnauthorized, "unauthorized", "Unable to authenticate you")
		return false
	}
	x.token, x.has = token, has
	return s.withinLimits(x)
}

// withinLimits counts a request. Each counts for one hour, and for the burst for one
// minute; a refused one does not count. Only the burst's refusal tells when to come back.
func (s *Server) withinLimits(x *exchange) bool {
	now := s.conf.Clock()
	uses := slices.DeleteFunc(s.uses[x.token], func(t time.Time) bool { return now.Sub(t) >= time.Hour })
	burst := uses[:0:0]
	for _, t := range uses {
		if now.Sub(t) < time.Minute {
			burst = append(burst, t)
		}
	}
	over := len(uses) >= s.conf.Hourly
	tooFast := len(burst) >= s.conf.Burst
	if !over && !tooFast {
		uses = append(uses, now)
	}
	s.uses[x.token] = uses
	left := s.conf.Hourly - len(uses)
	if tooFast {
		left = 0
		wait := time.Minute - now.Sub(burst[0])
		x.header.Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
	}
	x.header.Set("Ratelimit-Limit", strconv.Itoa(s.conf.Hourly))
	x.header.Set("Ratelimit-Remaining", strconv.Itoa(left))
	x.header.Set("Ratelimit-Reset", strconv.FormatInt(uses[0].Add(time.Hour).Unix(), 10))
	if over || tooFast {
		x.fail(http.StatusTooManyRequests, "too_many_requests", "API Rate limit exceeded.")
		return false
	}
	return true
}

// may tells whether the token has all those scopes; on false the refusal is written,
// which does not name what is missing.
func (x *exchange) may(scopes ...string) bool {
	for _, scope := range scopes {
		if x.has != nil && !slices.Contains(x.has, scope) {
			x.fail(http.StatusForbidden, "forbidden", "You are not authorized to perform this operation")
			return false
		}
	}
	return true
}

// asked finds what is wrong with the query and with a body where none belongs; on false
// the refusal is written.
func (x *exchange) asked(known []string, body bool) bool {
	for k, v := range x.r.URL.Query() {
		if !slices.Contains(known, k) {
			return x.unfit("the query has the unknown parameter " + k)
		}
		n, err := strconv.Atoi(v[0])
		switch {
		case len(v) != 1:
			return x.unfit(k + " is given more than once")
		case (k == "page" || k == "per_page") && (err != nil || n < 1):
			return x.unfit(k + " is no positive number")
		case k == "per_page" && n > 200:
			return x.unfit("per_page is more than 200")
		}
	}
	if !body && len(x.sent) > 0 {
		return x.unfit("a body that nobody reads")
	}
	return true
}

// one is a parameter of the query, "" if it is not given.
func (x *exchange) one(name string) string { return x.r.URL.Query().Get(name) }
