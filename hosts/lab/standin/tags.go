// Package standin assembles the stand-in upstream: a small Rails application with
// Mastodon's operational surface, kept in testdata/mastodon as one full tree and
// overlays, made into a git repository with a commit and a tag for each release.
// The same source gives the same commits on every machine.
package standin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// Tag is one release of the stand-in, as tags.json tells it.
type Tag struct {
	// Name with its leading v: "v4.5.2".
	Name string `json:"name"`
	// Base is the release that this one's overlay is applied to and whose commit is
	// its commit's parent; empty for the first.
	Base string `json:"base,omitempty"`
	// Date of commit and tag, a day.
	Date string `json:"date"`
	// Broken names the one way in which the release fails: "does-not-boot"; empty
	// for a good one.
	Broken string `json:"broken,omitempty"`
	// About says in words what the release holds.
	About string `json:"about"`
	// Remove lists the base's files that the release no longer has.
	Remove []string `json:"remove,omitempty"`
}

// Good says whether the release is one that can be upgraded to.
func (t Tag) Good() bool { return t.Broken == "" }

// Numbers returns the three parts of the release's version.
func (t Tag) Numbers() [3]string {
	m := tagName.FindStringSubmatch(t.Name)
	return [3]string{m[1], m[2], m[3]}
}

var tagName = regexp.MustCompile(`^v(\d+)\.(\d+)\.(\d+)$`)

// Tags reads the table of releases in src (testdata/mastodon), in the order in
// which they are assembled. A base stands before what is built on it, and each
// release has its folder under tags, and no folder is without its release.
func Tags(src string) ([]Tag, error) {
	file := filepath.Join(src, "tags.json")
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read the table of releases: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var tags []Tag
	if err := decoder.Decode(&tags); err != nil {
		return nil, fmt.Errorf("cannot read the table of releases: %s: %w", file, err)
	}
	known := map[string]bool{}
	for i, tag := range tags {
		if err := tag.check(i == 0, known); err != nil {
			return nil, fmt.Errorf("cannot use the table of releases: %s: %w", file, err)
		}
		known[tag.Name] = true
	}
	if len(tags) == 0 {
		return nil, fmt.Errorf("cannot use the table of releases: %s lists none", file)
	}
	return tags, checkFolders(filepath.Join(src, "tags"), known)
}

func (t Tag) check(first bool, known map[string]bool) error {
	if !tagName.MatchString(t.Name) {
		return fmt.Errorf("%q is not of the form vX.Y.Z", t.Name)
	}
	if known[t.Name] {
		return fmt.Errorf("%s is listed twice", t.Name)
	}
	if _, err := t.when(); err != nil {
		return fmt.Errorf("%s: %w", t.Name, err)
	}
	if first && t.Base != "" {
		return fmt.Errorf("%s is the first and has a base", t.Name)
	}
	if !first && !known[t.Base] {
		return fmt.Errorf("%s: its base %q is not listed before it", t.Name, t.Base)
	}
	return nil
}

func (t Tag) when() (time.Time, error) {
	return time.Parse(time.DateOnly, t.Date)
}

func checkFolders(dir string, known map[string]bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cannot read the releases' folders: %w", err)
	}
	found := map[string]bool{}
	for _, entry := range entries {
		if !known[entry.Name()] {
			return fmt.Errorf("cannot use the releases' folders: %s is not in tags.json", filepath.Join(dir, entry.Name()))
		}
		found[entry.Name()] = true
	}
	for name := range known {
		if !found[name] {
			return fmt.Errorf("cannot use the releases' folders: %s is missing", filepath.Join(dir, name))
		}
	}
	return nil
}
