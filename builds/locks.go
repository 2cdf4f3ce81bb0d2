package builds

import (
	"fmt"
	"strings"
)

// Locks says how far a release's lock files hold what registries serve.
type Locks struct {
	// Gems is how many gems of registries Gemfile.lock names, GemsHeld for how many
	// of them it has a checksum.
	Gems     int `json:"gems"`
	GemsHeld int `json:"gems_held"`
	// Packages and PackagesHeld are the same of yarn.lock; Platform is how many more are
	// for one platform each, of which yarn.lock has no checksum.
	Packages     int `json:"packages"`
	PackagesHeld int `json:"packages_held"`
	Platform     int `json:"platform,omitempty"`
	// Bootsnap is the locked version of the gem that caches compiled code; empty for none.
	Bootsnap string `json:"bootsnap,omitempty"`
}

// readLocks reads Gemfile.lock and yarn.lock.
func readLocks(t Tree, c *Contents) error {
	text, err := t.text("Gemfile.lock")
	if err != nil {
		return err
	}
	gems, err := ReadGemLock(text)
	if err != nil {
		return err
	}
	c.Pins.Bundler, c.GitSources = gems.Bundler, gems.Git
	for _, g := range gems.Gems {
		c.Locks.Gems++
		if g.SHA256 != "" {
			c.Locks.GemsHeld++
		}
		if g.Name == "bootsnap" {
			c.Locks.Bootsnap = g.Version
		}
	}
	if text, err = t.text("yarn.lock"); err != nil {
		return err
	}
	if !strings.Contains(text, yarnMark) {
		return nil // yarn 1's, of a release that refit does not build but may come from
	}
	packages, err := ReadYarnLock(text)
	if err != nil {
		return err
	}
	for _, p := range packages {
		switch {
		case p.Checksum != "":
			c.Locks.Packages++
			c.Locks.PackagesHeld++
		case p.Conditions != "":
			c.Locks.Platform++
		default:
			c.Locks.Packages++
		}
	}
	return nil
}

// Unverified says before the build, a line each, what of it no checksum of the
// release will hold: what is served is then the registry's word.
func (r Recipe) Unverified() []string {
	var out []string
	l := r.Release.Contents.Locks
	if n := l.Gems - l.GemsHeld; n > 0 {
		out = append(out, fmt.Sprintf("%d of %d gems: Gemfile.lock has no checksum of theirs", n, l.Gems))
	}
	switch n := l.Packages - l.PackagesHeld; {
	case r.Mirrors.YarnChecksums != "" && l.Packages > 0:
		out = append(out, fmt.Sprintf("%d of %d node packages: yarn checksums %s", l.Packages, l.Packages, r.Mirrors.YarnChecksums))
	case n > 0:
		out = append(out, fmt.Sprintf("%d of %d node packages: yarn.lock has no checksum of theirs", n, l.Packages))
	}
	if l.Platform > 0 {
		out = append(out, fmt.Sprintf("node packages that are for one platform each (%d, of which this one's are fetched): yarn.lock has no checksum of theirs", l.Platform))
	}
	if r.Toolchain.Yarn != "" && r.Toolchain.YarnHash == "" {
		out = append(out, fmt.Sprintf("yarn %s: package.json names no hash of it", r.Toolchain.Yarn))
	}
	return append(out, r.Toolchain.Unverified()...)
}
