package builds_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/attest"
	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/node"
)

func readInto(t *testing.T, file string, v any) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestABuildSaysHowItCameToBeAndOfWhatItIsMade(t *testing.T) {
	w := newWorld(t)
	w.write("Gemfile.lock", "GIT\n  remote: https://github.com/mastodon/webpush.git\n  revision: 9631ac63045cfabddacc69fc06e919b4c13eb913\n  specs:\n    webpush (1.1.0)\n\nGEM\n  remote: https://rubygems.org/\n  specs:\n    rack (3.1.8)\n    rspec (3.13.0)\n\nBUNDLED WITH\n  2.7.2\n")
	w.write("yarn.lock", "__metadata:\n  version: 8\n\n\"ws@npm:^8.0.0\":\n  version: 8.18.3\n  resolution: \"ws@npm:8.18.3\"\n  languageName: node\n  linkType: hard\n")
	w.tag("v4.5.15")
	w.program("bundle", `case "$1" in
install) mkdir -p vendor/bundle/ruby/3.3.0/bundler/gems/webpush-9631ac63045c vendor/bundle/ruby/3.3.0/gems/rack-3.1.8 && echo gem > vendor/bundle/ruby/3.3.0/gems/rack-3.1.8/rack.rb;;
exec) mkdir -p public/packs/.vite && printf js > public/packs/app-1.js && echo '{"app.js":{"file":"app-1.js"}}' > public/packs/.vite/manifest.json;;
esac`)
	w.pack("#!/bin/sh\nmkdir -p node_modules/ws && echo '{\"name\":\"ws\",\"version\":\"8.18.3\"}' > node_modules/ws/package.json\n")
	w.builder.Refit = "v9.8.7"
	r := w.recipe()
	r.Mirrors.Gems = strings.Replace(w.registry.URL, "http://", "http://ana:hunter2@", 1) + "?key=hunter2"
	built, err := w.builder.Build(t.Context(), r, w.say)
	if err != nil {
		t.Fatal(err)
	}
	var s attest.Statement
	text := readInto(t, filepath.Join(w.dir(), ".refit/provenance.json"), &s)
	m, _, err := node.ReadManifest(w.dir())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{".refit/provenance.json", ".refit/sbom.json"} {
		if !slices.ContainsFunc(m.Files, func(e node.Entry) bool { return e.Path == p }) {
			t.Errorf("%s does not stand under the manifest", p)
		}
		fi, err := os.Stat(filepath.Join(w.dir(), p))
		if err != nil || !fi.ModTime().Equal(node.FixedTime()) || fi.Mode().Perm() != 0o644 {
			t.Errorf("%s: %v, %v", p, fi, err)
		}
	}
	// By the command that in-toto's specification gives for it.
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `find . -type f | cut -c3- | grep -vx -e .refit/manifest.json -e .refit/provenance.json | LC_ALL=C sort | xargs -r sha256sum | sha256sum | cut -f1 -d' '`)
	cmd.Dir = w.dir()
	sum, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check("v4.5.15", strings.TrimSpace(string(sum)), r.Release.Tag.Commit, r.Release.Tag.Tree); err != nil {
		t.Error(err)
	}
	run := s.Predicate.RunDetails
	if run.Metadata.StartedOn.IsZero() || run.Metadata.FinishedOn.Before(run.Metadata.StartedOn) || run.Builder.Version["refit"] != "v9.8.7" || len(run.Builder.Dependencies) != 1 {
		t.Errorf("%+v", run)
	}
	in := s.Predicate.BuildDefinition
	if in.InternalParameters.Recipe != built.Recipe || len(in.InternalParameters.Steps) != len(r.Steps()) || in.ExternalParameters.Tag != "v4.5.15" || !slices.Equal(in.ExternalParameters.Departures, built.Departures) {
		t.Errorf("%+v", in)
	}
	for i, step := range in.InternalParameters.Steps {
		if step.Network == r.Steps()[i].Offline {
			t.Errorf("of %s it says network: %v", step.Name, step.Network)
		}
	}
	for _, want := range []string{"source", "ruby", "node", "bundler", "yarn", "Gemfile.lock", "yarn.lock"} {
		if !slices.ContainsFunc(in.ResolvedDependencies, func(r attest.Resource) bool { return r.Name == want }) {
			t.Errorf("the materials lack %s", want)
		}
	}
	if !strings.Contains(text, "git+https://github.com/mastodon/webpush.git@9631ac63045cfabddacc69fc06e919b4c13eb913") {
		t.Error("the materials lack the gem from git")
	}
	var b attest.Bom
	bill := readInto(t, filepath.Join(w.dir(), ".refit/sbom.json"), &b)
	scope := map[string]string{}
	for _, c := range b.Components {
		scope[c.Ref] = c.Scope
	}
	for ref, want := range map[string]string{"gem:rack@3.1.8": "required", "gem:webpush@1.1.0": "required", "gem:rspec@3.13.0": "excluded", "npm:ws@npm:8.18.3": "required"} {
		if scope[ref] != want {
			t.Errorf("%s is %q, not %q", ref, scope[ref], want)
		}
	}
	if strings.Contains(text+bill, "hunter2") || !strings.Contains(text, w.registry.URL) {
		t.Errorf("a mirror is not told, or with its password: %s", text)
	}
	if w.heard("bill of materials is not complete") {
		t.Error("the bill is said to lack something")
	}
}

func TestALockFileThatCannotBeReadMakesTheBillLessAndIsSaid(t *testing.T) {
	w := newWorld(t)
	w.write("yarn.lock", "__metadata:\n  version: 8\n")
	w.tag("v4.5.15")
	if _, err := w.builder.Build(t.Context(), w.recipe(), w.say); err != nil {
		t.Fatal(err)
	}
	if !w.heard("the bill of materials is not complete: cannot read yarn.lock") {
		t.Errorf("said:\n%s", strings.Join(w.said, "\n"))
	}
	var b attest.Bom
	if bill := readInto(t, filepath.Join(w.dir(), ".refit/sbom.json"), &b); !strings.Contains(bill, "cannot read yarn.lock") {
		t.Error("the bill does not say so")
	}
}

func (w *world) source(elsewhere ...string) (builds.SourceOut, error) {
	return builds.ReadSourceOn(w.t.Context(), w.host, builds.SourceIn{Home: w.layout.Home, Version: version(w.t, "v4.5.15"), Elsewhere: elsewhere})
}

func TestAHostProvesTheSourceOfAReleaseByItself(t *testing.T) {
	w := newWorld(t)
	r := w.recipe()
	if _, err := w.source(); err == nil || !strings.Contains(err.Error(), "has no record of its source") {
		t.Errorf("without a release: %v", err)
	}
	if _, err := w.builder.Build(t.Context(), r, w.say); err != nil {
		t.Fatal(err)
	}
	out, err := w.source()
	if err != nil || out.Tree != r.Release.Tag.Tree || out.Tag.Commit != r.Release.Tag.Commit || len(out.Differences) > 0 || out.Elsewhere != 0 || out.Provenance != "" || out.Finished.IsZero() {
		t.Fatalf("%+v, %v", out, err)
	}
	at := func(p string) string { return filepath.Join(w.dir(), p) }
	undo := func(p string) func() error {
		b, err := os.ReadFile(at(p))
		fi, statErr := os.Stat(at(p))
		if err := errors.Join(err, statErr); err != nil {
			t.Fatal(err)
		}
		return func() error {
			return errors.Join(os.RemoveAll(at(p)), os.WriteFile(at(p), b, fi.Mode().Perm()), os.Chmod(at(p), fi.Mode().Perm()))
		}
	}
	edit := func(p, old, now string) error {
		b, err := os.ReadFile(at(p))
		if err != nil || !strings.Contains(string(b), old) {
			return errors.Join(err, errors.New(p+" does not hold "+old))
		}
		return os.WriteFile(at(p), []byte(strings.Replace(string(b), old, now, 1)), 0o600)
	}
	for name, c := range map[string]struct {
		file  string
		spoil func() error
		diff  git.Difference // found
		tree  bool           // the tree is another, and no file differs
		words string         // of the provenance
	}{
		"content":             {"Gemfile", func() error { return os.WriteFile(at("Gemfile"), []byte("evil"), 0o600) }, git.Difference{Path: "Gemfile", What: "content"}, false, ""},
		"a bit":               {"Gemfile", func() error { return os.Chmod(at("Gemfile"), 0o755) }, git.Difference{Path: "Gemfile", What: "mode"}, false, ""},
		"a file less":         {"Gemfile", func() error { return os.Remove(at("Gemfile")) }, git.Difference{Path: "Gemfile", What: "missing"}, false, ""},
		"a link for it":       {"Gemfile", func() error { return errors.Join(os.Remove(at("Gemfile")), os.Symlink("Gemfile.lock", at("Gemfile"))) }, git.Difference{Path: "Gemfile", What: "type"}, false, ""},
		"the list":            {".refit/source.json", func() error { return edit(".refit/source.json", `"path":"Gemfile.lock"`, `"path":"Gemfile.lock2"`) }, git.Difference{Path: "Gemfile.lock2", What: "missing"}, false, ""},
		"the tag in the list": {".refit/source.json", func() error { return edit(".refit/source.json", r.Release.Tag.Tree, strings.Repeat("0", 40)) }, git.Difference{}, true, ""},
		"the provenance":      {".refit/provenance.json", func() error { return edit(".refit/provenance.json", r.Release.Tag.Commit, strings.Repeat("0", 40)) }, git.Difference{}, false, "another source"},
		"no provenance":       {".refit/provenance.json", func() error { return os.Remove(at(".refit/provenance.json")) }, git.Difference{}, false, "says nothing of how"},
		"half a provenance":   {".refit/provenance.json", func() error { return os.Truncate(at(".refit/provenance.json"), 9) }, git.Difference{}, false, "cannot read"},
	} {
		t.Run(name, func(t *testing.T) {
			back := undo(c.file)
			if err := c.spoil(); err != nil {
				t.Fatal(err)
			}
			out, err := w.source()
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case c.diff.Path != "" && (len(out.Differences) != 1 || out.Differences[0] != c.diff || out.Tree == r.Release.Tag.Tree):
				t.Errorf("found %v, tree %s, wanted %v", out.Differences, out.Tree, c.diff)
			case c.diff.Path == "" && len(out.Differences) > 0:
				t.Errorf("found %v", out.Differences)
			case c.tree && out.Tree == out.Tag.Tree:
				t.Error("the tree is the same")
			}
			if (c.words == "") != (out.Provenance == "") || !strings.Contains(out.Provenance, c.words) {
				t.Errorf("of its provenance: %q", out.Provenance)
			}
			if err := back(); err != nil {
				t.Fatal(err)
			}
		})
	}
	// On a node something else lies in the place of a folder.
	if err := errors.Join(os.RemoveAll(at("log")), os.Symlink("/var/log", at("log"))); err != nil {
		t.Fatal(err)
	}
	if out, err := w.source("log"); err != nil || out.Tree != r.Release.Tag.Tree || len(out.Differences) > 0 || out.Elsewhere != 1 {
		t.Errorf("%+v, %v", out, err)
	}
	if out, err := w.source(); err != nil || len(out.Differences) != 1 || out.Differences[0].Path != "log/.keep" {
		t.Errorf("%+v, %v", out, err)
	}
}
