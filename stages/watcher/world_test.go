package watcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/policy"
	"vmst.io/refit/builds/upstream"
	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/github"
	"vmst.io/refit/hosts/github/githubtest"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/pipeline/report"
)

const (
	followed = "mastodon/mastodon"
	elk      = "elk-zone/elk"
	ghToken  = "ghp_refit0123456789"
)

// world is what a watcher's story happens in: a simulated GitHub, the same repository by
// git, an update check, a fleet, and people who are told. It outlives its watchers.
type world struct {
	*testing.T
	*githubtest.Server
	api  *github.Client
	o    Options
	tags map[string]git.Tag
	disk disk

	running  string
	away     error                 // why the fleet does not answer
	plan     func(*Plan)           // what a survey finds
	changes  func(*builds.Changes) // what releases change
	deaf     error                 // why the source cannot be read
	source   func(*git.Tag)        // what the source that was read is, if not the tag's
	updates  []upstream.Update
	feedErr  error
	approved map[string]*Approval
	outcome  func(p Plan, stop <-chan struct{}) Outcome
	standing map[string]Standing
	unknown  error    // why nobody knows how a run stands
	dumb     error    // why approvals cannot be asked for
	stuck    *Outcome // how a resume ends, if not well
	begun    []string // releases
	resumed  []string // runs
	plans    int

	released map[string]report.Release // the last word on each
	words    []string                  // every change of a decision: "v4.6.5: waits for an approval"
	notices  []string
	polls    map[string]error
	behind   map[string]time.Time
}

// play tells a story in a bubble of testing/synctest, where v4.6.4 runs and is the newest.
func play(t *testing.T, tell func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			T: t, Server: githubtest.New(githubtest.Options{Fail: t.Error, Tokens: map[string]githubtest.Token{ghToken: {}}}),
			tags: map[string]git.Tag{}, disk: disk{}, running: "v4.6.4", approved: map[string]*Approval{}, standing: map[string]Standing{},
			released: map[string]report.Release{}, polls: map[string]error{}, behind: map[string]time.Time{},
		}
		w.AddRepo(followed)
		w.AddRepo(elk)
		wire := githubtest.NewWire()
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- w.Serve(ctx, wire) }()
		defer func() {
			cancel()
			if err := <-served; err != nil {
				t.Error(err)
			}
		}()
		tr := wire.Transport()
		defer tr.CloseIdleConnections()
		var err error
		if w.api, err = github.New(github.Options{Token: ghToken, BaseURL: "http://127.0.0.1/", Transport: tr, Answer: 20 * time.Second, Patience: time.Minute}); err != nil {
			t.Fatal(err)
		}
		w.o = Options{
			Feed: w, Source: w, Fleet: w, Teller: w, Store: w.disk, Every: 5 * time.Minute, Say: t.Logf,
			Policy: policy.Policy{
				Acts:   map[policy.Kind]policy.Act{policy.Security: policy.Auto, policy.Patch: policy.Auto, policy.Minor: policy.Ask, policy.Prerelease: policy.Ignore},
				Settle: 6 * time.Hour, Deadline: 48 * time.Hour, Overtake: true,
			},
		}
		w.publish("v4.6.4")
		tell(w)
	})
}

// publish publishes a patch whose notes ask for nothing, unless changed.
func (w *world) publish(tag string, change ...func(*githubtest.Release)) int64 {
	w.tag(tag, tag)
	rel := githubtest.Release{Tag: tag, Body: body(tag, "")}
	for _, f := range change {
		f(&rel)
	}
	return w.Publish(followed, rel)
}

// body are notes with something said before the update steps.
func body(tag, said string) string {
	v, err := builds.ParseVersion(tag)
	if err != nil {
		panic(err) // a test's own tag
	}
	before := "4.6.4"
	if n := strings.LastIndexByte(v.Number(), '.'); n > 0 && !v.Prerelease() {
		var patch int
		if _, err := fmt.Sscanf(v.Number()[n+1:], "%d", &patch); err == nil && patch > 0 {
			before = fmt.Sprintf("%s.%d", v.Number()[:n], patch-1)
		}
	}
	return "## Changelog\n\n### Fixed\n\n- Fix something (#1 by @a)\n\n" + said + "\n\n## Upgrade notes\n\n" +
		"To get the code for " + tag + ", use `git fetch && git checkout " + tag + "`.\n\n### Update steps\n\n" +
		"The following instructions are for updating from " + before + ".\n\n1. Restart all Mastodon processes.\n"
}

const security = "### Security\n\n- Fix a hole ([GHSA-2345-cfgh-jmpq](https://github.com/mastodon/mastodon/security/advisories/GHSA-2345-cfgh-jmpq))\n"

func saying(tag, said string) func(*githubtest.Release) {
	return func(r *githubtest.Release) { r.Body = body(tag, said) }
}

// tag makes or moves a tag, for both witnesses.
func (w *world) tag(name, content string) {
	t := git.Tag{Name: name, Object: githubtest.Hash("object " + content), Commit: githubtest.Hash("commit " + content), Tree: githubtest.Hash("tree " + content)}
	w.SetTag(followed, githubtest.Tag{Name: name, Commit: t.Commit, Tree: t.Tree, Objects: []string{t.Object}})
	w.tags[name] = t
}

// watcher is a new process: it knows what lies on the disk.
func (w *world) watcher() *Watcher {
	w.Helper()
	follow := func(owner, name string, witness upstream.Witness) *upstream.Follower {
		m, err := LoadMemory(w.Context(), w.disk, owner, name)
		if err != nil {
			w.Fatal(err)
		}
		return upstream.Follow(upstream.FollowOptions{Repo: github.Repo{Owner: owner, Name: name}, GitHub: w.api, Witness: witness, Memory: m})
	}
	o := w.o
	o.Upstream = follow("mastodon", "mastodon", w)
	for i := range o.Flings {
		o.Flings[i].Upstream = follow("elk-zone", "elk", nil)
	}
	out, err := New(w.Context(), o)
	if err != nil {
		w.Fatal(err)
	}
	return out
}

// look is one look of a new process.
func (w *world) look() Sight {
	w.Helper()
	s, err := w.watcher().Once(w.Context(), nil)
	if err != nil {
		w.Fatalf("the look failed: %v", err)
	}
	return s
}

// after looks after a time.
func (w *world) after(d time.Duration) Sight {
	w.Helper()
	time.Sleep(d)
	return w.look()
}

// decided is what a look made of a release.
func (w *world) decided(s Sight, tag string) Candidate {
	w.Helper()
	for _, c := range s.Candidates {
		if c.Version.String() == tag {
			return c
		}
	}
	w.Fatalf("%s is no candidate of %+v", tag, s.Candidates)
	return Candidate{}
}

func (w *world) want(c Candidate, do policy.Do, reason string) {
	w.Helper()
	if c.Decision.Do != do || !strings.Contains(c.Decision.Reason, reason) {
		w.Errorf("%s: %s: %q; want %s with %q", c.Version, c.Decision.Do, c.Decision.Reason, do, reason)
	}
}

func (w *world) ran(want ...string) {
	w.Helper()
	if !slices.Equal(w.begun, want) {
		w.Errorf("began %v, not %v", w.begun, want)
	}
}

// The fleet.

func (w *world) Running(context.Context) (builds.Version, error) {
	if w.away != nil {
		return builds.Version{}, w.away
	}
	return builds.ParseVersion(w.running)
}

func (w *world) Plan(_ context.Context, to builds.Version) (Plan, error) {
	w.plans++
	t := w.tags[to.String()]
	p := Plan{Run: fmt.Sprintf("run-%d", w.plans), Hash: "hash-of-" + to.String(), Commit: t.Commit, Tree: t.Tree, Upgrade: to.String()}
	if w.plan != nil {
		w.plan(&p)
	}
	return p, w.away
}

func (w *world) Approval(_ context.Context, hash string) (*Approval, error) {
	a := w.approved[hash]
	if a == nil || a.Over != "" || time.Now().Before(a.Until) {
		return a, w.dumb
	}
	over := *a
	over.Over = "what " + a.By + " gave expired"
	return &over, w.dumb
}

func (w *world) Begin(_ context.Context, stop <-chan struct{}, p Plan) Outcome {
	to, ok := p.Upgrade.(string)
	if !ok {
		w.Errorf("the plan is not the one that was made: %+v", p)
	}
	w.begun = append(w.begun, to)
	if a := w.approved[p.Hash]; (a != nil && a.Over == "") != (p.ApprovedBy != "") {
		w.Errorf("it begins by the word of %q, and there is %+v", p.ApprovedBy, a)
	} else if a != nil {
		a.Over = fmt.Sprintf("run %s used up what %s gave", p.Run, a.By)
	}
	if w.outcome != nil {
		return w.outcome(p, stop)
	}
	w.running = to
	return Outcome{Done: true, Text: "done"}
}

func (w *world) Stands(_ context.Context, run string) (Standing, error) {
	at, ok := w.standing[run]
	if !ok {
		at = Standing{Outcome: Outcome{Untouched: true, Text: "it never began"}}
	}
	return at, errors.Join(w.away, w.unknown)
}

func (w *world) Resume(_ context.Context, _ <-chan struct{}, run string) Outcome {
	w.resumed = append(w.resumed, run)
	if w.stuck != nil {
		return *w.stuck
	}
	w.running = "v4.6.5"
	return Outcome{Done: true, Text: "done"}
}

// The source, the second witness and the update check.

func (w *world) Understand(_ context.Context, from, to builds.Version) (builds.Understanding, error) {
	u := builds.Understanding{From: builds.Release{Version: from}, To: builds.Release{Version: to, Tag: w.tags[to.String()]}, MigrationFree: true, Reversible: true, Order: "sidekiq"}
	if w.changes != nil {
		w.changes(&u.Changes)
	}
	if w.source != nil {
		w.source(&u.To.Tag)
	}
	return u, w.deaf
}

func (w *world) Identify(_ context.Context, tag string) (git.Tag, error) {
	t, ok := w.tags[tag]
	if !ok {
		return t, &git.NoTagError{URL: followed, Tag: tag}
	}
	return t, nil
}

func (w *world) Ask(context.Context, builds.Version) ([]upstream.Update, error) {
	return w.updates, w.feedErr
}

// The people.

func (w *world) Release(r report.Release) {
	if was := w.released[r.Version]; was.Decision != r.Decision || was.Settled != r.Settled || was.Question != r.Question {
		text := r.Version + ": " + r.Decision
		if r.Settled != "" {
			text = r.Version + ": " + r.Settled
		}
		if r.Question != "" {
			text += " (" + r.Question + ")"
		}
		w.words = append(w.words, text)
	}
	w.released[r.Version] = r
}

func (w *world) Notice(key, text string) {
	if !slices.ContainsFunc(w.notices, func(n string) bool { return strings.HasPrefix(n, key+" ") }) {
		w.notices = append(w.notices, key+" "+text)
	}
}
func (w *world) Polled(source string, err error)        { w.polls[source] = err }
func (w *world) Behind(project string, since time.Time) { w.behind[project] = since }

// said holds all that people heard to what they should have.
func (w *world) said(want ...string) {
	w.Helper()
	if !slices.Equal(w.words, want) {
		w.Errorf("said\n  %s\nnot\n  %s", strings.Join(w.words, "\n  "), strings.Join(want, "\n  "))
	}
}

// disk is a Store that refuses what is not newer, as the real one.
type disk map[string]saved

type saved struct {
	seq int64
	b   []byte
}

func (d disk) Load(_ context.Context, id string) ([]byte, error) {
	s, ok := d[id]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return s.b, nil
}

func (d disk) Save(_ context.Context, id string, _, seq int64, b []byte) error {
	if s, ok := d[id]; ok && seq <= s.seq {
		return fmt.Errorf("save %d of %s is %w: %d is stored", seq, id, keeper.ErrStale, s.seq)
	}
	d[id] = saved{seq, bytes.Clone(b)}
	return nil
}
