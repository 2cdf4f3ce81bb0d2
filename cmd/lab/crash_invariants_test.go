package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/lab"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/pipeline"
)

// broken names what is not as it must be after a kill, whenever it fell.
func (c *crash) broken() []error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	errs := []error{c.between(), c.f.webServes(ctx), c.unserved(ctx), c.f.oneMigration()}
	met := c.load.Report()
	if met.Requests.Failed > 0 || met.Requests.Sent == 0 {
		errs = append(errs, fmt.Errorf("%d of %d requests failed:%s", met.Requests.Failed, met.Requests.Sent, failures(met)))
	}
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

// between finds a node that is not whole on one release while the journal does not
// say that its roll is under way, or that is whole on the wrong one.
func (c *crash) between() error {
	for range 50 {
		before, err := c.f.journal(c.run)
		if err != nil {
			return err
		}
		fault := c.standing(before)
		after, err := c.f.journal(c.run)
		if err != nil {
			return err
		}
		// A save that was under way at the kill may have come in meanwhile.
		if (before == nil) == (after == nil) && (before == nil || before.Seq == after.Seq) {
			return fault
		}
	}
	return errors.New("the journal changes all the time although nobody works on the run")
}

func (c *crash) standing(j *pipeline.Journal) error {
	var errs []error
	for host, units := range appUnits {
		step := "roll sidekiq " + host
		if _, ok := webNodes[host]; ok {
			step = "roll web " + host
		}
		var mark pipeline.State
		if j != nil {
			if !slices.ContainsFunc(j.Steps, func(s pipeline.JournalStep) bool { return s.Name == step }) {
				errs = append(errs, fmt.Errorf("run %s has no step %q", j.ID, step))
			}
			mark = j.Marks[step].State
		}
		want := c.from
		switch mark {
		case pipeline.Doing, pipeline.Undoing, pipeline.Failed:
			continue
		case pipeline.Finish:
			want = c.to
		}
		live, err := c.f.live(host)
		if err != nil || live != want {
			errs = append(errs, fmt.Errorf("%s is live on %s, and %q is %q: %v", host, live, step, mark, err))
		}
		for _, u := range units {
			if r, err := runs(host, u); err != nil || r != want {
				errs = append(errs, fmt.Errorf("%s of %s: %s, and %q is %q: %v", u, host, r, step, mark, err))
			}
		}
	}
	return errors.Join(errs...)
}

// webServes asks that each proxy has a web node in rotation that answers, and that
// each proxy itself answers with the page.
func (f *fleet) webServes(ctx context.Context) error {
	client, err := f.HTTPClient()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	answers := map[string]error{}
	for _, address := range webNodes {
		answers[address] = page(ctx, client, "http://"+net.JoinHostPort(address, "3000")+"/")
	}
	var errs []error
	for proxy, address := range proxyNodes {
		for _, file := range []string{"web.conf", "streaming.conf"} {
			down, err := f.down(proxy, file)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if !slices.ContainsFunc(slices.Collect(maps.Keys(down)), func(a string) bool { return !down[a] && answers[a] == nil }) {
				errs = append(errs, fmt.Errorf("%s of %s has no node in rotation that answers: %v, %v", file, proxy, down, answers))
			}
		}
		if err := page(ctx, client, "https://"+address+"/"); err != nil {
			errs = append(errs, fmt.Errorf("proxy %s: %w", proxy, err))
		}
	}
	return errors.Join(errs...)
}

// page asks for the page as the balancer does.
func page(ctx context.Context, client *http.Client, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	req.Host = lab.Domain
	req.Header.Set("X-Forwarded-Proto", "https")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(resp.Body)
	err = errors.Join(err, resp.Body.Close())
	if err != nil || resp.StatusCode != http.StatusOK || !bytes.Contains(b, []byte("initial-state")) {
		return fmt.Errorf("%s answers %s: %v", address, resp.Status, err)
	}
	return nil
}

// oneMigration asks that at most one unit of all hosts migrates, and nothing else does.
func (f *fleet) oneMigration() error {
	at, err := migrators()
	if err != nil {
		return err
	}
	for _, m := range at {
		if len(at) > 1 || !strings.Contains(m, " refit-migrate-") {
			return fmt.Errorf("a database is migrated in %q", at)
		}
	}
	return nil
}

// unserved finds a queue that no fresh worker serves. The scheduler's may stand
// still while its own node is rolled.
func (c *crash) unserved(ctx context.Context) error {
	j, err := c.f.journal(c.run)
	if err != nil {
		return err
	}
	queues := c.queues
	if j != nil {
		switch j.Marks["roll sidekiq decker"].State {
		case pipeline.Doing, pipeline.Undoing, pipeline.Failed:
			queues = slices.DeleteFunc(slices.Clone(queues), func(q string) bool { return q == mastodon.SchedulerQueue })
		}
	}
	workers, err := c.f.workers(ctx)
	if err != nil {
		return err
	}
	for _, q := range queues {
		if !slices.ContainsFunc(workers, func(w worker) bool { return w.why == "" && slices.Contains(w.Queues, q) }) {
			return fmt.Errorf("nobody serves queue %s: %+v", q, workers)
		}
	}
	return nil
}

var queueLine = regexp.MustCompile(`(?m)^ +- \[?(\w+)`)

// queues are those of config/sidekiq.yml of the release that is live.
func (f *fleet) queues() ([]string, error) {
	live, err := f.live("scotty")
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(f.Root("scotty"), "home/mastodon/releases", live, "config/sidekiq.yml"))
	var out []string
	for _, m := range queueLine.FindAllStringSubmatch(string(b), -1) {
		out = append(out, m[1])
	}
	if err == nil && (len(out) < 7 || !slices.Contains(out, mastodon.SchedulerQueue)) {
		err = fmt.Errorf("the sidekiq.yml of %s names only the queues %v", live, out)
	}
	return out, err
}

// worker is what a Sidekiq process says of itself in Redis.
type worker struct {
	Hostname string
	Pid      int
	Tag      string
	Queues   []string
	why      string // why it takes no jobs; empty if it does
}

// workers are all that Redis knows. One takes jobs if its record is fresh, it is
// not quiet, and its process is there.
func (f *fleet) workers(ctx context.Context) ([]worker, error) {
	const script = `local out = {}
for _, id in ipairs(redis.call('SMEMBERS', 'processes')) do
  local h = redis.call('HMGET', id, 'info', 'beat', 'quiet')
  if h[1] then out[#out + 1] = {info = h[1], beat = h[2] or '0', quiet = h[3] or ''} end
end
return cjson.encode({now = redis.call('TIME')[1], processes = out})`
	text, err := f.eval(ctx, script)
	if err != nil {
		return nil, err
	}
	var said struct {
		Now       string
		Processes []struct{ Info, Beat, Quiet string }
	}
	if err := json.Unmarshal(text, &said); err != nil {
		return nil, fmt.Errorf("cannot read what Redis says of workers: %w: %s", err, text)
	}
	now, err := strconv.ParseFloat(said.Now, 64)
	if err != nil {
		return nil, err
	}
	var out []worker
	for _, p := range said.Processes {
		var w worker
		if err := json.Unmarshal([]byte(p.Info), &w); err != nil {
			return nil, err
		}
		beat, err := strconv.ParseFloat(p.Beat, 64)
		switch {
		case err != nil:
			return nil, err
		case now-beat > mastodon.MaxBeat.Seconds():
			w.why = fmt.Sprintf("no beat for %.0f s", now-beat)
		case p.Quiet == "true":
			w.why = "quiet"
		case !alive(w):
			w.why = "no such process"
		}
		out = append(out, w)
	}
	return out, nil
}

// alive finds a worker's process on its host.
func alive(w worker) bool {
	for _, unit := range appUnits[w.Hostname] {
		all, err := processes(w.Hostname, unit)
		if err == nil && slices.ContainsFunc(all, func(p process) bool { return p.inner() == strconv.Itoa(w.Pid) }) {
			return true
		}
	}
	return false
}

// eval runs a script in Redis that answers with one text (redis.io, RESP2).
func (f *fleet) eval(ctx context.Context, script string) ([]byte, error) {
	pem, err := os.ReadFile(f.Authority())
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	wire, err := f.DialContext(ctx, "tcp", net.JoinHostPort("redis", strconv.Itoa(lab.PortRedis)))
	if err != nil {
		return nil, err
	}
	defer wire.Close()
	if at, ok := ctx.Deadline(); ok {
		if err := wire.SetDeadline(at); err != nil {
			return nil, err
		}
	}
	c := tls.Client(wire, &tls.Config{RootCAs: pool, ServerName: "redis", MinVersion: tls.VersionTLS12})
	if _, err := fmt.Fprintf(c, "*2\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\n*3\r\n$4\r\nEVAL\r\n$%d\r\n%s\r\n$1\r\n0\r\n", len(f.Secrets.Redis), f.Secrets.Redis, len(script), script); err != nil {
		return nil, err
	}
	r := bufio.NewReader(c)
	head, err := r.ReadString('\n')
	if err == nil && head != "+OK\r\n" {
		err = fmt.Errorf("the password is answered %q", head)
	}
	if err == nil {
		head, err = r.ReadString('\n')
	}
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(head, "$")))
	if err != nil || n < 0 {
		return nil, fmt.Errorf("the script is answered %q and not with a text", head)
	}
	text := make([]byte, n)
	_, err = io.ReadFull(r, text)
	return text, err
}

// post writes a status, whose distribution is a job that takes that long.
func (f *fleet) post(ctx context.Context, text string, jobMS int) error {
	client, err := f.HTTPClient()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	form := url.Values{"status": {text}, "visibility": {"public"}, "job_ms": {strconv.Itoa(jobMS)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+lab.Domain+"/api/v1/statuses", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "Bearer "+f.Secrets.Load)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("a post is answered %s: %v", resp.Status, err)
	}
	return nil
}

// allJobsRun runs do, waits until every job planned during it has run, and counts.
func (f *fleet) allJobsRun(t *testing.T, do func()) {
	t.Helper()
	first := f.nextJob(t)
	for range 10 {
		f.longJob(t)
	}
	do()
	if left := f.jobsLeft(t, "runs = 0 and id >= "+first, 90*time.Second); left != "" {
		t.Fatalf("jobs were lost:\n%s", left)
	}
	f.tellJobs(t, first)
}

// jobsLeft waits until no job fits the condition any more. It lists the first of
// those that still do then.
func (f *fleet) jobsLeft(t *testing.T, condition string, within time.Duration) string {
	t.Helper()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	limit := time.After(within)
	for {
		left := strings.TrimSpace(f.sql(t, "select job_class, queue, origin, created_at from job_runs where "+condition+" limit 20"))
		if left == "" {
			return ""
		}
		select {
		case <-limit:
			return left
		case <-tick.C:
		}
	}
}

// nextJob is the number that the next job will have. What earlier tests planned while
// they kept Redis away is nobody else's.
func (f *fleet) nextJob(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(f.sql(t, "select coalesce(max(id), 0) + 1 from job_runs"))
}

// tellJobs says how many jobs were planned since first, and how many ran twice.
func (f *fleet) tellJobs(t *testing.T, first string) {
	t.Helper()
	t.Logf("jobs: %s", strings.TrimSpace(f.sql(t, "select count(*) || ' planned, ' || count(*) filter (where runs = 0) || ' not run, ' || count(*) filter (where runs > 1) || ' run more than once' from job_runs where id >= "+first)))
}
