package lab

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// upstreamHeader is set by the lab's proxies: which node answered.
const upstreamHeader = "X-Lab-Upstream"

const (
	// settle is how long after its handshake a client may still not listen: the
	// server subscribes after it has said yes.
	settle = time.Second
	// again is the pause before a client whose connection failed tries once more.
	again = 50 * time.Millisecond
)

// event is one post that clients must be told of.
type event struct {
	id           string
	began, ended time.Time
	judged       bool
}

// connection is one life of a client's websocket.
type connection struct {
	node  string
	since time.Time
	// until is its end; zero while it is open.
	until time.Time
	got   map[string]bool
}

// socket is one client that comes back whenever its connection ends.
type socket struct {
	load   *Load
	stream string
	mu     sync.Mutex
	lives  []*connection
}

func (s *socket) run(ctx context.Context) {
	var lost time.Time
	var from string
	var why error
	for ctx.Err() == nil {
		c, conn, err := s.connect(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			s.load.refused(s.stream, err)
			select {
			case <-ctx.Done():
			case <-time.After(again):
			}
			continue
		}
		if !lost.IsZero() {
			s.load.dropped(Drop{At: lost.UTC(), From: from, To: conn.node, Seconds: time.Since(lost).Seconds(), Why: why.Error()})
		}
		why = s.listen(ctx, c, conn)
		lost, from = time.Now(), conn.node
	}
}

func (s *socket) connect(ctx context.Context) (*websocket.Conn, *connection, error) {
	ctx, cancel := context.WithTimeout(ctx, s.load.opts.Timeout)
	defer cancel()
	address := "wss://" + Domain + "/api/v1/streaming?stream=" + s.stream + "&access_token=" + url.QueryEscape(s.load.opts.Tokens[0])
	c, resp, err := websocket.Dial(ctx, address, &websocket.DialOptions{HTTPClient: s.load.http})
	if err != nil {
		return nil, nil, err
	}
	c.SetReadLimit(1 << 20)
	conn := &connection{node: answered(resp.Header), since: time.Now(), got: map[string]bool{}}
	s.mu.Lock()
	s.lives = append(s.lives, conn)
	s.mu.Unlock()
	return c, conn, nil
}

// listen notes what arrives until the connection ends, and tells why it did.
func (s *socket) listen(ctx context.Context, c *websocket.Conn, conn *connection) error {
	var why error
	for {
		_, b, err := c.Read(ctx)
		if err != nil {
			why = err
			break
		}
		var m struct{ Event, Payload string }
		var status struct{ ID string }
		if json.Unmarshal(b, &m) != nil || m.Event != "update" || json.Unmarshal([]byte(m.Payload), &status) != nil {
			continue
		}
		s.mu.Lock()
		conn.got[status.ID] = true
		s.mu.Unlock()
	}
	s.mu.Lock()
	conn.until = time.Now()
	s.mu.Unlock()
	return errors.Join(why, c.CloseNow())
}

// expected tells whether a connection stood all the time in which the event could
// arrive, and whether it did.
func (c *connection) expected(e *event, arrive time.Duration, stopped time.Time) (was, got bool) {
	until := e.ended.Add(arrive)
	if c.since.Add(settle).After(e.began) || until.After(stopped) {
		return false, c.got[e.id]
	}
	return c.until.IsZero() || c.until.After(until), c.got[e.id]
}

// judge settles an event: lost if any client that was connected throughout did not
// get it. An event too young at the load's end is not counted.
func (ld *Load) judge(e *event, stopped time.Time) {
	if e.judged || e.ended.Add(ld.opts.Arrive).After(stopped) {
		return
	}
	e.judged = true
	lost := false
	for _, s := range ld.socks {
		s.mu.Lock()
		for _, c := range s.lives {
			was, got := c.expected(e, ld.opts.Arrive, stopped)
			if got {
				ld.report.Events.Delivered++
			}
			lost = lost || (was && !got)
		}
		s.mu.Unlock()
	}
	ld.report.Events.Sent++
	if lost {
		ld.report.Events.Lost++
		ld.note(Failure{At: e.ended.UTC(), Kind: "event", Text: "status " + e.id + " did not reach a client connected throughout"})
	}
}

func (ld *Load) refused(stream string, err error) {
	ld.mu.Lock()
	defer ld.mu.Unlock()
	ld.report.Sockets.Refused++
	ld.note(Failure{At: time.Now().UTC(), Kind: "socket", Text: stream + ": " + err.Error()})
}

func (ld *Load) dropped(d Drop) {
	ld.mu.Lock()
	defer ld.mu.Unlock()
	ld.report.Sockets.Drops = append(ld.report.Sockets.Drops, d)
}
