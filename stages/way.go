package stages

import (
	"context"
	"slices"
	"strings"
	"sync"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/node"
)

// way is how the release is brought to some nodes: as what differs from a release that
// all of them have, and the builder too.
type way struct {
	base *node.Base // nil for none
	to   Fleet
}

// ways divides the nodes by the release from which they are served. Where one cannot be
// asked it is served from none: what comes next says what is wrong with it.
func (s place) ways(ctx context.Context) []way {
	bases := s.bases(ctx)
	apps := s.to()
	chosen := make([]int, len(apps)) // place in bases; len(bases) for none
	var wg sync.WaitGroup
	for i, n := range apps {
		chosen[i] = len(bases)
		wg.Go(func() {
			f, err := n.Agent.Facts(ctx, node.FactsIn{Home: s.d.Layout.Home})
			if err != nil {
				return
			}
			if k := slices.IndexFunc(bases, func(b node.Base) bool { return holds(f, b) }); k >= 0 {
				chosen[i] = k
			}
		})
	}
	wg.Wait()
	var out []way
	for k := range len(bases) + 1 {
		w := way{}
		if k < len(bases) {
			w.base = &bases[k]
		}
		for i, n := range apps {
			if chosen[i] == k {
				w.to = append(w.to, n)
			}
		}
		if len(w.to) > 0 {
			out = append(out, w)
		}
	}
	return out
}

func holds(f node.Facts, b node.Base) bool {
	r, ok := f.Release(b.Release)
	return ok && r.Digest == b.Digest && r.Complete
}

// bases are the releases on the builder that a pack could begin from: the one that the
// fleet runs first, then the newest.
func (s place) bases(ctx context.Context) []node.Base {
	f, err := s.d.builder().Agent.Facts(ctx, node.FactsIn{Home: s.d.Layout.Home})
	if err != nil {
		return nil // the pack itself will say why
	}
	var out []node.Base
	for _, r := range f.Releases {
		if _, err := builds.ParseVersion(r.Name); err != nil || r.Digest == "" || r.Name == s.f.To.Version.String() {
			continue
		}
		out = append(out, node.Base{Root: s.d.Layout.Release(r.Name), Release: r.Name, Digest: r.Digest, Without: s.changing()})
	}
	from := s.f.From.Version.String()
	slices.SortFunc(out, func(a, b node.Base) int {
		if (a.Release == from) != (b.Release == from) {
			if a.Release == from {
				return -1
			}
			return 1
		}
		return newer(a.Release, b.Release)
	})
	return out
}

// newer orders releases by their versions, the newest first.
func newer(a, b string) int {
	va, err1 := builds.ParseVersion(a)
	vb, err2 := builds.ParseVersion(b)
	if err1 != nil || err2 != nil {
		return strings.Compare(b, a)
	}
	return vb.Compare(va)
}

// changing are the paths in a placed release that are not as they were built.
func (s place) changing() []string {
	out := []string{"tmp"}
	for link := range s.d.Layout.SharedLinks() {
		out = append(out, link)
	}
	slices.Sort(out)
	return out
}
