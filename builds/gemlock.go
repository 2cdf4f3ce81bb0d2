package builds

import (
	"errors"
	"fmt"
	"strings"
)

// LockedGem is a gem of a registry, as Gemfile.lock names it.
type LockedGem struct {
	Name    string
	Version string
	// Platform is empty for a gem of Ruby alone: "x86_64-linux-gnu".
	Platform string
	// SHA256 of the gem's file, in hex; empty where the lock has none.
	SHA256 string
	// Remotes are the registries that may serve it.
	Remotes []string
}

// full is the gem's name as its file has it: "nokogiri-1.19.4-x86_64-linux-gnu".
func (g LockedGem) full() string {
	full := g.Name + "-" + g.Version
	if g.Platform != "" {
		full += "-" + g.Platform
	}
	return full
}

// GemLock is what refit reads of a Gemfile.lock.
type GemLock struct {
	// Gems of registries, in the file's order.
	Gems []LockedGem
	// Git are the sources that are git repositories.
	Git []GitSource
	// Local: some gems are folders of the tree itself.
	Local bool
	// Bundler is the version under BUNDLED WITH.
	Bundler string
}

// ReadGemLock reads a Gemfile.lock. Its RUBY VERSION is not read: it disagrees
// with .ruby-version in whole lines.
func ReadGemLock(text string) (GemLock, error) {
	var l GemLock
	section := ""
	var remotes []string
	sums := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			continue
		}
		if line[0] != ' ' {
			section, remotes = line, nil
			switch section {
			case "GIT":
				l.Git = append(l.Git, GitSource{})
			case "PATH":
				l.Local = true
			}
			continue
		}
		word := strings.TrimSpace(line)
		// Gems stand four spaces deep; what they need, six.
		gem := strings.HasPrefix(line, "    ") && !strings.HasPrefix(line, "     ")
		remote, isRemote := strings.CutPrefix(word, "remote: ")
		switch section {
		case "BUNDLED WITH":
			if !pinned.MatchString(word) {
				return GemLock{}, fmt.Errorf("cannot read Gemfile.lock: it is bundled with %q, which is no version", word)
			}
			l.Bundler = word
		case "GIT":
			src := &l.Git[len(l.Git)-1]
			if revision, ok := strings.CutPrefix(word, "revision: "); ok {
				src.Revision = revision
			} else if isRemote {
				src.Remote = remote
			} else if gem {
				name, _, _ := strings.Cut(word, " ")
				src.Gems = append(src.Gems, name)
			}
		case "GEM":
			if isRemote {
				remotes = append(remotes, remote)
			} else if gem {
				g, _, err := gemWord(word)
				if err != nil {
					return GemLock{}, err
				}
				g.Remotes = remotes
				l.Gems = append(l.Gems, g)
			}
		case "CHECKSUMS":
			g, sum, err := gemWord(word)
			if err != nil {
				return GemLock{}, err
			}
			sums[g.full()] = sum
		}
	}
	for i, g := range l.Gems {
		l.Gems[i].SHA256 = sums[g.full()]
	}
	for _, s := range l.Git {
		if s.Remote == "" || s.Revision == "" {
			return GemLock{}, errors.New("cannot read Gemfile.lock: a GIT block without remote or revision")
		}
	}
	return l, nil
}

// gemWord reads "rack (3.1.20)", in CHECKSUMS with " sha256=…" behind it.
func gemWord(word string) (g LockedGem, sum string, err error) {
	name, rest, ok := strings.Cut(word, " (")
	version, rest, closed := strings.Cut(rest, ")")
	if !ok || !closed || name == "" || version == "" {
		return g, "", fmt.Errorf("cannot read Gemfile.lock: %q is no gem with its version", word)
	}
	g.Name = name
	// A version has no hyphen (Gem::Version): what follows one is the platform.
	g.Version, g.Platform, _ = strings.Cut(version, "-")
	for one := range strings.SplitSeq(strings.TrimSpace(rest), ",") {
		if hex, ok := strings.CutPrefix(one, "sha256="); ok {
			sum = hex
		}
	}
	return g, sum, nil
}
