package node

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// keptAgent is the path under which a unit may call this program back. systemd
// runs it as root, whenever the job begins and ends; so where the ssh user owns the
// agents' folder, and could put another file in the agent's place meanwhile, root
// keeps a copy of the very program that runs now.
func (m Machine) keptAgent() (string, error) {
	if m.Agent != "" {
		return m.Agent, nil
	}
	self, err := m.agent()
	if err != nil {
		return "", err
	}
	if ours(self) && ours(filepath.Dir(self)) {
		return self, nil
	}
	kept := m.state("agents", filepath.Base(self))
	// The kernel's own link leads to what was started, whatever has its name by now.
	if err := keep(m.proc("self", "exe"), kept); err != nil {
		return "", fmt.Errorf("cannot keep the agent for the job's own end: %w", err)
	}
	return kept, nil
}

// writeCheck puts a copy of this program where units ask it, unless the same lies there.
// Another version of refit is replaced: all read the same permit, but the newest is
// known to run here.
func (m Machine) writeCheck() (changed bool, err error) {
	from := m.proc("self", "exe")
	if m.Agent != "" {
		from = m.Agent
	}
	same, err := sameContent(from, m.checkProgram())
	if err != nil || same && ours(m.checkProgram()) {
		return false, err
	}
	return true, replace(from, m.checkProgram())
}

// sameContent tells whether two files hold the same bytes; one that is not there differs.
func sameContent(a, b string) (bool, error) {
	buf := make([]byte, 128<<10)
	want, _, err := hashFile(a, buf)
	if err != nil {
		return false, err
	}
	got, _, err := hashFile(b, buf)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return got == want, err
}

// ours tells whether a file or folder can be changed by this process's user alone.
func ours(path string) bool {
	fi, err := os.Lstat(path)
	if err != nil {
		return false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid() && fi.Mode().Perm()&0o022 == 0
}

// keep copies a program to a path that names its content, once.
func keep(from, to string) error {
	want, err := os.Stat(from)
	if err != nil {
		return err
	}
	if fi, err := os.Lstat(to); err == nil && fi.Mode().IsRegular() && ours(to) && fi.Size() == want.Size() {
		return nil
	}
	return replace(from, to)
}

// replace copies a program to a path, whole and durably.
func replace(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	dir := filepath.Dir(to)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	out, err := os.CreateTemp(dir, tempPrefix+filepath.Base(to)+"-*")
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Chmod(fs.FileMode(0o755)), out.Sync(), out.Close()); err == nil {
		err = os.Rename(out.Name(), to)
	}
	if err != nil {
		return errors.Join(err, removeIfThere(out.Name()))
	}
	return syncDir(dir)
}
