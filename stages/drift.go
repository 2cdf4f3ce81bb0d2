package stages

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"vmst.io/refit/builds/toolchain"
	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/configs"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages/drift"
)

// Keys gives what hosts hash values with that are to be compared and seen by nobody.
// *keeper.Keeper is one.
type Keys interface {
	// ComparisonKey is another one at each call; see there.
	ComparisonKey(ctx context.Context) ([]byte, error)
}

// comparedUnits are the units that a node of a Mastodon fleet serves with.
var comparedUnits = []string{
	"mastodon-*.service", "nginx.service", "stunnel*.service", "pgbouncer*.service", "haproxy.service", "redis*.service", "postgresql*.service",
	"ssh.service", "ssh.socket", "ufw.service", "nftables.service", "fail2ban.service", "unattended-upgrades.service", "tailscaled.service", "cron.service",
}

// comparedPackages are those whose versions change what Mastodon does, or how it is reached;
// of libraries in every name that Debian gives them.
var comparedPackages = []string{
	"nginx", "stunnel4", "pgbouncer", "haproxy", "openssl", "libssl3*", "libvips42*", "ffmpeg", "imagemagick", "libicu*", "libidn12", "libjemalloc2", "libpq5",
	"systemd", "libc6", "openssh-server", "sudo", "ufw", "nftables", "fail2ban", "redis-server", "valkey-server", "linux-image-amd64", "linux-image-cloud-amd64",
}

// Drift tells where the fleet is not what it should be: each host held against the last
// commit's files, where there is a repository, against refit.yml and against its peers. It changes nothing on any host. The error is that nothing could be
// compared; a host that could not be asked is a finding.
func (d Deps) Drift(ctx context.Context) ([]drift.Finding, error) {
	key, err := d.Keys.ComparisonKey(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot compare the hosts' settings: %w", err)
	}
	fleet := drift.Fleet{Nodes: make([]drift.Node, len(d.Fleet)), Same: same}
	var rendered map[string][]configs.File
	if d.Committed != nil {
		if _, rendered, err = d.Committed.Rendered(ctx); err != nil {
			return nil, fmt.Errorf("cannot read what the configuration repository has for each host: %w", err)
		}
	}
	var wg sync.WaitGroup
	// Each host takes a moment of a processor; a large fleet is not asked all at once.
	free := make(chan struct{}, comparedAtOnce)
	for i, n := range d.Fleet {
		wg.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			fleet.Nodes[i] = d.stateOf(ctx, n, key)
			if files := rendered[n.Name]; len(files) > 0 && fleet.Nodes[i].Err == nil {
				fleet.Nodes[i].Files, fleet.Nodes[i].FilesErr = others(ctx, n, files)
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return drift.Compare(fleet), nil
}

// comparedAtOnce is how many hosts are asked at the same time.
const comparedAtOnce = 128

// stateOf asks one host what it is.
func (d Deps) stateOf(ctx context.Context, n Node, key []byte) drift.Node {
	out := drift.Node{Name: n.Name, Roles: n.Roles}
	in := node.StateIn{Units: comparedUnits, Packages: comparedPackages}
	if n.Has(hosts.Web) || n.Has(hosts.Sidekiq) {
		in.Home, in.EnvFile, in.Key = d.Layout.Home, d.Layout.EnvFile, key
	}
	for _, u := range n.Units() {
		w := drift.Wanted{Name: u}
		if i := slices.IndexFunc(n.Workers, func(w Worker) bool { return w.Unit == u }); i >= 0 {
			w.Queues = n.Workers[i].Queues
		}
		in.Units = append(slices.Clip(in.Units), u) // whatever refit.yml calls it
		out.Units = append(out.Units, w)
	}
	out.State, out.Err = n.Agent.ReadState(ctx, in)
	return out
}

// lookWithDrift is Look with the hosts compared at the same time, where somebody gives the
// key for it.
func (d Deps) lookWithDrift(ctx context.Context, probes []toolchain.Probe, say pipeline.Say) *View {
	if d.Keys == nil {
		return d.Look(ctx, probes, say)
	}
	var found []drift.Finding
	var err error
	var wg sync.WaitGroup
	wg.Go(func() { found, err = d.Drift(ctx) })
	v := d.Look(ctx, probes, say)
	wg.Wait()
	v.Drift, v.DriftErr = found, err
	return v
}

// drift is said and not refused: the fleet serves with it, and it may be why the upgrade is
// wanted. What the other rules refuse they refuse.
func (j *judgement) drift() {
	if j.v.DriftErr != nil {
		j.say("drift is not known: %v", j.v.DriftErr)
	}
	for _, f := range j.v.Drift[:min(len(j.v.Drift), driftSaid)] {
		j.say("drift: %s", f)
	}
	if more := len(j.v.Drift) - driftSaid; more > 0 {
		j.say("drift: and %d more, which `refit drift` tells", more)
	}
}

// driftSaid is how many findings a plan tells one by one.
const driftSaid = 8
