package hoststest

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// Dial is a way to the server without a network, for ssh.Options.Dialer: made and
// used inside a bubble of testing/synctest, the connection lets its time pass.
func (s *Server) Dial(context.Context, string, string) (net.Conn, error) {
	there, back := newLine(), newLine()
	s.mu.Lock()
	defer s.mu.Unlock()
	server := &wires{in: there, out: back}
	s.opened(server)
	go s.serve(server)
	return &wires{in: back, out: there}, nil
}

// line is one direction of a connection: unlike io.Pipe it takes bytes before
// anybody reads them, as a network does.
type line struct {
	mu     sync.Mutex
	moved  *sync.Cond
	bytes  bytes.Buffer
	closed bool
}

func newLine() *line {
	l := &line{}
	l.moved = sync.NewCond(&l.mu)
	return l
}

func (l *line) read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.bytes.Len() == 0 && !l.closed {
		l.moved.Wait()
	}
	if l.bytes.Len() == 0 {
		return 0, io.EOF
	}
	return l.bytes.Read(p)
}

func (l *line) write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, net.ErrClosed
	}
	l.moved.Broadcast()
	return l.bytes.Write(p)
}

func (l *line) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.moved.Broadcast()
}

// wires are one end of a connection.
type wires struct{ in, out *line }

func (w *wires) Read(p []byte) (int, error)  { return w.in.read(p) }
func (w *wires) Write(p []byte) (int, error) { return w.out.write(p) }

func (w *wires) Close() error {
	w.in.close()
	w.out.close()
	return nil
}

func (*wires) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (*wires) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (*wires) SetDeadline(time.Time) error      { return nil }
func (*wires) SetReadDeadline(time.Time) error  { return nil }
func (*wires) SetWriteDeadline(time.Time) error { return nil }
