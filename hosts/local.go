package hosts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Local is a Shell on this machine. A command whose context ends is told so with
// SIGTERM, and killed five seconds later.
type Local struct{}

// Run runs the command as a child of this process.
func (Local) Run(ctx context.Context, c Command, out io.Writer) error {
	argv := c.Argv
	if len(argv) == 0 {
		return errors.New("no command")
	}
	if c.Sudo && os.Geteuid() != 0 {
		argv = append([]string{"sudo", "-n", "--"}, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = c.Dir
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	errs := &Tail{Max: 4 << 10}
	cmd.Stdout, cmd.Stderr = out, errs
	if out == nil {
		cmd.Stdout = io.Discard
	}
	stop, err := feed(cmd, c.Stdin)
	if err != nil {
		return err
	}
	if err = cmd.Start(); err == nil {
		err = cmd.Wait()
	}
	stop()
	var exit *exec.ExitError
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("%s: %w", CommandName(c.Argv), context.Cause(ctx))
	case errors.As(err, &exit):
		return &ExitError{Command: CommandName(c.Argv), Code: exit.ExitCode(), Stderr: errs.String()}
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return &ExitError{Command: CommandName(c.Argv), Code: 127, Stderr: err.Error()}
	}
	return err
}

// feed copies in to the command's standard input. Unlike exec.Cmd it does not
// make the command's end wait for a reader that has nothing to give.
func feed(cmd *exec.Cmd, in io.Reader) (stop func(), err error) {
	if in == nil {
		return func() {}, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdin = r
	var once sync.Once
	closeWriter := func() {
		once.Do(func() {
			w.Close() //nolint:errcheck // the reader's end is all that counts
		})
	}
	go func() {
		// A command need not read all it is given; then the pipe breaks.
		io.Copy(w, in) //nolint:errcheck // see above
		closeWriter()
	}()
	return func() {
		closeWriter()
		r.Close() //nolint:errcheck // only read from
	}, nil
}

// Put writes a file whole.
func (Local) Put(ctx context.Context, path string, mode fs.FileMode, r io.Reader) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".refit-tmp-*")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	_, err = io.Copy(f, r)
	err = errors.Join(err, context.Cause(ctx), f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot write %s: %w", path, err), os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
