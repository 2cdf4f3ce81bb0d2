package git_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"vmst.io/refit/hosts/git"
)

func TestAProposalIsFoundAgainByItsBranchAndKnownByItsTree(t *testing.T) {
	ways(t, func(t *testing.T, o *origin, url string) {
		o.person("main", "a", "1")
		c := clone(t, url)
		base := fetch(t, c)
		if head, err := c.Proposed(t.Context(), "refit/run-1"); head != "" || err != nil {
			t.Fatalf("before it was pushed: %q, %v", head, err)
		}
		mine := commit(t, c, base, "rendered/x", "1")
		if err := c.Propose(t.Context(), mine, "refit/run-1"); err != nil {
			t.Fatal(err)
		}
		other := clone(t, url) // another machine's, which has never seen the commit
		if head, err := other.Proposed(t.Context(), "refit/run-1"); head != mine || err != nil {
			t.Fatalf("%q, %v", head, err)
		}
		// Squashed: another commit, with the same tree.
		squashed := o.person("main", "rendered/x", "1")
		fetch(t, other)
		ours, err := other.Tree(mine)
		if err != nil {
			t.Fatal(err)
		}
		if theirs, err := other.Tree(squashed); theirs != ours || squashed == mine || err != nil {
			t.Errorf("%q is not %q: %v", theirs, ours, err)
		}
		later := o.person("main", "a", "2")
		fetch(t, other)
		if theirs, err := other.Tree(later); theirs == ours || theirs == "" || err != nil {
			t.Errorf("%q: %v", theirs, err)
		}
		if _, err := other.Tree(strings.Repeat("0", 40)); err == nil {
			t.Error("a commit that nobody has has a tree")
		}
		// GitHub deletes the branch of a merged pull request, if it is told to.
		o.git("update-ref", "-d", "refs/heads/refit/run-1")
		if head, err := other.Proposed(t.Context(), "refit/run-1"); head != "" || err != nil {
			t.Errorf("deleted: %q, %v", head, err)
		}
	})
}

func TestWhetherAPushIsAllowedIsAskedWithoutOne(t *testing.T) {
	ways(t, func(t *testing.T, o *origin, url string) {
		c := clone(t, url)
		if err := c.MayPush(t.Context()); err != nil {
			t.Errorf("an empty repository: %v", err)
		}
		head := o.person("main", "a", "1")
		if err := c.MayPush(t.Context()); err != nil || o.head() != head {
			t.Errorf("%v; the branch is at %s", err, o.head())
		}
		if refs := o.git("for-each-ref", "--format=%(refname)"); refs != "refs/heads/main" {
			t.Errorf("asking left %q", refs)
		}
	})
}

func TestATokenThatMayOnlyReadIsFoundOut(t *testing.T) {
	o := newOrigin(t)
	o.token = "canary-token"
	o.person("main", "a", "1")
	o.git("config", "http.receivepack", "false") // 403 to who begins a push
	at := o.serve()
	token := func(text string) func(*git.ConfigOptions) {
		return func(opts *git.ConfigOptions) { opts.Token = func() (string, error) { return text, nil } }
	}
	c := clone(t, at, token("canary-token"))
	fetch(t, c)
	err := c.MayPush(t.Context())
	if !errors.Is(err, git.ErrAuth) || !strings.Contains(err.Error(), "can be read and not pushed to") || strings.Contains(err.Error(), "canary") {
		t.Errorf("a token that may read: %v", err)
	}
	if err := clone(t, at, token("another")).MayPush(t.Context()); !errors.Is(err, git.ErrAuth) {
		t.Errorf("a token that may nothing: %v", err)
	}
	o.git("config", "http.receivepack", "true")
	if err := c.MayPush(t.Context()); err != nil {
		t.Errorf("a token that may: %v", err)
	}
	// Nothing is asked of a server beyond how a push begins.
	backend, err := url.Parse(strings.TrimSuffix(at, "/config.git"))
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	proxy := httputil.NewSingleHostReverseProxy(backend)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.RequestURI())
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	if err := clone(t, front.URL+"/config.git", token("canary-token")).MayPush(t.Context()); err != nil {
		t.Error(err)
	}
	if got := strings.Join(asked, ", "); got != "GET /config.git/info/refs?service=git-receive-pack" {
		t.Errorf("asked %s", got)
	}
	front.Close()
	if err := clone(t, front.URL+"/config.git").MayPush(t.Context()); !errors.Is(err, git.ErrUnreachable) {
		t.Errorf("nobody answers: %v", err)
	}
}
