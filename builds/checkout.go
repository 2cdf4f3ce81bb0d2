package builds

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/node"
)

// CheckoutIn begins a build: it makes the release's directory anew.
type CheckoutIn struct {
	Layout  Layout  `json:"layout"`
	Version Version `json:"version"`
	// Recipe is the recipe's digest, for the mark.
	Recipe string `json:"recipe"`
	// URL is upstream's repository; InsteadOf rewrites it.
	URL       string        `json:"url"`
	InsteadOf []git.Rewrite `json:"instead_of,omitempty"`
	// KnownHosts and KeyFile are files on this host, for ssh.
	KnownHosts string `json:"known_hosts,omitempty"`
	KeyFile    string `json:"key_file,omitempty"`
	// Tag is what the caller resolved. Another commit or tree here is an error.
	Tag git.Tag `json:"tag"`
}

// CheckoutOut is what was checked out.
type CheckoutOut struct {
	Files int `json:"files"`
	// Tree is the tree hash computed from the files on disk.
	Tree string `json:"tree"`
}

func checkout(ctx context.Context, in CheckoutIn, say func(string)) (CheckoutOut, error) {
	dir := in.Layout.Dir(in.Version)
	state, err := look(ctx, LookIn{Layout: in.Layout, Version: in.Version})
	if err != nil {
		return CheckoutOut{}, err
	}
	if state.State == Foreign {
		return CheckoutOut{}, fmt.Errorf("%s exists and was not built by refit; move it away", dir)
	}
	if state.Live {
		return CheckoutOut{}, node.Failf(node.CodeInUse, "%s is live on this host and cannot be built anew; build on another host", dir)
	}
	owner, err := lookUser(in.Layout.User)
	if err != nil {
		return CheckoutOut{}, err
	}
	if err := begin(in, state, owner, node.RequestOf(ctx).Run); err != nil {
		return CheckoutOut{}, fmt.Errorf("cannot begin the build in %s: %w", dir, err)
	}
	m, err := git.Open(git.Options{URL: in.URL, InsteadOf: in.InsteadOf, Dir: filepath.Join(in.Layout.Cache, "upstream.git"), KnownHosts: in.KnownHosts, KeyFile: in.KeyFile})
	if err != nil {
		return CheckoutOut{}, err
	}
	tag, err := m.Tag(ctx, in.Version.String())
	if err != nil {
		return CheckoutOut{}, err
	}
	if tag.Commit != in.Tag.Commit || tag.Tree != in.Tag.Tree {
		return CheckoutOut{}, fmt.Errorf("%s is commit %s with tree %s here and commit %s with tree %s where the upgrade was planned: the two repositories disagree, nothing is built",
			in.Version, tag.Commit, tag.Tree, in.Tag.Commit, in.Tag.Tree)
	}
	say("writing the files of " + tag.Name)
	files, err := m.Checkout(ctx, tag, dir)
	if err != nil {
		return CheckoutOut{}, err
	}
	for _, f := range files {
		if strings.HasPrefix(f.Path, ".refit/") {
			return CheckoutOut{}, fmt.Errorf("the release itself holds %s, where refit keeps its own files", f.Path)
		}
	}
	if err := writeJSON(filepath.Join(dir, sourceFile), Source{Tag: tag, Files: files}); err != nil {
		return CheckoutOut{}, fmt.Errorf("cannot record the source of %s: %w", in.Version, err)
	}
	tree, err := provePure(ctx, dir, tag, files)
	if err != nil {
		return CheckoutOut{}, err
	}
	// The directory itself stays root's, sticky and writable for the build's
	// group: what it runs may add to it and not take .refit away.
	if err := errors.Join(
		give(dir, owner, ".refit"), os.Lchown(dir, os.Geteuid(), owner.gid), os.Chmod(dir, 0o775|fs.ModeSticky),
	); err != nil {
		return CheckoutOut{}, fmt.Errorf("cannot give %s to %s: %w", dir, in.Layout.User, err)
	}
	return CheckoutOut{Files: len(files), Tree: tree}, nil
}

// provePure computes the tree hash from the files and holds it to the tag's.
func provePure(ctx context.Context, dir string, tag git.Tag, files []git.File) (string, error) {
	tree, differences, err := git.Compare(ctx, dir, files)
	if err != nil {
		return "", err
	}
	if len(differences) > 0 {
		return "", differ(dir, tag, differences)
	}
	if tree != tag.Tree {
		return "", fmt.Errorf("the files in %s have tree hash %s, %s has %s", dir, tree, tag.Name, tag.Tree)
	}
	return tree, nil
}

// differ names the first of the tracked files that are not as the tag has them.
func differ(dir string, tag git.Tag, differences []git.Difference) error {
	var names []string
	for _, d := range differences[:min(10, len(differences))] {
		names = append(names, d.Path+" ("+d.What+")")
	}
	return fmt.Errorf("%d tracked files in %s are not as %s has them: %s", len(differences), dir, tag.Name, strings.Join(names, ", "))
}

// begin makes the release's directory, with the mark in it from the moment it
// has its name, and the build's folders outside it. What lay there goes first,
// in one rename, so that no half of it keeps the name.
func begin(in CheckoutIn, was LookOut, owner account, run string) error {
	dir := in.Layout.Dir(in.Version)
	releases := filepath.Dir(dir)
	if err := os.MkdirAll(releases, 0o755); err != nil {
		return err
	}
	leftovers, err := filepath.Glob(filepath.Join(releases, ".refit-build-"+in.Version.String()+"-*"))
	if err != nil {
		return err
	}
	for _, l := range leftovers {
		if err := os.RemoveAll(l); err != nil {
			return err
		}
	}
	if was.State != Absent {
		if err := removeRelease(dir, in.Version); err != nil {
			return err
		}
	}
	fresh, err := os.MkdirTemp(releases, ".refit-build-"+in.Version.String()+"-*")
	if err != nil {
		return err
	}
	if err := errors.Join(os.Mkdir(filepath.Join(fresh, ".refit"), 0o755), os.Chmod(filepath.Join(fresh, ".refit"), 0o755), os.Chmod(fresh, 0o755)); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(fresh, markFile), mark{Recipe: in.Recipe, Run: run, Started: time.Now().UTC()}); err != nil {
		return err
	}
	if err := errors.Join(os.Rename(fresh, dir), syncDir(releases)); err != nil {
		return err
	}
	work := in.Layout.work(in.Version)
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	for _, d := range []string{in.Layout.Cache, filepath.Dir(work), work, filepath.Join(work, "bin"), filepath.Join(work, "home"), filepath.Join(work, "tmp"), filepath.Join(in.Layout.Cache, "yarn")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(d, 0o755); err != nil { // whatever the umask
			return err
		}
	}
	for _, d := range []string{filepath.Join(work, "home"), filepath.Join(work, "tmp"), filepath.Join(in.Layout.Cache, "yarn")} {
		if err := os.Chown(d, owner.uid, owner.gid); err != nil {
			return err
		}
	}
	return nil
}

// removeRelease takes a release's name away at once, then its files.
func removeRelease(dir string, v Version) error {
	gone, err := os.MkdirTemp(filepath.Dir(dir), ".refit-build-"+v.String()+"-*")
	if err != nil {
		return err
	}
	if err := os.Rename(dir, filepath.Join(gone, "old")); err != nil {
		return err
	}
	return os.RemoveAll(gone)
}

// account is a user's numbers.
type account struct{ uid, gid int }

func lookUser(name string) (account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return account{}, fmt.Errorf("this host has no user %s to build as: %w", name, err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return account{}, fmt.Errorf("user %s: %w", name, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return account{}, fmt.Errorf("user %s: %w", name, err)
	}
	return account{uid, gid}, nil
}

// give makes to the owner of dir and all below, except below the top folders
// named; no link is followed.
func give(dir string, to account, except ...string) error {
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		for _, e := range except {
			if p == filepath.Join(dir, e) {
				return filepath.SkipDir
			}
		}
		return os.Lchown(p, to.uid, to.gid)
	})
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
