package report

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"vmst.io/refit/pipeline"
)

// page is what /metrics answers.
func page(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatal(w.Code, w.Body)
	}
	return w.Body.String()
}

func metrics(t *testing.T, o MetricsOptions) *Metrics {
	t.Helper()
	o.Fleet, o.Version = "vmst.io", "v1.2.3"
	m, err := NewMetrics(o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// pending tells whether a change waits to be written.
func (m *Metrics) pending() bool { return len(m.changed) > 0 }

// failing is a run that fails and goes back.
func failing(m *Metrics, now time.Time) {
	m.Begin(Run{ID: "r1", Kind: "upgrade", From: "v4.5.14", To: "v4.5.15", Steps: []pipeline.StepResult{{Name: "build"}, {Name: "roll web kirk"}}})
	m.Observe(pipeline.Event{Kind: pipeline.RunStarted, Time: now})
	m.Observe(pipeline.Event{Kind: pipeline.StepDone, Step: "build", Index: 1, Elapsed: 90 * time.Second})
	m.Observe(pipeline.Event{Kind: pipeline.StepStarted, Step: "roll web kirk", Index: 2})
	m.Observe(pipeline.Event{Kind: pipeline.RequestsFailed, Step: "roll web kirk", Index: 2, Requests: 100, Failed: 7})
	m.Observe(pipeline.Event{Kind: pipeline.RequestsFailed, Step: "roll web kirk", Index: 2, Requests: 100, Failed: 2})
	m.Observe(pipeline.Event{Kind: pipeline.StepFailed, Step: "roll web kirk", Index: 2, Elapsed: 5 * time.Second})
	m.Observe(pipeline.Event{Kind: pipeline.StepUndoing, Step: "roll web kirk", Index: 2})
}

func TestTheMetricsTellWhereARunStands(t *testing.T) {
	now := time.Unix(1800000000, 0)
	m := metrics(t, MetricsOptions{Watcher: true, Now: func() time.Time { return now }})
	defer m.Close(time.Second)
	failing(m, now)
	has(t, "the metrics", page(t, m),
		`refit_run_state{fleet="vmst.io",state="going-back"} 1`, `refit_run_state{fleet="vmst.io",state="running"} 0`,
		`refit_run_info{fleet="vmst.io",from="v4.5.14",kind="upgrade",run="r1",to="v4.5.15"} 1`, `refit_run_step{fleet="vmst.io"} 2`, `refit_run_steps{fleet="vmst.io"} 2`,
		`refit_step_duration_seconds{fleet="vmst.io",outcome="done",step="build"} 90`, `refit_step_duration_seconds{fleet="vmst.io",outcome="failed",step="roll web kirk"} 5`,
		`refit_gate_failed_requests_total{fleet="vmst.io"} 9`, `refit_run_start_time_seconds{fleet="vmst.io"} 1.8e+09`, `refit_step_failures_total{fleet="vmst.io",step="roll web kirk"} 1`,
		`refit_build_info{fleet="vmst.io",version="v1.2.3"} 1`, `refit_run_end_time_seconds{fleet="vmst.io"} 0`)
	m.Observe(pipeline.Event{Kind: pipeline.RunEnded, Text: string(pipeline.Undone), Time: now.Add(time.Minute)})
	has(t, "the metrics", page(t, m), `state="undone"} 1`, `state="going-back"} 0`, `refit_run_end_time_seconds{fleet="vmst.io"} 1.80000006e+09`)
	m.Begin(Run{ID: "r2", Steps: []pipeline.StepResult{{Name: "build", State: pipeline.Finish, Seconds: 12}}})
	after := page(t, m)
	has(t, "the metrics", after, `run="r2"`, `step="build"} 12`)
	if strings.Contains(after, `run="r1"`) || strings.Contains(after, `outcome="failed"`) {
		t.Errorf("an old run is told on:\n%s", after)
	}
}

func TestBehindGrowsUntilTheReleaseRunsHere(t *testing.T) {
	now := time.Unix(1800000000, 0)
	m := metrics(t, MetricsOptions{Watcher: true, Now: func() time.Time { return now }})
	defer m.Close(time.Second)
	m.Behind("Mastodon", now.Add(-time.Hour))
	m.Behind("Elk", time.Time{})
	m.Polled("github", nil)
	m.Polled("update-check", errors.New("down"))
	has(t, "the metrics", page(t, m), `refit_behind_seconds{fleet="vmst.io",project="Mastodon"} 3600`, `refit_behind_seconds{fleet="vmst.io",project="Elk"} 0`,
		`refit_last_poll_timestamp_seconds{fleet="vmst.io",source="github"} 1.8e+09`, `refit_poll_failures_total{fleet="vmst.io",source="update-check"} 1`, `refit_poll_failures_total{fleet="vmst.io",source="github"} 0`)
	now = now.Add(time.Minute)
	has(t, "the metrics", page(t, m), `project="Mastodon"} 3660`)
	m.Behind("Mastodon", time.Time{})
	has(t, "the metrics", page(t, m), `project="Mastodon"} 0`)
}

func TestTheNamesAreAsPrometheusWantsThemAndThePageNamesThemAll(t *testing.T) {
	m := metrics(t, MetricsOptions{Watcher: true})
	defer m.Close(time.Second)
	failing(m, time.Now())
	m.Behind("Mastodon", time.Now())
	m.Polled("github", nil)
	text := page(t, m)
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", err, problems)
	}
	doc, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`(?m)^# TYPE (refit_\w+) (\w+)`).FindAllStringSubmatch(text, -1)
	if len(names) < 13 {
		t.Fatalf("%d metrics: the check saw too little", len(names))
	}
	for _, n := range names {
		if !strings.Contains(string(doc), "| `"+n[1]) || !strings.Contains(string(doc), "| "+n[2]+" |") {
			t.Errorf("docs/metrics.md lacks %s, a %s", n[1], n[2])
		}
	}
	for _, n := range regexp.MustCompile("(?m)^\\| `(refit_\\w+)").FindAllStringSubmatch(string(doc), -1) {
		if !strings.Contains(text, "# TYPE "+n[1]+" ") {
			t.Errorf("docs/metrics.md names %s, which is none", n[1])
		}
	}
	for _, s := range runStates {
		if !strings.Contains(string(doc), "`"+s+"`") {
			t.Errorf("docs/metrics.md lacks the state %s", s)
		}
	}
}

func TestTheTextfileIsReplacedAsAWholeAndHasTheLastWord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "refit.prom")
	m := metrics(t, MetricsOptions{Textfile: path})
	failing(m, time.Now())
	for m.pending() { // until the first file is being written
		runtime.Gosched()
	}
	m.Observe(pipeline.Event{Kind: pipeline.RunEnded, Text: string(pipeline.Undone), Time: time.Now()})
	if said := m.Close(10 * time.Second); len(said) > 0 {
		t.Error(said)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	has(t, "the textfile", string(b), `state="undone"} 1`, "refit_gate_failed_requests_total")
	if strings.Contains(string(b), "refit_behind_seconds") {
		t.Error("a run tells how far the fleet is behind, which it does not know")
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v %v: node_exporter is another user", info.Mode(), err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("%v %v", left, err)
	}
}

// node_exporter reads all files of a folder as one, and drops what stands there twice.
func TestTheTextfilesOfAWatcherAndOfItsRunShareNoMetric(t *testing.T) {
	dir := t.TempDir()
	run, watch := filepath.Join(dir, "refit.prom"), filepath.Join(dir, "refit-watch.prom")
	m, w := metrics(t, MetricsOptions{Textfile: run}), metrics(t, MetricsOptions{Textfile: watch, Watcher: true})
	w.Behind("Mastodon", time.Now())
	w.Polled("github", nil)
	failing(m, time.Now())
	failing(w, time.Now()) // the watcher's /metrics tells of the run too
	if said := append(m.Close(10*time.Second), w.Close(10*time.Second)...); len(said) > 0 {
		t.Error(said)
	}
	name := regexp.MustCompile(`(?m)^# TYPE (\S+)`)
	seen := map[string]string{}
	for _, path := range []string{run, watch} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found := name.FindAllStringSubmatch(string(b), -1)
		if len(found) < 3 {
			t.Errorf("%s holds %d metrics:\n%s", path, len(found), b)
		}
		for _, n := range found {
			if other := seen[n[1]]; other != "" {
				t.Errorf("%s stands in %s and in %s", n[1], other, path)
			}
			seen[n[1]] = path
		}
	}
	has(t, "/metrics of the watcher", page(t, w), "refit_behind_seconds", "refit_run_state", "refit_step_duration_seconds", "refit_gate_failed_requests_total")
}

func TestTheTextfileOfARunThatIsBusyWithOneStepStaysYoung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "refit.prom")
		m := metrics(t, MetricsOptions{Textfile: path})
		pass(2 * textfileBeat)
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("an older run's last word is gone before this one began (%v)", err)
		}
		failing(m, time.Now())
		pass(2 * textfileEvery)
		m.Observe(pipeline.Event{Kind: pipeline.StepStarted, Step: "record", Index: 7})
		pass(2 * textfileEvery)
		if b, err := os.ReadFile(path); err != nil || !strings.Contains(string(b), `refit_run_step{fleet="vmst.io"} 7`) {
			t.Errorf("it does not say which step is at work (%v):\n%s", err, b)
		}
		for range 3 {
			if err := os.Remove(path); err != nil {
				t.Errorf("the file was not written again: %v", err)
			}
			pass(textfileBeat + textfileEvery)
		}
		m.Close(time.Second)
	})
}

func TestARunThatNeverBeganLeavesTheLastWordOfTheOneBefore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "refit.prom")
	if err := os.WriteFile(path, []byte("a person is needed"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := metrics(t, MetricsOptions{Textfile: path})
	m.Begin(Run{ID: "r2"})
	m.Observe(pipeline.Event{Kind: pipeline.LockLate, Time: time.Now()})
	if said := m.Close(10 * time.Second); len(said) > 0 {
		t.Error(said)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "a person is needed" {
		t.Errorf("%s %v", b, err)
	}
}

func TestAFolderThatIsNotThereFailsNoRun(t *testing.T) {
	m := metrics(t, MetricsOptions{Textfile: filepath.Join(t.TempDir(), "away", "refit.prom")})
	failing(m, time.Now())
	has(t, "what is said", strings.Join(m.Close(10*time.Second), "\n"), "refit.prom are old", "no such file")
}

// kumaServer is an Uptime Kuma in process.
type kumaServer struct {
	pushes []string
	answer int
	hang   bool
}

func (s *kumaServer) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.hang {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	s.pushes = append(s.pushes, r.Method+" "+r.URL.Path+" "+r.URL.Query().Get("status")+" "+r.URL.Query().Get("msg")+" ping="+r.URL.Query().Get("ping"))
	<-time.After(20 * time.Millisecond)
	return &http.Response{StatusCode: s.answer, Body: io.NopCloser(strings.NewReader(`{"ok":true}`)), Request: r}, nil
}

func kuma(t *testing.T, s *kumaServer) *Kuma {
	t.Helper()
	k, err := NewKuma(KumaOptions{URL: "https://status.vmst.io/api/push/s3cretToken?status=up&msg=OK&ping=", Client: &http.Client{Transport: s}})
	if err != nil {
		t.Fatal(err)
	}
	k.Begin(Run{Fleet: "vmst.io", Kind: "upgrade", From: "v4.5.14", To: "v4.5.15"})
	return k
}

func TestUptimeKumaHearsOfAFailureAtOnceAndOfTheRestByTheMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &kumaServer{answer: http.StatusOK}
		k := kuma(t, s)
		k.Observe(pipeline.Event{Kind: pipeline.RunStarted})
		for i := range 10 {
			k.Observe(pipeline.Event{Kind: pipeline.StepStarted, Step: "build", Index: i, Total: 10})
			pass(20 * time.Second)
		}
		if len(s.pushes) < 4 || len(s.pushes) > 5 {
			t.Errorf("%d pushes in 200 seconds: %q", len(s.pushes), s.pushes)
		}
		n := len(s.pushes)
		k.Observe(pipeline.Event{Kind: pipeline.StepFailed, Step: "build", Err: "no space; " + k.o.URL})
		pass(time.Second)
		k.Observe(pipeline.Event{Kind: pipeline.RunEnded, Text: string(pipeline.Undone), Err: "no space"})
		if said := k.Close(10 * time.Second); len(said) > 0 {
			t.Error(said)
		}
		all := strings.Join(s.pushes, "\n")
		has(t, "the pushes", all, "GET /api/push/s3cretToken up vmst.io: upgrade v4.5.14 → v4.5.15", "step 2 of 10, build ping=20", "down vmst.io: upgrade v4.5.14 → v4.5.15 failed in build: no space", "failed and taken back: no space")
		if len(s.pushes) != n+2 || strings.Count(all, "s3cretToken") != len(s.pushes) {
			t.Errorf("%q", s.pushes)
		}
	})
}

// What is said while a push is under way is not told by it.
func TestARunsEndIsPushedThoughTheFailureBeforeItIsStillOnItsWay(t *testing.T) {
	for range 20 { // the end of the run and that of the process come at once, in either order
		synctest.Test(t, func(t *testing.T) {
			s := &kumaServer{answer: http.StatusOK}
			k := kuma(t, s)
			k.Observe(pipeline.Event{Kind: pipeline.StepFailed, Step: "build", Err: "no space"})
			synctest.Wait() // the push is under way, for 20 milliseconds
			k.Observe(pipeline.Event{Kind: pipeline.RunEnded, Text: string(pipeline.Undone), Err: "no space"})
			if said := k.Close(10 * time.Second); len(said) > 0 {
				t.Error(said)
			}
			has(t, "the last push", s.pushes[len(s.pushes)-1], "failed and taken back")
		})
	}
}

func TestAStatusPageThatDoesNotAnswerHoldsNothingUpAndItsURLIsNeverTold(t *testing.T) {
	for want, s := range map[string]*kumaServer{"HTTP 404": {answer: http.StatusNotFound}, "deadline exceeded": {hang: true}, "canceled": {hang: true}} {
		synctest.Test(t, func(t *testing.T) {
			k := kuma(t, s)
			limit := 30 * time.Second
			if want == "canceled" {
				limit = time.Second
			}
			k.Observe(pipeline.Event{Kind: pipeline.RunStarted})
			k.Observe(pipeline.Event{Kind: pipeline.RunEnded, Text: string(pipeline.Done)})
			began := time.Now()
			said := strings.Join(k.Close(limit), "\n")
			has(t, "what is said", said, "Uptime Kuma was not told", want)
			if took := time.Since(began); took > limit || strings.Contains(said, "s3cret") {
				t.Errorf("%s, %s", took, said)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		k := kuma(t, &kumaServer{hang: true})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := k.get(ctx, k.url.String()); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Error(err)
		}
		k.Close(time.Second)
	})
	if _, err := NewKuma(KumaOptions{URL: "ftp://status/s3cret\x00"}); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Error(err)
	}
}
