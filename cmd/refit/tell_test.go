package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/pipeline/report"
	"vmst.io/refit/pipeline/report/slacktest"
	"vmst.io/refit/stages"
)

// told is a session whose refit.yml names a Slack, an Uptime Kuma and a textfile, and
// those.
type told struct {
	*session
	slack *slacktest.Server
	prom  string

	mu     sync.Mutex
	pushes []string
}

func tells(t *testing.T) *told {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_STATE_HOME", filepath.Join(dir, "state"))
	x := &told{slack: slacktest.New(slacktest.Options{}), prom: filepath.Join(dir, "refit.prom")}
	api := httptest.NewServer(x.slack)
	t.Cleanup(api.Close)
	kuma := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.pushes = append(x.pushes, r.URL.Query().Get("status")+" "+r.URL.Query().Get("msg"))
	}))
	t.Cleanup(kuma.Close)
	for name, text := range map[string]string{"token": x.slack.Token(), "kuma": kuma.URL + "/api/push/s3cret?status=up"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := defaults()
	c.Fleet, c.dir, c.Metrics.Textfile = "vmst.io", dir, x.prom
	c.Notify = notifyConfig{
		Slack: &slackConfig{Channel: x.slack.Channel(), Token: &secretConfig{File: "token"}, API: api.URL + "/api/"},
		Kuma:  &kumaConfig{URL: &secretConfig{File: "kuma"}},
	}
	x.session = &session{config: c, keeper: &keeper.Keeper{Me: keeper.Holder{User: "ops", Host: "bridge"}}}
	return x
}

func (x *told) run() execution {
	return execution{
		plan: pipeline.Plan{ID: "20260101-000000-abcde", Kind: "upgrade", From: "v4.5.14", To: "v4.5.15"}, facts: &stages.Facts{}, why: "upgrade --to v4.5.15",
	}
}

func TestARunIsToldToAllWhomTheConfigurationNames(t *testing.T) {
	x := tells(t)
	tellers := x.tellers(x.run().plan.ID)
	tellers.begin(x.runOf(x.run(), []report.HostRow{{Name: "kirk", Roles: "web", State: "running"}}))
	watch := tellers.watched()
	for _, e := range []pipeline.Event{
		{Kind: pipeline.RunStarted, Text: "upgrade"},
		{Kind: pipeline.StepFailed, Step: "build", Index: 1, Err: "postgres://mastodon:hunter2@majel broke"},
		{Kind: pipeline.RunEnded, Text: string(pipeline.Undone), Err: "it broke"},
	} {
		e.Time = time.Now()
		watch.Observe(e)
	}
	tellers.end(report.Summarise(x.run().plan, pipeline.Result{Status: pipeline.Undone}, report.Extra{Exit: exitFailed}))
	if said := tellers.close(t.Context()); len(said) > 0 {
		t.Errorf("%q", said)
	}
	list := x.slack.Messages()
	if len(list) < 3 || len(x.slack.Violations()) > 0 {
		t.Fatalf("%+v %q", list, x.slack.Violations())
	}
	if root := list[0].Said[len(list[0].Said)-1]; !strings.Contains(root, "ops on bridge") || !strings.Contains(root, "upgrade --to v4.5.15") || !strings.Contains(root, "failed and taken back") {
		t.Error(root)
	}
	for _, m := range list {
		if strings.Contains(strings.Join(m.Said, ""), "hunter2") {
			t.Error("a password is told: ", m.Said)
		}
	}
	if b, err := os.ReadFile(x.prom); err != nil || !strings.Contains(string(b), `state="undone"} 1`) {
		t.Errorf("%v\n%s", err, b)
	}
	if len(x.pushes) == 0 || !strings.HasPrefix(x.pushes[len(x.pushes)-1], "down vmst.io: upgrade") {
		t.Errorf("%q", x.pushes)
	}
	if said := x.cannotTell(t.Context()); len(said) > 0 {
		t.Errorf("%q", said)
	}
}

func TestARunWhoseProcessWasKilledAtItsEndIsToldByTheNextCommand(t *testing.T) {
	x := tells(t)
	tellers := x.tellers(x.run().plan.ID)
	tellers.begin(x.runOf(x.run(), nil))
	tellers.watched().Observe(pipeline.Event{Kind: pipeline.RunStarted, Time: time.Now(), Text: "upgrade"})
	tellers.close(t.Context())
	j := pipeline.NewJournal(x.run().plan, nil, 1, time.Now())
	j.Outcome = pipeline.Done
	var said []string
	for range 2 {
		x.lookBack(t.Context(), j, func(format string, _ ...any) { said = append(said, format) })
	}
	list := x.slack.Messages()
	ends := 0
	for _, m := range list {
		if strings.Contains(m.Key, "/end/") {
			ends++
		}
	}
	if len(said) > 0 || ends != 1 || !strings.Contains(list[0].Text, "done") {
		t.Errorf("%q, %d ends: %+v", said, ends, list)
	}
}

func TestWhoCannotBeToldIsAWarningAndFailsNothing(t *testing.T) {
	for want, change := range map[string]func(*told){
		"Slack's token: open":              func(x *told) { x.config.Notify.Slack.Token.File = "away" },
		"the environment has no REFIT_NIX": func(x *told) { x.config.Notify.Slack.Token = &secretConfig{Env: "REFIT_NIX"} },
		"Slack cannot be told: the token":  func(x *told) { x.slack.Revoke() },
		"invite it there":                  func(x *told) { x.slack.Kick(true) },
		"cannot reach Slack":               func(x *told) { x.config.Notify.Slack.API = "http://127.0.0.1:1/api/" },
		"is no folder":                     func(x *told) { x.config.Metrics.Textfile = "/nowhere/at/all/refit.prom" },
		"Uptime Kuma's push URL: open":     func(x *told) { x.config.Notify.Kuma.URL.File = "away" },
		"is no http or https URL":          func(x *told) { x.config.Notify.Kuma.URL.File = "token" },
		"chmod 600": func(x *told) {
			if err := os.Chmod(filepath.Join(x.config.dir, "token"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(want, func(t *testing.T) {
			x := tells(t)
			change(x)
			said := strings.Join(x.cannotTell(t.Context()), "\n")
			if !strings.Contains(said, want) || strings.Contains(said, x.slack.Token()) || strings.Contains(said, "s3cret") {
				t.Errorf("%q, want %q", said, want)
			}
			tellers := x.tellers(x.run().plan.ID)
			tellers.begin(x.runOf(x.run(), nil))
			tellers.watched().Observe(pipeline.Event{Kind: pipeline.RunStarted, Time: time.Now()})
			tellers.close(t.Context())
		})
	}
}

// The commented part of the example is a configuration too.
func TestTheExampleShowsWhoCanBeTold(t *testing.T) {
	var on []string
	within := false
	for line := range strings.Lines(string(exampleYML)) {
		if strings.HasPrefix(line, "# notify:") || strings.HasPrefix(line, "# metrics:") {
			within = true
		}
		text, commented := strings.CutPrefix(line, "# ")
		if !commented {
			within = false
		}
		if within {
			on = append(on, text)
		}
	}
	var shown struct {
		Notify  notifyConfig  `yaml:"notify"`
		Metrics metricsConfig `yaml:"metrics"`
	}
	if err := yaml.UnmarshalWithOptions([]byte(strings.Join(on, "")), &shown, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	if shown.Notify.Slack == nil || shown.Notify.Slack.Token == nil || shown.Notify.Kuma == nil || shown.Metrics.Textfile == "" {
		t.Fatalf("%+v", shown)
	}
	c, err := parseConfig("example.yml", append(append([]byte{}, exampleYML...), []byte(strings.Join(on, ""))...))
	if err != nil || c.Notify.Slack.Deadline != 10*time.Minute || c.Notify.Kuma.URL.File == "" {
		t.Errorf("%v %+v", err, c.Notify)
	}
}

func TestASecretInTheFileItselfIsRefusedAndNotShown(t *testing.T) {
	for _, part := range []string{
		`notify: {slack: {channel: C0123456789, token: xoxb-1234567890-hunter2}}`,
		`notify: {slack: {channel: C0123456789, token: {env: xoxb-1234567890-hunter2}}}`,
		`notify: {slack: {channel: C0123456789, token: {file: xoxb-1234567890-hunter2}}}`,
		`notify: {slack: {webhook: "https://hooks.slack.com/services/T1/B1/hunter2"}}`,
		`notify: {slack: {webhook: {env: "https://hooks.slack.com/services/T1/B1/hunter2"}}}`,
		`notify: {kuma: {url: {file: "https://status.vmst.io/api/push/hunter2"}}}`,
		`notify: {kuma: {url: "https://status.vmst.io/api/push/hunter2"}}`,
	} {
		_, err := parseConfig("refit.yml", append(append([]byte{}, exampleYML...), []byte("\n"+part+"\n")...))
		if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "refit.yml:") {
			t.Errorf("%s: %v", part, err)
		}
	}
}
