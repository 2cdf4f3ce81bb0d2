package stages

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/dustin/go-humanize"

	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// place puts the built release on every node that runs Mastodon, beside the live
// one. Files that a node's other releases have are taken from there; the rest is
// read from the builder once and sent to all nodes at once. The manifest goes the
// same way: only the hosts look into it.
type place struct {
	d Deps
	f *Facts
}

func (place) Name() string { return "place" }

func (s place) Check(ctx context.Context, _ pipeline.Say) error { return nil }

func (s place) Run(ctx context.Context, say pipeline.Say) error {
	for _, m := range s.f.all() {
		if err := (place{s.d.on(m.Builder), s.f}).bringAll(ctx, say); err != nil {
			return err
		}
	}
	return s.boot(ctx, say)
}

// bringAll brings what one builder made to the nodes that get it.
func (s place) bringAll(ctx context.Context, say pipeline.Say) error {
	builder, made := s.d.builder(), s.made().Digest
	dir := s.d.Layout.Release(s.f.To.Version.String())
	built, err := builder.Agent.Manifest(ctx, node.ManifestIn{Home: s.d.Layout.Home, Release: dir})
	if err != nil {
		return fmt.Errorf("cannot read the built release on %s: %w", builder.Name, err)
	}
	if made != "" && built.Digest != made {
		return fmt.Errorf("%s on %s is not the release that this run built (manifest %.12s, built %.12s): start again with `refit upgrade --to %s`",
			dir, builder.Name, built.Digest, made, s.f.To.Version)
	}
	if err := s.toolchains(ctx, say); err != nil {
		return err
	}
	return s.deliver(ctx, node.PackIn{Root: dir, Digest: built.Digest}, say)
}

func (s place) made() *Made { return s.f.by(s.d.at) }

// to are the nodes that get what the builder made.
func (s place) to() Fleet {
	apps, m := s.d.Fleet.Apps(), s.made()
	if len(m.Nodes) == 0 {
		return apps
	}
	return slices.DeleteFunc(apps, func(n Node) bool { return !slices.Contains(m.Nodes, n.Name) })
}

// resends is how often a node may find files of its own harmed that it was to use,
// until its disk is not believed any more.
const resends = 3

// deliver brings the release to every node on which it does not lie whole.
func (s place) deliver(ctx context.Context, pack node.PackIn, say pipeline.Say) error {
	var errs []error
	for _, w := range s.ways(ctx) {
		if w.base != nil {
			say("%s: sent as what differs from %s", strings.Join(names(w.to), ", "), w.base.Release)
		}
		errs = append(errs, s.bring(ctx, s.release(), w, pack, say))
	}
	return cmp.Or(errs...)
}

// bring brings a parcel to the nodes of one way. A node that lost the release from which
// the way begins, or has it harmed, is served without.
func (s place) bring(ctx context.Context, p parcel, w way, pack node.PackIn, say pipeline.Say) error {
	pack.Base = w.base
	lacking, indexes, err := s.want(ctx, p, w.to, pack, say)
	if errors.Is(err, node.ErrBase) && w.base != nil {
		say("%v: sent whole", err)
		return s.bring(ctx, p, way{to: w.to}, pack, say)
	}
	for try := 0; err == nil && len(lacking) > 0; try++ {
		pack.Indexes = indexes
		lacking, indexes, err = s.send(ctx, p, pack, lacking, try < resends, say)
		pack.Base = nil // what was harmed may be what it begins from
	}
	return err
}

// boot boots the placed release once on every node: whole, if the database has all
// that it needs. Otherwise its models are loaded once the pre-migrations are in.
func (s place) boot(ctx context.Context, say pipeline.Say) error {
	whole := len(s.f.Pre) == 0
	return s.d.inTurn(ctx, func(n Node) error {
		if err := s.libraries(ctx, n); err != nil {
			return err
		}
		if err := s.d.boots(ctx, n, s.f.To.Version.String(), whole, say); err != nil {
			return fmt.Errorf("%s: the placed release does not boot: %w", n.Name, err)
		}
		say("%s: placed, and boots with the node's own configuration%s", n.Name, orWhy(whole, "", "; its models wait for the migrations"))
		return nil
	})
}

// libraries asks whether a node has the shared libraries that the release's gems
// were built against: the builder may have more packages than a node.
func (s place) libraries(ctx context.Context, n Node) error {
	out, err := mastodon.ReadLibraries(ctx, n.Agent, mastodon.LibrariesIn{Layout: s.d.Layout, Release: s.f.To.Version.String()})
	if err != nil {
		return fmt.Errorf("%s: cannot look at the release's native code: %w", n.Name, err)
	}
	var missing []string
	for _, m := range out.Missing {
		missing = append(missing, fmt.Sprintf("%s (needed by %s)", m.Library, m.NeededBy))
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s lacks shared libraries that the builder has: %s; install their packages on every node", n.Name, strings.Join(missing, ", "))
	}
	return nil
}

// want asks nodes what they lack. It returns the nodes on which the parcel does not lie
// whole, and the files that at least one of them lacks.
func (s place) want(ctx context.Context, p parcel, to Fleet, pack node.PackIn, say pipeline.Say) (lacking Fleet, indexes []int, err error) {
	var mu sync.Mutex
	have := map[string]bool{}
	_, err = to.stream(ctx, s.d.carrier(), pack, say, func(ctx context.Context, n Node, r io.Reader) error {
		out, err := n.Agent.PlaceWant(ctx, s.wantIn(p, pack.Digest), r, sayer(n, say))
		if err != nil {
			return fmt.Errorf("%s: cannot take stock of what it has of %s: %w", n.Name, p, err)
		}
		mu.Lock()
		defer mu.Unlock()
		if out.Placed {
			have[n.Name] = true
			say("%s: has %s already, every file verified", n.Name, p)
			return nil
		}
		need := uint64(out.Bytes) + s.d.Limits.DiskFree
		if out.Free < need {
			return fmt.Errorf("%s: %s free where %s is to lie, %s needed: remove old releases or enlarge the disk",
				n.Name, humanize.IBytes(out.Free), p, humanize.IBytes(need))
		}
		indexes = union(indexes, out.Indexes)
		say("%s: has %s of %s, lacks %s", n.Name, humanize.IBytes(uint64(out.Local)), p, humanize.IBytes(uint64(out.Bytes)))
		return nil
	})
	for _, n := range to {
		if !have[n.Name] {
			lacking = append(lacking, n)
		}
	}
	return lacking, indexes, err
}

// send reads the files once from the builder and writes them to all nodes. A node
// may find then that files of its other releases, which it was to use, are harmed:
// if such nodes may try again, they are returned, with the files for them.
func (s place) send(ctx context.Context, p parcel, pack node.PackIn, to Fleet, again bool, say pipeline.Say) (lacking Fleet, indexes []int, err error) {
	var mu sync.Mutex
	harmed := map[string]bool{}
	indexes = pack.Indexes
	sent, err := to.stream(ctx, s.d.carrier(), pack, say, func(ctx context.Context, n Node, r io.Reader) error {
		out, err := n.Agent.PlacePut(ctx, s.putIn(p, pack.Digest), r, sayer(n, say))
		if again && len(out.Lacking) > 0 && errors.Is(err, node.ErrPayload) {
			mu.Lock()
			defer mu.Unlock()
			harmed[n.Name] = true
			indexes = union(indexes, out.Lacking)
			say("%s: harmed in its other releases, and so sent too: %d of the files that %s needs", n.Name, len(out.Lacking), p)
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: cannot place %s: %w", n.Name, p, err)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	var whole []string
	for _, n := range to {
		if harmed[n.Name] {
			lacking = append(lacking, n)
		} else {
			whole = append(whole, n.Name)
		}
	}
	if len(whole) > 0 {
		say("%s: %d files, %s, sent once as %s to %s", p, sent.Files, humanize.IBytes(uint64(sent.Bytes)), humanize.IBytes(uint64(sent.carried)), strings.Join(whole, ", "))
	}
	return lacking, indexes, nil
}

// union joins places in a manifest, rising.
func union(a, b []int) []int {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// Undo leaves the placed release: it changes nothing that serves, a second try
// need not send it again, and prune removes it in its time.
func (place) Undo(context.Context, pipeline.Say) error { return nil }

func names(f Fleet) []string {
	var out []string
	for _, n := range f {
		out = append(out, n.Name)
	}
	return out
}

// sayer puts a node's name before what it reports.
func sayer(n Node, say pipeline.Say) func(string) {
	return func(line string) { say("%s: %s", n.Name, line) }
}
