package github_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/github"
	"vmst.io/refit/hosts/github/githubtest"
)

func TestTheFirstPollSeesAllThatGitHubSays(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		commit := time.Date(1999, 12, 30, 8, 0, 0, 0, time.UTC)
		s.SetTag(upstream, githubtest.Tag{Name: "v4.6.5", Date: commit})
		id := s.Publish(upstream, githubtest.Release{Tag: "v4.6.5", Name: "Four six five", Body: "## Upgrade notes\r\n\n- “run” this", Prerelease: true})
		list := s.poll(s.client(github.Options{Token: token}), github.Known{})
		want := github.Release{
			ID: id, Tag: "v4.6.5", Name: "Four six five", Body: "## Upgrade notes\r\n\n- “run” this",
			URL: "https://github.com/mastodon/mastodon/releases/tag/v4.6.5", Prerelease: true, Created: commit, Published: time.Now().UTC(),
		}
		if len(list.Releases) != 1 || !list.Releases[0].Equal(want) {
			s.Errorf("got  %+v\nwant %+v", list.Releases, want)
		}
		if !list.Changed || !list.Renewed {
			s.Error("the first poll is not called a change")
		}
	})
}

func TestARepositoryWithoutReleasesIsNoFailure(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		c := s.client(github.Options{Token: token})
		first := s.poll(c, github.Known{})
		again := s.poll(c, first.Known)
		if len(first.Releases) != 0 || !first.Changed || again.Changed || again.Renewed {
			s.Errorf("first %+v, then %+v", first, again)
		}
	})
}

func TestAnIdlePollWithATokenCostsNothing(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.fill(230)
		c := s.client(github.Options{Token: token})
		list := s.poll(c, github.Known{})
		before := s.Count(token)
		again := s.poll(c, list.Known)
		if again.Changed || again.Renewed || len(again.Releases) != 230 {
			s.Errorf("changed %v, renewed %v, %d releases", again.Changed, again.Renewed, len(again.Releases))
		}
		after := s.Count(token)
		if after.Spent != before.Spent || after.NotModified != before.NotModified+3 || after.Requests != before.Requests+3 {
			s.Errorf("before %+v, after %+v", before, after)
		}
	})
}

func TestAnIdlePollWithoutATokenIsPaidFor(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.fill(3)
		c := s.client(github.Options{})
		list := s.poll(c, github.Known{})
		s.poll(c, list.Known)
		if n := s.Count(""); n.Spent != 2 || n.NotModified != 1 {
			s.Errorf("%+v", n)
		}
	})
}

func TestPatchesOnThreeLinesInOneDayAreAllSeen(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.fill(3)
		c := s.client(github.Options{Token: token})
		known := s.poll(c, github.Known{}).Known
		// The branches' commits are older than the newest release: GitHub lists
		// these further down, and "latest" names none of them.
		for i, tag := range []string{"v4.4.19", "v4.5.13", "v4.6.5"} {
			s.Publish(upstream, githubtest.Release{Tag: tag, Created: time.Now().Add(time.Duration(-30-i) * time.Hour)})
			time.Sleep(20 * time.Minute)
		}
		list := s.poll(c, known)
		s.wantTags(list, "v1.0.1", "v1.0.2", "v1.0.3", "v4.4.19", "v4.5.13", "v4.6.5")
		if !list.Changed {
			s.Error("three new releases are no change")
		}
	})
}

func TestASecurityReleaseComesWithItsNotesAndItsHour(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		c := s.client(github.Options{Token: token})
		known := s.poll(c, github.Known{}).Known
		time.Sleep(90 * time.Minute)
		at := time.Now()
		body := "### Security\n\n- Fix request forgery ([GHSA-aaaa-bbbb-cccc](https://github.com/advisories/GHSA-aaaa-bbbb-cccc))"
		s.Publish(upstream, githubtest.Release{Tag: "v4.6.6", Body: body, Created: at.Add(-72 * time.Hour)})
		time.Sleep(5 * time.Minute)
		r := s.poll(c, known).Releases[0]
		if r.Body != body || !r.Published.Equal(at) {
			s.Errorf("got %+v", r)
		}
	})
}

func TestAnEditedReleaseIsAChange(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		ids := s.fill(150)
		c := s.client(github.Options{Token: token})
		known := s.poll(c, github.Known{}).Known
		before := s.Count(token).Spent
		s.Edit(upstream, ids[10], func(r *githubtest.Release) { r.Body = "notes, with a warning" }) // on the second page
		list := s.poll(c, known)
		if !list.Changed || !list.Renewed || len(list.Releases) != 150 {
			s.Errorf("changed %v, renewed %v, %d releases", list.Changed, list.Renewed, len(list.Releases))
		}
		if spent := s.Count(token).Spent - before; spent != 1 {
			s.Errorf("it cost %d requests: the first page had not changed", spent)
		}
	})
}

func TestADeletedReleaseIsGone(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		ids := s.fill(3)
		c := s.client(github.Options{Token: token})
		known := s.poll(c, github.Known{}).Known
		s.Delete(upstream, ids[2])
		list := s.poll(c, known)
		s.wantTags(list, "v1.0.1", "v1.0.2")
		if !list.Changed {
			s.Error("a release that is gone is no change")
		}
	})
}

func TestADraftIsSeenByThosePublishingAloneAndDatedWhenPublished(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.fill(1)
		id := s.Publish(upstream, githubtest.Release{Tag: "v4.7.0", Draft: true})
		public, insider := s.client(github.Options{Token: token}), s.client(github.Options{Token: pusher})
		known := s.poll(public, github.Known{})
		s.wantTags(known, "v1.0.1")
		for _, r := range s.poll(insider, github.Known{}).Releases {
			if r.Draft != (r.Tag == "v4.7.0") || r.Published.IsZero() != r.Draft {
				s.Errorf("got %+v", r)
			}
		}
		time.Sleep(time.Hour)
		s.Edit(upstream, id, func(r *githubtest.Release) { r.Draft = false })
		list := s.poll(public, known.Known)
		s.wantTags(list, "v1.0.1", "v4.7.0")
		for _, r := range list.Releases {
			if r.Tag == "v4.7.0" && !r.Published.Equal(time.Now()) {
				s.Errorf("published at %s, not at %s", r.Published, time.Now())
			}
		}
	})
}

func TestReactionsAreRenewedAndAreNoChange(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		ids := s.fill(120)
		c := s.client(github.Options{Token: token})
		known := s.poll(c, github.Known{}).Known
		before := s.Count(token).Spent
		s.Edit(upstream, ids[100], func(r *githubtest.Release) { r.Hearts++ })
		list := s.poll(c, known)
		if list.Changed || !list.Renewed {
			s.Errorf("changed %v, renewed %v", list.Changed, list.Renewed)
		}
		s.poll(c, list.Known)
		if spent := s.Count(token).Spent - before; spent != 1 {
			s.Errorf("one heart cost %d requests", spent)
		}
	})
}

func TestWhatIsKnownSurvivesARestart(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.fill(130)
		s.Publish(upstream, githubtest.Release{Tag: "v9.0.0", Draft: true})
		first := s.poll(s.client(github.Options{Token: pusher}), github.Known{})
		kept, err := json.Marshal(first.Known)
		if err != nil {
			s.Fatal(err)
		}
		var known github.Known
		if err := json.Unmarshal(kept, &known); err != nil {
			s.Fatal(err)
		}
		before := s.Count(pusher).Spent
		list := s.poll(s.client(github.Options{Token: pusher}), known)
		if list.Changed || list.Renewed || len(list.Releases) != 131 || s.Count(pusher).Spent != before {
			s.Errorf("changed %v, renewed %v, %d releases, %+v", list.Changed, list.Renewed, len(list.Releases), s.Count(pusher))
		}
	})
}

func TestAnotherTokenPaysOnceAndSeesNoChange(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.fill(3)
		known := s.poll(s.client(github.Options{Token: token}), github.Known{}).Known
		c := s.client(github.Options{Token: pusher})
		list := s.poll(c, known)
		s.poll(c, list.Known)
		if n := s.Count(pusher); list.Changed || !list.Renewed || n.Spent != 1 || n.NotModified != 1 {
			s.Errorf("changed %v, renewed %v, %+v", list.Changed, list.Renewed, n)
		}
	})
}

func TestWhatIsKnownOfAnotherRepositoryIsNotUsed(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.fill(2)
		s.AddRepo("elk-zone/elk")
		s.Publish("elk-zone/elk", githubtest.Release{Tag: "v0.15.0"})
		c := s.client(github.Options{Token: token})
		elk, err := c.Releases(s.Context(), github.Repo{Owner: "elk-zone", Name: "elk"}, s.poll(c, github.Known{}).Known)
		if err != nil {
			s.Fatal(err)
		}
		s.wantTags(elk, "v0.15.0")
		if n := s.Count(token); n.NotModified != 0 || !elk.Changed || elk.Known.Repo != "elk-zone/elk" {
			s.Errorf("%+v, changed %v, known of %s", n, elk.Changed, elk.Known.Repo)
		}
	})
}

// Two empty lists are alike to the byte, and so are their ETags.
func TestAnEmptyListOfAnotherRepositoryIsNotTakenForThisOnes(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.AddRepo("elk-zone/elk")
		c := s.client(github.Options{Token: token})
		elk, err := c.Releases(s.Context(), github.Repo{Owner: "elk-zone", Name: "elk"}, s.poll(c, github.Known{}).Known)
		if err != nil {
			s.Fatal(err)
		}
		if n := s.Count(token); !elk.Changed || n.NotModified != 0 {
			s.Errorf("changed %v, %+v", elk.Changed, n)
		}
	})
}

func TestAProxyThatTakesETagsAwayCostsRequestsAndNothingElse(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.fill(120)
		tr := s.wire.Transport()
		defer tr.CloseIdleConnections()
		c := s.client(github.Options{Token: token, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			resp, err := tr.RoundTrip(r)
			if err == nil {
				resp.Header.Del("ETag")
			}
			return resp, err
		})})
		list := s.poll(c, s.poll(c, github.Known{}).Known)
		if list.Changed || len(list.Releases) != 120 {
			s.Errorf("changed %v, %d releases", list.Changed, len(list.Releases))
		}
	})
}

func TestOneReleaseIsFoundByItsTag(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.Publish(upstream, githubtest.Release{Tag: "v4.6.5", Body: "notes"})
		s.Publish(upstream, githubtest.Release{Tag: "nightly/2000 #1", Body: "odd"})
		s.Publish(upstream, githubtest.Release{Tag: "v4.7.0", Draft: true})
		c := s.client(github.Options{})
		for tag, body := range map[string]string{"v4.6.5": "notes", "nightly/2000 #1": "odd"} {
			r, err := c.Release(s.Context(), mastodon, tag)
			if err != nil || r.Body != body || r.Tag != tag {
				s.Errorf("%s: %+v, %v", tag, r, err)
			}
		}
		for _, tag := range []string{"v4.6.6", "v4.7.0"} {
			_, err := c.Release(s.Context(), mastodon, tag)
			if e := s.failure(err, github.ErrNotFound); !strings.Contains(e.Error(), tag) {
				s.Error(e)
			}
		}
	})
}
