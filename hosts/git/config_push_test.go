package git_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmst.io/refit/hosts/git"
)

func TestABranchThatMovedIsNotPushedTo(t *testing.T) {
	ways(t, func(t *testing.T, o *origin, url string) {
		o.person("main", "a", "1")
		c := clone(t, url)
		base := fetch(t, c)
		mine := commit(t, c, base, "rendered/x", "1")
		theirs := o.person("main", "a", "2")
		if err := c.Push(t.Context(), mine, base); !errors.Is(err, git.ErrMoved) {
			t.Fatalf("pushed over a moved branch: %v", err)
		}
		if o.head() != theirs {
			t.Fatalf("the branch is at %s, not where the person left it", o.head())
		}
		base = fetch(t, c)
		again := commit(t, c, base, "rendered/x", "1")
		if err := c.Push(t.Context(), again, base); err != nil {
			t.Fatal(err)
		}
		if got := o.git("show", "main:a"); got != "2" {
			t.Errorf("the person's file is %q", got)
		}
	})
}

// even where our commit could be put on it.
func TestABranchThatWentBackIsMovedToo(t *testing.T) {
	ways(t, func(t *testing.T, o *origin, url string) {
		first := o.person("main", "a", "1")
		o.person("main", "a", "2")
		c := clone(t, url)
		base := fetch(t, c)
		mine := commit(t, c, base, "rendered/x", "1")
		o.git("update-ref", "refs/heads/main", first)
		if err := c.Push(t.Context(), mine, base); !errors.Is(err, git.ErrMoved) {
			t.Fatalf("what the person took back is pushed again: %v", err)
		}
		if o.head() != first {
			t.Fatalf("the branch is at %s", o.head())
		}
	})
}

// What is shown to a push may be old when it arrives: the server itself compares.
func TestTheServerComparesToo(t *testing.T) {
	for name, first := range map[string]bool{"a later commit": false, "the first commit": true} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t)
			if !first {
				o.person("main", "a", "1")
			}
			c := clone(t, o.serve())
			base := fetch(t, c)
			mine := commit(t, c, base, "rendered/x", "1")
			var theirs string
			f := func() { theirs = o.person("main", "a", "2") }
			o.between.Store(&f)
			if err := c.Push(t.Context(), mine, base); !errors.Is(err, git.ErrMoved) {
				t.Fatalf("pushed over a branch that moved in the last moment: %v", err)
			}
			if theirs == "" || o.head() != theirs {
				t.Fatalf("the branch is at %s, the person left it at %q", o.head(), theirs)
			}
		})
	}
}

func TestALostAnswerIsLookedUp(t *testing.T) {
	o := newOrigin(t)
	o.person("main", "a", "1")
	c := clone(t, o.serve())
	base := fetch(t, c)
	mine := commit(t, c, base, "rendered/x", "1")
	o.lose.Store(1)
	if err := c.Push(t.Context(), mine, base); err != nil {
		t.Fatalf("a push that arrived is reported lost: %v", err)
	}
	if o.head() != mine {
		t.Fatalf("the branch is at %s", o.head())
	}
	if err := c.Push(t.Context(), mine, base); err != nil {
		t.Errorf("pushing again what is there: %v", err)
	}
	// The answer is lost and a person goes on from our commit before we look.
	next := commit(t, c, mine, "rendered/x", "2")
	o.lose.Store(1)
	if err := c.Push(t.Context(), next, mine); err != nil {
		t.Fatal(err)
	}
	o.person("main", "b", "1")
	if err := c.Push(t.Context(), next, mine); err != nil {
		t.Errorf("a commit below the head is reported lost: %v", err)
	}
	if n := o.git("rev-list", "--count", "main"); n != "4" {
		t.Errorf("%s commits are there, want 4", n)
	}
}

func TestAPushThatNeverArrivedIsSaidAndCanBeRepeated(t *testing.T) {
	o := newOrigin(t)
	o.person("main", "a", "1")
	c := clone(t, o.serve())
	base := fetch(t, c)
	mine := commit(t, c, base, "rendered/x", "1")
	o.deny.Store(1)
	if err := c.Push(t.Context(), mine, base); !errors.Is(err, git.ErrUnreachable) || errors.Is(err, git.ErrMoved) {
		t.Fatalf("a push that never arrived: %v", err)
	}
	if o.head() != base {
		t.Fatalf("the branch is at %s", o.head())
	}
	if err := c.Push(t.Context(), mine, base); err != nil || o.head() != mine {
		t.Fatalf("the second push: %v", err)
	}
}

// An answer of 200 with nothing in it is what a proxy makes of a server that died.
func TestAnEmptyAnswerIsNoSuccess(t *testing.T) {
	o := newOrigin(t)
	o.person("main", "a", "1")
	inner := o.serve()
	at, err := url.Parse(strings.TrimSuffix(inner, "/config.git"))
	if err != nil {
		t.Fatal(err)
	}
	through := httputil.NewSingleHostReverseProxy(at)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/git-receive-pack") {
			through.ServeHTTP(w, r)
		}
	}))
	defer proxy.Close()
	c := clone(t, proxy.URL+"/config.git")
	base := fetch(t, c)
	mine := commit(t, c, base, "rendered/x", "1")
	if err := c.Push(t.Context(), mine, base); !errors.Is(err, git.ErrUnreachable) {
		t.Fatalf("an empty answer: %v", err)
	}
}

func TestACommitThatDoesNotStandOnItsBaseIsNotPushed(t *testing.T) {
	o := newOrigin(t)
	o.person("main", "a", "1")
	c := clone(t, o.dir)
	base := fetch(t, c)
	stray := commit(t, c, "", "rendered/x", "1")
	if err := c.Push(t.Context(), stray, base); err == nil || !strings.Contains(err.Error(), "does not stand on") {
		t.Fatalf("a commit without history is pushed: %v", err)
	}
	if err := c.Push(t.Context(), stray, ""); !errors.Is(err, git.ErrMoved) {
		t.Fatalf("a first commit is pushed over what is there: %v", err)
	}
	if o.head() != base {
		t.Fatalf("the branch is at %s", o.head())
	}
}

func TestABranchThatTakesNoPushesIsSaid(t *testing.T) {
	ways(t, func(t *testing.T, o *origin, url string) {
		o.person("main", "a", "1")
		hook := filepath.Join(o.dir, "hooks", "update")
		if err := os.WriteFile(hook, []byte("#!/bin/sh\n[ \"$1\" != refs/heads/main ]\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		c := clone(t, url)
		base := fetch(t, c)
		mine := commit(t, c, base, "rendered/x", "1")
		if err := c.Push(t.Context(), mine, base); !errors.Is(err, git.ErrRejected) || errors.Is(err, git.ErrUnreachable) {
			t.Fatalf("a protected branch: %v", err)
		}
		if err := c.Propose(t.Context(), mine, "refit/run-1"); err != nil {
			t.Fatal(err)
		}
		if got := o.git("rev-parse", "refit/run-1"); got != mine {
			t.Fatalf("the proposal is at %s", got)
		}
		if err := c.Propose(t.Context(), mine, "refit/run-1"); err != nil {
			t.Errorf("proposing again: %v", err)
		}
		next := commit(t, c, mine, "rendered/x", "2")
		if err := c.Propose(t.Context(), next, "refit/run-1"); err != nil || o.git("rev-parse", "refit/run-1") != next {
			t.Errorf("going on with a proposal: %v", err)
		}
		o.person("refit/run-1", "review", "fixed")
		other := commit(t, c, next, "rendered/x", "3")
		if err := c.Propose(t.Context(), other, "refit/run-1"); !errors.Is(err, git.ErrMoved) {
			t.Errorf("a proposal that a person went on with is pushed over: %v", err)
		}
		if err := c.Propose(t.Context(), mine, "main"); err == nil {
			t.Error("main is proposed on")
		}
	})
}
