package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// operator is somebody who runs refit from a folder of his own, with his own copy
// of everything that refit needs: program, key, known hosts, refit.yml, state.
type operator struct {
	name string
	dir  string
	// uid is the user; 0 is root, any other has no account on this machine.
	uid int
	// elsewhere: he sits at another machine, which has its own processes: he cannot
	// see whether the holder of a lease is dead, and takes it with `refit unlock`.
	elsewhere bool
	fleet     *fleet
}

// operators gives root and two users without rights, the second of them at another
// machine where asked. There are three because a step's two marks come in turn: of
// two operators one would only ever begin steps and the other end them.
func (f *fleet) operators(t *testing.T, elsewhere bool) []*operator {
	t.Helper()
	base, err := os.MkdirTemp("", "refit-operators-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(base); err != nil {
			t.Error(err)
		}
	})
	all := []*operator{{name: "root", fleet: f}, {name: "ann", uid: 61001, fleet: f}, {name: "bob", uid: 61002, elsewhere: elsewhere, fleet: f}}
	err = os.Chmod(base, 0o755)
	for _, o := range all {
		o.dir = filepath.Join(base, o.name)
		err = errors.Join(err, o.furnish(f.refit))
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// furnish fills the operator's folder. The paths in refit.yml are relative to it.
func (o *operator) furnish(program string) error {
	f := o.fleet
	text, err := os.ReadFile(f.Config())
	if err != nil {
		return err
	}
	conf := strings.NewReplacer(f.KeyFile(), "./key", f.KnownHosts(), "./known_hosts", f.SigningKey(), "./signing").Replace(string(text))
	if conf == string(text) {
		return fmt.Errorf("%s names neither %s nor %s", f.Config(), f.KeyFile(), f.KnownHosts())
	}
	if err := os.Mkdir(o.dir, 0o700); err != nil {
		return err
	}
	for _, file := range []struct {
		name, from string
		mode       os.FileMode
	}{{"refit", program, 0o755}, {"key", f.KeyFile(), 0o600}, {"known_hosts", f.KnownHosts(), 0o600}, {"signing", f.SigningKey(), 0o600}} {
		b, err := os.ReadFile(file.from)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(o.dir, file.name), b, file.mode); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(o.dir, "refit.yml"), []byte(conf), 0o600); err != nil {
		return err
	}
	return filepath.WalkDir(o.dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, o.uid, o.uid))
	})
}

// mirror is the operator's own copy of a journal.
func (o *operator) mirror(run string) string {
	return filepath.Join(o.dir, ".local", "state", "refit", "lab", run+".json")
}

// command is refit as the operator starts it. Every program on the way to it makes
// way for the next, so the process is refit itself.
func (o *operator) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := filepath.Abs("../../bin/lab")
	if err != nil {
		t.Fatal(err)
	}
	argv := []string{"--dir", o.fleet.Dir, "exec", "--"}
	if o.uid != 0 {
		id := strconv.Itoa(o.uid)
		argv = append(argv, "setpriv", "--reuid", id, "--regid", id, "--clear-groups", "--")
	}
	c := exec.CommandContext(t.Context(), self, append(append(argv, filepath.Join(o.dir, "refit")), args...)...)
	c.Dir = o.dir
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + o.dir, "USER=" + o.name}
	c.WaitDelay = 10 * time.Second
	if o.elsewhere {
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	}
	return c
}

// run runs refit to its end.
func (o *operator) run(t *testing.T, args ...string) answer {
	t.Helper()
	c := o.command(t, args...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return answer{e.ExitCode(), out.String(), errs.String()}
	}
	if err != nil {
		t.Fatal(err)
	}
	return answer{0, out.String(), errs.String()}
}

// takeOver is what somebody at another machine has to do first: he is told who
// holds the lease, and frees it; which may be free already where that is said.
func (o *operator) takeOver(t *testing.T, args []string, free bool) {
	t.Helper()
	a := o.run(t, args...)
	if free && a.code == 0 {
		return
	}
	if a.code != 5 || !strings.Contains(a.err, "is held by") || !strings.Contains(a.err, "refit unlock") {
		t.Fatalf("%s does not meet the lease of somebody at another machine: %s", o.name, a)
	}
	if a := o.run(t, "unlock", "--yes"); a.code != 0 || !strings.Contains(a.err, "last beat") {
		t.Fatalf("%s cannot free the lease: %s", o.name, a)
	}
}

// isTold asks that whoever looks after a kill is told which command comes next.
func (o *operator) isTold(t *testing.T) {
	t.Helper()
	a := o.run(t, "status")
	if a.code != 0 || !strings.Contains(a.out, "next: ") || !strings.Contains(a.out, "`refit resume`") && !strings.Contains(a.out, "`refit unlock`") {
		t.Errorf("after a kill %s sees: %s", o.name, a)
	}
}
