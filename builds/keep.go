package builds

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"vmst.io/refit/hosts/git"
)

// TakeOut tells what became of a part.
type TakeOut struct {
	// Found: it was kept, is whole, and lies in the release.
	Found bool `json:"found"`
	// Release is the one for which it was made, Made when.
	Release string    `json:"release,omitempty"`
	Made    time.Time `json:"made,omitzero"`
	Files   int       `json:"files,omitempty"`
	Bytes   int64     `json:"bytes,omitempty"`
	// Mirrors are what it was made with, see PartIn.
	Mirrors map[string]string `json:"mirrors,omitempty"`
	// Harm says what was wrong with one that was kept; it is gone.
	Harm string `json:"harm,omitempty"`
}

func told(rec kept) TakeOut {
	return TakeOut{Found: true, Release: rec.Release, Made: rec.Made, Mirrors: rec.Mirrors, Files: len(rec.Files), Bytes: rec.bytes()}
}

// take puts a part that is kept into the release, after it was hashed again.
func take(ctx context.Context, in PartIn) (TakeOut, error) {
	dir := in.Layout.Dir(in.Version)
	key, err := in.of()
	if err != nil {
		return TakeOut{}, err
	}
	s := in.Layout.shelf()
	lock, err := s.lock(ctx)
	if err != nil {
		return TakeOut{}, fmt.Errorf("cannot look for kept %s: %w", in.Kind, err)
	}
	defer lock.Close()
	rec, harm, err := s.find(ctx, in.Kind, key)
	if err != nil {
		return TakeOut{}, fmt.Errorf("cannot look for kept %s: %w", in.Kind, err)
	}
	if rec == nil {
		return TakeOut{Harm: harm}, nil
	}
	dirs, err := in.ownerOfDirs()
	if err == nil {
		err = s.layInto(ctx, *rec, dir, in.Kind == Assets, dirs)
	}
	if err == nil && in.Kind == Packages {
		err = within(dir, in.takeYarn)
	}
	if err == nil && rec.Fetched != nil {
		err = writeJSON(partFetches(dir, in.Kind), rec.Fetched)
	}
	if err != nil {
		return TakeOut{}, noRoom(in.Layout, fmt.Errorf("cannot use the kept %s: %w", in.Kind, err))
	}
	return told(*rec), nil
}

// of is the part's key. What yarn had a hand in has none where others rule yarn.
func (in PartIn) of() (string, error) {
	dir := in.Layout.Dir(in.Version)
	if err := requireUnfinished(dir); err != nil {
		return "", err
	}
	if in.Kind != Bundle {
		if err := noSettingsAbove(dir); err != nil {
			return "", err
		}
	}
	src, err := ReadSource(dir)
	if err != nil {
		return "", err
	}
	return in.key(dir, src)
}

// ownerOfDirs owns the folders of a part in a release: who builds may add to the
// packages that it works with, and cannot touch gems.
func (in PartIn) ownerOfDirs() (account, error) {
	if in.Kind == Packages {
		return lookUser(in.Layout.User)
	}
	return account{os.Geteuid(), os.Getegid()}, nil
}

// keep keeps a part that was just made, and puts gems into the release from there: a
// part that was just made and one that was kept for long are the same to a release.
func keep(ctx context.Context, in PartIn) (TakeOut, error) {
	dir := in.Layout.Dir(in.Version)
	key, err := in.of()
	if err != nil {
		return TakeOut{}, err
	}
	if err := in.unchanged(ctx, dir); err != nil {
		return TakeOut{}, err
	}
	s := in.Layout.shelf()
	lock, err := s.lock(ctx)
	if err != nil {
		return TakeOut{}, fmt.Errorf("cannot keep the %s: %w", in.Kind, err)
	}
	defer lock.Close()
	rec := kept{Kind: in.Kind, Key: key, Release: in.Version.String(), Mirrors: in.Mirrors}
	var f Fetches
	switch err := readJSON(partFetches(dir, in.Kind), &f); {
	case err == nil && in.Kind != Assets:
		rec.Fetched = &f
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return TakeOut{}, fmt.Errorf("cannot keep the %s: %w", in.Kind, err)
	}
	rec, err = s.put(ctx, rec, func(tree string) error { return in.fill(dir, tree) })
	if err == nil && in.Kind == Bundle {
		err = s.layInto(ctx, rec, dir, false, account{os.Geteuid(), os.Getegid()})
	}
	if err != nil {
		return TakeOut{}, noRoom(in.Layout, fmt.Errorf("cannot keep the %s: %w", in.Kind, err))
	}
	return told(rec), nil
}

// unchanged refuses a part that was made while its inputs were changed: it is not what
// its key says, and a later build would believe it.
func (in PartIn) unchanged(ctx context.Context, dir string) error {
	src, err := ReadSource(dir)
	if err != nil {
		return err
	}
	files, err := in.inputs(dir, src.Files)
	if err != nil {
		return err
	}
	_, differences, err := git.Compare(ctx, dir, files)
	if err != nil {
		return err
	}
	if len(differences) > 0 {
		return fmt.Errorf("the build changed the source: %w", differ(dir, src.Tag, differences))
	}
	return nil
}

// fill writes a part that was just made into a tree of its own.
func (in PartIn) fill(dir, tree string) error {
	switch in.Kind {
	case Bundle:
		if err := RemoveMatching(in.Layout.bundle(), bundleLeftovers); err != nil {
			return err
		}
		return os.Rename(in.Layout.bundle(), tree)
	case Assets:
		src, err := ReadSource(dir)
		if err != nil {
			return err
		}
		return within(dir, func(b inside) error { return b.sameAdded(tree, src) })
	}
	return within(dir, func(b inside) error {
		err := b.sameTree(in.Kind.place(), tree)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("there are none: %w", err)
		}
		if err == nil && in.Kind == Packages {
			err = in.keepYarn(b, tree)
		}
		return err
	})
}

// notAssets are the folders of a release that assets:precompile adds nothing to that
// the release keeps, or that are parts of their own.
var notAssets = []string{".refit", ".bundle", ".yarn", "vendor/bundle", "node_modules", "tmp", "log"}

// sameAdded copies what is not tracked to tree: what making the assets added.
func (b inside) sameAdded(tree string, src Source) error {
	tracked := map[string]bool{}
	for _, f := range src.Files {
		for p := f.Path; p != "."; p = filepath.Dir(p) {
			tracked[p] = true
		}
	}
	if err := os.MkdirAll(tree, 0o755); err != nil {
		return err
	}
	return b.walk(".", func(rel string, fi fs.FileInfo) error {
		if fi.IsDir() && slices.Contains(notAssets, rel) {
			return fs.SkipDir
		}
		if rel == "." || tracked[rel] || strings.HasPrefix(rel, ".pnp.") {
			return nil
		}
		to := filepath.Join(tree, rel)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return b.sameEntry(rel, to, fi, true)
	})
}

// clearPart takes away what a part that will be made would find in its place: yarn's
// packages and all that it remembers of them, Bundler's folder.
func clearPart(_ context.Context, in PartIn) (struct{}, error) {
	dir := in.Layout.Dir(in.Version)
	if err := requireUnfinished(dir); err != nil {
		return struct{}{}, err
	}
	fail := func(err error) (struct{}, error) {
		return struct{}{}, noRoom(in.Layout, fmt.Errorf("cannot make room for the %s: %w", in.Kind, err))
	}
	if in.Kind == Bundle {
		if err := in.clearBundle(); err != nil {
			return fail(err)
		}
		return struct{}{}, nil
	}
	err := within(dir, func(b inside) error {
		for _, p := range []string{"node_modules", ".pnp.cjs", ".pnp.loader.mjs", ".yarn/unplugged", installState, ".yarn/build-state.yml"} {
			if err := b.remove(p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fail(err)
	}
	return struct{}{}, nil
}

// clearBundle makes the folder that gems are compiled in, and Bundler's settings for
// it. It is one for all releases: what is compiled holds its path, so gems that did
// not change are the same in the next release, and need not be sent again.
func (in PartIn) clearBundle() error {
	owner, err := lookUser(in.Layout.User)
	if err != nil {
		return err
	}
	at, settings := in.Layout.bundle(), filepath.Join(in.Layout.work(in.Version), "bundle")
	if err := errors.Join(os.RemoveAll(at), os.MkdirAll(at, 0o755), os.Chmod(at, 0o755), os.Chown(at, owner.uid, owner.gid)); err != nil {
		return err
	}
	if err := errors.Join(os.MkdirAll(settings, 0o755), os.Chmod(settings, 0o755)); err != nil {
		return err
	}
	file := filepath.Join(settings, "config")
	return errors.Join(os.WriteFile(file, []byte(bundleConfig(in.Toolchain, at)), 0o644), os.Chmod(file, 0o644))
}

// EvictIn says how much a builder keeps.
type EvictIn struct {
	Layout Layout `json:"layout"`
	// Age is how long what nobody uses is kept, Bytes how much in all.
	Age   time.Duration `json:"age"`
	Bytes int64         `json:"bytes"`
}

// EvictOut is what was removed, a line each.
type EvictOut struct {
	Removed []string `json:"removed,omitempty"`
}

// evict removes what a builder kept too long, and too much of.
func evict(ctx context.Context, in EvictIn) (EvictOut, error) {
	s := in.Layout.shelf()
	lock, err := s.lock(ctx)
	if err != nil {
		return EvictOut{}, fmt.Errorf("cannot look through what %s keeps: %w", s.dir, err)
	}
	defer lock.Close()
	now := time.Now()
	removed, err := s.evict(in.Age, in.Bytes, now)
	if err != nil {
		return EvictOut{Removed: removed}, fmt.Errorf("cannot look through what %s keeps: %w", s.dir, err)
	}
	// Yarn keeps packages under their checksums, in one folder for all releases.
	old, err := removeOlder(filepath.Join(in.Layout.Cache, "yarn"), "cache", in.Age, now)
	if old > 0 {
		removed = append(removed, fmt.Sprintf("%d packages of yarn's", old))
	}
	logs, lerr := removeOlder(in.Layout.Cache, "logs", in.Age, now)
	if logs > 0 {
		removed = append(removed, fmt.Sprintf("%d logs", logs))
	}
	return EvictOut{Removed: removed}, errors.Join(err, lerr)
}

// removeOlder removes the files of a folder inside dir that are older than age.
func removeOlder(dir, folder string, age time.Duration, now time.Time) (int, error) {
	n := 0
	err := within(dir, func(b inside) error {
		entries, err := b.entries(folder)
		if err != nil {
			return err
		}
		for _, e := range entries {
			name := path.Join(folder, e.Name())
			fi, err := b.Lstat(name)
			if err != nil || !fi.Mode().IsRegular() || now.Sub(fi.ModTime()) <= age {
				continue
			}
			if err := b.Remove(name); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	return n, err
}

// noRoom adds to an error that a disk is full what can be done about it.
func noRoom(l Layout, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w; make room below %s and %s, or lower build.keep_size, and build again", err, l.Home, l.Cache)
	}
	return err
}

// SettleIn names a release whose gems, packages and assets are all there.
type SettleIn struct {
	Layout  Layout  `json:"layout"`
	Version Version `json:"version"`
}

// settle gives everything the time that it will have on every node, so that what is
// compiled from here on is valid there.
func settle(_ context.Context, in SettleIn) (struct{}, error) {
	dir := in.Layout.Dir(in.Version)
	if err := requireUnfinished(dir); err != nil {
		return struct{}{}, err
	}
	src, err := ReadSource(dir)
	if err != nil {
		return struct{}{}, err
	}
	err = within(dir, func(b inside) error {
		if err := b.remove(compiled); err != nil {
			return err
		}
		return b.walk(".", func(p string, fi fs.FileInfo) error {
			if fi.Mode()&fs.ModeSymlink != 0 {
				return nil
			}
			at := fileTime(p, src.Tag.Time)
			return b.Chtimes(p, at, at)
		})
	})
	if err != nil {
		return struct{}{}, fmt.Errorf("cannot settle %s: %w", dir, err)
	}
	return struct{}{}, nil
}
