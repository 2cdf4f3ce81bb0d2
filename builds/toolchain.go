package builds

import (
	"cmp"
	"fmt"
	"net/url"
	"path"
	"strings"
)

// Runtime is a Ruby or a Node that a release is built and run with.
type Runtime struct {
	// Version is what the prefix's own binary said: "3.3.8".
	Version string `json:"version"`
	// Pinned is what the tag asks for.
	Pinned string `json:"pinned"`
	// Prefix holds bin/ruby or bin/node: "/opt/refit/ruby-3.4.7", "/usr".
	Prefix string `json:"prefix"`
	// Why is the reason given for another version than the pinned one; empty if
	// it is the pinned one.
	Why string `json:"why,omitempty"`
}

// Toolchain is what a release is built and run with: decided once, before
// anything starts, and recorded in the manifest.
type Toolchain struct {
	Ruby Runtime `json:"ruby"`
	Node Runtime `json:"node"`
	// Bundler is the version that lies beside Ruby, empty for the one that comes with a
	// Ruby that is still to be compiled; BundlerPinned the lock file's.
	Bundler       string `json:"bundler"`
	BundlerPinned string `json:"bundler_pinned"`
	// Yarn is packageManager's version; YarnHash its hash, "sha512.<hex>", or empty.
	Yarn     string `json:"yarn"`
	YarnHash string `json:"yarn_hash,omitempty"`
	// Artifacts are those of Ruby, Bundler and Node that refit makes on the builder
	// and places on the nodes, in the order in which they are made; none of a tool that
	// refit.yml takes from a prefix of the hosts' own.
	Artifacts []Artifact `json:"artifacts,omitempty"`
}

// Artifact is a toolchain that refit makes: what it is, and all that decides what
// it becomes.
type Artifact struct {
	// Tool is "ruby", "bundler" or "node", Version exact: "24.10.0".
	Tool    string `json:"tool"`
	Version string `json:"version"`
	// Name is its directory's: "ruby-3.4.7", or "ruby-3.4.7-1f0c62ab" for one with
	// other options or another definition than refit's own. Prefix is the directory.
	Name   string `json:"name"`
	Prefix string `json:"prefix"`
	// OS and Arch are what it is made on and for: "debian 13", "amd64".
	OS   string `json:"os"`
	Arch string `json:"arch"`
	// Archives are what it is made from.
	Archives []Archive `json:"archives"`
	// Definition is ruby-build's for a Ruby, whole; From says where it comes from.
	Definition string `json:"definition,omitempty"`
	From       string `json:"from,omitempty"`
	// RubyBuild is the revision of ruby-build that compiles a Ruby.
	RubyBuild string `json:"ruby_build,omitempty"`
	// Configure are the options that a Ruby is compiled with.
	Configure []string `json:"configure,omitempty"`
	// Recipe names what it becomes: artifacts of one recipe stand for each other. It
	// says nothing of where the archives are fetched from.
	Recipe string `json:"recipe"`
}

// Archive is a file that a toolchain is made from.
type Archive struct {
	// File is its name where refit keeps it; for ruby-build the package's name with
	// ".tar.gz" or ".tar.bz2".
	File string `json:"file"`
	URL  string `json:"url"`
	// SHA256 in hex; By says who vouches for it: "ruby-build 9207ff8331f1",
	// "https://nodejs.org/dist/v24.10.0/SHASUMS256.txt", "refit.yml".
	SHA256 string `json:"sha256"`
	By     string `json:"by"`
}

// Unverified says, a line each, which archives of what refit makes were held to nothing
// but what the server that they come from says of them.
func (t Toolchain) Unverified() []string {
	var out []string
	for _, a := range t.Artifacts {
		for _, f := range a.Archives {
			if f.ownWord() {
				out = append(out, fmt.Sprintf("%s: only the server that it comes from has a checksum (%s)", path.Base(f.URL), f.By))
			}
		}
	}
	return out
}

// ownWord tells whether the archive's own server alone vouches for it.
func (a Archive) ownWord() bool {
	by, err := url.Parse(a.By)
	from, ferr := url.Parse(a.URL)
	return err == nil && ferr == nil && by.Host != "" && by.Host == from.Host && !strings.HasSuffix(a.By, " and refit.yml")
}

// Artifact is the one of that tool.
func (t Toolchain) Artifact(tool string) (Artifact, bool) {
	for _, a := range t.Artifacts {
		if a.Tool == tool {
			return a, true
		}
	}
	return Artifact{}, false
}

// named is t with no more of its artifacts than names them: where an archive was
// fetched from makes no other release.
func (t Toolchain) named() Toolchain {
	var short []Artifact
	for _, a := range t.Artifacts {
		short = append(short, Artifact{Name: a.Name, Prefix: a.Prefix, Recipe: a.Recipe})
	}
	t.Artifacts = short
	return t
}

// Overrides are the ways in which t departs from the tag's pins, one line each,
// for the plan, the manifest and the report.
func (t Toolchain) Overrides() []string {
	var out []string
	for _, r := range []struct {
		tool string
		run  Runtime
	}{{"ruby", t.Ruby}, {"node", t.Node}} {
		if r.run.Why != "" {
			out = append(out, fmt.Sprintf("%s %s in %s instead of %s: %s", r.tool, r.run.Version, r.run.Prefix, r.run.Pinned, r.run.Why))
		}
	}
	if t.systemBundler() {
		out = append(out, fmt.Sprintf("bundler %s instead of %s: it is the one beside ruby %s", cmp.Or(t.Bundler, "of its own"), t.BundlerPinned, t.Ruby.Version))
	}
	return out
}

// systemBundler: Bundler must be told not to look for the lock file's version.
func (t Toolchain) systemBundler() bool { return t.Bundler != t.BundlerPinned }
