package stages

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// prune removes old releases from the nodes, and old builds from the builder. The new
// one, the one before it (rollback needs it) and the newest others up to the configured
// number stay; on a builder that is no node, whatever is not older than the one before.
type prune struct {
	d Deps
	f *Facts
}

func (prune) Name() string { return "prune" }

func (prune) Check(context.Context, pipeline.Say) error { return nil }

func (s prune) Run(ctx context.Context, say pipeline.Say) error {
	var mu sync.Mutex
	inUse := map[string]bool{} // by the manifest's digest
	for _, m := range s.f.all() {
		inUse[m.Digest] = true
	}
	all := s.d.Fleet.Apps()
	for _, b := range s.d.Fleet.With(hosts.Builder) {
		all = append(all.But(b.Name), b)
	}
	err := all.each(ctx, func(ctx context.Context, n Node) error {
		facts, err := n.Agent.Facts(ctx, node.FactsIn{Home: s.d.Layout.Home})
		if err != nil {
			return err
		}
		keep := s.keep(n, facts.Releases)
		out, err := n.Agent.Prune(ctx, node.PruneIn{Home: s.d.Layout.Home, Keep: keep}, sayer(n, say))
		if err != nil {
			return fmt.Errorf("%s: cannot remove old releases: %w", n.Name, err)
		}
		stays := slices.DeleteFunc(facts.Releases, func(r node.ReleaseFact) bool { return slices.Contains(out.Removed, r.Name) })
		used, err := s.used(ctx, n, stays)
		mu.Lock()
		defer mu.Unlock()
		for _, r := range out.Removed {
			s.f.Pruned = append(s.f.Pruned, n.Name+": "+r)
		}
		for _, t := range out.Toolchains {
			s.f.Pruned = append(s.f.Pruned, n.Name+": "+t)
		}
		for _, digest := range used {
			inUse[digest] = true
		}
		say("%s: %s stay, removed: %s", n.Name, strings.Join(keep, ", "), orNone(slices.Concat(out.Removed, out.Toolchains)))
		return err
	})
	slices.Sort(s.f.Pruned)
	if err != nil && ctx.Err() == nil {
		// An upgrade that is done is not taken back for a release too many.
		say("old releases stay: %v", err)
		return nil
	}
	if err == nil {
		s.retain(ctx, inUse, say)
	}
	return err
}

// used are the manifests of releases on a host, and of the toolchains that they run with:
// the store may have those and not the releases. It is asked for a store alone.
func (s prune) used(ctx context.Context, n Node, releases []node.ReleaseFact) ([]string, error) {
	if s.d.Store == nil {
		return nil, nil
	}
	var out []string
	for _, r := range releases {
		if r.Digest == "" {
			continue // another hand's, which has no manifest
		}
		head, err := n.Agent.Manifest(ctx, node.ManifestIn{Home: s.d.Layout.Home, Release: r.Name})
		if err != nil {
			return nil, fmt.Errorf("%s: cannot ask which toolchains %s runs with, so all stays in the store: %w", n.Name, r.Name, err)
		}
		out = append(out, r.Digest, head.Digest)
		for _, t := range head.Toolchains {
			out = append(out, t.Digest)
		}
	}
	return out, nil
}

// retain removes from the store what is old and on no node. It is called when every node
// has said what it has, and fails no upgrade.
func (s prune) retain(ctx context.Context, inUse map[string]bool, say pipeline.Say) {
	if s.d.Store == nil {
		return
	}
	rule := s.d.Retain
	if b := s.d.Backups; b != nil {
		rule.Fleet, rule.Dumps = b.Fleet, b.Keep
	}
	out, err := s.d.Store.Prune(ctx, rule, func(digest string) bool { return inUse[digest] })
	for _, a := range out.Artifacts {
		say("removed from the store: %s, stored on %s", a, a.Stored.Format("2 January 2006"))
	}
	for _, each := range out.Dumps {
		say("removed from the store: %s", each)
	}
	if out.Strays > 0 {
		say("removed from the store: %d objects of no artifact", out.Strays)
	}
	if out.Foreign > 0 {
		say("%d artifacts in the store are another version's of refit: they stay", out.Foreign)
	}
	if err != nil {
		say("the store keeps what it has: %v", err)
	}
}

// keep names the releases that stay on a host that has those.
func (s prune) keep(n Node, have []node.ReleaseFact) []string {
	keep := []string{s.f.To.Version.String(), s.f.From.Version.String()}
	_, runs := s.d.Fleet.Apps().Named(n.Name)
	var others []builds.Version
	for _, r := range have {
		if slices.Contains(keep, r.Name) {
			continue
		}
		v, err := builds.ParseVersion(r.Name)
		switch {
		case err != nil:
			// A name that is no version was not put there by refit: it stays.
			keep = append(keep, r.Name)
		case runs:
			others = append(others, v)
		case v.Compare(s.f.From.Version) > 0:
			// It may have been built for the next upgrade.
			keep = append(keep, r.Name)
		}
	}
	slices.SortFunc(others, func(a, b builds.Version) int { return b.Compare(a) })
	for _, v := range others[:min(len(others), max(s.d.Keep-1, 0))] {
		keep = append(keep, v.String())
	}
	return keep
}

// Undo cannot bring back what was removed, and need not: the release before this
// one was kept.
func (prune) Undo(context.Context, pipeline.Say) error { return nil }

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}
