package main

import (
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"vmst.io/refit/hosts"
)

// leastDisk is less than any release takes: a smaller limit is a size without its unit.
const leastDisk = 1 << 20

var (
	// A fleet's name is a folder's name on the operator's machine.
	fleetName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	domain    = regexp.MustCompile(`^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$`)
	// git's short form of an ssh address, user@host:path.
	scpForm   = regexp.MustCompile(`^([A-Za-z0-9._-]+@)?[A-Za-z0-9.-]+:[^:/\s][^\s]*$`)
	hostName  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	unitName  = regexp.MustCompile(`^[A-Za-z0-9:_.@-]+\.service$`)
	queueName = regexp.MustCompile(`^[a-z0-9_-]+$`)
	allRoles  = []hosts.Role{hosts.Proxy, hosts.Web, hosts.Sidekiq, hosts.Builder, hosts.Keeper}
)

func (c config) check(w *wrongs) {
	required := func(field, value string) {
		if strings.TrimSpace(value) == "" {
			w.say(field, "is missing")
		}
	}
	port := w.port
	absolute := func(field, p string) {
		if !filepath.IsAbs(p) || filepath.Clean(p) != p {
			w.say(field, "%q is not a clean absolute path", p)
		}
	}
	required("fleet", c.Fleet)
	if c.Fleet != "" && !fleetName.MatchString(c.Fleet) {
		w.say("fleet", "%q: letters, digits, dot, dash and underscore only", c.Fleet)
	}
	required("domain", c.Domain)
	if c.Domain != "" && !domain.MatchString(c.Domain) {
		w.say("domain", "%q is no domain such as vmst.io", c.Domain)
	}
	w.repository("upstream.repository", c.Upstream.Repository)
	required("ssh.user", c.SSH.User)
	required("ssh.known_hosts", c.SSH.KnownHosts)
	port("ssh.port", c.SSH.Port)
	absolute("mastodon.home", c.Mastodon.Home)
	required("mastodon.user", c.Mastodon.User)
	if c.Mastodon.ProbeToken != "" {
		absolute("mastodon.probe_token", c.Mastodon.ProbeToken)
	}
	required("database.host", c.Database.Host)
	port("database.port", c.Database.Port)
	required("database.name", c.Database.Name)
	absolute("proxies.web", c.Proxies.Web)
	absolute("proxies.streaming", c.Proxies.Streaming)
	absolute("proxies.access_log", c.Proxies.AccessLog)
	for name, o := range map[string]*overrideConfig{"toolchain.ruby": c.Toolchain.Ruby, "toolchain.node": c.Toolchain.Node} {
		if o == nil {
			continue
		}
		required(name+".version", o.Version)
		if o.Prefix != "" {
			absolute(name+".prefix", o.Prefix)
		}
		if len(strings.TrimSpace(o.Why)) < 8 {
			w.say(name+".why", "must tell the team, in a few words, why the release's own version is not used")
		}
	}
	c.Toolchain.check(w)
	for field, u := range map[string]string{"mirrors.gems": c.Mirrors.Gems, "mirrors.npm": c.Mirrors.NPM, "mirrors.ruby": c.Mirrors.Ruby, "mirrors.node": c.Mirrors.Node} {
		w.registry(field, u)
	}
	for from, to := range c.Mirrors.Git {
		// What is rewritten is the beginning of an address, in whatever form the
		// release's Gemfile has it; what it becomes must be one that git can fetch.
		if strings.TrimSpace(from) == "" {
			w.say("mirrors.git", "%q stands for every address", from)
		}
		if secretIn(from) {
			w.say("mirrors.git", noSecret)
		}
		w.repository("mirrors.git", to)
	}
	if c.Mirrors.YarnChecksums != "" && len(strings.TrimSpace(c.Mirrors.YarnChecksumsWhy)) < 8 {
		w.say("mirrors.yarn_checksums_why", "must tell the team, in a few words, why yarn's checks are changed")
	}
	for field, d := range map[string]time.Duration{
		"ssh.connect": c.SSH.Connect, "ssh.silence": c.SSH.Silence, "waits.drain": c.Waits.Drain, "waits.idle": c.Waits.Idle,
		"waits.stop": c.Waits.Stop, "waits.boot": c.Waits.Boot, "waits.migrate_report": c.Waits.MigrateReport, "waits.migrate_stall": c.Waits.MigrateStall, "waits.unreachable": c.Waits.Unreachable,
	} {
		if d < time.Second {
			w.say(field, "%s is less than a second", d)
		}
	}
	for field, d := range map[string]time.Duration{
		"holds.sidekiq": c.Holds.Sidekiq, "holds.web": c.Holds.Web, "holds.migrated": c.Holds.Migrated, "holds.soak": c.Holds.Soak,
	} {
		if d < 0 {
			w.say(field, "%s is negative", d)
		}
	}
	if c.Limits.Errors < 0 || c.Limits.Errors >= 1 {
		w.say("limits.errors", "%v is not a share between 0 and 1", c.Limits.Errors)
	}
	if c.Limits.Latency < 1 {
		w.say("limits.latency", "%v: a factor below 1 fails every gate", c.Limits.Latency)
	}
	if c.Limits.LatencyFloor < 0 {
		w.say("limits.latency_floor", "%s is negative", c.Limits.LatencyFloor)
	}
	if c.Limits.DiskFree < leastDisk {
		w.say("limits.disk_free", "%d bytes: no node can live with so little; write a unit, such as 3GiB", c.Limits.DiskFree)
	}
	if c.Limits.Load <= 0 {
		w.say("limits.load", "%v is not a share above 0", c.Limits.Load)
	}
	if c.Limits.NameErrors < 0 {
		w.say("limits.name_errors", "%d is negative", c.Limits.NameErrors)
	}
	c.checkBuild(w)
	if c.Keep < 1 {
		w.say("keep", "%d: at least one release beside the live one must stay, or there is nothing to roll back to", c.Keep)
	}
	c.checkStore(w)
	c.Cloud.check(w)
	c.checkBackups(w)
	c.checkConfigs(w)
	c.checkUpstream(w)
	c.checkSigning(w)
	c.checkPolicy(w)
	c.checkApprovals(w)
	c.checkNotify(w)
	c.checkGitHub(w)
	c.checkHosts(w)
}

// checkBuild checks what a build needs of the builder.
func (c config) checkBuild(w *wrongs) {
	for field, n := range map[string]bytesSize{"build.memory": c.Build.Memory, "build.disk": c.Build.Disk, "build.keep_size": c.Build.KeepSize} {
		if n < leastDisk {
			w.say(field, "%d bytes: no build can do with so little; write a unit, such as 3GiB", n)
		}
	}
	if c.Build.Silence < time.Minute {
		w.say("build.silence", "%s is less than a minute: a registry may take that long by right", c.Build.Silence)
	}
	if c.Build.KeepFor < time.Hour {
		w.say("build.keep_for", "%s is less than an hour: nothing would be kept from one build to the next", c.Build.KeepFor)
	}
}

func (c config) checkHosts(w *wrongs) {
	if len(c.Hosts) == 0 {
		w.say("hosts", "is empty")
		return
	}
	names, addresses, droplets := map[string]string{}, map[string]string{}, map[int]string{}
	count := map[hosts.Role][]string{}
	var schedulers []string
	for i, h := range c.Hosts {
		at := "hosts[" + strconv.Itoa(i) + "]"
		if !hostName.MatchString(h.Name) {
			w.say(at+".name", "%q is no host name", h.Name)
		}
		if other, twice := names[h.Name]; twice {
			w.say(at+".name", "%q stands at %s already", h.Name, other)
		}
		names[h.Name] = at
		if net.ParseIP(h.Address) == nil && !strings.Contains(h.Address, ".") && !hostName.MatchString(h.Address) {
			w.say(at+".address", "%q is no address", h.Address)
		}
		if other, twice := addresses[h.Address]; twice && h.Address != "" {
			w.say(at+".address", "%q stands at %s already", h.Address, other)
		}
		addresses[h.Address] = at
		if h.Droplet < 0 {
			w.say(at+".droplet", "%d is no droplet's ID", h.Droplet)
		}
		if other, twice := droplets[h.Droplet]; twice && h.Droplet != 0 {
			w.say(at+".droplet", "%d stands at %s already", h.Droplet, other)
		}
		droplets[h.Droplet] = at
		if len(h.Roles) == 0 {
			w.say(at+".roles", "is missing")
		}
		for j, r := range h.Roles {
			if !slices.Contains(allRoles, r) {
				w.say(at+".roles", "%q is no role; there are %v", r, allRoles)
			}
			if slices.Contains(h.Roles[:j], r) {
				w.say(at+".roles", "%q stands there twice", r)
				continue // it is one host all the same
			}
			count[r] = append(count[r], h.Name)
		}
		isWeb, isSidekiq := slices.Contains(h.Roles, hosts.Web), slices.Contains(h.Roles, hosts.Sidekiq)
		if isWeb && isSidekiq {
			w.say(at+".roles", "web and sidekiq on one host: both would change releases with one link, and neither could be tried or taken back alone; give each its own host")
		}
		switch {
		case isWeb && h.Web == nil:
			w.say(at+".web", "is missing: a web host names its ports, such as {port: 3000, streaming: [4000]}")
		case !isWeb && h.Web != nil:
			w.say(at+".web", "stands on a host without the role web")
		case isWeb:
			w.checkWeb(at+".web", *h.Web)
		}
		if isSidekiq && len(h.Sidekiq) == 0 {
			w.say(at+".sidekiq", "is missing: a sidekiq host names its units and the queues of each")
		}
		if !isSidekiq && len(h.Sidekiq) > 0 {
			w.say(at+".sidekiq", "stands on a host without the role sidekiq")
		}
		for j, u := range h.Sidekiq {
			at := at + ".sidekiq[" + strconv.Itoa(j) + "]"
			if !unitName.MatchString(u.Unit) {
				w.say(at+".unit", "%q is no unit name such as mastodon-sidekiq-push.service", u.Unit)
			}
			if len(u.Queues) == 0 {
				w.say(at+".queues", "is empty")
			}
			for _, q := range u.Queues {
				if !queueName.MatchString(q) {
					w.say(at+".queues", "%q is no queue name", q)
				}
				if q == "scheduler" {
					schedulers = append(schedulers, h.Name+" "+u.Unit)
				}
			}
		}
	}
	for role, least := range map[hosts.Role]int{hosts.Web: 2, hosts.Sidekiq: 2, hosts.Proxy: 1} {
		if len(count[role]) < least {
			w.say("hosts", "%d with the role %s: refit needs at least %d, or its absence is felt", len(count[role]), role, least)
		}
	}
	if n := len(count[hosts.Keeper]); n != 1 {
		w.say("hosts", "%d with the role %s (%s): exactly one must have it", n, hosts.Keeper, strings.Join(count[hosts.Keeper], ", "))
	}
	if len(count[hosts.Builder]) == 0 {
		w.say("hosts", "0 with the role %s: one must have it, or one for each system that nodes have", hosts.Builder)
	}
	if len(schedulers) != 1 {
		w.say("hosts", "the queue scheduler is served %d times (%s): Mastodon needs it on exactly one unit", len(schedulers), strings.Join(schedulers, ", "))
	}
}

// checkWeb checks a web node's ports: each can be listened on, and by one process.
func (w *wrongs) checkWeb(at string, c webConfig) {
	w.port(at+".port", c.Port)
	if len(c.Streaming) == 0 {
		w.say(at+".streaming", "names no port")
	}
	taken := []int{c.Port}
	for _, n := range c.Streaming {
		w.port(at+".streaming", n)
		if slices.Contains(taken, n) {
			w.say(at+".streaming", "%d is taken already", n)
		}
		taken = append(taken, n)
	}
}

func (w *wrongs) port(field string, n int) {
	if n < 1 || n > 65535 {
		w.say(field, "%d is no port", n)
	}
}
