package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/hosts"
)

// away is a host that cannot be reached, which is known after some time.
type away struct {
	after time.Duration
	calls int
}

func (a *away) Call(context.Context, string, any, io.Reader, any, func(string)) error {
	a.calls++
	<-time.After(a.after) // in a bubble: no real time passes
	return fmt.Errorf("uhura: %w", hosts.ErrUnreachable)
}

func TestAKeeperThatIsCutIsSaidWithinSecondsAndASaveWaitsForItAllTheSame(t *testing.T) {
	for name, test := range map[string]struct {
		after time.Duration // of one call
		most  time.Duration // until a person is told
	}{
		"packets vanish":               {10 * time.Second, 12 * time.Second},
		"connections are refused":      {3 * time.Second, 15 * time.Second},
		"there is no way to the host":  {100 * time.Millisecond, 15 * time.Second},
		"it takes half the time to do": {7 * time.Second, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &away{after: test.after}
				k := &Keeper{Caller: a, Name: "uhura"}
				began := time.Now()
				_, err := k.Show(t.Context())
				if took := time.Since(began); !errors.Is(err, hosts.ErrUnreachable) || took > test.most {
					t.Errorf("told after %s, %d calls: %v", took, a.calls, err)
				}
				began = time.Now()
				err = k.Save(t.Context(), "run-1", 1, 1, []byte("{}"))
				if took := time.Since(began); !errors.Is(err, hosts.ErrUnreachable) || took < DefaultTTL {
					t.Errorf("a save gave up after %s: %v", took, err)
				}
			})
		})
	}
}
