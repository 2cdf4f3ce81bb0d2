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
	optRuby, optNode = "/opt/refit/ruby-3.4.7", "/opt/refit/node-24.10.2"
	ruby347          = "ruby 3.4.7 (2025-10-08 revision 7a5688e2a2) +PRISM [x86_64-linux]"
	ruby338          = "ruby 3.3.8 (2025-04-09 revision b200bad6cd) [x86_64-linux-gnu]"
)

// planned is what the builder makes of these versions; empty for none.
func planned(ruby, bundler, node string) toolchain.Planned {
	var p toolchain.Planned
	for tool, version := range map[string]string{"ruby": ruby, "bundler": bundler, "node": node} {
		if version != "" {
			p.Artifacts = append(p.Artifacts, builds.Artifact{Tool: tool, Version: version, Name: tool + "-" + version, Prefix: "/opt/refit/" + tool + "-" + version})
		}
	}
	return p
}

func TestThePinnedToolsAreTakenAndNothingIsSaid(t *testing.T) {
	p := planned("3.4.7", "2.7.2", "24.10.2")
	got, err := toolchain.Decide(pins, toolchain.Overrides{}, "uhura", nil, p)
	if err != nil {
		t.Fatal(err)
	}
	want := toolchain.Decision{Toolchain: builds.Toolchain{
		Ruby:    builds.Runtime{Version: "3.4.7", Pinned: "3.4.7", Prefix: optRuby},
		Node:    builds.Runtime{Version: "24.10.2", Pinned: "24.10", Prefix: optNode},
		Bundler: "2.7.2", BundlerPinned: "2.7.2", Yarn: "4.10.3", Artifacts: p.Artifacts,
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
	got, err := toolchain.Decide(pins, o, "uhura", on("/usr", ruby338, "Bundler version 2.6.7", "/usr", "v20.19.2", "uhura", "kirk"), toolchain.Planned{})
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

func TestAnotherVersionThatRefitMakesIsSaidAloudToo(t *testing.T) {
	o := toolchain.Overrides{Ruby: &toolchain.Override{Version: "3.4.8", Why: "3.4.7 leaks"}, Node: &toolchain.Override{Version: "24.10.1", Why: "24.10.2 leaks"}}
	got, err := toolchain.Decide(pins, o, "uhura", nil, planned("3.4.8", "2.7.2", "24.10.1"))
	if err != nil {
		t.Fatal(err)
	}
	// 24.10.1 is what the release pins, as 24.10.2 is.
	if diff := cmp.Diff([]string{"ruby 3.4.8 in /opt/refit/ruby-3.4.8 instead of 3.4.7: 3.4.7 leaks"}, got.Said); diff != "" {
		t.Error(diff)
	}
}

func TestWhatDoesNotFitIsRefusedWithARemedy(t *testing.T) {
	override := func(version string) toolchain.Overrides {
		return toolchain.Overrides{Ruby: &toolchain.Override{Version: version, Prefix: "/usr", Why: "because"}}
	}
	usrNode := toolchain.Overrides{Node: &toolchain.Override{Version: "24.10", Prefix: "/usr", Why: "because"}}
	good := planned("3.4.7", "2.7.2", "24.10.2")
	noRuby, noNode := planned("", "", "24.10.2"), planned("3.4.7", "2.7.2", "")
	for name, c := range map[string]struct {
		pins    func(*builds.Pins)
		o       toolchain.Overrides
		found   []toolchain.Found
		planned toolchain.Planned
		says    []string
	}{
		"ruby missing on a node": {
			o: override("3.4.7"), found: append(on("/usr", ruby347, "Bundler version 2.7.2", "/usr", "", "uhura"), on("/usr", "", "", "/usr", "", "kirk")...), planned: noRuby,
			says: []string{"ruby 3.4.7 is missing in /usr on kirk", "take the prefix out of toolchain.ruby"},
		},
		"another ruby than named": {
			o: override("3.3.8"), found: on("/usr", ruby347, "Bundler version 2.7.2", "/usr", "", "uhura"), planned: noRuby,
			says: []string{"must be 3.3.8", "uhura has 3.4.7"},
		},
		"override below the Gemfile's minimum": {
			o: override("3.1.2"), found: on("/usr", "ruby 3.1.2p20 (2022-04-12)", "Bundler version 2.3.7", "/usr", "", "uhura"), planned: noRuby,
			says: []string{"ruby 3.1.2", ">= 3.2.0, < 3.5.0", "the release pins 3.4.7: take toolchain.ruby out of refit.yml"},
		},
		"a version to be made above what the Gemfile allows": {
			o: toolchain.Overrides{Ruby: &toolchain.Override{Version: "3.5.0", Why: "because"}}, planned: planned("3.5.0", "2.7.2", "24.10.2"),
			says: []string{"ruby 3.5.0 in /opt/refit/ruby-3.5.0 is outside what the release's Gemfile allows"},
		},
		"the pin itself is not allowed": {
			pins: func(p *builds.Pins) { p.RubyAllowed = builds.Requirement{">= 3.5.0"} }, planned: good,
			says: []string{"its own pin, 3.4.7, does not fit either", "(version, why)"},
		},
		"override without a reason": {
			o:     toolchain.Overrides{Ruby: &toolchain.Override{Version: "3.3.8", Prefix: "/usr", Why: " "}},
			found: on("/usr", ruby338, "Bundler version 2.6.7", "/usr", "", "uhura"), planned: noRuby,
			says: []string{"has no reason", "toolchain.ruby.why"},
		},
		"a version to be made without a reason": {
			o: toolchain.Overrides{Node: &toolchain.Override{Version: "24.11.0"}}, planned: planned("3.4.7", "2.7.2", "24.11.0"),
			says: []string{"has no reason", "toolchain.node.why"},
		},
		"release needs a newer node than its pin": {
			pins: func(p *builds.Pins) { p.NodeAllowed = ">=26" }, planned: good,
			says: []string{"node 24.10.2", "package.json allows (>=26)", "its own pin, 24.10, does not fit either", "toolchain.node"},
		},
		"nodes differ": {
			o: usrNode, found: append(on("/opt", "", "", "/usr", "v24.10.2", "uhura"), on("/opt", "", "", "/usr", "v24.10.1", "kirk")...), planned: noNode,
			says: []string{"kirk has 24.10.1 where another has 24.10.2"},
		},
		"no bundler on the builder": {
			o: override("3.4.7"), found: on("/usr", ruby347, "", "/usr", "", "uhura"), planned: noRuby,
			says: []string{"uhura has no bundler", "gem install bundler -v 2.7.2"},
		},
		"no yarn named":       {pins: func(p *builds.Pins) { p.Yarn = "" }, planned: good, says: []string{"packageManager"}},
		"no pin at all":       {pins: func(p *builds.Pins) { p.Ruby = "" }, planned: noRuby, says: []string{"pins no ruby"}},
		"nobody was asked":    {o: override("3.4.7"), planned: noRuby, says: []string{"no host was asked"}},
		"nothing was planned": {says: []string{"nobody was asked to make ruby"}},
		"refused on the way":  {planned: toolchain.Planned{Refused: []string{"no definition", "no compiler"}}, says: []string{"no definition\n  no compiler"}},
		"unreadable engines":  {pins: func(p *builds.Pins) { p.NodeAllowed = "lots" }, planned: good, says: []string{"engines.node"}},
		"a longer version is not the one named": {
			o:     toolchain.Overrides{Node: &toolchain.Override{Version: "24.1", Prefix: "/usr", Why: "because"}},
			found: on("/opt", "", "", "/usr", "v24.10.2", "uhura"), planned: noNode,
			says: []string{"must be 24.1", "uhura has 24.10.2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := pins
			if c.pins != nil {
				c.pins(&p)
			}
			_, err := toolchain.Decide(p, c.o, "uhura", c.found, c.planned)
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

func TestProbesAskOnlyForWhatTheHostsHaveByThemselves(t *testing.T) {
	got := toolchain.Probes(toolchain.Overrides{
		Ruby: &toolchain.Override{Version: "3.3.8", Prefix: "/usr/", Why: "x"}, Node: &toolchain.Override{Version: "24.11.0", Why: "x"},
	})
	want := []toolchain.Probe{
		{Tool: "ruby", Prefix: "/usr", Argv: []string{"/usr/bin/ruby", "--version"}},
		{Tool: "bundler", Prefix: "/usr", Argv: []string{"/usr/bin/bundle", "--version"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := toolchain.Probes(toolchain.Overrides{}); len(got) > 0 {
		t.Errorf("got %v", got)
	}
}
