package builds

import "fmt"

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
	// Bundler is the version that lies beside Ruby; BundlerPinned the lock file's.
	Bundler       string `json:"bundler"`
	BundlerPinned string `json:"bundler_pinned"`
	// Yarn is packageManager's version; YarnHash its hash, "sha512.<hex>", or empty.
	Yarn     string `json:"yarn"`
	YarnHash string `json:"yarn_hash,omitempty"`
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
		out = append(out, fmt.Sprintf("bundler %s instead of %s: it is the one beside ruby %s", t.Bundler, t.BundlerPinned, t.Ruby.Version))
	}
	return out
}

// systemBundler: Bundler must be told not to look for the lock file's version.
func (t Toolchain) systemBundler() bool { return t.Bundler != t.BundlerPinned }
