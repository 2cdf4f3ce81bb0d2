package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vmst.io/refit/hosts/lab"
)

// canaries are the lab's secrets, each new in each lab: wherever one is found outside
// of the files that must hold it, it was leaked. planted is one that the test puts
// down itself, to prove that it finds things.
func canaries(t *testing.T, l *lab.Lab) map[string]string {
	t.Helper()
	key, err := os.ReadFile(l.KeyFile())
	if err != nil {
		t.Fatal(err)
	}
	s := l.Secrets
	return map[string]string{
		"DB_PASS": s.Database, "REDIS_PASSWORD": s.Redis, "SECRET_KEY_BASE": s.KeyBase, "OTP_SECRET": s.OTP,
		"ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY": s.KeyBase[0:32], "ACTIVE_RECORD_ENCRYPTION_DETERMINISTIC_KEY": s.KeyBase[32:64],
		"ACTIVE_RECORD_ENCRYPTION_KEY_DERIVATION_SALT": s.KeyBase[64:96],
		"VAPID_PRIVATE_KEY":                            s.Vapid, "AWS_SECRET_ACCESS_KEY": s.Storage, "SMTP_PASSWORD": s.Mail,
		"the probe's token": s.Probe, "the ssh key": strings.Split(string(key), "\n")[3], "planted": planted,
	}
}

const planted = "canary-that-is-planted-0f4b1c"

// recorder keeps all that refit said in this test process.
type recorder struct {
	mu   sync.Mutex
	said []string
}

func (r *recorder) add(args []string, texts ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, "refit "+strings.Join(args, " ")+"\n"+strings.Join(texts, "\n"))
}

// sampler looks at the arguments of every process of this machine, those of the
// lab's hosts among them, and notes those that hold a canary.
type sampler struct {
	mu   sync.Mutex
	seen int
	hits map[string]string // by argument list: the canary's name
}

// watchArguments samples until the test process ends. A process is looked at three
// times, since it has its parent's arguments until it has executed its program.
func watchArguments(canaries map[string]string) *sampler {
	s := &sampler{hits: map[string]string{}}
	go func() {
		looked := map[string]int{}
		for range time.Tick(40 * time.Millisecond) {
			procs, err := os.ReadDir("/proc")
			if err != nil {
				return
			}
			now := make(map[string]int, len(looked))
			for _, p := range procs {
				pid := p.Name()
				if pid[0] < '0' || pid[0] > '9' {
					continue
				}
				if now[pid] = looked[pid]; now[pid] >= 3 {
					continue
				}
				now[pid]++
				b, err := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
				if err != nil || len(b) == 0 {
					continue // it has ended, or is the kernel's
				}
				s.look(strings.ReplaceAll(string(b), "\x00", " "), canaries)
			}
			looked = now
		}
	}()
	return s
}

func (s *sampler) look(line string, canaries map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen++
	for name, c := range canaries {
		if strings.Contains(line, c) {
			s.hits[line] = name
		}
	}
}

// leak is one canary in one place.
type leak struct{ canary, place string }

// TestLabNoSecretIsFoundAnywhereAfterAllThatRan looks for each canary in all that
// refit said, wrote and started in this test process: after good runs, refused ones
// and broken ones.
func TestLabNoSecretIsFoundAnywhereAfterAllThatRan(t *testing.T) {
	f := on(t, "v4.5.2")
	all := canaries(t, f.Lab)
	began := time.Now()
	var found []leak
	note := func(place, text string) {
		for name, c := range all {
			if strings.Contains(text, c) {
				found = append(found, leak{name, place})
			}
		}
	}
	// The plant: in a job's log, in the journal, in an argument, in the mirror, in what
	// refit said.
	log := filepath.Join(f.Root("scotty"), "var/lib/refit/jobs/planted.log")
	mirror := filepath.Join(f.Dir, "state", "planted.json")
	for _, file := range []string{log, mirror} {
		if err := os.WriteFile(file, []byte("SECRET="+planted+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(file)
	}
	if _, err := f.Exec(t.Context(), "kirk", "sh", "-c", "echo "+planted+" | systemd-cat -t plant; sleep 1; true"); err != nil {
		t.Fatal(err)
	}
	f.said.add([]string{"planted"}, planted)

	f.said.mu.Lock()
	said := slices.Clone(f.said.said)
	f.said.mu.Unlock()
	for _, text := range said {
		first, _, _ := strings.Cut(text, "\n")
		note("said by "+first, text)
	}
	// The operator's side: the mirror of journals, caches. The packs of the git cache
	// are what upstream publishes.
	for _, dir := range []string{filepath.Join(f.Dir, "state"), filepath.Join(f.Dir, "cache"), f.dir} {
		err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || strings.HasSuffix(p, ".pack") {
				return err
			}
			b, err := os.ReadFile(p)
			note(p, string(b))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	f.eachHost(t, func(m lab.Machine) error {
		text, err := f.Exec(t.Context(), m.Name, "sh", "-c", journalOf)
		if err != nil {
			return err
		}
		lines := 0
		for line := range strings.Lines(text) {
			lines++
			for name, c := range all {
				if strings.Contains(line, c) {
					f.said.mu.Lock()
					found = append(found, leak{name, m.Name + "'s journal: " + strings.ReplaceAll(strings.TrimSpace(line), c, "<"+name+">")})
					f.said.mu.Unlock()
				}
			}
		}
		if lines < 10 {
			return fmt.Errorf("the journal of %s has only %d lines", m.Name, lines)
		}
		return nil
	})
	files := f.grepHosts(t, all)
	found = append(found, files...)
	f.watch.mu.Lock()
	for line, name := range f.watch.hits {
		found = append(found, leak{name, "arguments: " + strings.ReplaceAll(line, all[name], "<"+name+">")})
	}
	seen := f.watch.seen
	f.watch.mu.Unlock()

	sources := map[string]bool{}
	for _, l := range found {
		if l.canary != "planted" {
			t.Errorf("%s stands in %s", l.canary, l.place)
			continue
		}
		for _, source := range []string{"said by", mirror, "kirk's journal", "scotty: /var/lib/refit/jobs/planted.log", "arguments"} {
			sources[source] = sources[source] || strings.HasPrefix(l.place, source)
		}
	}
	for source, met := range sources {
		if !met {
			t.Errorf("what was planted is not found in %q: the search sees nothing there", source)
		}
	}
	if len(sources) == 0 {
		t.Error("nothing that was planted is found")
	}
	t.Logf("%d canaries looked for in what %d runs said, %d argument lists, files and journals of %d hosts, in %.1f s", len(all)-1, len(said)-1, seen, len(lab.Machines()), time.Since(began).Seconds())
}

// journalOf prints the whole journal, of the application's own units too, with sudo's
// lines, which hold the arguments of every call of the agent, and systemd's, which
// hold those of every transient unit.
const journalOf = "journalctl --no-pager -q -o short-iso"

// eachHost does something on every host of the lab at once.
func (f *fleet) eachHost(t *testing.T, do func(lab.Machine) error) {
	t.Helper()
	var wg sync.WaitGroup
	for _, m := range lab.Machines() {
		wg.Go(func() {
			if err := do(m); err != nil {
				t.Errorf("%s: %v", m.Name, err)
			}
		})
	}
	wg.Wait()
}

// grepped are the places on a managed host that hold what refit or a unit of its
// writes. The files that must hold secrets are not below them, but for the token.
const grepped = "/var/lib/refit /home/mastodon/releases/*/.refit /home/mastodon/releases/*/tmp /home/mastodon/shared/log /home/refit /srv/git/config.git " +
	"/var/cache/refit /var/tmp /tmp /etc/refit /etc/nginx/refit /etc/systemd /run/systemd /var/log"

// grepHosts looks for canaries in files of the managed hosts. The patterns travel in
// a file: an argument is what must not hold them.
func (f *fleet) grepHosts(t *testing.T, all map[string]string) []leak {
	t.Helper()
	var patterns bytes.Buffer
	for _, c := range all {
		fmt.Fprintln(&patterns, c)
	}
	var mu sync.Mutex
	var found []leak
	f.eachHost(t, func(m lab.Machine) error {
		if !m.Managed {
			return nil
		}
		if err := install(f.Lab, m.Name, "/root/canaries", patterns.Bytes(), 0o600); err != nil {
			return err
		}
		defer os.Remove(filepath.Join(f.Root(m.Name), "root/canaries"))
		// -o tells which one; binaries are searched as text.
		out, err := f.Exec(t.Context(), m.Name, "sh", "-c", "grep -roaF -f /root/canaries --exclude-dir=journal --exclude=probe.token "+grepped+" 2>/dev/null; true")
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for line := range strings.Lines(out) {
			file, what, _ := strings.Cut(strings.TrimSpace(line), ":")
			for name, c := range all {
				if c == what {
					found = append(found, leak{name, m.Name + ": " + file})
				}
			}
		}
		return nil
	})
	return found
}
