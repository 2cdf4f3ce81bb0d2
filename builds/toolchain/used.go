package toolchain

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/node"
)

// inUse tells what on this host runs with the toolchain in dir, so that it must stay as
// it is; empty for nothing. A builder may be a node too, and making a toolchain takes
// what lies in its place away long before the new one is there.
func inUse(home, dir string) (string, error) {
	live, err := filepath.EvalSymlinks(filepath.Join(home, "live"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("cannot tell which release is live: %w", err)
	}
	if err == nil {
		for _, name := range node.RuntimeLinks() {
			to, err := os.Readlink(filepath.Join(live, ".refit", name))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return "", fmt.Errorf("cannot tell what the live release runs with: %w", err)
			}
			if leadsInto(to, dir) {
				return fmt.Sprintf("%s, which is live there, runs with it", filepath.Base(live)), nil
			}
		}
	}
	pid, program, err := node.RunsFrom(dir)
	if err != nil {
		return "", fmt.Errorf("cannot tell what runs from %s: %w", dir, err)
	}
	if pid > 0 {
		return fmt.Sprintf("process %d (%s) runs from it", pid, program), nil
	}
	return "", nil
}

// leadsInto tells whether a path is dir or lies below it, as it stands or over links.
func leadsInto(path, dir string) bool {
	into := func(p string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }
	if into(filepath.Clean(path)) {
		return true
	}
	to, err := filepath.EvalSymlinks(path)
	return err == nil && into(to)
}

// used is the refusal to make a toolchain again that something runs with.
func used(a builds.Artifact, by string) error {
	return fmt.Errorf("%s is to be made again, and %s: that would take it from under what serves users; bring this host to a release with another %s, or stop what runs from it, or give the role builder to a host that is no node",
		a.Prefix, by, a.Tool)
}
