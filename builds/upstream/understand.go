package upstream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/git"
)

// Reader understands pairs of releases, and keeps what it understood, so that asking
// again costs no reading. Nothing in it goes stale: commits are named by their
// hashes, and the program that understood is a part of the name as well.
type Reader struct {
	// Dir is the folder; empty for a part of the user's cache.
	Dir string
	// Say is told what kept the result from being kept or found, a line; it fails
	// nothing. Nil for nobody.
	Say func(format string, args ...any)
}

// Understand says what the sources of two releases mean for the way from one to the other.
func (r Reader) Understand(ctx context.Context, s *Source, from, to builds.Version) (builds.Understanding, error) {
	a, err := s.pin(ctx, from)
	if err != nil {
		return builds.Understanding{}, err
	}
	b, err := s.pin(ctx, to)
	if err != nil {
		return builds.Understanding{}, err
	}
	file, err := r.file(from.String(), a.hash, to.String(), b.hash)
	if err != nil {
		return builds.Understanding{}, err
	}
	if u, ok := r.kept(file); ok && a.fits(u.From.Tag) && b.fits(u.To.Tag) {
		return u, nil
	}
	u, err := s.understand(ctx, from, to, a, b)
	if err != nil {
		return builds.Understanding{}, err
	}
	if err := keep(file, u); err != nil {
		r.say("what was read of %s and %s is not kept, so it will be read again next time: %v", from, to, err)
	}
	return u, nil
}

// pin names a release's commit, and its tree where that is known, without
// opening the repository where somebody named them.
func (s *Source) pin(ctx context.Context, v builds.Version) (named, error) {
	if s.commits.byVersion != nil {
		return s.commits.of(v)
	}
	tag, err := s.repository.Tag(ctx, v.String())
	return named{tag.Commit, tag.Tree, tag}, err
}

// fits tells whether a tag is what was named.
func (n named) fits(t git.Tag) bool {
	return t.Commit == n.hash && (n.tree == "" || t.Tree == n.tree)
}

func (s *Source) understand(ctx context.Context, from, to builds.Version, x, y named) (builds.Understanding, error) {
	a, err := s.side(ctx, from, x)
	if err != nil {
		return builds.Understanding{}, err
	}
	b, err := s.side(ctx, to, y)
	if err != nil {
		return builds.Understanding{}, err
	}
	changes, err := s.repository.Diff(a.Release.Tag, b.Release.Tag)
	if err != nil {
		return builds.Understanding{}, err
	}
	u, err := builds.Understand(a, b, builds.Between{
		Changes: changes,
		Patch:   func(path string) (string, error) { return s.repository.Patch(a.Release.Tag, b.Release.Tag, path) },
	})
	if err != nil {
		return builds.Understanding{}, fmt.Errorf("%s: %w", s.url, err)
	}
	return u, ctx.Err()
}

// side reads a release. A tag that was resolved is not asked for again: a server lists
// all that it has, pull requests too, for each question.
func (s *Source) side(ctx context.Context, v builds.Version, n named) (builds.Side, error) {
	if n.tag.Commit == "" {
		var err error
		if n.tag, err = s.resolve(ctx, v); err != nil {
			return builds.Side{}, err
		}
	}
	release, err := s.read(ctx, v, n.tag)
	if err != nil {
		return builds.Side{}, err
	}
	tree, err := s.tree(ctx, n.tag)
	return builds.Side{Release: release, Tree: tree}, err
}

func (r Reader) say(format string, args ...any) {
	if r.Say != nil {
		r.Say(format, args...)
	}
}

// file is where a pair's result lies: by the names and the commits of both.
func (r Reader) file(pair ...string) (string, error) {
	dir := r.Dir
	if dir == "" {
		var err error
		if dir, err = cacheFolder("understood"); err != nil {
			return "", err
		}
	}
	self, err := program()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(self + " " + strings.Join(pair, " ")))
	return filepath.Join(dir, hex.EncodeToString(sum[:16])+".json"), nil
}

// program tells one refit from another, which may read more, or better: by its
// file's path, size and time. Hashing it would take longer than all the rest.
func program() (string, error) {
	name, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("cannot find refit's own program: %w", err)
	}
	info, err := os.Stat(name)
	if err != nil {
		return "", fmt.Errorf("cannot look at refit's own program: %w", err)
	}
	return fmt.Sprintf("%s %d %d", name, info.Size(), info.ModTime().UnixNano()), nil
}

// kept reads what was kept. What cannot be read is read from the source again.
func (r Reader) kept(file string) (builds.Understanding, bool) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return builds.Understanding{}, false
	}
	var u builds.Understanding
	if err == nil {
		err = json.Unmarshal(b, &u)
	}
	if err != nil {
		r.say("what was kept in %s cannot be used and is read again: %v", file, err)
		return builds.Understanding{}, false
	}
	return u, true
}

// keep writes the result whole, under another name first.
func keep(file string, u builds.Understanding) error {
	b, err := json.Marshal(u)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), file)
}
