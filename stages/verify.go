package stages

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// Verdict is what verify found on one node.
type Verdict struct {
	Host    string `json:"host"`
	Release string `json:"release"`
	Commit  string `json:"commit,omitempty"`
	Tree    string `json:"tree,omitempty"`
	// Files were hashed again; Unmodified says that all are as the manifest has them.
	Files      int      `json:"files"`
	Unmodified bool     `json:"unmodified"`
	Faults     []string `json:"faults,omitempty"`
}

// Verify asks the gates once on every node and hashes what runs there again.
func (d Deps) Verify(ctx context.Context, say pipeline.Say) []Verdict {
	var mu sync.Mutex
	var out []Verdict
	gather(d.Fleet.Apps(), func(n Node) {
		v := d.verify(ctx, n, say)
		mu.Lock()
		defer mu.Unlock()
		out = append(out, v)
	})
	slices.SortFunc(out, func(a, b Verdict) int { return strings.Compare(a.Host, b.Host) })
	return out
}

func (d Deps) verify(ctx context.Context, n Node, say pipeline.Say) Verdict {
	v := Verdict{Host: n.Name}
	fault := func(err error) bool {
		if err != nil {
			v.Faults = append(v.Faults, err.Error())
		}
		return err != nil
	}
	facts, err := n.Agent.Facts(ctx, node.FactsIn{Home: d.Layout.Home})
	if fault(err) {
		return v
	}
	if v.Release = facts.Live; v.Release == "" {
		v.Faults = append(v.Faults, d.Layout.Live+" is no link to a release")
		return v
	}
	fault(d.runsOnly(ctx, n, v.Release))
	m, err := n.Agent.Manifest(ctx, node.ManifestIn{Home: d.Layout.Home, Release: v.Release})
	if !fault(err) {
		v.Commit, v.Tree = m.Commit, m.Tree
		found, err := n.Agent.PlaceVerify(ctx, node.VerifyIn{Home: d.Layout.Home, Release: v.Release}, sayer(n, say))
		if !fault(err) {
			v.Files = found.Files
			v.Unmodified = len(found.Differences)+found.More == 0
			for _, diff := range found.Differences {
				v.Faults = append(v.Faults, fmt.Sprintf("%s: %s", diff.Path, diff.What))
			}
		}
	}
	if n.Has(hosts.Web) {
		fault(d.serves(ctx, n, v.Release, 0))
		fault(d.inRotation(ctx, n))
	}
	if n.Has(hosts.Sidekiq) {
		fault(d.workersRun(ctx, n, v.Release, mastodon.SidekiqState{}, &Facts{Baseline: Baseline{At: facts.Clock}}))
	}
	return v
}

// Fleetwide judges a look at the fleet without any release in mind: what would
// stop every upgrade. It is what doctor asks.
func (d Deps) Fleetwide(v *View) (refused, said []string) {
	if out := unreachable(d, v); len(out) > 0 {
		return out, nil
	}
	j := &judgement{d: d, f: &Facts{}, v: v}
	release, refusal := runs(d, v)
	if refusal != "" {
		j.refused = append(j.refused, refusal)
	}
	if err := j.f.From.Version.UnmarshalText([]byte(release)); err != nil {
		j.refuse("%v", err)
		return j.refused, j.said
	}
	j.f.To.Version = j.f.From.Version
	for _, rule := range []func(){j.hosts, j.rights, j.units, j.environment, j.room, j.peers, j.web, j.proxies, j.database, j.redis, j.sidekiq, j.search, j.clocks} {
		rule()
	}
	j.said = append(j.said, v.NotChecked...)
	return j.refused, j.said
}
