package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"
)

// snapshotDir is where a host's kept disk is.
func (l *Lab) snapshotDir(host, name string) (string, error) {
	if _, err := machine(host); err != nil {
		return "", err
	}
	bad := strings.IndexFunc(name, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_", r)
	})
	if name == "" || bad >= 0 {
		return "", fmt.Errorf("cannot name a snapshot %q: letters, digits, - and _ only", name)
	}
	return l.path("snapshots", host, name), nil
}

// Snapshot keeps a host's disk as it is now: frozen for the moment, then copied, as
// consistent as after a crash, like a cloud's snapshot of a running machine.
func (l *Lab) Snapshot(ctx context.Context, host, name string) (err error) {
	dir, err := l.snapshotDir(host, name)
	if err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(filepath.Dir(dir), 0o755)); err != nil {
		return fmt.Errorf("cannot keep the disk of %s: %w", host, err)
	}
	if pid, err := leader(host); err == nil && pid != 0 && !isFrozen(host) {
		if err := setFrozen(ctx, host, true); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, setFrozen(context.WithoutCancel(ctx), host, false)) }()
	}
	if _, err := run(ctx, "cp", "-a", hostDir(host, "rw", "upper"), dir); err != nil {
		return fmt.Errorf("cannot keep the disk of %s: %w", host, err)
	}
	return nil
}

// Restore switches a host off, puts a kept disk back and boots it. The standby of a
// restored primary is copied anew.
func (l *Lab) Restore(ctx context.Context, host, name string) error {
	dir, err := l.snapshotDir(host, name)
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("%s has no snapshot %s: %w", host, name, err)
	}
	if err := l.PowerOff(ctx, host); err != nil {
		return err
	}
	if err := unix.Unmount(hostDir(host, "root"), 0); err != nil {
		return fmt.Errorf("cannot unmount the disk of %s: %w", host, err)
	}
	rw := hostDir(host, "rw")
	if err := errors.Join(os.RemoveAll(filepath.Join(rw, "upper")), os.RemoveAll(filepath.Join(rw, "work")), os.Mkdir(filepath.Join(rw, "work"), 0o755)); err != nil {
		return fmt.Errorf("cannot empty the disk of %s: %w", host, err)
	}
	if _, err := run(ctx, "cp", "-a", dir, filepath.Join(rw, "upper")); err != nil {
		return fmt.Errorf("cannot put back the disk of %s: %w", host, err)
	}
	if err := mountOverlay(host); err != nil {
		return err
	}
	if err := l.Start(ctx, host); err != nil {
		return err
	}
	if host == l.Primary {
		// The standby has what its primary no longer knows.
		return l.RebuildStandby(ctx)
	}
	return nil
}
