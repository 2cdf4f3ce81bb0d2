package ssh

import (
	"context"
	"io"
	"sync"

	"golang.org/x/crypto/ssh"

	"vmst.io/refit/hosts"
)

// session is one command at work.
type session struct {
	s    *ssh.Session
	errs *hosts.Tail

	mu  sync.Mutex
	bad error // why the command's output could not be passed on
}

// start starts the command. Its input is copied by a goroutine of its own: a
// command that ends without having read everything has ended all the same.
func (r *session) start(ctx context.Context, c *Client, line string, in io.Reader, out io.Writer) error {
	if out == nil {
		out = io.Discard
	}
	r.s.Stdout = &sink{to: out, r: r}
	r.s.Stderr = r.errs
	var stdin io.WriteCloser
	if in != nil {
		var err error
		if stdin, err = r.s.StdinPipe(); err != nil {
			return err
		}
	}
	if _, err := await(ctx, c, func() (struct{}, error) { return struct{}{}, r.s.Start(line) }); err != nil {
		return err
	}
	if stdin != nil {
		go func() {
			// The command may end first, or the connection; both are reported by wait.
			io.Copy(stdin, in) //nolint:errcheck // see above
			stdin.Close()      //nolint:errcheck // see above
		}()
	}
	return nil
}

func (r *session) wait() error {
	err := r.s.Wait()
	if bad := r.outErr(); bad != nil {
		return bad
	}
	return err
}

func (r *session) outErr() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bad
}

// close ends the session. With signal the host is asked to end the command, which
// would run on otherwise.
func (r *session) close(signal bool) {
	if signal {
		r.s.Signal(ssh.SIGTERM) //nolint:errcheck // the command may be gone, or the link
	}
	r.s.Close() //nolint:errcheck // as above
}

// sink passes output on. When that fails the session ends, since nobody will hear
// the rest.
type sink struct {
	to io.Writer
	r  *session
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.to.Write(p)
	if err != nil {
		s.r.mu.Lock()
		s.r.bad = err
		s.r.mu.Unlock()
		go s.r.s.Close() //nolint:errcheck // the error above is reported
	}
	return n, err
}
