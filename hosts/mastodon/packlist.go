package mastodon

import (
	"context"
	"fmt"
	"strings"

	"vmst.io/refit/hosts/node"
)

// ListPacksIn names a release.
type ListPacksIn struct {
	Layout  Layout `json:"layout"`
	Release string `json:"release"`
}

// PackList is the hashed assets of a release.
type PackList struct {
	// Root is the release's directory there, Digest its manifest's.
	Root   string `json:"root"`
	Digest string `json:"digest"`
	// Files by their places in the manifest. A file's URL path is its Path without
	// "public".
	Files map[int]node.Entry `json:"files"`
}

// listPacks is the verb "packs.list".
func listPacks(_ context.Context, in ListPacksIn, _ func(string)) (PackList, error) {
	out := PackList{Root: in.Layout.Release(in.Release), Files: map[int]node.Entry{}}
	m, head, err := node.ReadManifest(out.Root)
	if err != nil {
		return out, fmt.Errorf("cannot read the manifest of %s: %w", in.Release, err)
	}
	out.Digest = head.Digest
	for i, e := range m.Files {
		if _, ok := hashedFile(e); ok {
			out.Files[i] = e
		}
	}
	return out, nil
}

// hashedFile tells whether a manifest's entry is a file whose name holds a hash of its
// content, and its path below public.
func hashedFile(e node.Entry) (string, bool) {
	rest, ok := strings.CutPrefix(e.Path, "public/")
	ok = ok && e.Regular() && (strings.HasPrefix(rest, "packs/") || strings.HasPrefix(rest, "assets/")) && !ownFile(rest)
	return rest, ok
}
