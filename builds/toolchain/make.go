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
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/node"
)

// recordFile says, inside a toolchain, what it was made from and by what.
const recordFile = ".refit/toolchain.json"

// Places of the builder's cache. What is fetched lies there under root's eyes, and
// what compiles may read it.
func archives(l builds.Layout) string { return filepath.Join(l.Cache, "archives") }

func work(l builds.Layout, a builds.Artifact) string {
	return filepath.Join(l.Cache, "toolchain", a.Name)
}

// mark stands in a toolchain while it is made.
type mark struct {
	Recipe  string    `json:"recipe"`
	Run     string    `json:"run"`
	Started time.Time `json:"started"`
}

// LookIn asks what lies where a toolchain belongs.
type LookIn struct {
	Artifact builds.Artifact `json:"artifact"`
	// Home holds live and releases; what of them runs with it is told. Empty for not asked.
	Home string `json:"home,omitempty"`
	// Verify: a whole one's files are hashed again.
	Verify bool `json:"verify,omitempty"`
}

// LookOut is what lies there.
type LookOut struct {
	State builds.State `json:"state"`
	// Recipe is what it was, or was to be, made by.
	Recipe string `json:"recipe,omitempty"`
	// Manifest of a Whole one, and its signature, empty for none.
	Manifest  *node.Head `json:"manifest,omitempty"`
	Signature []byte     `json:"signature,omitempty"`
	// Differences of a Damaged one, the first ten.
	Differences []string `json:"differences,omitempty"`
	// InUse says what runs with one that was finished, whatever its state; empty for nothing.
	InUse string `json:"in_use,omitempty"`
}

func look(ctx context.Context, in LookIn) (LookOut, error) {
	dir := in.Artifact.Prefix
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return LookOut{State: builds.Absent}, nil
	} else if err != nil {
		return LookOut{}, fmt.Errorf("cannot look at %s: %w", dir, err)
	}
	var m mark
	if err := builds.ReadJSON(filepath.Join(dir, builds.MarkFile), &m); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return LookOut{State: builds.Unfinished, Recipe: m.Recipe}, nil // a mark cut short is a mark
	}
	manifest, head, err := node.ReadManifest(dir)
	if err != nil || manifest.Kind != node.KindToolchain {
		return LookOut{State: builds.Foreign}, nil //nolint:nilerr // without a manifest of refit's it is somebody else's
	}
	out := LookOut{State: builds.Whole, Recipe: manifest.Recipe, Manifest: &head}
	if out.Signature, err = node.ReadSignature(dir); err != nil {
		return out, fmt.Errorf("cannot read the signature of %s: %w", dir, err)
	}
	if in.Home != "" {
		if out.InUse, err = inUse(in.Home, dir); err != nil {
			return out, err
		}
	}
	if !in.Verify {
		return out, nil
	}
	different, err := manifest.Compare(ctx, dir)
	if err != nil {
		return out, fmt.Errorf("cannot verify %s: %w", dir, err)
	}
	if len(different) > 0 {
		out.State = builds.Damaged
		for _, d := range different[:min(10, len(different))] {
			out.Differences = append(out.Differences, d.String())
		}
	}
	return out, nil
}

// MakeIn names a toolchain and where it is made.
type MakeIn struct {
	Layout   builds.Layout   `json:"layout"`
	Artifact builds.Artifact `json:"artifact"`
	// Repository is ruby-build's and InsteadOf rewrites it; for a Ruby alone.
	Repository string        `json:"repository,omitempty"`
	InsteadOf  []git.Rewrite `json:"instead_of,omitempty"`
}

// check refuses what could not have come from a plan: it is root that acts by it.
func (in MakeIn) check() error {
	if a := in.Artifact; a.Prefix != in.Layout.Prefix(a.Name) || !strings.HasPrefix(a.Name, a.Tool+"-"+a.Version) {
		return fmt.Errorf("%q in %s is no toolchain of refit's", a.Name, a.Prefix)
	}
	if err := (node.Manifest{Format: node.ManifestFormat, Kind: node.KindToolchain, Release: in.Artifact.Name, Recipe: in.Artifact.Recipe}).Check(); err != nil {
		return err
	}
	for _, f := range in.Artifact.Archives {
		if !componentName.MatchString(f.File) || !hexSHA256.MatchString(f.SHA256) {
			return fmt.Errorf("%s is to be made from %q with checksum %q, which cannot be", in.Artifact.Name, f.File, f.SHA256)
		}
	}
	return nil
}

// begin makes the toolchain's directory, with the mark in it from the moment it has
// its name, and the folder in which it is compiled. What lay there goes first.
func begin(ctx context.Context, in MakeIn) (struct{}, error) {
	if err := in.check(); err != nil {
		return struct{}{}, err
	}
	a := in.Artifact
	state, err := look(ctx, LookIn{Artifact: a, Home: in.Layout.Home})
	if err != nil {
		return struct{}{}, err
	}
	if state.State == builds.Foreign {
		return struct{}{}, foreign(a)
	}
	if state.InUse != "" {
		return struct{}{}, node.Failf(node.CodeInUse, "%v", used(a, state.InUse))
	}
	owner, err := builds.LookUser(in.Layout.User)
	if err != nil {
		return struct{}{}, err
	}
	if err := beginAs(in, owner, node.RequestOf(ctx).Run); err != nil {
		return struct{}{}, fmt.Errorf("cannot begin %s: %w", a.Prefix, err)
	}
	return struct{}{}, nil
}

func beginAs(in MakeIn, owner builds.Account, run string) error {
	a := in.Artifact
	home := filepath.Dir(a.Prefix)
	if err := os.MkdirAll(home, 0o755); err != nil {
		return err
	}
	if err := discard(a); err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(home, ".refit-build-"+a.Name+"-*")
	if err != nil {
		return err
	}
	meta := filepath.Join(fresh, filepath.Dir(builds.MarkFile))
	if err := errors.Join(os.Mkdir(meta, 0o755), os.Chmod(meta, 0o755)); err != nil {
		return err
	}
	if err := builds.WriteJSON(filepath.Join(fresh, builds.MarkFile), mark{a.Recipe, run, time.Now().UTC()}); err != nil {
		return err
	}
	// Sticky and root's own: what compiles may add to it and not take .refit away. A
	// Node is unpacked by root, so nobody else needs to write there.
	mode := 0o775 | fs.ModeSticky
	if a.Tool == "node" {
		mode = 0o755
	}
	if err := errors.Join(os.Lchown(fresh, os.Geteuid(), owner.GID), os.Chmod(fresh, mode)); err != nil {
		return err
	}
	if err := errors.Join(os.Rename(fresh, a.Prefix), builds.FlushDir(home)); err != nil {
		return err
	}
	return workspace(in, owner)
}

// workspace makes the folders of the cache that this toolchain needs, empty where they
// are its own.
func workspace(in MakeIn, owner builds.Account) error {
	at := work(in.Layout, in.Artifact)
	if err := os.RemoveAll(at); err != nil {
		return err
	}
	own := []string{filepath.Join(at, "home"), filepath.Join(at, "tmp")}
	for _, d := range append([]string{in.Layout.Cache, archives(in.Layout), filepath.Dir(at), at, filepath.Join(at, "definitions")}, own...) {
		if err := errors.Join(os.MkdirAll(d, 0o755), os.Chmod(d, 0o755)); err != nil { // whatever the umask
			return err
		}
	}
	for _, d := range own {
		if err := os.Chown(d, owner.UID, owner.GID); err != nil {
			return err
		}
	}
	if in.Artifact.Definition == "" {
		return nil
	}
	// What is compiled is what was planned, though ruby-build may have another by now.
	file := filepath.Join(at, "definitions", in.Artifact.Version)
	return errors.Join(os.WriteFile(file, []byte(in.Artifact.Definition), 0o644), os.Chmod(file, 0o644)) //nolint:gosec // what compiles reads it
}

// discard takes a toolchain's name away at once, then its files, and what earlier
// attempts left.
func discard(a builds.Artifact) error {
	home := filepath.Dir(a.Prefix)
	left, err := filepath.Glob(filepath.Join(home, ".refit-build-"+a.Name+"-*"))
	if err != nil {
		return err
	}
	for _, l := range left {
		if err := os.RemoveAll(l); err != nil {
			return err
		}
	}
	gone, err := os.MkdirTemp(home, ".refit-build-"+a.Name+"-*")
	if err != nil {
		return err
	}
	if err := os.Rename(a.Prefix, filepath.Join(gone, "old")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(gone)
}

// FetchOut is where the fetched things lie.
type FetchOut struct {
	// RubyBuild is the folder of ruby-build, for a Ruby.
	RubyBuild string `json:"ruby_build,omitempty"`
}

// fetch brings all that the toolchain is made from, so that what compiles needs no network.
func fetch(ctx context.Context, f fetcher, in MakeIn, say func(string)) (FetchOut, error) {
	if err := unfinished(in); err != nil {
		return FetchOut{}, err
	}
	for _, x := range in.Artifact.Archives {
		if err := f.archive(ctx, x.URL, x.SHA256, filepath.Join(archives(in.Layout), x.File), say); err != nil {
			return FetchOut{}, err
		}
	}
	if in.Artifact.Tool != "ruby" {
		return FetchOut{}, nil
	}
	rb, err := openRubyBuild(ctx, in.Layout, in.Repository, in.Artifact.RubyBuild, in.InsteadOf)
	if err != nil {
		return FetchOut{}, err
	}
	dir, err := rb.checkout(ctx, in.Layout)
	return FetchOut{RubyBuild: dir}, err
}

// unfinished refuses to write into what is not being made, by this recipe.
func unfinished(in MakeIn) error {
	if err := in.check(); err != nil {
		return err
	}
	var m mark
	if err := builds.ReadJSON(filepath.Join(in.Artifact.Prefix, builds.MarkFile), &m); err != nil {
		return fmt.Errorf("%s is not being made: %w", in.Artifact.Prefix, err)
	}
	if m.Recipe != in.Artifact.Recipe {
		return fmt.Errorf("%s is being made by another recipe", in.Artifact.Prefix)
	}
	return nil
}

// record is kept in a toolchain.
type record struct {
	Artifact builds.Artifact `json:"artifact"`
	Run      string          `json:"run"`
	Started  time.Time       `json:"started"`
}

// spare are what a tool's installation leaves and nobody runs from, as patterns.
var spare = map[string][]string{
	"ruby": {
		"lib/ruby/gems/*/cache/*",                   // bundled gems as they were packed
		"lib/ruby/gems/*/extensions/*/*/*/*.out",    // what the compiler said, with times
		"lib/ruby/gems/*/extensions/*/*/*/mkmf.log", // the same
	},
	"bundler": {"cache", "doc", "build_info", "bin"},
}

// FinishOut is the finished toolchain.
type FinishOut struct {
	Manifest node.Head `json:"manifest"`
}

// finish hands the toolchain to root, writes its manifest and takes the mark away
// last, each on disk before the next.
func finish(ctx context.Context, in MakeIn) (FinishOut, error) {
	if err := unfinished(in); err != nil {
		return FinishOut{}, err
	}
	a := in.Artifact
	fail := func(err error) (FinishOut, error) {
		return FinishOut{}, fmt.Errorf("cannot finish %s: %w", a.Prefix, err)
	}
	if err := builds.RemoveMatching(a.Prefix, spare[a.Tool]); err != nil {
		return fail(err)
	}
	var m mark
	if err := builds.ReadJSON(filepath.Join(a.Prefix, builds.MarkFile), &m); err != nil {
		return fail(err)
	}
	if err := builds.WriteJSON(filepath.Join(a.Prefix, recordFile), record{a, m.Run, m.Started}); err != nil {
		return fail(err)
	}
	if err := errors.Join(os.Lchown(a.Prefix, os.Geteuid(), os.Getegid()), os.Chmod(a.Prefix, 0o755), builds.Seal(a.Prefix)); err != nil {
		return fail(err)
	}
	if err := stays(a.Prefix); err != nil {
		return fail(err)
	}
	files, err := node.Scan(ctx, a.Prefix)
	if err != nil {
		return fail(err)
	}
	files = slices.DeleteFunc(files, func(e node.Entry) bool { return e.Path == builds.MarkFile })
	manifest := node.Manifest{
		Format: node.ManifestFormat, Kind: node.KindToolchain, Release: a.Name, OS: a.OS, Arch: a.Arch, Recipe: a.Recipe,
		Built: time.Now().UTC().Truncate(time.Second), Modified: node.FixedTime(), Files: files,
	}
	switch a.Tool {
	case "ruby":
		manifest.Ruby = a.Version
	case "node":
		manifest.Node = a.Version
	}
	head, err := manifest.Write(a.Prefix)
	if err != nil {
		return fail(err)
	}
	if err := builds.Flush(a.Prefix); err != nil {
		return fail(err)
	}
	if err := errors.Join(os.Remove(filepath.Join(a.Prefix, builds.MarkFile)), builds.FlushDir(filepath.Join(a.Prefix, ".refit"))); err != nil {
		return fail(err)
	}
	if err := os.RemoveAll(work(in.Layout, a)); err != nil {
		return fail(err)
	}
	return FinishOut{head}, nil
}

// stays refuses a link that leads out of the toolchain: what it leads to would be
// another thing on every node.
func stays(prefix string) error {
	return filepath.WalkDir(prefix, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.Type() != fs.ModeSymlink {
			return err
		}
		to, err := os.Readlink(p)
		if err != nil {
			return err
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(p), to)
		}
		if to = filepath.Clean(to); to != prefix && !strings.HasPrefix(to, prefix+"/") {
			return fmt.Errorf("the link %s leads out of it, to %s", p, to)
		}
		return nil
	})
}

// RemoveOut tells what was done.
type RemoveOut struct {
	Removed bool `json:"removed"`
}

// remove takes away an unfinished toolchain and nothing else.
func remove(ctx context.Context, in MakeIn) (RemoveOut, error) {
	if err := in.check(); err != nil {
		return RemoveOut{}, err
	}
	state, err := look(ctx, LookIn{Artifact: in.Artifact})
	if err != nil || state.State != builds.Unfinished {
		return RemoveOut{}, err
	}
	if err := errors.Join(discard(in.Artifact), os.RemoveAll(work(in.Layout, in.Artifact))); err != nil {
		return RemoveOut{}, fmt.Errorf("cannot remove the unfinished %s: %w", in.Artifact.Prefix, err)
	}
	return RemoveOut{true}, nil
}
