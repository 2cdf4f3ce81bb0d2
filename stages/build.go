package stages

import (
	"context"
	"fmt"

	"vmst.io/refit/builds"
	"vmst.io/refit/pipeline"
)

// build makes the release on the builder, once for all nodes: from its tag, or from the
// store, if it was built by the same recipe before, here or on another builder.
type build struct {
	d Deps
	f *Facts
}

func (s build) Name() string { return s.d.stepAt("build") }

func (s build) made() *Made { return s.f.by(s.d.at) }

func (s build) Check(ctx context.Context, say pipeline.Say) error {
	there, err := s.there(ctx)
	if err != nil || there {
		return err
	}
	if _, a, ok := s.stored(ctx, say); ok {
		say("it was built on %s on %s by the same recipe and comes from the store", a.Builder, a.Stored.Format("2 January 2006"))
		return nil
	}
	return s.d.Builder.Check(ctx, s.made().Recipe, liner(say))
}

// there tells whether the release lies on the builder, built by the recipe. What must not
// be replaced there is an error, wherever the release comes from.
func (s build) there(ctx context.Context) (bool, error) {
	found, err := s.d.Builder.Look(ctx, s.made().Recipe)
	if err != nil {
		return false, err
	}
	digest, err := s.made().Recipe.Digest()
	if err != nil {
		return false, err
	}
	name, dir := s.d.builder().Name, s.made().Recipe.Layout.Dir(s.f.To.Version)
	switch {
	case s.d.Builder.Has(found, digest):
		return true, nil
	case found.State == builds.Foreign:
		return false, fmt.Errorf("%s: %s exists and was not built by refit; move it away", name, dir)
	case found.Live:
		return false, fmt.Errorf("%s: %s is live there and cannot be built anew; build on another host", name, dir)
	}
	return false, nil
}

func (s build) Run(ctx context.Context, say pipeline.Say) error {
	there, err := s.there(ctx)
	if err != nil {
		return err
	}
	if !there {
		if taken, err := s.take(ctx, say); err != nil || taken {
			return err
		}
	}
	built, err := s.d.Builder.Build(ctx, s.made().Recipe, liner(say))
	if err != nil {
		return err
	}
	s.made().Digest, s.made().Unverified = built.Manifest.Digest, built.Unverified
	if built.Cached {
		say("built before: same tree, same toolchain, same recipe")
	}
	for _, line := range built.Departures {
		say("departs from what the tag asks for: %s", line)
	}
	for _, line := range built.Unverified {
		say("not verified: %s", line)
	}
	say("manifest %.12s, %d files%s", built.Manifest.Digest, built.Manifest.Files, orWhy(built.SignedBy != "", ", signed with "+built.SignedBy, ", not signed"))
	s.keep(ctx, built.Manifest, say)
	return nil
}

// Undo removes a half-made build; a whole one stays for the next try.
func (s build) Undo(ctx context.Context, say pipeline.Say) error {
	return s.d.Builder.Remove(ctx, s.made().Recipe, liner(say))
}
