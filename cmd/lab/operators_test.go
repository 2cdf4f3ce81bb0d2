package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// atWork is a refit that somebody has started and that may be frozen, interrupted
// or killed.
type atWork struct {
	o    *operator
	cmd  *exec.Cmd
	said *transcript
	over chan error
}

// transcript is what a program has written so far.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // closed when something is added
}

func newTranscript() *transcript { return &transcript{more: make(chan struct{})} }

func (w *transcript) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.more)
	w.more = make(chan struct{})
	return w.text.Write(b)
}

func (w *transcript) look() (string, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String(), w.more
}

// begin starts refit and returns at once.
func (o *operator) begin(t *testing.T, args ...string) *atWork {
	t.Helper()
	w := &atWork{o: o, cmd: o.command(t, args...), said: newTranscript(), over: make(chan error, 1)}
	w.cmd.Stdout, w.cmd.Stderr = w.said, w.said
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { w.over <- w.cmd.Wait() }()
	return w
}

// await waits until it has said something.
func (w *atWork) await(t *testing.T, words string) {
	t.Helper()
	limit := time.After(2 * time.Minute)
	for {
		text, more := w.said.look()
		if strings.Contains(text, words) {
			return
		}
		select {
		case <-more:
		case err := <-w.over:
			w.over <- err
			if text, _ = w.said.look(); !strings.Contains(text, words) {
				t.Fatalf("%s's refit ended (%v) and never said %q:\n%s", w.o.name, err, words, text)
			}
			return
		case <-limit:
			t.Fatalf("%s's refit does not say %q:\n%s", w.o.name, words, text)
		}
	}
}

func (w *atWork) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := w.cmd.Process.Signal(s); err != nil {
		t.Fatalf("%s's refit: %v", w.o.name, err)
	}
}

// ends waits for the end and asks for its code and words.
func (w *atWork) ends(t *testing.T, code int, words ...string) {
	t.Helper()
	began := time.Now()
	var err error
	select {
	case err = <-w.over:
	case <-time.After(2 * time.Minute):
		text, _ := w.said.look()
		t.Fatalf("%s's refit does not end:\n%s", w.o.name, text)
	}
	got := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		got = e.ExitCode()
	}
	text, _ := w.said.look()
	t.Logf("%s's %s: exit %d, %.1f s after that", w.o.name, w.cmd.Args[len(w.cmd.Args)-2:], got, time.Since(began).Seconds())
	if got != code {
		t.Fatalf("%s's refit ended with %d, not %d:\n%s", w.o.name, got, code, text)
	}
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%s's refit does not say %q:\n%s", w.o.name, word, text)
		}
	}
}

// change edits the operator's own refit.yml.
func (o *operator) change(t *testing.T, from, to string) {
	t.Helper()
	file := filepath.Join(o.dir, "refit.yml")
	b, err := os.ReadFile(file)
	if err == nil && !bytes.Contains(b, []byte(from)) {
		err = fmt.Errorf("it holds no %q", from)
	}
	if err == nil {
		err = os.WriteFile(file, bytes.ReplaceAll(b, []byte(from), []byte(to)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// handOver freezes somebody's run where it says words; the next operator sees the
// evidence, unlocks and resumes until his own run says until, and then the frozen
// one is thawed and must have lost.
func (f *fleet) handOver(t *testing.T, w *atWork, words string, next *operator, until string, evidence ...string) *atWork {
	t.Helper()
	w.await(t, words)
	w.signal(t, syscall.SIGSTOP)
	a := next.run(t, "unlock", "--yes")
	if a.code != 0 {
		t.Fatalf("%s cannot unlock: %s", next.name, a)
	}
	for _, word := range append([]string{"held by", "since", "last beat", "run, step", "kirk", "uhura", fmt.Sprintf("process %d)", w.pid())}, evidence...) {
		if !strings.Contains(a.err, word) {
			t.Errorf("unlock shows no %q:\n%s", word, a.err)
		}
	}
	n := next.begin(t, "resume", "--yes")
	n.await(t, until)
	n.signal(t, syscall.SIGSTOP)
	before := f.quiet(t)
	done := strings.Count(w.text(), ": done")
	w.signal(t, syscall.SIGCONT)
	w.ends(t, 7, "LEASE LOST", "refit status", "refit resume")
	if now := strings.Count(w.text(), ": done"); now != done {
		t.Errorf("%s ended a step after the thaw:\n%s", w.o.name, w.text())
	}
	f.same(t, before)
	n.signal(t, syscall.SIGCONT)
	return n
}

func (w *atWork) text() string {
	text, _ := w.said.look()
	return text
}

// pid is the process as it sees itself.
func (w *atWork) pid() int {
	if w.o.elsewhere {
		return 1
	}
	return w.cmd.Process.Pid
}

// quiet waits until the hosts change no more, and gives their fingerprint: what a
// frozen operator had asked for goes on to its end.
func (f *fleet) quiet(t *testing.T) map[string]string {
	t.Helper()
	limit := time.After(time.Minute)
	for last := f.fingerprint(t); ; {
		now := f.fingerprint(t)
		if maps.Equal(now, last) {
			return now
		}
		last = now
		select {
		case <-limit:
			t.Fatal("the hosts do not come to rest")
		default:
		}
	}
}

// turnedAway asks that nothing that an operator tries gets past the one who works,
// and that he is told who that is, at which step, and since when.
func (f *fleet) turnedAway(t *testing.T, o *operator, holder *operator, step string) {
	t.Helper()
	// The lease names the step within a second or two.
	limit := time.After(10 * time.Second)
	for a := o.run(t, "unlock"); !strings.Contains(a.err, ", "+step); a = o.run(t, "unlock") {
		select {
		case <-limit:
			t.Fatalf("the lease does not name the step of %s: %s", holder.name, a)
		default:
		}
	}
	before := f.fingerprint(t)
	tries := map[string]int{
		"upgrade --to v4.6.2 --yes": 5, "resume --yes": 5, "rollback --yes": 5, "place --to v4.6.0": 5, "build --to v4.6.0": 5, "doctor --fix": 5,
		"unlock": 3, // nobody is there to answer its question
	}
	var wg sync.WaitGroup
	for line, code := range tries {
		wg.Go(func() {
			a := o.run(t, strings.Fields(line)...)
			if a.code != code {
				t.Errorf("refit %s beside a run at work: not exit %d but %s", line, code, a)
			}
			for _, word := range []string{step, " ago", "process "} {
				if !strings.Contains(a.err, word) {
					t.Errorf("refit %s does not say %q: %s", line, word, a)
				}
			}
		})
	}
	wg.Wait()
	if a := o.run(t, "status"); !strings.Contains(a.out, step) || !strings.Contains(a.out, "last sign of life") || !strings.Contains(a.out, "wait for the run at work") {
		t.Errorf("status beside a run of %s at work: %s", holder.name, a)
	}
	f.same(t, before)
}

// invocation tells one start of a unit from all others.
func (f *fleet) invocation(t *testing.T, host, unit string) string {
	t.Helper()
	out, err := f.Exec(t.Context(), host, "systemctl", "show", "--value", "-p", "InvocationID", unit)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func TestLabOperatorsInOneUpgradeAreFrozenInterruptedAndKilled(t *testing.T) {
	full(t)
	f := on(t, "v4.5.2")
	by := f.operators(t, true)
	ann, bob := by[1], by[2]
	ann.change(t, "migrate_stall: 20s", "migrate_stall: 100s")
	bob.change(t, "migrate_stall: 20s", "migrate_stall: 100s")
	stopped := []string{"STOPPED as asked", "refit resume"}
	f.withDatabase(t, func() {
		f.sql(t, "insert into settings (var, value, created_at, updated_at) values ('lab.report_seconds', '55', now(), now())")
		// One Ctrl-C while the release is placed.
		w := ann.begin(t, "upgrade", "--to", "v4.6.2", "--yes")
		w.await(t, "place: begun")
		w.signal(t, syscall.SIGINT)
		w.ends(t, 130, stopped...)

		w = ann.begin(t, "resume", "--yes")
		w = f.handOver(t, w, "bridge assets: begun", bob, "it goes on even if refit")
		// The migration is at work, and waits for a lock.
		started := f.invocation(t, "scotty", "refit-migrate-pre.service")
		f.turnedAway(t, ann, bob, "pre-migrate")
		w.signal(t, syscall.SIGTERM)
		w.ends(t, 130, append(stopped, "keeps running on scotty")...)

		w = ann.begin(t, "resume", "--yes")
		w = f.handOver(t, w, "found refit-migrate-pre.service at work", bob, "found refit-migrate-pre.service at work", "refit-migrate-pre.service since", "a resume adopts it")
		if now := f.invocation(t, "scotty", "refit-migrate-pre.service"); now != started {
			t.Errorf("the migration was started twice: %s, %s", started, now)
		}
		// Twice Ctrl-C: whether the step at work ended is not known.
		w.await(t, "roll sidekiq scotty: begun")
		w.signal(t, syscall.SIGINT)
		w.await(t, "once more to abort at once")
		w.signal(t, syscall.SIGINT)
		w.ends(t, 130, "BROKEN OFF", "doing (unknown)", "refit resume")

		w = ann.begin(t, "resume", "--yes")
		w = f.handOver(t, w, "roll sidekiq scotty: begun", bob, "roll sidekiq decker: begun")
		w = f.handOver(t, w, "roll sidekiq decker: begun", ann, "roll web kirk: begun")
		// Killed with a node out of rotation.
		w.await(t, "kirk is out of rotation, its requests")
		w.signal(t, syscall.SIGKILL)
		<-w.over
		a := ann.run(t, "status")
		for _, word := range []string{"out of rotation on sulu, chekov", "works no more", "refit resume"} {
			if !strings.Contains(a.out, word) {
				t.Errorf("status after the kill does not say %q: %s", word, a)
			}
		}
		if a := ann.run(t, "doctor"); !strings.Contains(a.out, "kirk: out of rotation on sulu, chekov") {
			t.Errorf("doctor after the kill: %s", a)
		}
		if a := ann.run(t, "doctor", "--fix"); a.code != 3 || !strings.Contains(a.err, "left half way") {
			t.Errorf("doctor --fix while a run stands half way: %s", a)
		}

		// A terminal that is closed, with the live view on it.
		f.closedTerminal(t, ann, "roll web spock")

		w = bob.begin(t, "resume", "--yes")
		w = f.handOver(t, w, ": begun", ann, ": begun")
		w.ends(t, 0, "DONE")
		f.runsEverywhere(t, "v4.6.2")
		if a := ann.run(t, "rollback", "--yes"); a.code != 0 {
			t.Fatalf("the way back: %s", a)
		}
		f.runsEverywhere(t, "v4.5.2")
	})
}

// closedTerminal resumes on a real terminal, which is closed when the live view
// shows a step at work: the run goes on to its safe point and ends there.
func (f *fleet) closedTerminal(t *testing.T, o *operator, step string) {
	t.Helper()
	screen, tty, err := pty()
	if err != nil {
		t.Fatal(err)
	}
	w := &atWork{o: o, cmd: o.command(t, "resume", "--yes"), said: newTranscript(), over: make(chan error, 1)}
	w.cmd.Stdin, w.cmd.Stdout, w.cmd.Stderr = tty, tty, tty
	w.cmd.Env = append(w.cmd.Env, "TERM=xterm")
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { w.over <- w.cmd.Wait() }()
	if err := tty.Close(); err != nil {
		t.Fatal(err)
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		io.Copy(w.said, screen) //nolint:errcheck // ends with the terminal
	}()
	w.await(t, "▸ "+step)
	if err := screen.Close(); err != nil {
		t.Fatal(err)
	}
	<-copied
	w.ends(t, 130)
	a := o.run(t, "status")
	if !strings.Contains(a.out, step) || !strings.Contains(a.out, "stopped on request") || strings.Contains(a.out, "lease:") {
		t.Errorf("after the terminal was closed: %s", a)
	}
}

// pty opens a terminal: what is shown on it, and the end for a program.
func pty() (screen, tty *os.File, err error) {
	screen, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	var unlock, number int32
	for _, c := range []struct {
		request uintptr
		at      *int32
	}{{syscall.TIOCSPTLCK, &unlock}, {syscall.TIOCGPTN, &number}} {
		if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, screen.Fd(), c.request, uintptr(unsafe.Pointer(c.at))); e != 0 {
			return nil, nil, errors.Join(e, screen.Close())
		}
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, errors.Join(err, screen.Close())
	}
	return screen, tty, nil
}

// leave puts on a host what a run that was killed may leave there.
const leave = `agent=$(ls -t /var/lib/refit/bin/refit-* | head -1); epoch=$(head -1 /var/lib/refit/fence)
job() { printf '{"epoch":%d,"run":"dead-run","in":{"unit":"%s","argv":["/bin/sleep","600"]}}\n' $epoch $1 | "$agent" node job.start > /dev/null; }
case $(hostname) in
uhura)
  job refit-build-left.service
  mkdir -p /home/mastodon/releases/.refit-tmp-half /home/mastodon/releases/.refit-build-v4.5.2-1/old; touch /var/lib/refit/.refit-tmp-x
  echo '{"pid":99999,"verb":"prune","run":"dead-run","epoch":1,"start":1,"boot":"x"}' > /run/refit/holders/99999-1.json
  printf '{"epoch":%d,"run":"dead-run","in":{"path":"/root/ops-file","content":"eA==","validate":["sleep","600"]}}\n' $epoch > /root/ops-request
  setsid "$agent" node file.put < /root/ops-request > /dev/null 2>&1 &
  until ls /run/refit/holders/$!-*.json && pgrep -P $!; do :; done > /dev/null 2>&1
  kill -STOP $!;;
scotty) job refit-migrate-pre.service;;
sulu) printf '{"epoch":%d,"run":"dead-run","in":{"address":"10.77.0.21","down":true}}\n' $epoch | "$agent" node upstream.set > /dev/null;;
esac`

func TestLabOperatorsFindAndClearWhatACrashLeft(t *testing.T) {
	f := on(t, "v4.5.2")
	for _, host := range []string{"uhura", "scotty", "sulu"} {
		if _, err := f.Exec(t.Context(), host, "sh", "-c", leave); err != nil {
			t.Fatal(err)
		}
	}
	left := []string{
		"uhura: unit refit-build-left.service at work, of run dead-run", "uhura: placing /home/mastodon/releases/.refit-tmp-half",
		"uhura: build /home/mastodon/releases/.refit-build-v4.5.2-1", "uhura: file /var/lib/refit/.refit-tmp-x", "uhura: holder /run/refit/holders/99999-1.json",
		"uhura: file.put of epoch", "which is frozen", "kirk: out of rotation on sulu",
	}
	migration := "scotty: migration refit-migrate-pre.service at work, of run dead-run (it is never ended"
	a := f.run(t, "", "doctor")
	for _, word := range append(left, migration) {
		if !strings.Contains(a.out, word) {
			t.Errorf("doctor does not list %q", word)
		}
	}
	t.Logf("doctor: %s", a)
	a = f.run(t, "", "status")
	if !strings.Contains(a.out, "out of rotation on sulu") || !strings.Contains(a.out, "refit doctor --fix") {
		t.Errorf("status: %s", a)
	}
	// One Ctrl-C ends the fixing; what is left is fixed by the next.
	by := f.operators(t, false)
	w := by[0].begin(t, "doctor", "--fix")
	w.await(t, "refit doctor: lab")
	w.signal(t, syscall.SIGINT)
	w.ends(t, 130)

	a = f.run(t, "", "doctor", "--fix")
	t.Logf("doctor --fix: %s", a)
	a = f.run(t, "", "doctor")
	for _, word := range left {
		if strings.Contains(a.out, word) {
			t.Errorf("doctor --fix left %q: %s", word, a)
		}
	}
	if !strings.Contains(a.out, migration) {
		t.Errorf("doctor --fix ended a migration: %s", a)
	}
	if out, err := f.Exec(t.Context(), "scotty", "systemctl", "is-active", "refit-migrate-pre.service"); err != nil || strings.TrimSpace(out) != "active" {
		t.Errorf("the migration is %s, %v", out, err)
	}
	if out, err := f.Exec(t.Context(), "uhura", "sh", "-c", "rm -f /root/ops-file /root/ops-request; pgrep -f '[n]ode file.put'; systemctl is-active refit-build-left.service; ls -A /home/mastodon/releases | grep '^.refit'; true"); err != nil || strings.TrimSpace(out) != "inactive" {
		t.Errorf("uhura still has: %s %v", out, err)
	}
	if _, err := f.Exec(t.Context(), "scotty", "sh", "-c", "systemctl stop refit-migrate-pre.service; rm -rf /var/lib/refit/jobs/refit-migrate-pre.service*"); err != nil {
		t.Error(err)
	}
	f.well(t)
	f.runsEverywhere(t, "v4.5.2")
}

// A laptop that sleeps past its lease has lost it, also where nobody took it, and
// the next resume goes on.
func TestLabOperatorsWhoseLaptopSleepsLoseTheirLease(t *testing.T) {
	full(t)
	f := on(t, "v4.5.2")
	ann := f.operators(t, false)[1]
	f.withDatabase(t, func() {
		w := ann.begin(t, "upgrade", "--to", "v4.6.0", "--yes")
		w.await(t, "roll web kirk: begun")
		w.signal(t, syscall.SIGSTOP)
		// The keeper's clock tells when the lease has been over for a while.
		for a := ann.run(t, "status"); !strings.Contains(a.out, "last sign of life 1m1"); a = ann.run(t, "status") {
			if strings.Contains(a.out, "last sign of life 1m3") {
				t.Fatal(a)
			}
		}
		w.signal(t, syscall.SIGCONT)
		w.ends(t, 7, "LEASE LOST", "not renewed for", "refit resume")
		if a := ann.run(t, "resume", "--yes"); a.code != 0 {
			t.Fatal(a)
		}
		f.runsEverywhere(t, "v4.6.0")
		if a := ann.run(t, "rollback", "--yes"); a.code != 0 {
			t.Fatal(a)
		}
	})
}
