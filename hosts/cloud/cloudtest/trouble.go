package cloudtest

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Trouble is a rule for what goes wrong. What it does not spoil is answered truly.
type Trouble struct {
	// Method, and parts of the path with its query and of the body, that a request must
	// have to meet it; "" is any.
	Method, Path, Sent string
	// Skip is how many such requests pass unharmed before.
	Skip int
	// Times is how many then meet it: 0 is one, a negative number all until Calm.
	Times int

	// Status, Header and Body replace the answer, where Status is not 0.
	Status int
	Header http.Header
	Body   string
	// Drop breaks the connection in place of an answer.
	Drop bool
	// Hang passes before that; a negative time lasts until the caller goes, or Calm, and
	// then there is no answer.
	Hang time.Duration
	// Done lets the request do what it asks for before all that: only its answer is lost.
	Done bool

	// Errored lets the action that the request begins end so, its deed not done.
	Errored bool
	// Linger lets that action go on for longer; a negative time is until Calm.
	Linger time.Duration
	// Late is how long after the action's end its effect shows: the image, the power's
	// state, a new droplet's addresses. A negative time is never.
	Late time.Duration
}

// Outage is n answers of the provider's page for people in place of the API's, with a
// status such as 503.
func Outage(status, n int) Trouble {
	return Trouble{
		Times: n, Status: status, Header: http.Header{"Content-Type": {"text/html; charset=utf-8"}},
		Body: "<!DOCTYPE html>\n<html><head><title>DigitalOcean</title></head><body><h1>We'll be back soon</h1></body></html>\n",
	}
}

// Trouble adds rules. Each request meets the first that it fits and that is not used up.
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

// Calm ends all troubles, and what hangs or lingers because of them.
func (s *Server) Calm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.troubles = nil
	if !s.closed {
		close(s.calm)
		s.calm = make(chan struct{})
	}
}

// meet is the trouble that a request meets, nil if none.
func (s *Server) meet(r *http.Request, sent []byte) *Trouble {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, t := range s.troubles {
		fits := (t.Method == "" || t.Method == r.Method) && strings.Contains(r.URL.RequestURI(), t.Path) && bytes.Contains(sent, []byte(t.Sent))
		if !fits {
			continue
		}
		if t.Skip > 0 {
			t.Skip--
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
