package toolchain

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"

	"vmst.io/refit/builds"
)

// Probes are the commands to run on the builder and on every node before Decide.
func Probes(pins builds.Pins, o Overrides) []Probe {
	ruby, node := prefixes(pins, o)
	return []Probe{
		{"ruby", ruby, []string{path.Join(ruby, "bin/ruby"), "--version"}},
		{"bundler", ruby, []string{path.Join(ruby, "bin/bundle"), "--version"}},
		{"node", node, []string{path.Join(node, "bin/node"), "--version"}},
	}
}

func prefixes(pins builds.Pins, o Overrides) (ruby, node string) {
	ruby, node = path.Join(Home, "ruby-"+pins.Ruby), path.Join(Home, "node-"+pins.Node)
	if o.Ruby != nil {
		ruby = path.Clean(o.Ruby.Prefix)
	}
	if o.Node != nil {
		node = path.Clean(o.Node.Prefix)
	}
	return ruby, node
}

// Decide returns the toolchain, or an error wrapping ErrRefused. found holds
// the answers to Probes of every host that builds or runs the release; builder
// names the host that builds, the only one that needs Bundler's version to be known.
func Decide(pins builds.Pins, o Overrides, builder string, found []Found) (Decision, error) {
	rubyPrefix, nodePrefix := prefixes(pins, o)
	ruby, err := decide("ruby", pins.Ruby, rubyPrefix, o.Ruby, found)
	if err != nil {
		return Decision{}, err
	}
	if err := allowedRuby(pins, ruby); err != nil {
		return Decision{}, err
	}
	node, err := decide("node", pins.Node, nodePrefix, o.Node, found)
	if err != nil {
		return Decision{}, err
	}
	if err := allowedNode(pins, node); err != nil {
		return Decision{}, err
	}
	bundler := ""
	for _, f := range found {
		if f.Tool == "bundler" && f.Prefix == rubyPrefix && f.Host == builder {
			bundler = version(f.Output)
		}
	}
	if bundler == "" {
		return Decision{}, refuse("%s has no bundler beside ruby %s in %s; install one there (gem install bundler -v %s)", builder, ruby.Version, rubyPrefix, pins.Bundler)
	}
	if pins.Yarn == "" {
		return Decision{}, refuse("package.json names no yarn in packageManager, so there is none to build with")
	}
	t := builds.Toolchain{Ruby: ruby, Node: node, Bundler: bundler, BundlerPinned: pins.Bundler, Yarn: pins.Yarn, YarnHash: pins.YarnHash}
	return Decision{Toolchain: t, Said: t.Overrides()}, nil
}

// decide finds one tool's version, the same on every host that was asked.
func decide(tool, pinned, prefix string, o *Override, found []Found) (builds.Runtime, error) {
	if pinned == "" && o == nil {
		return builds.Runtime{}, refuse("the release pins no %s; name one in refit.yml under toolchain.%s", tool, tool)
	}
	want, why := pinned, ""
	if o != nil {
		if strings.TrimSpace(o.Why) == "" {
			return builds.Runtime{}, refuse("the override to %s %s has no reason; write one in refit.yml under toolchain.%s.why", tool, o.Version, tool)
		}
		want, why = o.Version, o.Why
	}
	var missing, wrong []string
	exact := ""
	for _, f := range found {
		if f.Tool != tool || f.Prefix != prefix {
			continue
		}
		v := version(f.Output)
		switch {
		case v == "":
			missing = append(missing, f.Host)
		case !matches(want, v):
			wrong = append(wrong, fmt.Sprintf("%s has %s", f.Host, v))
		case exact == "":
			exact = v
		case exact != v:
			wrong = append(wrong, fmt.Sprintf("%s has %s where another has %s", f.Host, v, exact))
		}
	}
	slices.Sort(missing)
	slices.Sort(wrong)
	switch {
	case len(missing) > 0:
		return builds.Runtime{}, refuse("%s %s is missing in %s on %s; install it there, or name another in refit.yml under toolchain.%s (version, prefix, why)",
			tool, want, prefix, strings.Join(slices.Compact(missing), ", "), tool)
	case len(wrong) > 0:
		return builds.Runtime{}, refuse("%s in %s must be %s, but %s; install it there, or change toolchain.%s in refit.yml",
			tool, prefix, want, strings.Join(wrong, ", "), tool)
	case exact == "":
		return builds.Runtime{}, refuse("no host was asked for %s in %s", tool, prefix)
	}
	if matches(pinned, exact) {
		why = "" // the override names what is pinned anyway
	}
	return builds.Runtime{Version: exact, Pinned: pinned, Prefix: prefix, Why: why}, nil
}

// allowedRuby holds the Gemfile's requirement, also against an override.
func allowedRuby(pins builds.Pins, r builds.Runtime) error {
	ok, err := pins.RubyAllowed.Allows(r.Version)
	if err != nil {
		return refuse("cannot tell whether ruby %s is allowed: %v", r.Version, err)
	}
	if !ok {
		remedy := fmt.Sprintf("the release pins %s: install that in %s", pins.Ruby, path.Join(Home, "ruby-"+pins.Ruby))
		if fits, err := pins.RubyAllowed.Allows(pins.Ruby); err != nil || !fits {
			remedy = fmt.Sprintf("its own pin, %s, does not fit either: install one that does and name it in refit.yml under toolchain.ruby (version, prefix, why)", pins.Ruby)
		}
		return refuse("ruby %s in %s is outside what the release's Gemfile allows (%s); %s", r.Version, r.Prefix, pins.RubyAllowed, remedy)
	}
	return nil
}

// allowedNode holds engines.node of package.json, also against an override.
func allowedNode(pins builds.Pins, r builds.Runtime) error {
	if pins.NodeAllowed == "" {
		return nil
	}
	c, err := semver.NewConstraint(pins.NodeAllowed)
	if err != nil {
		return refuse("cannot read engines.node %q of package.json: %v", pins.NodeAllowed, err)
	}
	v, err := semver.NewVersion(r.Version)
	if err != nil {
		return refuse("cannot read node's version %q: %v", r.Version, err)
	}
	if !c.Check(v) {
		remedy := fmt.Sprintf("the release pins %s: install that in %s", pins.Node, path.Join(Home, "node-"+pins.Node))
		if p, err := semver.NewVersion(pins.Node); err != nil || !c.Check(p) {
			remedy = fmt.Sprintf("its own pin, %s, does not fit either: install one that does and name it in refit.yml under toolchain.node (version, prefix, why)", pins.Node)
		}
		return refuse("node %s in %s is outside what the release's package.json allows (%s); %s", r.Version, r.Prefix, pins.NodeAllowed, remedy)
	}
	return nil
}

// matches tells whether v is the version wanted; a shorter want ("24.10") fits
// every version below it (24.10.3), as .nvmrc means it.
func matches(want, v string) bool {
	want = strings.TrimPrefix(want, "v")
	return want != "" && (v == want || strings.HasPrefix(v, want+"."))
}

var number = regexp.MustCompile(`\d+\.\d+(?:\.\d+)?(?:[-.][0-9A-Za-z.]+)?`)

// version picks the version out of a tool's first line; empty for none.
func version(line string) string { return number.FindString(line) }

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrRefused}, args...)...)
}
