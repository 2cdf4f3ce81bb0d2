package stages

import (
	"fmt"
	"path"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/nginx"
	"vmst.io/refit/hosts/node"
)

// The fleet that the tests of this package upgrade from v4.5.14 to v4.5.15: two
// proxies, two web nodes, two Sidekiq nodes (decker has the scheduler), a builder
// and a keeper.

var morning = time.Date(2026, 11, 22, 7, 30, 0, 0, time.UTC)

func version(t testing.TB, s string) builds.Version {
	t.Helper()
	v, err := builds.ParseVersion(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func aFleet() Fleet {
	host := func(name string, last int, roles ...hosts.Role) Node {
		return Node{Host: hosts.Host{Name: name, Address: fmt.Sprintf("10.77.0.%d", last), Roles: roles}}
	}
	web := func(name string, last int) Node {
		n := host(name, last, hosts.Web)
		n.Port, n.Streaming = 3000, []int{4000}
		return n
	}
	work := func(name string, last int, workers ...Worker) Node {
		n := host(name, last, hosts.Sidekiq)
		n.Workers = workers
		return n
	}
	all := []string{"default", "ingress", "mailers", "pull", "push"}
	return Fleet{
		host("sulu", 11, hosts.Proxy), host("chekov", 12, hosts.Proxy),
		web("kirk", 21), web("spock", 22),
		work("scotty", 31, Worker{"mastodon-sidekiq-a.service", all}),
		work("decker", 32, Worker{"mastodon-sidekiq-b.service", all}, Worker{"mastodon-sidekiq-scheduler.service", []string{"scheduler"}}),
		host("khan", 51, hosts.Builder), host("uhura", 61, hosts.Keeper),
	}
}

func someDeps() Deps {
	return Deps{
		Fleet: aFleet(), Layout: mastodon.DefaultLayout(), Domain: "lab.example",
		Direct:  mastodon.Direct{Host: "10.77.0.41", Port: 5432, Name: "mastodon"},
		Proxies: ProxyFiles{Web: "/etc/nginx/refit/web.conf", Streaming: "/etc/nginx/refit/streaming.conf", AccessLog: "/var/log/nginx/access.log"},
		Waits: Waits{
			Drain: 5 * time.Second, Idle: 10 * time.Second, Stop: 30 * time.Second, Boot: time.Minute,
			MigrateReport: 10 * time.Second, MigrateStall: time.Minute,
		},
		Limits: Limits{Errors: 0.01, Latency: 3, LatencyFloor: 200 * time.Millisecond, NameErrors: 2, Load: 0.8, DiskFree: 2 << 30},
		Keep:   2,
	}
}

var (
	oldMigration  = builds.Migration{Version: "20251001000000", Name: "create_accounts", Path: "db/migrate/20251001000000_create_accounts.rb"}
	preMigration  = builds.Migration{Version: "20251101000000", Name: "add_a_column", Path: "db/migrate/20251101000000_add_a_column.rb"}
	postMigration = builds.Migration{Version: "20251102000000", Name: "drop_a_column", Path: "db/post_migrate/20251102000000_drop_a_column.rb", Post: true}
)

func someFacts(t testing.TB) *Facts {
	release := func(name, commit string, m ...builds.Migration) builds.Release {
		c := builds.Contents{Version: version(t, name), Migrations: m, Jobs: []string{"ActivityPub::DeliveryWorker"}}
		for _, q := range []string{"default", "push", "ingress", "mailers", "pull", "scheduler"} {
			c.Queues = append(c.Queues, builds.Queue{Name: q, Weight: 1})
		}
		return builds.Release{Version: c.Version, Tag: git.Tag{Name: name, Commit: strings.Repeat(commit, 20), Tree: strings.Repeat(commit, 20), Time: morning}, Contents: c}
	}
	return &Facts{
		From: release("v4.5.14", "a1", oldMigration), To: release("v4.5.15", "b2", oldMigration, preMigration, postMigration),
		Pre: []builds.Migration{preMigration}, Post: []builds.Migration{postMigration},
		Web: []string{"kirk", "spock"}, Sidekiq: []string{"scotty", "decker"}, SidekiqFirst: true,
		Baseline: Baseline{At: morning, Latency: 100 * time.Millisecond},
	}
}

// aView is a look at that fleet in which all is well.
func aView(d Deps, f *Facts) *View {
	v := &View{
		At: morning, Facts: map[string]node.Facts{}, Unreachable: map[string]error{},
		Proxies: map[string]nginx.Facts{}, Upstreams: map[string]nginx.UpstreamOut{}, ProxyErr: map[string]error{},
		Web: map[string]error{}, Redis: map[string]mastodon.RedisServers{}, RedisErr: map[string]error{},
		Database: aDatabase(), Sidekiq: someSidekiq(d.Fleet, f.From.Version.String(), morning),
	}
	for _, n := range d.Fleet {
		v.Facts[n.Name] = hostFacts(d, n, f)
		if n.Has(hosts.Web) || n.Has(hosts.Sidekiq) {
			v.Redis[n.Name] = mastodon.RedisServers{Servers: []mastodon.RedisServer{{
				Uses: []string{"cache", "main", "sidekiq"}, Address: "127.0.0.1:6379", Version: "7.2.4", Role: "master", Policy: "noeviction",
			}}}
		}
		if n.Has(hosts.Proxy) {
			v.Proxies[n.Name] = nginx.Facts{Version: "1.26.3", Active: true, Workers: 2}
			v.Upstreams[n.Name] = upstreams(d, nil)
		}
		if n.Has(hosts.Web) {
			v.Web[n.Name] = nil
		}
	}
	return v
}

func aDatabase() mastodon.Database {
	return mastodon.Database{
		Direct: mastodon.Connection{Host: "10.77.0.41", Port: 5432, Name: "mastodon", User: "mastodon"},
		App:    &mastodon.Connection{Host: "10.77.0.41", Port: 25061, Name: "mastodon-pool", User: "mastodon", Pooled: true},
		Same:   true, Server: "17.6", Number: 170006, Applied: []string{oldMigration.Version}, MaxConnections: 100, Reserved: 3, Used: 20,
	}
}

func someSidekiq(f Fleet, release string, now time.Time) mastodon.SidekiqState {
	s := mastodon.SidekiqState{Now: now, Processed: 1000, Jobs: &mastodon.JobCounts{}}
	for _, n := range f.With(hosts.Sidekiq) {
		for i, w := range n.Workers {
			s.Processes = append(s.Processes, mastodon.Process{Hostname: n.Name, Pid: 100 + i, Tag: release, Queues: w.Queues, Concurrency: 5, Beat: now.Add(-3 * time.Second)})
		}
	}
	return s
}

func upstreams(d Deps, down map[string]bool) nginx.UpstreamOut {
	var out nginx.UpstreamOut
	for file, port := range map[string]int{d.Proxies.Web: 3000, d.Proxies.Streaming: 4000} {
		servers := nginx.FileServers{Path: file}
		for _, n := range d.webs() {
			servers.Servers = append(servers.Servers, nginx.Server{Address: fmt.Sprintf("%s:%d", n.Address, port), Params: []string{"max_fails=0"}, Down: down[n.Address]})
		}
		out.Files = append(out.Files, servers)
	}
	return out
}

func hostFacts(d Deps, n Node, f *Facts) node.Facts {
	facts := node.Facts{
		Hostname: n.Name, OS: "debian", OSVersion: "13", Arch: "amd64", CPUs: 2, Load1: 0.2, MemoryAvailable: 2 << 30, Clock: morning,
		Disks: []node.Disk{{Path: "/var/lib/refit", Free: 1 << 30}},
	}
	if n.Has(hosts.Builder) {
		facts.Disks = append(facts.Disks, node.Disk{Path: path.Join(d.Layout.Home, "releases"), Free: 40 << 30})
	}
	if !n.Has(hosts.Web) && !n.Has(hosts.Sidekiq) {
		return facts
	}
	facts.Disks = append(facts.Disks, node.Disk{Path: path.Join(d.Layout.Home, "releases"), Free: 20 << 30})
	facts.Live = f.From.Version.String()
	facts.Releases = []node.ReleaseFact{{Name: facts.Live, Commit: f.From.Tag.Commit, Digest: "d1", Complete: true}}
	facts.Files = []node.FileFact{{Path: d.Layout.EnvFile, Exists: true, Readable: true}}
	facts.Env = map[string]string{}
	for _, key := range same {
		if key != "CDN_HOST" { // this fleet has none
			facts.Env[key] = "hash of " + key
		}
	}
	for _, u := range n.Units() {
		facts.Units = append(facts.Units, node.UnitState{
			Name: u, Load: "loaded", Active: "active", Sub: "running", Result: "success", Pid: 100, ExecStart: execStart(d, n, u),
			StopTimeout: 90 * time.Second, Release: facts.Live,
		})
	}
	return facts
}

func execStart(d Deps, n Node, unit string) string {
	argv := []string{d.Layout.LiveTool("bundle"), "exec", "puma", "-C", "config/puma.rb"}
	if strings.HasPrefix(unit, "mastodon-streaming@") {
		argv = []string{d.Layout.LiveTool("node"), "./streaming"}
	}
	for _, w := range n.Workers {
		if w.Unit == unit {
			argv = []string{d.Layout.LiveTool("bundle"), "exec", "sidekiq", "-c", "5"}
			for _, q := range w.Queues {
				argv = append(argv, "-q", q)
			}
		}
	}
	return strings.Join(argv, " ")
}
