package ssh_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/ssh"
)

// byDefault is a host that is dialled as told, with the waits that refit.yml has
// when it names none.
func byDefault(t *testing.T, dial func(context.Context) (net.Conn, error)) (ssh.Options, *atomic.Int32) {
	t.Helper()
	s := hoststest.NewServer(t)
	var dials atomic.Int32
	o := ssh.Options{
		Name: "kirk", Address: "127.0.0.1", Port: s.Port, User: "refit", KeyFile: s.KeyFile, KnownHosts: []string{s.KnownHosts},
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			dials.Add(1)
			return dial(ctx)
		},
	}
	return o, &dials
}

func TestAHostThatIsCutIsToldWithinOneTimeoutOfConnecting(t *testing.T) {
	o, dials := byDefault(t, func(ctx context.Context) (net.Conn, error) {
		<-ctx.Done() // packets vanish
		return nil, os.ErrDeadlineExceeded
	})
	synctest.Test(t, func(t *testing.T) {
		c := ssh.New(o)
		began := time.Now()
		err := c.Run(t.Context(), sh("true"), nil)
		if took := time.Since(began); !errors.Is(err, ssh.ErrUnreachable) || took > 10*time.Second || dials.Load() != 1 {
			t.Errorf("after %s and %d attempts: %v", took, dials.Load(), err)
		}
		// What else the command asks it is answered at once, until it is worth another try.
		began = time.Now()
		if again := c.Run(t.Context(), sh("true"), nil); !errors.Is(again, ssh.ErrUnreachable) || time.Since(began) > time.Second || dials.Load() != 1 {
			t.Errorf("the second question: after %s and %d attempts: %v", time.Since(began), dials.Load(), again)
		}
		<-time.After(31 * time.Second) // in a bubble: no real time passes
		if err := c.Run(t.Context(), sh("true"), nil); !errors.Is(err, ssh.ErrUnreachable) || dials.Load() != 2 {
			t.Errorf("later: %d attempts: %v", dials.Load(), err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestAHostThatRefusesAtOnceIsTriedAgainForSeconds(t *testing.T) {
	o, dials := byDefault(t, func(context.Context) (net.Conn, error) { return nil, syscall.ECONNREFUSED })
	synctest.Test(t, func(t *testing.T) {
		c := ssh.New(o)
		began := time.Now()
		err := c.Run(t.Context(), sh("true"), nil)
		if took := time.Since(began); !errors.Is(err, ssh.ErrUnreachable) || took > 5*time.Second || dials.Load() != 3 {
			t.Errorf("after %s and %d attempts: %v", took, dials.Load(), err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestAHostThatIsCutOffIsTriedOnceByEachCallAndReachedWhenItIsBack(t *testing.T) {
	inBubble(t, func(t *testing.T, s *hoststest.Server, o ssh.Options) {
		ran := 0
		s.Instead = func(string, io.Reader, io.Writer) error {
			ran++
			return nil
		}
		dials, cut := 0, false // one dial at a time
		o.Retry.Attempts = 3
		o.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
			dials++
			if cut {
				<-ctx.Done()
				return nil, os.ErrDeadlineExceeded
			}
			return s.Dial(ctx, network, address)
		}
		c := newConn(t, o)
		if err := c.Run(t.Context(), sh("true"), nil); err != nil {
			t.Fatal(err)
		}
		cut = true
		s.Drop()
		synctest.Wait() // the loss is known
		if err := c.Run(t.Context(), sh("true"), nil); !errors.Is(err, ssh.ErrUnreachable) {
			t.Errorf("got %v", err)
		}
		if dials != 2 || ran != 1 {
			t.Errorf("%d attempts to connect, %d commands", dials, ran)
		}
		cut = false
		if err := c.Run(t.Context(), sh("true"), nil); err != nil || dials != 3 || ran != 2 {
			t.Errorf("when it is back: %v, %d attempts to connect, %d commands", err, dials, ran)
		}
	})
}
