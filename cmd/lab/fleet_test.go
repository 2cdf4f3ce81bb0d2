package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/lab"
)

// The tests of this package whose names begin with TestLab run refit against a
// fleet of real hosts. They share one lab and run in the order of this file: each
// leaves the fleet whole, on a release that the next one names.

// fleet is the lab that all tests share.
type fleet struct {
	*lab.Lab
	refit string
	dir   string // of refit's own files: configurations, state, caches
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
		Dir: filepath.Join(root, ".lab"), Files: files, Release: "v4.5.1", Gems: standinGems, Self: self, Say: tell,
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
	return shared
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

// underLoad lets users work on the site while do runs, and asks that none notices.
func (f *fleet) underLoad(t *testing.T, do func()) lab.LoadReport {
	t.Helper()
	load, err := f.StartLoad(t.Context(), lab.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var met lab.LoadReport
	func() {
		defer func() { met = load.Stop() }()
		do()
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

func TestLabBadInputIsRefusedBeforeAnythingIsTouched(t *testing.T) {
	f := theFleet(t)
	before := f.fingerprint(t)
	upgrade := []string{"upgrade", "--to", "v4.5.2", "--yes"}
	known, err := os.ReadFile(f.KnownHosts())
	if err != nil {
		t.Fatal(err)
	}
	without := filepath.Join(t.TempDir(), "known_hosts")
	var lines []string
	for line := range strings.Lines(string(known)) {
		if !strings.Contains(line, "10.77.0.21") {
			lines = append(lines, line)
		}
	}
	if err := os.WriteFile(without, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	f.must(t, 2, "", []string{"upgrade", "v4.5.2", "--yes"}, "takes no words beside its flags")
	f.must(t, 2, "", []string{"upgrade"}, "needs --to")
	f.must(t, 2, f.config(t, "domain:", "domian:"), upgrade, "domian", "refit.yml:")
	f.must(t, 4, f.config(t, f.KnownHosts(), without), upgrade, "kirk", "add this line")
	f.must(t, 3, "", []string{"upgrade", "--to", "v4.5.99", "--yes"}, "has no tag v4.5.99", "v4.5.9")
	f.must(t, 3, "", []string{"upgrade", "--to", "v4.5.0", "--yes"}, "older than v4.5.1")
	f.must(t, 3, "", []string{"upgrade", "--to", "v4.7.0", "--yes"}, "skips a minor series")
	f.must(t, 3, f.config(t, "disk_free: 200MiB", "disk_free: 100GiB"), upgrade, "free at", "kirk")
	f.must(t, 3, f.config(t, "prefix: /usr, why: \"Debian's own Ruby", "prefix: /opt/none, why: \"Debian's own Ruby"), upgrade, "ruby")
	f.must(t, 3, f.config(t, ", collections", ""), []string{"upgrade", "--to", "v4.5.2", "--yes"}, "serves", "refit.yml says")
	f.must(t, 3, f.config(t, "port: 5432", "port: 25061", "name: mastodon\n", "name: mastodon-pool\n"), upgrade, "transaction pooler")
	f.must(t, 3, "", []string{"upgrade", "--to", "v4.5.9", "--yes"}, "node")
	f.must(t, 3, "", []string{"upgrade", "--to", "v4.5.2"}, "--yes")
	if _, err := f.Exec(t.Context(), "kirk", "mv", "/etc/sudoers.d/refit", "/root/sudoers"); err != nil {
		t.Fatal(err)
	}
	a := f.run(t, "", upgrade...)
	if _, err := f.Exec(t.Context(), "kirk", "mv", "/root/sudoers", "/etc/sudoers.d/refit"); err != nil {
		t.Fatal(err)
	}
	if (a.code != 3 && a.code != 4) || !strings.Contains(a.err, "kirk") || !strings.Contains(a.err, "sudo") {
		t.Errorf("a missing right: %s", a)
	}
	f.same(t, before)
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

func TestLabAPatchReleaseIsRolledUnnoticedAndBackAgain(t *testing.T) {
	f := theFleet(t)
	var rolled answer
	met := f.underLoad(t, func() { rolled = f.must(t, 0, "", []string{"upgrade", "--to", "v4.5.2", "--yes"}, "DONE") })
	f.socketsWell(t, met, rolled.err)
	f.runsEverywhere(t, "v4.5.2")

	before := f.fingerprint(t)
	f.must(t, 0, "", []string{"upgrade", "--to", "v4.5.2", "--yes"}, "nothing to do")
	f.same(t, before)

	f.must(t, 0, "", []string{"verify"}, "unmodified")
	f.underLoad(t, func() { f.must(t, 0, "", []string{"rollback", "--yes"}) })
	f.runsEverywhere(t, "v4.5.1")
	f.must(t, 3, "", []string{"rollback", "--yes"}, "was taken back already")
	f.must(t, 0, "", []string{"upgrade", "--to", "v4.5.2", "--yes"}, "built before")
	f.runsEverywhere(t, "v4.5.2")
}

// TestLabEachBrokenReleaseEndsAsTheExitTableSays breaks an upgrade in each way, under
// load, and asks for the exit code, the cause in the report, and the old release
// everywhere with no request failed.
func TestLabEachBrokenReleaseEndsAsTheExitTableSays(t *testing.T) {
	f := theFleet(t)
	quick := []string{"boot: 60s", "boot: 25s"}
	for _, test := range []struct {
		release string
		code    int
		config  []string
		words   []string
	}{
		{release: "v4.5.3", code: 1, words: []string{"assets:precompile"}},
		{release: "v4.5.4", code: 1, words: []string{"does not boot"}},
		{release: "v4.5.5", code: 6, config: quick, words: []string{"kirk: page: / answers 500"}},
		{release: "v4.5.6", code: 1, words: []string{"packs/chunk-", "(missing)"}},
		{release: "v4.5.7", code: 6, config: quick, words: []string{"mastodon-streaming@4000.service on kirk does not stay up"}},
		{release: "v4.5.8", code: 6, config: append([]string{"sidekiq: 3s", "sidekiq: 30s"}, quick...), words: []string{"on scotty does not stay up", "KILL"}},
		{release: "v4.5.9", code: 3, words: []string{">=26"}},
		{release: "v4.5.10", code: 6, config: quick, words: []string{"mastodon-web.service on kirk"}},
		{release: "v4.6.4", code: 3, words: []string{"3.4", "ruby"}},
	} {
		t.Run(test.release, func(t *testing.T) {
			config := ""
			if test.config != nil {
				config = f.config(t, test.config...)
			}
			f.underLoad(t, func() {
				f.must(t, test.code, config, []string{"upgrade", "--to", test.release, "--yes"}, test.words...)
			})
			f.runsEverywhere(t, "v4.5.2")
			f.well(t)
		})
	}
}

// withDatabase runs a test on a database that is as before again afterwards.
func (f *fleet) withDatabase(t *testing.T, do func()) {
	t.Helper()
	if err := f.Snapshot(t.Context(), f.Primary, "before"); err != nil {
		t.Fatal(err)
	}
	do()
	if err := f.Restore(t.Context(), f.Primary, "before"); err != nil {
		t.Fatal(err)
	}
	// Processes that were started on the newer schema still expect its columns.
	for host, units := range appUnits {
		if _, err := f.Exec(t.Context(), host, append([]string{"systemctl", "restart"}, units...)...); err != nil {
			t.Fatal(err)
		}
	}
	f.well(t)
	f.calm(t)
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

func TestLabAFailedMigrationLeavesTheOldReleaseServing(t *testing.T) {
	f := theFleet(t)
	f.withDatabase(t, func() {
		f.underLoad(t, func() {
			a := f.must(t, 6, "", []string{"upgrade", "--to", "v4.6.1", "--yes"}, "refit-migrate-pre.service on scotty failed", "migration 2026")
			if strings.Contains(a.err, "roll sidekiq scotty: begun") {
				t.Error("a node was rolled after the migration had failed")
			}
		})
		f.runsEverywhere(t, "v4.5.2")
	})
}

func TestLabAnInvalidIndexWaitsForAPersonWhoIsToldTheRemedy(t *testing.T) {
	f := theFleet(t)
	f.withDatabase(t, func() {
		f.underLoad(t, func() {
			f.must(t, 7, "", []string{"upgrade", "--to", "v4.6.5", "--yes"}, "INVALID index", "REINDEX INDEX CONCURRENTLY", "refit resume")
		})
		f.runsEverywhere(t, "v4.5.2")
		f.must(t, 3, "", []string{"upgrade", "--to", "v4.6.0", "--yes"}, "left half way", "refit rollback")
		f.must(t, 0, "", []string{"status"}, "INVALID index", "v4.6.5")
	})
	f.must(t, 0, "", []string{"rollback", "--yes"})
	f.runsEverywhere(t, "v4.5.2")
}

func TestLabAMigrationThatWaitsOnALockIsReportedAndNeverKilled(t *testing.T) {
	f := theFleet(t)
	f.withDatabase(t, func() {
		f.underLoad(t, func() {
			f.must(t, 7, f.config(t, "migrate_stall: 20s", "migrate_stall: 5s"), []string{"upgrade", "--to", "v4.6.2", "--yes"},
				"waits for pid", "refit-migrate-pre.service", "pg_terminate_backend", "must not be killed")
			out, err := f.Exec(t.Context(), "scotty", "systemctl", "is-active", "refit-migrate-pre.service")
			if err != nil || strings.TrimSpace(out) != "active" {
				t.Errorf("the migration does not run any more: %s %v", out, err)
			}
			f.runsEverywhere(t, "v4.5.2")
			// The lock goes by itself; the resumed run finds its own migration and goes on to the end.
			f.must(t, 0, f.config(t, "migrate_stall: 20s", "migrate_stall: 100s"), []string{"resume", "--yes"}, "found refit-migrate-pre.service at work", "new mappings given to the search server: AccountsIndex", "DONE")
			f.runsEverywhere(t, "v4.6.2")
			f.must(t, 0, "", []string{"rollback", "--yes"})
		})
		f.runsEverywhere(t, "v4.5.2")
	})
}

func TestLabAMigrationThatSlowsTheOldCodeWaitsForAPerson(t *testing.T) {
	f := theFleet(t)
	f.withDatabase(t, func() {
		// Slowed like this the old code cannot serve sixty requests a second, so nobody
		// counts what fails here.
		f.must(t, 7, "", []string{"upgrade", "--to", "v4.6.3", "--yes"}, "off its baseline", "the page takes")
		f.runsEverywhere(t, "v4.5.2")
	})
	f.must(t, 0, "", []string{"rollback", "--yes"})
}

func TestLabAReleaseWithAGemFromGitIsBuilt(t *testing.T) {
	f := theFleet(t)
	f.must(t, 0, "", []string{"build", "--to", "v4.6.6"}, "DONE")
}

func TestLabAMinorWithPostMigrationsIsRolledUnnoticedAndThenCannotGoBack(t *testing.T) {
	f := theFleet(t)
	var minor, post answer
	met := f.underLoad(t, func() {
		minor = f.must(t, 0, "", []string{"upgrade", "--to", "v4.6.0", "--yes"}, "applied: 20251118115700", "DONE")
		post = f.must(t, 0, "", []string{"upgrade", "--to", "v4.7.0", "--yes"}, "point of no return", "DONE")
	})
	f.socketsWell(t, met, minor.err+post.err)
	f.runsEverywhere(t, "v4.7.0")
	f.must(t, 3, "", []string{"rollback", "--yes"}, "cannot go back to v4.6.0", "restore point")
	lost := strings.TrimSpace(f.sql(t, "select count(*) from job_runs where runs = 0 and created_at < now() - interval '30 seconds'"))
	if lost != "0" {
		t.Errorf("%s jobs were lost", lost)
	}
	t.Logf("jobs: %s, run more than once: %s", strings.TrimSpace(f.sql(t, "select count(*) from job_runs")), strings.TrimSpace(f.sql(t, "select count(*) from job_runs where runs > 1")))
}

// webRoll is the beginning or the end of a web node's roll in refit's own lines.
var webRoll = regexp.MustCompile(`(?m)^(\S+) \[ *\d+/\d+\] roll web (\w+): (begun|done)`)

// socketsWell asks that a websocket was cut only while its own node was rolled, and
// was back within a second.
func (f *fleet) socketsWell(t *testing.T, met lab.LoadReport, lines string) {
	t.Helper()
	address := map[string]string{"kirk": "10.77.0.21", "spock": "10.77.0.22"}
	type window struct{ from, to time.Time }
	rolls := map[string][]window{}
	for _, m := range webRoll.FindAllStringSubmatch(lines, -1) {
		at, err := time.Parse(time.RFC3339, m[1])
		if err != nil {
			t.Fatal(err)
		}
		a := address[m[2]]
		if m[3] == "begun" {
			rolls[a] = append(rolls[a], window{from: at.Add(-time.Second)})
		} else {
			rolls[a][len(rolls[a])-1].to = at.Add(2 * time.Second)
		}
	}
	if len(rolls) != 2 {
		t.Fatalf("refit's lines name %d web nodes that were rolled", len(rolls))
	}
	for _, d := range met.Sockets.Drops {
		host, _, _ := strings.Cut(d.From, ":")
		if !slices.ContainsFunc(rolls[host], func(w window) bool { return d.At.After(w.from) && d.At.Before(w.to) }) {
			t.Errorf("a websocket of %s was cut at %s, while that node was not rolled", d.From, d.At.UTC().Format(time.TimeOnly))
		}
		if d.Seconds > 1 {
			t.Errorf("a websocket of %s was away for %.1f s", d.From, d.Seconds)
		}
	}
	if met.Sockets.Open == 0 {
		t.Error("no websocket is open at the end")
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
