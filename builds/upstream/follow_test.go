package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/github"
	"vmst.io/refit/hosts/github/githubtest"
)

const (
	followed = "mastodon/mastodon"
	ghToken  = "ghp_refit0123456789"
)

// story is a simulated GitHub, reached over pipes in a bubble of testing/synctest, and
// the same repository by git.
type story struct {
	*testing.T
	*githubtest.Server
	api *github.Client
	// client is another one, as each process has.
	client func() *github.Client
	git    *gitWitness
	m      Memory // what the follower is made from
}

// gitWitness says what the simulated repository's tags stand for, unless a test lies.
type gitWitness struct {
	tags  map[string]git.Tag
	err   error
	asked int
}

func (g *gitWitness) Identify(_ context.Context, tag string) (git.Tag, error) {
	g.asked++
	t, ok := g.tags[tag]
	switch {
	case g.err != nil:
		return git.Tag{}, g.err
	case !ok:
		return git.Tag{}, &git.NoTagError{URL: "https://github.com/" + followed, Tag: tag}
	}
	return t, nil
}

func play(t *testing.T, tell func(s *story)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &story{T: t, Server: githubtest.New(githubtest.Options{Fail: t.Error, Tokens: map[string]githubtest.Token{ghToken: {Push: true}}}), git: &gitWitness{tags: map[string]git.Tag{}}}
		s.AddRepo(followed)
		wire := githubtest.NewWire()
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx, wire) }()
		defer func() {
			cancel()
			if err := <-served; err != nil {
				t.Error(err)
			}
		}()
		tr := wire.Transport()
		defer tr.CloseIdleConnections()
		s.client = func() *github.Client {
			c, err := github.New(github.Options{Token: ghToken, BaseURL: "http://127.0.0.1/", Transport: tr})
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		s.api = s.client()
		tell(s)
	})
}

// release publishes a release whose tag both witnesses know.
func (s *story) release(tag string, change ...func(*githubtest.Release)) int64 {
	s.tag(tag, tag)
	rel := githubtest.Release{Tag: tag}
	for _, f := range change {
		f(&rel)
	}
	return s.Publish(followed, rel)
}

// tag makes or moves an annotated tag, for both.
func (s *story) tag(name, content string) {
	object, commit, tree := githubtest.Hash("object "+content), githubtest.Hash("commit "+content), githubtest.Hash("tree "+content)
	s.SetTag(followed, githubtest.Tag{Name: name, Commit: commit, Tree: tree, Objects: []string{object}})
	s.git.tags[name] = git.Tag{Name: name, Object: object, Commit: commit, Tree: tree}
}

// follower is one that has read from a disk what the one before it remembered.
func (s *story) follower() *Follower {
	s.Helper()
	b, err := json.Marshal(s.m)
	var m Memory
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		s.Fatal(err)
	}
	return Follow(FollowOptions{Repo: github.Repo{Owner: "mastodon", Name: "mastodon"}, GitHub: s.api, Witness: s.git, Memory: m})
}

// look looks with a follower of its own, as after a restart, and keeps what it remembers.
func (s *story) look() Look {
	s.Helper()
	f := s.follower()
	l, err := f.Look(s.Context())
	if err != nil {
		s.Fatalf("the look failed: %v", err)
	}
	s.m, _ = f.Memory()
	return l
}

func (s *story) pin(tag string) (Pin, error) {
	f := s.follower()
	p, err := f.Pin(s.Context(), tag)
	s.m, _ = f.Memory()
	return p, err
}

// fresh are the tags of a look that are news.
func fresh(l Look) []string {
	var out []string
	for _, p := range l.Releases {
		if p.Fresh {
			out = append(out, p.Tag)
		}
	}
	return out
}

func v(t *testing.T, s string) builds.Version {
	t.Helper()
	version, err := builds.ParseVersion(s)
	if err != nil {
		t.Fatal(err)
	}
	return version
}

func TestWhatWasPublishedBeforeTheFirstLookIsNoNews(t *testing.T) {
	play(t, func(s *story) {
		s.release("v4.6.4")
		s.release("v4.5.14")
		if l := s.look(); len(l.Releases) != 2 || len(fresh(l)) != 0 {
			s.Errorf("first: %+v", l)
		}
		time.Sleep(time.Hour)
		s.release("v4.6.5")
		for range 3 { // and it stays news: whether it was told is another's business
			if l := s.look(); !slices.Equal(fresh(l), []string{"v4.6.5"}) || l.Releases[0].Tag != "v4.6.5" {
				s.Errorf("then: %v", fresh(l))
			}
		}
	})
}

func TestAnEmptyRepositoryIsLookedAtOnce(t *testing.T) {
	play(t, func(s *story) {
		s.look()
		s.release("v4.6.5")
		if l := s.look(); !slices.Equal(fresh(l), []string{"v4.6.5"}) {
			s.Errorf("news: %v", fresh(l))
		}
	})
}

func TestDraftsAreNoReleases(t *testing.T) {
	play(t, func(s *story) {
		s.look()
		id := s.Publish(followed, githubtest.Release{Tag: "v4.6.5", Draft: true})
		if l := s.look(); len(l.Releases) != 0 {
			s.Errorf("a draft: %+v", l)
		}
		s.Edit(followed, id, func(r *githubtest.Release) { r.Draft = false })
		if l := s.look(); !slices.Equal(fresh(l), []string{"v4.6.5"}) {
			s.Errorf("published: %v", fresh(l))
		}
	})
}

func TestADeletedReleaseIsGoneUntilItComesAgain(t *testing.T) {
	play(t, func(s *story) {
		s.look()
		id := s.release("v4.6.5")
		s.look()
		s.Delete(followed, id)
		for range 2 {
			if l := s.look(); !slices.Equal(l.Gone, []string{"v4.6.5"}) || len(l.Releases) != 0 {
				s.Errorf("after it was deleted: %+v", l)
			}
		}
		s.Publish(followed, githubtest.Release{Tag: "v4.6.5"})
		if l := s.look(); len(l.Gone) != 0 || !slices.Equal(fresh(l), []string{"v4.6.5"}) {
			s.Errorf("after it came again: %+v", l)
		}
	})
}

func TestAFailingGitHubSaysNothingOfWhatIsNewOrGone(t *testing.T) {
	play(t, func(s *story) {
		s.release("v4.6.4")
		s.look()
		was := s.m
		s.Trouble(githubtest.Outage(503, -1))
		f := s.follower()
		if l, err := f.Look(s.Context()); !errors.Is(err, github.ErrUnreachable) || len(l.Releases)+len(l.Gone) > 0 {
			s.Errorf("%+v, %v", l, err)
		}
		if m, changed := f.Memory(); changed || len(m.Seen) != len(was.Seen) {
			s.Errorf("it remembers %+v", m)
		}
		s.Calm()
		time.Sleep(time.Hour)
		s.release("v4.6.5")
		if l := s.look(); !slices.Equal(fresh(l), []string{"v4.6.5"}) || len(l.Gone) > 0 {
			s.Errorf("afterwards: %+v", l)
		}
	})
}

func TestAnIdleLookChangesNothingAndCostsNothing(t *testing.T) {
	play(t, func(s *story) {
		for i := range 120 {
			s.release(fmt.Sprintf("v4.5.%d", i))
		}
		f := s.follower()
		if _, err := f.Look(s.Context()); err != nil {
			s.Fatal(err)
		}
		if _, err := f.Pin(s.Context(), "v4.5.119"); err != nil {
			s.Fatal(err)
		}
		f.Memory()
		before := s.Count(ghToken)
		for range 100 {
			time.Sleep(5 * time.Minute)
			if _, err := f.Look(s.Context()); err != nil {
				s.Fatal(err)
			}
			if _, err := f.Pin(s.Context(), "v4.5.119"); err != nil {
				s.Fatal(err)
			}
			if _, changed := f.Memory(); changed {
				s.Fatal("an idle look changed what is remembered")
			}
		}
		if after := s.Count(ghToken); after.Spent != before.Spent || s.git.asked != 1 {
			s.Errorf("spent %d, git was asked %d times", after.Spent-before.Spent, s.git.asked)
		}
	})
}

func TestATagIsPinnedByTwoWitnessesAtFirstSight(t *testing.T) {
	play(t, func(s *story) {
		s.release("v4.6.5")
		first, err := s.pin("v4.6.5")
		if err != nil || first.Commit != githubtest.Hash("commit v4.6.5") || first.Tree != githubtest.Hash("tree v4.6.5") || !first.Fits(s.git.tags["v4.6.5"]) {
			s.Fatalf("%+v, %v", first, err)
		}
		time.Sleep(24 * time.Hour)
		again, err := s.pin("v4.6.5")
		if err != nil || !again.At.Equal(first.At) || s.git.asked != 1 {
			s.Errorf("%+v, %v; git was asked %d times", again, err, s.git.asked)
		}
	})
}

func TestALightweightTagIsPinnedToo(t *testing.T) {
	play(t, func(s *story) {
		commit, tree := githubtest.Hash("c"), githubtest.Hash("t")
		s.SetTag(followed, githubtest.Tag{Name: "v4.6.5", Commit: commit, Tree: tree})
		s.git.tags["v4.6.5"] = git.Tag{Name: "v4.6.5", Commit: commit, Tree: tree}
		if p, err := s.pin("v4.6.5"); err != nil || p.Object != commit {
			s.Errorf("%+v, %v", p, err)
		}
	})
}

func TestATagThatMovesIsRefusedUntilAPersonUnpinsIt(t *testing.T) {
	for name, move := range map[string]func(*story){
		"to another commit": func(s *story) { s.tag("v4.6.5", "something else") },
		"to another tag object of the same": func(s *story) {
			s.SetTag(followed, githubtest.Tag{Name: "v4.6.5", Commit: githubtest.Hash("commit v4.6.5"), Tree: githubtest.Hash("tree v4.6.5"), Objects: []string{githubtest.Hash("anew")}})
		},
		"to nowhere": func(s *story) { s.DeleteTag(followed, "v4.6.5") },
		"from annotated to lightweight": func(s *story) {
			s.SetTag(followed, githubtest.Tag{Name: "v4.6.5", Commit: githubtest.Hash("commit v4.6.5"), Tree: githubtest.Hash("tree v4.6.5")})
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *story) {
				s.release("v4.6.5")
				first, err := s.pin("v4.6.5")
				if err != nil {
					s.Fatal(err)
				}
				move(s)
				for range 2 { // it is not taken for the new truth at the second look
					p, err := s.pin("v4.6.5")
					if !errors.Is(err, ErrMoved) || !p.Same(first.Identity) || !strings.Contains(err.Error(), first.Commit[:12]) {
						s.Errorf("%+v, %v", p, err)
					}
				}
				if name == "to nowhere" {
					return
				}
				s.tag("v4.6.5", "meant")
				if !s.m.Unpin("v4.6.5") || s.m.Unpin("v4.6.5") {
					s.Error("a pin is forgotten once")
				}
				if p, err := s.pin("v4.6.5"); err != nil || p.Commit != githubtest.Hash("commit meant") {
					s.Errorf("pinned anew: %+v, %v", p, err)
				}
			})
		})
	}
}

func TestATagThatMovedBackIsWhatItWas(t *testing.T) {
	play(t, func(s *story) {
		s.release("v4.6.5")
		if _, err := s.pin("v4.6.5"); err != nil {
			s.Fatal(err)
		}
		s.tag("v4.6.5", "something else")
		if _, err := s.pin("v4.6.5"); !errors.Is(err, ErrMoved) {
			s.Fatal(err)
		}
		s.tag("v4.6.5", "v4.6.5")
		if _, err := s.pin("v4.6.5"); err != nil {
			s.Error(err)
		}
	})
}

func TestWitnessesThatDisagreePinNothing(t *testing.T) {
	for name, test := range map[string]struct {
		lie  func(*gitWitness)
		want error
	}{
		"another commit": {func(g *gitWitness) { t := g.tags["v4.6.5"]; t.Commit = githubtest.Hash("x"); g.tags["v4.6.5"] = t }, ErrDisagree},
		"another tree":   {func(g *gitWitness) { t := g.tags["v4.6.5"]; t.Tree = githubtest.Hash("x"); g.tags["v4.6.5"] = t }, ErrDisagree},
		"another object": {func(g *gitWitness) { t := g.tags["v4.6.5"]; t.Object = ""; g.tags["v4.6.5"] = t }, ErrDisagree},
		"no such tag":    {func(g *gitWitness) { delete(g.tags, "v4.6.5") }, ErrDisagree},
		"it moved there": {func(g *gitWitness) { g.err = fmt.Errorf("%w: v4.6.5", git.ErrMoved) }, ErrMoved},
		"no answer":      {func(g *gitWitness) { g.err = git.ErrUnreachable }, git.ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *story) {
				s.release("v4.6.5")
				truth := s.git.tags["v4.6.5"]
				test.lie(s.git)
				if _, err := s.pin("v4.6.5"); !errors.Is(err, test.want) || len(s.m.Pins) > 0 {
					s.Errorf("%v; pinned %v", err, s.m.Pins)
				}
				s.git.tags["v4.6.5"], s.git.err = truth, nil
				if _, err := s.pin("v4.6.5"); err != nil {
					s.Errorf("once they agree: %v", err)
				}
			})
		})
	}
}

// Each look of a timer is a process of its own; the simulation fails the test if one asks
// while the limit lasts.
func TestALimitHoldsForTheNextProcessToo(t *testing.T) {
	play(t, func(s *story) {
		s.release("v4.6.5")
		s.look()
		s.Exhaust(ghToken)
		for n := range 5 {
			s.api = s.client()
			f := s.follower()
			_, err := f.Look(s.Context())
			if !errors.Is(err, github.ErrLimited) || !strings.Contains(err.Error(), "nothing is sent before 2000-01-01 01:00:00 UTC") {
				s.Errorf("look %d: %v", n, err)
			}
			s.m, _ = f.Memory()
			time.Sleep(10 * time.Minute)
		}
		time.Sleep(10 * time.Minute)
		s.api = s.client()
		if s.look(); !s.m.Rests.IsZero() || s.Count(ghToken).Refused != 1 {
			s.Errorf("rests until %s, %+v", s.m.Rests, s.Count(ghToken))
		}
	})
}
