package stages

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vmst.io/refit/hosts/nginx"
	"vmst.io/refit/pipeline"
)

// aFront is a balancer that answers from memory.
type aFront struct {
	mu    sync.Mutex // around state
	state FrontState
	sum   nginx.Traffic
	known bool
	// every is how often its samples are taken; 0 for one at each question.
	every time.Duration
	// err is of both questions, hangs is how long each takes.
	err   error
	hangs time.Duration
	asked []time.Time // when, for its traffic
	from  time.Time
}

func (f *aFront) State(ctx context.Context) (FrontState, error) {
	if err := pause(ctx, f.hangs); err != nil {
		return FrontState{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.state
	s.Checked = map[string]time.Time{}
	for name := range s.Well {
		s.Checked[name] = f.sampled()
	}
	return s, f.err
}

// sampled is when the balancer last measured.
func (f *aFront) sampled() time.Time {
	if f.every == 0 {
		return time.Now()
	}
	return time.Now().Truncate(f.every)
}

func (f *aFront) Traffic(ctx context.Context, from, _ time.Time) (nginx.Traffic, time.Time, error) {
	f.asked, f.from = append(f.asked, time.Now()), from
	if err := pause(ctx, f.hangs); err != nil {
		return nginx.Traffic{}, time.Time{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.known {
		return nginx.Traffic{}, time.Time{}, f.err
	}
	return f.sum, f.sampled(), f.err
}

func goodFront() *aFront {
	return &aFront{
		state: FrontState{Name: "pike", Status: "active", Behind: []string{"sulu", "chekov"}, Well: map[string]bool{"sulu": true, "chekov": true}},
		sum:   nginx.Traffic{Requests: 1000}, known: true,
	}
}

func TestEveryProxyMustBeBehindTheBalancerAndPassItsChecks(t *testing.T) {
	for name, test := range map[string]struct {
		spoil         func(*aFront)
		refused, said string
	}{
		"all is well": {func(*aFront) {}, "", ""},
		"a proxy is not behind it": {
			func(f *aFront) { f.state.Behind = []string{"sulu"} },
			"chekov is not behind the balancer pike: add its droplet there, or take the role proxy from it", "",
		},
		"a proxy is ill": {
			func(f *aFront) { f.state.Well["sulu"] = false },
			"sulu fails the checks of the balancer pike, so all users rest on the others: on sulu, nginx -t", "",
		},
		"a machine that refit does not know": {
			func(f *aFront) { f.state.Strangers = []string{"riker"} },
			"riker is behind the balancer pike and no proxy of refit.yml", "",
		},
		"a web node behind it": {
			func(f *aFront) { f.state.Behind = append(f.state.Behind, "kirk") },
			"kirk is behind the balancer pike and has not the role proxy", "",
		},
		"the balancer is broken": {
			func(f *aFront) { f.state.Status = "errored" }, `the balancer pike is "errored" and not active`, "",
		},
		"it cannot be asked": {
			func(f *aFront) { f.err = errDown }, "the balancer cannot be asked which proxies serve: the link is gone; `refit doctor`", "",
		},
		"the checks of one are not known": {
			func(f *aFront) { delete(f.state.Well, "sulu") }, "", "sulu: what the checks of the balancer pike say of it is not known",
		},
		"no checks are known": {
			func(f *aFront) { f.state.Well, f.state.Unknown = nil, "its metrics are empty" },
			"", "what the checks of the balancer pike say of the proxies is not known: its metrics are empty",
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := goodLook(t)
			f := goodFront()
			test.spoil(f)
			l.d.Front = f
			l.v.Front, l.v.FrontErr = f.state, f.err
			refused, said := rules(l.d, l.f, l.v)
			for _, side := range []struct {
				what, want string
				got        []string
			}{{"refused", test.refused, refused}, {"said", test.said, said}} {
				if (side.want == "") != (len(side.got) == 0) || len(side.got) > 1 || !strings.Contains(strings.Join(side.got, ""), side.want) {
					t.Errorf("%s %q, want %q", side.what, side.got, side.want)
				}
			}
			if doctor, _ := l.d.Fleetwide(l.v); !slices.Equal(doctor, refused) {
				t.Errorf("doctor refuses %q, a plan %q", doctor, refused)
			}
		})
	}
}

func TestPreflightAsksTheBalancerAgain(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		f := goodFront()
		w.d.Front = f
		if err := (preflight{w.d, w.f}).Run(t.Context(), w.say); err != nil {
			t.Fatal(err)
		}
		f.state.Well["chekov"] = false
		err := (preflight{w.d, w.f}).Run(t.Context(), w.say)
		failsWith(t, err, "chekov fails the checks of the balancer pike")
		if !errors.Is(err, pipeline.ErrRefused) {
			t.Errorf("not refused: %v", err)
		}
	})
}

func TestAWebRollFailsOnWhatTheBalancerAnsweredSinceItBegan(t *testing.T) {
	for name, test := range map[string]struct {
		sum   nginx.Traffic
		usual float64
		known bool
		fails bool
	}{
		"no errors":                         {nginx.Traffic{Requests: 1000}, 0, true, false},
		"a share within the limit":          {nginx.Traffic{Requests: 1000, Errors: 10}, 0, true, false},
		"more than the limit":               {nginx.Traffic{Requests: 1000, Errors: 11}, 0, true, true},
		"no more than is usual here":        {nginx.Traffic{Requests: 1000, Errors: 50}, 0.05, true, false},
		"too few requests to say anything":  {nginx.Traffic{Requests: leastRequests - 1, Errors: 19}, 0, true, false},
		"enough requests":                   {nginx.Traffic{Requests: leastRequests, Errors: 19}, 0, true, true},
		"metrics that have nothing of them": {nginx.Traffic{Requests: 1000, Errors: 900}, 0, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.d.Holds.Web, w.f.Baseline.Errors = 40*time.Second, test.usual
				f := goodFront()
				f.sum, f.known = test.sum, test.known
				w.d.Front = f
				began := time.Now()
				err := rollWeb{w.d, w.f, w.node("kirk")}.Run(t.Context(), w.say)
				if (err != nil) != test.fails {
					t.Errorf("%v", err)
				}
				if err != nil {
					failsWith(t, err, "the balancer answered ", "requests with a 5xx since ")
				}
				if !f.from.Equal(began) {
					t.Errorf("asked from %s on, and the roll began at %s", f.from, began)
				}
			})
		})
	}
}

func TestTheBalancerIsAskedSeldom(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		f := goodFront()
		w.d.Front = f
		if err := w.d.watch(t.Context(), w.f, "the site is well", time.Minute, nil, w.say); err != nil {
			t.Fatal(err)
		}
		if n := len(f.asked); n < 4 || n > 5 {
			t.Errorf("asked %d times in a minute", n)
		}
	})
}

func TestABalancerThatFindsAProxyIllTwiceFailsTheWatch(t *testing.T) {
	for name, test := range map[string]struct {
		lasts time.Duration
		fails bool
	}{"once is of the moment": {10 * time.Second, false}, "twice is not": {40 * time.Second, true}} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				f := goodFront()
				w.d.Front = f
				finds := func(well map[string]bool) func() {
					return func() {
						f.mu.Lock()
						defer f.mu.Unlock()
						f.state.Well = well
					}
				}
				time.AfterFunc(25*time.Second, finds(map[string]bool{"sulu": false, "chekov": true}))
				time.AfterFunc(25*time.Second+test.lasts, finds(goodFront().state.Well))
				err := w.d.watch(t.Context(), w.f, "the site is well", 2*time.Minute, nil, w.say)
				if (err != nil) != test.fails {
					t.Errorf("%v", err)
				}
				if err != nil {
					failsWith(t, err, "the checks of the balancer pike fail on sulu")
				}
			})
		})
	}
}

func TestASampleOfTheBalancersIsCountedOnceHoweverOftenItIsLookedAt(t *testing.T) {
	bad := func(f *aFront) {
		f.state.Well = map[string]bool{"sulu": false, "chekov": true}
		f.sum = nginx.Traffic{Requests: 1000, Errors: 900}
	}
	good := func(f *aFront) { f.state.Well, f.sum = goodFront().state.Well, goodFront().sum }
	for name, test := range map[string]struct {
		course []func(*aFront) // one for each sample
		fails  bool
	}{
		"one bad sample":                 {[]func(*aFront){good, bad, good, good}, false},
		"two, with a good one between":   {[]func(*aFront){good, bad, good, bad, good}, false},
		"two in a row":                   {[]func(*aFront){good, bad, bad, bad}, true},
		"one from before the deed began": {[]func(*aFront){bad, bad, good, good}, false},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				f := goodFront()
				f.every = 2 * time.Minute
				w.d.Front = f
				// The deed begins a moment after the first sample.
				time.Sleep(time.Until(time.Now().Truncate(f.every).Add(f.every + time.Second)))
				for i, set := range test.course {
					time.AfterFunc(time.Duration(i)*f.every-time.Second, func() {
						f.mu.Lock()
						defer f.mu.Unlock()
						set(f)
					})
				}
				err := w.d.watch(t.Context(), w.f, "the site is well", time.Duration(len(test.course))*f.every-10*time.Second, nil, w.say)
				if (err != nil) != test.fails {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

func TestABalancerThatCannotBeAskedStandsAgainstNothingAndIsSaidOnce(t *testing.T) {
	for name, f := range map[string]*aFront{
		"an error": {err: errDown},
		"a hang":   {hangs: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.d.Front = f
				if err := w.d.watch(t.Context(), w.f, "the site is well", 5*time.Minute, nil, w.say); err != nil {
					t.Fatal(err)
				}
				for _, words := range []string{"the balancer cannot be asked for the proxies' health", "the balancer's metrics cannot be read"} {
					if n := w.times(words); n != 1 {
						t.Errorf("%q was said %d times: %q", words, n, w.said)
					}
				}
				if n := len(f.asked); n > 6 {
					t.Errorf("asked %d times in five minutes, though it does not answer", n)
				}
			})
		})
	}
}

func TestMetricsThatNeverComeAreSaidOnceAndNotBeforeTheyMayBeLate(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		f := goodFront()
		f.known = false
		w.d.Front = f
		const words = "the balancer's metrics have nothing of the last"
		for hold, want := range map[time.Duration]int{2 * time.Minute: 0, 8 * time.Minute: 1} {
			w.said = nil
			if err := w.d.watch(t.Context(), w.f, "the site is well", hold, nil, w.say); err != nil {
				t.Fatal(err)
			}
			if n := w.times(words); n != want {
				t.Errorf("in %s it was said %d times", hold, n)
			}
		}
	})
}

func TestAWatchThatIsGivenUpBlamesNotTheBalancer(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.d.Front = &aFront{hangs: time.Hour}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := w.d.newFrontWatch(Baseline{}, time.Now(), w.say).look(ctx); err != nil || len(w.said) > 0 {
			t.Errorf("%v, said %q", err, w.said)
		}
	})
}

// times is how often something was said.
func (w *world) times(words string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, line := range w.said {
		if strings.Contains(line, words) {
			n++
		}
	}
	return n
}
