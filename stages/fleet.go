// Package stages is what an upgrade of Mastodon consists of. upgrade.go is the
// table: read it and you know the tool. Beside it stands one file a stage, named
// as the plan's lines are; preflight.go and rules.go say what is asked before
// anything is touched, and gates.go what a node must answer to pass.
package stages

import (
	"cmp"
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/store"
	"vmst.io/refit/builds/toolchain"
	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
)

// Node is a host of the fleet with what its roles need.
type Node struct {
	hosts.Host
	Agent *node.Agent
	// Port is Puma's, on a web node.
	Port int
	// Streaming are the ports of the streaming server, on a web node.
	Streaming []int
	// Workers are the Sidekiq units, on a Sidekiq node.
	Workers []Worker
}

// Worker is one Sidekiq unit and the queues that it serves.
type Worker struct {
	Unit   string
	Queues []string
}

// Schedules tells whether one of the node's units serves the scheduler queue.
func (n Node) Schedules() bool { return slices.Contains(n.Queues(), mastodon.SchedulerQueue) }

// Queues are the queues that the node's units serve, sorted.
func (n Node) Queues() []string {
	var all []string
	for _, w := range n.Workers {
		all = append(all, w.Queues...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Units are the units that run Mastodon's code on the node, in the order in which
// they are stopped: on a web node streaming last, so that its clients stay
// connected until Puma has finished.
func (n Node) Units() []string {
	var units []string
	if n.Has(hosts.Web) {
		units = append(units, mastodon.WebUnit)
		for _, p := range n.Streaming {
			units = append(units, mastodon.StreamingUnit(p))
		}
	}
	for _, w := range n.Workers {
		units = append(units, w.Unit)
	}
	return units
}

// Fleet is the nodes in the order in which refit.yml names them.
type Fleet []Node

// With returns the nodes that have a role.
func (f Fleet) With(r hosts.Role) Fleet {
	var out Fleet
	for _, n := range f {
		if n.Has(r) {
			out = append(out, n)
		}
	}
	return out
}

// Named returns the node of that name.
func (f Fleet) Named(name string) (Node, bool) {
	for _, n := range f {
		if n.Name == name {
			return n, true
		}
	}
	return Node{}, false
}

// Apps are the nodes that run Mastodon's code: web and Sidekiq.
func (f Fleet) Apps() Fleet {
	var out Fleet
	for _, n := range f {
		if n.Has(hosts.Web) || n.Has(hosts.Sidekiq) {
			out = append(out, n)
		}
	}
	return out
}

// But returns the fleet without one node.
func (f Fleet) But(name string) Fleet {
	return slices.DeleteFunc(slices.Clone(f), func(n Node) bool { return n.Name == name })
}

// each calls do for every node at once and returns the first error, by the
// fleet's order, after all have ended.
func (f Fleet) each(ctx context.Context, do func(context.Context, Node) error) error {
	errs := make([]error, len(f))
	var g errgroup.Group
	for i, n := range f {
		g.Go(func() error {
			errs[i] = do(ctx, n)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return cmp.Or(errs...)
}

// Deps is all that stages touch and all that they were told.
type Deps struct {
	Fleet  Fleet
	Layout mastodon.Layout
	// Domain is LOCAL_DOMAIN.
	Domain string
	// Direct is the database without its pooler.
	Direct mastodon.Direct
	// Proxies are the files on the proxies.
	Proxies ProxyFiles
	// Builder builds on the fleet's builder.
	Builder *builds.Builder
	// Toolchains are where Ruby and Node come from, but for what the mirrors say of
	// gems and git.
	Toolchains toolchain.Sources
	// Signing is whose signature nodes ask of what they are given; nil for nobody's.
	Signing *node.Signed
	// Source is upstream as this machine sees it, to hold nodes to; nil for none.
	Source Source
	// ProbeToken is the file of the probe account's token on web nodes; "" for none.
	ProbeToken string
	Waits      Waits
	Holds      Holds
	Limits     Limits
	// Keep is how many releases stay on nodes beside the live one.
	Keep int
	// KeepAssets is how long hashed assets stay on the web nodes when the release that
	// they belong to serves no more.
	KeepAssets time.Duration
	// Store keeps what was built; nil for none. Retain says what stays in it.
	Store  *store.Store
	Retain store.Rule
	// Seal: images are taken of nodes, so that no unit of Mastodon's may start on a
	// machine that has no permit for itself.
	Seal bool
	// Births makes nodes from images; nil where refit.yml does not say how.
	Births *Births
	// Rehearsals upgrade a copy of the fleet; nil where refit.yml does not say of what.
	Rehearsals *Rehearsals
	// CDN serves the hashed assets; nil where the web nodes do.
	CDN *store.CDN
	// Cloud is the account that the machines are in; nil for none.
	Cloud *Cloud
	// Backups is what the database could be restored from; nil where nobody asks for it.
	Backups *Backups
	// Front is the balancer before the proxies; nil for none that can be asked.
	Front Front
	// Keys is for comparing what hosts keep to themselves; nil where nothing is compared.
	Keys Keys
	// Committed is the configuration repository; nil where refit.yml names none.
	Committed Committed
	// Configs is the fleet's files in its config repository; nil where there is none.
	Configs *Configuration

	// at is the builder that is meant, of several; empty for the first.
	at string
}

// Source resolves the tags of upstream's repository. *upstream.Source is one.
type Source interface {
	Tag(ctx context.Context, v builds.Version) (builds.Release, error)
}

// ProxyFiles are paths on every proxy.
type ProxyFiles struct {
	// Web and Streaming are the upstream include files that refit owns.
	Web, Streaming string
	// AccessLog is read for errors and latency.
	AccessLog string
}

// Waits are how long to wait for a condition before giving up.
type Waits struct {
	Drain, Idle, Stop, Boot time.Duration
	// MigrateReport is how often a waiting migration is reported, MigrateStall how
	// long it may wait on one lock before a person is needed.
	MigrateReport, MigrateStall time.Duration
}

// Holds are how long a condition must stay true.
type Holds struct{ Sidekiq, Web, Migrated, Soak time.Duration }

// Limits are what a gate bears.
type Limits struct {
	// Errors is the share of requests answered with a 5xx above the baseline's.
	Errors float64
	// Latency is how many times the baseline's latency, never below LatencyFloor.
	Latency      float64
	LatencyFloor time.Duration
	// NameErrors is how many new retries with a NameError.
	NameErrors int
	// Load is the share of a node's CPU above which its peer cannot carry it.
	Load float64
	// DiskFree is the least free disk in bytes beyond the release itself.
	DiskFree uint64
	// Transfer bounds the bytes a second that a release is sent to each node with; 0 for
	// no limit.
	Transfer int64
}

func (d Deps) webs() Fleet     { return d.Fleet.With(hosts.Web) }
func (d Deps) proxies() Fleet  { return d.Fleet.With(hosts.Proxy) }
func (d Deps) sidekiqs() Fleet { return d.Fleet.With(hosts.Sidekiq) }

// builder is the one that was chosen with on, else the first.
func (d Deps) builder() Node {
	if n, ok := d.Fleet.Named(d.at); ok {
		return n
	}
	return d.Fleet.With(hosts.Builder)[0]
}

// on is d for what one of several builders does; of the only one, whose name is empty in
// the facts, d itself.
func (d Deps) on(builder string) Deps {
	n, ok := d.Fleet.Named(builder)
	if !ok {
		return d
	}
	d.at = builder
	if d.Builder != nil && d.Builder.Name != builder {
		b := *d.Builder
		b.Name, b.Host = n.Name, n.Agent
		d.Builder = &b
	}
	return d
}

// stepAt is the name of a step that each of several builders has.
func (d Deps) stepAt(name string) string {
	if d.at == "" {
		return name
	}
	return name + " " + d.at
}

// Builders are the hosts that build releases.
func (d Deps) Builders() Fleet { return d.Fleet.With(hosts.Builder) }

func (d Deps) keeper() Node { return d.Fleet.With(hosts.Keeper)[0] }

// migrator is the Sidekiq node that runs migrations: the first without the
// scheduler, so that a migration never competes with it.
func (d Deps) migrator() Node {
	all := d.sidekiqs()
	for _, n := range all {
		if !n.Schedules() {
			return n
		}
	}
	return all[0]
}
