package node

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// present is a file as it lies there.
type present struct {
	content  []byte
	uid, gid int
	mode     uint32
}

func (p *present) same(q *present) bool {
	if p == nil || q == nil {
		return p == nil && q == nil
	}
	return p.uid == q.uid && p.gid == q.gid && p.mode == q.mode && bytes.Equal(p.content, q.content)
}

// fault refuses a file that refit has no business with, or that nobody would read.
func fault(in ConfigIn, f ConfigFile) error {
	p := f.Path
	switch {
	case !path.IsAbs(p) || path.Clean(p) != p || strings.ContainsAny(p, "\x00\n"):
		return fmt.Errorf("%q is no clean absolute path", p)
	case !strings.HasPrefix(p, "/etc/") && !slices.Contains(in.Paths, p):
		return fmt.Errorf("%s is outside of /etc, and not among the other paths that configuration may have (%s)", p, strings.Join(in.Paths, ", "))
	case ofRefit(p) || slices.Contains(in.Never, p):
		return fmt.Errorf("%s is refit's own: it is not part of the configuration; take it out of templates/", p)
	case len(f.Content) > maxFile:
		return fmt.Errorf("%s has more than %d bytes", p, maxFile)
	case f.Check == "stunnel" && len(f.Restart)+len(f.Reload) == 0:
		return fmt.Errorf("%s: stunnel reads its configuration only when it starts, and files.yml names no unit to restart for it: add restart: [stunnel4.service], or what it is called there", p)
	}
	switch f.Check {
	case "nginx", "systemd", "stunnel", "none", "":
	default:
		return fmt.Errorf("%s: this refit knows no check %q", p, f.Check)
	}
	return checkUnits(slices.Concat(f.Restart, f.Reload)...)
}

// ofRefit tells whether a path is one that refit writes by itself or keeps secrets in.
func ofRefit(p string) bool {
	return strings.HasPrefix(p, "/etc/refit/") || strings.HasPrefix(p, StateDir+"/") || path.Base(p) == dropInName
}

// here is a path of the machine's, with every folder on the way to it proven to be one: a
// symbolic link anywhere is refused, so that nothing is read or written in another place.
// Folders that lack are made where make says so.
func (m Machine) here(p string, makeDirs bool) (string, error) {
	at := m.root()
	parts := strings.Split(strings.TrimPrefix(path.Dir(p), "/"), "/")
	for _, part := range parts {
		at = filepath.Join(at, part)
		fi, err := os.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) && makeDirs {
			if err := os.MkdirAll(at, 0o755); err != nil {
				return "", err
			}
			if err := syncDir(filepath.Dir(at)); err != nil {
				return "", err
			}
			continue
		}
		switch {
		case err != nil:
			return "", err
		case fi.Mode()&fs.ModeSymlink != 0:
			return "", fmt.Errorf("%s: %s is a symbolic link, and refit follows none: name the place that it leads to", p, strings.TrimPrefix(at, strings.TrimSuffix(m.root(), "/")))
		case !fi.IsDir():
			return "", fmt.Errorf("%s: %s is no folder", p, at)
		}
	}
	return filepath.Join(at, path.Base(p)), nil
}

// present is what lies at a path; nil for nothing.
func (m Machine) present(p string) (*present, error) {
	at, err := m.here(p, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no file is an answer
	}
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(at, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no file is an answer
	}
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link, and refit follows none: name the place that it leads to, or remove it", p)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || !fi.Mode().IsRegular() || fi.Size() > maxFile {
		return nil, fmt.Errorf("%s is no file of at most %d bytes", p, maxFile)
	}
	b := make([]byte, fi.Size())
	n, err := f.ReadAt(b, 0)
	if n < len(b) {
		return nil, fmt.Errorf("cannot read %s: %w", p, err)
	}
	return &present{content: b, uid: int(st.Uid), gid: int(st.Gid), mode: uint32(fi.Mode().Perm())}, nil
}

// put writes a file whole: under another name, with its rights, flushed, renamed.
func (m Machine) put(p string, w present) error {
	at, err := m.here(p, true)
	if err != nil {
		return err
	}
	dir, name := filepath.Split(at)
	// What a call left that was killed here.
	left, err := filepath.Glob(filepath.Join(dir, tempPrefix+name+"-*"))
	if err != nil {
		return err
	}
	for _, l := range left {
		if err := removeIfThere(l); err != nil {
			return err
		}
	}
	f, err := os.CreateTemp(dir, tempPrefix+name+"-*")
	if err != nil {
		return err
	}
	// Readable by root alone until it has its owner.
	_, err = f.Write(w.content)
	if err == nil && (w.uid != os.Geteuid() || w.gid != os.Getegid()) {
		err = f.Chown(w.uid, w.gid)
	}
	err = errors.Join(err, f.Chmod(fs.FileMode(w.mode&0o777)), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), at)
	}
	if err != nil {
		return errors.Join(err, removeIfThere(f.Name()))
	}
	return syncDir(dir)
}

func (m Machine) putOrRemove(p string, old *present) error {
	if old != nil {
		return m.put(p, *old)
	}
	at, err := m.here(p, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := removeIfThere(at); err != nil {
		return err
	}
	return syncDir(filepath.Dir(at))
}

func lookupGroup(name string) (int, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("this host has no group %s: %w", name, err)
	}
	return strconv.Atoi(g.Gid)
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

func groupNamed(gid int) string {
	if g, err := user.LookupGroupId(strconv.Itoa(gid)); err == nil {
		return g.Name
	}
	return strconv.Itoa(gid)
}
