package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// align brings the new machine to the release that the fleet runs, also from an image of
// an older one. Nothing is started: it has no way to the database yet.
type align struct{ birth }

func (s align) Name() string { return "align " + s.b().Host }

func (s align) Check(context.Context, pipeline.Say) error { return nil }

func (s align) Run(ctx context.Context, say pipeline.Say) error {
	n, d, err := s.here(ctx)
	if err != nil {
		return err
	}
	if err := d.bring(ctx, n, s.f.To, fmt.Sprintf("image %d", s.b().Image), say); err != nil {
		return err
	}
	release := s.f.To.Version.String()
	digest, err := d.proven(ctx, n, s.f, release, say)
	if err != nil {
		return err
	}
	if s.f.Digest != "" && digest != s.f.Digest {
		return fmt.Errorf("%s: its %s is %.12s, and the fleet runs %.12s", n.Name, release, digest, s.f.Digest)
	}
	return d.switchTo(ctx, n, release, digest, say)
}

// bring sends a node what it lacks of a release from the builder of its system. Where the
// builder does not have it any more, the node must have it whole. from is where the node's
// disk is from, for messages.
func (d Deps) bring(ctx context.Context, n Node, to builds.Release, from string, say pipeline.Say) error {
	release := to.Version.String()
	facts, err := n.Agent.Facts(ctx, node.FactsIn{Home: d.Layout.Home})
	if err != nil {
		return err
	}
	builder, err := d.builderLike(ctx, system(facts), from)
	if err != nil {
		return err
	}
	built, err := builder.Agent.Manifest(ctx, node.ManifestIn{Home: d.Layout.Home, Release: d.Layout.Release(release)})
	if errors.Is(err, node.ErrNotFound) {
		if slices.ContainsFunc(facts.Releases, func(r node.ReleaseFact) bool { return r.Name == release && r.Complete }) {
			say("%s has %s from %s; %s has it no more", n.Name, release, from, builder.Name)
			return nil
		}
		return fmt.Errorf("%s lacks %s, and so does %s: `refit build --to %s` makes it again, then resume", from, release, builder.Name, release)
	}
	if err != nil {
		return fmt.Errorf("cannot read %s on %s: %w", release, builder.Name, err)
	}
	f := &Facts{To: to, Made: Made{Digest: built.Digest}}
	for _, t := range built.Toolchains {
		f.Recipe.Toolchain.Artifacts = append(f.Recipe.Toolchain.Artifacts, builds.Artifact{Name: t.Name, Prefix: node.ToolchainsDir + "/" + t.Name, Recipe: t.Recipe})
	}
	// A builder that is a node too gets nothing.
	builder.Roles = []hosts.Role{hosts.Builder}
	d.Fleet = Fleet{builder, n}
	d.at = ""
	return place{d, f}.bringAll(ctx, say)
}

// builderLike is the builder of that system; what is on it is from there.
func (d Deps) builderLike(ctx context.Context, here, from string) (Node, error) {
	var have []string
	for _, b := range d.Fleet.With(hosts.Builder) {
		facts, err := b.Agent.Facts(ctx, node.FactsIn{Home: d.Layout.Home})
		if err != nil {
			return Node{}, err
		}
		if system(facts) == here {
			return b, nil
		}
		have = append(have, fmt.Sprintf("%s runs %s", b.Name, system(facts)))
	}
	return Node{}, fmt.Errorf("%s is of %s, and no builder is: %v. Give one of that system the role builder first", from, here, have)
}

// Undo leaves what was placed: nothing there serves.
func (s align) Undo(context.Context, pipeline.Say) error { return nil }
