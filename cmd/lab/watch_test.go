package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmst.io/refit/hosts/github/githubtest"
	"vmst.io/refit/pipeline/report/slacktest"
)

// onLast gives the fleet on the last release of the stand-in or a later one, and its name.
func onLast(t *testing.T) (*fleet, string) {
	t.Helper()
	f := theFleet(t)
	if now := f.release(t); strings.HasPrefix(now, "v4.7.") {
		return f, now
	}
	on(t, "v4.6.0")
	return on(t, "v4.7.0"), "v4.7.0"
}

// release is what the first web node runs.
func (f *fleet) release(t *testing.T) string {
	t.Helper()
	out, err := f.Exec(t.Context(), "kirk", "readlink", "/home/mastodon/live")
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(strings.TrimSpace(out))
}

// watched is the fleet with a GitHub and a Slack beside it.
type watched struct {
	*fleet
	hub    *githubtest.Server
	slack  *slacktest.Server
	config string
}

func (f *fleet) watched(t *testing.T, policy string) *watched {
	t.Helper()
	w := &watched{fleet: f, hub: githubtest.New(githubtest.Options{Fail: t.Error, Anonymous: 5000}), slack: slacktest.New(slacktest.Options{})}
	token := filepath.Join(t.TempDir(), "slack-token")
	if err := os.WriteFile(token, []byte(w.slack.Token()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Config())
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if !strings.Contains(text, "/git/mastodon.git\n") {
		t.Fatalf("the lab's refit.yml is not as this test knows it:\n%s", text)
	}
	text = strings.Replace(text, "/git/mastodon.git\n", "/git/mastodon.git\n  github: mastodon/mastodon\n  api: "+w.serve(t, "127.0.0.1:0", w.hub)+"/\n", 1)
	text += "\nwatch:\n  every: 1m\n  feed: none\n\npolicy:\n  patch: " + policy + "\n  settle: 0s\n\nnotify:\n  slack:\n    channel: " + w.slack.Channel() +
		"\n    token: {file: " + token + "}\n    api: " + w.serve(t, "127.0.0.1:0", w.slack) + "/api/\n"
	w.config = filepath.Join(t.TempDir(), "refit.yml")
	w.write(t, text)
	w.hub.AddRepo("mastodon/mastodon")
	w.offer(t, f.release(t))
	return w
}

func (w *watched) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(w.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// git runs git in upstream's repository.
func (w *watched) git(t *testing.T, script string, args ...string) string {
	t.Helper()
	out, err := w.Exec(t.Context(), "uhura", append([]string{"runuser", "-u", "git", "--", "sh", "-ec", "cd /srv/git/mastodon.git; " + script, "sh"}, args...)...)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(out)
}

// commitNext commits a release $2 over $1, with another version.
const commitNext = `export GIT_INDEX_FILE=$(mktemp -u) GIT_AUTHOR_NAME=upstream GIT_AUTHOR_EMAIL=up@stream.example GIT_COMMITTER_NAME=upstream GIT_COMMITTER_EMAIL=up@stream.example
git read-tree $1
put() { git update-index --cacheinfo 100644,$(git hash-object -w --stdin),$1; }
git show $1:lib/mastodon/version.rb | sed "/def patch/{n;s/[0-9]*$/${2##*.}/}" | put lib/mastodon/version.rb
git tag $2 $(git commit-tree $(git write-tree) -p $1^{commit} -m $2)
rm -f $GIT_INDEX_FILE`

// publish makes a release over the one before it and publishes it.
func (w *watched) publish(t *testing.T, before, name string) {
	t.Helper()
	w.git(t, commitNext, before, name)
	w.offer(t, name)
}

// offer publishes on GitHub what git has.
func (w *watched) offer(t *testing.T, name string) {
	t.Helper()
	object, commit := w.git(t, "git rev-parse $1", name), w.git(t, "git rev-parse $1^{commit}", name)
	tag := githubtest.Tag{Name: name, Commit: commit, Tree: w.git(t, "git rev-parse $1^{tree}", name)}
	if object != commit {
		tag.Objects = []string{object}
	}
	w.hub.SetTag("mastodon/mastodon", tag)
	w.hub.Publish("mastodon/mastodon", githubtest.Release{
		Tag: name, Published: time.Now().Add(-time.Minute),
		Body: "## Upgrade notes\n\nTo get the code for " + name + ", use `git fetch && git checkout " + name + "`.\n\n### Update steps\n\n1. Restart all Mastodon processes.\n",
	})
}

// look is one look of the watcher, and what it decided on a release.
func (w *watched) look(t *testing.T, release string) (do, plan string) {
	t.Helper()
	a := w.must(t, 0, w.config, []string{"watch", "--once", "--json"})
	var sight struct {
		Candidates []struct {
			Version, Plan string
			Decision      struct{ Do, Reason string }
		}
	}
	if err := json.Unmarshal([]byte(a.out), &sight); err != nil {
		t.Fatalf("%v: %s", err, a)
	}
	for _, c := range sight.Candidates {
		if c.Version == release {
			t.Logf("%s: %s: %s", release, c.Decision.Do, c.Decision.Reason)
			return c.Decision.Do, c.Plan
		}
	}
	return "", ""
}

// TestLabAReleaseThatIsPublishedIsRolledWithoutAHand publishes one under `auto`, kills the
// watcher while it rolls a web node, and starts another.
func TestLabAReleaseThatIsPublishedIsRolledWithoutAHand(t *testing.T) {
	f, running := onLast(t)
	w := f.watched(t, "auto")
	before := f.fingerprint(t)
	if do, _ := w.look(t, "v4.7.1"); do != "" {
		t.Fatalf("a release that is not out is to be %s", do)
	}
	f.same(t, before)
	w.publish(t, running, "v4.7.1")
	f.underLoad(t, func() {
		first := f.errand(t, w.config, "watch")
		first.hears(t, 0, "roll web kirk: begun")
		if err := first.c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-first.over
		second := f.errand(t, w.config, "watch")
		second.hears(t, 0, "DONE")
		if err := second.c.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		second.ends(t, 0)
	})
	f.runsEverywhere(t, "v4.7.1")
	f.well(t)
	w.wasTold(t, "v4.7.1")
}

// wasTold asks that Slack holds one message for the release and one for its run, both
// edited in place, and nothing twice.
func (w *watched) wasTold(t *testing.T, release string) {
	t.Helper()
	if v := w.slack.Violations(); len(v) > 0 {
		t.Errorf("Slack's rules were broken: %q", v)
	}
	var keys, roots []string
	for _, m := range w.slack.Messages() {
		t.Logf("slack: %s%s (%d edits) %s: %s", m.TS, map[bool]string{true: " in " + m.Thread}[m.Thread != ""], m.Edits(), m.Key, m.Text)
		if m.Key != "" && slices.Contains(keys, m.Key) {
			t.Errorf("told twice: %s", m.Text)
		}
		keys = append(keys, m.Key)
		if m.Thread == "" && strings.Contains(m.Text, release) {
			roots = append(roots, m.Text)
		}
	}
	if len(roots) != 2 {
		t.Errorf("%d messages name %s, not one for the release and one for the run: %q", len(roots), release, roots)
	}
}

func TestLabAReleaseThatIsAskedForWaitsForTheApprovalOfItsPlan(t *testing.T) {
	f, running := onLast(t)
	w := f.watched(t, "ask")
	next := running[:len("v4.7.")] + string(running[len("v4.7.")]+1)
	w.publish(t, running, next)
	before := f.fingerprint(t)
	do, plan := w.look(t, next)
	if do != "ask" || plan == "" {
		t.Fatalf("%s: %q, plan %q", next, do, plan)
	}
	approve := func(code int, hash string, words ...string) {
		t.Helper()
		f.must(t, code, w.config, []string{"approve", "--to", next, "--plan", hash, "--yes"}, words...)
	}
	approve(3, strings.Repeat("0", len(plan)), "it has changed since", plan)
	approve(0, plan, "approved: plan "+plan)

	// Another plan is not what was approved.
	b, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, strings.Replace(string(b), "soak: 5s", "soak: 6s", 1))
	do, changed := w.look(t, next)
	if do != "ask" || changed == "" || changed == plan {
		t.Fatalf("after refit.yml changed: %q, plan %q, before %q", do, changed, plan)
	}
	f.same(t, before)

	approve(0, changed)
	f.underLoad(t, func() { w.look(t, next) })
	f.runsEverywhere(t, next)
	f.well(t)
	w.wasTold(t, next)
}
