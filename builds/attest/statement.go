package attest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The types that stand in a statement (in-toto attestation framework, v1; SLSA, v1).
const (
	StatementType = "https://in-toto.io/Statement/v1"
	PredicateType = "https://slsa.dev/provenance/v1"
	// BuildType says what the parameters mean: docs/builds.md of refit.
	BuildType = "https://vmst.io/refit/builds/v1"
)

// Statement says of a release how it was built.
type Statement struct {
	Type          string     `json:"_type"`
	Subject       []Resource `json:"subject"`
	PredicateType string     `json:"predicateType"`
	Predicate     Provenance `json:"predicate"`
}

// Resource is something with a digest (in-toto's ResourceDescriptor).
type Resource struct {
	Name        string            `json:"name,omitempty"`
	URI         string            `json:"uri,omitempty"`
	Digest      map[string]string `json:"digest,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Provenance is SLSA's predicate.
type Provenance struct {
	BuildDefinition BuildDefinition `json:"buildDefinition"`
	RunDetails      RunDetails      `json:"runDetails"`
}

// BuildDefinition is what was to be built, and from what.
type BuildDefinition struct {
	BuildType string `json:"buildType"`
	// ExternalParameters are what whoever started the build chose.
	ExternalParameters External `json:"externalParameters"`
	// InternalParameters are what refit made of it.
	InternalParameters Internal `json:"internalParameters"`
	// ResolvedDependencies are the materials: the source, the tools, the lock files.
	ResolvedDependencies []Resource `json:"resolvedDependencies"`
}

// External is what whoever started the build chose.
type External struct {
	Repository string `json:"repository"`
	Tag        string `json:"tag"`
	// Departures from what the tag asks for, one line each.
	Departures []string `json:"departures,omitempty"`
	// Mirrors are what was fetched from instead of the public registries, by kind.
	Mirrors map[string]string `json:"mirrors,omitempty"`
}

// Internal is what refit made of it.
type Internal struct {
	// Recipe is the digest of the recipe.
	Recipe string `json:"recipe"`
	// Steps are those that were run, in order. Kept are the parts of the release that an
	// earlier build made, so that the steps that make them were not.
	Steps []Step `json:"steps"`
	Kept  []Kept `json:"kept,omitempty"`
}

// Kept is a part that an earlier build on the same host had made.
type Kept struct {
	// Name is the part's: "bundle", "packages", "assets", "streaming".
	Name string `json:"name"`
	// Release is the one that it was made for, Made when.
	Release string    `json:"release"`
	Made    time.Time `json:"made"`
	// Mirrors are what was fetched from for it instead of the public registries.
	Mirrors map[string]string `json:"mirrors,omitempty"`
}

// Step is one command of the build.
type Step struct {
	Name string   `json:"name"`
	Argv []string `json:"argv"`
	// Network: the step had one.
	Network bool `json:"network"`
}

// RunDetails is who built it, and when.
type RunDetails struct {
	Builder    Builder       `json:"builder"`
	Metadata   BuildMetadata `json:"metadata"`
	Byproducts []Resource    `json:"byproducts,omitempty"`
}

// Builder is the host that built it and the refit that ran there.
type Builder struct {
	ID string `json:"id"`
	// Version is refit's, and the system's.
	Version map[string]string `json:"version,omitempty"`
	// Dependencies are refit's own program.
	Dependencies []Resource `json:"builderDependencies,omitempty"`
}

// BuildMetadata is one run.
type BuildMetadata struct {
	InvocationID string    `json:"invocationId"`
	StartedOn    time.Time `json:"startedOn"`
	FinishedOn   time.Time `json:"finishedOn"`
}

// Tree names a directory of files by in-toto's dirHash: the SHA-256 of what sha256sum
// prints of every regular file, in the order of their names' bytes.
type Tree struct{ lines strings.Builder }

// Add adds a file, by its path and the SHA-256 of its content in hex. Files are added in
// rising order of path.
func (t *Tree) Add(path, sum string) {
	t.lines.WriteString(sum + "  " + path + "\n")
}

// Digest is the dirHash.
func (t *Tree) Digest() string {
	sum := sha256.Sum256([]byte(t.lines.String()))
	return hex.EncodeToString(sum[:])
}

// dirHash is the key of a Tree's digest.
const dirHash = "dirHash"

// NewStatement makes the statement of a release whose files have a digest.
func NewStatement(name, tree string, p Provenance) Statement {
	p.BuildDefinition.BuildType = BuildType
	return Statement{
		Type: StatementType, PredicateType: PredicateType, Predicate: p,
		Subject: []Resource{{Name: name, Digest: map[string]string{dirHash: tree}}},
	}
}

// Check tells what a statement does not say of the release that it should be of: its
// files, its source.
func (s Statement) Check(name, tree, commit, sourceTree string) error {
	if s.Type != StatementType || s.PredicateType != PredicateType || s.Predicate.BuildDefinition.BuildType != BuildType {
		return fmt.Errorf("it is no statement of a build of refit's (%s, %s, %s)", s.Type, s.PredicateType, s.Predicate.BuildDefinition.BuildType)
	}
	if len(s.Subject) != 1 || s.Subject[0].Name != name {
		return fmt.Errorf("it is not of %s", name)
	}
	if got := s.Subject[0].Digest[dirHash]; got != tree {
		return fmt.Errorf("it is of other files (%.12s) than the manifest lists (%.12s)", got, tree)
	}
	for _, r := range s.Predicate.BuildDefinition.ResolvedDependencies {
		if r.Digest["gitCommit"] == commit && r.Digest["gitTree"] == sourceTree {
			return nil
		}
	}
	return errors.New("it names another source than the manifest")
}
