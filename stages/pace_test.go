package stages

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestALimitedStreamTakesTheTimeThatItsBytesNeedAndNotMuchMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		w := newPaced(t.Context(), &out, 1000)
		began := time.Now()
		for range 50 {
			if n, err := w.Write(make([]byte, 100)); n != 100 || err != nil {
				t.Fatal(n, err)
			}
		}
		// The last piece is not waited for: nothing follows it.
		if took := time.Since(began); took < 4800*time.Millisecond || took > 5*time.Second || out.Len() != 5000 {
			t.Errorf("%d bytes took %s at 1000 a second", out.Len(), took)
		}
		time.Sleep(time.Hour)
		began = time.Now()
		if _, err := w.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 800*time.Millisecond {
			t.Errorf("an hour of rest was made up for: 1000 bytes took %s", took)
		}
	})
}

func TestALimitedStreamIsNeverStillForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		last, longest := time.Now(), time.Duration(0)
		w := newPaced(t.Context(), writerFunc(func(b []byte) (int, error) {
			longest = max(longest, time.Since(last))
			last = time.Now()
			return len(b), nil
		}), 1_000_000)
		if _, err := w.Write(make([]byte, 3<<20)); err != nil {
			t.Fatal(err)
		}
		if longest > 2*paceEvery {
			t.Errorf("nothing was written for %s", longest)
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestAWaitForALimitEndsWithTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		n, err := newPaced(ctx, &bytes.Buffer{}, 100).Write(make([]byte, 10_000))
		if !errors.Is(err, context.Canceled) || n == 0 || n > 200 {
			t.Errorf("wrote %d, %v", n, err)
		}
	})
}

func TestWithoutALimitNothingStandsBetween(t *testing.T) {
	var out bytes.Buffer
	if w := newPaced(t.Context(), &out, 0); w != &out {
		t.Errorf("got %T", w)
	}
}
