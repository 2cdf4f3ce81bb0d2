package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"vmst.io/refit/hosts"
)

// Retry bounds attempts to connect. OpenSSH 9.8 and later locks out an address
// that connects often without logging in (PerSourcePenalties), so attempts are
// few, one at a time, and spaced, whoever asks for them.
type Retry struct {
	// Attempts is how many one call makes at most while nothing can be reached; 0
	// for 3.
	Attempts int
	// First is the pause after the first failure, doubled with each one up to Longest;
	// 0 for 1 second and 15 seconds. It is kept between calls too.
	First, Longest time.Duration
}

// Conn is a connection that is made when first needed, and made again when it was
// lost. It is a hosts.Shell for use from several goroutines. A command that was
// under way when the connection broke is never repeated by itself.
type Conn struct {
	o Options

	mu     sync.Mutex
	client *Client
	flight *flight // the attempt under way
	pause  *backoff.ExponentialBackOff
	next   time.Time // no attempt before this
	opened int
	missed error // how the last attempt timed out, of a host that was never reached
	since  time.Time
	closed bool
	quit   chan struct{} // closed with closed
}

// remembered is how long a host that was never reached and let a connection time out
// is taken for gone without another attempt: a command asks each host many things,
// one after the other, and must not wait as often.
const remembered = 30 * time.Second

// flight is one attempt to connect that several callers may wait for.
type flight struct {
	done   chan struct{}
	client *Client
	err    error
}

// New makes a Conn; nothing is dialled yet.
func New(o Options) *Conn {
	if o.Retry.Attempts == 0 {
		o.Retry.Attempts = 3
	}
	if o.Retry.First == 0 {
		o.Retry.First = time.Second
	}
	if o.Retry.Longest == 0 {
		o.Retry.Longest = 15 * time.Second
	}
	p := backoff.NewExponentialBackOff()
	p.InitialInterval, p.MaxInterval, p.Multiplier, p.RandomizationFactor = o.Retry.First, o.Retry.Longest, 2, 0.2
	p.Reset()
	return &Conn{o: o, pause: p, quit: make(chan struct{})}
}

// Opened is how many connections were made so far.
func (c *Conn) Opened() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opened
}

// Run runs a command as Client.Run does, connecting first where needed.
func (c *Conn) Run(ctx context.Context, cmd hosts.Command, out io.Writer) error {
	for again := false; ; again = true {
		client, err := c.connect(ctx)
		if err != nil {
			return err
		}
		err = client.Run(ctx, cmd, out)
		// The connection was found dead before the command could start: nothing ran.
		var not *notStartedError
		if again || !errors.As(err, &not) || client.err() == nil || ctx.Err() != nil {
			return err
		}
	}
}

// Put writes a file as Client.Put does, connecting first where needed.
func (c *Conn) Put(ctx context.Context, path string, mode fs.FileMode, r io.Reader) error {
	return put(ctx, c, c.o.name(), path, mode, r)
}

// HangUp ends the connection that is open, if there is one. The next command makes
// another; one that is under way is lost.
func (c *Conn) HangUp() error {
	c.mu.Lock()
	client := c.client
	c.client = nil
	c.mu.Unlock()
	if client == nil {
		return nil
	}
	return client.Close()
}

// Close ends the connection for good.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		close(c.quit)
	}
	if c.client == nil {
		return nil
	}
	return c.client.Close()
}

func (c *Conn) dialThrough(ctx context.Context, address string) (net.Conn, error) {
	client, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	return client.ssh.DialContext(ctx, "tcp", address)
}

// connect returns the living connection, or makes one. A host that let a whole
// ConnectTimeout pass is not tried again by this call: no answer may take a minute,
// and who can wait longer asks again (the engine's patience, a gate, the keeper).
func (c *Conn) connect(ctx context.Context) (*Client, error) {
	var err error
	began := time.Now()
	for range c.o.Retry.Attempts {
		var client *Client
		if client, err = c.attempt(ctx); err == nil {
			return client, nil
		}
		// What a person must mend does not mend itself, and a host that takes
		// connections without a word has used up the time already.
		if !errors.Is(err, ErrUnreachable) || ctx.Err() != nil {
			return nil, err
		}
		if time.Since(began) >= c.o.connectTimeout() {
			return nil, err
		}
	}
	return nil, err
}

// attempt joins the attempt under way or begins one, after the pause that is due.
func (c *Conn) attempt(ctx context.Context) (*Client, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, fmt.Errorf("%s: %w: closed here", c.o.name(), ErrUnreachable)
	}
	if c.client != nil && c.client.err() == nil {
		defer c.mu.Unlock()
		return c.client, nil
	}
	if c.opened == 0 && c.missed != nil && time.Since(c.since) < remembered {
		defer c.mu.Unlock()
		return nil, c.missed
	}
	f := c.flight
	if f == nil {
		f = &flight{done: make(chan struct{})}
		c.flight = f
		// One caller's end must not end the attempt of the others; Dial has a limit of
		// its own.
		go c.fly(context.WithoutCancel(ctx), f, time.Until(c.next))
	}
	c.mu.Unlock()
	select {
	case <-f.done:
		return f.client, f.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: cannot connect: %w", c.o.name(), context.Cause(ctx))
	}
}

func (c *Conn) fly(ctx context.Context, f *flight, pause time.Duration) {
	if pause > 0 {
		t := time.NewTimer(pause)
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.quit:
		}
	}
	began := time.Now()
	f.client, f.err = Dial(ctx, c.o)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.missed = nil
	if f.err != nil && time.Since(began) >= c.o.connectTimeout() {
		c.missed, c.since = f.err, time.Now()
	}
	if f.err == nil {
		c.opened++
		c.client = f.client
		c.pause.Reset()
		// Also a host that accepts and drops connections is not stormed.
		c.next = time.Now().Add(c.o.Retry.First)
		if c.closed {
			f.err = errors.Join(fmt.Errorf("%s: %w: closed here", c.o.name(), ErrUnreachable), f.client.Close())
			f.client = nil
		}
	} else {
		c.next = time.Now().Add(c.pause.NextBackOff())
	}
	c.flight = nil
	close(f.done)
}
