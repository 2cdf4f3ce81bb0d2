package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// puzzle is a probe whose answers are told by the seconds since it began.
func puzzle(answer func(sec int) error) func(context.Context) error {
	began := time.Now()
	return func(context.Context) error { return answer(int(time.Since(began) / time.Second)) }
}

func TestAGateIsPassedByAStreakAndHeldToAsLongAsAsked(t *testing.T) {
	for name, c := range map[string]struct {
		gate   Gate
		answer func(sec int) error
		after  time.Duration
		err    string
	}{
		"at once": {
			answer: func(int) error { return nil },
		},
		"when it becomes true": {
			answer: func(s int) error { return when(s < 7, "not yet") },
			after:  7 * time.Second,
		},
		"after a streak": {
			gate:   Gate{Streak: 3},
			answer: func(s int) error { return when(s < 4 || s == 5, "not yet") },
			after:  8 * time.Second,
		},
		"held for its time": {
			gate:   Gate{Hold: 20 * time.Second},
			answer: func(s int) error { return when(s < 2, "not yet") },
			after:  22 * time.Second,
		},
		"longer to hold than it may take to come true": {
			gate:   Gate{Within: 5 * time.Second, Hold: time.Minute},
			answer: func(int) error { return nil },
			after:  time.Minute,
		},
		"never true": {
			gate:   Gate{Within: 30 * time.Second},
			answer: func(int) error { return errors.New("connection refused") },
			after:  30 * time.Second,
			err:    "the gate: not within 30s (31 probes): connection refused",
		},
		"true and then no more": {
			gate:   Gate{Hold: time.Minute},
			answer: func(s int) error { return when(s >= 20, "died") },
			after:  20 * time.Second,
			err:    "the gate: was true for 20s and then no more: died",
		},
		"one bad answer forgiven while holding": {
			gate:   Gate{Hold: time.Minute, Forgive: 1},
			answer: func(s int) error { return when(s == 20 || s == 30, "blip") },
			after:  time.Minute,
		},
		"two bad answers not forgiven": {
			gate:   Gate{Hold: time.Minute, Forgive: 1},
			answer: func(s int) error { return when(s == 20 || s == 21, "blip") },
			after:  21 * time.Second,
			err:    "was true for 21s and then no more: blip",
		},
		"hopeless": {
			answer: func(s int) error {
				if s < 3 {
					return errors.New("not yet")
				}
				return Never(errors.New("the unit is failed"))
			},
			after: 3 * time.Second,
			err:   "the unit is failed",
		},
		"a person is needed": {
			answer: func(int) error { return &NeedsPerson{State: "an index is INVALID"} },
			err:    "an index is INVALID",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				c.gate.Name, c.gate.Probe = "the gate", puzzle(c.answer)
				err := Await(t.Context(), c.gate, nil)
				if took := time.Since(began); took != c.after {
					t.Errorf("it took %s, want %s", took, c.after)
				}
				if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
			})
		})
	}
}

func when(bad bool, text string) error {
	if bad {
		return errors.New(text)
	}
	return nil
}

func TestAProbeThatHangsIsEndedAndAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		began := time.Now()
		err := Await(t.Context(), Gate{Name: "the gate", Each: 5 * time.Second, Probe: func(ctx context.Context) error {
			n++
			if n > 2 {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}}, nil)
		if err != nil || time.Since(began) != 12*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

func TestAGateWaitedForInVainTellsWhatItWaitedForAndTheLastError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said []string
		err := Await(t.Context(), Gate{
			Name: "Puma on kirk answers", Within: 25 * time.Second,
			Probe: puzzle(func(s int) error {
				if s < 5 {
					return errors.New("connection refused")
				}
				return errors.New("status 500")
			}),
		}, func(f string, a ...any) { said = append(said, fmt.Sprintf(f, a...)) })
		var g *GateError
		if !errors.As(err, &g) || g.Err.Error() != "status 500" || g.Probes != 26 || g.Held != 0 {
			t.Errorf("%#v", err)
		}
		want := []string{
			"waiting for Puma on kirk answers, 0s of 25s: connection refused",
			"waiting for Puma on kirk answers, 5s of 25s: status 500",
			"waiting for Puma on kirk answers, 15s of 25s: status 500",
		}
		if strings.Join(said, "\n") != strings.Join(want, "\n") {
			t.Errorf("said\n%s\nwant\n%s", strings.Join(said, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestACancelledContextEndsAGateWithItsCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(3500*time.Millisecond, func() { cancel(ErrLockLost) })
		began := time.Now()
		err := Await(ctx, Gate{Name: "the gate", Probe: func(context.Context) error { return errors.New("no") }}, nil)
		if !errors.Is(err, ErrLockLost) || time.Since(began) != 3500*time.Millisecond {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

func TestSeveralGatesAreWaitedForAtOnceAndAllErrorsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := func(host string) Gate {
			return Gate{Name: host, Within: 9 * time.Second, Probe: func(context.Context) error { return errors.New(host + " is down") }}
		}
		began := time.Now()
		err := AwaitAll(t.Context(), []Gate{bad("kirk"), {Name: "fine", Probe: func(context.Context) error { return nil }}, bad("spock")}, nil)
		if time.Since(began) != 9*time.Second {
			t.Errorf("it took %s", time.Since(began))
		}
		for _, w := range []string{"kirk is down", "spock is down"} {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%q is missing in %v", w, err)
			}
		}
	})
}
