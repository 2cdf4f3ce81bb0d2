package stages

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// Verdict is what verify found on one node.
type Verdict struct {
	Host    string `json:"host"`
	Release string `json:"release"`
	// Commit is that of the tag that the release was built from; Tree is git's tree hash,
	// computed on the node from the files that lie there.
	Commit string `json:"commit,omitempty"`
	Tree   string `json:"tree,omitempty"`
	// Digest is the manifest's; SignedBy whose signature it has.
	Digest   string `json:"digest,omitempty"`
	SignedBy string `json:"signed_by,omitempty"`
	// OS and Arch are the system that the release was built for.
	OS   string `json:"os,omitempty"`
	Arch string `json:"arch,omitempty"`
	// Builder, Built and Run say how the release came to be, by its provenance.
	Builder string    `json:"builder,omitempty"`
	Built   time.Time `json:"built,omitzero"`
	Run     string    `json:"run,omitempty"`
	// Files were hashed again. Unmodified: every one is as it was built, the source as
	// its tag has it, and the tag is what upstream says where that could be asked.
	Files      int  `json:"files"`
	Unmodified bool `json:"unmodified"`
	// Processes of Mastodon's were looked at; those that do not run what live points to
	// are among Faults.
	Processes int `json:"processes"`
	// Changed are the files that differ, sorted by path; More counts those beyond.
	Changed []Changed `json:"changed,omitempty"`
	More    int       `json:"more,omitempty"`
	// Faults are all else that is wrong; NotKnown what could not be found out.
	Faults   []string `json:"faults,omitempty"`
	NotKnown []string `json:"not_known,omitempty"`
}

// Changed is a file that is not as it was built.
type Changed struct {
	Path string `json:"path"`
	What string `json:"what"`
	// Part is what it belongs to: "source", "gems", "assets", "node packages", "toolchain",
	// "refit's own".
	Part string `json:"part"`
}

// Wrong tells whether anything is.
func (v Verdict) Wrong() bool { return len(v.Faults)+len(v.Changed)+v.More > 0 || !v.Unmodified }

// Verify asks the gates once on every node, and proves what runs there again: the source
// by git's tree hash, every file by its manifest, that by its signature, and each process
// by the directory and the program that the kernel says it has.
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
	d.alike(ctx, out)
	d.asUpstream(ctx, out)
	return out
}

func (d Deps) verify(ctx context.Context, n Node, say pipeline.Say) Verdict {
	v := Verdict{Host: n.Name}
	facts, err := n.Agent.Facts(ctx, node.FactsIn{Home: d.Layout.Home})
	if v.fault(err) {
		return v
	}
	if v.Release = facts.Live; v.Release == "" {
		v.Faults = append(v.Faults, d.Layout.Live+" is no link to a release")
		return v
	}
	v.fault(d.runsOnly(ctx, n, v.Release))
	d.proveFiles(ctx, n, &v, say)
	d.proveProcesses(ctx, n, &v)
	if n.Has(hosts.Web) {
		v.fault(d.serves(ctx, n, v.Release, 0))
		v.fault(d.inRotation(ctx, n))
	}
	if n.Has(hosts.Sidekiq) {
		v.fault(d.workersRun(ctx, n, v.Release, mastodon.SidekiqState{}, &Facts{Baseline: Baseline{At: facts.Clock}}))
	}
	return v
}

// fault notes an error, and tells whether it is one.
func (v *Verdict) fault(err error) bool {
	if err != nil {
		v.Faults = append(v.Faults, err.Error())
	}
	return err != nil
}

// modified notes what says that the release is not what was built.
func (v *Verdict) modified(format string, args ...any) {
	v.Unmodified = false
	v.Faults = append(v.Faults, fmt.Sprintf(format, args...))
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
	for _, rule := range []func(){j.hosts, j.rights, j.signing, j.seal, j.sealSaid, j.units, j.environment, j.room, j.peers, j.web, j.proxies, j.front, j.database, j.redis, j.sidekiq, j.search, j.clocks, j.backups} {
		rule()
	}
	j.said = append(j.said, v.NotChecked...)
	return j.refused, j.said
}
