package github_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/hosts/github"
	"vmst.io/refit/hosts/github/githubtest"
)

const (
	upstream = "mastodon/mastodon"
	token    = "ghp_refit0123456789"
	pusher   = "ghp_publisher9876543"
)

var mastodon = github.Repo{Owner: "mastodon", Name: "mastodon"}

// story is a test's simulated GitHub, reached over pipes in a bubble of
// testing/synctest: pauses take no time, and time can be told exactly.
type story struct {
	*testing.T
	*githubtest.Server
	wire *githubtest.Wire
}

// play tells a story. A fault of the simulation fails the test.
func play(t *testing.T, opts githubtest.Options, tell func(s story)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		opts.Fail = t.Error
		opts.Tokens = map[string]githubtest.Token{token: {}, pusher: {Push: true}}
		s := story{t, githubtest.New(opts), githubtest.NewWire()}
		s.AddRepo(upstream)
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx, s.wire) }()
		defer func() {
			cancel()
			if err := <-served; err != nil {
				t.Error(err)
			}
		}()
		tell(s)
	})
}

// client asks the simulation; without a BaseURL and a Transport of the test's own
// it gets the story's.
func (s story) client(opts github.Options) *github.Client {
	s.Helper()
	if opts.Transport == nil {
		tr := s.wire.Transport()
		s.Cleanup(tr.CloseIdleConnections)
		opts.Transport = tr
	}
	if opts.BaseURL == "" {
		opts.BaseURL = "http://127.0.0.1/"
	}
	c, err := github.New(opts)
	if err != nil {
		s.Fatal(err)
	}
	return c
}

// poll asks for the releases and fails the test on an error.
func (s story) poll(c *github.Client, known github.Known) github.List {
	s.Helper()
	list, err := c.Releases(s.Context(), mastodon, known)
	if err != nil {
		s.Fatalf("the poll failed: %v", err)
	}
	return list
}

// tags are the sorted tags of a list.
func tags(list github.List) []string {
	var out []string
	for _, r := range list.Releases {
		out = append(out, r.Tag)
	}
	slices.Sort(out)
	return out
}

// wantTags compares a list with the tags it must hold.
func (s story) wantTags(list github.List, want ...string) {
	s.Helper()
	slices.Sort(want)
	if got := tags(list); !slices.Equal(got, want) {
		s.Errorf("the list holds %v, not %v", got, want)
	}
}

// fill publishes n releases, v1.0.1 the oldest, a day apart, and tells their ids.
func (s story) fill(n int) []int64 {
	var ids []int64
	for i := range n {
		at := time.Now().Add(time.Duration(i-n) * 24 * time.Hour)
		ids = append(ids, s.Publish(upstream, githubtest.Release{Tag: fmt.Sprintf("v1.0.%d", i+1), Body: "notes", Created: at, Published: at}))
	}
	return ids
}

// failure is the *github.Error that err must be, of that kind.
func (s story) failure(err, kind error) *github.Error {
	s.Helper()
	var e *github.Error
	if !errors.As(err, &e) || !errors.Is(err, kind) {
		s.Fatalf("got %v, not %v", err, kind)
	}
	if e.Source == "" || e.What == "" || e.Happened == "" || e.Advice == "" {
		s.Errorf("the error does not say enough: %#v", e)
	}
	return e
}

// roundTrip is a transport made of a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
