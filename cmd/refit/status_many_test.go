package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/hosts/nginx"
	"vmst.io/refit/hosts/node"
)

// crowd is a made-up fleet: an sshd in this process stands for all hosts, and answers
// as they do, by real verbs where they say something and by canned ones where they
// would ask a machine.
type crowd struct {
	*hoststest.Server
	hosts, proxies int
	config         string
}

// manyHosts makes a fleet of so many hosts: one in fifty is a proxy, two in five are
// web nodes, the others Sidekiq's, and one keeps and builds.
func manyHosts(t testing.TB, n int) crowd {
	t.Helper()
	m := crowd{Server: hoststest.NewServer(t), hosts: n, proxies: n / 50}
	dir := t.TempDir()
	line, err := os.ReadFile(m.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	_, key, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
	var known, hosts strings.Builder
	for i := range n {
		address := fmt.Sprintf("10.1.%d.%d", i/250, i%250+1)
		fmt.Fprintf(&known, "%s %s\n", address, key)
		fmt.Fprintf(&hosts, "  - {name: host-%d, address: %s, %s}\n", i, address, roleOf(i, m))
	}
	files := map[string]string{
		"known_hosts": known.String(),
		"refit.yml": fmt.Sprintf(`fleet: many
domain: many.test
upstream: {repository: "https://git.many.test/mastodon.git"}
ssh: {user: root, key: %s, known_hosts: %s, connect: 30s, silence: 30s}
database: {host: 10.2.0.1, port: 5432, name: mastodon}
hosts:
%s`, m.KeyFile, filepath.Join(dir, "known_hosts"), hosts.String()),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.config = filepath.Join(dir, "refit.yml")
	machine := node.Machine{State: t.TempDir()}
	verbs := append(keeper.Verbs(t.TempDir()), m.verbs()...)
	m.Instead = func(line string, in io.Reader, out io.Writer) error {
		// "exec test -x AGENT", or "exec AGENT node VERB"
		words := strings.Fields(strings.ReplaceAll(line, "'", ""))
		if words[1] == "test" {
			return nil // the agent is there
		}
		return machine.Serve(context.Background(), verbs, words[3:], in, struct{ io.Writer }{out})
	}
	return m
}

// roleOf is a host's role, with what refit.yml has beside it.
func roleOf(i int, m crowd) string {
	switch {
	case i == 0:
		return "roles: [builder, keeper]"
	case i <= m.proxies:
		return "roles: [proxy]"
	case i <= m.proxies+m.hosts*2/5:
		return "roles: [web], web: {port: 3000, streaming: [4000]}"
	case i == m.hosts-1:
		return "roles: [sidekiq], sidekiq: [{unit: mastodon-sidekiq.service, queues: [scheduler]}]"
	}
	return "roles: [sidekiq], sidekiq: [{unit: mastodon-sidekiq.service, queues: [default]}]"
}

// verbs are those of hosts on which all is well, but that the first web node is out
// of rotation.
func (m crowd) verbs() []node.Verb {
	return []node.Verb{
		{Name: "facts", Run: node.Typed(func(_ context.Context, in node.FactsIn, _ io.Reader, _ func(string)) (node.Facts, error) {
			f := node.Facts{Live: "v4.5.2"}
			for _, u := range in.Units {
				f.Units = append(f.Units, node.UnitState{Name: u, Active: "active", Release: "v4.5.2"})
			}
			return f, nil
		})},
		{Name: "upstream.get", Run: node.Typed(func(context.Context, nginx.UpstreamIn, io.Reader, func(string)) (nginx.UpstreamOut, error) {
			var servers []nginx.Server
			for i := m.proxies + 1; i <= m.proxies+m.hosts*2/5; i++ {
				servers = append(servers, nginx.Server{Address: fmt.Sprintf("10.1.%d.%d:3000", i/250, i%250+1), Down: i == m.proxies+1})
			}
			return nginx.UpstreamOut{Files: []nginx.FileServers{{Path: "web.conf", Servers: servers}}}, nil
		})},
	}
}

// session is a command's, that dials the made-up hosts.
func (m crowd) session(t testing.TB) *session {
	t.Helper()
	x, err := openOver(m.config, "", "status", func(string, ...any) {}, m.Dial)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// status asks the whole fleet once, as the command does.
func (m crowd) status(t testing.TB) status {
	t.Helper()
	x := m.session(t)
	st := x.status(context.Background())
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	return st
}

func (m crowd) check(t testing.TB, st status) {
	t.Helper()
	if len(st.Hosts) != m.hosts || st.KeeperError != "" {
		t.Fatalf("%d hosts, keeper %q", len(st.Hosts), st.KeeperError)
	}
	for i, h := range st.Hosts {
		want := "running"
		switch {
		case i <= m.proxies:
			want = "up"
		case i == m.proxies+1:
			var on []string
			for p := range m.proxies {
				on = append(on, fmt.Sprintf("host-%d", p+1))
			}
			want += ", out of rotation on " + strings.Join(on, ", ")
		}
		if h.State != want || (i > m.proxies && h.Release != "v4.5.2") {
			t.Fatalf("%s (%s) is %q on %q, want %q", h.Name, h.Roles, h.State, h.Release, want)
		}
	}
}

func TestStatusOfALargeFleetTakesOneConnectionAHostAndFewAtOnce(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	m := manyHosts(t, atOnce+50)
	m.check(t, m.status(t))
	if m.Accepted() != m.hosts {
		t.Errorf("%d connections to %d hosts", m.Accepted(), m.hosts)
	}
	// "Is the agent there?" and one answer; of a proxy one more, of the keeper the lease
	// and the list of journals.
	if got, most := len(m.Commands()), 2*m.hosts+m.proxies+3; got > most {
		t.Errorf("%d commands, at most %d are needed", got, most)
	}
	// The keeper's stays open, and a server sees an end a moment later than it is.
	if m.MostOpen() > atOnce+40 {
		t.Errorf("%d connections were open at once", m.MostOpen())
	}
}

func TestStatusOfASmallFleetKeepsItsConnections(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	m := manyHosts(t, 50)
	x := m.session(t)
	for range 2 {
		m.check(t, x.status(t.Context()))
	}
	if m.Accepted() != m.hosts {
		t.Errorf("%d connections to %d hosts that were asked twice", m.Accepted(), m.hosts)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAProxyThatDoesNotAnswerSaysNothingOfRotation(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	m := manyHosts(t, 50)
	answer := m.Instead
	m.Instead = func(line string, in io.Reader, out io.Writer) error {
		if strings.Contains(line, "upstream.get") {
			return io.ErrUnexpectedEOF
		}
		return answer(line, in, out)
	}
	for _, h := range m.status(t).Hosts {
		if strings.Contains(h.State, outOfRotation) || h.State == unreachableHost {
			t.Errorf("%s is %q", h.Name, h.State)
		}
	}
}

func TestManyAreDoneOnceEachAndNotAllAtOnce(t *testing.T) {
	var now, most, done atomic.Int64
	hold := make(chan struct{})
	go func() {
		for now.Load() < atOnce {
			runtime.Gosched()
		}
		close(hold)
	}()
	many(3*atOnce, func(int) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-hold
		done.Add(1)
		now.Add(-1)
	})
	if done.Load() != 3*atOnce || most.Load() != atOnce {
		t.Errorf("%d done, %d at once", done.Load(), most.Load())
	}
}

// heap watches how much of the heap is in use at most.
func heap() (end func() uint64) {
	runtime.GC()
	var most atomic.Uint64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			var s runtime.MemStats
			runtime.ReadMemStats(&s)
			most.Store(max(most.Load(), s.HeapInuse+s.StackInuse))
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 {
		close(stop)
		<-done
		return most.Load()
	}
}

// processorTime is what this process has used of processors: on a busy machine it
// says more than the clock.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkStatus is `refit status`; both ends of every connection are in this
// process, so that time and memory are an upper bound of refit's own.
func BenchmarkStatus(b *testing.B) {
	for _, n := range []int{250, 500, 1000} {
		b.Run(fmt.Sprintf("%d hosts", n), func(b *testing.B) {
			b.Setenv("XDG_STATE_HOME", b.TempDir())
			m := manyHosts(b, n)
			most, before := heap(), processorTime(b)
			for b.Loop() {
				m.check(b, m.status(b))
			}
			b.ReportMetric((processorTime(b)-before).Seconds()/float64(b.N), "processor-s/op")
			b.ReportMetric(float64(most())/1e6, "MB-at-most")
			b.ReportMetric(float64(m.MostOpen()), "connections-at-once")
			b.ReportMetric(float64(m.Accepted())/float64(b.N), "connections/op")
			b.ReportMetric(float64(len(m.Commands()))/float64(b.N), "commands/op")
		})
	}
}
