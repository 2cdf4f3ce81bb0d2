// Package upstream is the repository that releases come from, as the operator's
// machine sees it: it resolves tags and reads what they say. What it fetched
// stays in a cache.
package upstream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/git"
)

// Source is upstream's repository.
type Source struct {
	mirror *git.Mirror
	url    string
}

// Open opens the cache of the repository that opts name; it asks nothing of the
// repository yet. An empty opts.Dir is a folder of the user's cache, one for each URL.
func Open(opts git.Options) (*Source, error) {
	if opts.Dir == "" {
		cache, err := os.UserCacheDir() // heeds XDG_CACHE_HOME
		if err != nil {
			return nil, fmt.Errorf("cannot find a place for upstream's cache: %w; set XDG_CACHE_HOME", err)
		}
		sum := sha256.Sum256([]byte(git.Apply(opts.InsteadOf, opts.URL)))
		opts.Dir = filepath.Join(cache, "refit", "upstream", hex.EncodeToString(sum[:8]))
	}
	m, err := git.Open(opts)
	if err != nil {
		return nil, err
	}
	return &Source{mirror: m, url: opts.URL}, nil
}

// Tags lists the releases that upstream has tagged, the newest version first.
// Tags that are no versions are left out.
func (s *Source) Tags(ctx context.Context) ([]builds.Version, error) {
	names, err := s.mirror.Tags(ctx)
	if err != nil {
		return nil, err
	}
	var out []builds.Version
	for _, n := range names {
		if v, err := builds.ParseVersion(n); err == nil && n[0] == 'v' {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b builds.Version) int { return b.Compare(a) })
	return out, nil
}

// Tag resolves a release and reads what its tree says. A tag that does not
// exist gives git.ErrNoTag with the nearest names, one whose version file says
// another version builds.ErrVersion.
func (s *Source) Tag(ctx context.Context, v builds.Version) (builds.Release, error) {
	tag, err := s.mirror.Tag(ctx, v.String())
	if err != nil {
		return builds.Release{}, err
	}
	files, err := s.mirror.Files(tag)
	if err != nil {
		return builds.Release{}, err
	}
	contents, err := builds.ReadContents(builds.Tree{Files: files, Read: func(p string) ([]byte, error) { return s.mirror.Read(tag, p) }})
	if err != nil {
		return builds.Release{}, fmt.Errorf("cannot read %s of %s: %w", v, s.url, err)
	}
	if contents.Version.Compare(v) != 0 {
		return builds.Release{}, fmt.Errorf("%w: %s of %s holds version %s; it is not built", builds.ErrVersion, v, s.url, contents.Version)
	}
	return builds.Release{Version: v, Tag: tag, Contents: contents}, nil
}

// Facets compares two releases that Tag returned.
func (s *Source) Facets(_ context.Context, from, to builds.Release) (builds.Facets, error) {
	changes, err := s.mirror.Diff(from.Tag, to.Tag)
	if err != nil {
		return builds.Facets{}, err
	}
	return builds.Compare(from.Contents, to.Contents, changes), nil
}
