package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/lab"
)

// The tests of this package whose names begin with TestLab run refit against a
// fleet of real hosts. They share one lab and run in the order of their files'
// names: basic_test.go first; unnoticed_test.go and watch_test.go, which go on to later
// releases, last. What stands between begins with a call of on and leaves the fleet
// whole, on the same release and schema.

// fleet is the lab that all tests share.
type fleet struct {
	*lab.Lab
	refit string
	dir   string // of refit's own files: configurations, state, caches

	said  *recorder
	watch *sampler
}

var shared *fleet

func TestMain(m *testing.M) {
	code := m.Run()
	if shared != nil {
		if err := lab.Down(context.Background(), func(string, ...any) {}); err != nil {
			fmt.Fprintln(os.Stderr, "lab down:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// beat is how often Sidekiq's processes give their signs of life: the full tests
// keep Sidekiq's own pace, the others do not wait for it at every roll.
func beat() int {
	if os.Getenv("REFIT_FULL") != "" {
		return 0
	}
	return 2
}

// theFleet raises the lab for the first test that asks.
func theFleet(t *testing.T) *fleet {
	t.Helper()
	if os.Getenv("REFIT_LAB") == "" {
		if os.Getenv("CI") != "" && os.Getenv("REFIT_UNIT") == "" {
			t.Fatal("in CI the lab tests must run: make test-lab sets REFIT_LAB")
		}
		t.Skip("a lab of real hosts is raised by: sudo make test-lab")
	}
	if shared != nil {
		return shared
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	self, files := filepath.Join(root, "bin", "lab"), filepath.Join(root, "testdata", "lab")
	tell := func(format string, args ...any) {
		fmt.Printf("%s "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
	}
	l, err := lab.Up(context.Background(), lab.Options{
		Dir: filepath.Join(root, ".lab"), Files: files, Release: "v4.5.1", Beat: beat(), Gems: standinGems, Self: self, Say: tell,
		Prepare: prepareStandin("", files, tell),
	})
	if err != nil {
		t.Fatal(err)
	}
	shared = &fleet{Lab: l, refit: filepath.Join(root, "bin", "refit"), dir: t.TempDir()}
	shared.dir = filepath.Join(root, ".lab", "test")
	if err := os.MkdirAll(shared.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := deployWith(context.Background(), l, self, shared.refit, tell); err != nil {
		t.Fatal(err)
	}
	shared.said, shared.watch = &recorder{}, watchArguments(canaries(t, l))
	return shared
}

// on gives the fleet running a release, which it brings it to where needed: each
// test can be run alone.
func on(t *testing.T, release string) *fleet {
	t.Helper()
	f := theFleet(t)
	if a := f.run(t, "", "upgrade", "--to", release, "--yes"); a.code != 0 {
		t.Fatalf("cannot bring the fleet to %s: %s", release, a)
	}
	return f
}

// answer is how a run of refit ended.
type answer struct {
	code     int
	out, err string
}

func (a answer) String() string { return fmt.Sprintf("exit %d\n%s\n%s", a.code, a.out, a.err) }

// run runs refit on a configuration (empty for the lab's own).
func (f *fleet) run(t *testing.T, config string, args ...string) answer {
	t.Helper()
	self, err := filepath.Abs("../../bin/lab")
	if err != nil {
		t.Fatal(err)
	}
	c := refitUnder(t.Context(), f.Lab, self, f.refit, args...)
	if config != "" {
		c.Env = append(c.Env, "REFIT_CONFIG="+config)
	}
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err = c.Run()
	f.said.add(args, out.String(), errs.String())
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return answer{e.ExitCode(), out.String(), errs.String()}
	}
	if err != nil {
		t.Fatal(err)
	}
	return answer{0, out.String(), errs.String()}
}

// must runs refit and asks for an exit code and words on either stream.
func (f *fleet) must(t *testing.T, code int, config string, args []string, words ...string) answer {
	t.Helper()
	began := time.Now()
	a := f.run(t, config, args...)
	t.Logf("refit %s: exit %d after %.1f s", strings.Join(args, " "), a.code, time.Since(began).Seconds())
	if a.code != code {
		t.Fatalf("refit %s: not exit %d but %s", strings.Join(args, " "), code, a)
	}
	for _, w := range words {
		if !strings.Contains(a.out+a.err, w) {
			t.Errorf("refit %s does not say %q:\n%s", strings.Join(args, " "), w, a)
		}
	}
	return a
}

// config writes a configuration that differs from the lab's own.
func (f *fleet) config(t *testing.T, changes ...string) string {
	t.Helper()
	b, err := os.ReadFile(f.Config())
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(text, changes[i]) {
			t.Fatalf("the lab's refit.yml holds no %q", changes[i])
		}
		text = strings.ReplaceAll(text, changes[i], changes[i+1])
	}
	file := filepath.Join(t.TempDir(), "refit.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// serve serves h at an address of the lab's network, port 0 for any, until the test is over,
// and gives its URL.
func (f *fleet) serve(t *testing.T, address string, h http.Handler) string {
	t.Helper()
	l, err := f.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(t.Context()) }}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		<-ended
	})
	return "http://" + l.Addr().String()
}

// underLoad lets users work on the site while do runs, and asks that none notices.
func (f *fleet) underLoad(t *testing.T, do func()) lab.LoadReport {
	t.Helper()
	return f.withUsers(t, func(*lab.Load) { do() })
}

// withUsers is underLoad for one who looks at what users have met so far.
func (f *fleet) withUsers(t *testing.T, do func(*lab.Load)) lab.LoadReport {
	t.Helper()
	load, err := f.StartLoad(t.Context(), lab.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var met lab.LoadReport
	func() {
		defer func() { met = load.Stop() }()
		do(load)
	}()
	t.Logf("users: %d requests (%.0f/s), %d failed; %d events, %d lost; %d websockets dropped", met.Requests.Sent, met.Requests.PerSecond, met.Requests.Failed, met.Events.Sent, met.Events.Lost, len(met.Sockets.Drops))
	if met.Requests.Failed > 0 {
		t.Errorf("%d of %d requests failed:%s", met.Requests.Failed, met.Requests.Sent, failures(met))
	}
	if met.Events.Lost > 0 {
		t.Errorf("%d of %d events were lost", met.Events.Lost, met.Events.Sent)
	}
	if met.Requests.PerSecond < 50 {
		t.Errorf("only %.0f requests a second", met.Requests.PerSecond)
	}
	return met
}

// runsEverywhere asks that every node runs the release and nothing is out of rotation.
func (f *fleet) runsEverywhere(t *testing.T, release string) {
	t.Helper()
	a := f.run(t, "", "status", "--json")
	var st struct {
		Hosts []struct{ Name, Roles, Release, State string }
	}
	if err := json.Unmarshal([]byte(a.out), &st); err != nil {
		t.Fatalf("%v: %s", err, a)
	}
	nodes := 0
	for _, h := range st.Hosts {
		if h.Roles != "web" && h.Roles != "sidekiq" {
			continue
		}
		if nodes++; h.Release != release || h.State != "running" {
			t.Errorf("%s runs %s (%s), not %s", h.Name, h.Release, h.State, release)
		}
	}
	if nodes != 4 {
		t.Errorf("status names %d nodes", nodes)
	}
	for _, proxy := range []string{"sulu", "chekov"} {
		out, err := f.Exec(t.Context(), proxy, "cat", "/etc/nginx/refit/web.conf", "/etc/nginx/refit/streaming.conf")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out, "down") {
			t.Errorf("%s has a node out of rotation:\n%s", proxy, out)
		}
	}
}

// fingerprint is what a host would show if anything on it had been changed.
func (f *fleet) fingerprint(t *testing.T) map[string]string {
	t.Helper()
	const script = `readlink /home/mastodon/live; ls -la --time-style=full-iso /home/mastodon/releases /etc/nginx/refit /etc/systemd/system 2>/dev/null | grep -v ' \.\.$'
for u in mastodon-web mastodon-streaming@4000 mastodon-sidekiq-push-pull mastodon-sidekiq-default mastodon-sidekiq-scheduler nginx; do systemctl show -p ActiveEnterTimestampMonotonic,MainPID,NRestarts $u.service; done
cat /var/lib/refit/fence 2>/dev/null`
	out := map[string]string{}
	for _, h := range []string{"sulu", "chekov", "kirk", "spock", "scotty", "decker", "uhura"} {
		text, err := f.Exec(t.Context(), h, "sh", "-c", script)
		if err != nil {
			t.Fatal(err)
		}
		out[h] = text
	}
	return out
}

// same asks that no host changed.
func (f *fleet) same(t *testing.T, before map[string]string) {
	t.Helper()
	for h, now := range f.fingerprint(t) {
		if now != before[h] {
			t.Errorf("%s was changed:\n%s\n%s", h, before[h], now)
		}
	}
}

// withDatabase runs a test on a database that is as before again afterwards.
func (f *fleet) withDatabase(t *testing.T, do func()) {
	t.Helper()
	began := time.Now()
	if err := f.Snapshot(t.Context(), f.Primary, "before"); err != nil {
		t.Fatal(err)
	}
	kept := time.Since(began)
	do()
	began = time.Now()
	if err := f.Restore(t.Context(), f.Primary, "before"); err != nil {
		t.Fatal(err)
	}
	restored := time.Since(began)
	// Processes that were started on the newer schema still expect its columns.
	f.restartAll(t)
	restarted := time.Since(began)
	f.well(t)
	wellAgain := time.Since(began)
	f.calm(t)
	t.Logf("the database was kept in %.1f s; put back %.1f s after the test, the application restarted after %.1f s, well after %.1f s, calm after %.1f s",
		kept.Seconds(), restored.Seconds(), restarted.Seconds(), wellAgain.Seconds(), time.Since(began).Seconds())
}

// restartAll restarts the application on all hosts at once.
func (f *fleet) restartAll(t *testing.T) {
	t.Helper()
	errs := make(chan error)
	for host, units := range appUnits {
		go func() {
			_, err := f.Exec(t.Context(), host, append([]string{"systemctl", "restart"}, units...)...)
			errs <- err
		}()
	}
	for range appUnits {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// calm lets users work until none has met an error for three hundred requests: each
// of the application's connections to a database that was restored fails once.
func (f *fleet) calm(t *testing.T) {
	t.Helper()
	load, err := f.StartLoad(t.Context(), lab.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer load.Stop()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	failed, since := 0, 0
	for {
		select {
		case <-limit:
			t.Fatal("the site does not calm down after its database was restored")
		case <-tick.C:
		}
		now := load.Report().Requests
		if now.Failed > failed {
			failed, since = now.Failed, now.Sent
		}
		if now.Sent-since >= 300 {
			return
		}
	}
}

// well waits until nothing stands against an upgrade: a killed worker's record, or a
// database that was just restored, is a matter of seconds.
func (f *fleet) well(t *testing.T) {
	t.Helper()
	self, err := filepath.Abs("../../bin/lab")
	if err == nil {
		err = awaitDoctor(t.Context(), f.Lab, self, f.refit)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// sql runs a statement in the lab's database as its owner.
func (f *fleet) sql(t *testing.T, statement string) string {
	t.Helper()
	out, err := f.Exec(t.Context(), f.Primary, "runuser", "-u", "postgres", "--", "psql", "-qAt", "-d", "mastodon", "-c", statement)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// full leaves a test that lasts long to make test-full.
func full(t *testing.T) {
	t.Helper()
	if os.Getenv("REFIT_FULL") == "" {
		t.Skip("this one lasts long; it is run by: sudo make test-full")
	}
}
