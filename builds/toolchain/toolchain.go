// Package toolchain decides which Ruby, Bundler and Node a release is built and run
// with, from what its tag pins, what refit.yml overrides, and what was found on the
// hosts; and it makes them on the builder: Ruby by ruby-build from its source, Node
// from its own archive.
//
// The rules it holds: the pinned version, in the fixed prefix of that version;
// or an override by name with its reason, said aloud and recorded; never below
// what the release allows; the same on every host. Anything else is a refusal
// that names the remedy.
//
// What is made is an artifact as a release is: root's, with a manifest, made once for
// each version, system and architecture, and placed on the nodes, which need no
// compiler. What it is made from is fetched first and held to a checksum; what
// compiles has no network and is not root.
package toolchain

import (
	"errors"

	"vmst.io/refit/builds"
)

// ErrRefused marks every refusal of Decide.
var ErrRefused = errors.New("no fitting toolchain")

// Override names another Ruby or Node than the pinned one.
type Override struct {
	// Version as the binary says it: "3.3.8". The binary must say exactly this.
	Version string
	// Prefix holds bin/ruby or bin/node on every host: "/usr". Empty for a version that
	// refit makes itself.
	Prefix string
	// Why is the reason, for the plan and the manifest. Required.
	Why string
}

// Overrides of one refit.yml; nil for none.
type Overrides struct {
	Ruby, Node *Override
}

// Probe is a command whose first line of output tells a version.
type Probe struct {
	Tool   string // "ruby", "node" or "bundler"
	Prefix string
	Argv   []string
}

// Found is what a probe said on a host.
type Found struct {
	Host   string
	Tool   string
	Prefix string
	// Output is the first line, empty if the command is not there or failed:
	// "ruby 3.3.8 (2025-04-09 revision b200bad6cd) [x86_64-linux-gnu]", "v20.19.2", "Bundler version 2.6.7".
	Output string
}

// Decision is a toolchain and what must be said about it.
type Decision struct {
	Toolchain builds.Toolchain
	// Said are the departures from the pins, one line each; empty for none.
	Said []string
}
