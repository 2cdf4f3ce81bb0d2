package stages

import (
	"context"

	"vmst.io/refit/pipeline"
)

// build makes the release on the builder, once for all nodes.
type build struct {
	d Deps
	f *Facts
}

func (build) Name() string { return "build" }

func (s build) Check(ctx context.Context, say pipeline.Say) error {
	return s.d.Builder.Check(ctx, s.f.Recipe, func(line string) { say("%s", line) })
}

func (s build) Run(ctx context.Context, say pipeline.Say) error {
	built, err := s.d.Builder.Build(ctx, s.f.Recipe, func(line string) { say("%s", line) })
	if err != nil {
		return err
	}
	s.f.Digest, s.f.Unverified = built.Manifest.Digest, built.Unverified
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
	return nil
}

// Undo removes a half-made build; a whole one stays for the next try.
func (s build) Undo(ctx context.Context, say pipeline.Say) error {
	return s.d.Builder.Remove(ctx, s.f.Recipe, func(line string) { say("%s", line) })
}
