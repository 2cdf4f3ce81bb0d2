package builds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/node"
)

// Files below .refit of a release.
const (
	markFile   = ".refit/unfinished" // the mark of a build in work
	sourceFile = ".refit/source.json"
	recipeFile = ".refit/recipe.json"
	// What the build says of itself: how it came to be, and what it is made of.
	provenanceFile = ".refit/provenance.json"
	billFile       = ".refit/sbom.json"
)

// mark stands in a release while it is built, from its first moment to its last.
type mark struct {
	Recipe  string    `json:"recipe"`
	Run     string    `json:"run"`
	Started time.Time `json:"started"`
}

// Source is what a release was checked out from: its tag and every tracked
// file, so that a host can prove the release unmodified by itself.
type Source struct {
	Tag   git.Tag    `json:"tag"`
	Files []git.File `json:"files"`
}

// ReadSource reads the Source of a release's directory.
func ReadSource(dir string) (Source, error) {
	var s Source
	if err := readJSON(filepath.Join(dir, sourceFile), &s); err != nil {
		return Source{}, fmt.Errorf("cannot read what %s was built from: %w", dir, err)
	}
	return s, nil
}

// recipeRecord is kept in a release: by what it was built.
type recipeRecord struct {
	Digest     string    `json:"digest"`
	Toolchain  Toolchain `json:"toolchain"`
	Departures []string  `json:"departures,omitempty"`
}

func readJSON(file string, into any) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

// writeJSON writes a file and makes it durable.
func writeJSON(file string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	return errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
}

// State is what lies in a release's directory on the builder.
type State string

// The states of a release's directory.
const (
	// Absent: nothing lies there.
	Absent State = "absent"
	// Unfinished: a build was begun and did not end. It is begun again from nothing.
	Unfinished State = "unfinished"
	// Whole: a finished build; Recipe tells by which recipe.
	Whole State = "whole"
	// Damaged: a finished build whose files are not what its manifest says. It is built again.
	Damaged State = "damaged"
	// Foreign: a directory that refit did not build. It is never touched.
	Foreign State = "foreign"
)

// LookIn asks what lies in a release's directory.
type LookIn struct {
	Layout  Layout  `json:"layout"`
	Version Version `json:"version"`
	// Verify: a whole build's files are hashed again.
	Verify bool `json:"verify"`
}

// LookOut is what lies there.
type LookOut struct {
	State State `json:"state"`
	// Recipe is the digest of the recipe that it was, or was to be, built by.
	Recipe string `json:"recipe,omitempty"`
	// Live: it is what runs on this host.
	Live bool `json:"live,omitempty"`
	// Manifest of a Whole build, and its signature, empty for none.
	Manifest  *node.Head `json:"manifest,omitempty"`
	Signature []byte     `json:"signature,omitempty"`
	// Unverified says what of a Whole build was held to no checksum of the release's own.
	Unverified []string `json:"unverified,omitempty"`
	// Differences of a Damaged one, the first ten.
	Differences []string `json:"differences,omitempty"`
}

func look(ctx context.Context, in LookIn) (LookOut, error) {
	dir := in.Layout.Dir(in.Version)
	out := LookOut{State: Absent}
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return out, nil
	} else if err != nil {
		return out, fmt.Errorf("cannot look at %s: %w", dir, err)
	}
	if to, err := filepath.EvalSymlinks(filepath.Join(in.Layout.Home, "live")); err == nil {
		out.Live = to == dir
	}
	var m mark
	switch err := readJSON(filepath.Join(dir, markFile), &m); {
	case err == nil:
		out.State, out.Recipe = Unfinished, m.Recipe
		return out, nil
	case !errors.Is(err, fs.ErrNotExist):
		out.State = Unfinished // a mark cut short is a mark
		return out, nil
	}
	var rec recipeRecord
	manifest, head, err := node.ReadManifest(dir)
	if recErr := readJSON(filepath.Join(dir, recipeFile), &rec); err != nil || recErr != nil {
		out.State = Foreign
		return out, nil
	}
	out.State, out.Recipe, out.Manifest, out.Unverified = Whole, rec.Digest, &head, manifest.Unverified
	if out.Signature, err = node.ReadSignature(dir); err != nil {
		return out, fmt.Errorf("cannot read the signature of %s: %w", dir, err)
	}
	if !in.Verify {
		return out, nil
	}
	differences, err := manifest.Compare(ctx, dir)
	if err != nil {
		return out, fmt.Errorf("cannot verify %s: %w", dir, err)
	}
	if len(differences) > 0 {
		out.State = Damaged
		for _, d := range differences[:min(10, len(differences))] {
			out.Differences = append(out.Differences, d.String())
		}
	}
	return out, nil
}
