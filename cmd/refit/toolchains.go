package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"vmst.io/refit/builds/toolchain"
)

var (
	wholeCommit   = regexp.MustCompile(`^[0-9a-f]{40}$`)
	wholeSHA256   = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)
	versionName   = regexp.MustCompile(`^[0-9][0-9A-Za-z.-]*$`)
	configureWord = regexp.MustCompile(`^--[A-Za-z0-9][A-Za-z0-9_./=,:+@-]*$`)
)

// maxDefinition bounds a definition of ruby-build's, bytes; the longest of those is 1 KB.
const maxDefinition = 64 << 10

func (c toolchainConfig) check(w *wrongs) {
	for name, o := range map[string]*overrideConfig{"ruby": c.Ruby, "node": c.Node} {
		if o != nil && o.Version != "" && !versionName.MatchString(o.Version) {
			w.say("toolchain."+name+".version", "%q is no version", o.Version)
		}
	}
	b := c.RubyBuild
	w.repository("toolchain.ruby_build.repository", b.Repository)
	if !wholeCommit.MatchString(b.Revision) {
		w.say("toolchain.ruby_build.revision", "%q is no whole commit hash (40 digits of 0-9a-f): a branch or a tag may move", b.Revision)
	}
	for _, word := range b.Configure {
		switch {
		case !configureWord.MatchString(word):
			w.say("toolchain.ruby_build.configure", "%q is no option such as --with-jemalloc, one to an entry", word)
		case strings.HasPrefix(word, "--prefix") || strings.HasPrefix(word, "--exec-prefix"):
			w.say("toolchain.ruby_build.configure", "%q is refit's own: each version has its fixed place", word)
		}
	}
	for _, file := range slices.Sorted(maps.Keys(c.Checksums)) {
		if file == "" || filepath.Base(file) != file {
			w.say("toolchain.checksums", "%q is no file's name such as ruby-3.4.7.tar.gz", file)
		}
		if sum := c.Checksums[file]; !wholeSHA256.MatchString(sum) {
			w.say("toolchain.checksums", "%s: %q is no SHA-256 (64 hexadecimal digits)", file, sum)
		}
	}
}

// toolchains are where Ruby and Node come from, with the definitions that lie beside
// refit.yml.
func (c config) toolchains() (toolchain.Sources, error) {
	t := c.Toolchain
	s := toolchain.Sources{
		Repository: t.RubyBuild.Repository, Revision: t.RubyBuild.Revision, Configure: t.RubyBuild.Configure,
		Checksums: t.Checksums, Ruby: c.Mirrors.Ruby, Node: c.Mirrors.Node,
	}
	if t.RubyBuild.Definitions == "" {
		return s, nil
	}
	dir, err := c.path(t.RubyBuild.Definitions)
	if err != nil {
		return s, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return s, fmt.Errorf("cannot read toolchain.ruby_build.definitions: %w", err)
	}
	s.Definitions = map[string]string{}
	for _, e := range entries {
		if !versionName.MatchString(e.Name()) {
			continue // a README, an editor's copy
		}
		info, err := e.Info()
		if err == nil && (!info.Mode().IsRegular() || info.Size() > maxDefinition) {
			err = fmt.Errorf("it is no file of at most %d bytes", maxDefinition)
		}
		var text []byte
		if err == nil {
			text, err = os.ReadFile(filepath.Join(dir, e.Name()))
		}
		if err != nil {
			return s, fmt.Errorf("cannot read the definition %s: %w", filepath.Join(dir, e.Name()), err)
		}
		s.Definitions[e.Name()] = string(text)
	}
	return s, nil
}
