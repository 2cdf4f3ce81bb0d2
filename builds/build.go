package builds

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"vmst.io/refit/hosts/node"
)

// unit is the name of a step's transient unit: one for each release and step, so
// that a step that outlived its refit is found again. One that works in a folder of
// all releases has one name for all, so that there are never two.
func unit(v Version, s Step) string {
	if s.Shared {
		return "refit-build-" + s.Name + ".service"
	}
	return "refit-build-" + strings.ReplaceAll(v.Number(), ".", "-") + "-" + s.Name + ".service"
}

// Check tells, reading only, what would stop Build: room, memory, the user, the
// sources that the builder must reach, another tag there than here.
func (b *Builder) Check(ctx context.Context, r Recipe, say func(string)) error {
	if err := r.Check(); err != nil {
		return err
	}
	state, err := b.look(ctx, r, false)
	if err != nil {
		return err
	}
	digest, err := r.Digest()
	if err != nil {
		return err
	}
	if b.Has(state, digest) {
		return nil // nothing will be built
	}
	if state.State == Foreign {
		return fmt.Errorf("%s: %s exists and was not built by refit; move it away", b.Name, r.Layout.Dir(r.Release.Version))
	}
	if state.Live {
		return fmt.Errorf("%s: %s is live there and cannot be built anew; build on another host", b.Name, r.Layout.Dir(r.Release.Version))
	}
	for _, d := range r.Departures() {
		say("departing from the release's own pins: " + d)
	}
	if err := b.checkRoom(ctx, r); err != nil {
		return err
	}
	var out ReachOut
	if err := b.Host.Call(ctx, "build.reach", ReachIn{
		URL: b.Upstream, InsteadOf: r.Mirrors.Git, KnownHosts: b.KnownHosts, KeyFile: b.KeyFile,
		Tag: r.Release.Version.String(), Dir: r.Layout.Dir(r.Release.Version), Gems: r.Mirrors.Gems, NPM: r.Mirrors.NPM, Yarn: r.Toolchain.Yarn, Patience: b.Patience,
	}, nil, &out, say); err != nil {
		return err
	}
	if want := or(r.Release.Tag.Object, r.Release.Tag.Commit); out.Tag != want {
		return fmt.Errorf("tag %s is %s as %s sees it and %s as this machine sees it: the two repositories disagree", r.Release.Version, out.Tag, b.Name, want)
	}
	return nil
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// leastFiles is how many files a build may make: Mastodon 4.6 has 35,000 in its release
// and about as many among the packages that its assets are made with, kept ones beside.
const leastFiles = 200_000

// checkRoom asks for disk, memory, the user, and git where the lock file needs it.
func (b *Builder) checkRoom(ctx context.Context, r Recipe) error {
	in := node.FactsIn{Home: r.Layout.Home, Paths: []string{r.Layout.Home, r.Layout.Cache}, Commands: []node.FactCommand{{Argv: []string{"id", "-u", r.Layout.User}}}}
	if len(r.Release.Contents.GitSources) > 0 {
		in.Commands = append(in.Commands, node.FactCommand{Argv: []string{"git", "--version"}})
	}
	var facts node.Facts
	if err := b.Host.Call(ctx, "facts", in, nil, &facts, nil); err != nil {
		return err
	}
	free, memory := b.MinFree, b.MinMemory
	if free == 0 {
		free = 4 << 30
	}
	if memory == 0 {
		memory = 3 << 30
	}
	for _, d := range facts.Disks {
		if d.Free < uint64(free) {
			return fmt.Errorf("%s has %s free below %s; a build needs %s there: make room%s", b.Name, size(int64(d.Free)), d.Path, size(free), builtBefore(facts.Releases, r))
		}
		if d.Files > 0 && d.FreeFiles < leastFiles {
			return fmt.Errorf("%s can make %d more files below %s (inodes); a build makes up to %d: remove old releases or enlarge the file system", b.Name, d.FreeFiles, d.Path, leastFiles)
		}
	}
	if have := facts.MemoryAvailable + facts.SwapFree; have < memory {
		return fmt.Errorf("%s has %s of memory available; a build needs %s: add memory or swap, or build on another host", b.Name, size(have), size(memory))
	}
	remedies := []string{"this host has no user " + r.Layout.User + "; make it, as the nodes have it", "Gemfile.lock takes gems from git repositories and there is no git; install it"}
	for i, c := range facts.Commands {
		if c.Error != "" {
			return fmt.Errorf("%s: %s (%s)", b.Name, remedies[i], c.Error)
		}
	}
	return nil
}

// builtBefore names the builds beside the one that is to be made. Those older than the
// release that the fleet is on are of no more use; an upgrade removes them at its end.
func builtBefore(have []node.ReleaseFact, r Recipe) string {
	var names []string
	for _, h := range have {
		if h.Name != r.Release.Version.String() {
			names = append(names, h.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("; below %s lie %s, of which those that the fleet is past are of no more use", path.Dir(r.Layout.Dir(r.Release.Version)), strings.Join(names, ", "))
}

// size writes bytes for people.
func size(n int64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

func (b *Builder) look(ctx context.Context, r Recipe, verify bool) (LookOut, error) {
	var out LookOut
	err := b.Host.Call(ctx, "build.look", LookIn{Layout: r.Layout, Version: r.Release.Version, Verify: verify}, nil, &out, nil)
	return out, err
}

// Look tells what lies where the release is built, without hashing it.
func (b *Builder) Look(ctx context.Context, r Recipe) (LookOut, error) { return b.look(ctx, r, false) }

// Build builds the release, or finds it built by the same recipe. It may be
// repeated: a build that did not end is begun again from nothing, after what it
// left at work was stopped. A step that fails gives a *BuildError.
func (b *Builder) Build(ctx context.Context, r Recipe, say func(string)) (Built, error) {
	if err := r.Check(); err != nil {
		return Built{}, err
	}
	digest, err := r.Digest()
	if err != nil {
		return Built{}, err
	}
	built := Built{Recipe: digest, Departures: r.Departures()}
	for _, d := range built.Departures {
		say("departing from the release's own pins: " + d)
	}
	if err := b.CanSign(ctx); err != nil {
		return Built{}, err
	}
	state, err := b.look(ctx, r, true)
	if err != nil {
		return Built{}, err
	}
	unsigned := b.unsigned(state)
	switch {
	case state.State == Whole && state.Recipe == digest && unsigned == nil:
		say(fmt.Sprintf("%s is built already, all %d files as its manifest has them", r.Release.Version, state.Manifest.Files))
		built.Manifest, built.Cached, built.Unverified = *state.Manifest, true, state.Unverified
		built.SignedBy, err = b.signer()
		return built, err
	case state.State == Whole && state.Recipe == digest:
		say(fmt.Sprintf("the build of %s is made again: %v", r.Release.Version, unsigned))
	case state.State == Unfinished:
		say("an unfinished build of " + r.Release.Version.String() + " is begun again from nothing")
	case state.State == Damaged:
		say(fmt.Sprintf("the build of %s is damaged (%s) and made again", r.Release.Version, strings.Join(state.Differences, "; ")))
	case state.State == Whole:
		say("the build of " + r.Release.Version.String() + " was made by another recipe and is made again")
	}
	if err := b.stopLeftovers(ctx, r, say); err != nil {
		return Built{}, err
	}
	if err := b.checkRoom(ctx, r); err != nil {
		return Built{}, err
	}
	if err := b.prepare(ctx, r, digest, &built, say); err != nil {
		return Built{}, err
	}
	m := making{b: b, r: r, built: &built, say: say}
	for _, part := range []func(context.Context) error{m.gems, m.packages, m.compile, m.conclude, m.sign, m.evict} {
		if err := part(ctx); err != nil {
			return built, err
		}
	}
	return built, nil
}

// timed runs one part and notes how long it took.
func (b *Builder) timed(name string, built *Built, do func() error) error {
	began := time.Now()
	err := do()
	built.Steps = append(built.Steps, StepTime{name, time.Since(began).Seconds()})
	return err
}

// prepare does what comes before the jobs.
func (b *Builder) prepare(ctx context.Context, r Recipe, digest string, built *Built, say func(string)) error {
	v := r.Release.Version
	if err := b.timed("checkout", built, func() error {
		var out CheckoutOut
		err := b.Host.Call(ctx, "git.checkout", CheckoutIn{
			Layout: r.Layout, Version: v, Recipe: digest, URL: b.Upstream, InsteadOf: r.Mirrors.Git,
			KnownHosts: b.KnownHosts, KeyFile: b.KeyFile, Tag: r.Release.Tag,
		}, nil, &out, say)
		if err == nil {
			say(fmt.Sprintf("%s: %d files, tree %s computed from the files", v, out.Files, out.Tree))
		}
		return err
	}); err != nil {
		return err
	}
	return b.Host.Call(ctx, "build.link", LinkIn{Layout: r.Layout, Version: v, Toolchain: r.Toolchain}, nil, nil, say)
}

// Remove stops and takes away a build that did not end. A finished one stays:
// it harms nobody and spares the next attempt the work.
func (b *Builder) Remove(ctx context.Context, r Recipe, say func(string)) error {
	if err := b.stopLeftovers(ctx, r, say); err != nil {
		return err
	}
	var out RemoveOut
	if err := b.Host.Call(ctx, "build.remove", RemoveIn{Layout: r.Layout, Version: r.Release.Version}, nil, &out, say); err != nil {
		return err
	}
	if out.Removed {
		say("the unfinished build was removed")
	}
	return nil
}
