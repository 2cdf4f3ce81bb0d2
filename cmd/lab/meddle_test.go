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
	"sync"
	"syscall"
	"testing"
	"time"

	"vmst.io/refit/hosts/lab"
)

// fault is one thing that happens to a host, and what mends it.
type fault struct {
	hit, mend func(*lab.Lab, context.Context, string) error
}

// isHarmed puts a file into the release that is placed and not live yet.
const isHarmed faultName = "harmed"

const harmedFile = "home/mastodon/releases/v4.5.10/app/models/evil.rb"

// faultOf gives the lab's deeds for a fault of the table.
func faultOf(name faultName) fault {
	whole := func(do func(*lab.Lab, context.Context) error) func(*lab.Lab, context.Context, string) error {
		return func(l *lab.Lab, ctx context.Context, _ string) error { return do(l, ctx) }
	}
	none := func(*lab.Lab, context.Context, string) error { return nil }
	return map[faultName]fault{
		isCut:      {(*lab.Lab).Cut, (*lab.Lab).Heal},
		isFrozen:   {(*lab.Lab).Freeze, (*lab.Lab).Thaw},
		isRebooted: {(*lab.Lab).Reboot, none},
		isOff:      {(*lab.Lab).PowerOff, (*lab.Lab).Start},
		isFull:     {(*lab.Lab).Fill, (*lab.Lab).Free},
		isSlow: {
			func(l *lab.Lab, ctx context.Context, host string) error { return l.Limit(ctx, host, "64kbps") },
			(*lab.Lab).Unlimit,
		},
		isHarmed: {
			func(l *lab.Lab, _ context.Context, host string) error {
				return os.WriteFile(filepath.Join(l.Root(host), harmedFile), []byte("evil\n"), 0o644) //nolint:gosec // as a release's files are
			},
			func(l *lab.Lab, _ context.Context, host string) error {
				return os.Remove(filepath.Join(l.Root(host), harmedFile))
			},
		},
		isPromoted: {whole((*lab.Lab).PromoteStandby), whole((*lab.Lab).RebuildStandby)},
		isMoved:    {whole((*lab.Lab).MoveRedis), none},
		// A database or a Redis that nothing replaces.
		dbGone: {
			func(l *lab.Lab, ctx context.Context, _ string) error { return l.PowerOff(ctx, l.Primary) },
			func(l *lab.Lab, ctx context.Context, _ string) error { return l.Start(ctx, l.Primary) },
		},
		redisGone: {
			func(l *lab.Lab, ctx context.Context, _ string) error { return l.PowerOff(ctx, "redis") },
			func(l *lab.Lab, ctx context.Context, _ string) error { return l.Start(ctx, "redis") },
		},
	}[name]
}

// meddling is one fault in one step of a run: it hits when the step's line says
// that it has begun.
type meddling struct {
	step  string
	host  string
	fault faultName
	// lasts is when it is mended; 0 for not before the run has ended. A reboot and a
	// failover last as long as they do.
	lasts time.Duration
	// until mends it early: as soon as refit says that it waits for the host.
	until bool
	// only keeps every other fault of the run away once this one has hit.
	only bool
	// whole lets it last as long as its step: it is mended when the step or the run
	// has ended.
	whole bool

	mu         sync.Mutex
	began      bool
	hit, ended time.Time
	errs       []error
	waited     chan struct{}
	over       chan struct{}
}

// felt tells whether users may meet errors while it lasts: a host that answers
// them, the database or Redis is away. A node that is rolled by refit itself, a
// worker, the builder and the keeper are missed by nobody.
func (m *meddling) felt() bool {
	switch m.host {
	case "kirk", "spock", "sulu", "chekov", "":
		return true
	}
	return false
}

var (
	stepLine = regexp.MustCompile(`^\S+ \[ *\d+/\d+\] (.+?)(?: on \w+)?: (begun|done|FAILED)`)
	waitLine = regexp.MustCompile(`waiting for (\w+(?:, \w+)*), [\d:.]+ (?:s|min) of`)
)

// meddler reads refit's lines as they come, and meddles. refit stands still until a
// sudden fault has hit: a step of a tenth of a second would be over before.
type meddler struct {
	ctx    context.Context
	f      *fleet
	all    []*meddling
	signal func(os.Signal) error
	mu     sync.Mutex
	text   bytes.Buffer
	rest   []byte
	wg     sync.WaitGroup

	still struct {
		sync.Mutex
		faults int
	}
}

// stand lets refit stand still for one fault more, or one fewer.
func (x *meddler) stand(more int) error {
	x.still.Lock()
	defer x.still.Unlock()
	was := x.still.faults
	x.still.faults += more
	var err error
	switch {
	case was == 0:
		err = x.signal(syscall.SIGSTOP)
	case x.still.faults == 0:
		err = x.signal(syscall.SIGCONT)
	}
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

func (x *meddler) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.text.Write(p)
	x.rest = append(x.rest, p...)
	for {
		line, rest, found := bytes.Cut(x.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		x.rest = rest
		x.line(string(line))
	}
}

func (x *meddler) line(line string) {
	if w := waitLine.FindStringSubmatch(line); w != nil {
		for _, m := range x.all {
			if m.host != "" && slices.Contains(strings.Split(w[1], ", "), m.host) && m.began {
				offer(m.waited)
			}
		}
	}
	b := stepLine.FindStringSubmatch(line)
	if b == nil {
		return
	}
	for _, m := range x.all {
		switch {
		case m.step != b[1]:
		case b[2] != "begun":
			offer(m.over)
		case !m.began && !slices.ContainsFunc(x.all, m.yields):
			m.began = true
			if m.sudden() {
				m.hold(x.stand(1))
			}
			x.wg.Go(func() {
				m.hold(m.strike(x.ctx, x.f))
				if m.sudden() {
					m.hold(x.stand(-1))
				}
				if len(m.errs) == 0 {
					m.last(x.ctx, x.f)
				}
			})
		}
	}
}

// yields tells whether m must not hit because of o: o keeps all others away, or the
// host is not yet mended of it.
func (m *meddling) yields(o *meddling) bool {
	if o == m || !o.began {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.only || o.host == m.host && o.ended.IsZero()
}

// offer tells whoever waits, or is going to.
func offer(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// sudden tells whether the fault is there as soon as it hits. A reboot and a failover
// take their course, and what refit does meanwhile counts.
func (m *meddling) sudden() bool {
	return m.fault != isRebooted && m.fault != isPromoted && m.fault != isMoved
}

// hold keeps what went wrong with the fault itself.
func (m *meddling) hold(errs ...error) {
	for _, err := range errs {
		if err != nil {
			m.errs = append(m.errs, err)
		}
	}
}

// strike hits.
func (m *meddling) strike(ctx context.Context, f *fleet) error {
	m.mu.Lock()
	m.hit = time.Now()
	m.mu.Unlock()
	return faultOf(m.fault).hit(f.Lab, ctx, m.host)
}

// last waits until the fault is to end, and mends it.
func (m *meddling) last(ctx context.Context, f *fleet) {
	if m.whole {
		select {
		case <-m.over:
		case <-ctx.Done():
		}
		m.mendNow(ctx, f)
		return
	}
	if m.lasts == 0 && m.sudden() {
		return
	}
	if m.lasts > 0 {
		t := time.NewTimer(m.lasts)
		defer t.Stop()
		waited := m.waited
		if !m.until {
			waited = nil
		}
		select {
		case <-t.C:
		case <-waited:
		case <-ctx.Done():
		}
	}
	m.mendNow(ctx, f)
}

func (m *meddling) mendNow(ctx context.Context, f *fleet) {
	if err := faultOf(m.fault).mend(f.Lab, ctx, m.host); err != nil {
		m.errs = append(m.errs, err)
	}
	m.mu.Lock()
	m.ended = time.Now()
	m.mu.Unlock()
}

// meddle runs refit with the faults, each in its step. Every step must be reached.
func (f *fleet) meddle(t *testing.T, config string, args []string, faults ...*meddling) answer {
	t.Helper()
	return f.meddleFor(t, true, config, args, faults...)
}

func (f *fleet) meddleFor(t *testing.T, all bool, config string, args []string, faults ...*meddling) answer {
	t.Helper()
	self, err := filepath.Abs("../../bin/lab")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range faults {
		m.waited, m.over = make(chan struct{}, 1), make(chan struct{}, 1)
	}
	began := time.Now()
	c := refitUnder(t.Context(), f.Lab, self, f.refit, args...)
	if config != "" {
		c.Env = append(c.Env, "REFIT_CONFIG="+config)
	}
	var out bytes.Buffer
	x := &meddler{ctx: t.Context(), f: f, all: faults, signal: func(s os.Signal) error { return c.Process.Signal(s) }}
	c.Stdout, c.Stderr = &out, x
	err = c.Run()
	for _, m := range faults {
		offer(m.over)
	}
	x.wg.Wait()
	a := answer{0, out.String(), x.text.String()}
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		a.code = e.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	t.Logf("refit %s: exit %d after %.1f s", strings.Join(args, " "), a.code, time.Since(began).Seconds())
	for _, m := range faults {
		if all && !m.began {
			t.Errorf("%s never began, so its fault never hit", m.step)
		}
		if err := errors.Join(m.errs...); all && err != nil {
			t.Errorf("%s in %s: %v", m.fault, m.step, err)
		}
	}
	return a
}

// mendAll mends what a run was to meet for good.
func (f *fleet) mendAll(t *testing.T, faults ...*meddling) {
	t.Helper()
	for _, m := range faults {
		if !m.began || !m.ended.IsZero() {
			continue
		}
		met := len(m.errs)
		m.mendNow(t.Context(), f)
		if err := errors.Join(m.errs[met:]...); err != nil {
			t.Errorf("cannot mend %s of %s: %v", m.fault, m.host, err)
		}
	}
}

// patient is how long a user waits in these tests, and settling what nginx and the
// balancer take after that to use a mended host again.
const (
	patient  = 8 * time.Second
	settling = 10 * time.Second
)

// sample is how many requests had failed at a time.
type sample struct {
	at           time.Time
	sent, failed int
}

// underFaults lets users work while do runs. They may meet errors only while a
// fault that they feel lasts, and for as long after it as a request and the
// balancer's checks take: refit adds none.
func (f *fleet) underFaults(t *testing.T, do func(), faults ...*meddling) {
	t.Helper()
	f.underFaultsAt(t, 0, do, faults...)
}

// underFaultsAt is underFaults with that many requests a second; 0 for the usual.
func (f *fleet) underFaultsAt(t *testing.T, rate int, do func(), faults ...*meddling) {
	t.Helper()
	load, err := f.StartLoad(t.Context(), lab.LoadOptions{Timeout: patient, Rate: rate})
	if err != nil {
		t.Fatal(err)
	}
	var samples []sample
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			r := load.Report().Requests
			samples = append(samples, sample{time.Now(), r.Sent, r.Failed})
			select {
			case <-quit:
				return
			case <-tick.C:
			}
		}
	}()
	do()
	close(quit)
	<-ended
	met := load.Stop()
	t.Logf("users: %d requests (%.0f/s), %d failed, all told", met.Requests.Sent, met.Requests.PerSecond, met.Requests.Failed)
	excused := func(at time.Time) bool {
		for _, m := range faults {
			m.mu.Lock()
			hit, over := m.hit, m.ended
			m.mu.Unlock()
			if m.felt() && !hit.IsZero() && at.After(hit) && (over.IsZero() || at.Before(over.Add(patient+settling))) {
				return true
			}
		}
		return false
	}
	bad := 0
	for i := 1; i < len(samples); i++ {
		more := samples[i].failed - samples[i-1].failed
		if more > 0 && !excused(samples[i].at) {
			bad += more
			t.Logf("%d requests failed about %s, while no fault took anything from users", more, samples[i].at.UTC().Format(time.TimeOnly))
		}
	}
	if bad > 0 {
		t.Errorf("%d requests failed that no fault explains:%s", bad, failures(met))
	}
	for _, m := range faults {
		if m.hit.IsZero() {
			continue
		}
		t.Logf("  %s %s in %s: %s to %s", m.host, m.fault, m.step, m.hit.UTC().Format(time.TimeOnly), m.ended.UTC().Format(time.TimeOnly))
	}
}

// fewLogins asks that no host was stormed: each logged in to at most that often
// since, and no sshd of them has shut anybody out for trying too often.
func (f *fleet) fewLogins(t *testing.T, since time.Time, most int) {
	t.Helper()
	for _, h := range []string{"sulu", "chekov", "kirk", "spock", "scotty", "decker", "uhura"} {
		out, err := f.Exec(t.Context(), h, "journalctl", "-q", "-o", "cat", "--since", fmt.Sprintf("@%d", since.Unix()), "-t", "sshd", "-t", "sshd-session")
		if err != nil {
			t.Fatal(err)
		}
		logins := strings.Count(out, "Accepted publickey for refit")
		unfinished := strings.Count(out, "[preauth]") + strings.Count(out, "Timeout before authentication")
		t.Logf("%s: %d logins, %d broken attempts", h, logins, unfinished)
		if logins+unfinished > most {
			t.Errorf("%s was connected to %d times (%d of them in vain), %d are enough:\n%s", h, logins+unfinished, unfinished, most, out)
		}
		if strings.Contains(out, "penalty") || strings.Contains(out, "drop connection") {
			t.Errorf("sshd on %s shut us out:\n%s", h, out)
		}
	}
}

// noJobLost waits until every job planned since first has run. A job of which Redis
// was never told, since it was moving, is none: whoever asked for it met an error.
func (f *fleet) noJobLost(t *testing.T, first string, faults ...*meddling) {
	t.Helper()
	const stamp = "2006-01-02 15:04:05.000"
	condition := "runs = 0 and id >= " + first
	for _, m := range faults {
		if m.fault == isMoved || m.fault == redisGone {
			condition += fmt.Sprintf(" and not created_at between '%s' and '%s'", m.hit.Add(-time.Second).UTC().Format(stamp), m.ended.Add(settling).UTC().Format(stamp))
		}
	}
	if left := f.jobsLeft(t, condition, 2*time.Minute); left != "" {
		t.Errorf("jobs did not run within two minutes:\n%s", left)
		return
	}
	f.tellJobs(t, first)
}

// before gives the fleet running v4.5.1, from which these tests upgrade it.
func before(t *testing.T) *fleet {
	t.Helper()
	f := theFleet(t)
	var st struct{ Hosts []struct{ Release string } }
	if a := f.run(t, "", "status", "--json"); json.Unmarshal([]byte(a.out), &st) != nil {
		t.Fatalf("status is no JSON: %s", a)
	}
	for _, h := range st.Hosts {
		if h.Release != "" && h.Release != "v4.5.1" {
			f = on(t, "v4.5.2")
			f.must(t, 0, "", []string{"rollback", "--yes"})
			break
		}
	}
	return f
}
