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

// Probes are the commands to run on the builder and on every node before Decide: of
// the tools that refit.yml takes from a prefix of the hosts' own. What refit makes and
// places itself is asked of the builder alone, by Plan.
func Probes(o Overrides) []Probe {
	var out []Probe
	if o.Ruby.own() {
		prefix := path.Clean(o.Ruby.Prefix)
		out = append(out,
			Probe{"ruby", prefix, []string{path.Join(prefix, "bin/ruby"), "--version"}},
			Probe{"bundler", prefix, []string{path.Join(prefix, "bin/bundle"), "--version"}})
	}
	if o.Node.own() {
		prefix := path.Clean(o.Node.Prefix)
		out = append(out, Probe{"node", prefix, []string{path.Join(prefix, "bin/node"), "--version"}})
	}
	return out
}

// own tells whether the override names a tool that the hosts have by themselves.
func (o *Override) own() bool { return o != nil && o.Prefix != "" }

// Decide returns the toolchain, or an error wrapping ErrRefused. found holds the
// answers to Probes of every host that builds or runs the release; builder names the
// host that builds, the only one that needs Bundler's version to be known. planned is
// what the builder makes, empty where the hosts have both tools.
func Decide(pins builds.Pins, o Overrides, builder string, found []Found, planned Planned) (Decision, error) {
	if len(planned.Refused) > 0 {
		return Decision{}, refuse("%s", strings.Join(planned.Refused, "\n  "))
	}
	t := builds.Toolchain{BundlerPinned: pins.Bundler, Yarn: pins.Yarn, YarnHash: pins.YarnHash, Artifacts: planned.Artifacts}
	var err error
	if t.Ruby, err = choose("ruby", pins.Ruby, o.Ruby, found, t); err != nil {
		return Decision{}, err
	}
	if err := allowedRuby(pins, t.Ruby); err != nil {
		return Decision{}, err
	}
	if t.Node, err = choose("node", pins.Node, o.Node, found, t); err != nil {
		return Decision{}, err
	}
	if err := allowedNode(pins, t.Node); err != nil {
		return Decision{}, err
	}
	if t.Bundler, err = bundler(pins, o, builder, found, t); err != nil {
		return Decision{}, err
	}
	if pins.Yarn == "" {
		return Decision{}, refuse("package.json names no yarn in packageManager, so there is none to build with")
	}
	return Decision{Toolchain: t, Said: append(t.Overrides(), planned.Said...)}, nil
}

// choose is a tool of the hosts' own, or the one that the builder makes.
func choose(tool, pinned string, o *Override, found []Found, t builds.Toolchain) (builds.Runtime, error) {
	if pinned == "" && o == nil {
		return builds.Runtime{}, refuse("the release pins no %s; name one in refit.yml under toolchain.%s", tool, tool)
	}
	if o != nil && strings.TrimSpace(o.Why) == "" {
		return builds.Runtime{}, refuse("the override to %s %s has no reason; write one in refit.yml under toolchain.%s.why", tool, o.Version, tool)
	}
	if o.own() {
		return decide(tool, pinned, path.Clean(o.Prefix), o, found)
	}
	a, ok := t.Artifact(tool)
	if !ok {
		return builds.Runtime{}, refuse("nobody was asked to make %s %s", tool, pinned)
	}
	r := builds.Runtime{Version: a.Version, Pinned: pinned, Prefix: a.Prefix}
	if o != nil && !matches(pinned, a.Version) {
		r.Why = o.Why
	}
	return r, nil
}

// bundler is the version beside Ruby; empty for the one that comes with a Ruby that
// is still to be compiled.
func bundler(pins builds.Pins, o Overrides, builder string, found []Found, t builds.Toolchain) (string, error) {
	if !o.Ruby.own() {
		if a, ok := t.Artifact("bundler"); ok {
			return a.Version, nil
		}
		return "", nil
	}
	for _, f := range found {
		if f.Tool == "bundler" && f.Prefix == t.Ruby.Prefix && f.Host == builder && version(f.Output) != "" {
			return version(f.Output), nil
		}
	}
	return "", refuse("%s has no bundler beside ruby %s in %s; install one there (gem install bundler -v %s)", builder, t.Ruby.Version, t.Ruby.Prefix, pins.Bundler)
}

// decide finds the version of a tool of the hosts' own, the same on every host that
// was asked.
func decide(tool, pinned, prefix string, o *Override, found []Found) (builds.Runtime, error) {
	want, why := o.Version, o.Why
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
		return builds.Runtime{}, refuse("%s %s is missing in %s on %s; install it there, or take the prefix out of toolchain.%s in refit.yml, and refit makes it",
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
		remedy := fmt.Sprintf("the release pins %s: take toolchain.ruby out of refit.yml, and refit makes that", pins.Ruby)
		if fits, err := pins.RubyAllowed.Allows(pins.Ruby); err != nil || !fits {
			remedy = fmt.Sprintf("its own pin, %s, does not fit either: name one that does in refit.yml under toolchain.ruby (version, why)", pins.Ruby)
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
		remedy := fmt.Sprintf("the release pins %s: take toolchain.node out of refit.yml, and refit makes that", pins.Node)
		if p, err := semver.NewVersion(pins.Node); err != nil || !c.Check(p) {
			remedy = fmt.Sprintf("its own pin, %s, does not fit either: name one that does in refit.yml under toolchain.node (version, why)", pins.Node)
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

// reason is a refusal without its beginning, for where several stand together.
func reason(err error) string { return strings.TrimPrefix(err.Error(), ErrRefused.Error()+": ") }

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrRefused}, args...)...)
}
