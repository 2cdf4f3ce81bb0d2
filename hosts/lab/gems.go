package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// gems gives the folder of a static gem registry that holds the named gems and all
// they need, repacked from the image's Debian packages. It is kept in the cache
// under what it is made from.
func (l *Lab) gems(ctx context.Context, names []string) (string, error) {
	script, err := os.ReadFile(filepath.Join(l.Files, "gems", "repack.rb"))
	if err != nil {
		return "", fmt.Errorf("cannot make the gem registry: %w", err)
	}
	h := sha256.New()
	fmt.Fprintln(h, workshopRoot(l.More).key(), strings.Join(names, " "))
	h.Write(script)
	dir, there, err := inCache(l.Cache, "gems-"+hex.EncodeToString(h.Sum(nil))[:16])
	if there || err != nil {
		return dir, err
	}
	began := time.Now()
	err = InImage(ctx, func(root string) error {
		if err := put(filepath.Join(root, "tmp/repack.rb"), script, 0o644); err != nil {
			return err
		}
		argv := append([]string{"chroot", root, "env", "-i", "PATH=/usr/bin:/bin", "LANG=C.UTF-8", "ruby", "/tmp/repack.rb", "/tmp/gems"}, names...)
		out, err := run(ctx, argv...)
		if err != nil {
			return err
		}
		l.say("gems: %s, %.1f s", strings.TrimSpace(out), time.Since(began).Seconds())
		if _, err := run(ctx, "cp", "-a", filepath.Join(root, "tmp/gems"), dir+".new"); err != nil {
			return err
		}
		if err := os.Rename(dir+".new", dir); err != nil {
			return err
		}
		return tidy(l.Cache, "gems-*")
	})
	if err != nil {
		return "", fmt.Errorf("cannot make the gem registry: %w", err)
	}
	return dir, nil
}

// InImage runs f with a throw-away copy of the workshop, for what must be made with
// Debian's own programs (chroot). The image must be mounted, as it is from
// within Up on.
func InImage(ctx context.Context, f func(root string) error) (err error) {
	work, err := os.MkdirTemp(runDir, "work-")
	if err != nil {
		return fmt.Errorf("cannot open the image: %w", err)
	}
	defer func() {
		for _, d := range []string{filepath.Join(work, "root/dev/null"), filepath.Join(work, "root"), filepath.Join(work, "rw")} {
			if uerr := unix.Unmount(d, 0); uerr != nil && !errors.Is(uerr, unix.EINVAL) && !errors.Is(uerr, unix.ENOENT) {
				err = errors.Join(err, fmt.Errorf("cannot close the image: %w", uerr))
			}
		}
		if ms, merr := mounts(work); merr == nil && len(ms) == 0 {
			err = errors.Join(err, os.RemoveAll(work))
		}
	}()
	rw, root := filepath.Join(work, "rw"), filepath.Join(work, "root")
	if err := errors.Join(os.Mkdir(rw, 0o755), os.Mkdir(root, 0o755)); err != nil {
		return fmt.Errorf("cannot open the image: %w", err)
	}
	if err := unix.Mount("refit-lab", rw, "tmpfs", 0, "size=4g,mode=755"); err != nil {
		return fmt.Errorf("cannot open the image: %w", err)
	}
	if err := errors.Join(os.Mkdir(filepath.Join(rw, "upper"), 0o755), os.Mkdir(filepath.Join(rw, "work"), 0o755)); err != nil {
		return fmt.Errorf("cannot open the image: %w", err)
	}
	opts := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", filepath.Join(runDir, "workshop"), rw, rw)
	if err := unix.Mount("refit-lab", root, "overlay", 0, opts); err != nil {
		return fmt.Errorf("cannot open the image: %w", err)
	}
	null := filepath.Join(root, "dev/null")
	if err := put(null, nil, 0o666); err != nil {
		return fmt.Errorf("cannot open the image: %w", err)
	}
	if err := unix.Mount("/dev/null", null, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot open the image: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return f(root)
}
