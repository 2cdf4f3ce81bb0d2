package stages

import (
	"context"
	"fmt"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// parcel is what a node is asked to place: the release, or one of its toolchains.
type parcel struct {
	kind node.Kind
	name string
}

func (p parcel) String() string {
	if p.kind == node.KindToolchain {
		return p.name
	}
	return "the release"
}

// release is the parcel of the new release.
func (s place) release() parcel { return parcel{name: s.f.To.Version.String()} }

// wantIn and putIn are the questions for a parcel. Only a release has what Mastodon
// writes to, and what it shares with other releases.
func (s place) wantIn(p parcel, digest string) node.WantIn {
	in := node.WantIn{Kind: p.kind, Home: s.d.Layout.Home, Release: p.name, Digest: digest, Signed: s.d.Signing}
	if p.kind == node.KindRelease {
		in.Links, in.Writable = s.d.Layout.SharedLinks(), writable()
	}
	return in
}

func (s place) putIn(p parcel, digest string) node.PutIn {
	in := node.PutIn{Kind: p.kind, Home: s.d.Layout.Home, Release: p.name, Digest: digest, Signed: s.d.Signing}
	if p.kind == node.KindRelease {
		in.Links, in.Owner = s.d.Layout.SharedLinks(), s.d.Layout.User
	}
	return in
}

// toolchains brings every toolchain of the release to every node that lacks it. They
// go first: without them the release cannot be booted there.
func (s place) toolchains(ctx context.Context, say pipeline.Say) error {
	for _, a := range s.made().Recipe.Toolchain.Artifacts {
		if err := s.toolchain(ctx, a, say); err != nil {
			return err
		}
	}
	return nil
}

func (s place) toolchain(ctx context.Context, a builds.Artifact, say pipeline.Say) error {
	builder := s.d.builder()
	made, err := builder.Agent.Manifest(ctx, node.ManifestIn{Release: a.Prefix})
	if err != nil {
		return fmt.Errorf("cannot read %s on %s: %w", a.Name, builder.Name, err)
	}
	if made.Release != a.Name || made.Recipe != a.Recipe {
		return fmt.Errorf("%s on %s is not what this run made (recipe %.12s, made by %.12s): start again with `refit upgrade --to %s`",
			a.Prefix, builder.Name, made.Recipe, a.Recipe, s.f.To.Version)
	}
	return s.bring(ctx, parcel{node.KindToolchain, a.Name}, way{to: s.to()}, node.PackIn{Root: a.Prefix, Digest: made.Digest}, say)
}
