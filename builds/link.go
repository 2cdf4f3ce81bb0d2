package builds

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// LinkIn ties a release to its runtimes.
type LinkIn struct {
	Layout    Layout    `json:"layout"`
	Version   Version   `json:"version"`
	Toolchain Toolchain `json:"toolchain"`
}

// wrapped are the programs of .refit/bin: what each wrapper runs. Units and
// people reach Ruby and Node only through these, so that the release alone
// decides which they get.
var wrapped = map[string]string{
	"ruby":    "exec ruby",
	"bundle":  "exec bundle",
	"node":    "exec node",
	"rails":   "exec ruby %s/bin/rails",
	"rake":    "exec ruby %s/bin/rake",
	"tootctl": "exec ruby %s/bin/tootctl",
}

// wrapper is the text of one. The release's path is absolute in it, not found
// from the wrapper's place: who came through live keeps the release it began
// with when live moves on. order are the runtimes as their programs are looked for.
// bundler tells that Bundler lies in a folder of its own, where Ruby finds it by GEM_PATH.
func wrapper(dir, command string, order []string, bundler bool) string {
	var b strings.Builder
	b.WriteString("#!/bin/sh\n# Made by refit: runs with the Ruby and the Node of this release.\n")
	fmt.Fprintf(&b, "PATH=%s/.refit/%s/bin:%s/.refit/%s/bin:${PATH:-/usr/local/bin:/usr/bin:/bin}\n", dir, order[0], dir, order[1])
	b.WriteString(": \"${RAILS_ENV:=production}\" \"${NODE_ENV:=production}\"\n")
	b.WriteString("export PATH RAILS_ENV NODE_ENV\n")
	if bundler {
		fmt.Fprintf(&b, "GEM_PATH=%s/.refit/bundler\nexport GEM_PATH\n", dir)
	}
	if strings.Contains(command, "%s") {
		// Bundler finds the Gemfile from the working directory unless told.
		fmt.Fprintf(&b, "BUNDLE_GEMFILE=%s/Gemfile\nexport BUNDLE_GEMFILE\ncd %s || exit 1\n", dir, dir)
		command = fmt.Sprintf(command, dir)
	}
	b.WriteString(command + " \"$@\"\n")
	return b.String()
}

// lookup is the order in which the runtimes' folders are looked through: the one that
// holds the other's program too comes last. Debian's Ruby stands in /usr, beside
// Debian's Node, which must not take the place of one in a folder of its own.
func lookup(t Toolchain) ([]string, error) {
	holds := func(prefix, program string) bool {
		_, err := os.Stat(filepath.Join(prefix, "bin", program))
		return err == nil
	}
	switch {
	case t.Ruby.Prefix == t.Node.Prefix || !holds(t.Ruby.Prefix, "node"):
		return []string{"ruby", "node"}, nil
	case !holds(t.Node.Prefix, "ruby"):
		return []string{"node", "ruby"}, nil
	}
	return nil, fmt.Errorf("%s and %s hold a Ruby and a Node each; give one of the two a folder of its own", t.Ruby.Prefix, t.Node.Prefix)
}

// bundleConfig is a .bundle/config: a bundle of exactly the locked gems, in a folder
// of its own.
func bundleConfig(t Toolchain, path string) string {
	settings := map[string]string{
		"BUNDLE_DEPLOYMENT": "true",
		"BUNDLE_FROZEN":     "true",
		"BUNDLE_PATH":       path,
		"BUNDLE_WITHOUT":    "development:test",
		"BUNDLE_CACHE_ALL":  "false",
	}
	if t.systemBundler() {
		settings["BUNDLE_VERSION"] = "system" // do not look for the lock file's
	}
	lines := []string{"---"}
	for k, v := range settings {
		lines = append(lines, fmt.Sprintf("%s: %q", k, v))
	}
	sort.Strings(lines[1:])
	return strings.Join(lines, "\n") + "\n"
}

func link(_ context.Context, in LinkIn) (struct{}, error) {
	dir := in.Layout.Dir(in.Version)
	if err := requireUnfinished(dir); err != nil {
		return struct{}{}, err
	}
	fail := func(err error) (struct{}, error) {
		return struct{}{}, fmt.Errorf("cannot tie %s to its runtimes: %w", dir, err)
	}
	links := map[string]string{"ruby": in.Toolchain.Ruby.Prefix, "node": in.Toolchain.Node.Prefix}
	bundler, hasBundler := in.Toolchain.Artifact("bundler")
	if hasBundler {
		links["bundler"] = bundler.Prefix
	}
	for name, prefix := range links {
		program := filepath.Join(prefix, "bin", name)
		if name == "bundler" {
			program = filepath.Join(prefix, "specifications", "bundler-"+bundler.Version+".gemspec")
		}
		if _, err := os.Stat(program); err != nil {
			return fail(err)
		}
		at := filepath.Join(dir, ".refit", name)
		if err := os.Remove(at); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fail(err)
		}
		if err := os.Symlink(prefix, at); err != nil {
			return fail(err)
		}
	}
	order, err := lookup(in.Toolchain)
	if err != nil {
		return fail(err)
	}
	files := map[string]string{".bundle/config": bundleConfig(in.Toolchain, Bundle.place())}
	modes := map[string]os.FileMode{".bundle/config": 0o644}
	for name, command := range wrapped {
		files[".refit/bin/"+name], modes[".refit/bin/"+name] = wrapper(dir, command, order, hasBundler), 0o755
	}
	for name, text := range files {
		at := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.Chmod(filepath.Dir(at), 0o755)); err != nil {
			return fail(err)
		}
		if err := errors.Join(os.WriteFile(at, []byte(text), modes[name]), os.Chmod(at, modes[name])); err != nil {
			return fail(err)
		}
	}
	return struct{}{}, nil
}

// requireUnfinished refuses to write into a release that is not being built.
func requireUnfinished(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, markFile)); err != nil {
		return fmt.Errorf("%s is not being built: %w", dir, err)
	}
	return nil
}
