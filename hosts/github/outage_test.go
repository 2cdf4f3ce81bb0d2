package github_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/github"
	"vmst.io/refit/hosts/github/githubtest"
)

func jsonHeader() http.Header {
	return http.Header{"Content-Type": {"application/json; charset=utf-8"}}
}

// passing are troubles that end by themselves after the times given.
func passing(times int) map[string]githubtest.Trouble {
	return map[string]githubtest.Trouble{
		"500":                       githubtest.Outage(500, times),
		"502":                       githubtest.Outage(502, times),
		"503":                       githubtest.Outage(503, times),
		"504":                       githubtest.Outage(504, times),
		"503 with Retry-After":      {Times: times, Status: 503, Header: http.Header{"Retry-After": {"7"}}},
		"a dropped connection":      {Times: times, Cut: githubtest.CutBefore},
		"half an answer":            {Times: times, Cut: githubtest.CutWithin},
		"an answer that never ends": {Times: times, Stall: time.Hour},
		"an answer that never came": {Times: times, Wait: time.Hour},
	}
}

func TestATroubleThatPassesIsNotSeenFromOutside(t *testing.T) {
	for name, trouble := range passing(2) {
		t.Run(name, func(t *testing.T) {
			play(t, githubtest.Options{}, func(s story) {
				s.fill(120)
				c := s.client(github.Options{Token: token, Answer: 10 * time.Second})
				trouble.Match = "page=2"
				s.Trouble(trouble)
				list := s.poll(c, github.Known{})
				if len(list.Releases) != 120 || !list.Changed {
					s.Errorf("%d releases, changed %v", len(list.Releases), list.Changed)
				}
			})
		})
	}
}

// Half of a limit's words are no limit's, and would be a token that is refused.
func TestARefusalThatIsCutIsAskedAgain(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.fill(1)
		s.Trouble(githubtest.Trouble{Status: 403, Header: jsonHeader(), Body: `{"message":"` + githubtest.SecondaryMessage + `"}`, Cut: githubtest.CutWithin})
		s.wantTags(s.poll(s.client(github.Options{Token: token}), github.Known{}), "v1.0.1")
	})
}

func TestATroubleThatLastsIsAFailureAndNeverNothingNew(t *testing.T) {
	for name, trouble := range passing(-1) {
		t.Run(name, func(t *testing.T) {
			play(t, githubtest.Options{}, func(s story) {
				s.fill(120)
				c := s.client(github.Options{Token: token, Answer: 10 * time.Second, Patience: time.Minute})
				known := s.poll(c, github.Known{}).Known
				s.Publish(upstream, githubtest.Release{Tag: "v9.0.0"})
				s.Trouble(trouble)
				began := time.Now()
				_, err := c.Releases(s.Context(), mastodon, known)
				e := s.failure(err, github.ErrUnreachable)
				if took := time.Since(began); took > 70*time.Second || !strings.Contains(e.Error(), "attempts in") {
					s.Errorf("after %s: %v", took, e)
				}
				s.Calm()
				time.Sleep(time.Minute)
				if list := s.poll(c, known); !list.Changed || len(list.Releases) != 121 {
					s.Error("what was published meanwhile is lost")
				}
			})
		})
	}
}

func TestPausesBetweenAttemptsGrow(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		var at []time.Time
		tr := s.wire.Transport()
		defer tr.CloseIdleConnections()
		c := s.client(github.Options{Patience: 5 * time.Minute, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			at = append(at, time.Now())
			return tr.RoundTrip(r)
		})})
		s.Trouble(githubtest.Outage(502, -1))
		_, err := c.Releases(s.Context(), mastodon, github.Known{})
		s.failure(err, github.ErrUnreachable)
		if len(at) < 8 || len(at) > 30 {
			s.Fatalf("%d attempts in five minutes", len(at))
		}
		for i := 1; i < len(at); i++ {
			if pause := at[i].Sub(at[i-1]); pause < 500*time.Millisecond || pause > 45*time.Second {
				s.Errorf("pause %d is %s", i, pause)
			}
		}
		if first, last := at[1].Sub(at[0]), at[len(at)-1].Sub(at[len(at)-2]); last < 4*first {
			s.Errorf("the first pause is %s, the last %s", first, last)
		}
	})
}

func TestGitHubThatAsksToBeLeftAloneIsLeftAlone(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.Trouble(githubtest.Trouble{Times: -1, Status: 503, Header: http.Header{"Retry-After": {"600"}}})
		c := s.client(github.Options{Token: token})
		for range 3 {
			_, err := c.Releases(s.Context(), mastodon, github.Known{})
			if e := s.failure(err, github.ErrUnreachable); e.Until.IsZero() || !strings.Contains(e.Error(), "nothing is sent before 2000-01-01 00:10:00 UTC") {
				s.Error(e)
			}
		}
		if n := s.Count(token); n.Requests != 1 {
			s.Errorf("%+v", n)
		}
	})
}

func TestAllPagesOfACallShareOnePatience(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.fill(120)
		busy := http.Header{"Retry-After": {"40"}}
		s.Trouble(githubtest.Trouble{Match: "page=2", Status: 503, Header: busy}, githubtest.Trouble{Status: 503, Header: busy})
		began := time.Now()
		_, err := s.client(github.Options{Token: token, Patience: time.Minute}).Releases(s.Context(), mastodon, github.Known{})
		s.failure(err, github.ErrUnreachable)
		if took := time.Since(began); took < 40*time.Second || took > time.Minute {
			s.Errorf("it took %s", took)
		}
	})
}

func TestAGitHubThatIsNotThereIsSaid(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		gone := githubtest.NewWire()
		if err := gone.Close(); err != nil {
			s.Fatal(err)
		}
		_, err := s.client(github.Options{Transport: gone.Transport()}).Releases(s.Context(), mastodon, github.Known{})
		e := s.failure(err, github.ErrUnreachable)
		var op *net.OpError
		if !errors.As(e, &op) || !strings.Contains(e.Error(), "connection refused") {
			s.Error(e)
		}
	})
}

func TestACertificateThatIsNotGitHubsIsSaidAtOnce(t *testing.T) {
	server := httptest.NewUnstartedServer(githubtest.New(githubtest.Options{Fail: t.Error}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it notes the handshake that the client breaks off
	server.StartTLS()
	defer server.Close()
	c, err := github.New(github.Options{Token: token, BaseURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, err = c.Releases(t.Context(), mastodon, github.Known{})
	if !errors.Is(err, github.ErrUnreachable) || !strings.Contains(err.Error(), "certificates are wrong") || time.Since(began) > time.Minute {
		t.Errorf("got %v", err)
	}
}

func TestAnEndedContextEndsTheQuestionAtOnce(t *testing.T) {
	why := errors.New("the watcher is told to stop")
	for name, trouble := range map[string]githubtest.Trouble{
		"while an answer is awaited": {Times: -1, Wait: time.Hour},
		"while a body is read":       {Times: -1, Stall: time.Hour},
		"between attempts":           githubtest.Outage(502, -1),
	} {
		t.Run(name, func(t *testing.T) {
			play(t, githubtest.Options{}, func(s story) {
				s.Trouble(trouble)
				ctx, cancel := context.WithCancelCause(s.Context())
				time.AfterFunc(20*time.Second, func() { cancel(why) })
				began := time.Now()
				_, err := s.client(github.Options{Token: token, Answer: 10 * time.Minute, Patience: time.Hour}).Releases(ctx, mastodon, github.Known{})
				if !errors.Is(err, why) || errors.Is(err, github.ErrUnreachable) || !strings.Contains(err.Error(), "the releases of mastodon/mastodon") {
					s.Errorf("got %v", err)
				}
				if took := time.Since(began); took > 21*time.Second {
					s.Errorf("it took %s", took)
				}
			})
		})
	}
}

func TestAContextThatEndsWhileALimitIsWaitedForEndsTheWait(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.Limit(githubtest.Secondary{Status: 429, For: time.Minute, Named: true})
		ctx, cancel := context.WithTimeout(s.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		_, err := s.client(github.Options{Token: token}).Releases(ctx, mastodon, github.Known{})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 5*time.Second {
			s.Errorf("after %s: %v", time.Since(began), err)
		}
	})
}

func TestAnEndlessAnswerIsCutOff(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		c := s.client(github.Options{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: jsonHeader(), Request: r, Body: io.NopCloser(endless{})}, nil
		})})
		_, err := c.Releases(s.Context(), mastodon, github.Known{})
		if e := s.failure(err, github.ErrAnswer); !strings.Contains(e.Error(), "larger than 64 MiB") {
			s.Error(e)
		}
	})
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }
