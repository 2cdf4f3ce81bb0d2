package stages

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/toolchain"
	"vmst.io/refit/hosts/node"
)

// makeToolchain makes one on the builder and names it in the facts.
func (s *shelves) makeToolchain(name, recipe string, files map[string]string) {
	s.t.Helper()
	root := filepath.Join(s.homes[s.place.d.builder().Name], "opt", name)
	for file, content := range files {
		at := filepath.Join(root, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(content), 0o755)); err != nil {
			s.t.Fatal(err)
		}
	}
	entries, err := node.Scan(s.t.Context(), root)
	if err != nil {
		s.t.Fatal(err)
	}
	m := node.Manifest{Format: node.ManifestFormat, Kind: node.KindToolchain, Release: name, Recipe: recipe, OS: "debian 13", Arch: "amd64", Files: entries}
	if _, err := m.Write(root); err != nil {
		s.t.Fatal(err)
	}
	t := &s.place.f.Recipe.Toolchain
	t.Artifacts = append(t.Artifacts, builds.Artifact{Name: name, Prefix: root, Recipe: recipe})
}

// has are the nodes on which a toolchain lies whole.
func (s *shelves) has(name string) []string {
	s.t.Helper()
	var out []string
	for _, n := range s.place.d.Fleet.Apps() {
		found, err := n.Agent.PlaceVerify(s.t.Context(), node.VerifyIn{Kind: node.KindToolchain, Release: name}, nil)
		switch {
		case errors.Is(err, node.ErrNotFound):
		case err != nil || len(found.Differences) > 0:
			s.t.Errorf("%s: %v, %v", n.Name, found.Differences, err)
		default:
			out = append(out, n.Name)
		}
	}
	return out
}

func TestToolchainsReachEveryNodeOnceAndBeforeTheRelease(t *testing.T) {
	s := newShelves(t)
	s.makeToolchain("ruby-3.4.7", "r1", map[string]string{"bin/ruby": "elf", "lib/set.rb": "set"})
	s.makeToolchain("node-24.10.0", "n1", map[string]string{"bin/node": "elf of node"})
	if err := s.place.toolchains(t.Context(), s.say); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ruby-3.4.7", "node-24.10.0"} {
		if got := s.has(name); len(got) != 4 {
			t.Errorf("%s lies on %v\n%s", name, got, strings.Join(s.said, "\n"))
		}
	}
	if packs := s.calls("pack"); packs != 4 {
		t.Errorf("read %d times from the builder, wanted twice for each: %v", packs, s.called)
	}
	s.called = nil
	if err := s.place.toolchains(t.Context(), s.say); err != nil || s.calls("place.put") > 0 {
		t.Errorf("again: %v, %v", err, s.called)
	}
	if !slices.Contains(s.said, "kirk: has ruby-3.4.7 already, every file verified") {
		t.Errorf("said:\n%s", strings.Join(s.said, "\n"))
	}
}

func TestANodeThatGetsNoToolchainGetsNoRelease(t *testing.T) {
	s := newShelves(t)
	s.makeToolchain("ruby-3.4.7", "r1", map[string]string{"bin/ruby": "elf"})
	s.fails["spock place.put"] = node.Failf(node.CodeNoSpace, "the disk is full")
	err := s.place.Run(t.Context(), s.say)
	if failsWith(t, err, "spock: cannot place ruby-3.4.7", "the disk is full"); !errors.Is(err, node.ErrNoSpace) {
		t.Errorf("the cause is lost: %v", err)
	}
	if got := s.has("ruby-3.4.7"); len(got) != 3 {
		t.Errorf("it lies on %v", got)
	}
	s.wholeOn()
}

func TestAToolchainMadeByAnotherRecipeMeanwhileIsNotPlaced(t *testing.T) {
	s := newShelves(t)
	s.makeToolchain("ruby-3.4.7", "r1", map[string]string{"bin/ruby": "elf"})
	s.place.f.Recipe.Toolchain.Artifacts[0].Recipe = "r2"
	failsWith(t, s.place.Run(t.Context(), s.say), "is not what this run made", "refit upgrade --to v4.5.15")
	s.place.f.Recipe.Toolchain.Artifacts[0].Prefix += "-gone"
	err := s.place.Run(t.Context(), s.say)
	if failsWith(t, err, "cannot read ruby-3.4.7 on "+s.place.d.builder().Name); !errors.Is(err, node.ErrNotFound) {
		t.Errorf("the cause is lost: %v", err)
	}
	if s.calls("place.put") > 0 {
		t.Errorf("called: %v", s.called)
	}
}

func TestToolchainsAreAStepOfEveryTableThatBuildsIfRefitMakesAny(t *testing.T) {
	d, f := someDeps(), someFacts(t)
	steps := func() string {
		var names []string
		for _, p := range []func() []string{
			func() []string { return stepNames(Upgrade("u-1", d, f))[:4] },
			func() []string { return stepNames(Place("u-1", d, f)) },
			func() []string { return stepNames(Build("u-1", d, f)) },
		} {
			names = append(names, strings.Join(p(), " "))
		}
		return strings.Join(names, ", ")
	}
	if got := steps(); got != "preflight build place bridge assets, build place, build" {
		t.Errorf("without any: %s", got)
	}
	f.Recipe.Toolchain.Artifacts = []builds.Artifact{{Name: "ruby-3.4.7"}, {Name: "node-24.10.0"}}
	if got := steps(); got != "preflight toolchain build place, toolchain build place, toolchain build" {
		t.Errorf("with two: %s", got)
	}
	p := Upgrade("u-1", d, f)
	if s := p.Steps[1]; s.Host != d.builder().Name || s.Why != "make ruby-3.4.7, node-24.10.0, unless they are there" || s.Switches || s.OneWay || !Prepares(s.Stage.Name()) {
		t.Errorf("%+v", s)
	}
}

func TestTheHostsOwnToolsAskTheBuilderNothing(t *testing.T) {
	usr := &toolchain.Override{Version: "3.3.8", Prefix: "/usr", Why: "the hosts have it"}
	d := someDeps() // whose builder answers nothing
	planned, err := d.plannedToolchains(t.Context(), Request{Overrides: toolchain.Overrides{Ruby: usr, Node: usr}}, builds.Release{}, builds.Layout{}, nil)
	if err != nil || len(planned.Artifacts) > 0 {
		t.Errorf("%+v, %v", planned, err)
	}
}
