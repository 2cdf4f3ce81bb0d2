package builds

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/node"
)

// Layout is where things lie on the builder and on the nodes. Both have the
// same: a bundle, its gems' scripts and .bundle/config hold absolute paths.
type Layout struct {
	// Home holds live and releases: "/home/mastodon".
	Home string `json:"home"`
	// User builds, and runs, the release: "mastodon".
	User string `json:"user"`
	// Cache is the builder's own folder for what builds share and need only
	// while they run: "/var/cache/refit".
	Cache string `json:"cache"`
	// Toolchains holds the toolchains; empty for node.ToolchainsDir.
	Toolchains string `json:"toolchains,omitempty"`
}

// DefaultLayout is the layout of Mastodon's install guide with releases beside live.
func DefaultLayout() Layout {
	return Layout{Home: node.HomeDir, User: "mastodon", Cache: "/var/cache/refit"}
}

// Dir is the release's directory.
func (l Layout) Dir(v Version) string { return path.Join(l.Home, "releases", v.String()) }

// Prefix is the directory of the toolchain of that name: "/opt/refit/ruby-3.4.7".
func (l Layout) Prefix(name string) string {
	return path.Join(cmp.Or(l.Toolchains, node.ToolchainsDir), name)
}

// work is the build's folder outside the release: home, temporary files, yarn.js.
func (l Layout) work(v Version) string { return path.Join(l.Cache, "build", v.String()) }

// gems is where the gems lie that were fetched for a build and held to their checksums.
func (l Layout) gems(v Version) string { return path.Join(l.work(v), "gems") }

// bundle is where gems are compiled, for every release in the same folder.
func (l Layout) bundle() string { return path.Join(l.Cache, "bundle") }

// Mirrors are where the build fetches from instead of the public registries.
// Empty fields leave the public ones.
type Mirrors struct {
	// Gems is the base URL of a gem registry that stands for every source.
	Gems string `json:"gems,omitempty"`
	// NPM is the base URL of an npm registry.
	NPM string `json:"npm,omitempty"`
	// Git rewrites URLs of git repositories: upstream's and those in Gemfile.lock.
	Git []git.Rewrite `json:"git,omitempty"`
	// YarnChecksums is yarn's checksumBehavior: empty for "throw", yarn's own, or
	// "ignore" for a registry that serves substitutes. Said aloud and recorded.
	YarnChecksums string `json:"yarn_checksums,omitempty"`
	// YarnChecksumsWhy is the reason; required beside YarnChecksums.
	YarnChecksumsWhy string `json:"yarn_checksums_why,omitempty"`
}

// Step is one command of a build, as a value.
type Step struct {
	// Name is one word, part of the job's unit name: "bundle".
	Name string `json:"name"`
	// Why is one line for the reader of the log.
	Why  string   `json:"why"`
	Argv []string `json:"argv"`
	// Env is the step's whole environment.
	Env map[string]string `json:"env"`
	// Offline: the step gets no network.
	Offline bool `json:"offline"`
	// Shared: the step works in a folder that is one for all releases, so that only one
	// release at a time can be at it.
	Shared bool `json:"shared,omitempty"`
}

// Recipe is everything that decides what a build brings forth.
type Recipe struct {
	Release   Release   `json:"release"`
	Toolchain Toolchain `json:"toolchain"`
	Mirrors   Mirrors   `json:"mirrors"`
	Layout    Layout    `json:"layout"`
	// Env is added to every step: CDN_HOST, where it is used.
	Env map[string]string `json:"env,omitempty"`
	// Precompile: the release comes with Ruby's code compiled. It is compiled for the
	// release's own path, so none of it is the same in the next release.
	Precompile bool `json:"precompile,omitempty"`
}

// recipeFormat rises when the steps change meaning, so that older builds are made again.
const recipeFormat = 4

// Digest names the recipe and its steps: equal digests build equal releases.
// A mirror counts where what it serves is not held to the lock files: another may
// serve something else.
func (r Recipe) Digest() (string, error) {
	steps := r.Steps()
	for i := range steps {
		maps.DeleteFunc(steps[i].Env, func(k, _ string) bool {
			return transport[k] || strings.HasPrefix(k, "GIT_CONFIG_") && k != "GIT_CONFIG_NOSYSTEM"
		})
	}
	b, err := json.Marshal(struct {
		Format       int
		Commit, Tree string
		Toolchain    Toolchain
		Layout       Layout
		Steps        []Step
		Trusted      Registries
	}{recipeFormat, r.Release.Tag.Commit, r.Release.Tag.Tree, r.Toolchain.named(), r.Layout, steps, r.trusted()})
	if err != nil {
		return "", fmt.Errorf("cannot name the recipe: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// Registries are those whose word alone decides what a build gets from them.
type Registries struct {
	Gems string `json:"gems,omitempty"`
	NPM  string `json:"npm,omitempty"`
}

// trusted are the registries that serve what the release's lock files do not hold.
func (r Recipe) trusted() Registries {
	var t Registries
	l := r.Release.Contents.Locks
	if l.GemsHeld < l.Gems {
		// Without a mirror it is the one that Gemfile.lock names.
		t.Gems = strings.TrimSuffix(r.Mirrors.Gems, "/")
	}
	if l.Platform > 0 || l.PackagesHeld < l.Packages || r.Mirrors.YarnChecksums != "" || r.Toolchain.YarnHash == "" {
		t.NPM = registryOr(r.Mirrors.NPM)
	}
	return t
}

// of is what of them decides what becomes of a part.
func (t Registries) of(k Kind) Registries {
	switch k {
	case Bundle:
		t.NPM = ""
	case Packages, Streaming:
		t.Gems = ""
	}
	return t
}

// transport names the variables that say whence things come, not what they are.
var transport = map[string]bool{"BUNDLE_MIRROR__ALL": true, "YARN_NPM_REGISTRY_SERVER": true, "YARN_UNSAFE_HTTP_WHITELIST": true}

// The names of a build's steps.
const (
	stepGems     = "gems"
	stepBundle   = "bundle"
	stepPackages = "packages"
	stepYarn     = "yarn"
	stepAssets   = "assets"
	stepFocus    = "focus"
	stepCompile  = "compile"
	stepBoot     = "boot"
)

// Steps is the build's commands, in order. What fetches installs and compiles nothing
// (of a gem from git, Bundler reads the gemspec to know what it needs); what installs,
// compiles or runs what was fetched has no network. A build leaves out the steps of a
// part that was kept from an earlier one.
func (r Recipe) Steps() []Step {
	work := r.Layout.work(r.Release.Version)
	bundle, yarn := path.Join(r.Layout.Dir(r.Release.Version), ".refit/bin/bundle"), path.Join(work, "bin/yarn")
	// Bundler's settings for the folder that gems are compiled in.
	settings := path.Join(work, "bundle")
	// Stands in for every secret that the code asks for at its start.
	dummies := map[string]string{"SECRET_KEY_BASE_DUMMY": "1"}
	steps := []Step{
		{
			Name: stepGems, Why: "gems of the locked versions are fetched", Argv: []string{bundle, "install"}, Shared: true,
			Env: r.env(map[string]string{"BUNDLE_APP_CONFIG": settings, "BUNDLE_NO_INSTALL": "true", "BUNDLE_TIMEOUT": "30", "BUNDLE_RETRY": "3"}),
		},
		{
			Name: stepBundle, Why: "gems are compiled and installed", Argv: []string{bundle, "install", "--local"}, Shared: true, Offline: true,
			Env: r.env(map[string]string{"BUNDLE_APP_CONFIG": settings, "BUNDLE_CACHE_PATH": r.Layout.gems(r.Release.Version)}),
		},
		{
			// Linked in yarn's other way nothing is unpacked, so this is the fetching alone.
			Name: stepPackages, Why: "node packages of the locked versions are fetched",
			Argv: []string{yarn, "install", "--immutable", "--mode=skip-build"}, Env: r.env(map[string]string{"YARN_NODE_LINKER": "pnp"}),
		},
		{
			Name: stepYarn, Why: "node packages are installed", Offline: true,
			Argv: []string{yarn, "install", "--immutable"}, Env: r.env(map[string]string{"YARN_ENABLE_NETWORK": "0"}),
		},
		{
			Name: stepAssets, Why: "styles and scripts for browsers", Offline: true,
			Argv: []string{bundle, "exec", "rails", "assets:precompile"}, Env: r.env(dummies),
		},
	}
	if ws := r.Release.Contents.StreamingWorkspace; ws != "" {
		steps = append(steps, Step{
			Name: stepFocus, Why: "only the node packages that streaming runs on", Offline: true,
			Argv: []string{yarn, "workspaces", "focus", "--production", ws}, Env: r.env(map[string]string{"YARN_ENABLE_NETWORK": "0"}),
		})
	}
	if r.Precompile && r.Release.Contents.Locks.Bootsnap != "" {
		steps = append(steps, Step{
			Name: stepCompile, Why: "Ruby's code is compiled, as upstream's own images have it", Offline: true,
			Argv: []string{bundle, "exec", "bootsnap", "precompile", "--gemfile", "app/", "lib/", "config/"}, Env: r.env(nil),
		}, Step{
			Name: stepBoot, Why: "where Ruby finds what is written down", Offline: true,
			Argv: []string{bundle, "exec", "rails", "environment"}, Env: r.env(dummies),
		})
	}
	return steps
}

// step is one of Steps, by name.
func (r Recipe) step(name string) (Step, bool) {
	for _, s := range r.Steps() {
		if s.Name == name {
			return s, true
		}
	}
	return Step{}, false
}

// env is a step's whole environment.
func (r Recipe) env(more map[string]string) map[string]string {
	dir, work := r.Layout.Dir(r.Release.Version), r.Layout.work(r.Release.Version)
	env := map[string]string{
		"PATH":                strings.Join([]string{path.Join(dir, ".refit/bin"), path.Join(work, "bin"), path.Join(dir, ".refit/ruby/bin"), path.Join(dir, ".refit/node/bin"), "/usr/local/bin:/usr/bin:/bin"}, ":"),
		"HOME":                path.Join(work, "home"),
		"TMPDIR":              path.Join(work, "tmp"),
		"LANG":                "C.UTF-8", // without it Ruby reads files as US-ASCII
		"RAILS_ENV":           "production",
		"NODE_ENV":            "production",
		"BUNDLE_USER_HOME":    path.Join(work, "home/.bundle"),
		"GIT_TERMINAL_PROMPT": "0",
		"GIT_CONFIG_NOSYSTEM": "1",
		// What asks for the date gets the same in every build.
		"SOURCE_DATE_EPOCH": strconv.FormatInt(node.FixedTime().Unix(), 10),
		// Mastodon's .yarnrc may name a yarn of its own, which the tree does not hold.
		"YARN_IGNORE_PATH":      "1",
		"YARN_ENABLE_TELEMETRY": "0",
		// What has another checksum than yarn.lock's is refused, whatever settings say.
		"YARN_CHECKSUM_BEHAVIOR": cmp.Or(r.Mirrors.YarnChecksums, "throw"),
		// Packages are kept under the checksums of yarn.lock, so builds may share them.
		"YARN_GLOBAL_FOLDER": path.Join(r.Layout.Cache, "yarn"),
	}
	if r.Mirrors.Gems != "" {
		env["BUNDLE_MIRROR__ALL"] = r.Mirrors.Gems
	}
	if r.Mirrors.NPM != "" {
		env["YARN_NPM_REGISTRY_SERVER"] = strings.TrimSuffix(r.Mirrors.NPM, "/")
		if u, err := url.Parse(r.Mirrors.NPM); err == nil && u.Scheme == "http" {
			env["YARN_UNSAFE_HTTP_WHITELIST"] = u.Hostname()
		}
	}
	if n := len(r.Mirrors.Git); n > 0 {
		env["GIT_CONFIG_COUNT"] = strconv.Itoa(n)
		for i, rw := range r.Mirrors.Git {
			env[fmt.Sprintf("GIT_CONFIG_KEY_%d", i)] = "url." + rw.To + ".insteadOf"
			env[fmt.Sprintf("GIT_CONFIG_VALUE_%d", i)] = rw.From
		}
	}
	maps.Copy(env, r.Env)
	maps.Copy(env, more)
	return env
}

// Departures are the ways in which the build departs from what the tag asks
// for, one line each, said aloud and recorded in the manifest.
func (r Recipe) Departures() []string {
	out := slices.Clone(r.Toolchain.Overrides())
	if r.Mirrors.YarnChecksums != "" {
		out = append(out, fmt.Sprintf("yarn checksums %s: %s", r.Mirrors.YarnChecksums, r.Mirrors.YarnChecksumsWhy))
	}
	return out
}

// Check tells what in the recipe cannot work, before anything is asked of a host.
func (r Recipe) Check() error {
	if r.Mirrors.YarnChecksums != "" && r.Mirrors.YarnChecksumsWhy == "" {
		return fmt.Errorf("yarn checksums are set to %q without a reason; give one", r.Mirrors.YarnChecksums)
	}
	for name, base := range map[string]string{"gems": r.Mirrors.Gems, "npm": r.Mirrors.NPM} {
		if base == "" {
			continue
		}
		if u, err := url.Parse(base); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return fmt.Errorf("the %s mirror %q is no http or https URL", name, base)
		}
	}
	bare := r
	bare.Env = nil
	own := bare.env(nil)
	for _, k := range slices.Sorted(maps.Keys(r.Env)) {
		if _, taken := own[k]; taken {
			return fmt.Errorf("the build variable %s is refit's own and cannot be set", k)
		}
	}
	return nil
}
