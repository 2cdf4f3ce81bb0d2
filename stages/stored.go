package stages

import (
	"context"
	"fmt"

	"github.com/dustin/go-humanize"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/store"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// ware is the release as the store knows it: built by this recipe on this system.
func (s build) ware(ctx context.Context) (ware, error) {
	f, err := s.d.builder().Agent.Facts(ctx, node.FactsIn{Home: s.d.Layout.Home})
	if err != nil {
		return ware{}, err
	}
	digest, err := s.made().Recipe.Digest()
	if err != nil {
		return ware{}, err
	}
	name := s.f.To.Version.String()
	return ware{
		key: store.Key{Kind: store.Release, Name: name, OS: f.OS + " " + f.OSVersion, Arch: f.Arch, Recipe: digest},
		dir: s.d.Layout.Release(name),
	}, nil
}

// stored finds the release in the store.
func (s build) stored(ctx context.Context, say pipeline.Say) (ware, store.Artifact, bool) {
	if s.d.Store == nil {
		return ware{}, store.Artifact{}, false
	}
	w, err := s.ware(ctx)
	if err != nil {
		say("what the store has cannot be asked for, so the release is built: %v", err)
		return w, store.Artifact{}, false
	}
	a, ok := s.d.inStore(ctx, w, say)
	return w, a, ok
}

// take brings the release from the store to the builder, if it is there. An error is the
// run's own end; whatever else goes wrong leads to a build.
func (s build) take(ctx context.Context, say pipeline.Say) (bool, error) {
	w, a, ok := s.stored(ctx, say)
	if !ok {
		return false, ctx.Err()
	}
	// What an earlier build left at work must not write into it.
	if err := s.d.Builder.Remove(ctx, s.made().Recipe, liner(say)); err != nil {
		return false, err
	}
	taken, err := s.d.fromStore(ctx, w, a, say)
	if err != nil || !taken {
		return false, err
	}
	found, err := s.d.Builder.Look(ctx, s.made().Recipe)
	if err != nil {
		return false, err
	}
	if err := s.sound(found, a); err != nil {
		s.d.unusable(ctx, a, err, say)
		return false, nil // a build takes its place
	}
	s.made().Digest, s.made().Unverified = a.Digest, found.Unverified
	s.made().Stored = fmt.Sprintf("%s was not built: it came from the store, where %s put it on %s", a.Name, a.Builder, a.Stored.Format("2 January 2006"))
	say("manifest %.12s, %d files", a.Digest, a.Files)
	return true, nil
}

// sound tells why what came from the store is not what a build would have made; nil if it
// is. Its own signature counts: the nodes are given that one, not the one beside it in the
// store.
func (s build) sound(found builds.LookOut, a store.Artifact) error {
	name := s.d.builder().Name
	if found.State != builds.Whole || found.Recipe != a.Recipe || found.Manifest.Digest != a.Digest {
		return fmt.Errorf("%s: what came from the store is %s, built by the recipe %.12s and not by %.12s: %w", name, found.State, found.Recipe, a.Recipe, store.ErrDamaged)
	}
	if err := s.d.Builder.Vouched(found.Manifest.Digest, found.Signature); err != nil {
		return fmt.Errorf("%s: the release that came from the store is not signed as what lay beside it there: %w: %w", name, store.ErrDamaged, err)
	}
	return nil
}

// keep stores what was built, unless it is there.
func (s build) keep(ctx context.Context, built node.Head, say pipeline.Say) {
	if s.d.Store == nil {
		return
	}
	w, err := s.ware(ctx)
	var a store.Artifact
	if err == nil {
		a, err = s.d.toStore(ctx, w, built, say)
	}
	switch {
	case err != nil:
		s.made().Stored = err.Error()
	case a.Digest == "":
		return
	default:
		s.made().Stored = fmt.Sprintf("%s is in the store (%s)", built.Release, humanize.IBytes(uint64(a.Size())))
	}
	say("%s", s.made().Stored)
}
