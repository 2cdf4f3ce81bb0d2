package toolchain

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/git"
)

func TestAPlanNamesWhatEachToolchainIsMadeFromAndWhoVouchesForIt(t *testing.T) {
	w := newWorld(t)
	p, err := w.plan(w.planIn())
	if err != nil || len(p.Refused)+len(p.Said)+len(p.Made) > 0 || len(p.Artifacts) != 3 {
		t.Fatalf("%+v, %v", p, err)
	}
	ruby, bundler, nodejs := p.Artifacts[0], p.Artifacts[1], p.Artifacts[2]
	if len(ruby.Archives) != 1 || ruby.Archives[0].URL != w.server.URL+"/ruby/3.4/ruby-3.4.7.tar.gz" || ruby.Archives[0].By != "ruby-build "+w.revision[:12] || ruby.Archives[0].File != "ruby-3.4.7.tar.gz" {
		t.Errorf("ruby: %+v", ruby.Archives)
	}
	if len(bundler.Archives) != 1 || bundler.Archives[0].SHA256 != sum([]byte("a gem")) || bundler.Archives[0].By != w.server.URL+"/info/bundler" {
		t.Errorf("bundler: %+v", bundler.Archives)
	}
	if nodejs.Version != "24.10.2" || nodejs.Prefix != w.layout.Toolchains+"/node-24.10.2" || !strings.HasSuffix(nodejs.Archives[0].By, "/node/v24.10.2/SHASUMS256.txt") {
		t.Errorf("node: %+v", nodejs)
	}
	if _, err := w.maker().Make(t.Context(), builds.Toolchain{Ruby: builds.Runtime{Prefix: ruby.Prefix}, Artifacts: p.Artifacts}, w.say); err != nil {
		t.Fatal(err)
	}
	again, err := w.plan(w.planIn())
	if err != nil || strings.Join(again.Made, " ") != "ruby-3.4.7 bundler-2.7.2 node-24.10.2" {
		t.Errorf("made %v, %v", again.Made, err)
	}
}

func TestWhatCannotBeMadeIsRefusedWithARemedyBeforeAnythingStarts(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *world, in *PlanIn)
		says   []string
	}{
		"no definition": {func(_ *world, in *PlanIn) { in.Ruby = "3.4.8" }, []string{
			"has no definition of ruby 3.4.8", "the newest that it has are 3.4.7, 3.4.6", "toolchain.ruby_build.revision", "toolchain.ruby_build.definitions",
		}},
		"no line at all": {func(_ *world, in *PlanIn) { in.Ruby = "5.0.0" }, []string{"it knows none of 5.0.x"}},
		"no version":     {func(_ *world, in *PlanIn) { in.Ruby = "../3.4.7" }, []string{"cannot be a version"}},
		"a definition that clones": {func(_ *world, in *PlanIn) {
			in.Sources.Definitions = map[string]string{"3.4.7": `install_git "ruby-3.4.7" "https://github.com/ruby/ruby.git" "master" standard`}
		}, []string{"refit.yml", "line 1 is none of install_package"}},
		"a definition of another version": {func(_ *world, in *PlanIn) {
			in.Sources.Definitions = map[string]string{"3.4.7": `install_package "ruby-3.4.6" "https://example.org/ruby-3.4.6.tar.gz#` + strings.Repeat("a", 64) + `" standard`}
		}, []string{`does not end with install_package "ruby-3.4.7"`}},
		"nobody vouches": {func(_ *world, in *PlanIn) {
			in.Sources.Definitions = map[string]string{"3.4.7": `install_package "ruby-3.4.7" "https://example.org/ruby-3.4.7.tar.gz" standard`}
		}, []string{"no checksum of ruby-3.4.7.tar.gz", "toolchain.checksums"}},
		"two who do not agree": {func(_ *world, in *PlanIn) {
			in.Sources.Checksums = map[string]string{"ruby-3.4.7.tar.gz": strings.Repeat("b", 64)}
		}, []string{"is " + strings.Repeat("b", 64) + " by refit.yml", "find out which is right"}},
		"no such Node": {func(_ *world, in *PlanIn) { in.Node = "26" }, []string{"lists no node 26 for linux-"}},
		"a Node that the list lacks": {func(w *world, _ *PlanIn) { w.served["/node/v24.10.2/SHASUMS256.txt"] = []byte("nothing") }, []string{
			"gives no checksum of node-v24.10.2-linux-", "toolchain.checksums",
		}},
		"a lock without a version": {func(_ *world, in *PlanIn) { in.Bundler = "newest" }, []string{`bundled with "newest"`}},
		"no compiler": {func(w *world, _ *PlanIn) {
			w.shop.try = func(_ context.Context, argv ...string) error {
				if argv[0] == "cc" {
					return errors.New("not there")
				}
				return nil
			}
		}, []string{"cannot compile Ruby without gcc, libssl-dev, libyaml-dev, zlib1g-dev, libffi-dev, libjemalloc-dev", "apt-get install gcc libssl-dev"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			in := w.planIn()
			c.change(w, &in)
			p, err := w.plan(in)
			if err != nil {
				t.Fatal(err)
			}
			failsWith(t, errors.New(strings.Join(p.Refused, "\n")), c.says...)
			if _, err := Decide(builds.Pins{Ruby: "3.4.7", Node: "24.10"}, Overrides{}, "uhura", nil, p); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.says[0]) {
				t.Errorf("decided: %v", err)
			}
			if exists(t, w.layout.Toolchains) {
				t.Error("something was made")
			}
		})
	}
}

func TestWhatCannotBeFoundOutIsAnErrorAndNoGuess(t *testing.T) {
	for path, says := range map[string]string{"/node/index.json": "which versions of node", "/node/v24.10.2/SHASUMS256.txt": "checksum of node", "/info/bundler": "cannot ask for bundler"} {
		w := newWorld(t)
		w.answer = func(rw http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == path {
				http.Error(rw, "no", http.StatusBadGateway)
			}
			return r.URL.Path == path
		}
		_, err := w.plan(w.planIn())
		failsWith(t, err, says, "502")
	}
	w := newWorld(t)
	w.served["/node/index.json"] = []byte("<html>")
	_, err := w.plan(w.planIn())
	failsWith(t, err, "cannot read", "index.json")
	w = newWorld(t)
	in := w.planIn()
	in.Sources.Revision = strings.Repeat("0", 40)
	_, err = w.plan(in)
	failsWith(t, err, "cannot read ruby-build's definitions", strings.Repeat("0", 40))
	in.Sources.Revision = "master"
	_, err = w.plan(in)
	failsWith(t, err, "no whole commit hash")
}

func TestARegistryWithoutTheLockedBundlerLeavesRubysOwnAndSaysSo(t *testing.T) {
	for name, c := range map[string]struct {
		info *string
		says string
	}{
		"no such gem":     {nil, "does not have bundler 2.7.2"},
		"another version": {ptr("2.7.1 |checksum:" + strings.Repeat("a", 64) + "\n"), "does not have bundler 2.7.2"},
		"no checksum":     {ptr("2.7.2 |ruby:>= 3.2.0\n"), "gives no checksum of bundler 2.7.2"},
	} {
		w := newWorld(t)
		delete(w.served, "/info/bundler")
		if c.info != nil {
			w.served["/info/bundler"] = []byte(*c.info)
		}
		p, err := w.plan(w.planIn())
		if err != nil || len(p.Artifacts) != 2 || len(p.Said) != 1 || !strings.Contains(p.Said[0], c.says) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
		d, err := Decide(builds.Pins{Ruby: "3.4.7", Node: "24.10", Bundler: "2.7.2", Yarn: "4.10.3"}, Overrides{}, "uhura", nil, p)
		if err != nil || d.Toolchain.Bundler != "" || !strings.Contains(strings.Join(d.Said, "\n"), "bundler of its own instead of 2.7.2") {
			t.Errorf("%s: %+v, %v", name, d.Said, err)
		}
	}
}

func ptr(s string) *string { return &s }

func TestARecipeIsNamedByWhatItBringsForthAndNotByWhereItComesFrom(t *testing.T) {
	w := newWorld(t)
	artifact := func(change func(*PlanIn)) builds.Artifact {
		in := w.planIn()
		change(&in)
		p, err := w.plan(in)
		if err != nil || len(p.Refused) > 0 {
			t.Fatalf("%v, %q", err, p.Refused)
		}
		return p.Artifacts[0]
	}
	base := artifact(func(*PlanIn) {})
	if same := artifact(func(in *PlanIn) { in.Sources.Ruby = "" }); same.Recipe != base.Recipe || same.Archives[0].URL == base.Archives[0].URL {
		t.Errorf("another mirror: %+v", same)
	}
	if same := artifact(func(in *PlanIn) {
		in.Sources.Checksums = map[string]string{"ruby-3.4.7.tar.gz": strings.ToUpper(base.Archives[0].SHA256)}
	}); same.Recipe != base.Recipe || !strings.HasSuffix(same.Archives[0].By, "and refit.yml") {
		t.Errorf("a second voucher: %+v", same)
	}
	for name, change := range map[string]func(*PlanIn){
		"options":    func(in *PlanIn) { in.Sources.Configure = []string{"--with-jemalloc", "--enable-yjit"} },
		"no options": func(in *PlanIn) { in.Sources.Configure = []string{} },
		"steps": func(in *PlanIn) {
			in.Sources.Definitions = map[string]string{"3.4.7": strings.Replace(base.Definition, "enable_shared standard", "standard", 1)}
		},
	} {
		other := artifact(change)
		if other.Recipe == base.Recipe || other.Name == base.Name || !strings.HasPrefix(other.Name, "ruby-3.4.7-") || other.Prefix != w.layout.Prefix(other.Name) {
			t.Errorf("%s: %s by %s", name, other.Name, other.Recipe)
		}
	}
	// ruby-build's newer revision has another OpenSSL for whom needs one: nothing changes.
	w.write(definitionsDir+"3.4.7", strings.ReplaceAll(base.Definition, "3.0.18", "3.0.20"))
	w.commit()
	if same := artifact(func(*PlanIn) {}); same.Recipe != base.Recipe || same.Name != base.Name {
		t.Errorf("another revision: %s by %s", same.Name, same.Recipe)
	}
}

func TestOnlyWhatRefitMakesIsAskedFor(t *testing.T) {
	pins := builds.Pins{Ruby: "3.4.7", Node: "24.10", Bundler: "2.7.2"}
	usr := &Override{Version: "3.3.8", Prefix: "/usr", Why: "the hosts have it"}
	other := &Override{Version: "3.4.8", Why: "a bug of 3.4.7"}
	for name, c := range map[string]struct {
		o    Overrides
		want [3]string
		ask  bool
	}{
		"the pins":            {Overrides{}, [3]string{"3.4.7", "2.7.2", "24.10"}, true},
		"both of the hosts'":  {Overrides{Ruby: usr, Node: usr}, [3]string{}, false},
		"Ruby of the hosts'":  {Overrides{Ruby: usr}, [3]string{"", "", "24.10"}, true},
		"another Ruby, made":  {Overrides{Ruby: other, Node: usr}, [3]string{"3.4.8", "2.7.2", ""}, true},
		"another Node is too": {Overrides{Node: other}, [3]string{"3.4.7", "2.7.2", "3.4.8"}, true},
	} {
		in, ask := PlanFor(builds.Layout{}, pins, c.o, Sources{})
		if got := [3]string{in.Ruby, in.Bundler, in.Node}; got != c.want || ask != c.ask {
			t.Errorf("%s: %v %v", name, got, ask)
		}
	}
}

func TestADefinitionIsReadAsTheShellWould(t *testing.T) {
	const url = "https://example.org/ruby-1.2.3.tar.gz"
	good := strings.Repeat("ab", 32)
	parts, err := readDefinition("1.2.3", "# a comment\n\ninstall_package 'yaml-0.2' \"https://example.org/yaml.tar.bz2#"+strings.ToUpper(good)+"\"\ninstall_package \"ruby-1.2.3\" \""+url+"#"+good+"\" warn_eol enable_shared standard\n")
	if err != nil || len(parts) != 2 || parts[0].file() != "yaml-0.2.tar.bz2" || parts[0].sha256 != good || strings.Join(parts[1].steps, " ") != "warn_eol enable_shared standard" {
		t.Errorf("%+v, %v", parts, err)
	}
	for name, text := range map[string]string{
		"empty":           "",
		"a command":       "rm -rf /\n",
		"a substitution":  `install_package "ruby-1.2.3" "$(evil)" standard`,
		"two commands":    `install_package "ruby-1.2.3" "` + url + `" standard; evil`,
		"a redirection":   `install_package "ruby-1.2.3" "` + url + `" > /etc/passwd`,
		"glued words":     `install_package "ruby-1.2.3""` + url + `" standard`,
		"a path as name":  `install_package "../ruby-1.2.3" "` + url + `" standard`,
		"no URL":          `install_package "ruby-1.2.3" "file:///etc/passwd.tar.gz" standard`,
		"no archive":      `install_package "ruby-1.2.3" "https://example.org/ruby.tar.xz" standard`,
		"a condition":     `install_package "ruby-1.2.3" "` + url + `" standard --if needs_luck`,
		"something after": `install_package "ruby-1.2.3" "` + url + `" standard` + "\n" + `install_package "evil-1" "` + url + `"`,
	} {
		if parts, err := readDefinition("1.2.3", text); err == nil {
			t.Errorf("%s: %+v", name, parts)
		}
	}
}

func FuzzADefinitionNeverNamesAFileElsewhere(f *testing.F) {
	f.Add(`install_package "ruby-1.2.3" "https://example.org/ruby-1.2.3.tar.gz#` + strings.Repeat("a", 64) + `" standard`)
	f.Fuzz(func(t *testing.T, text string) {
		parts, err := readDefinition("1.2.3", text)
		for _, c := range parts {
			if err == nil && strings.ContainsAny(c.file(), "/\x00\n ") {
				t.Errorf("%q", c.file())
			}
		}
	})
}

// TestEveryDefinitionOfRubyBuildIsRead holds the reader to ruby-build itself, where a
// clone lies on this machine: REFIT_RUBY_BUILD names it.
func TestEveryDefinitionOfRubyBuildIsRead(t *testing.T) {
	dir := os.Getenv("REFIT_RUBY_BUILD")
	if dir == "" {
		t.Log("REFIT_RUBY_BUILD names no clone of ruby-build: its real definitions are not read")
		return
	}
	out, err := exec.CommandContext(t.Context(), "git", "-C", dir, "rev-parse", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	clone, err := git.OpenClone(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer clone.Close() //nolint:errcheck // read only
	at, err := clone.Commit(t.Context(), "ruby-build", strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	files, err := clone.Files(at)
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, f := range files {
		version, ok := strings.CutPrefix(f.Path, definitionsDir)
		if !ok || !(strings.HasPrefix(version, "3.") || strings.HasPrefix(version, "4.")) || strings.HasSuffix(version, "-dev") {
			continue
		}
		text, err := clone.Read(at, f.Path)
		if err != nil {
			t.Fatal(err)
		}
		parts, err := readDefinition(version, string(text))
		if err != nil || len(parts) != 1 || parts[0].sha256 == "" || !strings.HasPrefix(parts[0].url, PublicRuby+"/") {
			t.Errorf("%s: %+v, %v", version, parts, err)
		}
		read++
	}
	if read < 50 {
		t.Errorf("only %d definitions were read", read)
	}
}
