package toolchain

import (
	"context"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/node"
)

// Maker makes toolchains on the builder. Each is made once and found again by its recipe.
type Maker struct {
	// Builder is the host, and the way its jobs are run.
	Builder *builds.Builder
	// Layout is where things lie there.
	Layout builds.Layout
	// Repository is ruby-build's, empty for DefaultRubyBuild; InsteadOf rewrites it.
	Repository string
	InsteadOf  []git.Rewrite
	// Fetch brings one that was made before and is kept elsewhere, and tells whether it
	// did; nil for none.
	Fetch func(ctx context.Context, a builds.Artifact, say func(string)) (bool, error)
	// MinFree is the room that making one needs in the cache and where toolchains lie,
	// bytes; 0 for 2 GiB (Ruby 3.3 takes 0.9 GB while it is compiled).
	MinFree int64
	// MinMemory is the memory that must be available, bytes; 0 for 1 GiB.
	MinMemory int64
}

// Made is one toolchain that lies whole on the builder.
type Made struct {
	Artifact builds.Artifact `json:"artifact"`
	Manifest node.Head       `json:"manifest"`
	// Cached: it lay there already, or was fetched.
	Cached bool `json:"cached"`
	// Seconds that it took.
	Seconds float64 `json:"seconds"`
}

// Plan asks the builder what it would make. It changes nothing there but the cache.
func Plan(ctx context.Context, builder builds.Host, in PlanIn, say func(string)) (Planned, error) {
	var out Planned
	err := builder.Call(ctx, "toolchain.plan", in, nil, &out, say)
	return out, err
}

// Check tells, reading only, what would stop Make.
func (m Maker) Check(ctx context.Context, t builds.Toolchain, _ func(string)) error {
	for _, a := range t.Artifacts {
		state, err := m.look(ctx, a, false)
		if err != nil {
			return err
		}
		switch {
		case state.State == builds.Foreign:
			return fmt.Errorf("%s: %w", m.Builder.Name, foreign(a))
		case m.has(state, a):
		case state.InUse != "":
			return fmt.Errorf("%s: %w", m.Builder.Name, used(a, state.InUse))
		default:
			if err := m.room(ctx, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// has tells whether what was found is the whole artifact, signed as it must be.
func (m Maker) has(state LookOut, a builds.Artifact) bool {
	return state.State == builds.Whole && state.Recipe == a.Recipe && m.Builder.Vouched(state.Manifest.Digest, state.Signature) == nil
}

func (m Maker) look(ctx context.Context, a builds.Artifact, verify bool) (LookOut, error) {
	var out LookOut
	err := m.Builder.Host.Call(ctx, "toolchain.look", LookIn{Artifact: a, Home: m.Layout.Home, Verify: verify}, nil, &out, nil)
	return out, err
}

// Make makes what of t's artifacts does not lie there whole, each proved by running it.
// It may be repeated: what did not end is begun again from nothing, after what it left
// at work was stopped. A step that fails gives a *builds.BuildError.
func (m Maker) Make(ctx context.Context, t builds.Toolchain, say func(string)) ([]Made, error) {
	if len(t.Artifacts) > 0 {
		if err := m.Builder.CanSign(ctx); err != nil {
			return nil, err
		}
	}
	var all []Made
	for _, a := range t.Artifacts {
		began := time.Now()
		made, err := m.make(ctx, t, a, say)
		if err != nil {
			return all, err
		}
		made.Seconds = time.Since(began).Seconds()
		all = append(all, made)
	}
	return all, nil
}

func (m Maker) make(ctx context.Context, t builds.Toolchain, a builds.Artifact, say func(string)) (Made, error) {
	state, err := m.look(ctx, a, true)
	if err != nil {
		return Made{}, err
	}
	switch {
	case m.has(state, a):
		say(fmt.Sprintf("%s is there already, all %d files as its manifest has them", a.Name, state.Manifest.Files))
		return Made{Artifact: a, Manifest: *state.Manifest, Cached: true}, nil
	case state.State == builds.Unfinished:
		say(a.Name + " was not finished and is begun again from nothing")
	case state.State == builds.Damaged:
		say(fmt.Sprintf("%s is damaged (%s) and made again", a.Name, strings.Join(state.Differences, "; ")))
	case state.State == builds.Whole && state.Recipe != a.Recipe:
		say(a.Name + " was made by another recipe and is made again")
	case state.State == builds.Whole:
		say(fmt.Sprintf("%s is made again: %v", a.Name, m.Builder.Vouched(state.Manifest.Digest, state.Signature)))
	}
	if err := m.clear(ctx, t, a, say); err != nil {
		return Made{}, err
	}
	if m.Fetch != nil {
		found, err := m.Fetch(ctx, a, say)
		if err != nil {
			return Made{}, err
		}
		if found {
			if state, err = m.look(ctx, a, true); err != nil {
				return Made{}, err
			}
			if m.has(state, a) {
				return Made{Artifact: a, Manifest: *state.Manifest, Cached: true}, nil
			}
			say(fmt.Sprintf("%s came as %s and is made", a.Name, state.State))
		}
	}
	return m.build(ctx, t, a, say)
}

// build makes an artifact anew.
func (m Maker) build(ctx context.Context, t builds.Toolchain, a builds.Artifact, say func(string)) (Made, error) {
	if err := m.room(ctx, a); err != nil {
		return Made{}, err
	}
	in := MakeIn{Layout: m.Layout, Artifact: a, Repository: Sources{Repository: m.Repository}.filled().Repository, InsteadOf: m.InsteadOf}
	if err := m.Builder.Host.Call(ctx, "toolchain.begin", in, nil, nil, say); err != nil {
		return Made{}, err
	}
	var fetched FetchOut
	if err := m.Builder.Host.Call(ctx, "toolchain.fetch", in, nil, &fetched, say); err != nil {
		return Made{}, err
	}
	if a.Tool == "node" {
		if err := m.Builder.Host.Call(ctx, "toolchain.unpack", in, nil, nil, say); err != nil {
			return Made{}, err
		}
	}
	for _, s := range m.steps(t, a, fetched.RubyBuild) {
		if err := m.run(ctx, a, s, say); err != nil {
			return Made{}, err
		}
	}
	var out FinishOut
	if err := m.Builder.Host.Call(ctx, "toolchain.finish", in, nil, &out, say); err != nil {
		return Made{}, err
	}
	say(fmt.Sprintf("%s is made: %d files, %d MiB", a.Name, out.Manifest.Files, out.Manifest.Bytes>>20))
	if m.Builder.Signer != nil {
		by, err := m.Builder.SignManifest(ctx, a.Prefix, out.Manifest.Digest)
		if err != nil {
			return Made{}, err
		}
		say(fmt.Sprintf("%s is signed with %s", a.Name, by))
	}
	return Made{Artifact: a, Manifest: out.Manifest}, nil
}

// room asks for disk and memory before anything is begun.
func (m Maker) room(ctx context.Context, a builds.Artifact) error {
	free, memory := m.MinFree, m.MinMemory
	if free == 0 {
		free = 2 << 30
	}
	if memory == 0 {
		memory = 1 << 30
	}
	var facts node.Facts
	if err := m.Builder.Host.Call(ctx, "facts", node.FactsIn{Home: m.Layout.Home, Paths: []string{m.Layout.Cache, path.Dir(a.Prefix)}}, nil, &facts, nil); err != nil {
		return err
	}
	for _, d := range facts.Disks {
		if d.Free < uint64(free) {
			return fmt.Errorf("%s has %d MiB free below %s; making %s needs %d MiB: make room", m.Builder.Name, d.Free>>20, d.Path, a.Name, free>>20)
		}
	}
	if have := facts.MemoryAvailable + facts.SwapFree; have < memory {
		return fmt.Errorf("%s has %d MiB of memory available; making %s needs %d MiB: add memory or swap, or build on another host", m.Builder.Name, have>>20, a.Name, memory>>20)
	}
	return nil
}

// unit is the name of a step's transient unit, found again after a lost link.
func unit(a builds.Artifact, step string) string {
	return "refit-toolchain-" + strings.ReplaceAll(a.Name, ".", "-") + "-" + step + ".service"
}

// proveRuby asks a Ruby who it is and loads what Rails cannot do without: Ruby's own
// make leaves out an extension whose library it did not find.
const proveRuby = `abort "it says #{RUBY_VERSION}" unless RUBY_VERSION == ARGV[0][/\A\d+\.\d+\.\d+/]
%w[openssl psych zlib fiddle digest socket etc strscan io/console].each { |lib| require lib }
abort "it is not linked to jemalloc" if ARGV[1] && !RbConfig::CONFIG.values_at("MAINLIBS", "LIBS", "DLDLIBS").join(" ").include?("jemalloc")
puts RUBY_DESCRIPTION`

const proveBundler = `gem "bundler", ARGV[0]
require "bundler"
abort "it says #{Bundler::VERSION}" unless Bundler::VERSION == ARGV[0]
puts "Bundler #{Bundler::VERSION}"`

const proveNode = `if (process.versions.node !== process.argv[1]) { console.error("it says " + process.versions.node); process.exit(1) }
console.log("node " + process.version)`

// steps are the commands that make an artifact, and then prove it. None has a network.
// rubyBuild is ruby-build's folder.
func (m Maker) steps(t builds.Toolchain, a builds.Artifact, rubyBuild string) []builds.Step {
	at := work(m.Layout, a)
	env := func(more map[string]string) map[string]string {
		env := map[string]string{
			"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": filepath.Join(at, "home"), "TMPDIR": filepath.Join(at, "tmp"), "LANG": "C.UTF-8",
		}
		maps.Copy(env, more)
		return env
	}
	ruby := path.Join(t.Ruby.Prefix, "bin/ruby")
	switch a.Tool {
	case "ruby":
		prove := []string{path.Join(a.Prefix, "bin/ruby"), "-e", proveRuby, a.Version}
		if slices.Contains(a.Configure, "--with-jemalloc") {
			prove = append(prove, "jemalloc")
		}
		return []builds.Step{
			{
				Name: "compile", Why: "Ruby " + a.Version + " from its source, by " + a.From, Offline: true,
				Argv: []string{"bash", path.Join(rubyBuild, "bin/ruby-build"), "--verbose", a.Version, a.Prefix},
				Env: env(map[string]string{
					"RUBY_BUILD_CACHE_PATH": archives(m.Layout), "RUBY_BUILD_DEFINITIONS": filepath.Join(at, "definitions"),
					"RUBY_CONFIGURE_OPTS": strings.Join(a.Configure, " "),
				}),
			},
			{Name: "prove", Why: "whether it runs, with what Rails needs", Argv: prove, Env: env(nil), Offline: true},
		}
	case "bundler":
		return []builds.Step{
			{
				Name: "install", Why: "Bundler " + a.Version + ", which Gemfile.lock names", Offline: true, Env: env(nil),
				Argv: []string{
					ruby, path.Join(t.Ruby.Prefix, "bin/gem"), "install", "--local", "--no-document", "--norc", "--install-dir", a.Prefix,
					"--bindir", filepath.Join(at, "tmp"), filepath.Join(archives(m.Layout), a.Archives[0].File),
				},
			},
			{Name: "prove", Why: "whether Ruby takes it", Argv: []string{ruby, "-e", proveBundler, a.Version}, Env: env(map[string]string{"GEM_PATH": a.Prefix}), Offline: true},
		}
	}
	return []builds.Step{{Name: "prove", Why: "whether it runs", Argv: []string{path.Join(a.Prefix, "bin/node"), "-e", proveNode, a.Version}, Env: env(nil), Offline: true}}
}

func (m Maker) run(ctx context.Context, a builds.Artifact, s builds.Step, say func(string)) error {
	return m.Builder.Job(ctx, builds.Work{Layout: m.Layout, Of: a.Name, Step: s, Unit: unit(a, s.Name), Dir: work(m.Layout, a)}, say)
}

// Remove stops and takes away toolchains that were not finished. Finished ones stay:
// they harm nobody and spare the next attempt the work.
func (m Maker) Remove(ctx context.Context, t builds.Toolchain, say func(string)) error {
	for _, a := range t.Artifacts {
		if err := m.clear(ctx, t, a, say); err != nil {
			return err
		}
	}
	return nil
}

// clear stops what an earlier attempt left at work, and takes away what it left.
func (m Maker) clear(ctx context.Context, t builds.Toolchain, a builds.Artifact, say func(string)) error {
	for _, s := range m.steps(t, a, "") {
		if err := m.Builder.StopJob(ctx, unit(a, s.Name), say); err != nil {
			return err
		}
	}
	var out RemoveOut
	if err := m.Builder.Host.Call(ctx, "toolchain.remove", MakeIn{Layout: m.Layout, Artifact: a}, nil, &out, say); err != nil {
		return err
	}
	if out.Removed {
		say("the unfinished " + a.Name + " was removed")
	}
	return nil
}
