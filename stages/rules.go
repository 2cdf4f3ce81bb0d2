package stages

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
)

// The rules: what must hold before anything is touched. They are pure; each
// refusal says what was seen, on which host, and what mends it. What is only
// worth knowing is said, not refused.

// needs are the least versions for a release: those of the newest line that is
// not newer than it.
func needs(v builds.Version) floor {
	for _, l := range least {
		if line, err := builds.ParseVersion(l.line + ".0-alpha.1"); err == nil && v.Compare(line) >= 0 {
			return l
		}
	}
	return floor{}
}

type floor struct {
	line            string
	postgres, redis int
}

// least are the versions of PostgreSQL and Redis that a release line asks for, by
// the release notes of each line's first release (body v4.5.2, v4.6.1) and by what
// Mastodon itself checks (lib/tasks/db.rake; Sidekiq 8 refuses Redis below 7).
var least = []floor{{"4.5", 14, 7}, {"4.4", 13, 6}, {"4.3", 12, 4}}

// judgement gathers refusals and what must be said.
type judgement struct {
	d       Deps
	f       *Facts
	v       *View
	refused []string
	said    []string
}

func (j *judgement) refuse(format string, args ...any) {
	j.refused = append(j.refused, fmt.Sprintf(format, args...))
}

func (j *judgement) say(format string, args ...any) {
	j.said = append(j.said, fmt.Sprintf(format, args...))
}

// rules judges a look at the fleet.
func rules(d Deps, f *Facts, v *View) (refused, said []string) {
	j := &judgement{d: d, f: f, v: v}
	for _, rule := range []func(){
		j.path, j.sameRelease, j.hosts, j.rights, j.signing, j.seal, j.units, j.environment, j.room, j.peers, j.web, j.proxies, j.front, j.database, j.redis, j.sidekiq, j.queues, j.search, j.clocks,
		j.backups, j.dumpable, j.drift,
	} {
		rule()
	}
	for _, line := range append(cdnSaid(d, v), v.NotChecked...) {
		j.say("%s", line)
	}
	return j.refused, j.said
}

// firstRules judges a look at a fleet that runs no release of refit's yet: what holds
// however it was run so far.
func firstRules(d Deps, f *Facts, v *View) []string {
	j := &judgement{d: d, f: f, v: v}
	j.hosts()
	return j.refused
}

// unreachable refuses a fleet of which a host does not answer.
func unreachable(d Deps, v *View) []string {
	var out []string
	for _, n := range d.Fleet {
		if err := v.Unreachable[n.Name]; err != nil {
			out = append(out, err.Error())
		}
	}
	return out
}

// path: the rules of the way from one release to another.
func (j *judgement) path() {
	v := builds.Path(j.f.From.Version, j.f.To.Version, builds.PathOptions{Known: j.v.Known, Now: j.v.At})
	if v.Refused != "" {
		j.refuse("%s", v.Refused)
	}
	for _, line := range v.Said {
		j.say("%s", line)
	}
}

// sameRelease: what lies in the nodes' release is what the tag says.
func (j *judgement) sameRelease() {
	name := j.f.From.Version.String()
	for _, n := range j.d.Fleet.Apps() {
		r, ok := j.v.Facts[n.Name].Release(name)
		switch {
		case !ok || r.Commit == "":
			j.say("%s: %s was not placed by refit, so what it was built from is not known", n.Name, name)
		case r.Commit != j.f.From.Tag.Commit:
			j.refuse("%s: its %s was built from commit %.12s, and the tag names %.12s: one of them was changed; find out which before anything else", n.Name, name, r.Commit, j.f.From.Tag.Commit)
		}
	}
}

// units: they reach their programs through the live release, run it, and are
// given the time that a graceful stop takes.
func (j *judgement) units() {
	for _, n := range j.d.Fleet.Apps() {
		for _, u := range j.v.Facts[n.Name].Units {
			if err := mastodon.CheckUnit(j.d.Layout, role(n, u.Name), u); err != nil {
				j.refuse("%s: %v", n.Name, err)
				continue
			}
			if u.Running() && u.Release != j.f.From.Version.String() {
				j.refuse("%s: %s runs %s while live is %s: restart it, or find out why", n.Name, u.Name, orUnknown(u.Release), j.f.From.Version)
			}
			for _, w := range n.Workers {
				if w.Unit == u.Name {
					j.unitQueues(n, w, u)
				}
			}
		}
	}
}

func (j *judgement) unitQueues(n Node, w Worker, u node.UnitState) {
	serves := mastodon.SidekiqQueues(strings.Fields(u.ExecStart))
	want := slices.Sorted(slices.Values(w.Queues))
	if serves == nil {
		j.refuse("%s: %s names no queues on its command line, so it serves all of config/sidekiq.yml, the scheduler's too; add -q for each of %s", n.Name, u.Name, strings.Join(want, ", "))
	} else if !slices.Equal(serves, want) {
		j.refuse("%s: %s serves %s, and refit.yml says %s", n.Name, u.Name, strings.Join(serves, ", "), strings.Join(want, ", "))
	}
}

func role(n Node, unit string) mastodon.ProcessRole {
	switch {
	case unit == mastodon.WebUnit:
		return mastodon.WebProcess
	case n.Has(hosts.Sidekiq) && slices.ContainsFunc(n.Workers, func(w Worker) bool { return w.Unit == unit }):
		return mastodon.SidekiqProcess
	}
	return mastodon.StreamingProcess
}

// same are the settings that must be the same on every node: with another value
// on one of them sessions, signatures, jobs or data go astray.
var same = []string{
	"LOCAL_DOMAIN", "WEB_DOMAIN", "SECRET_KEY_BASE", "OTP_SECRET", "VAPID_PRIVATE_KEY", "VAPID_PUBLIC_KEY",
	"ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY", "ACTIVE_RECORD_ENCRYPTION_DETERMINISTIC_KEY", "ACTIVE_RECORD_ENCRYPTION_KEY_DERIVATION_SALT",
	"DB_HOST", "DB_NAME", "DB_USER", "DB_PASS", "DATABASE_URL", "REDIS_URL", "REDIS_HOST", "REDIS_PORT", "CACHE_REDIS_URL", "SIDEKIQ_REDIS_URL",
	"S3_ENABLED", "S3_BUCKET", "ES_ENABLED", "ES_HOST", "CDN_HOST",
}

// environment: Mastodon can read .env.production on every node, it holds the
// settings without which it refuses to boot, and the nodes agree.
func (j *judgement) environment() {
	var first Node // of those whose file could be read
	for _, n := range j.d.Fleet.Apps() {
		f := j.v.Facts[n.Name]
		if f.EnvError != "" {
			j.refuse("%s: %s", n.Name, f.EnvError)
			continue
		}
		if first.Name == "" {
			first = n
		}
		for _, c := range f.Files {
			if c.Path == j.d.Layout.EnvFile && !c.Readable {
				j.refuse("%s: %s cannot be read by %s", n.Name, c.Path, j.d.Layout.User)
			}
		}
		for _, key := range same[6:9] {
			if _, ok := f.Env[key]; !ok {
				j.refuse("%s: %s is missing in %s: Mastodon does not boot without it (see bin/rails db:encryption:init, once for the whole fleet)", n.Name, key, j.d.Layout.EnvFile)
			}
		}
		if _, ok := f.Env["REDIS_NAMESPACE"]; ok {
			j.refuse("%s: REDIS_NAMESPACE is set; Mastodon 4.4 and newer refuse to boot with it", n.Name)
		}
		for _, key := range same {
			if f.Env[key] != j.v.Facts[first.Name].Env[key] {
				j.refuse("%s and %s do not agree on %s in %s", first.Name, n.Name, key, j.d.Layout.EnvFile)
			}
		}
	}
}

// room: enough disk beyond what the release will need, memory to boot it beside
// the running one.
func (j *judgement) room() {
	for _, n := range j.d.Fleet {
		f := j.v.Facts[n.Name]
		for _, disk := range f.Disks {
			need := uint64(64 << 20)
			if strings.HasPrefix(disk.Path, j.d.Layout.Home) {
				need = j.d.Limits.DiskFree
			}
			if disk.Free < need {
				j.refuse("%s: %s free at %s, %s needed: remove what is old there, or enlarge the disk", n.Name, humanize.IBytes(disk.Free), disk.Path, humanize.IBytes(need))
			}
		}
		if app := n.Has(hosts.Web) || n.Has(hosts.Sidekiq); app && f.MemoryAvailable+f.SwapFree < leastMemory {
			j.refuse("%s: %s of memory available, %s needed to try the new release beside the running one", n.Name, humanize.IBytes(uint64(f.MemoryAvailable+f.SwapFree)), humanize.IBytes(leastMemory))
		}
	}
}

// leastMemory is what one boot of the application takes (measured: 330 MB
// resident for Puma's master or a worker of 4.6), with room.
const leastMemory = 512 << 20

// peers: the others of a tier can carry its load while one of them is out.
func (j *judgement) peers() {
	for _, tier := range []Fleet{j.d.webs(), j.d.sidekiqs()} {
		var load float64
		cpus := 0
		for _, n := range tier {
			load += j.v.Facts[n.Name].Load1
			cpus += j.v.Facts[n.Name].CPUs
		}
		for _, n := range tier {
			if left := cpus - j.v.Facts[n.Name].CPUs; load > j.d.Limits.Load*float64(left) {
				j.refuse("without %s the load of %.1f would rest on %d CPUs of %s (limits.load is %.2f a CPU): wait for a quieter hour", n.Name, load, left, strings.Join(names(tier.But(n.Name)), ", "), j.d.Limits.Load)
			}
		}
	}
}

// web: at least as many web nodes answer as must while one is out. The unhealthy
// one is rolled first.
func (j *judgement) web() {
	var bad []string
	for _, n := range j.d.webs() {
		if err := j.v.Web[n.Name]; err != nil {
			bad = append(bad, n.Name)
		}
	}
	for _, n := range bad {
		if len(bad) > 1 || len(j.d.webs()) < 2 {
			j.refuse("%s is not healthy, and no other web node serves in its place: %v", n, j.v.Web[n])
		} else {
			j.say("%s is not healthy and is rolled first: %v", n, j.v.Web[n])
		}
	}
}

// proxies: every proxy can be drained, knows every web node, and has none out.
func (j *judgement) proxies() {
	for _, p := range j.d.proxies() {
		if err := j.v.ProxyErr[p.Name]; err != nil {
			j.refuse("%v", err)
			continue
		}
		for _, finding := range j.v.Proxies[p.Name].Findings() {
			if finding.Fatal {
				j.refuse("%s: %s", p.Name, finding.Text)
			} else {
				j.say("%s: %s", p.Name, finding.Text)
			}
		}
		for _, n := range j.d.webs() {
			down, known := j.v.Upstreams[p.Name].Down(n.Address)
			switch {
			case !known:
				j.refuse("%s: %s (%s) does not stand in both of %s and %s", p.Name, n.Name, n.Address, j.d.Proxies.Web, j.d.Proxies.Streaming)
			case down:
				j.refuse("%s: %s is out of rotation already; `refit doctor --fix` puts back what a crashed run left", p.Name, n.Name)
			}
		}
	}
}

// database: a direct way to a primary of a supported version, with room for the
// migration's connections, and nothing half-made in it.
func (j *judgement) database() {
	if j.v.DatabaseErr != nil {
		j.refuse("%v", j.v.DatabaseErr)
		return
	}
	db := j.v.Database
	j.refused = append(j.refused, databaseRules(db)...)
	for _, trap := range db.Traps {
		j.refuse("%s: %s", j.d.migrator().Name, trap)
	}
	if need := needs(j.f.To.Version).postgres; db.Number/10000 < need {
		j.refuse("PostgreSQL is %s, and %s needs %d or newer: upgrade the database first", db.Server, j.f.To.Version, need)
	}
	if left := lacking(j.f.From.Contents, db, true); len(left) > 0 {
		j.refuse("the database lacks migrations of %s, which the fleet runs: %s. Finish that upgrade first (on %s: rails db:migrate, straight to the database)", j.f.From.Version, migrations(left), j.d.migrator().Name)
	}
	if free := db.MaxConnections - db.Reserved - db.Used; free < leastConnections {
		j.refuse("the database has %d of %d connections in use, %d must be free", db.Used, db.MaxConnections, leastConnections)
	}
}

// leastConnections: a migration takes two, the boot smoke one on each node at once.
const leastConnections = 8

// databaseRules are asked again right before the migration.
func databaseRules(db mastodon.Database) []string {
	var out []string
	if db.Direct.Error != "" {
		out = append(out, fmt.Sprintf("the database cannot be reached at %s:%d: %s", db.Direct.Host, db.Direct.Port, db.Direct.Error))
		return out
	}
	if db.Direct.Pooled {
		out = append(out, fmt.Sprintf("database.port %d leads to a transaction pooler (%s): a migration fails half way through one; give refit.yml the database's own port and name", db.Direct.Port, db.Direct.Proof))
	}
	if db.App != nil && db.App.Error == "" && !db.Same {
		out = append(out, fmt.Sprintf("%s:%d/%s is not the database that Mastodon uses (%s:%d/%s)", db.Direct.Host, db.Direct.Port, db.Direct.Name, db.App.Host, db.App.Port, db.App.Name))
	}
	if db.InRecovery {
		out = append(out, fmt.Sprintf("the database at %s is a standby and takes no writes: give refit.yml the primary's address", db.Direct.Host))
	}
	for _, i := range db.Invalid {
		if !i.Building {
			out = append(out, fmt.Sprintf("index %s on %s is INVALID, left by an interrupted build: as the database's owner, %s", i.Name, i.Table, i.Remedy()))
		}
	}
	return out
}

// redis: every node reaches one that is new enough and takes writes.
func (j *judgement) redis() {
	for _, n := range j.d.Fleet.Apps() {
		if err := j.v.RedisErr[n.Name]; err != nil {
			j.refuse("%v: is stunnel up?", err)
			continue
		}
		for _, r := range j.v.Redis[n.Name].Servers {
			if r.Role != "master" {
				j.refuse("%s: the Redis at %s is a %s and takes no writes", n.Name, r.Address, r.Role)
			}
			if r.Policy != "" && r.Policy != "noeviction" && slices.Contains(r.Uses, "sidekiq") {
				j.say("%s: the Redis at %s evicts keys (%s): Sidekiq can lose jobs", n.Name, r.Address, r.Policy)
			}
			if v, err := major(r.Version); err != nil {
				j.refuse("%s: the Redis at %s calls itself %q, which is no version", n.Name, r.Address, r.Version)
			} else if need := needs(j.f.To.Version).redis; v < need {
				j.refuse("%s: the Redis at %s is %s, and %s needs %d or newer", n.Name, r.Address, r.Version, j.f.To.Version, need)
			}
		}
	}
}

func major(v string) (int, error) {
	var n int
	if _, err := fmt.Sscanf(v, "%d.", &n); err != nil {
		return 0, errors.New("no version")
	}
	return n, nil
}

// sidekiq: every worker of refit.yml is at work, on the running release, and
// exactly one serves the scheduler.
func (j *judgement) sidekiq() {
	if j.v.SidekiqErr != nil {
		j.refuse("%v", j.v.SidekiqErr)
		return
	}
	var configured []string
	for _, n := range j.d.sidekiqs() {
		configured = append(configured, n.Queues()...)
	}
	slices.Sort(configured)
	if err := mastodon.CheckFleet(j.v.Sidekiq, j.f.From.Version.String(), slices.Compact(configured)); err != nil {
		j.refuse("Sidekiq is not well: %v", err)
	}
	for _, n := range j.d.sidekiqs() {
		if got := j.v.Facts[n.Name].Hostname; got != n.Name && len(j.v.Sidekiq.On(n.Name)) == 0 {
			j.refuse("%s calls itself %s: name the host so in refit.yml, since Sidekiq announces itself by that name", n.Name, got)
		}
	}
	for _, class := range j.f.Facets.JobsRemoved {
		if jobs := j.v.Sidekiq.Jobs; jobs != nil && jobs.Of(class) > 0 {
			j.say("%d jobs of class %s wait in queues, retry or schedule, and %s lacks that class: old workers take what is queued, the rest will fail with a NameError", jobs.Of(class), class, j.f.To.Version)
		}
	}
}

// queues: every queue of the new release is served by a unit of refit.yml.
func (j *judgement) queues() {
	for _, q := range j.d.queues(j.f) {
		j.queue(q)
	}
}

func (j *judgement) queue(q string) {
	if !slices.ContainsFunc(j.d.sidekiqs(), func(n Node) bool { return slices.Contains(n.Queues(), q) }) {
		j.refuse("%s brings the queue %s, which no unit of refit.yml serves: its jobs would wait for ever. Add it to a unit's command line (-q %s) and to that unit in refit.yml", j.f.To.Version, q, q)
	}
}

// search: it is optional, so it stops nothing. Elasticsearch 7 and OpenSearch are
// what Mastodon is tested with; of OpenSearch 3 its admin page claims that it does
// not fit (upstream's checks compare with 7), which is no fault.
func (j *judgement) search() {
	switch s := j.v.Search; {
	case j.v.SearchErr != nil:
		j.say("the search server cannot be asked, so its mappings may stay behind: %v", j.v.SearchErr)
	case !s.Enabled || s.Distribution != "":
	default:
		if v, err := major(s.Version); err == nil && v < 7 {
			j.say("Elasticsearch is %s, and Mastodon needs 7 or newer: search will fail", s.Version)
		}
	}
}

// clocks: the hosts' clocks agree, or leases and logs mislead.
func (j *judgement) clocks() {
	keeper := j.v.Facts[j.d.keeper().Name].Clock
	for _, n := range j.d.Fleet {
		if skew := j.v.Facts[n.Name].Clock.Sub(keeper).Abs(); skew > 30*time.Second {
			j.say("%s: its clock is %s off the keeper's", n.Name, skew.Round(time.Second))
		}
	}
}
