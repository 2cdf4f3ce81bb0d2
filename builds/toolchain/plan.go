package toolchain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path"
	"runtime"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"

	"vmst.io/refit/builds"
)

// PlanIn asks the builder what toolchains a release needs of those that refit makes.
type PlanIn struct {
	Layout builds.Layout `json:"layout"`
	// Ruby and Node are versions, or what a tag pins ("24.10"); empty for a tool that
	// refit.yml takes from a prefix of the hosts' own. Bundler is the lock file's.
	Ruby    string `json:"ruby,omitempty"`
	Bundler string `json:"bundler,omitempty"`
	Node    string `json:"node,omitempty"`
	// Sources are where they come from.
	Sources Sources `json:"sources"`
}

// Planned is what the builder says.
type Planned struct {
	// Artifacts in the order in which they are made.
	Artifacts []builds.Artifact `json:"artifacts"`
	// Made are the names of those that lie there already, whole.
	Made []string `json:"made,omitempty"`
	// Refused is what stands against making them, a remedy in each; Said is what is
	// worth knowing.
	Refused []string `json:"refused,omitempty"`
	Said    []string `json:"said,omitempty"`
}

// PlanFor is the question for a tag's pins; nothing to ask gives false.
func PlanFor(l builds.Layout, pins builds.Pins, o Overrides, s Sources) (PlanIn, bool) {
	in := PlanIn{Layout: l, Ruby: pins.Ruby, Bundler: pins.Bundler, Node: pins.Node, Sources: s}
	if o.Ruby != nil {
		in.Ruby = o.Ruby.Version
		if o.Ruby.Prefix != "" {
			in.Ruby, in.Bundler = "", ""
		}
	}
	if o.Node != nil {
		in.Node = o.Node.Version
		if o.Node.Prefix != "" {
			in.Node = ""
		}
	}
	if in.Ruby == "" {
		in.Bundler = ""
	}
	return in, in.Ruby != "" || in.Node != ""
}

// plan reads definitions and lists, and looks at what lies there. It changes nothing
// but the builder's cache.
func (w workshop) plan(ctx context.Context, in PlanIn) (Planned, error) {
	in.Sources = in.Sources.filled()
	system, err := builds.System()
	if err != nil {
		return Planned{}, fmt.Errorf("cannot tell what this host runs: %w", err)
	}
	base := builds.Artifact{OS: system, Arch: runtime.GOARCH}
	var out Planned
	for _, tool := range []struct {
		wanted string
		plan   func(context.Context, fetcher, PlanIn, builds.Artifact, *Planned) error
	}{{in.Ruby, planRuby}, {in.Bundler, planBundler}, {in.Node, planNode}} {
		if tool.wanted == "" {
			continue
		}
		if err := tool.plan(ctx, w.fetcher, in, base, &out); errors.Is(err, ErrRefused) {
			out.Refused = append(out.Refused, reason(err))
		} else if err != nil {
			return out, err
		}
	}
	out.Said = append(out.Said, in.Sources.departures(out.Artifacts)...)
	compile := false
	for _, a := range out.Artifacts {
		state, err := look(ctx, LookIn{Artifact: a})
		switch {
		case err != nil:
			return out, err
		case state.State == builds.Whole && state.Recipe == a.Recipe:
			out.Made = append(out.Made, a.Name)
		case state.State == builds.Foreign:
			out.Refused = append(out.Refused, reason(foreign(a)))
		case a.Tool == "ruby":
			compile = true
		}
	}
	if compile {
		out.Refused = append(out.Refused, lacking(ctx, in.Sources.Configure, w.try)...)
	}
	return out, nil
}

func planRuby(ctx context.Context, _ fetcher, in PlanIn, a builds.Artifact, out *Planned) error {
	s := in.Sources
	a.Tool, a.Version, a.Configure = "ruby", in.Ruby, s.Configure
	rb, err := openRubyBuild(ctx, in.Layout, s.Repository, s.Revision, s.InsteadOf)
	if err != nil {
		return fmt.Errorf("cannot read ruby-build's definitions: %w", err)
	}
	a.RubyBuild, a.From = rb.at.Commit, rb.String()
	text, own := s.Definitions[in.Ruby]
	if own {
		a.From = byConfig
		out.Said = append(out.Said, fmt.Sprintf("ruby %s is compiled by a definition from refit.yml, not by one of ruby-build's", in.Ruby))
	} else if text, err = rb.definition(in.Ruby); err != nil {
		return err
	}
	a.Definition = text
	parts, err := readDefinition(in.Ruby, text)
	if err != nil {
		return refuse("the definition of ruby %s (%s) cannot be used: %v", in.Ruby, a.From, err)
	}
	var steps [][]string
	for _, c := range parts {
		url := c.url
		if rest, ok := strings.CutPrefix(url, PublicRuby+"/"); ok {
			url = s.Ruby + "/" + rest
		}
		sum, by, err := s.vouched(path.Base(url), c.sha256, a.From)
		if err != nil {
			return err
		}
		a.Archives = append(a.Archives, builds.Archive{File: c.file(), URL: url, SHA256: sum, By: by})
		steps = append(steps, c.steps)
	}
	if a, err = named(in.Layout, a, steps, own); err != nil {
		return err
	}
	out.Artifacts = append(out.Artifacts, a)
	return nil
}

// planBundler finds the lock file's Bundler in the gem registry. A registry that lacks
// it, or vouches for none, leaves the one that comes with Ruby.
func planBundler(ctx context.Context, f fetcher, in PlanIn, a builds.Artifact, out *Planned) error {
	if !slices.ContainsFunc(out.Artifacts, func(a builds.Artifact) bool { return a.Tool == "ruby" }) {
		return nil // its Ruby was refused
	}
	s := in.Sources
	a.Tool, a.Version = "bundler", in.Bundler
	if _, err := semver.NewVersion(in.Bundler); err != nil {
		return refuse("Gemfile.lock is bundled with %q, which is no version", in.Bundler)
	}
	file := "bundler-" + in.Bundler + ".gem"
	info, err := f.text(ctx, s.Gems+"/info/bundler")
	if err != nil && !missing(err) {
		return fmt.Errorf("cannot ask for bundler %s: %w", in.Bundler, err)
	}
	sum, served := builds.GemIndex(info, in.Bundler)
	if !hexSHA256.MatchString(sum) {
		sum = ""
	}
	if own := s.Checksums[file]; served && sum == "" && own == "" || !served {
		out.Said = append(out.Said, fmt.Sprintf("%s %s bundler %s, so the one that comes with ruby %s is used",
			s.Gems, map[bool]string{true: "gives no checksum of", false: "does not have"}[served], in.Bundler, in.Ruby))
		return nil
	}
	sum, by, err := s.vouched(file, sum, s.Gems+"/info/bundler")
	if err != nil {
		return err
	}
	a.Archives = []builds.Archive{{File: file, URL: s.Gems + "/gems/" + file, SHA256: sum, By: by}}
	if a, err = named(in.Layout, a, nil, false); err != nil {
		return err
	}
	out.Artifacts = append(out.Artifacts, a)
	return nil
}

// nodeArch is an architecture in the words of Node's archives.
var nodeArch = map[string]string{"amd64": "x64", "arm64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x", "arm": "armv7l"}

func planNode(ctx context.Context, f fetcher, in PlanIn, a builds.Artifact, out *Planned) error {
	s := in.Sources
	arch, ok := nodeArch[a.Arch]
	if !ok {
		return refuse("nodejs.org has no archives for %s; install Node on every host and name it in refit.yml under toolchain.node (version, prefix, why)", a.Arch)
	}
	version, err := nodeVersion(ctx, f, s.Node, strings.TrimPrefix(in.Node, "v"), "linux-"+arch)
	if err != nil {
		return err
	}
	a.Tool, a.Version = "node", version
	file := fmt.Sprintf("node-v%s-linux-%s.tar.gz", version, arch)
	base := s.Node + "/v" + version + "/"
	list, err := f.text(ctx, base+"SHASUMS256.txt")
	if err != nil && !(missing(err) && s.Checksums[file] != "") {
		return fmt.Errorf("cannot learn the checksum of node %s: %w", version, err)
	}
	sum, by, err := s.vouched(file, shasum(list, file), base+"SHASUMS256.txt")
	if err != nil {
		return err
	}
	a.Archives = []builds.Archive{{File: file, URL: base + file, SHA256: sum, By: by}}
	if a, err = named(in.Layout, a, nil, false); err != nil {
		return err
	}
	out.Artifacts = append(out.Artifacts, a)
	return nil
}

// nodeVersion is the exact version that a pin means: itself if it is whole, else the
// newest of its line that the server lists for the platform.
func nodeVersion(ctx context.Context, f fetcher, base, pin, platform string) (string, error) {
	if v, err := semver.StrictNewVersion(pin); err == nil {
		return v.String(), nil
	}
	b, err := f.text(ctx, base+"/index.json")
	if err != nil {
		return "", fmt.Errorf("cannot learn which versions of node there are: %w", err)
	}
	var index []struct {
		Version string   `json:"version"`
		Files   []string `json:"files"`
	}
	if err := json.Unmarshal(b, &index); err != nil {
		return "", fmt.Errorf("cannot read %s/index.json: %w", base, err)
	}
	var newest *semver.Version
	for _, x := range index {
		v, err := semver.StrictNewVersion(strings.TrimPrefix(x.Version, "v"))
		if err != nil || v.Prerelease() != "" || !matches(pin, v.String()) || !slices.Contains(x.Files, platform) {
			continue
		}
		if newest == nil || v.GreaterThan(newest) {
			newest = v
		}
	}
	if newest == nil {
		return "", refuse("%s lists no node %s for %s; name another in refit.yml under toolchain.node (version, why)", base, pin, platform)
	}
	return newest.String(), nil
}

// shasum finds a file in a list of "HEX  NAME" lines; empty for none.
func shasum(list []byte, file string) string {
	for line := range strings.Lines(string(list)) {
		if w := strings.Fields(line); len(w) == 2 && strings.TrimPrefix(w[1], "*") == file && hexSHA256.MatchString(strings.ToLower(w[0])) {
			return strings.ToLower(w[0])
		}
	}
	return ""
}

// needs are what compiling Ruby needs of the builder: programs, and headers that the
// compiler must find. pkg holds it on Debian and Ubuntu; with names the option of Ruby's
// that asks for it, empty where every Ruby does.
var needs = []struct{ argv, pkg, with string }{
	{"bash --version", "bash", ""},
	{"make --version", "make", ""},
	{"tar --version", "tar", ""},
	{"cc --version", "gcc", ""},
	{"cc -fsyntax-only -xc -include openssl/ssl.h /dev/null", "libssl-dev", ""},
	{"cc -fsyntax-only -xc -include yaml.h /dev/null", "libyaml-dev", ""},
	{"cc -fsyntax-only -xc -include zlib.h /dev/null", "zlib1g-dev", ""},
	{"cc -fsyntax-only -xc -include ffi.h /dev/null", "libffi-dev", ""},
	{"cc -fsyntax-only -xc -include stdlib.h -include jemalloc/jemalloc.h /dev/null", "libjemalloc-dev", "--with-jemalloc"},
}

// lacking names the packages that the builder lacks, as one refusal.
func lacking(ctx context.Context, configure []string, try func(context.Context, ...string) error) []string {
	var pkgs []string
	for _, n := range needs {
		if n.with != "" && !slices.Contains(configure, n.with) {
			continue
		}
		if try(ctx, strings.Fields(n.argv)...) != nil {
			pkgs = append(pkgs, n.pkg)
		}
	}
	if len(pkgs) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("the builder cannot compile Ruby without %s; there: apt-get install %s", strings.Join(pkgs, ", "), strings.Join(pkgs, " "))}
}

func tryCommand(ctx context.Context, argv ...string) error {
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Dir, c.Env = "/", []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"}
	return c.Run()
}

func foreign(a builds.Artifact) error {
	return refuse("%s exists and was not made by refit; move it away, or name it in refit.yml under toolchain.%s (version, prefix, why)", a.Prefix, a.Tool)
}
