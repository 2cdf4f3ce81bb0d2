package cloudtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
)

// exchange is one request and the answer that is being written. It is the
// http.ResponseWriter of the routes.
type exchange struct {
	s     *Server
	r     *http.Request
	sent  []byte
	base  string   // scheme and host, as the caller sees them
	token string   // "" where it is not accepted
	has   []string // the token's scopes; nil is all
	met   *Trouble // what strikes this request

	status  int
	header  http.Header
	body    []byte
	later   func() // what is still to be asked of the machines, without the lock
	dropped bool
	spoiled bool
}

func (x *exchange) Header() http.Header         { return x.header }
func (x *exchange) WriteHeader(code int)        { x.status = code }
func (x *exchange) Write(b []byte) (int, error) { x.body = append(x.body, b...); return len(b), nil }

// maxBody bounds what is read of a request.
const maxBody = 1 << 20

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := s.exchange(r)
	if x.dropped {
		panic(http.ErrAbortHandler) // the connection ends without an answer
	}
	for k, v := range x.header {
		w.Header()[k] = v
	}
	if x.status != http.StatusNoContent {
		w.Header().Set("Content-Length", strconv.Itoa(len(x.body)))
	}
	w.WriteHeader(x.status)
	if _, err := w.Write(x.body); err != nil && len(x.body) > 0 {
		return // the caller has gone
	}
}

// Transport carries requests to the account without a socket, which lets the clock of
// testing/synctest run on. A dropped connection is io.ErrUnexpectedEOF.
func (s *Server) Transport() http.RoundTripper { return transport{s} }

type transport struct{ s *Server }

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	inner := r.Clone(r.Context())
	if inner.Body == nil {
		inner.Body = http.NoBody
	}
	inner.Host = word(r.Host, r.URL.Host)
	x := t.s.exchange(inner)
	if err := context.Cause(r.Context()); err != nil {
		return nil, err
	}
	if x.dropped {
		return nil, io.ErrUnexpectedEOF
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", x.status, http.StatusText(x.status)), StatusCode: x.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: x.header, Request: r,
		Body: io.NopCloser(bytes.NewReader(x.body)), ContentLength: int64(len(x.body)),
	}, nil
}

// exchange answers one request, troubles and all.
func (s *Server) exchange(r *http.Request) *exchange {
	x := &exchange{s: s, r: r, base: "http://" + r.Host, status: http.StatusOK, header: http.Header{}}
	if r.TLS != nil || r.URL.Scheme == "https" {
		x.base = "https://" + r.Host
	}
	var err error
	x.sent, err = io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		x.dropped = true // the caller went while it spoke
		return x
	}
	x.met = s.meet(r, x.sent)
	if x.met == nil || x.met.Done || !x.struck() {
		s.answer(x)
		if x.met != nil && x.met.Done {
			x.struck()
		}
	}
	s.record(x)
	return x
}

// struck lets the trouble take the answer's place, and tells whether it did.
func (x *exchange) struck() bool {
	t := x.met
	x.s.sleep(x.r.Context(), t.Hang)
	switch {
	case t.Drop, t.Hang < 0, x.r.Context().Err() != nil:
		x.dropped, x.spoiled = true, true
	case t.Status != 0:
		x.spoiled, x.status, x.header, x.body = true, t.Status, t.Header.Clone(), []byte(t.Body)
		if x.header == nil {
			x.header = http.Header{}
		}
	default:
		return false
	}
	return true
}

// answer says what the account says.
func (s *Server) answer(x *exchange) {
	s.answerLocked(x)
	if x.later != nil {
		x.later()
	}
}

func (s *Server) answerLocked(x *exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x.header.Set("X-Request-Id", s.state.uuid())
	x.header.Set("Date", s.now().Format(http.TimeFormat))
	switch {
	case s.broken != nil:
		x.fail(http.StatusInternalServerError, "server_error", s.broken.Error())
	case s.closed:
		x.fail(http.StatusServiceUnavailable, "service_unavailable", "the simulated account is closed")
	case s.admit(x):
		s.mux.ServeHTTP(x, x.r)
		if x.r.Method != http.MethodGet {
			s.save()
		}
	}
}

// Exchange is one request and its answer.
type Exchange struct {
	Method, URL string
	// RequestHeader lacks Authorization.
	RequestHeader http.Header
	Request       []byte
	Status        int
	Header        http.Header
	Response      []byte
	// Spoiled: a trouble took the answer's place; Dropped: there was none.
	Spoiled, Dropped bool
}

// maxLog bounds what is kept for Log.
const maxLog = 10_000

// Log are the newest ten thousand exchanges, in the order of their answers.
func (s *Server) Log() []Exchange {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

func (s *Server) record(x *exchange) {
	h := x.r.Header.Clone()
	h.Del("Authorization")
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.log) >= maxLog {
		s.log = slices.Delete(s.log, 0, maxLog/10)
	}
	s.log = append(s.log, Exchange{
		Method: x.r.Method, URL: x.base + x.r.URL.RequestURI(), RequestHeader: h, Request: x.sent,
		Status: x.status, Header: x.header.Clone(), Response: slices.Clone(x.body), Spoiled: x.spoiled, Dropped: x.dropped,
	})
}
