package stages

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/nginx"
	"vmst.io/refit/hosts/node"
)

func TestAFleetInWhichAllIsWellIsRefusedByNothing(t *testing.T) {
	for to, wanted := range map[string]string{"v4.5.15": "", "v4.6.0-rc.1": "v4.6.0-rc.1 is a pre-release", "v4.6.0": ""} {
		l := goodLook(t)
		l.f.To.Version = version(t, to)
		refused, said := rules(l.d, l.f, l.v)
		if len(refused) > 0 || len(said) > 1 || (wanted == "") != (len(said) == 0) || !strings.HasPrefix(strings.Join(said, ""), wanted) {
			t.Errorf("to %s: refused %q, said %q", to, refused, said)
		}
		if out := unreachable(l.d, l.v); len(out) > 0 {
			t.Errorf("unreachable: %q", out)
		}
		if refused, said := l.d.Fleetwide(l.v); len(refused)+len(said) > 0 {
			t.Errorf("doctor: refused %q, said %q", refused, said)
		}
	}
}

// Each rule is broken alone: what is refused, and what is said, are these lines
// and no others. A line is met by one that holds all of its words, parted by "…".
func TestEachRuleRefusesItsFaultAloneAndNamesTheRemedy(t *testing.T) {
	const web, scheduler = "mastodon-web.service", "mastodon-sidekiq-scheduler.service"
	for name, test := range map[string]struct {
		spoil         func(*look)
		refused, said []string
	}{
		"path: an older release": {
			func(l *look) { l.f.To.Version = version(l, "v4.5.13") },
			[]string{"v4.5.13 is older than v4.5.14, and no upgrade leads back: `refit rollback` goes back one release"},
			nil,
		},
		"path: a minor series skipped": {
			func(l *look) { l.f.To.Version = version(l, "v4.7.0") },
			[]string{"from v4.5.14 straight to v4.7.0 skips a minor series…upgrade to the series between first"},
			nil,
		},
		"release: another commit under the same tag": {
			func(l *look) { l.host("spock", func(f *node.Facts) { f.Releases[0].Commit = "cccccccccccccccc" }) },
			[]string{"spock: its v4.5.14 was built from commit cccccccccccc, and the tag names a1a1a1a1a1a1"},
			nil,
		},
		"release: not placed by refit is said": {
			func(l *look) { l.host("spock", func(f *node.Facts) { f.Releases = nil }) },
			nil,
			[]string{"spock: v4.5.14 was not placed by refit"},
		},
		"host: another release of the OS": {
			func(l *look) { l.host("decker", func(f *node.Facts) { f.OSVersion = "12" }) },
			[]string{"decker runs debian 12 (amd64), the builder khan runs debian 13 (amd64)…use a builder like the nodes"},
			nil,
		},
		"host: another architecture": {
			func(l *look) { l.host("decker", func(f *node.Facts) { f.Arch = "arm64" }) },
			[]string{"decker runs debian 13 (arm64)…use a builder like the nodes"},
			nil,
		},
		"rights: the ssh user may look and not act": {
			func(l *look) {
				l.host("kirk", func(f *node.Facts) {
					f.Agent, f.Rights = "refit-12", node.Rights{User: "refit", Refused: []string{"units"}}
				})
			},
			[]string{"kirk: sudo lets refit look, and not act (units is refused)…refit ALL=(root) NOPASSWD: /var/lib/refit/bin/refit-12 node *"},
			nil,
		},
		"rights: everything as root is said once for all hosts": {
			func(l *look) {
				for _, n := range l.d.Fleet {
					l.host(n.Name, func(f *node.Facts) { f.Rights = node.Rights{User: "refit", Anything: true, Uploads: true} })
				}
			},
			nil,
			[]string{"refit may run every command as root on sulu, …kirk, …`refit example --sudoers`"},
		},
		"rights: an agents' folder of the ssh user's is said": {
			func(l *look) {
				l.host("kirk", func(f *node.Facts) { f.Rights = node.Rights{User: "refit", Uploads: true} })
			},
			nil,
			[]string{"refit can put its own programs where sudo runs them as root (/var/lib/refit/bin) on kirk: that key is worth as much as root's"},
		},
		"rights: sudo that cannot be asked is said": {
			func(l *look) {
				l.host("kirk", func(f *node.Facts) { f.Rights = node.Rights{User: "refit", Error: "no sudo here"} })
			},
			nil,
			[]string{"kirk: what sudo allows to refit could not be found out: no sudo here"},
		},
		"rights: a fence that everybody can write": {
			func(l *look) {
				l.host("kirk", func(f *node.Facts) {
					f.Loose = []node.FileFact{{Path: "/var/lib/refit/fence", Mode: 0o666, Owner: "root", Writable: true}}
				})
			},
			[]string{"kirk: /var/lib/refit/fence can be written by everybody (mode 0666)…chown root:root /var/lib/refit/fence && chmod go-w /var/lib/refit/fence"},
			nil,
		},
		"rights: a lease of another's": {
			func(l *look) {
				l.host("khan", func(f *node.Facts) {
					f.Loose = []node.FileFact{{Path: "/var/lib/refit/lease.json", Mode: 0o600, Owner: "mallory"}}
				})
			},
			[]string{"khan: /var/lib/refit/lease.json belongs to mallory (mode 0600)"},
			nil,
		},
		"unit: not through the live release": {
			func(l *look) {
				l.unit("kirk", web, func(u *node.UnitState) { u.ExecStart = "/usr/local/bin/bundle exec puma -C config/puma.rb" })
			},
			[]string{"kirk: mastodon-web.service starts /usr/local/bin/bundle, not a program below /home/mastodon/live/.refit/bin/…install refit's drop-in"},
			nil,
		},
		"unit: not there": {
			func(l *look) { l.unit("kirk", web, func(u *node.UnitState) { u.Load = "not-found" }) },
			[]string{"kirk: mastodon-web.service is not-found; install"},
			nil,
		},
		"unit: changed and not read again": {
			func(l *look) { l.unit("kirk", web, func(u *node.UnitState) { u.NeedReload = true }) },
			[]string{`kirk: mastodon-web.service has changed on disk…run "systemctl daemon-reload"`},
			nil,
		},
		"unit: runs another release": {
			func(l *look) { l.unit("kirk", web, func(u *node.UnitState) { u.Release = "v4.5.13" }) },
			[]string{"kirk: mastodon-web.service runs v4.5.13 while live is v4.5.14: restart it"},
			nil,
		},
		"unit: runs from no release": {
			func(l *look) { l.unit("kirk", web, func(u *node.UnitState) { u.Release = "" }) },
			[]string{"kirk: mastodon-web.service runs no known release while live is v4.5.14"},
			nil,
		},
		"unit: a worker is killed before it can stop": {
			func(l *look) {
				l.unit("decker", scheduler, func(u *node.UnitState) { u.StopTimeout = 15 * time.Second })
			},
			[]string{"decker: mastodon-sidekiq-scheduler.service is killed 15s after its stop…set TimeoutStopSec=90"},
			nil,
		},
		"unit: serves other queues than refit.yml says": {
			func(l *look) {
				l.unit("decker", scheduler, func(u *node.UnitState) { u.ExecStart += " -q pull" })
			},
			[]string{"decker: mastodon-sidekiq-scheduler.service serves pull, scheduler, and refit.yml says scheduler"},
			nil,
		},
		"unit: names no queues": {
			func(l *look) {
				l.unit("decker", scheduler, func(u *node.UnitState) { u.ExecStart = l.d.Layout.LiveTool("bundle") + " exec sidekiq -c 5" })
			},
			[]string{"decker: mastodon-sidekiq-scheduler.service names no queues…add -q for each of scheduler"},
			nil,
		},
		"environment: cannot be read at all": {
			func(l *look) {
				l.host("spock", func(f *node.Facts) {
					f.Env, f.EnvError = nil, "cannot read /home/mastodon/.env.production: no such file"
				})
			},
			[]string{"spock: cannot read /home/mastodon/.env.production: no such file"},
			nil,
		},
		"environment: the first node's cannot be read": {
			func(l *look) {
				l.host("kirk", func(f *node.Facts) {
					f.Env, f.EnvError = nil, "cannot read /home/mastodon/.env.production: no such file"
				})
			},
			[]string{"kirk: cannot read /home/mastodon/.env.production: no such file"},
			nil,
		},
		"environment: not readable by Mastodon": {
			func(l *look) { l.host("spock", func(f *node.Facts) { f.Files[0].Readable = false }) },
			[]string{"spock: /home/mastodon/.env.production cannot be read by mastodon"},
			nil,
		},
		"environment: a key without which Mastodon does not boot": {
			func(l *look) {
				for _, n := range l.d.Fleet.Apps() {
					l.host(n.Name, func(f *node.Facts) { delete(f.Env, "ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY") })
				}
			},
			[]string{
				"kirk: ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY is missing…bin/rails db:encryption:init", "spock: ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY is missing",
				"scotty: ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY is missing", "decker: ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY is missing",
			},
			nil,
		},
		"environment: REDIS_NAMESPACE": {
			func(l *look) { l.host("spock", func(f *node.Facts) { f.Env["REDIS_NAMESPACE"] = "x" }) },
			[]string{"spock: REDIS_NAMESPACE is set; Mastodon 4.4 and newer refuse to boot with it"},
			nil,
		},
		"environment: nodes differ": {
			func(l *look) { l.host("decker", func(f *node.Facts) { f.Env["DB_HOST"] = "another hash" }) },
			[]string{"kirk and decker do not agree on DB_HOST in /home/mastodon/.env.production"},
			nil,
		},
		"environment: set on one node only": {
			func(l *look) { l.host("decker", func(f *node.Facts) { delete(f.Env, "S3_BUCKET") }) },
			[]string{"kirk and decker do not agree on S3_BUCKET"},
			nil,
		},
		"room: too little disk for the release": {
			func(l *look) { l.host("kirk", func(f *node.Facts) { f.Disks[1].Free = 1 << 30 }) },
			[]string{"kirk: 1.0 GiB free at /home/mastodon/releases, 2.0 GiB needed: remove what is old there, or enlarge the disk"},
			nil,
		},
		"room: too little disk for the journal": {
			func(l *look) { l.host("uhura", func(f *node.Facts) { f.Disks[0].Free = 1 << 20 }) },
			[]string{"uhura: 1.0 MiB free at /var/lib/refit, 64 MiB needed"},
			nil,
		},
		"room: too little memory": {
			func(l *look) {
				l.host("kirk", func(f *node.Facts) { f.MemoryAvailable, f.SwapFree = 200<<20, 100<<20 })
			},
			[]string{"kirk: 300 MiB of memory available, 512 MiB needed"},
			nil,
		},
		"peers: one alone cannot carry the load": {
			func(l *look) { l.host("kirk", func(f *node.Facts) { f.Load1 = 1.9 }) },
			[]string{
				"without kirk the load of 2.1 would rest on 2 CPUs of spock (limits.load is 0.80 a CPU): wait for a quieter hour",
				"without spock the load of 2.1 would rest on 2 CPUs of kirk",
			},
			nil,
		},
		"web: one unhealthy node is said and rolled first": {
			func(l *look) { l.v.Web["spock"] = errors.New("page: / answers 500") },
			nil,
			[]string{"spock is not healthy and is rolled first: page: / answers 500"},
		},
		"web: two unhealthy nodes": {
			func(l *look) {
				l.v.Web["kirk"], l.v.Web["spock"] = errors.New("page: / answers 500"), errors.New("health: no answer")
			},
			[]string{"kirk is not healthy, and no other web node serves in its place: page: / answers 500", "spock is not healthy, and no other web node serves in its place: health: no answer"},
			nil,
		},
		"proxy: cannot be asked": {
			func(l *look) { l.v.ProxyErr["sulu"] = errors.New("sulu: cannot read an upstream's include file") },
			[]string{"sulu: cannot read an upstream's include file"},
			nil,
		},
		"proxy: does not include the file": {
			func(l *look) { l.proxy("sulu", func(f *nginx.Facts) { f.Missing = []string{l.d.Proxies.Streaming} }) },
			[]string{"sulu: no upstream block includes /etc/nginx/refit/streaming.conf; put"},
			nil,
		},
		"proxy: cuts websockets, which is said": {
			func(l *look) { l.proxy("sulu", func(f *nginx.Facts) { f.ShutdownTimeouts = []string{"60s"} }) },
			nil,
			[]string{"sulu: worker_shutdown_timeout 60s cuts every websocket"},
		},
		"proxy: a node is out already": {
			func(l *look) { l.v.Upstreams["chekov"] = upstreams(l.d, map[string]bool{"10.77.0.22": true}) },
			[]string{"chekov: spock is out of rotation already; `refit doctor --fix` puts back"},
			nil,
		},
		"proxy: does not know a node": {
			func(l *look) {
				out := upstreams(l.d, nil)
				out.Files[1].Servers = out.Files[1].Servers[:1]
				l.v.Upstreams["chekov"] = out
			},
			[]string{"chekov: spock (10.77.0.22) does not stand in both of /etc/nginx/refit/web.conf and /etc/nginx/refit/streaming.conf"},
			nil,
		},
		"database: cannot be asked": {
			func(l *look) { l.v.DatabaseErr = errors.New("scotty: cannot ask the database at 10.77.0.41:5432") },
			[]string{"scotty: cannot ask the database at 10.77.0.41:5432"},
			nil,
		},
		"database: through a pooler": {
			func(l *look) {
				l.v.Database.Direct.Pooled, l.v.Database.Direct.Proof = true, "one backend for two sessions"
			},
			[]string{"database.port 5432 leads to a transaction pooler (one backend for two sessions)…give refit.yml the database's own port and name"},
			nil,
		},
		"database: a standby": {
			func(l *look) { l.v.Database.InRecovery = true },
			[]string{"the database at 10.77.0.41 is a standby and takes no writes: give refit.yml the primary's address"},
			nil,
		},
		"database: another one than Mastodon's": {
			func(l *look) { l.v.Database.Same = false },
			[]string{"10.77.0.41:5432/mastodon is not the database that Mastodon uses (10.77.0.41:25061/mastodon-pool)"},
			nil,
		},
		"database: an index that an interrupted build left": {
			func(l *look) {
				l.v.Database.Invalid = []mastodon.Index{{Name: "index_a", Table: "accounts"}, {Name: "index_b", Table: "accounts", Building: true}}
			},
			[]string{"index index_a on accounts is INVALID…REINDEX INDEX CONCURRENTLY index_a"},
			nil,
		},
		"database: too old a server": {
			func(l *look) { l.v.Database.Server, l.v.Database.Number = "13.18", 130018 },
			[]string{"PostgreSQL is 13.18, and v4.5.15 needs 14 or newer: upgrade the database first"},
			nil,
		},
		"database: lacks what the running release brought": {
			func(l *look) { l.v.Database.Applied = nil },
			[]string{"the database lacks migrations of v4.5.14, which the fleet runs: 20251001000000 create_accounts. Finish that upgrade first (on scotty"},
			nil,
		},
		"database: too few connections left": {
			func(l *look) { l.v.Database.Used = 90 },
			[]string{"the database has 90 of 100 connections in use, 8 must be free"},
			nil,
		},
		"database: a trap in the environment": {
			func(l *look) { l.v.Database.Traps = []string{"DATABASE_URL is set: remove it"} },
			[]string{"scotty: DATABASE_URL is set: remove it"},
			nil,
		},
		"redis: cannot be reached": {
			func(l *look) {
				l.v.RedisErr["kirk"] = errors.New("kirk: cannot ask Redis at 127.0.0.1:6379: connection refused")
			},
			[]string{"kirk: cannot ask Redis at 127.0.0.1:6379: connection refused: is stunnel up?"},
			nil,
		},
		"redis: a replica": {
			func(l *look) { l.redis("kirk", func(r *mastodon.RedisServer) { r.Role = "slave" }) },
			[]string{"kirk: the Redis at 127.0.0.1:6379 is a slave and takes no writes"},
			nil,
		},
		"redis: too old": {
			func(l *look) { l.redis("kirk", func(r *mastodon.RedisServer) { r.Version = "6.2.14" }) },
			[]string{"kirk: the Redis at 127.0.0.1:6379 is 6.2.14, and v4.5.15 needs 7 or newer"},
			nil,
		},
		"redis: no version": {
			func(l *look) { l.redis("kirk", func(r *mastodon.RedisServer) { r.Version = "unstable" }) },
			[]string{`kirk: the Redis at 127.0.0.1:6379 calls itself "unstable", which is no version`},
			nil,
		},
		"redis: evicts jobs, which is said": {
			func(l *look) { l.redis("kirk", func(r *mastodon.RedisServer) { r.Policy = "allkeys-lru" }) },
			nil,
			[]string{"kirk: the Redis at 127.0.0.1:6379 evicts keys (allkeys-lru): Sidekiq can lose jobs"},
		},
		"redis: a cache may evict": {
			func(l *look) {
				l.redis("kirk", func(r *mastodon.RedisServer) { r.Policy, r.Uses = "allkeys-lru", []string{"cache"} })
			}, nil, nil,
		},
		"search: cannot be asked, which is said": {
			func(l *look) { l.v.SearchErr = errors.New("khan does not answer") },
			nil,
			[]string{"the search server cannot be asked, so its mappings may stay behind: khan does not answer"},
		},
		"search: too old, which is said": {
			func(l *look) { l.v.Search = mastodon.Search{Enabled: true, Version: "6.8.23"} },
			nil,
			[]string{"Elasticsearch is 6.8.23, and Mastodon needs 7 or newer: search will fail"},
		},
		"search: OpenSearch counts by itself": {
			func(l *look) {
				l.v.Search = mastodon.Search{Enabled: true, Distribution: "opensearch", Version: "2.19.1"}
			}, nil, nil,
		},
		"sidekiq: cannot be asked": {
			func(l *look) { l.v.SidekiqErr = errors.New("no node could ask Redis about Sidekiq") },
			[]string{"no node could ask Redis about Sidekiq"},
			nil,
		},
		"sidekiq: no scheduler": {
			func(l *look) { l.v.Sidekiq.Processes = l.v.Sidekiq.Processes[:2] },
			[]string{"Sidekiq is not well: no process serves the queue scheduler"},
			nil,
		},
		"sidekiq: two schedulers": {
			func(l *look) {
				l.worker(0, func(p *mastodon.Process) { p.Queues = append(slices.Clone(p.Queues), "scheduler") })
			},
			[]string{"Sidekiq is not well: 2 processes serve the queue scheduler, which only one may"},
			nil,
		},
		"sidekiq: a process of another release": {
			func(l *look) { l.worker(0, func(p *mastodon.Process) { p.Tag = "v4.5.13" }) },
			[]string{"Sidekiq is not well: process 100 on scotty runs v4.5.13, not v4.5.14"},
			nil,
		},
		"sidekiq: a queue that nobody works on": {
			func(l *look) {
				l.worker(0, func(p *mastodon.Process) { p.Quiet = true })
				l.worker(1, func(p *mastodon.Process) { p.Beat = morning.Add(-time.Minute) })
			},
			[]string{"Sidekiq is not well: nobody serves default, ingress, mailers, pull, push"},
			nil,
		},
		"sidekiq: a host of another name": {
			func(l *look) {
				l.host("scotty", func(f *node.Facts) { f.Hostname = "mastodon-1" })
				l.worker(0, func(p *mastodon.Process) { p.Hostname = "mastodon-1" })
			},
			[]string{"scotty calls itself mastodon-1: name the host so in refit.yml"},
			nil,
		},
		"jobs: of a class that goes away, which is said": {
			func(l *look) {
				l.f.Facets.JobsRemoved = []string{"OldWorker", "GoneWorker"}
				l.v.Sidekiq.Jobs = &mastodon.JobCounts{Queued: map[string]int64{"OldWorker": 2}, Retried: map[string]int64{"OldWorker": 1}}
			},
			nil,
			[]string{"3 jobs of class OldWorker wait…v4.5.15 lacks that class"},
		},
		"queues: a new one that nobody will serve": {
			func(l *look) {
				l.f.To.Contents.Queues = append(l.f.To.Contents.Queues, builds.Queue{Name: "fasp", Weight: 1})
			},
			[]string{"v4.5.15 brings the queue fasp, which no unit of refit.yml serves…(-q fasp)"},
			nil,
		},
		"clock: one is off, which is said": {
			func(l *look) { l.host("kirk", func(f *node.Facts) { f.Clock = morning.Add(-2 * time.Minute) }) },
			nil,
			[]string{"kirk: its clock is 2m0s off the keeper's"},
		},
		"a probe that was not made is said": {
			func(l *look) { l.v.NotChecked = []string{"kirk: event not checked: no token"} },
			nil,
			[]string{"kirk: event not checked: no token"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := goodLook(t)
			test.spoil(l)
			refused, said := rules(l.d, l.f, l.v)
			compareLines(t, "refused", refused, test.refused)
			compareLines(t, "said", said, test.said)
		})
	}
}

func TestAFleetThatRunsNothingYetIsHeldToTheBuildersSystemToo(t *testing.T) {
	l := goodLook(t)
	if out := firstRules(l.d, l.f, l.v); len(out) > 0 {
		t.Errorf("refused %q", out)
	}
	l.host("decker", func(f *node.Facts) { f.OSVersion = "12" })
	if out := firstRules(l.d, l.f, l.v); len(out) != 1 || !strings.HasPrefix(out[0], "decker runs debian 12 (amd64), the builder khan runs debian 13 (amd64)") {
		t.Errorf("refused %q", out)
	}
}
