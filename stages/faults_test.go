package stages

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts"
	"vmst.io/refit/pipeline"
)

// This walks the half of docs/faults.md that needs no real disk, link or lease
// through all stages in process: every cell of a host, of the database and of Redis,
// for a fault that passes and for one that stays. What stands in the page is what is
// asked for here; the lab's tests ask the same of real hosts.

// fragile is the way to a host that may give way.
type fragile struct {
	hosts.Shell
	name string
	away func() bool
	slow func() bool
}

func (s fragile) Run(ctx context.Context, c hosts.Command, out io.Writer) error {
	if s.slow() {
		time.Sleep(2 * time.Second) // synctest's own time
	}
	if s.away() {
		time.Sleep(10 * time.Second)
		return fmt.Errorf("%s: %w", s.name, hosts.ErrSilent)
	}
	return s.Shell.Run(ctx, c, out)
}

// trial is one cell and one way for its fault to go.
type trial struct {
	stage, step, host, fault string
	passes                   bool
	want                     []string
}

func (c trial) String() string {
	return fmt.Sprintf("%s/%s %s/%s", c.step, c.host, c.fault, map[bool]string{true: "passes", false: "stays"}[c.passes])
}

// pageTrials reads the cells of docs/faults.md.
func pageTrials(t *testing.T) []trial {
	t.Helper()
	b, err := os.ReadFile("../docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	steps := map[string][4]string{ // the plan's line; its host, its peer, a proxy
		"pre-migrate": {"pre-migrate", "scotty", "decker", "sulu"}, "roll sidekiq": {"roll sidekiq scotty", "scotty", "decker", "sulu"},
		"roll web": {"roll web kirk", "kirk", "spock", "sulu"}, "soak": {"soak", "kirk", "", "sulu"},
		"post-migrate": {"post-migrate", "scotty", "kirk", "sulu"}, "record": {"record", "uhura", "", "sulu"}, "prune": {"prune", "kirk", "", "sulu"},
	}
	var out []trial
	stage := ""
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if after, found := strings.CutPrefix(line, "## "); found {
			stage = after
		}
		step, walked := steps[stage]
		if !walked {
			continue
		}
		add := func(host, fault, cell string) {
			passes, stays, found := strings.Cut(cell, " / ")
			if !found {
				t.Fatalf("%s: %q is no cell", stage, cell)
			}
			for i, want := range []string{passes, stays} {
				if want != "–" {
					out = append(out, trial{stage, step[0], host, fault, i == 0, strings.Split(want, "|")})
				}
			}
		}
		line = strings.ReplaceAll(line, `\|`, "&")
		if after, found := strings.CutPrefix(line, "Database promoted / gone: "); found {
			db, rest, _ := strings.Cut(strings.ReplaceAll(after, "&", "|"), ". Redis moved / gone: ")
			redis, _, _ := strings.Cut(rest, ".")
			add("", "database", db)
			add("", "redis", redis)
			continue
		}
		columns := strings.Split(strings.Trim(line, "|"), "|")
		which := slices.Index([]string{"its host", "its peer", "a proxy"}, strings.TrimSpace(columns[0]))
		if which < 0 || step[which+1] == "" {
			continue
		}
		for i, fault := range []string{"cut", "frozen", "rebooted", "off", "full", "slow"} {
			add(step[which+1], fault, strings.ReplaceAll(strings.TrimSpace(columns[i+1]), "&", "|"))
		}
	}
	if len(out) < 150 {
		t.Fatalf("only %d cells were read from docs/faults.md", len(out))
	}
	return out
}

// breakIt lets the fault hit, and mends it in its time.
func (w *world) breakIt(c trial, away, slow map[string]bool) {
	mended := func(d time.Duration, mend func()) {
		if c.passes {
			w.after(d, mend)
		}
	}
	all := append(append(Fleet{}, w.d.webs()...), w.d.sidekiqs()...)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch c.fault {
	case "cut", "frozen":
		away[c.host] = true
		mended(20*time.Second, func() { delete(away, c.host) })
	case "rebooted", "off":
		away[c.host], w.runs[c.host] = true, ""
		mended(map[string]time.Duration{"rebooted": 5 * time.Second, "off": 20 * time.Second}[c.fault], func() {
			delete(away, c.host)
			w.boots[c.host] = "another boot"
			w.runs[c.host], w.quiet[c.host] = w.live[c.host], false
		})
	case "full":
		for _, verb := range []string{"units", "switch", "file.put", "prune", "job.start"} {
			w.fails[c.host+" "+verb] = errors.New("no space left on device")
		}
		w.full[c.host] = true
		mended(5*time.Second, func() {
			clear(w.fails)
			clear(w.full)
		})
	case "slow":
		slow[c.host] = true
		mended(5*time.Second, func() { delete(slow, c.host) })
	case "database":
		w.dbFails, w.db.Started = errors.New("connection refused"), w.db.Started.Add(time.Hour)
		for _, n := range w.d.webs() {
			w.sick[n.Name] = "database: connection refused"
		}
		mended(5*time.Second, func() {
			w.dbFails = nil
			clear(w.sick)
		})
	case "redis":
		w.redisRun = "another"
		for _, n := range all {
			w.fails[n.Name+" redis"], w.fails[n.Name+" sidekiq"] = errors.New("connection refused"), errors.New("connection refused")
		}
		mended(5*time.Second, func() { clear(w.fails) })
	}
}

// meet runs an upgrade in which the fault hits in its step, and gives the exit code
// that the result means.
func (w *world) meet(t *testing.T, c trial) (string, pipeline.Result) {
	t.Helper()
	away, slow := map[string]bool{}, map[string]bool{}
	for _, n := range w.d.Fleet {
		has := func(m map[string]bool) func() bool {
			return func() bool { w.mu.Lock(); defer w.mu.Unlock(); return m[n.Name] }
		}
		n.Agent.Shell = fragile{n.Agent.Shell, n.Name, has(away), has(slow)}
	}
	w.f.Pre, w.f.Post = nil, nil
	w.db.Applied = append(w.db.Applied, preMigration.Version, postMigration.Version)
	p := Upgrade("u-1", w.d, w.f)
	p.Steps = slices.DeleteFunc(p.Steps, func(s pipeline.Step) bool {
		return slices.Contains([]string{"preflight", "build", "place", "bridge assets", "search"}, s.Name())
	})
	hit := false
	watch := pipeline.Watch(pipeline.ObserverFunc(func(e pipeline.Event) {
		w.say("%s %s %s %s", e.Kind, e.Step, e.Text, e.Err)
		if e.Kind == pipeline.StepStarted && e.Step == c.step && !hit {
			hit = true
			w.breakIt(c, away, slow)
		}
	}))
	o := pipeline.Options{Ground: w.d.Ground(), Patience: time.Minute, Watch: watch}
	res := pipeline.Execute(t.Context(), p, pipeline.NewJournal(p, &oneShelf{}, 1, morning), o)
	if !hit {
		t.Fatalf("%s never began", c.step)
	}
	switch {
	case res.Status == pipeline.Done:
		return "on", res
	case res.Status == pipeline.Undone && res.Touched:
		return "6", res
	case res.Status == pipeline.Undone:
		return "1", res
	case res.Status == pipeline.Refused:
		return "3", res
	}
	return "7", res
}

// wholeOn asks that all nodes that answer run a release and are in rotation.
func (w *world) wholeOn(t *testing.T, c trial, release string) {
	t.Helper()
	time.Sleep(time.Minute) // synctest's own: what passes is over then, also where nobody waited
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.d.Fleet.Apps() {
		if !c.passes && n.Name == c.host && c.fault != "full" && c.fault != "slow" {
			continue
		}
		if w.runs[n.Name] != release || w.quiet[n.Name] {
			t.Errorf("%s runs %q (quiet: %v), not %s", n.Name, w.runs[n.Name], w.quiet[n.Name], release)
		}
	}
	for _, p := range w.d.proxies() {
		if !c.passes && p.Name == c.host {
			continue
		}
		for address, down := range w.down[p.Name] {
			if down {
				t.Errorf("%s is out of rotation on %s", address, p.Name)
			}
		}
	}
}

// told tells whether what was waited for was named: by the engine, or by the gate
// that met it. A reboot can be over before anybody notices.
func (w *world) told(c trial) bool {
	name := c.host + map[string]string{"database": "database", "redis": "connection refused"}[c.fault]
	return slices.ContainsFunc(w.said, func(line string) bool {
		return strings.Contains(line, name) && (strings.HasPrefix(line, "step-waiting") || strings.Contains(line, "run again"))
	})
}

func TestEveryFaultOfThePageEndsAsThePageSays(t *testing.T) {
	for i, c := range pageTrials(t) {
		if raced && i%4 != 0 {
			continue // "go test" walks all
		}
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(t *testing.T, w *world) {
				got, res := w.meet(t, c)
				wanted := slices.Contains(c.want, got) || got == "on" && slices.Contains(c.want, "wait")
				if !wanted {
					t.Errorf("ended with %s, the page says %v: %v; %v; state %q, next %q\n%s", got, c.want, res.Err, res.UndoErr, res.State, res.Next, strings.Join(w.said, "\n"))
					return
				}
				switch got {
				case "on":
					w.wholeOn(t, c, "v4.5.15")
					if slices.Equal(c.want, []string{"wait"}) && c.fault != "rebooted" && !w.told(c) {
						t.Errorf("nobody was told what was waited for:\n%s", strings.Join(w.said, "\n"))
					}
				case "6", "1":
					w.wholeOn(t, c, "v4.5.14")
				case "7":
					if res.State == "" {
						t.Error("no state is named")
					}
				}
			})
		})
	}
}
