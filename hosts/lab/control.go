package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ControlDir is where InControl shows a folder of the machine.
const ControlDir = "/bench"

// InControl runs f with a root as InImage's from which a fleet can be run by hand,
// like the Debian machine of an operator: beside the hosts' own programs it has
// /proc, the devices and the shared memory that they ask for, and the folder dir of
// this machine at ControlDir.
func InControl(ctx context.Context, dir string, f func(root string) error) error {
	return InImage(ctx, func(root string) (err error) {
		var made []string // mount points, in their order
		defer func() {
			for i := len(made) - 1; i >= 0; i-- {
				// What still runs in there keeps its view; the name is free at once.
				if uerr := unix.Unmount(made[i], unix.MNT_DETACH); uerr != nil {
					err = errors.Join(err, fmt.Errorf("cannot close the control root: %w", uerr))
				}
			}
		}()
		mount := func(from, at, kind string, flags uintptr, data string) error {
			at = filepath.Join(root, at)
			if err := unix.Mount(from, at, kind, flags, data); err != nil {
				return fmt.Errorf("cannot open the control root: mount %s: %w", at, err)
			}
			made = append(made, at)
			return nil
		}
		for _, d := range []string{"proc", "dev/shm", ControlDir} {
			if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
				return fmt.Errorf("cannot open the control root: %w", err)
			}
		}
		if err := mount("proc", "proc", "proc", 0, ""); err != nil {
			return err
		}
		if err := mount("refit-lab", "dev/shm", "tmpfs", 0, "size=256m,mode=1777"); err != nil {
			return err
		}
		for _, d := range []string{"zero", "full", "random", "urandom"} {
			if err := put(filepath.Join(root, "dev", d), nil, 0o666); err != nil {
				return fmt.Errorf("cannot open the control root: %w", err)
			}
			if err := mount(filepath.Join("/dev", d), filepath.Join("dev", d), "", unix.MS_BIND, ""); err != nil {
				return err
			}
		}
		// Bash opens its process substitutions through this name.
		fd := filepath.Join(root, "dev/fd")
		if err := errors.Join(os.RemoveAll(fd), os.Symlink("/proc/self/fd", fd)); err != nil {
			return fmt.Errorf("cannot open the control root: %w", err)
		}
		if err := mount(dir, ControlDir, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		return f(root)
	})
}
