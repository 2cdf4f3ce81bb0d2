// Package toolchain decides which Ruby and which Node a release is built and
// run with, from what its tag pins, what refit.yml overrides, and what was
// found on the hosts.
//
// The rules it holds: the pinned version, in the fixed prefix of that version;
// or an override by name with its reason, said aloud and recorded; never below
// what the release allows; the same on every host. Anything else is a refusal
// that names the remedy.
package toolchain

import (
	"errors"

	"vmst.io/refit/builds"
)

// ErrRefused marks every refusal of Decide.
var ErrRefused = errors.New("no fitting toolchain")

// Home is where toolchains of a fixed version lie, one prefix each:
// /opt/refit/ruby-3.4.7, /opt/refit/node-24.10.
const Home = "/opt/refit"

// Override names another Ruby or Node than the pinned one.
type Override struct {
	// Version as the binary says it: "3.3.8". The binary must say exactly this.
	Version string
	// Prefix holds bin/ruby or bin/node: "/usr".
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
