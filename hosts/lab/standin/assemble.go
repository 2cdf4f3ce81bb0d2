package standin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Options say what Assemble does beyond its source and its target.
type Options struct {
	// Source is the folder with tags.json and tags (testdata/mastodon).
	Source string
	// Target is the bare repository to make; nothing may be there yet.
	Target string
	// Relock brings Gemfile.lock in dir, a release's whole tree, in line with the
	// gems that can be had. It is called once for each pair of gems asked for and
	// Gemfile.lock, first for the first release. Nil keeps the lock files as they
	// are in Source.
	//
	// The lock names the versions that Debian's packages had when it was written;
	// security updates move them, and a frozen install takes no other.
	Relock func(ctx context.Context, dir string) error
	// Repin changes what the release in dir, a whole tree, pins. Nil keeps the pins as
	// they are in Source.
	Repin func(dir string) error
}

// ErrTargetExists is returned when the repository to make is already there. It is
// not touched then; to make it anew, remove it first.
var ErrTargetExists = errors.New("it is already there")

// Assemble makes the bare git repository dst from src, with the lock files as
// they are.
func Assemble(ctx context.Context, src, dst string) error {
	return AssembleWith(ctx, Options{Source: src, Target: dst})
}

// AssembleWith makes the bare git repository that o describes: per release one
// commit on top of its base's and one annotated tag, and a branch "main" that ends
// with the last good release. The repository appears as a whole or not at all.
func AssembleWith(ctx context.Context, o Options) error {
	tags, err := Tags(o.Source)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(o.Target); err == nil {
		return fmt.Errorf("cannot make the repository %s: %w", o.Target, ErrTargetExists)
	}
	work, err := os.MkdirTemp(filepath.Dir(o.Target), ".standin-")
	if err != nil {
		return fmt.Errorf("cannot make the repository %s: %w", o.Target, err)
	}
	a := assembler{options: o, work: work, git: repository{dir: filepath.Join(work, "git")}, commits: map[string]string{}, locks: map[lockKey][]byte{}}
	err = a.run(ctx, tags)
	if gone := os.RemoveAll(work); err == nil && gone != nil {
		err = fmt.Errorf("cannot remove %s: %w", work, gone)
	}
	return err
}

type assembler struct {
	options Options
	// work holds the repository while it is made and each release's whole tree.
	work    string
	git     repository
	commits map[string]string
	locks   map[lockKey][]byte
}

func (a *assembler) run(ctx context.Context, tags []Tag) error {
	if err := a.git.create(ctx); err != nil {
		return err
	}
	for _, tag := range tags {
		if err := a.release(ctx, tag); err != nil {
			return fmt.Errorf("cannot assemble %s: %w", tag.Name, err)
		}
	}
	if err := a.git.finish(ctx, a.commits[lastGood(tags)]); err != nil {
		return err
	}
	if err := os.Rename(a.git.dir, a.options.Target); err != nil {
		return fmt.Errorf("cannot make the repository %s: %w", a.options.Target, err)
	}
	return nil
}

func lastGood(tags []Tag) string {
	for i := len(tags) - 1; i > 0; i-- {
		if tags[i].Good() {
			return tags[i].Name
		}
	}
	return tags[0].Name
}

func (a *assembler) tree(name string) string { return filepath.Join(a.work, name) }

func (a *assembler) release(ctx context.Context, tag Tag) error {
	tree := a.tree(tag.Name)
	if tag.Base != "" {
		if err := overlay(a.tree(tag.Base), tree); err != nil {
			return err
		}
	}
	if err := overlay(filepath.Join(a.options.Source, "tags", tag.Name), tree); err != nil {
		return err
	}
	for _, name := range tag.Remove {
		if err := os.Remove(filepath.Join(tree, filepath.FromSlash(name))); err != nil {
			return fmt.Errorf("cannot remove what the release no longer has: %w", err)
		}
	}
	if err := setVersion(filepath.Join(tree, "lib/mastodon/version.rb"), tag.Numbers()); err != nil {
		return err
	}
	if a.options.Repin != nil {
		if err := a.options.Repin(tree); err != nil {
			return err
		}
	}
	if err := a.relock(ctx, tree); err != nil {
		return err
	}
	commit, err := a.git.commit(ctx, tree, tag, a.commits[tag.Base])
	a.commits[tag.Name] = commit
	return err
}

// overlay copies the tree from over the tree to: files, which of them may be
// executed, and symlinks.
func overlay(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case entry.IsDir():
			return os.MkdirAll(target, 0o755)
		case entry.Type() == fs.ModeSymlink:
			return copyLink(path, target)
		case entry.Type().IsRegular():
			return copyFile(path, target, entry)
		default:
			return fmt.Errorf("%s is neither file nor folder nor symlink", path)
		}
	})
}

func copyLink(from, to string) error {
	where, err := os.Readlink(from)
	if err != nil {
		return err
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(where, to)
}

func copyFile(from, to string, entry fs.DirEntry) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(to, data, mode); err != nil {
		return err
	}
	return os.Chmod(to, mode)
}
