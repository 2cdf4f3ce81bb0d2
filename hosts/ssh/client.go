package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"vmst.io/refit/hosts"
)

// Client is one connection to a host. It is a hosts.Shell. Once it broke it stays
// broken; see Conn for one that mends itself.
type Client struct {
	name  string
	ssh   *ssh.Client
	wire  *wire
	slots chan struct{}

	broken chan struct{} // closed once the connection is
	mu     sync.Mutex
	cause  error // why it broke, before broken is closed
}

// Dial connects and logs in. The whole of it is bounded by ConnectTimeout, also
// with a host that accepts connections and says nothing.
func Dial(ctx context.Context, o Options) (*Client, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.connectTimeout(), errTooLong)
	defer cancel()
	config, done, err := o.config(ctx)
	if err == nil {
		var c *Client
		if c, err = dial(ctx, o, config); err == nil {
			return c, done()
		}
	}
	return nil, errors.Join(err, done())
}

var errTooLong = errors.New("too long")

func dial(ctx context.Context, o Options, config *ssh.ClientConfig) (*Client, error) {
	var raw net.Conn
	var err error
	switch {
	case o.Jump != nil:
		raw, err = o.Jump.dialThrough(ctx, o.address())
	case o.Dialer != nil:
		raw, err = o.Dialer(ctx, "tcp", o.address())
	default:
		raw, err = (&net.Dialer{}).DialContext(ctx, "tcp", o.address())
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", o.name(), ErrUnreachable, err)
	}
	w := &wire{Conn: raw}
	w.heard.Store(time.Now().UnixNano())
	// A deadline on the connection would do, but one through a jump host has none.
	stop := context.AfterFunc(ctx, func() {
		raw.Close() //nolint:errcheck // it is closed to end the handshake, whose error is reported
	})
	conn, chans, reqs, err := ssh.NewClientConn(w, o.address(), config)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, errors.Join(handshakeError(ctx, o, w, err), closeQuietly(raw))
	}
	c := &Client{
		name:   o.name(),
		ssh:    ssh.NewClient(conn, chans, reqs),
		wire:   w,
		slots:  make(chan struct{}, o.sessions()),
		broken: make(chan struct{}),
	}
	go func() { c.fail(fmt.Errorf("%w: %w", ErrLost, orEOF(conn.Wait()))) }()
	go c.keepAlive(o.answerTimeout())
	return c, nil
}

func orEOF(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}

// closeQuietly closes a connection that may be closed already.
func closeQuietly(c io.Closer) error {
	if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// handshakeError tells why logging in failed.
func handshakeError(ctx context.Context, o Options, w *wire, err error) error {
	var auth *ssh.ServerAuthError
	switch {
	case errors.Is(err, ErrHostKey):
		return fmt.Errorf("%s: %w", o.name(), err)
	case o.otherTypes(err) != nil:
		return fmt.Errorf("%s: %w", o.name(), o.otherTypes(err))
	case errors.Is(context.Cause(ctx), errTooLong):
		said := "it accepted the connection and said nothing"
		if w.read.Load() > 0 {
			said = "it stopped answering during the handshake"
		}
		return fmt.Errorf("%s: %w within %s: %s", o.name(), ErrSilent, o.connectTimeout(), said)
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", o.name(), context.Cause(ctx))
	case errors.As(err, &auth), strings.Contains(err.Error(), "unable to authenticate"):
		return fmt.Errorf("%s: %w for user %s: %w", o.name(), ErrAuth, o.User, err)
	case w.read.Load() == 0:
		return fmt.Errorf("%s: %w: closed without a greeting (OpenSSH does so to an address that failed often; it ends by itself): %w", o.name(), ErrUnreachable, err)
	}
	return fmt.Errorf("%s: %w: %w", o.name(), ErrUnreachable, err)
}

// keepAlive asks for a sign of life and ends the connection when nothing at all
// was heard for so long. Any byte counts, so a slow link full of data is alive.
func (c *Client) keepAlive(limit time.Duration) {
	every := time.NewTicker(max(limit/4, time.Millisecond))
	defer every.Stop()
	asking := make(chan struct{}, 1)
	for {
		select {
		case <-c.broken:
			return
		case <-every.C:
		}
		if silent := time.Since(time.Unix(0, c.wire.heard.Load())); silent > limit {
			c.fail(fmt.Errorf("%w for %s", ErrSilent, limit))
			return
		}
		select {
		case asking <- struct{}{}:
			go func() {
				// OpenSSH answers that it does not know the request, which is an answer. An
				// error means that the connection broke, which is noticed elsewhere.
				c.ssh.SendRequest("keepalive@openssh.com", true, nil) //nolint:errcheck // see above
				<-asking
			}()
		default: // the last question is not answered yet
		}
	}
}

// fail breaks the connection for all who use it; the first cause counts.
func (c *Client) fail(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return
	}
	c.cause = cause
	close(c.broken)
	// Closing the transport below sends nothing, so a dead link cannot hold it up.
	c.wire.Conn.Close() //nolint:errcheck // the cause above is what is reported
}

// Close ends the connection and every command's session on it.
func (c *Client) Close() error {
	c.fail(fmt.Errorf("%w: closed here", ErrLost))
	return nil
}

// err is why the connection broke, nil while it lives.
func (c *Client) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// wire is the connection below SSH; it notes when something was heard.
type wire struct {
	net.Conn
	heard atomic.Int64 // UnixNano
	read  atomic.Int64 // bytes
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if n > 0 {
		w.heard.Store(time.Now().UnixNano())
		w.read.Add(int64(n))
	}
	return n, err
}

// notStartedError marks errors from before a command could start.
type notStartedError struct{ err error }

func (e *notStartedError) Error() string { return e.err.Error() }
func (e *notStartedError) Unwrap() error { return e.err }

// await runs f, which may block as long as the host likes, and ends with the
// context or with the connection.
func await[T any](ctx context.Context, c *Client, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	var zero T
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		return zero, context.Cause(ctx)
	case <-c.broken:
		return zero, c.err()
	}
}

// Run runs a command. When ctx ends it asks the host to end the command (SIGTERM)
// and returns at once; what it started may go on there.
func (c *Client) Run(ctx context.Context, cmd hosts.Command, out io.Writer) error {
	if len(cmd.Argv) == 0 {
		return errors.New("no command")
	}
	return c.run(ctx, hosts.CommandName(cmd.Argv), hosts.ShellLine(cmd), cmd.Stdin, out)
}

func (c *Client) run(ctx context.Context, name, line string, in io.Reader, out io.Writer) error {
	fail := func(err error) error { return fmt.Errorf("%s: %s: %w", c.name, name, err) }
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return fail(context.Cause(ctx))
	case <-c.broken:
		return &notStartedError{fail(c.err())}
	}
	s, err := await(ctx, c, c.ssh.NewSession)
	if err != nil {
		var refused *ssh.OpenChannelError
		if !errors.As(err, &refused) && ctx.Err() == nil {
			// The link is dead, though the goroutine that waits for its end may not know yet.
			c.fail(fmt.Errorf("%w: %w", ErrLost, err))
			err = c.err()
		}
		return &notStartedError{fail(err)}
	}
	run := &session{s: s, errs: &hosts.Tail{Max: 4 << 10}}
	// Closing needs the link, so it is not waited for.
	defer func() { go run.close(ctx.Err() != nil) }()
	if err := run.start(ctx, c, line, in, out); err != nil {
		return fail(err)
	}
	_, err = await(ctx, c, func() (struct{}, error) { return struct{}{}, run.wait() })
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		code := exit.ExitStatus()
		if exit.Signal() != "" {
			code = 128
			fmt.Fprintf(run.errs, "\nkilled by SIG%s", exit.Signal())
		}
		return &hosts.ExitError{Command: c.name + ": " + name, Code: code, Stderr: run.errs.String()}
	case c.err() != nil:
		err = c.err()
	case ctx.Err() != nil:
		// The cause is in err.
	case run.outErr() != nil:
		err = run.outErr()
	default:
		// The channel was closed without a status: the host or its sshd went away.
		err = fmt.Errorf("%w: %w", ErrLost, err)
	}
	return fail(err)
}
