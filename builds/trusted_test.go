package builds_test

import (
	"slices"
	"testing"

	"vmst.io/refit/builds"
)

func TestAnotherRegistryMakesAnotherReleaseWhereTheLocksDoNotHoldWhatItServes(t *testing.T) {
	const hash = "sha512.00"
	held := builds.Locks{Gems: 2, GemsHeld: 2, Packages: 3, PackagesHeld: 3}
	for name, c := range map[string]struct {
		locks builds.Locks
		yarn  string // what is told of its checksums
		hash  string
		// gems and npm: another registry of that kind makes another release.
		gems, npm bool
	}{
		"all is held":                       {held, "", hash, false, false},
		"a gem is not":                      {builds.Locks{Gems: 2, GemsHeld: 1, Packages: 3, PackagesHeld: 3}, "", hash, true, false},
		"a package is not":                  {builds.Locks{Gems: 2, GemsHeld: 2, Packages: 3, PackagesHeld: 2}, "", hash, false, true},
		"packages of one platform each":     {builds.Locks{Gems: 2, GemsHeld: 2, Packages: 3, PackagesHeld: 3, Platform: 1}, "", hash, false, true},
		"yarn is told to look at no checks": {held, "ignore", hash, false, true},
		"yarn is not":                       {held, "", "", false, true},
	} {
		digest := func(m builds.Mirrors) string {
			m.YarnChecksums = c.yarn
			r := builds.Recipe{Layout: builds.DefaultLayout(), Mirrors: m, Toolchain: builds.Toolchain{YarnHash: c.hash}}
			r.Release.Contents.Locks = c.locks
			d, err := r.Digest()
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		base := digest(builds.Mirrors{Gems: "https://a.example", NPM: "https://b.example"})
		if got := digest(builds.Mirrors{Gems: "https://c.example", NPM: "https://b.example"}) != base; got != c.gems {
			t.Errorf("%s: another gem registry makes another release: %v", name, got)
		}
		if got := digest(builds.Mirrors{Gems: "https://a.example", NPM: "https://d.example"}) != base; got != c.npm {
			t.Errorf("%s: another npm registry makes another release: %v", name, got)
		}
		if digest(builds.Mirrors{Gems: "https://a.example/", NPM: "https://b.example/"}) != base {
			t.Errorf("%s: a slash at the end makes another release", name)
		}
	}
}

func TestWhatAnotherRegistryServedIsNotKeptForThisOne(t *testing.T) {
	w := newWorld(t) // its lock has no checksum of its gem, and its package.json no hash of yarn
	w.build(w.recipe())
	r := w.recipe()
	r.Mirrors.Gems += "/other"
	w.host.started = nil
	if built := w.build(r); !slices.Contains(w.jobs(), "gems") || !slices.Contains(w.jobs(), "assets") || slices.Contains(built.Kept, builds.Bundle) {
		t.Errorf("ran %q, kept %q", w.jobs(), built.Kept)
	}
	w.said = nil
	r = w.recipe()
	r.Mirrors.NPM += "/other"
	// There is no yarn, so that it is asked for one is seen by its end.
	if err := w.fails(r); !w.heard("bundle: made from the same for v4.5.15") || w.heard("assets: made from the same") || w.heard("packages: made from the same") {
		t.Errorf("said %q: %v", w.said, err)
	}
}
