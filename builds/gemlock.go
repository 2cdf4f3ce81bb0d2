package builds

import (
	"errors"
	"fmt"
	"strings"

	"vmst.io/refit/builds/attest"
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

// ReadGemLock reads a Gemfile.lock.
func ReadGemLock(text string) (GemLock, error) {
	lock, err := attest.ReadLock(text)
	if err != nil {
		return GemLock{}, err
	}
	if !pinned.MatchString(lock.Bundler) {
		return GemLock{}, fmt.Errorf("cannot read Gemfile.lock: it is bundled with %q, which is no version", lock.Bundler)
	}
	l := GemLock{Local: lock.Local, Bundler: lock.Bundler}
	for _, s := range lock.Git {
		if s.Remote == "" || s.Revision == "" {
			return GemLock{}, errors.New("cannot read Gemfile.lock: a GIT block without remote or revision")
		}
		l.Git = append(l.Git, GitSource{Remote: s.Remote, Revision: s.Revision, Gems: s.Gems})
	}
	for _, g := range lock.Gems {
		if g.Local || g.Revision != "" {
			continue
		}
		// A version has no hyphen (Gem::Version): what follows one is the platform.
		version, platform, _ := strings.Cut(g.Version, "-")
		locked := LockedGem{Name: g.Name, Version: version, Platform: platform, SHA256: g.SHA256}
		if g.Remote != "" {
			locked.Remotes = append([]string{g.Remote}, g.Others...)
		}
		l.Gems = append(l.Gems, locked)
	}
	return l, nil
}
