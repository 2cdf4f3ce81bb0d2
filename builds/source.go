package builds

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"time"

	"vmst.io/refit/builds/attest"
	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/node"
)

// SourceIn asks a host to prove a release's source by itself.
type SourceIn struct {
	// Home is the directory that holds releases.
	Home    string  `json:"home"`
	Version Version `json:"version"`
	// Elsewhere are paths in whose place a release on a node has something else: shared
	// links and what Mastodon writes to.
	Elsewhere []string `json:"elsewhere,omitempty"`
}

// SourceOut is what the files say.
type SourceOut struct {
	// Tag is what the release was checked out from.
	Tag git.Tag `json:"tag"`
	// Tree is git's tree hash, computed from the files as they lie there; it is the
	// tag's if none of them differs.
	Tree string `json:"tree"`
	// Files are the tracked ones; Elsewhere of them lie in other places on a node and
	// were taken to be as the tag has them.
	Files     int `json:"files"`
	Elsewhere int `json:"elsewhere,omitempty"`
	// Differences are the tracked files that are not as the tag has them, at most 100.
	Differences []git.Difference `json:"differences,omitempty"`
	More        int              `json:"more,omitempty"`
	// Builder, Started, Finished and Run say how the release came to be; zero where it
	// has no provenance.
	Builder  string    `json:"builder,omitempty"`
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	Run      string    `json:"run,omitempty"`
	// Provenance tells in what that is not of this release; empty if it is.
	Provenance string `json:"provenance,omitempty"`
}

// ReadSourceOn asks a host for the tree hash of what lies in a release there. It changes
// nothing. A release without the record of its source gives node.ErrNotFound.
func ReadSourceOn(ctx context.Context, h Host, in SourceIn) (SourceOut, error) {
	var out SourceOut
	err := h.Call(ctx, "source.show", in, nil, &out, nil)
	return out, err
}

func sourceShow(ctx context.Context, in SourceIn) (SourceOut, error) {
	dir := path.Join(in.Home, "releases", in.Version.String())
	src, err := ReadSource(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return SourceOut{}, node.Failf(node.CodeNotFound, "%s has no record of its source (%s)", dir, sourceFile)
	}
	if err != nil {
		return SourceOut{}, err
	}
	out := SourceOut{Tag: src.Tag, Files: len(src.Files)}
	elsewhere := func(file string) bool {
		for _, e := range in.Elsewhere {
			if file == e || strings.HasPrefix(file, e+"/") {
				return true
			}
		}
		return false
	}
	for _, f := range src.Files {
		if elsewhere(f.Path) {
			out.Elsewhere++
		}
	}
	if out.Tree, out.Differences, err = git.CompareBut(ctx, dir, src.Files, elsewhere); err != nil {
		return out, err
	}
	if n := len(out.Differences); n > 100 {
		out.Differences, out.More = out.Differences[:100], n-100
	}
	return out, out.provenance(dir)
}

// provenance reads what a release says of how it came to be, and holds that to its
// manifest.
func (out *SourceOut) provenance(dir string) error {
	var s attest.Statement
	err := readJSON(filepath.Join(dir, provenanceFile), &s)
	if errors.Is(err, fs.ErrNotExist) {
		out.Provenance = "it says nothing of how it was built"
		return nil
	}
	if err != nil {
		out.Provenance = fmt.Sprintf("cannot read %s: %v", provenanceFile, err)
		return nil
	}
	m, _, err := node.ReadManifest(dir)
	if err != nil {
		return err
	}
	tree, _ := treeOf(m.Files)
	if err := s.Check(m.Release, tree, m.Commit, m.Tree); err != nil {
		out.Provenance = fmt.Sprintf("%s: %v", provenanceFile, err)
		return nil
	}
	run := s.Predicate.RunDetails
	out.Builder, out.Run = run.Builder.ID, run.Metadata.InvocationID
	out.Started, out.Finished = run.Metadata.StartedOn, run.Metadata.FinishedOn
	return nil
}
