package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmst.io/refit/builds/policy"
	"vmst.io/refit/hosts/github/githubtest"
	"vmst.io/refit/stages/watcher"
)

// followedUpstream is a repository of our own making that a simulated GitHub knows too,
// and a refit.yml that names both. No host of its fleet answers.
type followedUpstream struct {
	*githubtest.Server
	dir, config string
}

func followed(t *testing.T, more string) followedUpstream {
	t.Helper()
	f := followedUpstream{Server: githubtest.New(githubtest.Options{Fail: t.Error}), dir: someReleases(t)}
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	f.AddRepo("mastodon/mastodon")
	at := f.serve(t)
	for _, tag := range []string{"v4.5.14", "v4.5.15", "v4.6.0"} {
		object := f.git(t, "rev-parse", tag)
		commit := f.git(t, "rev-parse", tag+"^{commit}")
		one := githubtest.Tag{Name: tag, Commit: commit, Tree: f.git(t, "rev-parse", tag+"^{tree}")}
		if object != commit {
			one.Objects = []string{object}
		}
		f.SetTag("mastodon/mastodon", one)
		body := "## Upgrade notes\n\nTo get the code for " + tag + ", use `git fetch && git checkout " + tag + "`.\n\n### Update steps\n\n" +
			"The following instructions are for updating from 4.5.14.\n\n1. Restart all Mastodon processes.\n"
		f.Publish("mastodon/mastodon", githubtest.Release{Tag: tag, Body: body})
	}
	text := string(exampleYML)
	for old, is := range map[string]string{
		"https://github.com/mastodon/mastodon.git":        "file://" + f.dir,
		"  # github: mastodon/mastodon ":                  "  github: mastodon/mastodon #",
		"  # api: https://api.github.com/":                "  api: " + at,
		"feed: https://api.joinmastodon.org/update-check": "feed: none",
		"connect: 10s":               "connect: 1s",
		"known_hosts: ./known_hosts": "known_hosts: ./refit.yml",
		"key: ~/.ssh/refit":          "key: ./refit.yml",
		"# Who is told beside the terminal (docs/telling.md). None": more + "\n# None",
	} {
		if !strings.Contains(text, old) {
			t.Fatalf("the example holds no %q", old)
		}
		text = strings.Replace(text, old, is, 1)
	}
	f.config = filepath.Join(t.TempDir(), "refit.yml")
	if err := os.WriteFile(f.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f followedUpstream) git(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = f.dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %v: %v", args, err)
	}
	return strings.TrimSpace(string(out))
}

func (f followedUpstream) serve(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- f.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String() + "/"
}

// sightOf is what `refit releases --json` prints.
func (f followedUpstream) sightOf(t *testing.T, wantCode int, args ...string) map[string]any {
	t.Helper()
	code, out, errs := command(t.Context(), append([]string{"releases", "--json", "--config", f.config}, args...)...)
	var sight map[string]any
	if err := json.Unmarshal([]byte(out), &sight); code != wantCode || err != nil {
		t.Fatalf("code %d, %v: %s\n%s", code, err, out, errs)
	}
	return sight
}

func TestReleasesAreSeenPinnedUnderstoodAndDecidedOn(t *testing.T) {
	f := followed(t, "")
	sight := f.sightOf(t, exitDone, "--running", "v4.5.14")
	got := text(t, sight["candidates"])
	for _, want := range []string{
		`"version":"v4.5.15"`, `"kind":"patch"`, `"act":"ask"`, `"do":"ask"`, `"commit":"` + f.git(t, "rev-parse", "v4.5.15^{commit}") + `"`,
		`"no migrations: it can be undone at any time"`, `"version":"v4.6.0"`, `"kind":"minor"`, `"act":"notify"`, `"do":"tell"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	if got := text(t, sight["schema"]); got != `"refit.releases/v1"` {
		t.Error(got)
	}
	code, out, _ := command(t.Context(), "releases", "--config", f.config, "--running", "v4.5.14")
	if code != exitDone || !strings.Contains(out, "v4.5.15  patch, published ") || !strings.Contains(out, "asked for: the policy is to ask before a patch release") {
		t.Errorf("code %d: %s", code, out)
	}
}

func TestAMovedTagIsNotBegunAndNamedWithBothCommits(t *testing.T) {
	f := followed(t, "")
	f.SetTag("mastodon/mastodon", githubtest.Tag{Name: "v4.5.15", Commit: githubtest.Hash("another"), Tree: githubtest.Hash("tree")})
	got := text(t, f.sightOf(t, exitDone, "--running", "v4.5.14")["candidates"])
	if !strings.Contains(got, "the witnesses disagree") || !strings.Contains(got, githubtest.Hash("another")[:12]) || !strings.Contains(got, `"do":"refuse"`) {
		t.Error(got)
	}
}

func TestAFailingGitHubIsAFailureAndNotNothingNew(t *testing.T) {
	f := followed(t, "")
	f.Trouble(githubtest.Trouble{Times: -1, Status: 401, Header: http.Header{"Content-Type": {"application/json"}}, Body: `{"message":"Bad credentials"}`})
	code, out, errs := command(t.Context(), "releases", "--config", f.config, "--running", "v4.5.14")
	if code != exitFailed || !strings.Contains(errs, "expired or revoked") {
		t.Errorf("code %d: %s%s", code, out, errs)
	}
}

func TestNotesOfAReleaseComeFromGitHub(t *testing.T) {
	f := followed(t, "")
	code, out, errs := command(t.Context(), "notes", "--config", f.config, "--release", "v4.5.15")
	if code != exitDone || !strings.Contains(out, "v4.5.15: nothing is left to you") {
		t.Errorf("code %d: %s%s", code, out, errs)
	}
	code, _, errs = command(t.Context(), "notes", "--config", f.config, "--release", "v4.5.99")
	if code != exitFailed || !strings.Contains(errs, "the release v4.5.99 of mastodon/mastodon") {
		t.Errorf("code %d: %s", code, errs)
	}
}

func TestALookAtAFleetThatDoesNotAnswerEndsWithAFailure(t *testing.T) {
	f := followed(t, "")
	code, out, errs := command(t.Context(), "watch", "--once", "--json", "--config", f.config)
	if code != exitFailed || !strings.Contains(out, `"source": "the fleet"`) || !strings.Contains(errs, "the fleet: ") {
		t.Errorf("code %d: %s%s", code, out, errs)
	}
	// What was seen is remembered all the same: the next look begins with it.
	if _, err := os.Stat(filepath.Join(os.Getenv("XDG_STATE_HOME"), "refit", "vmst.io", "watch", "follow-mastodon-mastodon.json")); err != nil {
		t.Error(err)
	}
}

// That it takes no longer than a second is held by a clock that no busy machine slows
// down: in stages/watcher, and by watchLast for what is left to tell.
func TestASigtermEndsAnIdleWatcherAndItServesItsMetricsUntilThen(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	f := followed(t, "")
	b, err := os.ReadFile(f.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.config, []byte(strings.Replace(string(b), "# listen: 127.0.0.1:9465", "listen: "+at, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan string, 1)
	go func() {
		code, out, errs := command(t.Context(), "watch", "--config", f.config)
		ended <- fmt.Sprint(code, out, errs)
	}()
	if shown := awaitMetrics(t, "http://"+at+"/", "vmst.io: refit"); !strings.Contains(shown, "Behind upstream") {
		t.Error(shown)
	}
	metrics := awaitMetrics(t, "http://"+at+"/metrics", `refit_last_poll_timestamp_seconds{fleet="vmst.io",source="mastodon/mastodon"}`)
	if !strings.Contains(metrics, `refit_poll_failures_total{fleet="vmst.io",source="the fleet"} 1`) {
		t.Error(metrics)
	}
	began := time.Now()
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := <-ended; !strings.HasPrefix(got, "0") {
		t.Error(got)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}

// awaitMetrics asks until the metrics hold a line, as long as the test may last.
func awaitMetrics(t *testing.T, url, want string) string {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			b, err := io.ReadAll(resp.Body)
			if err := resp.Body.Close(); err != nil {
				t.Fatal(err)
			}
			if err == nil && strings.Contains(string(b), want) {
				return string(b)
			}
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the metrics never came")
		}
	}
}

func TestATagIsUnpinnedByAPersonAlone(t *testing.T) {
	f := followed(t, "")
	code, _, errs := command(t.Context(), "releases", "--config", f.config, "--unpin", "v4.5.15")
	if code != exitRefused || !strings.Contains(errs, "v4.5.15 of mastodon/mastodon is not pinned") {
		t.Errorf("code %d: %s", code, errs)
	}
}

func TestAWatcherWhoseSecretsAreMissingDoesNotBegin(t *testing.T) {
	f := followed(t, "notify: {slack: {channel: C0123456789, token: {env: REFIT_NO_SUCH_TOKEN}}}")
	code, _, errs := command(t.Context(), "watch", "--config", f.config)
	if code != exitUsage || !strings.Contains(errs, "REFIT_NO_SUCH_TOKEN") {
		t.Errorf("code %d: %s", code, errs)
	}
}

func TestAnApprovalNamesThePlan(t *testing.T) {
	f := followed(t, "")
	code, _, errs := command(t.Context(), "approve", "--config", f.config, "--to", "v4.5.15")
	if code != exitUsage || !strings.Contains(errs, "--plan") {
		t.Errorf("code %d: %s", code, errs)
	}
}

func TestAWatcherThatIsToldToStopWaitsForNobodyLong(t *testing.T) {
	stop := make(chan struct{})
	if got := lastWords(stop); got != tellLimit {
		t.Errorf("after a look %s", got)
	}
	close(stop)
	if got := lastWords(stop); got != watchLast || got >= time.Second {
		t.Errorf("told to stop: %s", got)
	}
}

func TestNothingOfUpstreamsBeginsALineOrMovesATerminal(t *testing.T) {
	const evil = "a\n::add-path::/tmp\r\n\x1b[2J\u202eb"
	text := sightText(watcher.Sight{Gone: []string{evil}, Candidates: []watcher.Candidate{{
		URL: "::" + evil, Doubts: []string{evil}, Brings: []string{evil}, Advisory: []string{evil}, Decision: policy.Decision{Reason: evil},
	}}})
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "::") || strings.ContainsAny(line, "\x1b\r\u202e") {
			t.Errorf("%q", line)
		}
	}
	if n := strings.Count(text, "::add-path::"); n != 6 {
		t.Errorf("%d of its texts are shown:\n%s", n, text)
	}
}
