package stages

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/nginx"
	"vmst.io/refit/hosts/node"
)

// world is that fleet with agents that answer from memory, so that a stage's Run
// can be driven: every deed changes the world and is noted.
type world struct {
	t *testing.T
	d Deps
	f *Facts

	mu    sync.Mutex
	deeds []string // "kirk: stop", in order, without questions
	said  []string

	placed     map[string][]string // by host: releases that lie there beside the one of facts
	live, runs map[string]string   // by host: the link, and what its processes run ("" for stopped)
	quiet      map[string]bool
	killed     []mastodon.Process // whose records live for some time
	second     bool               // somebody else's scheduler works too
	restarts   map[string]int
	busy       int // jobs at work on every quieted node
	down       map[string]map[string]bool
	fails      map[string]error  // by "host verb"
	sick       map[string]string // by "host" or "host release": what its page says
	slow       time.Duration     // of the page
	requests   int               // between two looks, by proxy
	errors5xx  int               // of them
	nameErrors int64             // of workers on the new release
	orphans    map[string][]node.Holder
	redisRun   string
	cut        map[string]bool          // hosts that do not answer
	boots      map[string]string        // hosts that were rebooted
	booted     []string                 // nodes on which a release was booted once, and how
	unbootable string                   // the node on which none boots
	stuck      map[string]time.Duration // by verb: how long an answer takes
	full       map[string]bool          // whose disk is full
	queued     func() map[string]int64

	db       mastodon.Database
	dbFails  error
	blockers []mastodon.Blocker
	holder   *mastodon.Session // of Rails' lock for migrations
	jobs     map[string]node.Job
	lasts    int                             // how often a job is at work when asked
	ends     func(*world, node.Job) node.Job // what a job did when it ends
	log      string
	written  []byte // the last file that was put anywhere

	// What a node finds when it hashes a release, "kirk v4.5.15", and how often one was
	// asked; what git's tree hash is there, what runs, and what the keeper has on record.
	proved    map[string]node.VerifyOut
	lacks     map[string]bool // "kirk ruby-3.4.7"
	asked     []string        // "kirk v4.5.15 digest signed"
	switched  []string        // "kirk digest"
	sources   map[string]builds.SourceOut
	processes map[string]node.RunningOut
	record    []byte
	runsWith  map[string][]node.ToolchainRef // the toolchains of a release, by its name
	refuses   map[string]string              // why a node does not accept a signature
	permits   map[string]node.PermitOut      // by host, where it is not the usual one
	meddled   string                         // the host on which a unit dies as it is sealed

	forgotten bool // the builder has no release any more

	copies copies                       // of the database
	drifts map[string]func(*node.State) // by host: what is otherwise there than it should be
	keys   [][]byte                     // with which hosts were asked to hash

	secretless map[string][]string // by host: the secrets that it lacks
}

// inWorld runs a test in a world of its own, in which waiting takes no time.
func inWorld(t *testing.T, test func(*testing.T, *world)) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "refit")
	if err := os.WriteFile(binary, []byte("the agent"), 0o600); err != nil {
		t.Fatal(err)
	}
	state := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			t: t, d: someDeps(), f: someFacts(t), live: map[string]string{}, runs: map[string]string{}, quiet: map[string]bool{},
			placed: map[string][]string{}, restarts: map[string]int{}, cut: map[string]bool{}, boots: map[string]string{}, stuck: map[string]time.Duration{}, full: map[string]bool{}, permits: map[string]node.PermitOut{}, down: map[string]map[string]bool{}, fails: map[string]error{}, sick: map[string]string{},
			slow: 100 * time.Millisecond, requests: 30, queued: func() map[string]int64 { return nil }, db: aDatabase(), jobs: map[string]node.Job{}, lasts: 2, ends: migrates,
		}
		for i, n := range w.d.Fleet {
			w.down[n.Name] = map[string]bool{}
			w.d.Fleet[i].Agent = &node.Agent{
				Host: n.Name, Binary: binary, Run: "u-1", Epoch: func() int64 { return 1 },
				Shell: linked{w, n.Name, hoststest.NodeShell{Machine: node.Machine{System: "debian 13", State: filepath.Join(state, n.Name), Agent: "/var/lib/refit/bin/refit-0"}, Verbs: w.verbs(n)}},
			}
		}
		for _, n := range w.d.Fleet.Apps() {
			w.live[n.Name], w.runs[n.Name] = "v4.5.14", "v4.5.14"
		}
		test(t, w)
	})
}

// linked is the way to a host, which can be cut.
type linked struct {
	w    *world
	host string
	hosts.Shell
}

// Run takes as long to notice the silence as a real link.
func (l linked) Run(ctx context.Context, c hosts.Command, out io.Writer) error {
	l.w.mu.Lock()
	cut, stuck := l.w.cut[l.host], l.w.stuck[c.Argv[min(2, len(c.Argv)-1)]]
	l.w.mu.Unlock()
	if stuck > 0 {
		if err := pause(ctx, stuck); err != nil {
			return err
		}
	}
	if !cut {
		return l.Shell.Run(ctx, c, out)
	}
	if err := pause(ctx, 5*time.Second); err != nil {
		return err
	}
	return fmt.Errorf("%s: no answer for 5s: %w", l.host, hosts.ErrSilent)
}

// after changes the world when the time has passed, if the test still runs then.
func (w *world) after(d time.Duration, change func()) {
	time.AfterFunc(d, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		change()
	})
}

func (w *world) node(name string) Node {
	n, ok := w.d.Fleet.Named(name)
	if !ok {
		w.t.Fatalf("no node %s", name)
	}
	return n
}

func (w *world) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, fmt.Sprintf(format, args...))
}

func (w *world) heard(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.said, func(line string) bool { return strings.Contains(line, text) })
}

// done are the deeds, those of one kind on both proxies as one.
func (w *world) done() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.deeds, ", ")
}

// answer makes a verb of a function that is called alone.
func answer[In, Out any](w *world, n Node, name string, f func(In) (Out, error)) node.Verb {
	return node.Verb{Name: name, Run: node.Typed(func(_ context.Context, in In, _ io.Reader, _ func(string)) (Out, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if err := w.fails[n.Name+" "+name]; err != nil {
			var none Out
			return none, err
		}
		return f(in)
	})}
}

func (w *world) verbs(n Node) []node.Verb {
	deed := func(format string, args ...any) {
		w.deeds = append(w.deeds, n.Name+": "+fmt.Sprintf(format, args...))
	}
	return append(append(w.copying(n), w.configuring(n)...), []node.Verb{
		answer(w, n, "fence.show", func(struct{}) (node.Fence, error) { return node.Fence{Epoch: 1, Verbs: w.orphans[n.Name]}, nil }),
		answer(w, n, "facts", func(in node.FactsIn) (node.Facts, error) {
			f := hostFacts(w.d, n, w.f)
			f.Clock, f.Units = time.Now(), nil
			if boot := w.boots[n.Name]; boot != "" {
				f.Boot = boot
			}
			for _, r := range w.placed[n.Name] {
				f.Releases = append(f.Releases, node.ReleaseFact{Name: r, Digest: "digest of " + r, Complete: true})
			}
			if in.Permit != nil {
				p := w.permit(n, *in.Permit)
				f.Permit = &p
			}
			if w.live[n.Name] != "" {
				f.Live = w.live[n.Name]
				for _, u := range w.units(n).Units {
					u.ExecStart, u.StopTimeout = execStart(w.d, n, u.Name), 90*time.Second
					f.Units = append(f.Units, u)
				}
			}
			return f, nil
		}),
		answer(w, n, "nginx.facts", func(nginx.UpstreamIn) (nginx.Facts, error) { return nginx.Facts{Active: true}, nil }),
		answer(w, n, "state.read", func(in node.StateIn) (node.State, error) { return w.state(n, in), nil }),
		answer(w, n, "sync", func(struct{}) (struct{}, error) {
			deed("sync")
			return struct{}{}, nil
		}),
		answer(w, n, "redis", func(mastodon.RedisIn) (mastodon.RedisServers, error) {
			return mastodon.RedisServers{Servers: []mastodon.RedisServer{{Uses: []string{"main", "sidekiq"}, Version: "7.2.4", Role: "master", Policy: "noeviction", RunID: w.redisRun}}}, nil
		}),
		answer(w, n, "file.put", func(in node.FilePutIn) (struct{}, error) {
			deed("write %s", in.Path)
			w.written = in.Content
			return struct{}{}, nil
		}),
		answer(w, n, "prune", func(in node.PruneIn) (node.PruneOut, error) {
			deed("keep %s", strings.Join(in.Keep, " "))
			return node.PruneOut{Removed: []string{"v4.5.12"}}, nil
		}),
		answer(w, n, "manifest.show", func(in node.ManifestIn) (node.Head, error) {
			if w.forgotten {
				return node.Head{}, node.Failf(node.CodeNotFound, "it is not there any more")
			}
			return node.Head{Release: in.Release, Digest: "digest of " + in.Release, Toolchains: w.runsWith[in.Release]}, nil
		}),
		answer(w, n, "place.verify", func(in node.VerifyIn) (node.VerifyOut, error) {
			w.asked = append(w.asked, strings.TrimSpace(n.Name+" "+in.Release+" "+in.Digest))
			out, ok := w.proved[n.Name+" "+in.Release]
			switch {
			case w.lacks[n.Name+" "+in.Release]:
				return out, node.Failf(node.CodeNotFound, "%s is not there", in.Release)
			case ok:
				return out, nil
			}
			return w.whole(in.Release), nil
		}),
		answer(w, n, "source.show", func(in builds.SourceIn) (builds.SourceOut, error) {
			if out, ok := w.sources[n.Name]; ok {
				return out, nil
			}
			return w.source(in.Version.String()), nil
		}),
		answer(w, n, "running", func(in node.RunningIn) (node.RunningOut, error) {
			if out, ok := w.processes[n.Name]; ok {
				return out, nil
			}
			out := node.RunningOut{Live: w.live[n.Name]}
			for i, u := range in.Units {
				out.Processes = append(out.Processes, node.Process{Pid: 100 + i, Name: "ruby", Unit: u, Release: w.live[n.Name]})
			}
			return out, nil
		}),
		answer(w, n, "signature.check", func(in node.SignatureIn) (node.SignatureOut, error) {
			if why := w.refuses[n.Name]; why != "" {
				return node.SignatureOut{}, node.Failf(node.CodeSignature, "%s", why)
			}
			return node.SignatureOut{By: in.Signed.Identity}, nil
		}),
		answer(w, n, "permit.show", func(in node.PermitIn) (node.PermitOut, error) { return w.permit(n, in), nil }),
		answer(w, n, "permit.write", func(in node.PermitIn) (node.PermitOut, error) {
			deed("permit")
			if w.meddled == n.Name {
				w.runs[n.Name] = ""
			}
			return w.writePermit(n, in), nil
		}),
		answer(w, n, "file.get", func(node.FileGetIn) (node.FileGetOut, error) {
			if w.record == nil {
				return node.FileGetOut{}, node.Failf(node.CodeNotFound, "there is no such file")
			}
			return node.FileGetOut{Content: w.record}, nil
		}),
		answer(w, n, "units.show", func(node.UnitsIn) (node.UnitsOut, error) { return w.units(n), nil }),
		answer(w, n, "units", func(in node.UnitsIn) (node.UnitsOut, error) {
			deed("%s", strings.TrimSpace(string(in.Op)+" "+in.Signal))
			switch in.Op {
			case node.StopUnits:
				w.runs[n.Name], w.quiet[n.Name] = "", false
			case node.StartUnits:
				if err := w.fails[n.Name+" start"]; err != nil {
					return w.units(n), err
				}
				w.runs[n.Name] = w.live[n.Name]
			case node.KillUnits:
				w.quiet[n.Name] = true
			}
			return w.units(n), nil
		}),
		answer(w, n, "switch", func(in node.SwitchIn) (node.SwitchOut, error) {
			deed("switch to %s", in.Release)
			w.switched = append(w.switched, strings.TrimSpace(n.Name+" "+in.Digest))
			out := node.SwitchOut{Old: w.live[n.Name], New: in.Release, Changed: w.live[n.Name] != in.Release}
			w.live[n.Name] = in.Release
			return out, nil
		}),
		answer(w, n, "journal", func(in node.JournalIn) (node.JournalOut, error) {
			return node.JournalOut{Lines: []string{"2026-11-22T07:30:00 " + n.Name + " puma[1]: LoadError (cannot load such file) for " + in.Unit}}, nil
		}),
		answer(w, n, "inflight", func(node.InflightIn) (node.InflightOut, error) { return node.InflightOut{}, nil }),
		answer(w, n, "upstream.get", func(nginx.UpstreamIn) (nginx.UpstreamOut, error) { return upstreams(w.d, w.down[n.Name]), nil }),
		answer(w, n, "upstream.set", func(in nginx.SetIn) (nginx.SetOut, error) {
			changed := w.down[n.Name][in.Address] != in.Down
			if changed && w.full[n.Name] {
				return nginx.SetOut{}, errors.New("no space left on device")
			}
			deed("%s %s", in.Address, map[bool]string{true: "down", false: "up"}[in.Down])
			w.down[n.Name][in.Address] = in.Down
			return nginx.SetOut{Changed: changed, Reloaded: changed}, nil
		}),
		answer(w, n, "access", func(in nginx.AccessIn) (nginx.Access, error) {
			if in.Since == (nginx.Cursor{}) {
				return nginx.Access{Next: nginx.Cursor{Inode: 1, Offset: 1}}, nil
			}
			return nginx.Access{Next: in.Since, Traffic: nginx.Traffic{Requests: w.requests, Errors: w.errors5xx}}, nil
		}),
		answer(w, n, "probe", func(in mastodon.ProbeIn) (mastodon.Probe, error) { return w.probe(n, in), nil }),
		answer(w, n, "bridge", func(node.BridgeIn) (node.BridgeOut, error) { return node.BridgeOut{ToFrom: 2}, nil }),
		answer(w, n, "packs", func(mastodon.PacksIn) (mastodon.Packs, error) {
			if w.runs[n.Name] == "" {
				return mastodon.Packs{Asked: 4, Failed: []mastodon.FailedPack{{Path: "/packs/a.js", Error: "connection refused"}}}, nil
			}
			return mastodon.Packs{Asked: 4}, nil
		}),
		answer(w, n, "sidekiq", func(mastodon.SidekiqIn) (mastodon.SidekiqState, error) { return w.sidekiq(), nil }),
		answer(w, n, "db", func(in mastodon.DatabaseIn) (mastodon.Database, error) {
			if w.db.Applied == nil && !in.SkipSchema {
				return mastodon.Database{}, errors.New("it has no table schema_migrations")
			}
			db := w.db
			db.Now = time.Now()
			return db, w.dbFails
		}),
		answer(w, n, "db.activity", func(mastodon.ActivityIn) (mastodon.Activity, error) {
			a := mastodon.Activity{Now: time.Now(), Blockers: w.blockers, Queued: 3, Started: w.db.Started}
			if w.holder != nil {
				a.LockHeld, a.Migrators = true, []mastodon.Session{*w.holder}
			}
			return a, w.dbFails
		}),
		answer(w, n, "job.status", func(in node.UnitIn) (node.Job, error) { return w.job(jobOn(n, in.Unit)), nil }),
		answer(w, n, "libraries", func(mastodon.LibrariesIn) (mastodon.Libraries, error) { return mastodon.Libraries{}, nil }),
		answer(w, n, "job.clear", func(in node.UnitIn) (struct{}, error) {
			delete(w.jobs, jobOn(n, in.Unit))
			return struct{}{}, nil
		}),
		answer(w, n, "job.start", func(in node.JobIn) (node.Job, error) {
			if in.Unit == smokeUnit { // a boot changes nothing
				w.booted = append(w.booted, n.Name+" "+in.Argv[len(in.Argv)-2])
				j := node.Job{Unit: in.Unit, State: node.JobDone, Result: "success", Argv: in.Argv}
				if w.unbootable == n.Name {
					j.Result, j.Code = "exit-code", 1
				}
				w.jobs[jobOn(n, in.Unit)] = j
				return j, nil
			}
			deed("start %s", in.Unit)
			w.jobs[in.Unit] = node.Job{Unit: in.Unit, State: node.JobRunning, Argv: in.Argv, Run: "u-1", Began: time.Now()}
			return w.jobs[in.Unit], nil
		}),
		answer(w, n, "job.log", func(in node.JobLogIn) (node.JobLogOut, error) {
			if in.Unit == smokeUnit {
				said := []byte("refit.version=4.5.15\n")
				if w.unbootable == n.Name {
					said = []byte("Undeclared attribute type for enum (RuntimeError)\n")
				}
				return node.JobLogOut{Data: said, Next: int64(len(said)), Size: int64(len(said))}, nil
			}
			from := min(max(in.Offset, 0), int64(len(w.log)))
			return node.JobLogOut{Data: []byte(w.log[from:]), Next: int64(len(w.log)), Size: int64(len(w.log))}, nil
		}),
	}...)
}

// whole is a release that is as it was placed.
func (w *world) whole(release string) node.VerifyOut {
	for _, r := range []builds.Release{w.f.From, w.f.To} {
		if r.Version.String() == release {
			return node.VerifyOut{Head: node.Head{Release: release, Commit: r.Tag.Commit, Tree: r.Tag.Tree, Digest: "digest of " + release, Files: 7}}
		}
	}
	return node.VerifyOut{}
}

// source is one whose files are its tag's.
func (w *world) source(release string) builds.SourceOut {
	for _, r := range []builds.Release{w.f.From, w.f.To} {
		if r.Version.String() == release {
			return builds.SourceOut{Tag: r.Tag, Tree: r.Tag.Tree, Files: 5, Builder: "refit://khan", Run: "u-1", Finished: morning}
		}
	}
	return builds.SourceOut{}
}

func (w *world) units(n Node) node.UnitsOut {
	var out node.UnitsOut
	for i, name := range n.Units() {
		u := node.UnitState{Name: name, Load: "loaded", Active: "inactive", Sub: "dead", Result: "success", Restarts: w.restarts[n.Name]}
		if w.runs[n.Name] != "" {
			u.Active, u.Sub, u.Pid, u.Release = "active", "running", 100+i, w.runs[n.Name]
		}
		out.Units = append(out.Units, u)
	}
	return out
}

func (w *world) sidekiq() mastodon.SidekiqState {
	s := someSidekiq(w.d.Fleet, "", time.Now())
	s.Processed = time.Now().Unix()
	s.Jobs = &mastodon.JobCounts{Queued: w.queued()}
	var listed []mastodon.Process
	for _, p := range s.Processes {
		p.Tag, p.Quiet = w.runs[p.Hostname], w.quiet[p.Hostname]
		if p.Quiet {
			p.Busy = w.busy
		}
		if p.Tag == "v4.5.15" {
			s.NameErrors = w.nameErrors
		}
		if p.Tag != "" {
			listed = append(listed, p)
		}
		if tag := w.runs[p.Hostname+"'"]; tag != "" { // of a machine that has another's name
			p.Tag, p.Quiet = tag, w.quiet[p.Hostname+"'"]
			listed = append(listed, p)
		}
	}
	for _, p := range w.killed {
		if s.Now.Sub(p.Beat) < 50*time.Second {
			listed = append(listed, p)
		}
	}
	if w.second {
		listed = append(listed, mastodon.Process{Hostname: "elsewhere", Pid: 7, Tag: "v4.5.14", Queues: []string{"scheduler"}, Beat: s.Now})
	}
	s.Processes = listed
	return s
}

func (w *world) probe(n Node, in mastodon.ProbeIn) mastodon.Probe {
	fault := w.sick[n.Name]
	if f := w.sick[n.Name+" "+w.runs[n.Name]]; f != "" {
		fault = f
	}
	switch {
	case w.runs[n.Name] == "":
		fault = "connection refused"
	case fault == "" && in.Release != "" && in.Release != w.runs[n.Name]:
		fault = "the page is of " + w.runs[n.Name]
	}
	p := mastodon.Probe{Latency: &mastodon.Latency{Path: "/", P50: w.slow}}
	for _, c := range in.Checks {
		check := mastodon.Check{Name: c, OK: true}
		if c == mastodon.CheckPage && fault != "" {
			check.OK, check.Error = false, fault
		}
		p.Checks = append(p.Checks, check)
	}
	return p
}

// job is asked for: one at work ends after a few times.
// jobOn is where a job is found: trial boots run on several nodes at once, migrations
// on one.
func jobOn(n Node, unit string) string {
	if unit == smokeUnit {
		return n.Name + " " + unit
	}
	return unit
}

func (w *world) job(unit string) node.Job {
	j, ok := w.jobs[unit]
	if !ok {
		return node.Job{Unit: unit, State: node.JobNone}
	}
	if j.State == node.JobRunning {
		if w.lasts--; w.lasts <= 0 {
			j = w.ends(w, j)
			w.jobs[unit] = j
		}
	}
	return j
}

// migrates ends a job well, and the database then has what its phase applies.
func migrates(w *world, j node.Job) node.Job {
	j.State, j.Result, j.Ended = node.JobDone, "success", time.Now()
	w.db.Applied = append(w.db.Applied, preMigration.Version)
	if j.Unit == postUnit {
		w.db.Applied = append(w.db.Applied, postMigration.Version)
	}
	w.log += "== 20251101000000 AddAColumn: migrating ====\n== 20251101000000 AddAColumn: migrated (0.0100s) ====\n"
	return j
}

// breaks ends a job with a status, and the database lacks what it did.
func breaks(w *world, j node.Job) node.Job {
	j.State, j.Result, j.Code, j.Ended = node.JobDone, "exit-code", 1, time.Now()
	w.log += "rails aborted!\nPG::LockNotAvailable: ERROR:  canceling statement due to lock timeout\n"
	return j
}

func failsWith(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
}

func did(t *testing.T, w *world, want string) {
	t.Helper()
	if got := w.done(); got != want {
		t.Errorf("done:\n  %s\nwanted:\n  %s", got, want)
	}
}

var errDown = errors.New("the link is gone")
