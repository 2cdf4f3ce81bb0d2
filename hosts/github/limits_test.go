package github_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"vmst.io/refit/hosts/github"
	"vmst.io/refit/hosts/github/githubtest"
)

// The simulation itself fails a test in which one more request is sent while a
// limit lasts.

func TestAUsedUpLimitIsAFailureThatSaysUntilWhen(t *testing.T) {
	for name, at := range map[string]int{"403": http.StatusForbidden, "429": http.StatusTooManyRequests} {
		t.Run(name, func(t *testing.T) {
			play(t, githubtest.Options{LimitStatus: at}, func(s story) {
				s.fill(2)
				c := s.client(github.Options{Token: token})
				known := s.poll(c, github.Known{}).Known
				s.Exhaust(token)
				reset := time.Now().Add(time.Hour)
				for range 3 { // the second and third send nothing
					_, err := c.Releases(s.Context(), mastodon, known)
					if e := s.failure(err, github.ErrLimited); !e.Until.Equal(reset) || !strings.Contains(e.Error(), "nothing is sent before 2000-01-01 01:00:00 UTC") {
						s.Errorf("until %s, not %s: %v", e.Until, reset, e)
					}
					time.Sleep(10 * time.Minute)
				}
				time.Sleep(time.Until(reset))
				if list := s.poll(c, known); list.Changed {
					s.Error("nothing had changed")
				}
				if n := s.Count(token); n.Refused != 1 {
					s.Errorf("%+v", n)
				}
			})
		})
	}
}

func TestWithoutATokenTheLimitsErrorSaysWhatATokenGives(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.Exhaust("")
		_, err := s.client(github.Options{}).Releases(s.Context(), mastodon, github.Known{})
		if e := s.failure(err, github.ErrLimited); !strings.Contains(e.Error(), "from 60 to 5000 requests an hour") {
			s.Error(e)
		}
	})
}

func TestALimitThatEndsWithinPatienceIsWaitedFor(t *testing.T) {
	for name, at := range map[string]int{"403": http.StatusForbidden, "429": http.StatusTooManyRequests} {
		t.Run(name, func(t *testing.T) {
			play(t, githubtest.Options{LimitStatus: at}, func(s story) {
				s.fill(1)
				c := s.client(github.Options{Token: token, Patience: 2 * time.Minute})
				s.poll(c, github.Known{}) // begins the hour
				time.Sleep(59 * time.Minute)
				s.Exhaust(token)
				began := time.Now()
				s.wantTags(s.poll(c, github.Known{}), "v1.0.1")
				if waited := time.Since(began); waited < time.Minute || waited > 62*time.Second {
					s.Errorf("waited %s", waited)
				}
			})
		})
	}
}

func TestSecondaryLimitsAreWaitedForAsLongAsGitHubSays(t *testing.T) {
	for name, l := range map[string]githubtest.Secondary{
		"403 with Retry-After":    {Status: 403, For: 42 * time.Second, Named: true, Message: githubtest.SecondaryMessage},
		"429 with Retry-After":    {Status: 429, For: 42 * time.Second, Named: true, Message: githubtest.SecondaryMessage},
		"429 and not a word":      {Status: 429, For: time.Minute},
		"403 without Retry-After": {Status: 403, For: time.Minute, Message: githubtest.SecondaryMessage},
		"429 without Retry-After": {Status: 429, For: time.Minute, Message: githubtest.SecondaryMessage},
		"an old abuse limit":      {Status: 403, For: time.Minute, Message: githubtest.AbuseMessage},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, githubtest.Options{}, func(s story) {
				s.fill(1)
				s.Limit(l)
				began := time.Now()
				s.wantTags(s.poll(s.client(github.Options{Token: token}), github.Known{}), "v1.0.1")
				if waited := time.Since(began); waited < l.For || waited > l.For+2*time.Second {
					s.Errorf("waited %s for a limit of %s", waited, l.For)
				}
			})
		})
	}
}

func TestALongSecondaryLimitIsAnErrorAtOnce(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.Limit(githubtest.Secondary{Status: 429, For: 20 * time.Minute, Named: true, Message: githubtest.SecondaryMessage})
		c := s.client(github.Options{Token: token})
		began := time.Now()
		_, err := c.Releases(s.Context(), mastodon, github.Known{})
		if e := s.failure(err, github.ErrLimited); !e.Until.Equal(began.Add(20*time.Minute)) || time.Since(began) != 0 {
			s.Errorf("until %s, after %s: %v", e.Until, time.Since(began), e)
		}
		_, err = c.Tag(s.Context(), mastodon, "v1.0.1", github.Identity{}) // another question: the same limit
		if e := s.failure(err, github.ErrLimited); !strings.Contains(e.Error(), "the tag v1.0.1 of mastodon/mastodon") {
			s.Error(e)
		}
	})
}

func TestALimitWithoutATimeIsLeftAloneTwiceAsLongEachTime(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		c := s.client(github.Options{Token: token, Patience: time.Second})
		for _, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute} {
			s.Limit(githubtest.Secondary{Status: 403, For: time.Minute, Message: githubtest.SecondaryMessage})
			_, err := c.Releases(s.Context(), mastodon, github.Known{})
			e := s.failure(err, github.ErrLimited)
			if left := time.Until(e.Until); left != want {
				s.Errorf("left alone for %s, not %s", left, want)
			}
			time.Sleep(want)
		}
		s.Calm()
		s.poll(c, github.Known{})
		s.Limit(githubtest.Secondary{Status: 403, For: time.Minute, Message: githubtest.SecondaryMessage})
		_, err := c.Releases(s.Context(), mastodon, github.Known{})
		if left := time.Until(s.failure(err, github.ErrLimited).Until); left != time.Minute {
			s.Errorf("after an answer, left alone for %s", left)
		}
	})
}

func TestTheResetIsReadByGitHubsClockAndNotByThisMachines(t *testing.T) {
	for name, skew := range map[string]time.Duration{"ahead": 3 * time.Hour, "behind": -3 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			theirs := func() time.Time { return time.Now().Add(skew) }
			play(t, githubtest.Options{Now: theirs}, func(s story) {
				s.Exhaust(token)
				c := s.client(github.Options{Token: token})
				_, err := c.Releases(s.Context(), mastodon, github.Known{})
				if left := time.Until(s.failure(err, github.ErrLimited).Until); left != time.Hour {
					s.Errorf("%s left, not an hour", left)
				}
			})
		})
	}
}

func TestAnAbsurdTimeDoesNotSilenceTheWatcherForGood(t *testing.T) {
	for name, header := range map[string]http.Header{
		"Retry-After":       {"Retry-After": {"4000000000"}},
		"a date":            {"Retry-After": {"Fri, 31 Dec 2199 23:59:59 GMT"}},
		"X-RateLimit-Reset": {"X-Ratelimit-Remaining": {"0"}, "X-Ratelimit-Reset": {"9223372036854775807"}},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, githubtest.Options{}, func(s story) {
				s.Trouble(githubtest.Trouble{Status: 429, Header: header})
				_, err := s.client(github.Options{Token: token}).Releases(s.Context(), mastodon, github.Known{})
				if left := time.Until(s.failure(err, github.ErrLimited).Until); left != 24*time.Hour {
					s.Errorf("left alone for %s", left)
				}
			})
		})
	}
}

func TestAHeaderThatMakesNoSenseIsAMinute(t *testing.T) {
	for name, header := range map[string]http.Header{
		"a negative number": {"Retry-After": {"-5"}},
		"a word":            {"Retry-After": {"soon"}},
		"a reset of nought": {"X-Ratelimit-Remaining": {"0"}, "X-Ratelimit-Reset": {"0"}},
		"no reset":          {"X-Ratelimit-Remaining": {"0"}},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, githubtest.Options{}, func(s story) {
				s.Trouble(githubtest.Trouble{Status: 429, Header: header})
				c := s.client(github.Options{Token: token, Patience: time.Second})
				_, err := c.Releases(s.Context(), mastodon, github.Known{})
				if left := time.Until(s.failure(err, github.ErrLimited).Until); left != time.Minute {
					s.Errorf("left alone for %s", left)
				}
			})
		})
	}
}

func TestALimitThatIsToldInWordsAloneIsOne(t *testing.T) {
	for _, says := range []string{githubtest.SecondaryMessage, githubtest.AbuseMessage, "API rate limit exceeded for installation ID 1."} {
		play(t, githubtest.Options{}, func(s story) {
			s.Trouble(githubtest.Trouble{Status: 403, Header: jsonHeader(), Body: `{"message":"` + says + `"}`})
			_, err := s.client(github.Options{Token: token, Patience: time.Second}).Releases(s.Context(), mastodon, github.Known{})
			s.failure(err, github.ErrLimited)
		})
	}
}

func TestAForbiddenAnswerThatIsNoLimitIsNoLimit(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.Trouble(githubtest.Trouble{Status: 403, Header: jsonHeader(), Body: `{"message":"Resource protected by organization SAML enforcement. You must grant your token access to this organization.","documentation_url":"https://docs.github.com/articles/x"}`})
		began := time.Now()
		_, err := s.client(github.Options{Token: token}).Releases(s.Context(), mastodon, github.Known{})
		if e := s.failure(err, github.ErrDenied); !strings.Contains(e.Error(), "SAML") || time.Since(began) != 0 {
			s.Error(e)
		}
	})
}

func TestALimitHoldsForAllWhoAskAtOnce(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.fill(3)
		c := s.client(github.Options{Token: token})
		s.poll(c, github.Known{})
		s.Exhaust(token)
		_, err := c.Releases(s.Context(), mastodon, github.Known{})
		s.failure(err, github.ErrLimited)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := c.Releases(s.Context(), mastodon, github.Known{}); err == nil {
					s.Error("answered in spite of the limit")
				}
			})
		}
		wg.Wait()
		if n := s.Count(token); n.Refused != 1 {
			s.Errorf("%+v", n)
		}
	})
}
