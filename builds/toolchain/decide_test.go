package toolchain_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/toolchain"
)

var pins = builds.Pins{
	Ruby: "3.4.7", RubyAllowed: builds.Requirement{">= 3.2.0", "< 3.5.0"},
	Node: "24.10", NodeAllowed: ">=20", Bundler: "2.7.2", Yarn: "4.10.3",
}

// on makes the answers of hosts on which every probe says the same.
func on(prefixRuby, ruby, bundler, prefixNode, node string, hosts ...string) []toolchain.Found {
	var out []toolchain.Found
	for _, h := range hosts {
		out = append(out,
			toolchain.Found{Host: h, Tool: "ruby", Prefix: prefixRuby, Output: ruby},
			toolchain.Found{Host: h, Tool: "bundler", Prefix: prefixRuby, Output: bundler},
			toolchain.Found{Host: h, Tool: "node", Prefix: prefixNode, Output: node})
	}
	return out
}

const (
	optRuby, optNode = "/opt/refit/ruby-3.4.7", "/opt/refit/node-24.10"
	ruby347          = "ruby 3.4.7 (2025-10-08 revision 7a5688e2a2) +PRISM [x86_64-linux]"
	ruby338          = "ruby 3.3.8 (2025-04-09 revision b200bad6cd) [x86_64-linux-gnu]"
)

func TestThePinnedToolsAreTakenAndNothingIsSaid(t *testing.T) {
	got, err := toolchain.Decide(pins, toolchain.Overrides{}, "uhura", on(optRuby, ruby347, "Bundler version 2.7.2", optNode, "v24.10.2", "uhura", "kirk"))
	if err != nil {
		t.Fatal(err)
	}
	want := toolchain.Decision{Toolchain: builds.Toolchain{
		Ruby:    builds.Runtime{Version: "3.4.7", Pinned: "3.4.7", Prefix: optRuby},
		Node:    builds.Runtime{Version: "24.10.2", Pinned: "24.10", Prefix: optNode},
		Bundler: "2.7.2", BundlerPinned: "2.7.2", Yarn: "4.10.3",
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAnOverrideIsSaidAloudWithItsReason(t *testing.T) {
	o := toolchain.Overrides{
		Ruby: &toolchain.Override{Version: "3.3.8", Prefix: "/usr", Why: "the lab has Debian's"},
		Node: &toolchain.Override{Version: "20.19.2", Prefix: "/usr/", Why: "so has Node"},
	}
	got, err := toolchain.Decide(pins, o, "uhura", on("/usr", ruby338, "Bundler version 2.6.7", "/usr", "v20.19.2", "uhura", "kirk"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"ruby 3.3.8 in /usr instead of 3.4.7: the lab has Debian's",
		"node 20.19.2 in /usr instead of 24.10: so has Node",
		"bundler 2.6.7 instead of 2.7.2: it is the one beside ruby 3.3.8",
	}
	if diff := cmp.Diff(want, got.Said); diff != "" {
		t.Error(diff)
	}
}

func TestWhatDoesNotFitIsRefusedWithARemedy(t *testing.T) {
	override := func(version string) toolchain.Overrides {
		return toolchain.Overrides{Ruby: &toolchain.Override{Version: version, Prefix: "/usr", Why: "because"}}
	}
	good := on(optRuby, ruby347, "Bundler version 2.7.2", optNode, "v24.10.2", "uhura", "kirk")
	for name, c := range map[string]struct {
		pins  func(*builds.Pins)
		o     toolchain.Overrides
		found []toolchain.Found
		says  []string
	}{
		"ruby missing on a node": {
			found: append(on(optRuby, ruby347, "Bundler version 2.7.2", optNode, "v24.10.2", "uhura"), on(optRuby, "", "", optNode, "v24.10.2", "kirk")...),
			says:  []string{"ruby 3.4.7 is missing in /opt/refit/ruby-3.4.7 on kirk", "toolchain.ruby"},
		},
		"another ruby than named": {
			o: override("3.3.8"), found: on("/usr", ruby347, "Bundler version 2.7.2", optNode, "v24.10.2", "uhura"),
			says: []string{"must be 3.3.8", "uhura has 3.4.7"},
		},
		"override below the Gemfile's minimum": {
			o: override("3.1.2"), found: on("/usr", "ruby 3.1.2p20 (2022-04-12)", "Bundler version 2.3.7", optNode, "v24.10.2", "uhura"),
			says: []string{"ruby 3.1.2", ">= 3.2.0, < 3.5.0", "install that in /opt/refit/ruby-3.4.7"},
		},
		"override above what the Gemfile allows": {
			o: override("3.5.0"), found: on("/usr", "ruby 3.5.0", "Bundler version 2.7.2", optNode, "v24.10.2", "uhura"),
			says: []string{"outside what the release's Gemfile allows"},
		},
		"override without a reason": {
			o:     toolchain.Overrides{Ruby: &toolchain.Override{Version: "3.3.8", Prefix: "/usr", Why: " "}},
			found: on("/usr", ruby338, "Bundler version 2.6.7", optNode, "v24.10.2", "uhura"),
			says:  []string{"has no reason", "toolchain.ruby.why"},
		},
		"release needs a newer node than its pin": {
			pins: func(p *builds.Pins) { p.NodeAllowed = ">=26" }, found: good,
			says: []string{"node 24.10.2", "package.json allows (>=26)", "its own pin, 24.10, does not fit either", "toolchain.node"},
		},
		"nodes differ": {
			found: append(on(optRuby, ruby347, "Bundler version 2.7.2", optNode, "v24.10.2", "uhura"), on(optRuby, ruby347, "", optNode, "v24.10.1", "kirk")...),
			says:  []string{"kirk has 24.10.1 where another has 24.10.2"},
		},
		"no bundler on the builder": {
			found: on(optRuby, ruby347, "", optNode, "v24.10.2", "uhura"),
			says:  []string{"uhura has no bundler", "gem install bundler -v 2.7.2"},
		},
		"no yarn named":      {pins: func(p *builds.Pins) { p.Yarn = "" }, found: good, says: []string{"packageManager"}},
		"no pin at all":      {pins: func(p *builds.Pins) { p.Ruby = "" }, found: good, says: []string{"pins no ruby"}},
		"nobody was asked":   {says: []string{"no host was asked"}},
		"unreadable engines": {pins: func(p *builds.Pins) { p.NodeAllowed = "lots" }, found: good, says: []string{"engines.node"}},
		"a longer version is not the pin": {
			pins: func(p *builds.Pins) { p.Node = "24.1" }, found: on(optRuby, ruby347, "Bundler version 2.7.2", "/opt/refit/node-24.1", "v24.10.2", "uhura"),
			says: []string{"must be 24.1", "uhura has 24.10.2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := pins
			if c.pins != nil {
				c.pins(&p)
			}
			_, err := toolchain.Decide(p, c.o, "uhura", c.found)
			if !errors.Is(err, toolchain.ErrRefused) {
				t.Fatalf("got %v", err)
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
		})
	}
}

func TestProbesAskThePrefixThatWillBeUsed(t *testing.T) {
	got := toolchain.Probes(pins, toolchain.Overrides{Ruby: &toolchain.Override{Version: "3.3.8", Prefix: "/usr", Why: "x"}})
	want := []toolchain.Probe{
		{Tool: "ruby", Prefix: "/usr", Argv: []string{"/usr/bin/ruby", "--version"}},
		{Tool: "bundler", Prefix: "/usr", Argv: []string{"/usr/bin/bundle", "--version"}},
		{Tool: "node", Prefix: optNode, Argv: []string{optNode + "/bin/node", "--version"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
