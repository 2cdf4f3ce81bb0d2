package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// runtimeLinks are the links below .refit through which a release reaches its runtimes.
var runtimeLinks = []string{"ruby", "bundler", "node"}

// RuntimeLinks are the links below a release's .refit through which it reaches its
// runtimes.
func RuntimeLinks() []string { return slices.Clone(runtimeLinks) }

// unfinishedFile marks what is being built, see package builds.
const unfinishedFile = metaDir + "/unfinished"

// holdsToolchain tells why the toolchain of that name must stay as it is when another,
// made by recipe, is to take its place; empty if nothing needs it.
func (m Machine) holdsToolchain(s shelf, homeDir, name, recipe string) (string, error) {
	dir := s.dir(name)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	have, _, err := readHead(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Sprintf("%s was not put there by refit; move it away, or name it in refit.yml under toolchain with its prefix", dir), nil
	}
	system, serr := m.system()
	if serr != nil {
		return "", serr
	}
	// The new one does what this one does: what runs keeps the files that it has open, and
	// finds the others again.
	if err == nil && have.Recipe == recipe && have.OS == system {
		return "", nil
	}
	if pid, program, werr := m.runsFrom(dir); werr != nil || pid > 0 {
		return fmt.Sprintf("process %d (%s) runs from it", pid, program), werr
	}
	// One that cannot be read, or is of a system that this host had before, serves no
	// release any more.
	if err != nil || have.OS != system {
		return "", nil
	}
	named, err := m.namedToolchains(homeDir)
	if err != nil || len(named[name]) == 0 {
		return "", err
	}
	return fmt.Sprintf("%s runs with it as it is, and the new one was made by another recipe; name the revision of ruby-build and the options that it was made with (toolchain.ruby_build in refit.yml), or remove that release first", strings.Join(named[name], ", ")), nil
}

// namedToolchains are the toolchains that the releases of a home run with: by name,
// the releases. The links are asked, since it is they that a release runs through.
func (m Machine) namedToolchains(homeDir string) (map[string][]string, error) {
	releases, err := localReleases(homeDir)
	if err != nil {
		return nil, err
	}
	root := m.toolchainsDir()
	named := map[string][]string{}
	for _, r := range releases {
		for _, link := range runtimeLinks {
			target, err := os.Readlink(filepath.Join(r.dir, metaDir, link))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if name, ok := strings.CutPrefix(filepath.Clean(target), root+"/"); ok {
				name, _, _ = strings.Cut(name, "/")
				named[name] = append(named[name], r.name)
			}
		}
	}
	return named, nil
}

// RunsFrom finds a process of this host whose program lies in dir: its pid and name, or 0.
func RunsFrom(dir string) (pid int, name string, err error) { return Machine{}.runsFrom(dir) }

// runsFrom finds a process whose program lies in dir: its pid and name, or 0.
func (m Machine) runsFrom(dir string) (pid int, name string, err error) {
	all, err := m.processes()
	if err != nil {
		return 0, "", err
	}
	for _, p := range all {
		exe, err := os.Readlink(m.proc(itoa(p.pid), "exe"))
		if err != nil || !strings.HasPrefix(exe, dir+"/") {
			continue // it has ended, or is not a program's but the kernel's
		}
		return p.pid, filepath.Base(exe), nil
	}
	return 0, "", nil
}

// runnable refuses a release whose runtimes are gone from this host.
func (m Machine) runnable(homeDir, release string) error {
	for _, link := range runtimeLinks {
		at := filepath.Join(releaseDir(homeDir, release), metaDir, link)
		target, err := os.Readlink(at)
		if errors.Is(err, fs.ErrNotExist) {
			continue // adopted, or with the host's own
		}
		if err != nil {
			return err
		}
		if _, err := os.Stat(target); errors.Is(err, fs.ErrNotExist) {
			return Failf(CodeNotFound, "it runs with %s, which is not on this host; `refit place --to %s` brings it", target, release)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// pruneToolchains removes the toolchains with which no release on the host runs any
// more. One that refit did not put there stays, whatever its name.
func (m Machine) pruneToolchains(ctx context.Context, in PruneIn, out *PruneOut, say func(string)) error {
	s := m.shelf(KindToolchain, "")
	all, err := s.all()
	if err != nil || len(all) == 0 {
		return err
	}
	named, err := m.namedToolchains(in.Home)
	if err != nil {
		return err
	}
	for _, t := range all {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		var p placedRecord
		if err := readJSON(filepath.Join(t.dir, placedFile), &p); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		// Dry removed nothing: what would have gone names nothing any more either.
		by := slices.DeleteFunc(named[t.name], func(r string) bool { return slices.Contains(out.Removed, r) })
		if len(by) > 0 {
			continue
		}
		pid, program, err := m.runsFrom(t.dir)
		if err != nil {
			return err
		}
		if pid > 0 {
			out.Held[t.name] = fmt.Sprintf("process %d (%s) runs from it", pid, program)
			continue
		}
		if !in.Dry {
			say("removing " + t.name)
			if err := remove(t.dir, s.temp("old", t.name)); err != nil {
				return err
			}
		}
		out.Toolchains = append(out.Toolchains, t.name)
	}
	return nil
}

// remove takes a directory's name away at once, then its files: half of a thing must
// not look like one.
func remove(dir, under string) error {
	if err := os.RemoveAll(under); err != nil {
		return err
	}
	if err := os.Rename(dir, under); err != nil {
		return err
	}
	return os.RemoveAll(under)
}

// system is the host's, in a manifest's words: "debian 13".
func (m Machine) system() (string, error) {
	if m.System != "" {
		return m.System, nil
	}
	release, err := keyValues("/etc/os-release", "=")
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(unquote(release["ID"]) + " " + unquote(release["VERSION_ID"])), nil
}
