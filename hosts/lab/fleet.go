package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Fixed addresses of the lab beside those of its hosts.
const (
	// Network is the lab's address range, in its own namespace.
	Network = "10.77.0.0/24"
	// Gateway is the bridge's address: the mirrors listen there.
	Gateway = "10.77.0.1"
	// DatabaseAddress floats: it stands on the host that is the primary, as a
	// managed database's name would.
	DatabaseAddress = "10.77.0.40"
	// RedisAddress and RedisMoved are where Redis is before and after MoveRedis.
	RedisAddress = "10.77.0.42"
	RedisMoved   = "10.77.0.46"
	// Domain is the instance's name; no name server knows it.
	Domain = "lab.vmst.test"
)

// Ports of the lab's services.
const (
	PortGems  = 8081
	PortNpm   = 8082
	PortGit   = 8083
	PortFiles = 8084
	// PortCloud is the cloud account's, at the bridge's address.
	PortCloud = 8086
	// PortAccount is where the lab itself troubles the account, at 127.0.0.1 of its
	// network: no host reaches it.
	PortAccount  = 8087
	PortDatabase = 5432
	PortPooler   = 25061
	PortRedis    = 25061
	PortSearch   = 9200
)

// Machine is one host of the lab's fleet.
type Machine struct {
	Name    string
	Address string
	// Trees are the folders of host files (below testdata/lab/hosts) laid over the
	// image, in this order.
	Trees []string
	// Units are started at boot.
	Units []string
	// Apps are the application's units on this host.
	Apps []AppUnit
	// Managed: refit works on it, so user refit may log in.
	Managed bool
	// Disk is the size of the writable layer in MiB.
	Disk int
	// Self: the lab's program is put on the host for its services.
	Self bool
}

// AppUnit is one of the application's units on a node.
type AppUnit struct {
	// Name is the unit's name without ".service".
	Name string
	// From is the unit file in dist/ that it is made from, without ".service".
	From string
	// Exec is the command line after /home/mastodon/live/.refit/bin/, empty to
	// keep the unit file's own.
	Exec string
	// Env holds NAME=value pairs for the drop-in.
	Env []string
	// Queues are those that a Sidekiq unit serves.
	Queues []string
}

var webApps = []AppUnit{
	{Name: "mastodon-web", From: "mastodon-web", Exec: "bundle exec puma -C config/puma.rb", Env: []string{"BIND=0.0.0.0"}},
	{Name: "mastodon-streaming", From: "mastodon-streaming"},
	{Name: "mastodon-streaming@", From: "mastodon-streaming@", Exec: "node ./streaming", Env: []string{"BIND=0.0.0.0"}},
}

func sidekiq(name string, queues ...string) AppUnit {
	return AppUnit{
		Name: "mastodon-sidekiq-" + name, From: "mastodon-sidekiq", Queues: queues,
		Exec: "bundle exec sidekiq -c 5 -q " + strings.Join(queues, " -q "), Env: []string{"DB_POOL=5"},
	}
}

// Machines returns the fleet in the order of its addresses, as Up raises it. The names
// are those of vmst.io.
func Machines() []Machine {
	const disk, wide = 2048, 8192
	pushPull := sidekiq("push-pull", "push", "pull")
	rest := sidekiq("default", "default", "ingress", "mailers", "fasp", "collections")
	scheduler := sidekiq("scheduler", "scheduler")
	return []Machine{
		{Name: "pike", Address: "10.77.0.5", Trees: []string{"balancer"}, Units: []string{"haproxy.service"}, Disk: disk},
		{Name: "sulu", Address: "10.77.0.11", Trees: []string{"proxy"}, Units: []string{"nginx.service"}, Managed: true, Disk: disk},
		{Name: "chekov", Address: "10.77.0.12", Trees: []string{"proxy"}, Units: []string{"nginx.service"}, Managed: true, Disk: disk},
		{Name: "kirk", Address: "10.77.0.21", Trees: []string{"node", "web"}, Units: []string{"stunnel-redis.service"}, Apps: webApps, Managed: true, Disk: disk},
		{Name: "spock", Address: "10.77.0.22", Trees: []string{"node", "web"}, Units: []string{"stunnel-redis.service"}, Apps: webApps, Managed: true, Disk: disk},
		{Name: "scotty", Address: "10.77.0.31", Trees: []string{"node"}, Units: []string{"stunnel-redis.service"}, Apps: []AppUnit{pushPull, rest}, Managed: true, Disk: disk},
		{Name: "decker", Address: "10.77.0.32", Trees: []string{"node"}, Units: []string{"stunnel-redis.service"}, Apps: []AppUnit{pushPull, rest, scheduler}, Managed: true, Disk: disk},
		{Name: "majel", Address: "10.77.0.41", Trees: []string{"database", "primary"}, Units: []string{"postgresql.service", "pgbouncer.service", "lab-database.service"}, Disk: disk},
		{Name: "redis", Address: RedisAddress, Trees: []string{"redis"}, Units: []string{"redis-server.service"}, Disk: disk},
		{Name: "paris", Address: "10.77.0.45", Trees: []string{"database", "standby"}, Units: []string{"postgresql.service", "pgbouncer.service"}, Disk: disk},
		{Name: "khan", Address: "10.77.0.51", Trees: []string{"search"}, Units: []string{"lab-search.service"}, Self: true, Disk: disk},
		{Name: "uhura", Address: "10.77.0.61", Trees: []string{"builder"}, Units: []string{"lab-git.service"}, Managed: true, Self: true, Disk: wide},
	}
}

// machine finds a host of the running lab by name.
func machine(name string) (Machine, error) {
	all, err := present()
	if err != nil {
		return Machine{}, err
	}
	i := slices.IndexFunc(all, func(m Machine) bool { return m.Name == name })
	if i < 0 {
		names := make([]string, len(all))
		for j, m := range all {
			names[j] = m.Name
		}
		return Machine{}, fmt.Errorf("the lab has no host %q; it has %v", name, names)
	}
	return all[i], nil
}

// inNetwork tells whether an address is of the lab's range.
func inNetwork(a netip.Addr) bool { return netip.MustParsePrefix(Network).Contains(a) }
