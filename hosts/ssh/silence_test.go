package ssh_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/ssh"
)

// These tests are about how long what lasts: they run in a bubble of time, so that
// a busy machine changes nothing.

// inBubble gives a test options that lead to a server whose commands do what the
// test says.
func inBubble(t *testing.T, do func(t *testing.T, s *hoststest.Server, o ssh.Options)) {
	t.Helper()
	s := hoststest.NewServer(t)
	o := options(s)
	o.Dialer = s.Dial
	synctest.Test(t, func(t *testing.T) {
		defer s.Thaw() // or what hangs in it would outlive the bubble
		do(t, s, o)
	})
}

func TestAHostThatFallsSilentEndsTheCommand(t *testing.T) {
	inBubble(t, func(t *testing.T, s *hoststest.Server, o ssh.Options) {
		over := make(chan struct{})
		defer close(over)
		const work = 10 * time.Minute
		s.Instead = func(_ string, _ io.Reader, out io.Writer) error {
			time.Sleep(work) // the bubble's time
			_, err := fmt.Fprintln(out, "still there")
			s.Freeze()
			<-over
			return err
		}
		c := newConn(t, o)
		began := time.Now()
		if err := c.Run(t.Context(), sh("work"), nil); !errors.Is(err, ssh.ErrSilent) {
			t.Errorf("got %v, want ErrSilent", err)
		}
		if took := time.Since(began) - work; took < o.AnswerTimeout || took > o.AnswerTimeout*3/2 {
			t.Errorf("it was taken for silent after %s, with a limit of %s", took, o.AnswerTimeout)
		}
	})
}

func TestABusyHostThatSaysNothingIsNotTakenForFrozen(t *testing.T) {
	inBubble(t, func(t *testing.T, s *hoststest.Server, o ssh.Options) {
		s.Instead = func(string, io.Reader, io.Writer) error {
			time.Sleep(100 * o.AnswerTimeout) // the bubble's time
			return nil
		}
		c := newConn(t, o)
		if err := c.Run(t.Context(), sh("work"), nil); err != nil {
			t.Errorf("a quiet command was cut off: %v", err)
		}
	})
}

func TestAHostThatRefusesConnectionsIsTriedAFewTimesByAllCallersTogether(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *hoststest.Server, o ssh.Options) {
		var dials atomic.Int64
		o.Retry = ssh.Retry{Attempts: 2, First: time.Second, Longest: time.Second}
		o.Dialer = func(context.Context, string, string) (net.Conn, error) {
			dials.Add(1)
			return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
		}
		c := newConn(t, o)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if err := c.Run(t.Context(), sh("true"), nil); !errors.Is(err, ssh.ErrUnreachable) {
					t.Errorf("got %v, want ErrUnreachable", err)
				}
			})
		}
		wg.Wait()
		// Who comes after the first attempt has failed joins the second and needs a third.
		if n := dials.Load(); n < 2 || n > 3 {
			t.Errorf("%d attempts for 10 callers", n)
		}
	})
}
