package toolchain

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/git"
)

// definitionsDir is where ruby-build keeps its definitions.
const definitionsDir = "share/ruby-build/"

// rubyBuild is ruby-build at one revision, in the builder's cache.
type rubyBuild struct {
	mirror *git.Mirror
	at     git.Tag
}

// openRubyBuild finds the revision in the cache, or fetches it.
func openRubyBuild(ctx context.Context, l builds.Layout, repository, revision string, insteadOf []git.Rewrite) (*rubyBuild, error) {
	m, err := git.Open(git.Options{URL: repository, InsteadOf: insteadOf, Dir: filepath.Join(l.Cache, "ruby-build.git")})
	if err != nil {
		return nil, err
	}
	at, err := m.Commit(ctx, "ruby-build", revision)
	if err != nil {
		return nil, err
	}
	return &rubyBuild{m, at}, nil
}

func (r *rubyBuild) String() string { return "ruby-build " + r.at.Commit[:12] }

// definition reads the definition of a version. A missing one is a refusal.
func (r *rubyBuild) definition(version string) (string, error) {
	if !componentName.MatchString(version) {
		return "", refuse("%q cannot be a version of Ruby", version)
	}
	b, err := r.mirror.Read(r.at, definitionsDir+version)
	if errors.Is(err, git.ErrNoFile) {
		near, err := r.near(version)
		if err != nil {
			return "", err
		}
		return "", refuse("%s has no definition of ruby %s (%s): name a newer commit of ruby-build in refit.yml under toolchain.ruby_build.revision, or put a file %s into the folder that toolchain.ruby_build.definitions names",
			r, version, near, version)
	}
	return string(b), err
}

// near names the newest definitions of the same line.
func (r *rubyBuild) near(version string) (string, error) {
	files, err := r.mirror.Files(r.at)
	if err != nil {
		return "", err
	}
	parts := strings.SplitN(version, ".", 3)
	line := strings.Join(parts[:min(2, len(parts))], ".") + "."
	var have []*semver.Version
	for _, f := range files {
		name, ok := strings.CutPrefix(f.Path, definitionsDir)
		if v, err := semver.StrictNewVersion(name); ok && err == nil && v.Prerelease() == "" && strings.HasPrefix(name, line) {
			have = append(have, v)
		}
	}
	if len(have) == 0 {
		return "it knows none of " + line + "x", nil
	}
	slices.SortFunc(have, func(a, b *semver.Version) int { return b.Compare(a) })
	var names []string
	for _, v := range have[:min(3, len(have))] {
		names = append(names, v.String())
	}
	return "the newest that it has are " + strings.Join(names, ", "), nil
}

// checkout gives the folder with the revision's files, each as the commit has it. Files
// of an earlier checkout are proved again, and written anew if any was changed.
func (r *rubyBuild) checkout(ctx context.Context, l builds.Layout) (string, error) {
	dir := filepath.Join(l.Cache, "ruby-build", r.at.Commit)
	files, err := r.mirror.Files(r.at)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); err == nil {
		tree, different, err := git.Compare(ctx, dir, files)
		if err == nil && len(different) == 0 && tree == r.at.Tree {
			return dir, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("cannot look for ruby-build: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("cannot check out ruby-build: %w", err)
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), ".refit-tmp-*")
	if err != nil {
		return "", fmt.Errorf("cannot check out ruby-build: %w", err)
	}
	err = os.Chmod(temp, 0o755)
	if err == nil {
		_, err = r.mirror.Checkout(ctx, r.at, temp)
	}
	if err == nil {
		err = os.RemoveAll(dir)
	}
	if err == nil {
		err = os.Rename(temp, dir)
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("cannot check out ruby-build: %w", err), os.RemoveAll(temp))
	}
	return dir, nil
}
