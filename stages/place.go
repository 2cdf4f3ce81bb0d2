package stages

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/dustin/go-humanize"
	"golang.org/x/sync/errgroup"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// place puts the built release on every node that runs Mastodon, beside the live
// one. Files that a node's other releases have are taken from there; the rest is
// read from the builder once and sent to all nodes at once.
type place struct {
	d Deps
	f *Facts
}

func (place) Name() string { return "place" }

func (s place) Check(ctx context.Context, _ pipeline.Say) error { return nil }

func (s place) Run(ctx context.Context, say pipeline.Say) error {
	builder := s.d.Fleet.With(hosts.Builder)[0]
	dir := s.d.Layout.Release(s.f.To.Version.String())
	m, err := builder.Agent.Manifest(ctx, node.ManifestIn{Home: s.d.Layout.Home, Release: dir})
	if err != nil {
		return fmt.Errorf("cannot read the built release on %s: %w", builder.Name, err)
	}
	digest, err := m.Digest()
	if err != nil {
		return err
	}
	if s.f.Digest != "" && digest != s.f.Digest {
		return fmt.Errorf("%s on %s is not the release that this run built (manifest %.12s, built %.12s): start again with `refit upgrade --to %s`",
			dir, builder.Name, digest, s.f.Digest, s.f.To.Version)
	}
	put := node.PutIn{
		Home: s.d.Layout.Home, Manifest: m, Links: s.d.Layout.SharedLinks(), Owner: s.d.Layout.User,
	}
	lacking, indexes, err := s.want(ctx, m, say)
	if err != nil {
		return err
	}
	if len(lacking) > 0 {
		if err := s.send(ctx, builder, dir, digest, put, lacking, indexes, say); err != nil {
			return err
		}
	}
	return s.boot(ctx, say)
}

// boot boots the placed release once on every node. Nodes of one tier take turns:
// a boot costs a node a CPU for seconds, and one of the tier must be free of that.
func (s place) boot(ctx context.Context, say pipeline.Say) error {
	var g errgroup.Group
	for _, tier := range []Fleet{s.d.webs(), s.d.sidekiqs()} {
		g.Go(func() error {
			for _, n := range tier {
				// A boot takes its time, and nothing is half-done before it.
				if err := pipeline.Safe(ctx); err != nil {
					return err
				}
				if err := s.libraries(ctx, n); err != nil {
					return err
				}
				if err := s.d.boots(ctx, n, s.f.To.Version.String(), say); err != nil {
					return fmt.Errorf("%s: the placed release does not boot: %w", n.Name, err)
				}
				say("%s: placed, and boots with the node's own configuration", n.Name)
			}
			return nil
		})
	}
	return g.Wait()
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

// want asks every node what it lacks. It returns the nodes on which the release
// does not lie whole, and the files that at least one of them lacks.
func (s place) want(ctx context.Context, m node.Manifest, say pipeline.Say) (lacking Fleet, indexes []int, err error) {
	var mu sync.Mutex
	have := map[string]bool{}
	err = s.d.Fleet.Apps().each(ctx, func(ctx context.Context, n Node) error {
		out, err := n.Agent.PlaceWant(ctx, node.WantIn{Home: s.d.Layout.Home, Manifest: m}, sayer(n, say))
		if err != nil {
			return fmt.Errorf("%s: cannot take stock of its releases: %w", n.Name, err)
		}
		mu.Lock()
		defer mu.Unlock()
		if out.Placed {
			have[n.Name] = true
			say("%s: has it already, every file verified", n.Name)
			return nil
		}
		need := uint64(out.Bytes) + s.d.Limits.DiskFree
		if out.Free < need {
			return fmt.Errorf("%s: %s free where the releases lie, %s needed: remove old releases or enlarge the disk",
				n.Name, humanize.IBytes(out.Free), humanize.IBytes(need))
		}
		indexes = append(indexes, out.Indexes...)
		say("%s: has %s of it, lacks %s", n.Name, humanize.IBytes(uint64(out.Local)), humanize.IBytes(uint64(out.Bytes)))
		return nil
	})
	for _, n := range s.d.Fleet.Apps() {
		if !have[n.Name] {
			lacking = append(lacking, n)
		}
	}
	slices.Sort(indexes)
	return lacking, slices.Compact(indexes), err
}

// send reads the files once from the builder and writes them to all nodes.
func (s place) send(ctx context.Context, builder Node, dir, digest string, put node.PutIn, to Fleet, indexes []int, say pipeline.Say) error {
	var g errgroup.Group
	var sinks []io.Writer
	var pipes []*io.PipeWriter
	var once sync.Once
	var first error // the others only fail because the pack ends with it
	for _, n := range to {
		r, w := io.Pipe()
		sinks, pipes = append(sinks, w), append(pipes, w)
		g.Go(func() error {
			_, err := n.Agent.PlacePut(ctx, put, r, sayer(n, say))
			if err != nil {
				once.Do(func() { first = fmt.Errorf("%s: cannot place the release: %w", n.Name, err) })
			}
			// The others' pack must not wait for a reader that has ended.
			r.CloseWithError(io.ErrClosedPipe)
			return nil
		})
	}
	sent, err := builder.Agent.Pack(ctx, node.PackIn{Root: dir, Digest: digest, Indexes: indexes}, io.MultiWriter(sinks...), sayer(builder, say))
	for _, w := range pipes {
		w.CloseWithError(err)
	}
	if waited := g.Wait(); waited != nil {
		return waited
	}
	if first != nil && !errors.Is(first, node.ErrPayload) {
		return first
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot read the release from %s: %w", builder.Name, err), first)
	}
	if first != nil {
		return first
	}
	say("%d files, %s, sent once to %s", sent.Files, humanize.IBytes(uint64(sent.Bytes)), strings.Join(names(to), ", "))
	return nil
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
