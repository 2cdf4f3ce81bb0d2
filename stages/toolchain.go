package stages

import (
	"context"
	"fmt"
	"strings"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/store"
	"vmst.io/refit/builds/toolchain"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// toolchains makes, on the builder, the Ruby, the Bundler and the Node that the
// release pins, each once for all releases that pin it.
type toolchains struct {
	d Deps
	f *Facts
}

func (s toolchains) Name() string { return s.d.stepAt("toolchain") }

func (s toolchains) made() *Made { return s.f.by(s.d.at) }

func (s toolchains) maker() toolchain.Maker {
	m := toolchain.Maker{
		Builder: s.d.Builder, Layout: s.made().Recipe.Layout,
		Repository: s.d.Toolchains.Repository, InsteadOf: s.made().Recipe.Mirrors.Git,
	}
	if s.d.Store != nil {
		m.Fetch = s.fetch
	}
	return m
}

// ware is a toolchain as the store knows it.
func (toolchains) ware(a builds.Artifact) ware {
	return ware{key: store.Key{Kind: store.Toolchain, Name: a.Name, OS: a.OS, Arch: a.Arch, Recipe: a.Recipe}, kind: node.KindToolchain, dir: a.Prefix}
}

// fetch brings a toolchain from the store, if it is there.
func (s toolchains) fetch(ctx context.Context, a builds.Artifact, say func(string)) (bool, error) {
	w, tell := s.ware(a), func(format string, args ...any) { say(fmt.Sprintf(format, args...)) }
	found, ok := s.d.inStore(ctx, w, tell)
	if !ok {
		return false, ctx.Err()
	}
	return s.d.fromStore(ctx, w, found, tell)
}

// keep stores what was made, unless it is there.
func (s toolchains) keep(ctx context.Context, m toolchain.Made, say pipeline.Say) {
	if s.d.Store == nil {
		return
	}
	if _, err := s.d.toStore(ctx, s.ware(m.Artifact), m.Manifest, say); err != nil {
		say("%v", err)
	}
}

// Check asks also for what the build needs after it: a Ruby is compiled for minutes, and
// what stops the build then can be known before.
func (s toolchains) Check(ctx context.Context, say pipeline.Say) error {
	if err := s.maker().Check(ctx, s.made().Recipe.Toolchain, liner(say)); err != nil {
		return err
	}
	return build(s).Check(ctx, func(string, ...any) {})
}

func (s toolchains) Run(ctx context.Context, say pipeline.Say) error {
	made, err := s.maker().Make(ctx, s.made().Recipe.Toolchain, liner(say))
	if err != nil {
		return err
	}
	for _, m := range made {
		for _, x := range m.Artifact.Archives {
			say("%s: %s, SHA-256 %.12s by %s", m.Artifact.Name, x.File, x.SHA256, x.By)
		}
		s.keep(ctx, m, say)
		say("%s in %s: manifest %.12s, recipe %.12s", m.Artifact.Name, m.Artifact.Prefix, m.Manifest.Digest, m.Artifact.Recipe)
	}
	return nil
}

// Undo removes a half-made one; a whole one stays for the next try.
func (s toolchains) Undo(ctx context.Context, say pipeline.Say) error {
	return s.maker().Remove(ctx, s.made().Recipe.Toolchain, liner(say))
}

// liner says whole lines, whatever stands in them.
func liner(say pipeline.Say) func(string) { return func(line string) { say("%s", line) } }

// artifactNames are the toolchains that refit makes for a release.
func artifactNames(t builds.Toolchain) string {
	var out []string
	for _, a := range t.Artifacts {
		out = append(out, a.Name)
	}
	return strings.Join(out, ", ")
}

// plannedToolchains asks the builder what it makes for a release. It is asked nothing
// where the hosts have both tools by themselves.
func (d Deps) plannedToolchains(ctx context.Context, r Request, to builds.Release, l builds.Layout, say pipeline.Say) (toolchain.Planned, error) {
	sources := d.Toolchains
	sources.InsteadOf, sources.Gems = r.Mirrors.Git, r.Mirrors.Gems
	in, ask := toolchain.PlanFor(l, to.Contents.Pins, r.Overrides, sources)
	if !ask {
		return toolchain.Planned{}, nil
	}
	return toolchain.Plan(ctx, d.builder().Agent, in, liner(say))
}
