package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// errand is a run of refit that is under way while the test does something to the
// fleet.
type errand struct {
	c     *exec.Cmd
	out   bytes.Buffer
	lines *hearing
	began time.Time
	over  chan struct{} // closed at its end
	err   error
}

// hearing is what refit has said so far.
type hearing struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // closed, and made anew, at each write
}

func (h *hearing) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.more)
	h.more = make(chan struct{})
	return h.text.Write(b)
}

// since is what was said after a place, and what is closed when more is.
func (h *hearing) since(from int) (string, chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()[from:], h.more
}

// errand starts refit on a configuration (empty for the lab's own).
func (f *fleet) errand(t *testing.T, config string, args ...string) *errand {
	t.Helper()
	self, err := filepath.Abs("../../bin/lab")
	if err != nil {
		t.Fatal(err)
	}
	e := &errand{c: refitUnder(t.Context(), f.Lab, self, f.refit, args...), lines: &hearing{more: make(chan struct{})}, began: time.Now(), over: make(chan struct{})}
	if config != "" {
		e.c.Env = append(e.c.Env, "REFIT_CONFIG="+config)
	}
	e.c.Stdout, e.c.Stderr = &e.out, e.lines
	if err := e.c.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		e.err = e.c.Wait()
		close(e.over)
	}()
	return e
}

// said is how much refit has said: a place for hears.
func (e *errand) said() int {
	text, _ := e.lines.since(0)
	return len(text)
}

// hears waits until refit says the words after a place, and returns the line.
func (e *errand) hears(t *testing.T, from int, words string) string {
	t.Helper()
	limit := time.After(4 * time.Minute)
	for {
		text, more := e.lines.since(from)
		if before, after, ok := strings.Cut(text, words); ok {
			line := before[strings.LastIndex(before, "\n")+1:] + words
			rest, _, _ := strings.Cut(after, "\n")
			t.Logf("after %.1f s: %s%s", time.Since(e.began).Seconds(), line, rest)
			return line + rest
		}
		select {
		case <-more:
		case <-e.over:
			t.Fatalf("refit ended and never said %q: %s", words, e.answer(t))
		case <-limit:
			t.Fatalf("refit does not say %q in four minutes: %s", words, text)
		}
	}
}

// answer is how it ended, which it has.
func (e *errand) answer(t *testing.T) answer {
	t.Helper()
	text, _ := e.lines.since(0)
	if exit, ok := errors.AsType[*exec.ExitError](e.err); ok {
		return answer{exit.ExitCode(), e.out.String(), text}
	}
	if e.err != nil {
		t.Fatal(e.err)
	}
	return answer{0, e.out.String(), text}
}

// stop asks refit to stop, as Ctrl-C does.
func (e *errand) stop(t *testing.T) {
	t.Helper()
	if err := e.c.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
}

// ends waits for its end and asks for an exit code and words.
func (e *errand) ends(t *testing.T, code int, words ...string) answer {
	t.Helper()
	<-e.over
	a := e.answer(t)
	t.Logf("refit %s: exit %d after %.1f s", strings.Join(e.c.Args[len(e.c.Args)-3:], " "), a.code, time.Since(e.began).Seconds())
	if a.code != code {
		t.Fatalf("not exit %d but %s", code, a)
	}
	for _, w := range words {
		if !strings.Contains(a.out+a.err, w) {
			t.Errorf("refit does not say %q:\n%s", w, a)
		}
	}
	return a
}

// awaitSQL waits until a statement answers what is wanted.
func (f *fleet) awaitSQL(t *testing.T, statement, want string) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for {
		got := strings.TrimSpace(f.sql(t, statement))
		if got == want {
			return
		}
		select {
		case <-limit:
			t.Fatalf("%s still answers %q, not %q", statement, got, want)
		case <-tick.C:
		}
	}
}

// session lets a session of a person work in the database until it is ended by
// endSession or with its server: a transaction that does the statement and stays
// open where hold is said.
func (f *fleet) session(t *testing.T, name, statement string, hold bool) {
	t.Helper()
	script := "set application_name = '" + name + "'; begin; " + statement
	if hold {
		script += "; select pg_sleep(600)"
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	host := f.Primary
	go func() {
		defer close(ended)
		// That it is ended is no error of it.
		f.Exec(ctx, host, "runuser", "-u", "postgres", "--", "psql", "-qAt", "-d", "mastodon", "-c", script) //nolint:errcheck // see above
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	at := "state = 'active'"
	if hold {
		at = "query like '%pg_sleep(600)%' and wait_event = 'PgSleep'"
	}
	f.awaitSQL(t, "select count(*) from pg_stat_activity where application_name = '"+name+"' and "+at, "1")
}

// queue lets sessions of Mastodon's own account begin a statement that has to wait for
// a lock, and returns once all of them wait. Each is over with its statement.
func (f *fleet) queue(t *testing.T, n int, statement string) {
	t.Helper()
	// The password stays out of every argument list.
	const psql = `. /home/mastodon/.env.production; export PGPASSWORD=$DB_PASS PGAPPNAME=queue; exec psql -qAt -h $DB_HOST -U $DB_USER -d mastodon -c "$1"`
	for range n {
		ended := make(chan error, 1)
		go func() {
			_, err := f.Exec(context.WithoutCancel(t.Context()), "decker", "bash", "-c", psql, "bash", statement)
			ended <- err
		}()
		t.Cleanup(func() {
			if err := <-ended; err != nil {
				t.Errorf("a session that had to wait: %v", err)
			}
		})
	}
	f.awaitSQL(t, "select count(*) from pg_stat_activity where application_name = 'queue' and wait_event_type = 'Lock'", strconv.Itoa(n))
}

// endSession ends it, as a person does who is told its pid.
func (f *fleet) endSession(t *testing.T, name string) {
	t.Helper()
	f.sql(t, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = '"+name+"'")
}
