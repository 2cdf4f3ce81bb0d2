package toolchain

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/git"
)

// Where toolchains come from unless refit.yml says otherwise.
const (
	// DefaultRubyBuild is ruby-build's repository, and DefaultRevision the commit of
	// it that is used: the one tagged v20260701. A newer one is taken by a decision,
	// never by itself.
	DefaultRubyBuild = "https://github.com/rbenv/ruby-build.git"
	DefaultRevision  = "9207ff8331f18149b6ae071089d4ea73af304a75"
	// PublicRuby, PublicNode and PublicGems are what the mirrors stand for.
	PublicRuby = "https://cache.ruby-lang.org/pub/ruby"
	PublicNode = "https://nodejs.org/dist"
	PublicGems = "https://rubygems.org"
)

// DefaultConfigure are the options that Ruby is compiled with: the allocator that
// Mastodon's guide asks for, and no documentation.
func DefaultConfigure() []string { return []string{"--with-jemalloc", "--disable-install-doc"} }

// Sources are where toolchains come from, as refit.yml says. The zero value is the
// public ones.
type Sources struct {
	// Repository is ruby-build's, Revision the whole hash of the commit to use;
	// InsteadOf rewrites Repository.
	Repository string        `json:"repository,omitempty"`
	Revision   string        `json:"revision,omitempty"`
	InsteadOf  []git.Rewrite `json:"instead_of,omitempty"`
	// Definitions are more definitions of ruby-build's form, by the version that each
	// defines. They come before ruby-build's own.
	Definitions map[string]string `json:"definitions,omitempty"`
	// Checksums are SHA-256, in hex, by the archive's file name, "ruby-3.4.7.tar.gz".
	// One that contradicts what ruby-build or Node's own list says is an error.
	Checksums map[string]string `json:"checksums,omitempty"`
	// Configure are the options that Ruby is compiled with; nil for DefaultConfigure.
	Configure []string `json:"configure"`
	// Ruby, Node and Gems are base URLs that stand for PublicRuby, PublicNode and
	// PublicGems; empty for those.
	Ruby string `json:"ruby,omitempty"`
	Node string `json:"node,omitempty"`
	Gems string `json:"gems,omitempty"`
}

func (s Sources) filled() Sources {
	s.Repository, s.Revision = cmp.Or(s.Repository, DefaultRubyBuild), cmp.Or(s.Revision, DefaultRevision)
	s.Ruby = strings.TrimSuffix(cmp.Or(s.Ruby, PublicRuby), "/")
	s.Node = strings.TrimSuffix(cmp.Or(s.Node, PublicNode), "/")
	s.Gems = strings.TrimSuffix(cmp.Or(s.Gems, PublicGems), "/")
	if s.Configure == nil {
		s.Configure = DefaultConfigure()
	}
	return s
}

// byConfig vouches for what refit.yml alone has a checksum of.
const byConfig = "refit.yml"

// departures are the ways in which artifacts are made as refit.yml says and not as all
// make them, a line each.
func (s Sources) departures(all []builds.Artifact) []string {
	var out []string
	for _, a := range all {
		if a.Tool == "ruby" && !slices.Equal(a.Configure, DefaultConfigure()) {
			out = append(out, fmt.Sprintf("ruby %s is compiled with %s instead of %s: toolchain.ruby_build.configure in refit.yml says so",
				a.Version, cmp.Or(strings.Join(a.Configure, " "), "no options"), strings.Join(DefaultConfigure(), " ")))
		}
		for _, f := range a.Archives {
			if f.By == byConfig {
				out = append(out, fmt.Sprintf("%s is held to a checksum that refit.yml alone gives: no list of upstream's has one", path.Base(f.URL)))
			}
		}
	}
	return out
}

// vouched is an archive's checksum and who vouches for it: by's own, which may be
// empty, held against refit.yml's.
func (s Sources) vouched(file, sum, by string) (string, string, error) {
	own := strings.ToLower(s.Checksums[file])
	switch {
	case own == "" && sum == "":
		return "", "", refuse("%s gives no checksum of %s, so nobody vouches for it; write one in refit.yml under toolchain.checksums", by, file)
	case own == "":
		return sum, by, nil
	case sum != "" && own != sum:
		return "", "", refuse("the checksum of %s is %s by refit.yml and %s by %s; find out which is right, and correct or remove toolchain.checksums", file, own, sum, by)
	case sum == "":
		return own, byConfig, nil
	}
	return own, by + " and refit.yml", nil
}

// recipeFormat rises when what is done with the same archives changes, so that
// toolchains are made again.
const recipeFormat = 1

// named gives an artifact its name, prefix and recipe, once all else is known of it.
// steps are what the definition does with each archive. A Ruby of other options than
// refit's own, or of a definition from refit.yml, has another name, so that it lies
// beside the one that older releases run with.
func named(l builds.Layout, a builds.Artifact, steps [][]string, own bool) (builds.Artifact, error) {
	type archive struct {
		File, SHA256 string
		Steps        []string
	}
	recipe := struct {
		Format                  int
		Tool, Version, OS, Arch string
		Archives                []archive
		Configure               []string
	}{Format: recipeFormat, Tool: a.Tool, Version: a.Version, OS: a.OS, Arch: a.Arch, Configure: a.Configure}
	for i, f := range a.Archives {
		x := archive{File: f.File, SHA256: f.SHA256}
		if i < len(steps) {
			x.Steps = steps[i]
		}
		recipe.Archives = append(recipe.Archives, x)
	}
	sum, err := digest(recipe)
	if err != nil {
		return a, err
	}
	a.Recipe, a.Name = sum, a.Tool+"-"+a.Version
	if a.Tool == "ruby" && (own || !slices.Equal(a.Configure, DefaultConfigure())) {
		recipe.OS, recipe.Arch = "", ""
		variant, err := digest(recipe)
		if err != nil {
			return a, err
		}
		a.Name += "-" + variant[:8]
	}
	a.Prefix = l.Prefix(a.Name)
	return a, nil
}

func digest(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("cannot name a toolchain: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}
