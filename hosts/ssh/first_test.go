package ssh_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
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

func TestAHostThatWasReachedOnceIsTriedAgainAfterATimeout(t *testing.T) {
	s := hoststest.NewServer(t)
	var cut atomic.Bool
	var dials atomic.Int32
	o := options(s)
	o.Retry.Attempts = 3
	o.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		if cut.Load() {
			<-ctx.Done()
			return nil, os.ErrDeadlineExceeded
		}
		return (&net.Dialer{}).DialContext(context.WithoutCancel(ctx), network, address)
	}
	o.ConnectTimeout = 700 * time.Millisecond
	c := newConn(t, o)
	if err := c.Run(t.Context(), sh("true"), nil); err != nil {
		t.Fatal(err)
	}
	cut.Store(true)
	s.Drop()
	file := filepath.Join(t.TempDir(), "none")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, sh("touch "+file), nil) }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for dials.Load() < 3 { // the first, then more than one in a single call
		select {
		case err := <-ended:
			t.Fatalf("given up after %d attempts: %v", dials.Load(), err)
		case <-tick.C:
		}
	}
	cancel()
	<-ended
}
