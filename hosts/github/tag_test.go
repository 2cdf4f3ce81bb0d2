package github_test

import (
	"encoding/json"
	"strings"
	"testing"

	"vmst.io/refit/hosts/github"
	"vmst.io/refit/hosts/github/githubtest"
)

var (
	commitA, commitB = githubtest.Hash("commit a"), githubtest.Hash("commit b")
	treeA, treeB     = githubtest.Hash("tree a"), githubtest.Hash("tree b")
	objectA, objectB = githubtest.Hash("object a"), githubtest.Hash("object b")
)

// identify asks for a tag and fails the test on an error.
func (s story) identify(c *github.Client, tag string, known github.Identity) github.Identity {
	s.Helper()
	id, err := c.Tag(s.Context(), mastodon, tag, known)
	if err != nil {
		s.Fatalf("the tag %s: %v", tag, err)
	}
	return id
}

func TestATagStandsForACommitAndATree(t *testing.T) {
	for name, objects := range map[string][]string{
		"lightweight":  nil,
		"annotated":    {objectA},
		"a tag's tag":  {objectB, objectA},
		"with a slash": {objectA},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, githubtest.Options{}, func(s story) {
				tag := "v4.6.5"
				if strings.Contains(name, "slash") {
					tag = "releases/4.6.5+vmst#1"
				}
				s.SetTag(upstream, githubtest.Tag{Name: tag, Commit: commitA, Tree: treeA, Objects: objects})
				id := s.identify(s.client(github.Options{Token: token}), tag, github.Identity{})
				object := commitA
				if len(objects) > 0 {
					object = objects[0]
				}
				if id.Object != object || id.Commit != commitA || id.Tree != treeA || id.Tag != tag || id.Repo != upstream {
					s.Errorf("got %+v", id)
				}
			})
		})
	}
}

func TestATagThatStandsStillCostsOneFreeRequest(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.SetTag(upstream, githubtest.Tag{Name: "v4.6.5", Commit: commitA, Tree: treeA, Objects: []string{objectA}})
		kept, err := json.Marshal(s.identify(s.client(github.Options{Token: token}), "v4.6.5", github.Identity{}))
		if err != nil {
			s.Fatal(err)
		}
		var known github.Identity
		if err := json.Unmarshal(kept, &known); err != nil {
			s.Fatal(err)
		}
		before := s.Count(token)
		if id := s.identify(s.client(github.Options{Token: token}), "v4.6.5", known); id != known {
			s.Errorf("got %+v, knew %+v", id, known)
		}
		if after := s.Count(token); after.Spent != before.Spent || after.Requests != before.Requests+1 {
			s.Errorf("before %+v, after %+v", before, after)
		}
	})
}

func TestWhatAHashNamesIsNotAskedForAgain(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.SetTag(upstream, githubtest.Tag{Name: "v4.6.5", Commit: commitA, Tree: treeA, Objects: []string{objectA}})
		known := s.identify(s.client(github.Options{Token: token}), "v4.6.5", github.Identity{})
		// another token has other ETags
		id := s.identify(s.client(github.Options{Token: pusher}), "v4.6.5", known)
		if !id.Same(known) || id.ETag == known.ETag || s.Count(pusher).Requests != 1 {
			s.Errorf("got %+v with %+v", id, s.Count(pusher))
		}
	})
}

func TestAMovedTagHasAnotherIdentity(t *testing.T) {
	for name, moved := range map[string]githubtest.Tag{
		"to another commit":                 {Name: "v4.6.5", Commit: commitB, Tree: treeB, Objects: []string{objectB}},
		"to another commit, the same tree":  {Name: "v4.6.5", Commit: commitB, Tree: treeA, Objects: []string{objectB}},
		"made anew of the same commit":      {Name: "v4.6.5", Commit: commitA, Tree: treeA, Objects: []string{objectB}},
		"made lightweight":                  {Name: "v4.6.5", Commit: commitA, Tree: treeA},
		"lightweight and to another commit": {Name: "v4.6.5", Commit: commitB, Tree: treeB},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, githubtest.Options{}, func(s story) {
				s.SetTag(upstream, githubtest.Tag{Name: "v4.6.5", Commit: commitA, Tree: treeA, Objects: []string{objectA}})
				c := s.client(github.Options{Token: token})
				pinned := s.identify(c, "v4.6.5", github.Identity{})
				s.SetTag(upstream, moved)
				id := s.identify(c, "v4.6.5", pinned)
				if id.Same(pinned) || id.Commit != moved.Commit || id.Tree != moved.Tree {
					s.Errorf("got %+v", id)
				}
				s.SetTag(upstream, githubtest.Tag{Name: "v4.6.5", Commit: commitA, Tree: treeA, Objects: []string{objectA}})
				if back := s.identify(c, "v4.6.5", id); !back.Same(pinned) {
					s.Errorf("moved back, got %+v", back)
				}
			})
		})
	}
}

func TestWhatIsKnownOfAnotherTagIsNotUsed(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.SetTag(upstream, githubtest.Tag{Name: "v4.6.4", Commit: commitA, Tree: treeA})
		s.SetTag(upstream, githubtest.Tag{Name: "v4.6.5", Commit: commitB, Tree: treeB})
		c := s.client(github.Options{Token: token})
		if id := s.identify(c, "v4.6.5", s.identify(c, "v4.6.4", github.Identity{})); id.Commit != commitB || id.Tree != treeB {
			s.Errorf("got %+v", id)
		}
		other := s.identify(c, "v4.6.4", github.Identity{})
		s.Trouble(githubtest.Trouble{Status: 304}) // for a question that is not conditional
		_, err := c.Tag(s.Context(), mastodon, "v4.6.5", other)
		s.failure(err, github.ErrAnswer)
	})
}

func TestATagThatIsGoneIsSaidByName(t *testing.T) {
	play(t, githubtest.Options{}, func(s story) {
		s.SetTag(upstream, githubtest.Tag{Name: "v4.6.5"})
		c := s.client(github.Options{Token: token})
		known := s.identify(c, "v4.6.5", github.Identity{})
		s.DeleteTag(upstream, "v4.6.5")
		_, err := c.Tag(s.Context(), mastodon, "v4.6.5", known)
		if e := s.failure(err, github.ErrNotFound); !strings.Contains(e.Error(), "v4.6.5") || !strings.Contains(e.Error(), upstream) {
			s.Error(e)
		}
	})
}

func TestAnAnswerForAnotherObjectIsRefused(t *testing.T) {
	h := func(s string) string { return `"` + s + `"` }
	for name, bad := range map[string]struct{ match, body string }{
		"another ref":              {"/git/ref/", `{"ref":"refs/tags/v4.6.50","object":{"type":"commit","sha":` + h(commitA) + `}}`},
		"a ref to nothing":         {"/git/ref/", `{"ref":"refs/tags/v4.6.5"}`},
		"a ref to a tree":          {"/git/ref/", `{"ref":"refs/tags/v4.6.5","object":{"type":"tree","sha":` + h(treeA) + `}}`},
		"a short hash":             {"/git/ref/", `{"ref":"refs/tags/v4.6.5","object":{"type":"commit","sha":"abc"}}`},
		"a list of refs":           {"/git/ref/", `[{"ref":"refs/tags/v4.6.5"}]`},
		"another tag object":       {"/git/tags/", `{"sha":` + h(objectB) + `,"object":{"type":"commit","sha":` + h(commitA) + `}}`},
		"a tag that tags itself":   {"/git/tags/", `{"sha":` + h(objectA) + `,"object":{"type":"tag","sha":` + h(objectA) + `}}`},
		"another commit":           {"/git/commits/", `{"sha":` + h(commitB) + `,"tree":{"sha":` + h(treeA) + `}}`},
		"a commit without a tree":  {"/git/commits/", `{"sha":` + h(commitA) + `}`},
		"a tree that is no hash":   {"/git/commits/", `{"sha":` + h(commitA) + `,"tree":{"sha":"../../x"}}`},
		"a commit that is no text": {"/git/commits/", `[]`},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, githubtest.Options{}, func(s story) {
				s.SetTag(upstream, githubtest.Tag{Name: "v4.6.5", Commit: commitA, Tree: treeA, Objects: []string{objectA}})
				s.Trouble(githubtest.Trouble{Match: bad.match, Times: -1, Status: 200, Body: bad.body, Header: jsonHeader()})
				_, err := s.client(github.Options{Token: token}).Tag(s.Context(), mastodon, "v4.6.5", github.Identity{})
				s.failure(err, github.ErrAnswer)
			})
		})
	}
}
