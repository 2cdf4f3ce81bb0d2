package githubtest

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// Cut is where a connection breaks.
type Cut int

// Where a connection breaks.
const (
	CutNot    Cut = iota // it does not
	CutBefore            // before the first byte of the answer
	CutWithin            // after half of the body
)

// Trouble spoils answers. What it does not replace is answered truly.
type Trouble struct {
	// Match is part of the path and query it strikes; "" strikes all.
	Match string
	// Times is how many answers it spoils; 0 is one, a negative number all until Calm.
	Times int
	// Status, Header and Body replace the answer, where Status is not 0.
	Status int
	// Header is added to such an answer.
	Header http.Header
	// Body is such an answer's body.
	Body string
	// Wait passes before the first byte.
	Wait time.Duration
	// Stall passes after half of the body.
	Stall time.Duration
	// Cut breaks the connection.
	Cut Cut
}

// Outage is n answers of GitHub's page for people in place of the API's, with a
// status such as 502.
func Outage(status, n int) Trouble {
	return Trouble{
		Times: n, Status: status, Header: http.Header{"Content-Type": {"text/html; charset=utf-8"}},
		Body: "<!DOCTYPE html>\n<html><head><title>Unicorn! &middot; GitHub</title></head><body><p>No server is currently available to service your request.</p></body></html>\n",
	}
}

// Trouble adds troubles. Each request meets the first that matches and is not
// used up.
func (s *Server) Trouble(all ...Trouble) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range all {
		if t.Times == 0 {
			t.Times = 1
		}
		s.troubles = append(s.troubles, &t)
	}
}

// Calm ends all troubles and secondary limits.
func (s *Server) Calm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.troubles, s.block = nil, nil
}

// trouble is what strikes a request, nil if nothing does. The lock is held.
func (s *Server) trouble(r *http.Request) *Trouble {
	for i, t := range s.troubles {
		if !strings.Contains(r.URL.RequestURI(), t.Match) {
			continue
		}
		if t.Times > 0 {
			if t.Times--; t.Times == 0 {
				s.troubles = slices.Delete(s.troubles, i, i+1)
			}
		}
		return t
	}
	return nil
}
