// Package slacktest is a Slack for tests: stateful, and as strict as the real one
// where that is documented, stricter where Slack is lenient for a while. It knows
// auth.test, chat.postMessage, chat.update, conversations.history,
// conversations.replies and an incoming webhook. It breaks in the ways in which
// Slack and the way to it break, and counts who breaks its rules.
package slacktest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Options are the choices of New.
type Options struct {
	// Token that is accepted; empty for "xoxb-test-token-1".
	Token string
	// Channel is the ID of the one channel; empty for "C0REFIT".
	Channel string
	// Hook is the secret part of the webhook's path; empty for "T0/B0/hook-secret".
	Hook string
	// Scopes of the token; nil for chat:write and channels:history.
	Scopes []string
	// Skew is how far Slack's clock is ahead of this machine's.
	Skew time.Duration
	// Late is how long a new message takes to appear in history.
	Late time.Duration
}

// Server is the Slack. Its exported methods may be called at any time.
type Server struct {
	o Options

	mu         sync.Mutex
	messages   []*Message
	calls      []Call
	violations []string
	revoked    string
	archived   bool
	outside    bool
	down       error
	slow       time.Duration
	meddle     func(Call) Fault
	last       int64
	posted     time.Time
	barred     map[string]time.Time
	recent     map[string][]time.Time
}

// Message is one message of the channel.
type Message struct {
	TS, Thread string
	Broadcast  bool
	Text       string
	Blocks     json.RawMessage
	// Key is refit's, of the metadata.
	Key string
	// Metadata as it was sent.
	Metadata json.RawMessage
	// Said is everything that the message said, the first first.
	Said []string
	// Hook: it came by the webhook.
	Hook bool
	// Parse is how the last text is to be taken: chat.update takes one as a person's
	// words, unless it is told "none".
	Parse string

	at time.Time
}

// Edits counts how often the message was edited.
func (m Message) Edits() int { return len(m.Said) - 1 }

// Call is one request.
type Call struct {
	// N counts from 1; Method is such as "chat.postMessage", or "webhook".
	N      int
	Method string
	At     time.Time
	Key    string
	Text   string
	TS     string
}

// Fault is what goes wrong with a call.
type Fault int

// The ways for a call to go wrong.
const (
	// None: nothing.
	None Fault = iota
	// Refused: the connection is refused.
	Refused
	// Cut: Slack does it, and its answer is lost.
	Cut
	// Dropped: the request is lost on the way.
	Dropped
	// Busy: 429 with Retry-After: 30.
	Busy
	// Broken: HTTP 500 and nothing done.
	Broken
	// BrokenAfter: HTTP 500 although it was done.
	BrokenAfter
	// Picky: a message with blocks is refused with invalid_blocks.
	Picky
	// Moody: refused with an error that is in no list.
	Moody
)

// New makes a Slack with an empty channel.
func New(o Options) *Server {
	if o.Token == "" {
		o.Token = "xoxb-test-token-1"
	}
	if o.Channel == "" {
		o.Channel = "C0REFIT"
	}
	if o.Hook == "" {
		o.Hook = "T0/B0/hook-secret"
	}
	if o.Scopes == nil {
		o.Scopes = []string{"chat:write", "channels:history"}
	}
	return &Server{o: o, barred: map[string]time.Time{}, recent: map[string][]time.Time{}}
}

// Token is the one that is accepted.
func (s *Server) Token() string { return s.o.Token }

// Channel is the channel's ID.
func (s *Server) Channel() string { return s.o.Channel }

// Base is the address of the Web API for Client; an httptest.Server has its own,
// with the same path.
func (s *Server) Base() string { return "http://slack.test/api/" }

// Webhook is the webhook's URL for Client.
func (s *Server) Webhook() string { return "http://slack.test/services/" + s.o.Hook }

// Revoke makes the token void, with the error that Slack gives.
func (s *Server) Revoke() { s.set(func() { s.revoked = "token_revoked" }) }

// Restore makes it good again, as a person does who gives the app its right back.
func (s *Server) Restore() { s.set(func() { s.revoked = "" }) }

// Archive archives the channel, or brings it back.
func (s *Server) Archive(yes bool) { s.set(func() { s.archived = yes }) }

// Kick takes the app out of the channel, or lets it in again.
func (s *Server) Kick(yes bool) { s.set(func() { s.outside = yes }) }

// Down ends or begins that Slack can be reached.
func (s *Server) Down(yes bool) {
	s.set(func() {
		s.down = nil
		if yes {
			s.down = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		}
	})
}

// Slow makes each answer take so long.
func (s *Server) Slow(d time.Duration) { s.set(func() { s.slow = d }) }

// Meddle asks f about each call; nil for no faults. f may call no method of s.
func (s *Server) Meddle(f func(Call) Fault) { s.set(func() { s.meddle = f }) }

// Delete removes a message, as a person does.
func (s *Server) Delete(ts string) {
	s.set(func() { s.messages = slices.DeleteFunc(s.messages, func(m *Message) bool { return m.TS == ts }) })
}

func (s *Server) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// Messages are those of the channel and its threads, the oldest first.
func (s *Server) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Message, len(s.messages))
	for i, m := range s.messages {
		out[i] = *m
		out[i].Said = slices.Clone(m.Said)
	}
	return out
}

// Calls are the requests that arrived.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Violations are the rules that were broken: limits passed, and requests that Slack
// refuses for their form.
func (s *Server) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.violations)
}

// Client reaches the server in process, so that it works in a synctest bubble.
func (s *Server) Client() *http.Client { return &http.Client{Transport: transport{s}} }

type transport struct{ s *Server }

// errCut is what the client sees when an answer is lost.
var errCut = fmt.Errorf("read: connection reset by peer: %w", io.ErrUnexpectedEOF)

// RoundTrip calls the server, and fails as a network does.
func (t transport) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	t.s.mu.Lock()
	down, slow := t.s.down, t.s.slow
	t.s.mu.Unlock()
	if down != nil {
		return nil, down
	}
	if slow > 0 {
		timer := time.NewTimer(slow)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	defer func() {
		if e, ok := recover().(error); ok && e != nil {
			resp, err = nil, errCut
			if refused, isNet := errors.AsType[*net.OpError](e); isNet {
				err = refused
			}
		}
	}()
	w := httptest.NewRecorder()
	t.s.ServeHTTP(w, r)
	return w.Result(), nil
}

// ServeHTTP answers as Slack does; with an httptest.Server the faults cut real
// connections.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.read(r)
	if err != nil {
		s.violate("%s: %v", r.URL.Path, err)
		http.Error(w, "invalid_payload", http.StatusBadRequest)
		return
	}
	call := Call{N: len(s.calls) + 1, Method: q.method, At: time.Now(), Key: q.key(), Text: q.get("text"), TS: q.get("ts")}
	fault := None
	if s.meddle != nil {
		fault = s.meddle(call)
	}
	switch fault {
	case Refused:
		panic(&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED})
	case Dropped:
		panic(http.ErrAbortHandler)
	}
	s.calls = append(s.calls, call)
	switch fault {
	case Busy:
		s.barred[q.method] = time.Now().Add(30 * time.Second)
		tooMany(w, 30)
		return
	case Moody:
		s.json(map[string]any{"ok": false, "error": "the_weather"})(w)
		return
	case Broken:
		http.Error(w, "oops", http.StatusInternalServerError)
		return
	}
	if wait := s.limit(q.method); wait > 0 {
		tooMany(w, wait)
		return
	}
	if blocks := q.get("blocks"); fault == Picky && blocks != "" && blocks != "[]" {
		s.json(map[string]any{"ok": false, "error": "invalid_blocks"})(w)
		return
	}
	reply := s.answer(q)
	switch fault {
	case Cut:
		panic(http.ErrAbortHandler)
	case BrokenAfter:
		http.Error(w, "oops", http.StatusInternalServerError)
		return
	}
	reply(w)
}

func tooMany(w http.ResponseWriter, seconds int) {
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	w.WriteHeader(http.StatusTooManyRequests)
}

// perMinute are the calls that Slack takes in a minute: the tiers of its methods.
var perMinute = map[string]int{"chat.update": 50, "conversations.history": 50, "conversations.replies": 50, "auth.test": 200}

// limit tells how many seconds the caller must wait, 0 if he may go on.
func (s *Server) limit(method string) int {
	now := time.Now()
	if until := s.barred[method]; now.Before(until) {
		s.violate("%s: called before Retry-After had passed", method)
		return int(until.Sub(now).Seconds()) + 1
	}
	if most := perMinute[method]; most > 0 {
		s.recent[method] = slices.DeleteFunc(s.recent[method], func(t time.Time) bool { return now.Sub(t) >= time.Minute })
		if len(s.recent[method]) >= most {
			s.violate("%s: more than %d in a minute", method, most)
			s.barred[method] = now.Add(30 * time.Second)
			return 30
		}
		s.recent[method] = append(s.recent[method], now)
		return 0
	}
	if now.Sub(s.posted) < time.Second {
		s.violate("%s: two messages within %s", method, now.Sub(s.posted))
		s.barred[method] = now.Add(time.Second)
		return 1
	}
	s.posted = now
	return 0
}

func (s *Server) violate(format string, args ...any) {
	s.violations = append(s.violations, fmt.Sprintf(format, args...))
}

// stamp is the timestamp of a new message: the clock's, and never one twice.
func (s *Server) stamp() string {
	us := max(time.Now().Add(s.o.Skew).UnixMicro(), s.last+1)
	s.last = us
	return fmt.Sprintf("%d.%06d", us/1e6, us%1e6)
}
