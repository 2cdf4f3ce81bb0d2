package builds

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// fetchedFile lies in a release: what registries served for it.
const fetchedFile = ".refit/fetched.json"

// Held says to what a thing that was fetched was held.
type Held string

// What things are held to.
const (
	// HeldToLock: a checksum that the release itself has, or a commit's hash.
	HeldToLock Held = "lock"
	// HeldToRegistry: only to what the registry says of it itself.
	HeldToRegistry Held = "registry"
	// HeldToNothing: there is no checksum of it anywhere.
	HeldToNothing Held = "nothing"
)

// Fetched is a thing that was fetched for a build.
type Fetched struct {
	// Kind is "gem", "git", "npm" or "yarn".
	Kind    string `json:"kind"`
	Name    string `json:"name"`
	Version string `json:"version"`
	// Platform of a gem that is not Ruby's alone.
	Platform string `json:"platform,omitempty"`
	// From is the registry or repository, as the lock file names it.
	From string `json:"from,omitempty"`
	// SHA256 of a gem's file or SHA512 of yarn.js, in hex; Checksum is yarn's own of a
	// node package, Commit a repository's.
	SHA256   string `json:"sha256,omitempty"`
	SHA512   string `json:"sha512,omitempty"`
	Checksum string `json:"checksum,omitempty"`
	Commit   string `json:"commit,omitempty"`
	Held     Held   `json:"held"`
}

// Fetches is what was fetched for a part of a build, or for a release.
type Fetches struct {
	// Counts is how many things there are of each kind.
	Counts map[string]int `json:"counts"`
	// Items are all of them but node packages that yarn.lock holds, sorted, so that two
	// builds list them in the same way.
	Items []Fetched `json:"items"`
}

// add puts another list's things in.
func (f *Fetches) add(g Fetches) {
	if f.Counts == nil {
		f.Counts = map[string]int{}
	}
	for kind, n := range g.Counts {
		f.Counts[kind] += n
	}
	f.Items = append(f.Items, g.Items...)
	slices.SortFunc(f.Items, func(a, b Fetched) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name), strings.Compare(a.Version, b.Version), strings.Compare(a.Platform, b.Platform))
	})
}

// count adds things one by one.
func (f *Fetches) count(items ...Fetched) {
	counts := map[string]int{}
	for _, i := range items {
		counts[i.Kind]++
	}
	f.add(Fetches{Counts: counts, Items: items})
}

// ReadFetches reads what was fetched for the release in dir.
func ReadFetches(dir string) (Fetches, error) {
	var f Fetches
	if err := readJSON(filepath.Join(dir, fetchedFile), &f); err != nil {
		return Fetches{}, fmt.Errorf("cannot read what was fetched for %s: %w", dir, err)
	}
	return f, nil
}

// kinds are the words for one and many of a kind, and for what held none of its own.
var kinds = []struct{ kind, one, many, registry, nothing string }{
	{"gem", "gem", "gems", "Gemfile.lock has no checksum, the registry's own index has", "neither Gemfile.lock nor the registry has a checksum"},
	{"npm", "node package", "node packages", "", "yarn.lock has no checksum, or yarn is told not to check, and it asks for no other"},
	{"yarn", "yarn", "yarn", "package.json has no hash, the registry has its own", ""},
}

// Unverified says, a line each, what of it was held to no checksum of the release.
func (f Fetches) Unverified() []string {
	var out []string
	for _, k := range kinds {
		all := f.Counts[k.kind]
		var registry, nothing []string
		for _, i := range f.Items {
			switch {
			case i.Kind != k.kind:
			case i.Held == HeldToRegistry:
				registry = append(registry, i.Name+" "+i.Version)
			case i.Held == HeldToNothing:
				nothing = append(nothing, i.Name+" "+i.Version)
			}
		}
		for _, g := range []struct {
			names []string
			held  string
		}{{registry, k.registry}, {nothing, k.nothing}} {
			if len(g.names) == 0 {
				continue
			}
			which := ""
			if len(g.names) < all || all == 1 {
				which = ": " + strings.Join(g.names[:min(5, len(g.names))], ", ")
				if more := len(g.names) - 5; more > 0 {
					which += fmt.Sprintf(" and %d more", more)
				}
			}
			words := k.many
			if all == 1 {
				words = k.one
			}
			out = append(out, fmt.Sprintf("%d of %d %s: %s%s", len(g.names), all, words, g.held, which))
		}
	}
	return out
}

// partFetches is where a part's list lies while the release is built. What yarn
// fetches, it fetches for both of its parts.
func partFetches(dir string, k Kind) string {
	if k == Streaming {
		k = Packages
	}
	return filepath.Join(dir, ".refit", "fetched-"+string(k)+".json")
}

// gatherFetches joins the parts' lists into the release's.
func gatherFetches(dir string) (Fetches, error) {
	all := Fetches{Counts: map[string]int{}, Items: []Fetched{}}
	for _, k := range []Kind{Bundle, Packages} {
		var part Fetches
		file := partFetches(dir, k)
		if err := readJSON(file, &part); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return all, err
		}
		all.add(part)
		if err := os.Remove(file); err != nil {
			return all, err
		}
	}
	return all, writeJSON(filepath.Join(dir, fetchedFile), all)
}
