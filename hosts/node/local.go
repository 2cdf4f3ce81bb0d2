package node

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// localRelease is a release on this host as a source of files.
type localRelease struct {
	name, dir string
	modified  int64
}

// localReleases lists the releases of this host, as shelf.all does.
func localReleases(homeDir string) ([]localRelease, error) {
	return Machine{}.shelf(KindRelease, homeDir).all()
}

// liveRelease is the name of the live release, empty where there is none.
func liveRelease(homeDir string) (string, error) {
	target, err := os.Readlink(filepath.Join(home(homeDir), "live"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return filepath.Base(target), nil
}

// local looks for contents in what lies on this host beside the thing wanted: a
// release's in other releases, a toolchain's in other toolchains.
type local struct {
	shelf shelf
	// trust believes the manifest of a release as to a file that is there and has its
	// size. It is for an answer that is verified later; otherwise every file is hashed.
	trust bool
	// arrived holds contents of a pack that broke off, by their hash; it may not exist.
	arrived string
	// without are contents, by hash, that need not be looked for.
	without map[string]bool
}

// candidate is a file that may have a content.
type candidate struct {
	path string
	// told: a manifest says that it has it.
	told bool
}

// find returns where each content of a release (by SHA-256) lies. Where a release on
// this host has a manifest, the candidates are the files that it gives that hash; else
// the file of the same path and size.
func (l local) find(ctx context.Context, want Manifest) (map[string]string, error) {
	releases, err := l.shelf.all()
	if err != nil {
		return nil, err
	}
	byHash := make(map[string]int, len(want.Files))
	var entries []Entry
	for i := range contents(want.Files) {
		if e := want.Files[i]; !l.without[e.SHA256] {
			byHash[e.SHA256] = len(entries)
			entries = append(entries, e)
		}
	}
	candidates := make([][]candidate, len(entries))
	if names, err := readNames(l.arrived); err != nil {
		return nil, err
	} else if len(names) > 0 {
		for _, name := range names {
			if i, ok := byHash[name]; ok {
				candidates[i] = append(candidates[i], candidate{path: filepath.Join(l.arrived, name), told: true})
			}
		}
	}
	for _, r := range releases {
		m, _, err := ReadManifest(r.dir)
		if err != nil {
			// Placed by hand, or damaged: its files can still serve, by path.
			for i, e := range entries {
				candidates[i] = append(candidates[i], candidate{path: filepath.Join(r.dir, e.Path)})
			}
			continue
		}
		changes := changing(r.dir)
		for _, e := range m.Files {
			if i, ok := byHash[e.SHA256]; ok && e.Regular() && !changes(e.Path) {
				candidates[i] = append(candidates[i], candidate{path: filepath.Join(r.dir, e.Path), told: true})
			}
		}
	}
	found := make(map[string]string, len(entries))
	var mu sync.Mutex
	err = each(ctx, len(entries), func(i int, buf []byte) error {
		e := entries[i]
		for _, c := range candidates[i] {
			fi, err := os.Lstat(c.path)
			if err != nil || !fi.Mode().IsRegular() || fi.Size() != e.Size {
				continue
			}
			if !l.trust || !c.told {
				// A candidate that cannot be read is none; the content is then sent.
				if sum, _, err := hashFile(c.path, buf); err != nil || sum != e.SHA256 {
					continue
				}
			}
			mu.Lock()
			found[e.SHA256] = c.path
			mu.Unlock()
			return nil
		}
		return nil
	})
	return found, err
}

// changing tells which files of a release a running one may change after they were
// hashed: what it writes to, and what is not its own but shared. A record of that which
// cannot be read is as good as none: a release then writes to tmp alone.
func changing(dir string) func(string) bool {
	var p placedRecord
	if err := readJSON(filepath.Join(dir, placedFile), &p); err != nil {
		p = placedRecord{Writable: []string{"tmp"}}
	}
	return p.differs()
}

// worksIn finds a process whose working directory lies in dir: its pid and name,
// or 0. Processes that end meanwhile, or that may not be looked at, are passed over.
func (m Machine) worksIn(dir string) (pid int, name string, err error) {
	all, err := m.processes()
	if err != nil {
		return 0, "", err
	}
	for _, p := range all {
		cwd, err := os.Readlink(m.proc(itoa(p.pid), "cwd"))
		if err != nil || (cwd != dir && !strings.HasPrefix(cwd, dir+"/")) {
			continue
		}
		comm, err := os.ReadFile(m.proc(itoa(p.pid), "comm"))
		if err != nil {
			continue
		}
		return p.pid, strings.TrimSpace(string(comm)), nil
	}
	return 0, "", nil
}
