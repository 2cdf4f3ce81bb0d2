package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// EgressIn asks what a machine reaches over TCP.
type EgressIn struct {
	// Addresses are "address:port".
	Addresses []string `json:"addresses"`
	// Within is how long each is tried; 0 for five seconds.
	Within time.Duration `json:"within_ns,omitempty"`
}

// EgressOut tells it, by address.
type EgressOut struct {
	// Reached are those that answered; a refusal is an answer too, for it came from there.
	Reached map[string]string `json:"reached"`
	// Unreached are those from which nothing came.
	Unreached map[string]string `json:"unreached"`
}

// Egress tries to reach addresses over TCP and sends them nothing.
func (a *Agent) Egress(ctx context.Context, in EgressIn) (EgressOut, error) {
	return call[EgressOut](ctx, a, "egress.probe", in, nil, nil)
}

// egress is the verb egress.probe. All are tried at once.
func (m Machine) egress(ctx context.Context, in EgressIn, _ io.Reader, _ func(string)) (EgressOut, error) {
	out := EgressOut{Reached: map[string]string{}, Unreached: map[string]string{}}
	within := in.Within
	if within <= 0 {
		within = 5 * time.Second
	}
	for _, a := range in.Addresses {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return out, fmt.Errorf("cannot try %q: %w", a, err)
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, a := range in.Addresses {
		wg.Go(func() {
			conn, err := (&net.Dialer{Timeout: within}).DialContext(ctx, "tcp", a)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				out.Reached[a] = "connected"
				conn.Close() //nolint:errcheck,gosec // nothing was written
			case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
				out.Reached[a] = err.Error()
			default:
				out.Unreached[a] = err.Error()
			}
		})
	}
	wg.Wait()
	return out, ctx.Err()
}
