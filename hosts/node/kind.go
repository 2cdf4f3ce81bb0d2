package node

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// Kind is what lies on a host in a directory of its own, described by a manifest and
// placed whole or not at all.
type Kind string

// The kinds.
const (
	// KindRelease is a release of Mastodon; each home has its own. A manifest without
	// a kind is one's.
	KindRelease Kind = ""
	// KindToolchain is a Ruby, a Bundler or a Node that releases run with. They lie
	// below ToolchainsDir, wherever the releases are: programs hold that path.
	KindToolchain Kind = "toolchain"
)

// ToolchainsDir is where a host's toolchains are, one directory each:
// "/opt/refit/ruby-3.4.7".
const ToolchainsDir = "/opt/refit"

var toolchainName = regexp.MustCompile(`^(?:ruby|bundler|node)-[0-9][0-9A-Za-z.-]*$`)

// check refuses a name that cannot be the name of such a thing's directory.
func (k Kind) check(name string) error {
	switch k {
	case KindRelease:
		return checkRelease(name)
	case KindToolchain:
		if !toolchainName.MatchString(name) {
			return fmt.Errorf("%q is not a toolchain's name, such as ruby-3.4.7", name)
		}
		return nil
	}
	return fmt.Errorf("this refit knows no %q that could be placed", string(k))
}

// shelf is where the things of one kind lie on a host.
type shelf struct {
	kind Kind
	root string
	// home holds live; for releases alone.
	home string
}

func (m Machine) shelf(k Kind, homeDir string) shelf {
	if k == KindToolchain {
		return shelf{kind: k, root: m.toolchainsDir()}
	}
	return shelf{kind: k, root: releasesDir(homeDir), home: homeDir}
}

func (m Machine) toolchainsDir() string {
	if m.State != "" {
		return m.state("toolchains")
	}
	return ToolchainsDir
}

func (s shelf) dir(name string) string { return filepath.Join(s.root, name) }

// temp is the name under which a thing is made or taken away.
func (s shelf) temp(deed, name string) string {
	return filepath.Join(s.root, tempPrefix+deed+"-"+name)
}

// all lists what lies there, the live release first, then the newest. What is
// half-made has a name that nothing whole can have.
func (s shelf) all() ([]localRelease, error) {
	dirs, err := os.ReadDir(s.root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	live := ""
	if s.kind == KindRelease {
		if live, err = liveRelease(s.home); err != nil {
			return nil, err
		}
	}
	var all []localRelease
	for _, d := range dirs {
		if !d.IsDir() || s.kind.check(d.Name()) != nil {
			continue
		}
		r := localRelease{name: d.Name(), dir: s.dir(d.Name())}
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
