package stages

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/toolchain"
	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/nginx"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

const copyRun = "20261123-230000-fghij"

// redisPassword is the new Redis's: it may stand nowhere but in the copies' settings.
const redisPassword = "nobody-may-see-this-one"

// theatre is a world in which a copy of the fleet is upgraded. It fails the test at once
// where anything of the fleet's own is changed.
type theatre struct {
	*nursery
	fork    mastodon.Database // the copy's
	shut    map[string]bool   // copies whose settings were rewritten
	leaks   string            // an address that copies reach though they must not,
	tight   int               // after so many proofs
	took    time.Duration     // until a database is online
	lost    string            // the method whose answer is lost once, by name
	changed []string          // "khan job.start": verbs that change, on the fleet's own hosts
	fails   map[string]error  // by method of the account
	begun   map[string]time.Time
	limit   int
}

// inTheatre is inBirth in a fleet that runs v4.5.14 and may rehearse.
func inTheatre(t *testing.T, test func(*testing.T, *theatre)) {
	t.Helper()
	inBirth(t, func(t *testing.T, n *nursery) {
		th := &theatre{
			nursery: n, fork: aDatabase(), shut: map[string]bool{}, took: 20 * time.Minute, fails: map[string]error{}, begun: map[string]time.Time{}, limit: 25,
		}
		th.fork.Direct.Host, th.fork.Size = "fork.example", 3<<30
		w := n.w
		for _, h := range w.d.Fleet.Apps() {
			w.live[h.Name], w.runs[h.Name] = "v4.5.14", "v4.5.14"
		}
		w.db = aDatabase()
		w.ends = th.migrates
		n.a.bases = []cloud.Database{{ID: "production", Name: "majel", Engine: "pg", Status: online, Host: "10.77.0.41", Port: 5432, Region: "tor1", Size: "db-s-2vcpu-4gb"}}
		for i, h := range w.d.Fleet {
			if h.Has(hosts.Builder) {
				n.extend(w.d.Fleet[i].Agent, th.builder(h))
			}
			w.d.Fleet[i].Agent.Shell = sentry{th, h, w.d.Fleet[i].Agent.Shell}
		}
		w.d.Rehearsals = &Rehearsals{
			API: copyAccount{n.a, th}, Database: "majel", Valkey: "db-s-1vcpu-1gb", Closed: []string{"192.0.2.1:443"},
			Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
				for name, last := range map[string]byte{"-pg-": 201, "-valkey-": 202, "lab.example": 203} {
					if strings.Contains(host, name) {
						return []netip.Addr{netip.AddrFrom4([4]byte{10, 77, 0, last})}, nil
					}
				}
				return nil, fmt.Errorf("there is no %s", host)
			},
		}
		reach := w.d.Births.Reach
		w.d.Births.Reach = func(host, address, knownAs string, m Model) Node {
			out := reach(host, address, knownAs, m)
			c := out.Agent.Shell.(checked)
			out.Agent.Shell = copyShell{c, th.machine(out, c.at)}
			return out
		}
		test(t, th)
	})
}

// sentry stands before each of the fleet's own hosts and lets through what only reads.
type sentry struct {
	th *theatre
	n  Node
	hosts.Shell
}

func (s sentry) Run(ctx context.Context, c hosts.Command, out io.Writer) error {
	if len(c.Argv) > 2 && c.Argv[1] == "node" {
		verb := c.Argv[2]
		for _, v := range slices.Concat(node.Verbs(), mastodon.Verbs(), nginx.Verbs(), builds.Verbs(), toolchain.Verbs()) {
			if v.Name == verb && v.Changes || verb == "fence.raise" {
				s.th.w.mu.Lock()
				s.th.changed = append(s.th.changed, s.n.Name+" "+verb)
				s.th.w.mu.Unlock()
				break
			}
		}
	}
	return s.Shell.Run(ctx, c, out)
}

// copyShell gives a copy verbs of its own.
type copyShell struct {
	checked
	more []node.Verb
}

func (c copyShell) Run(ctx context.Context, cmd hosts.Command, out io.Writer) error {
	holder := &node.Agent{Shell: c.linked}
	(&nursery{}).extend(holder, c.more)
	c.linked = holder.Shell.(linked)
	return c.checkedRun(ctx, cmd, out)
}

func (c copyShell) checkedRun(ctx context.Context, cmd hosts.Command, out io.Writer) error {
	return c.checked.Run(ctx, cmd, out)
}

// migrates is what a migration does to the copy of the database.
func (th *theatre) migrates(w *world, j node.Job) node.Job {
	j.State, j.Result, j.Ended = node.JobDone, "success", j.Began.Add(90*time.Second)
	if w.fails["migration"] != nil {
		return breaks(w, j)
	}
	all := []builds.Migration{preMigration}
	if j.Unit == postUnit {
		all = []builds.Migration{postMigration}
	}
	w.log = ""
	for _, m := range all {
		th.fork.Applied = append(th.fork.Applied, m.Version)
		w.log += fmt.Sprintf("== %s %s: migrating ====\n== %s %s: migrated (81.5000s) ====\n", m.Version, m.Name, m.Version, m.Name)
	}
	return j
}

// builder has what was built.
func (th *theatre) builder(n Node) []node.Verb {
	return []node.Verb{
		answer(th.w, n, "manifest.show", func(in node.ManifestIn) (node.Head, error) {
			if !strings.HasSuffix(in.Release, "v4.5.15") {
				return node.Head{}, node.Failf(node.CodeNotFound, "it is not there")
			}
			return node.Head{Release: "v4.5.15", Digest: "digest of v4.5.15"}, nil
		}),
		{Name: "pack", Stream: func(_ context.Context, _ json.RawMessage, w io.Writer, _ func(string)) (any, error) {
			_, err := w.Write([]byte("pack"))
			return node.PackOut{}, err
		}},
	}
}

// machine is what a copy answers.
func (th *theatre) machine(n Node, key string) []node.Verb {
	w, m := th.w, n
	m.Name = key
	return []node.Verb{
		answer(w, m, "env.outside", func(mastodon.OutsideIn) (mastodon.Outside, error) {
			if th.shut[key] {
				return mastodon.Outside{}, errors.New("asked for the fleet's addresses when they are gone")
			}
			return mastodon.Outside{Addresses: []string{"10.77.0.41:25061", "10.77.0.42:6379", "nowhere.example:25"}, Name: "mastodon-pool", User: "mastodon"}, nil
		}),
		answer(w, m, "env.rehearse", func(in node.RehearseIn) (node.RehearseOut, error) {
			if in.Instance != w.permits[key].Instance.ID || !strings.Contains(in.Set["REDIS_URL"], redisPassword) || in.Set["DB_NAME"] != "mastodon" || !strings.Contains(in.Set["DB_HOST"], "-pg-") {
				th.t.Errorf("rewritten to %v for machine %s", slices.Collect(maps.Keys(in.Set)), in.Instance)
			}
			th.shut[key] = true
			return node.RehearseOut{Dropped: []string{"SMTP_SERVER"}, Set: []string{"DB_HOST"}}, th.deed("env.rehearse")
		}),
		answer(w, m, "egress.probe", func(in node.EgressIn) (node.EgressOut, error) {
			out := node.EgressOut{Reached: map[string]string{}, Unreached: map[string]string{}}
			defer func() { th.tight-- }()
			for _, a := range in.Addresses {
				if a == "10.77.0.201:25060" || a == "10.77.0.202:25061" || a == th.leaks && th.tight <= 0 {
					out.Reached[a] = "connected"
				} else {
					out.Unreached[a] = "i/o timeout"
				}
			}
			return out, nil
		}),
		answer(w, m, "permit.write", func(node.PermitIn) (node.PermitOut, error) {
			if !th.shut[key] || th.leaks != "" {
				th.t.Errorf("%s gets a permit and is not shut in", n.Name)
			}
			p := w.permits[key]
			p.Permit, p.Refused, p.Wrote = &node.Permit{Instance: p.Instance.ID}, "", []string{"permit"}
			w.permits[key] = p
			return p, th.deed("permit.write")
		}),
		answer(w, m, "db", func(mastodon.DatabaseIn) (mastodon.Database, error) {
			db := th.fork
			db.Now = time.Now()
			return db, w.dbFails
		}),
		answer(w, m, "db.tables", func(mastodon.TablesIn) ([]mastodon.Table, error) {
			return []mastodon.Table{{Name: "statuses", Rows: 1_200_000, Bytes: 2 << 30}}, nil
		}),
		answer(w, m, "sidekiq", func(mastodon.SidekiqIn) (mastodon.SidekiqState, error) {
			s := someSidekiq(Fleet{n}, w.runs[key], time.Now())
			s.Processed = time.Now().Unix()
			if w.runs[key] == "" {
				s.Processes = nil
			}
			return s, nil
		}),
		answer(w, m, "units", func(in node.UnitsIn) (node.UnitsOut, error) {
			switch in.Op {
			case node.StopUnits:
				w.runs[key] = ""
			case node.StartUnits:
				if err := w.fails[n.Name+" start"]; err != nil {
					return w.units(m), err
				}
				if slices.Contains(in.Units, "mastodon-sidekiq-scheduler.service") {
					th.t.Errorf("%s starts the scheduler", n.Name)
				}
				if w.permits[key].Refused != "" {
					return w.units(m), node.Failf(node.CodeSealed, "sealed")
				}
				w.runs[key] = w.live[key]
			}
			return w.units(m), th.deed("units")
		}),
		answer(w, m, "place.want", func(node.WantIn) (node.WantOut, error) { return node.WantOut{Placed: true}, nil }),
	}
}

// conceiveCopy surveys; nothing may stand against it.
func (th *theatre) conceiveCopy() *Facts {
	th.t.Helper()
	f := someFacts(th.t)
	refused, err := th.w.d.ConceiveCopy(th.t.Context(), copyRun, f, th.w.say)
	if err != nil || len(refused) > 0 {
		th.t.Fatalf("%v, refused: %q", err, refused)
	}
	return f
}

// play runs the plan, or goes on with it as a new process does, forward or back.
func (th *theatre) play(shelf *dying, f *Facts, back bool) (pipeline.Result, *Facts) {
	th.t.Helper()
	ctx, kill := context.WithCancel(th.t.Context())
	defer kill()
	th.kill, shelf.kill = kill, kill
	o := pipeline.Options{Ground: th.w.d.Ground(), Patience: time.Minute, Watch: pipeline.Watch(pipeline.ObserverFunc(func(e pipeline.Event) {
		th.w.say("%s %s %s %s", e.Kind, e.Step, e.Text, e.Err)
	}))}
	table := func(f *Facts) pipeline.Plan {
		p := Rehearse(copyRun, th.w.d, f)
		for i, s := range p.Steps {
			if s.Name() == (build{th.w.d, f}).Name() {
				p.Steps[i].Stage = buildFor{lasts: time.Minute, fail: th.fails["build"]}
			}
		}
		return p
	}
	if shelf.last == nil {
		p := table(f)
		return pipeline.Execute(ctx, p, pipeline.NewJournal(p, shelf, 1, time.Now()), o), f
	}
	f = &Facts{}
	j, err := pipeline.LoadJournal(th.t.Context(), shelf, copyRun)
	if err == nil {
		err = errors.Join(j.Adopt(shelf, 1), j.LoadFacts(f))
	}
	if err != nil {
		th.t.Fatal(err)
	}
	if back {
		return pipeline.Unwind(ctx, table(f), j, o), f
	}
	return pipeline.Execute(ctx, table(f), j, o), f
}

// bare asks whether nothing is left, and nothing of the fleet's own was changed.
func (th *theatre) bare(what string) {
	th.t.Helper()
	for _, x := range th.a.droplets {
		if th.a.born[x.ID] {
			th.t.Errorf("%s: droplet %s is left", what, x.Name)
		}
	}
	if len(th.a.bases) != 1 || len(th.a.walls) > 0 {
		th.t.Errorf("%s: left are %v and %v", what, th.a.bases, th.a.walls)
	}
	th.untouched(what)
}

func (th *theatre) untouched(what string) {
	th.t.Helper()
	for _, c := range th.changed {
		if !strings.HasPrefix(c, "khan ") {
			th.t.Errorf("%s: changed on the fleet: %s", what, c)
		}
	}
	for _, n := range th.w.d.Fleet.Apps() {
		if th.w.live[n.Name] != "v4.5.14" || th.w.runs[n.Name] != "v4.5.14" {
			th.t.Errorf("%s: %s runs %s", what, n.Name, th.w.runs[n.Name])
		}
	}
	if !slices.Equal(th.w.db.Applied, aDatabase().Applied) {
		th.t.Errorf("%s: the fleet's database has %q", what, th.w.db.Applied)
	}
	for _, id := range []string{"production"} {
		if !slices.ContainsFunc(th.a.bases, func(b cloud.Database) bool { return b.ID == id }) {
			th.t.Errorf("%s: the fleet's database is gone", what)
		}
	}
}
