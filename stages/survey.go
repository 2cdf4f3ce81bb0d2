package stages

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/toolchain"
	"vmst.io/refit/builds/upstream"
	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/nginx"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages/drift"
)

// View is the whole fleet as it was seen in one look. What could not be seen has
// its error beside it; the rules judge both.
type View struct {
	At time.Time
	// Facts and Unreachable are by node; a node is in exactly one of them.
	Facts       map[string]node.Facts
	Unreachable map[string]error
	// Proxies and Upstreams are by proxy.
	Proxies   map[string]nginx.Facts
	Upstreams map[string]nginx.UpstreamOut
	// Web is how each web node answered: nil for well.
	Web map[string]error
	// NotChecked are probes that could not be made, "kirk: event not checked: no token".
	NotChecked []string
	Latency    time.Duration

	Database    mastodon.Database
	DatabaseErr error
	Redis       map[string]mastodon.RedisServers
	RedisErr    map[string]error
	Sidekiq     mastodon.SidekiqState
	SidekiqErr  error
	ProxyErr    map[string]error
	// Known are the releases that upstream has tagged.
	Known []builds.Version
	// Signing is why a node would not accept what is signed now, by node; SigningErr
	// why nothing can be signed.
	Signing    map[string]error
	SigningErr error
	// Search is the search server, which Mastodon can do without.
	Search    mastodon.Search
	SearchErr error
	// Backups are the newest ones, one of each kind; none where nobody asks for them.
	Backups []BackupAge
	// Dumpers are looked for, and the store is asked, where refit may have to dump.
	Dumpers  Dumpers
	StoreErr error
	// Front is the balancer, where there is one to ask.
	Front    FrontState
	FrontErr error
	// Recorded is what the keeper has on record that the fleet runs; empty for nothing.
	Recorded    string
	RecordedErr error
	// Drift is where the hosts are not what they should be, once that was compared.
	Drift    []drift.Finding
	DriftErr error
}

// Look sees the whole fleet, all hosts at once. It changes nothing. probes are
// asked on the builder and on every node that runs Mastodon.
func (d Deps) Look(ctx context.Context, probes []toolchain.Probe, say pipeline.Say) *View {
	v := &View{
		At: time.Now().UTC(), Facts: map[string]node.Facts{}, Unreachable: map[string]error{},
		Proxies: map[string]nginx.Facts{}, Upstreams: map[string]nginx.UpstreamOut{}, ProxyErr: map[string]error{},
		Web: map[string]error{}, Redis: map[string]mastodon.RedisServers{}, RedisErr: map[string]error{}, Signing: map[string]error{},
	}
	say("looking at %d hosts", len(d.Fleet))
	salt := []byte(rand.Text())
	var mu sync.Mutex
	gather(d.Fleet, func(n Node) {
		f, err := n.Agent.Facts(ctx, d.factsIn(n, salt, probes))
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			v.Unreachable[n.Name] = err
			return
		}
		v.Facts[n.Name] = f
	})
	reachable := slices.DeleteFunc(slices.Clone(d.Fleet), func(n Node) bool { return v.Unreachable[n.Name] != nil })
	var wg sync.WaitGroup
	wg.Go(func() { d.lookAtProxies(ctx, v, reachable.With(hosts.Proxy), &mu) })
	wg.Go(func() { d.lookAtWeb(ctx, v, reachable.With(hosts.Web), &mu) })
	wg.Go(func() { d.lookAtRedis(ctx, v, reachable.Apps(), &mu) })
	wg.Go(func() { d.lookAtSigning(ctx, v, reachable.Apps(), &mu) })
	wg.Go(func() {
		db, err := d.database(ctx)
		mu.Lock()
		defer mu.Unlock()
		v.Database, v.DatabaseErr = db, err
	})
	wg.Go(func() {
		s, err := d.sidekiq(ctx, mastodon.SidekiqIn{Jobs: true, Since: v.At.Add(-24 * time.Hour)})
		mu.Lock()
		defer mu.Unlock()
		v.Sidekiq, v.SidekiqErr = s, err
	})
	wg.Go(func() {
		s, err := mastodon.ReadSearch(ctx, d.migrator().Agent, mastodon.SearchIn{Layout: d.Layout})
		mu.Lock()
		defer mu.Unlock()
		v.Search, v.SearchErr = s, err
	})
	wg.Go(func() {
		r, err := d.Recorded(ctx)
		mu.Lock()
		defer mu.Unlock()
		v.Recorded, v.RecordedErr = r.Release, err
	})
	d.lookAtBackups(ctx, v, &wg, &mu)
	if d.Front != nil {
		wg.Go(func() {
			s, err := d.Front.State(ctx)
			mu.Lock()
			defer mu.Unlock()
			v.Front, v.FrontErr = s, err
		})
	}
	wg.Wait()
	slices.Sort(v.NotChecked)
	return v
}

// gather calls do for all nodes at once.
func gather(f Fleet, do func(Node)) {
	var wg sync.WaitGroup
	for _, n := range f {
		wg.Go(func() { do(n) })
	}
	wg.Wait()
}

func (d Deps) factsIn(n Node, salt []byte, probes []toolchain.Probe) node.FactsIn {
	in := node.FactsIn{Paths: []string{node.StateDir}, Rights: true}
	if n.Has(hosts.Web) || n.Has(hosts.Sidekiq) || n.Has(hosts.Builder) {
		in.Home = d.Layout.Home
		in.Paths = append(in.Paths, path.Join(d.Layout.Home, "releases"))
		for _, p := range probes {
			in.Commands = append(in.Commands, node.FactCommand{Argv: p.Argv})
		}
		in.Commands = append(in.Commands, systemCommands()...)
	}
	if n.Has(hosts.Web) || n.Has(hosts.Sidekiq) {
		in.Units, in.EnvFile, in.Salt = n.Units(), d.Layout.EnvFile, salt
		in.Files = append(in.Files, node.FileCheck{Path: d.Layout.EnvFile, User: d.Layout.User})
		if d.Seal {
			permit := d.permitIn(n)
			in.Permit = &permit
		}
	}
	return in
}

func (d Deps) lookAtProxies(ctx context.Context, v *View, proxies Fleet, mu *sync.Mutex) {
	files := []string{d.Proxies.Web, d.Proxies.Streaming}
	gather(proxies, func(n Node) {
		f, err := nginx.ReadFacts(ctx, n.Agent, nginx.UpstreamIn{Files: files})
		var u nginx.UpstreamOut
		if err == nil {
			u, err = nginx.GetUpstream(ctx, n.Agent, nginx.UpstreamIn{Files: files})
		}
		mu.Lock()
		defer mu.Unlock()
		v.Proxies[n.Name], v.Upstreams[n.Name], v.ProxyErr[n.Name] = f, u, err
	})
}

func (d Deps) lookAtWeb(ctx context.Context, v *View, webs Fleet, mu *sync.Mutex) {
	gather(webs, func(n Node) {
		in := d.probeIn(n, n.Streaming[0], "", append(mastodon.AllChecks(), mastodon.CheckLatency))
		in.Requests = 15
		p, err := mastodon.RunProbe(ctx, n.Agent, in)
		if err == nil {
			err = p.Err()
		}
		mu.Lock()
		defer mu.Unlock()
		v.Web[n.Name] = err
		for _, line := range p.NotChecked() {
			v.NotChecked = append(v.NotChecked, n.Name+": "+line)
		}
		if p.Latency != nil {
			v.Latency = max(v.Latency, p.Latency.P50)
		}
	})
}

func (d Deps) lookAtRedis(ctx context.Context, v *View, nodes Fleet, mu *sync.Mutex) {
	gather(nodes, func(n Node) {
		r, err := mastodon.ReadRedis(ctx, n.Agent, mastodon.RedisIn{Layout: d.Layout})
		mu.Lock()
		defer mu.Unlock()
		v.Redis[n.Name], v.RedisErr[n.Name] = r, err
	})
}

// live is the release that each node's live link names.
func (v *View) live(apps Fleet) map[string]string {
	out := map[string]string{}
	for _, n := range apps {
		if f, ok := v.Facts[n.Name]; ok {
			out[n.Name] = f.Live
		}
	}
	return out
}

// Request says which upgrade is surveyed.
type Request struct {
	Source *upstream.Source
	To     builds.Version
	// Overrides and Mirrors are those of refit.yml.
	Overrides toolchain.Overrides
	Mirrors   builds.Mirrors
	// Precompile: the release comes with Ruby's code compiled.
	Precompile bool
	// First: the fleet runs nothing yet, so that there is no release to come from.
	First bool
}

// ErrNothingToDo tells that the fleet runs the release already.
var ErrNothingToDo = errors.New("nothing to do")

// Survey finds out all that a plan needs: what the fleet runs, what the release
// is and how the two differ, what the database lacks. The refusals are what
// stands against the upgrade; each names its remedy. An error is that something
// could not be found out at all.
func (d Deps) Survey(ctx context.Context, r Request, say pipeline.Say) (*Facts, *View, []string, error) {
	to, err := r.Source.Tag(ctx, r.To)
	if err != nil {
		return nil, nil, nil, err
	}
	probes := toolchain.Probes(r.Overrides)
	look := d.lookWithDrift
	if r.First { // nothing that is refit's is there to be compared
		look = d.Look
	}
	v := look(ctx, probes, say)
	if refusals := unreachable(d, v); len(refusals) > 0 {
		return nil, v, refusals, errors.Join(slices.Collect(maps.Values(v.Unreachable))...)
	}
	f := &Facts{To: to, Asked: d.asks()}
	refusals, err := d.from(ctx, r, v, f)
	if err != nil || len(refusals) > 0 {
		return f, v, refusals, err
	}
	refused, err := d.recipes(ctx, r, to, v, probes, f, say)
	if err != nil {
		return f, v, refusals, err
	}
	refusals = append(refusals, refused...)
	f.Said = append(f.Said, d.Gaps()...)
	d.order(v, f)
	if r.First {
		refusals = append(refusals, firstRules(d, f, v)...)
	} else {
		if v.Known, err = r.Source.Tags(ctx); err != nil {
			return f, v, refusals, err
		}
		f.Pre, f.Post = split(lacking(to.Contents, v.Database, true))
		f.Baseline = baseline(v)
		rs, said := rules(d, f, v)
		refusals = append(refusals, rs...)
		f.Said = append(f.Said, said...)
		refusals = append(refusals, d.surveyConfigs(ctx, f)...)
		if d.Cloud != nil {
			rs, said := d.Cloud.choose(ctx, d, v, f)
			refusals = append(refusals, rs...)
			f.Said = append(f.Said, said...)
		}
	}
	return f, v, refusals, nil
}

// recipes decides how the release is made: once, or on a builder for each system that
// nodes have.
func (d Deps) recipes(ctx context.Context, r Request, to builds.Release, v *View, probes []toolchain.Probe, f *Facts, say pipeline.Say) (refused []string, err error) {
	layout := builds.Layout{Home: d.Layout.Home, User: d.Layout.User, Cache: builds.DefaultLayout().Cache}
	for i, m := range d.sites(v) {
		on := d.on(m.Builder)
		planned, err := on.plannedToolchains(ctx, r, to, layout, say)
		if err != nil {
			return refused, err
		}
		decision, err := toolchain.Decide(to.Contents.Pins, r.Overrides, on.builder().Name, found(d, v, probes), planned)
		if err != nil {
			refused = append(refused, err.Error())
		}
		m.Recipe = builds.Recipe{Release: to, Toolchain: decision.Toolchain, Mirrors: r.Mirrors, Precompile: r.Precompile, Layout: layout}
		if d.CDN != nil {
			// What the build renders once, 500.html, names it.
			m.Recipe.Env = map[string]string{"CDN_HOST": d.CDN.Host}
		}
		if i == 0 {
			f.Made = *m
		} else {
			f.Others = append(f.Others, *m)
		}
		said := decision.Said
		for _, line := range m.Recipe.Unverified() {
			said = append(said, "cannot be verified: "+line)
		}
		for _, line := range said {
			if !slices.Contains(f.Said, line) {
				f.Said = append(f.Said, line)
			}
		}
	}
	return refused, nil
}

// from finds the release that the fleet runs and how the new one differs from it.
func (d Deps) from(ctx context.Context, r Request, v *View, f *Facts) ([]string, error) {
	if r.First {
		return nil, nil
	}
	name, refusal := runs(d, v)
	if refusal != "" {
		return []string{refusal}, nil
	}
	version, err := builds.ParseVersion(name)
	if err != nil {
		return []string{fmt.Sprintf("the fleet's live link names %q, which is no release", name)}, nil
	}
	if f.From, err = r.Source.Tag(ctx, version); err != nil {
		return nil, err
	}
	if f.To.Version.Compare(version) == 0 {
		return nil, ErrNothingToDo
	}
	f.Facets, err = r.Source.Facets(ctx, f.From, f.To)
	return nil, err
}

// order decides in which order the nodes are rolled.
func (d Deps) order(v *View, f *Facts) {
	unhealthy := map[string]bool{}
	for n, err := range v.Web {
		unhealthy[n] = err != nil
	}
	for _, n := range d.sidekiqs() {
		for _, u := range v.Facts[n.Name].Units {
			unhealthy[n.Name] = unhealthy[n.Name] || !u.Running()
		}
	}
	f.Web = names(rollOrder(d.webs(), unhealthy))
	f.Sidekiq = names(rollOrder(d.sidekiqs(), unhealthy))
	f.SidekiqFirst = builds.SidekiqFirst(f.Facets.JobsAdded, f.Facets.JobsRemoved)
}

func found(d Deps, v *View, probes []toolchain.Probe) []toolchain.Found {
	var out []toolchain.Found
	for _, n := range d.Fleet {
		commands := v.Facts[n.Name].Commands
		for i, c := range commands[:min(len(probes), len(commands))] {
			if c.Error != "" {
				c.Line = ""
			}
			out = append(out, toolchain.Found{Host: n.Name, Tool: probes[i].Tool, Prefix: probes[i].Prefix, Output: c.Line})
		}
	}
	return out
}

func split(all []builds.Migration) (pre, post []builds.Migration) {
	for _, m := range all {
		if m.Post {
			post = append(post, m)
		} else {
			pre = append(pre, m)
		}
	}
	return pre, post
}

func baseline(v *View) Baseline {
	return Baseline{At: v.At, Latency: v.Latency, Retries: v.Sidekiq.Retry, Dead: v.Sidekiq.Dead, Processed: v.Sidekiq.Processed}
}

// runs is the release that the whole fleet runs, or why there is none such.
func runs(d Deps, v *View) (release, refusal string) {
	by := map[string][]string{}
	for n, r := range v.live(d.Fleet.Apps()) {
		by[orUnknown(r)] = append(by[orUnknown(r)], n)
	}
	if len(by) == 1 {
		for r := range by {
			if r != orUnknown("") {
				return r, ""
			}
		}
		return "", fmt.Sprintf("%s is no link to a release on any node: see \"adopting a fleet\" in the README", d.Layout.Live)
	}
	if lines := OutOfStep(v.live(d.Fleet.Apps()), v.Recorded); len(lines) > 0 {
		return "", strings.Join(lines, "; ")
	}
	var parts []string
	for _, r := range slices.Sorted(maps.Keys(by)) {
		slices.Sort(by[r])
		parts = append(parts, r+" on "+strings.Join(by[r], ", "))
	}
	return "", fmt.Sprintf("the nodes do not run one release (%s): `refit status` says whether a run was left half way; go on with `refit resume` or `refit rollback`", strings.Join(parts, "; "))
}
