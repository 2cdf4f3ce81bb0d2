package githubtest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// Wire is a network of one process: a listener whose connections are pipes. Under
// testing/synctest, waiting on one lets the bubble's clock run on, which waiting
// on a socket does not.
type Wire struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// NewWire makes one.
func NewWire() *Wire { return &Wire{conns: make(chan net.Conn), done: make(chan struct{})} }

// Accept implements net.Listener.
func (w *Wire) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (w *Wire) Close() error {
	w.once.Do(func() { close(w.done) })
	return nil
}

// Addr implements net.Listener.
func (w *Wire) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

// Dial connects, whatever the address.
func (w *Wire) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case w.conns <- theirs:
		return ours, nil
	case <-w.done:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: w.Addr(), Err: errors.New("connection refused")}
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Transport carries requests over the wire.
func (w *Wire) Transport() *http.Transport { return &http.Transport{DialContext: w.Dial} }

// Serve answers on a listener until ctx ends, and returns once nothing is served
// any more.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	closed := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { closed <- srv.Close() })
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-closed
}
