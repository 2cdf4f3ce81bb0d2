package builds

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/node"
)

// CleanIn names a release being built.
type CleanIn struct {
	Layout  Layout  `json:"layout"`
	Version Version `json:"version"`
}

// CleanOut counts what went.
type CleanOut struct {
	Removed int `json:"removed"`
}

// compiled is where bootsnap keeps Ruby's compiled code: the one folder inside tmp
// that a release comes with.
const compiled = "tmp/cache/bootsnap"

// cleaned are what a build leaves and a release does not need, as patterns
// below its directory. Tracked files among them stay, and what is compiled.
var cleaned = []string{
	"tmp/*", "tmp/.[!.]*", "log/*", // every node has its own
	".pnp.*",
	"node_modules/.cache", "node_modules/.vite*", "node_modules/.yarn-state.yml",
	".yarn/install-state.gz", ".yarn/cache", ".yarn/unplugged", ".yarn/build-state.yml",
	"public/packs-test", "public/vite-dev",
}

// bundleLeftovers are what Bundler leaves and nobody needs, below its folder.
var bundleLeftovers = []string{
	"ruby/*/cache", // the gems as they were packed
	// What the compiler said, with times.
	"ruby/*/extensions/*/*/*/*.out", "ruby/*/extensions/*/*/*/mkmf.log",
	"ruby/*/bundler/gems/extensions/*/*/*/*.out", "ruby/*/bundler/gems/extensions/*/*/*/mkmf.log",
	// Bundler wrote the gemspec out; the clone's own records hold times and are
	// not read again (Bundler 2.6.7, tried without git on the host).
	"ruby/*/bundler/gems/*/.git",
}

func clean(_ context.Context, in CleanIn) (CleanOut, error) {
	dir := in.Layout.Dir(in.Version)
	if err := requireUnfinished(dir); err != nil {
		return CleanOut{}, err
	}
	src, err := ReadSource(dir)
	if err != nil {
		return CleanOut{}, err
	}
	var out CleanOut
	err = within(dir, func(b inside) error {
		out.Removed, err = b.clean(src)
		return err
	})
	if err != nil {
		return out, fmt.Errorf("cannot clean %s: %w", dir, err)
	}
	return out, nil
}

// clean removes what a build leaves and a release does not need, and counts it.
func (b inside) clean(src Source) (int, error) {
	// A tracked file keeps itself and every folder above it.
	tracked := map[string]bool{}
	staying := src.Files
	switch err := b.folders(compiled); {
	case err == nil:
		staying = append(staying, git.File{Path: compiled})
	case !errors.Is(err, fs.ErrNotExist):
		return 0, err
	}
	for _, f := range staying {
		for p := f.Path; p != "."; p = filepath.Dir(p) {
			tracked[p] = true
		}
	}
	removed := 0
	for _, pattern := range cleaned {
		found, err := b.match(pattern)
		if err != nil {
			return removed, err
		}
		for _, p := range found {
			n, err := b.removeUntracked(p, tracked)
			removed += n
			if err != nil {
				return removed, err
			}
		}
	}
	// Whether a step left its folder behind depends on whether it was run.
	for _, d := range []string{".yarn", "tmp", "log"} {
		if tracked[d] {
			continue
		}
		if err := b.Remove(d); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
			return removed, err
		}
	}
	return removed, nil
}

// removeUntracked removes p with all below it, but for tracked files and what is compiled.
func (b inside) removeUntracked(p string, tracked map[string]bool) (int, error) {
	if !tracked[p] {
		return 1, b.remove(p)
	}
	info, err := b.Lstat(p)
	if err != nil || !info.IsDir() || p == compiled {
		return 0, err
	}
	entries, err := b.entries(p)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, e := range entries {
		m, err := b.removeUntracked(path.Join(p, e.Name()), tracked)
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// VerifyIn names a release being built, after its steps.
type VerifyIn struct {
	Layout  Layout  `json:"layout"`
	Version Version `json:"version"`
}

// VerifyOut is what was proved.
type VerifyOut struct {
	// Tree is the tree hash computed from the files, equal to the tag's.
	Tree string `json:"tree"`
	// Assets is how many files the manifests name, all of them there.
	Assets int `json:"assets"`
}

// verify proves that the build left every tracked file as it was, and that the
// assets are all there.
func verify(ctx context.Context, in VerifyIn) (VerifyOut, error) {
	dir := in.Layout.Dir(in.Version)
	src, err := ReadSource(dir)
	if err != nil {
		return VerifyOut{}, err
	}
	tree, err := provePure(ctx, dir, src.Tag, src.Files)
	if err != nil {
		return VerifyOut{}, fmt.Errorf("the build changed the source: %w", err)
	}
	n, err := checkAssets(dir)
	if err != nil {
		return VerifyOut{}, err
	}
	return VerifyOut{Tree: tree, Assets: n}, nil
}

// FinishIn ends a build.
type FinishIn struct {
	Layout    Layout    `json:"layout"`
	Version   Version   `json:"version"`
	Recipe    string    `json:"recipe"`
	Toolchain Toolchain `json:"toolchain"`
	// Departures from what the tag asks for, for the record.
	Departures []string `json:"departures,omitempty"`
	// Claims are what the build is said to be, for its provenance.
	Claims Claims `json:"claims"`
}

// FinishOut is the finished build.
type FinishOut struct {
	Manifest node.Head `json:"manifest"`
	// Unverified says what was held to no checksum of the release's, a line each.
	Unverified []string `json:"unverified,omitempty"`
	// Gaps tell what the bill of materials lacks, one line each.
	Gaps []string `json:"gaps,omitempty"`
}

// finish hands the release to root, writes its manifest and takes the mark away
// last, each on disk before the next.
func finish(ctx context.Context, in FinishIn) (FinishOut, error) {
	dir := in.Layout.Dir(in.Version)
	if err := requireUnfinished(dir); err != nil {
		return FinishOut{}, err
	}
	fail := func(err error) (FinishOut, error) {
		return FinishOut{}, fmt.Errorf("cannot finish the build in %s: %w", dir, err)
	}
	src, err := ReadSource(dir)
	if err != nil {
		return FinishOut{}, err
	}
	if err := writeJSON(filepath.Join(dir, recipeFile), recipeRecord{in.Recipe, in.Toolchain, in.Departures}); err != nil {
		return fail(err)
	}
	fetches, err := gatherFetches(dir)
	if err != nil {
		return fail(err)
	}
	toolchains, err := made(in.Toolchain)
	if err != nil {
		return fail(err)
	}
	osName, err := osRelease()
	if err != nil {
		return fail(err)
	}
	witness, err := newWitness(dir, in, src, osName, toolchains)
	if err != nil {
		return fail(err)
	}
	if err := witness.bill(); err != nil {
		return fail(err)
	}
	if err := seal(dir, src.Tag.Time); err != nil {
		return fail(err)
	}
	files, err := node.Scan(ctx, dir)
	if err != nil {
		return fail(err)
	}
	files = slices.DeleteFunc(files, func(e node.Entry) bool { return e.Path == markFile })
	if files, err = witness.state(files); err != nil {
		return fail(err)
	}
	m := node.Manifest{
		Format: node.ManifestFormat, Release: in.Version.String(), Toolchains: toolchains, Commit: src.Tag.Commit, Tree: src.Tag.Tree,
		OS: osName, Arch: runtime.GOARCH, Ruby: in.Toolchain.Ruby.Version, Node: in.Toolchain.Node.Version,
		Overrides: in.Departures, Built: time.Now().UTC().Truncate(time.Second), Modified: src.Tag.Time.UTC().Truncate(time.Second),
		Unverified: append(fetches.Unverified(), in.Toolchain.Unverified()...), Files: files,
	}
	head, err := m.Write(dir)
	if err != nil {
		return fail(err)
	}
	if err := errors.Join(os.RemoveAll(in.Layout.work(in.Version)), syncFS(dir)); err != nil {
		return fail(err)
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, markFile)), syncDir(filepath.Join(dir, ".refit"))); err != nil {
		return fail(err)
	}
	return FinishOut{Manifest: head, Unverified: m.Unverified, Gaps: witness.gaps}, nil
}

// made names the toolchains that lie on this host and that the release was built with.
func made(t Toolchain) ([]node.ToolchainRef, error) {
	var out []node.ToolchainRef
	for _, a := range t.Artifacts {
		m, head, err := node.ReadManifest(a.Prefix)
		if err != nil {
			return nil, err
		}
		if m.Kind != node.KindToolchain || m.Release != a.Name || m.Recipe != a.Recipe {
			return nil, fmt.Errorf("%s holds %s of another recipe than the release was to be built with: it was made anew meanwhile; build again", a.Prefix, m.Release)
		}
		out = append(out, node.ToolchainRef{Name: a.Name, Recipe: a.Recipe, Digest: head.Digest})
	}
	return out, nil
}

// seal makes everything the agent's own user's (root) and writable for nobody else, gives
// it the times of a release of that date, and refuses what has no place in a release:
// devices, sockets, setuid files.
func seal(dir string, modified time.Time) error {
	me := account{os.Geteuid(), os.Getegid()}
	return within(dir, func(b inside) error {
		return b.walk(".", func(p string, info fs.FileInfo) error {
			mode := info.Mode()
			switch {
			case mode&fs.ModeSymlink != 0:
				return b.Lchown(p, me.uid, me.gid)
			case !mode.IsRegular() && !mode.IsDir():
				return fmt.Errorf("%s is neither a file, a directory nor a link", filepath.Join(dir, p))
			case mode&(fs.ModeSetuid|fs.ModeSetgid) != 0 && mode.IsRegular():
				return fmt.Errorf("%s would run with another user's rights (setuid)", filepath.Join(dir, p))
			}
			// Readable for all: the user that runs the release owns none of it.
			perm := mode.Perm()&0o755 | 0o444
			if mode.IsDir() || perm&0o100 != 0 {
				perm |= 0o111
			}
			at := fileTime(p, modified)
			return errors.Join(b.Lchown(p, me.uid, me.gid), b.Chmod(p, perm), b.Chtimes(p, at, at))
		})
	})
}

// fileTime is the time of a file or folder of a release, "." for the release itself.
func fileTime(name string, modified time.Time) time.Time {
	if name == "." {
		name = ""
	}
	return node.FileTime(name, modified)
}

// osRelease is the host's system in the manifest's words: "debian 13".
func osRelease() (string, error) {
	f, err := os.Open("/etc/os-release")
	if err != nil {
		return "", err
	}
	defer f.Close()
	field := map[string]string{}
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		if k, v, ok := strings.Cut(sc.Text(), "="); ok {
			field[k] = strings.Trim(v, `"'`)
		}
	}
	if err := sc.Err(); err != nil {
		return "", err
	}
	return strings.TrimSpace(field["ID"] + " " + field["VERSION_ID"]), nil
}

// RemoveIn names a release.
type RemoveIn struct {
	Layout  Layout  `json:"layout"`
	Version Version `json:"version"`
}

// RemoveOut tells what was done.
type RemoveOut struct {
	Removed bool `json:"removed"`
}

// remove takes away an unfinished build and nothing else.
func remove(ctx context.Context, in RemoveIn) (RemoveOut, error) {
	state, err := look(ctx, LookIn{Layout: in.Layout, Version: in.Version})
	if err != nil || state.State != Unfinished {
		return RemoveOut{}, err
	}
	dir := in.Layout.Dir(in.Version)
	if err := errors.Join(removeRelease(dir, in.Version), os.RemoveAll(in.Layout.work(in.Version)), os.RemoveAll(in.Layout.bundle())); err != nil {
		return RemoveOut{}, fmt.Errorf("cannot remove the unfinished build %s: %w", dir, err)
	}
	return RemoveOut{Removed: true}, nil
}
