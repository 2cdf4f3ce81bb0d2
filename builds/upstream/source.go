// Package upstream is the repository that releases come from, as the operator's
// machine sees it: it resolves tags and reads what they say. What it fetched
// stays in a cache.
package upstream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/git"
)

// repository is a copy of upstream's, here or to be fetched.
type repository interface {
	Tags(ctx context.Context) ([]string, error)
	Tag(ctx context.Context, name string) (git.Tag, error)
	Commit(ctx context.Context, name, hash string) (git.Tag, error)
	Files(t git.Tag) ([]git.File, error)
	Read(t git.Tag, path string) ([]byte, error)
	Diff(from, to git.Tag) ([]git.Change, error)
	Patch(from, to git.Tag, path string) (string, error)
}

// Source is upstream's repository.
type Source struct {
	repository repository
	url        string
	commits    Commits
}

// Open opens the cache of the repository that opts name; it asks nothing of the
// repository yet. An empty opts.Dir is a folder of the user's cache, one for each URL.
func Open(opts git.Options) (*Source, error) {
	if opts.Dir == "" {
		dir, err := cacheFolder("upstream")
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256([]byte(git.Apply(opts.InsteadOf, opts.URL)))
		opts.Dir = filepath.Join(dir, hex.EncodeToString(sum[:8]))
	}
	m, err := git.Open(opts)
	if err != nil {
		return nil, err
	}
	return &Source{repository: m, url: m.URL()}, nil
}

// Clone is a source that lies on this machine. Close it.
type Clone struct {
	*Source
	io.Closer
}

// OpenClone opens a clone of upstream's repository that lies in dir; nothing is
// fetched and nothing is written there.
func OpenClone(dir string) (*Clone, error) {
	c, err := git.OpenClone(dir)
	if err != nil {
		return nil, err
	}
	return &Clone{&Source{repository: c, url: dir}, c}, nil
}

// cacheFolder is a folder of refit's part of the user's cache.
func cacheFolder(name string) (string, error) {
	cache, err := os.UserCacheDir() // heeds XDG_CACHE_HOME
	if err != nil {
		return "", fmt.Errorf("cannot find a place for what is kept of upstream: %w; set XDG_CACHE_HOME", err)
	}
	return filepath.Join(cache, "refit", name), nil
}

// Tags lists the releases that upstream has tagged, or those whose commits are
// named, the newest version first. Tags that are no versions are left out.
func (s *Source) Tags(ctx context.Context) ([]builds.Version, error) {
	names := s.commits.names()
	if s.commits.byVersion == nil {
		var err error
		if names, err = s.repository.Tags(ctx); err != nil {
			return nil, err
		}
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
	tag, err := s.resolve(ctx, v)
	if err != nil {
		return builds.Release{}, err
	}
	return s.read(ctx, v, tag)
}

// read reads what a resolved tag's tree says.
func (s *Source) read(ctx context.Context, v builds.Version, tag git.Tag) (builds.Release, error) {
	tree, err := s.tree(ctx, tag)
	if err != nil {
		return builds.Release{}, err
	}
	contents, err := builds.ReadContents(tree)
	if err != nil {
		return builds.Release{}, fmt.Errorf("cannot read %s of %s: %w", v, s.url, err)
	}
	if contents.Version.Compare(v) != 0 {
		return builds.Release{}, fmt.Errorf("%w: %s of %s holds version %s; it is not built", builds.ErrVersion, v, s.url, contents.Version)
	}
	return builds.Release{Version: v, Tag: tag, Contents: contents}, nil
}

// resolve finds a release's commit: by its tag, or where commits are named by those alone.
func (s *Source) resolve(ctx context.Context, v builds.Version) (git.Tag, error) {
	if s.commits.byVersion == nil {
		return s.repository.Tag(ctx, v.String())
	}
	named, err := s.commits.of(v)
	if err != nil {
		return git.Tag{}, err
	}
	tag, err := s.repository.Commit(ctx, v.String(), named.hash)
	if err != nil {
		return git.Tag{}, err
	}
	if named.tree != "" && tag.Tree != named.tree {
		return git.Tag{}, fmt.Errorf("commit %s of %s has tree %s, and %s says that %s is tree %s: one of the two is not what it says it is",
			named.hash, s.url, tag.Tree, s.commits.file, v, named.tree)
	}
	return tag, nil
}

// tree gives a release's files, which are read as long as ctx lives: there are thousands.
func (s *Source) tree(ctx context.Context, tag git.Tag) (builds.Tree, error) {
	files, err := s.repository.Files(tag)
	if err != nil {
		return builds.Tree{}, err
	}
	return builds.Tree{Files: files, Read: func(p string) ([]byte, error) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return s.repository.Read(tag, p)
	}}, nil
}

// Facets compares two releases that Tag returned.
func (s *Source) Facets(_ context.Context, from, to builds.Release) (builds.Facets, error) {
	changes, err := s.repository.Diff(from.Tag, to.Tag)
	if err != nil {
		return builds.Facets{}, err
	}
	return builds.Compare(from.Contents, to.Contents, changes), nil
}
