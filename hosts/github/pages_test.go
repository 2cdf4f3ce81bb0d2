package github_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/github"
	"vmst.io/refit/hosts/github/githubtest"
)

func TestEveryNumberOfReleasesIsListedWhole(t *testing.T) {
	for _, n := range []int{1, 99, 100, 101, 199, 200, 201, 350} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			play(t, githubtest.Options{}, func(s story) {
				s.fill(n)
				c := s.client(github.Options{Token: token})
				first := s.poll(c, github.Known{})
				again := s.poll(c, first.Known)
				if len(first.Releases) != n || len(again.Releases) != n || again.Changed || again.Renewed {
					s.Errorf("%d releases, then %d, changed %v, renewed %v", len(first.Releases), len(again.Releases), again.Changed, again.Renewed)
				}
			})
		})
	}
}

// A backport of an old branch is listed last. With exactly a hundred releases
// before it, the first page's body and ETag stay as they were, and its answer 304
// names no next page.
func TestAReleaseBehindAFullPageIsSeenThoughThatPageIsUnchanged(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.fill(100)
		c := s.client(github.Options{Token: token})
		known := s.poll(c, github.Known{}).Known
		s.Publish(upstream, githubtest.Release{Tag: "v0.9.9", Created: time.Now().Add(-1000 * 24 * time.Hour)})
		list := s.poll(c, known)
		if !slices.Contains(tags(list), "v0.9.9") || len(list.Releases) != 101 || !list.Changed {
			s.Errorf("%d releases, changed %v", len(list.Releases), list.Changed)
		}
		if n := s.Count(token); n.NotModified == 0 {
			s.Errorf("%+v: the first page was not asked for conditionally", n)
		}
	})
}

func TestTheHundredAndFirstReleaseMayGoAgain(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		ids := s.fill(101)
		c := s.client(github.Options{Token: token})
		list := s.poll(c, github.Known{})
		s.Delete(upstream, ids[0]) // the oldest, alone on the second page
		list = s.poll(c, list.Known)
		if len(list.Releases) != 100 || !list.Changed {
			s.Errorf("%d releases, changed %v", len(list.Releases), list.Changed)
		}
		s.Delete(upstream, ids[1])
		if list = s.poll(c, list.Known); len(list.Releases) != 99 || len(list.Known.Pages) != 1 {
			s.Errorf("%d releases on %d pages", len(list.Releases), len(list.Known.Pages))
		}
	})
}

// While page two is asked for, a release of page one is deleted: page two's first
// moves to page one, where nobody looks any more.
func TestAReleaseThatMovesToAPageAlreadyReadIsNotLost(t *testing.T) {
	for name, warm := range map[string]bool{"at the first poll": false, "at a later one": true} {
		t.Run(name, func(t *testing.T) {
			play(t, githubtest.Options{}, func(s story) {
				ids := s.fill(150)
				c := s.client(github.Options{Token: token})
				var known github.Known
				if warm {
					known = s.poll(c, known).Known
				}
				s.Then("per_page=100", func() { s.Delete(upstream, ids[149]) })
				list := s.poll(c, known)
				if !slices.Contains(tags(list), "v1.0.50") || len(list.Releases) != 149 {
					s.Errorf("%d releases; v1.0.50, which moved, is lost", len(list.Releases))
				}
			})
		})
	}
}

func TestAReleasePublishedWhileTheListIsReadIsSeenAndNoneIsSeenTwice(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.fill(150)
		c := s.client(github.Options{Token: token})
		s.Then("per_page=100", func() { s.Publish(upstream, githubtest.Release{Tag: "v2.0.0"}) })
		list := s.poll(c, github.Known{})
		got := tags(list)
		if len(got) != 151 || len(slices.Compact(got)) != 151 {
			s.Errorf("%d releases, %d of them different", len(list.Releases), len(slices.Compact(got)))
		}
	})
}

func TestAListThatNeverSettlesIsAFailureAndNoList(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.fill(150)
		for i := range 30 {
			s.Then("page=2", func() { s.Publish(upstream, githubtest.Release{Tag: fmt.Sprintf("v3.0.%d", i)}) })
		}
		c := s.client(github.Options{Token: token})
		_, err := c.Releases(s.Context(), mastodon, github.Known{})
		s.failure(err, github.ErrUnsettled)
	})
}

func TestReactionsThatComeWhileTheListIsReadDoNotUnsettleIt(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		ids := s.fill(150)
		for range 30 {
			s.Then("page=2", func() { s.Edit(upstream, ids[140], func(r *githubtest.Release) { r.Hearts++ }) })
		}
		if list := s.poll(s.client(github.Options{Token: token}), github.Known{}); len(list.Releases) != 150 {
			s.Errorf("%d releases", len(list.Releases))
		}
	})
}

func TestAListWithoutEndIsAFailure(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		page := githubtest.Trouble{Times: -1, Status: http.StatusOK, Body: "[]", Header: http.Header{
			"Content-Type": {"application/json"},
			"Link":         {`<http://127.0.0.1/repositories/1/releases?page=2>; rel="next"`},
		}}
		s.Trouble(page)
		c := s.client(github.Options{Token: token})
		_, err := c.Releases(s.Context(), mastodon, github.Known{})
		if e := s.failure(err, github.ErrAnswer); !strings.Contains(e.Error(), "no end") {
			s.Error(e)
		}
	})
}
