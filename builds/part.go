package builds

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"vmst.io/refit/hosts/git"
)

// Kind is a part of a build that a later one can use again.
type Kind string

// The parts of a build.
const (
	// Bundle is the installed gems, vendor/bundle.
	Bundle Kind = "bundle"
	// Packages is all node packages that the assets are made with, node_modules.
	Packages Kind = "packages"
	// Streaming is the node packages that a release keeps, node_modules.
	Streaming Kind = "streaming"
	// Assets is what assets:precompile adds to the tree.
	Assets Kind = "assets"
)

// partFormat rises when parts are made in another way, so that none of before is used.
const partFormat = 4

// PartIn names a part of a build, and what decides what becomes of it.
type PartIn struct {
	Layout    Layout    `json:"layout"`
	Version   Version   `json:"version"`
	Kind      Kind      `json:"kind"`
	Toolchain Toolchain `json:"toolchain"`
	// Env is the recipe's own environment.
	Env map[string]string `json:"env,omitempty"`
	// YarnChecksums is yarn's checksumBehavior, see Mirrors.
	YarnChecksums string `json:"yarn_checksums,omitempty"`
	// Mirrors are what is fetched from for it instead of the public registries, by kind and
	// without what may be secret. They are for the record.
	Mirrors map[string]string `json:"mirrors,omitempty"`
	// Trusted are the registries whose word alone decides what is in it.
	Trusted Registries `json:"trusted,omitzero"`
}

// key names a part by all that it is made from: the same key, the same part. The
// number of the release is no part of it.
func (in PartIn) key(dir string, src Source) (string, error) {
	osName, err := osRelease()
	if err != nil {
		return "", fmt.Errorf("cannot name the %s: %w", in.Kind, err)
	}
	files, err := in.inputs(dir, src.Files)
	if err != nil {
		return "", fmt.Errorf("cannot name the %s: %w", in.Kind, err)
	}
	b, err := json.Marshal(struct {
		Format                     int
		Kind                       Kind
		OS, Arch, User, Home, Path string
		Toolchain                  Toolchain
		Env                        map[string]string
		YarnChecksums              string
		Trusted                    Registries
		Files                      []git.File
	}{partFormat, in.Kind, osName, runtime.GOARCH, in.Layout.User, in.Layout.Home, in.Layout.bundle(), in.tools(), in.Env, in.YarnChecksums, in.Trusted, files})
	if err != nil {
		return "", fmt.Errorf("cannot name the %s: %w", in.Kind, err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])[:32], nil
}

// tools is the toolchain as far as it decides: what a tag pinned and why it got
// another is of no weight, nor is Node for gems or Ruby for node packages.
func (in PartIn) tools() Toolchain {
	t := in.Toolchain
	var of []Artifact
	for _, a := range t.Artifacts {
		if in.Kind == Assets || (a.Tool == "node") == (in.Kind != Bundle) {
			of = append(of, a)
		}
	}
	t.Artifacts = of
	t = t.named()
	t.Ruby.Pinned, t.Ruby.Why, t.Node.Pinned, t.Node.Why = "", "", "", ""
	switch in.Kind {
	case Bundle:
		t.Node, t.Yarn, t.YarnHash = Runtime{}, "", ""
	case Packages, Streaming:
		t.Ruby, t.Bundler, t.BundlerPinned = Runtime{}, "", ""
	}
	return t
}

// inputs are the tracked files that the part is made from.
func (in PartIn) inputs(dir string, all []git.File) ([]git.File, error) {
	switch in.Kind {
	case Bundle:
		whole, err := reachesOut(dir)
		if whole || err != nil {
			return all, err
		}
		return pick(all, func(p string) bool {
			return p == "Gemfile" || p == "Gemfile.lock" || p == ".ruby-version" || p == ".tool-versions"
		}), nil
	case Packages, Streaming:
		return pick(all, func(p string) bool {
			return path.Base(p) == "package.json" || p == "yarn.lock" || p == ".npmrc" || p == ".yarnrc.yml" || strings.HasPrefix(p, ".yarn/")
		}), nil
	default:
		return pick(all, func(p string) bool { return !noAsset(p) }), nil
	}
}

func pick(all []git.File, want func(string) bool) []git.File {
	var out []git.File
	for _, f := range all {
		if want(f.Path) {
			out = append(out, f)
		}
	}
	return out
}

// reachesOut tells whether the gems depend on more of the tree than Gemfile and
// lock: gems that are folders of it, or a Gemfile that reads other files.
func reachesOut(dir string) (bool, error) {
	lock, err := os.ReadFile(filepath.Join(dir, "Gemfile.lock"))
	if err != nil {
		return false, err
	}
	l, err := ReadGemLock(string(lock))
	if err != nil || l.Local {
		return true, err
	}
	gemfile, err := os.ReadFile(filepath.Join(dir, "Gemfile"))
	if err != nil {
		return false, err
	}
	for _, word := range []string{"eval_gemfile", "instance_eval", "File.", "Dir.", "IO.", "require", "load ", "gemspec", "path:", ":path"} {
		// "require: false" is an option of a gem.
		if strings.Contains(strings.ReplaceAll(string(gemfile), "require:", ""), word) {
			return true, nil
		}
	}
	return false, nil
}

// noAsset tells whether a tracked file cannot have a part in the assets: it is for
// people, for tests, for other ways to install, for the database or for streaming.
// Rails itself runs to make them, so any code of the application may have.
func noAsset(p string) bool {
	for _, dir := range []string{"spec/", "test/", "docs/", "dist/", "chart/", ".github/", ".devcontainer/", ".circleci/", "db/migrate/", "db/post_migrate/"} {
		if strings.HasPrefix(p, dir) {
			return true
		}
	}
	if strings.HasPrefix(p, "streaming/") {
		return path.Base(p) != "package.json"
	}
	return !strings.Contains(p, "/") && (strings.HasSuffix(p, ".md") || slices.Contains([]string{"Dockerfile", "docker-compose.yml", "Vagrantfile", "AUTHORS", "LICENSE"}, p))
}

// part is a part of this recipe.
func (r Recipe) part(k Kind) PartIn {
	return PartIn{Layout: r.Layout, Version: r.Release.Version, Kind: k, Toolchain: r.Toolchain, Env: maps.Clone(r.Env), YarnChecksums: r.Mirrors.YarnChecksums, Mirrors: r.mirrorsOf(k), Trusted: r.trusted().of(k)}
}

// place is where the part lies in a release.
func (k Kind) place() string {
	switch k {
	case Bundle:
		return "vendor/bundle"
	case Packages, Streaming:
		return "node_modules"
	}
	return "."
}
