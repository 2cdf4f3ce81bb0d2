package node

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// localRelease is a release on this host as a source of files.
type localRelease struct {
	name, dir string
	modified  int64
}

// localReleases lists the releases of this host, the live one first, then the
// newest. Half-made ones have names that no release can have.
func localReleases(homeDir string) ([]localRelease, error) {
	dirs, err := os.ReadDir(releasesDir(homeDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	live, err := liveRelease(homeDir)
	if err != nil {
		return nil, err
	}
	var all []localRelease
	for _, d := range dirs {
		if !d.IsDir() || checkRelease(d.Name()) != nil {
			continue
		}
		r := localRelease{name: d.Name(), dir: releaseDir(homeDir, d.Name())}
		if fi, err := d.Info(); err == nil {
			r.modified = fi.ModTime().UnixNano()
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b localRelease) int {
		if (a.name == live) != (b.name == live) {
			if a.name == live {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.modified, a.modified)
	})
	return all, nil
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

// findLocal looks for a release's contents in the releases of this host and
// returns where each content (by SHA-256) was found. No manifest is trusted:
// every file was hashed just now. Where a release has a manifest, the candidates
// are the files that it gives that hash; else the file of the same path and size.
func findLocal(ctx context.Context, homeDir string, want Manifest) (map[string]string, error) {
	releases, err := localReleases(homeDir)
	if err != nil {
		return nil, err
	}
	type content struct {
		entry      Entry
		candidates []string
	}
	byHash := make(map[string]int, len(want.Files))
	var contents []content
	for _, e := range want.Files {
		if _, seen := byHash[e.SHA256]; e.Regular() && !seen {
			byHash[e.SHA256] = len(contents)
			contents = append(contents, content{entry: e})
		}
	}
	for _, r := range releases {
		m, err := ReadManifest(r.dir)
		if err != nil {
			// Placed by hand, or damaged: its files can still serve, by path.
			for i := range contents {
				c := &contents[i]
				p := filepath.Join(r.dir, c.entry.Path)
				if fi, err := os.Lstat(p); err == nil && fi.Mode().IsRegular() && fi.Size() == c.entry.Size {
					c.candidates = append(c.candidates, p)
				}
			}
			continue
		}
		for _, e := range m.Files {
			// What a running release writes to may change after it was hashed.
			if i, ok := byHash[e.SHA256]; ok && e.Regular() && !below(e.Path, []string{"tmp"}) {
				contents[i].candidates = append(contents[i].candidates, filepath.Join(r.dir, e.Path))
			}
		}
	}
	found := make(map[string]string, len(contents))
	var mu sync.Mutex
	err = each(ctx, len(contents), func(i int, buf []byte) error {
		c := contents[i]
		for _, p := range c.candidates {
			fi, err := os.Lstat(p)
			if err != nil || !fi.Mode().IsRegular() || fi.Size() != c.entry.Size {
				continue
			}
			// A candidate that cannot be read is none; the content is then sent.
			if sum, _, err := hashFile(p, buf); err == nil && sum == c.entry.SHA256 {
				mu.Lock()
				found[sum] = p
				mu.Unlock()
				return nil
			}
		}
		return nil
	})
	return found, err
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
