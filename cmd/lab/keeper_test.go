package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// herald calls do once, when the words have been written to it.
type herald struct {
	mu   sync.Mutex
	all  bytes.Buffer
	word string
	do   func()
	once sync.Once
}

func (h *herald) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, err := h.all.Write(b)
	if bytes.Contains(h.all.Bytes(), []byte(h.word)) {
		h.once.Do(h.do)
	}
	return n, err
}

// whenSaid runs refit and does something to the world as soon as refit says the words.
func (f *fleet) whenSaid(t *testing.T, words string, do func(*os.Process), args ...string) answer {
	t.Helper()
	self, err := filepath.Abs("../../bin/lab")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	c := refitUnder(t.Context(), f.Lab, self, f.refit, args...)
	happened := false
	h := &herald{word: words, do: func() { happened = true; do(c.Process) }}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, h
	a := answer{}
	if err := c.Run(); err != nil {
		e, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			t.Fatal(err)
		}
		a.code = e.ExitCode()
	}
	a.out, a.err = out.String(), h.all.String()
	t.Logf("refit %s: exit %d after %.1f s", strings.Join(args, " "), a.code, time.Since(began).Seconds())
	if !happened {
		t.Fatalf("refit %s never said %q: %s", strings.Join(args, " "), words, a)
	}
	return a
}

// killRefit ends refit as a power cut would.
func killRefit(t *testing.T) func(*os.Process) {
	return func(p *os.Process) {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	}
}

const keeperDir = "/var/lib/refit/keeper"

// loseJournals loses the keeper's journals and lease, and with here this machine's copies.
func (f *fleet) loseJournals(t *testing.T, here bool) {
	t.Helper()
	f.onHost(t, "uhura", "rm", "-rf", keeperDir)
	if here {
		if err := os.RemoveAll(filepath.Join(f.Dir, "state", "refit", "lab")); err != nil {
			t.Fatal(err)
		}
	}
}

func (f *fleet) onHost(t *testing.T, host string, argv ...string) string {
	t.Helper()
	out, err := f.Exec(t.Context(), host, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// readOnly makes the keeper's folder read-only, or writable again.
func (f *fleet) readOnly(t *testing.T, on bool) {
	t.Helper()
	if !on {
		f.onHost(t, "uhura", "umount", keeperDir)
		return
	}
	f.onHost(t, "uhura", "mount", "--bind", keeperDir, keeperDir)
	f.onHost(t, "uhura", "mount", "-o", "remount,bind,ro", keeperDir)
}

// TestLabALostJournalIsRebuiltFromTheHosts loses every journal, then the keeper's, then
// all again, each time of a run that is half way through its rolls, with users at work.
func TestLabALostJournalIsRebuiltFromTheHosts(t *testing.T) {
	f := on(t, "v4.5.2")
	f.must(t, 0, "", []string{"place", "--first", "--to", "v4.5.1"})
	f.underLoad(t, func() {
		f.halfBackWithoutJournals(t)
		// The keeper's disk fills up while the run goes on from this machine's copy.
		a := f.whenSaid(t, "is out of rotation", func(*os.Process) {
			if err := f.Fill(t.Context(), "uhura"); err != nil {
				t.Error(err)
			}
		}, "resume", "--from-hosts", "--yes")
		mustEnd(t, a, 7, "no space left", "nothing was done or undone after that", "refit resume")
		if err := f.Free(t.Context(), "uhura"); err != nil {
			t.Fatal(err)
		}
		// Everything is lost but the hosts, of which one is back on v4.5.1: forward again.
		f.loseJournals(t, true)
		a = f.must(t, 0, "", []string{"resume", "--from-hosts", "--to", "v4.5.2", "--yes"}, "taken from the hosts alone", "DONE")
		mustSay(t, a, "scotty serves v4.5.2", "decker serves v4.5.2")
		f.runsEverywhere(t, "v4.5.2")
	})
}

// TestLabTheKeepersDiskMayFailOnTheWayBackAndForward goes back to v4.5.1 and up to
// v4.5.2 again, in one chain.
func TestLabTheKeepersDiskMayFailOnTheWayBackAndForward(t *testing.T) {
	full(t)
	f := on(t, "v4.5.2")
	f.must(t, 0, "", []string{"place", "--first", "--to", "v4.5.1"})
	f.underLoad(t, func() {
		f.backWithoutJournals(t)
		f.upThoughTheDiskIsFull(t)
	})
	f.must(t, 0, "", []string{"verify"}, "unmodified")
}

var resumed = []string{"resume", "--yes"}

// halfBackWithoutJournals begins to take v4.5.2 back to v4.5.1 and leaves the run half
// way, known to this machine alone.
func (f *fleet) halfBackWithoutJournals(t *testing.T) {
	t.Helper()
	// Without any journal what the hosts run and what lies on them tells all.
	f.loseJournals(t, true)
	f.must(t, 3, "", []string{"rollback", "--from-hosts", "--yes"}, "say which release it went to")
	a := f.whenSaid(t, "is out of rotation", killRefit(t), "rollback", "--from-hosts", "--to", "v4.5.2", "--yes")
	mustSay(t, a, "v4.5.1 → v4.5.2", "taken from the hosts alone", "kirk serves v4.5.2")

	// The keeper is gone for good in the middle of that; this machine has the copy.
	f.loseJournals(t, false)
	before := f.fingerprint(t)
	for _, words := range [][]string{resumed, {"rollback", "--yes"}, {"upgrade", "--to", "v4.5.2", "--yes"}} {
		f.must(t, 7, "", words, "knows of no upgrade", "refit resume --from-hosts", "Nothing was changed")
	}
	f.must(t, 3, "", []string{"resume", "--from-hosts"}, "--yes", "going backward", "in between", "out of rotation on")
	f.same(t, before)
}

// backWithoutJournals takes v4.5.2 back to v4.5.1.
func (f *fleet) backWithoutJournals(t *testing.T) {
	t.Helper()
	f.halfBackWithoutJournals(t)
	// Its disk turns read-only while the run goes on from the copy.
	a := f.whenSaid(t, "is out of rotation", func(*os.Process) { f.readOnly(t, true) }, "resume", "--from-hosts", "--yes")
	mustEnd(t, a, 7, "read-only", "nothing was done or undone after that", "refit resume")
	f.must(t, 7, "", resumed, "read-only", "this command changed nothing", "refit resume")
	f.readOnly(t, false)
	f.must(t, 0, "", resumed, "going backward")
	f.runsEverywhere(t, "v4.5.1")
}

// upThoughTheDiskIsFull brings v4.5.1 to v4.5.2.
func (f *fleet) upThoughTheDiskIsFull(t *testing.T) {
	t.Helper()
	a := f.whenSaid(t, "roll sidekiq decker: begun", func(*os.Process) {
		if err := f.Fill(t.Context(), "uhura"); err != nil {
			t.Error(err)
		}
	}, "upgrade", "--to", "v4.5.2", "--yes")
	mustEnd(t, a, 7, "no space left", "nothing was done or undone after that", "refit resume")
	f.must(t, 0, "", []string{"status"}, "roll sidekiq decker is doing", "refit resume")
	if err := f.Free(t.Context(), "uhura"); err != nil {
		t.Fatal(err)
	}
	f.whenSaid(t, "is out of rotation", killRefit(t), resumed...)

	// And everything is lost but the hosts.
	f.loseJournals(t, true)
	a = f.must(t, 0, "", []string{"resume", "--from-hosts", "--to", "v4.5.2", "--yes"}, "taken from the hosts alone", "DONE")
	mustSay(t, a, "scotty serves v4.5.2", "decker serves v4.5.2", "in between", "spock")
	f.runsEverywhere(t, "v4.5.2")
}

// TestLabAKeeperThatCannotBeTrustedStopsEveryRunBeforeItsFirstChange fills the disk,
// makes it read-only, and spoils the files on it.
func TestLabAKeeperThatCannotBeTrustedStopsEveryRunBeforeItsFirstChange(t *testing.T) {
	f := on(t, "v4.5.2")
	f.spoilTheKeeper(t)
	f.runsEverywhere(t, "v4.5.2")
}

func (f *fleet) spoilTheKeeper(t *testing.T) {
	t.Helper()
	before := f.fingerprint(t)
	upgrade := []string{"upgrade", "--to", "v4.6.0", "--yes"}
	if err := f.Fill(t.Context(), "uhura"); err != nil {
		t.Fatal(err)
	}
	f.must(t, 3, "", upgrade, "uhura", "free")
	if err := f.Free(t.Context(), "uhura"); err != nil {
		t.Fatal(err)
	}
	f.readOnly(t, true)
	f.must(t, 3, "", upgrade, "read-only", "nothing was touched")
	f.readOnly(t, false)

	newest := strings.TrimSpace(f.onHost(t, "uhura", "sh", "-c", "ls -t "+keeperDir+"/journal/*.json | head -1"))
	f.onHost(t, "uhura", "cp", "-p", newest, "/root/journal")
	for _, test := range []struct{ how, spoil, words string }{
		{"a newer format", `sed -i '1s/"format":1/"format":2/'`, "use the newer refit"},
		{"edited", `sed -i '2,$s/"v4.5.2"/"v4.5.3"/'`, "refit resume --from-hosts"},
		{"truncated", "truncate -s 40", "refit resume --from-hosts"},
	} {
		f.onHost(t, "uhura", "cp", "-p", "/root/journal", newest)
		f.onHost(t, "uhura", "sh", "-c", test.spoil+" "+newest)
		for _, words := range [][]string{upgrade, {"rollback", "--yes"}, {"resume", "--yes"}, {"status"}} {
			a := f.run(t, "", words...)
			if a.code != 7 || !strings.Contains(a.out+a.err, test.words) {
				t.Errorf("%s, refit %s: not 7 and %q but %s", test.how, words[0], test.words, a)
			}
		}
		f.same(t, before)
	}
	// The truncated one is replaced from this machine's copy, as far as the hosts confirm it.
	f.must(t, 0, "", []string{"resume", "--from-hosts", "--yes"}, "is damaged", "the copy in", "DONE")
	f.must(t, 0, "", []string{"status"}, "nothing: no run was left half way")

	f.onHost(t, "uhura", "sh", "-c", "echo torn > "+keeperDir+"/lease.json")
	f.must(t, 3, "", []string{"doctor", "--fix"}, "damaged", "refit unlock")
	f.must(t, 0, "", []string{"unlock", "--yes"})
	f.must(t, 0, "", []string{"doctor", "--fix"})
}

func mustSay(t *testing.T, a answer, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(a.out+a.err, w) {
			t.Errorf("it does not say %q:\n%s", w, a)
		}
	}
}

func mustEnd(t *testing.T, a answer, code int, words ...string) {
	t.Helper()
	if a.code != code {
		t.Fatalf("not exit %d but %s", code, a)
	}
	mustSay(t, a, words...)
}
