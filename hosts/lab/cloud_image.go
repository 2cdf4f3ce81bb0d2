package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// standstillLimit is after how long a host is let go on even if its disk is not copied
// yet: the snapshot fails then, the site does not.
const standstillLimit = 10 * time.Second

// partPrefix begins the name of an image that is not whole.
const partPrefix = ".part-"

// KeptImage is the disk of a host that was kept, of which hosts can be made.
type KeptImage struct {
	Key string `json:"key"`
	// Instance is the droplet ID of the host that it was taken of.
	Instance int `json:"instance"`
	// Machine is that host.
	Machine Machine `json:"machine"`
	// Bytes is what its files hold.
	Bytes int64 `json:"bytes"`
	// Standstill is for how long the host stood still meanwhile, in seconds; 0 for one
	// that was off or frozen anyway.
	Standstill float64   `json:"standstill_seconds"`
	Made       time.Time `json:"made"`
}

// imageDir is where an image is kept: its writable layer in "upper", what it is in
// "image.json".
func (l *Lab) imageDir(key string) (string, error) {
	if key == "" || strings.HasPrefix(key, ".") {
		return "", fmt.Errorf("cannot name an image %q", key)
	}
	return l.path("images", url.PathEscape(key)), nil
}

// Kept tells what is kept under that key.
func (l *Lab) Kept(key string) (KeptImage, error) {
	var im KeptImage
	dir, err := l.imageDir(key)
	if err != nil {
		return im, err
	}
	b, err := os.ReadFile(filepath.Join(dir, "image.json"))
	if err == nil {
		err = json.Unmarshal(b, &im)
	}
	if err != nil {
		return im, fmt.Errorf("the lab keeps no image %q: %w", key, err)
	}
	return im, nil
}

// Snapshot keeps a host's disk as it is now, like a cloud's snapshot of a running machine:
// as consistent as after a crash. Nearly all is copied while the host runs; it stands
// still for what has changed since alone.
func (d Droplets) Snapshot(ctx context.Context, droplet, image string) (_ int64, err error) {
	m, err := machine(droplet)
	if err != nil {
		return 0, err
	}
	dir, err := d.lab.imageDir(image)
	if err != nil {
		return 0, err
	}
	if _, err := os.Stat(dir); err == nil {
		return 0, fmt.Errorf("cannot keep the disk of %s as %s: there is one of that name", droplet, image)
	}
	part := filepath.Join(filepath.Dir(dir), partPrefix+filepath.Base(dir))
	if err := errors.Join(os.RemoveAll(part), os.MkdirAll(filepath.Join(part, "upper"), 0o755)); err != nil {
		return 0, fmt.Errorf("cannot keep the disk of %s: %w", droplet, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(part))
		}
	}()
	im := KeptImage{Key: image, Machine: m, Made: time.Now().UTC()}
	if im.Instance, err = instance(droplet); err != nil {
		return 0, err
	}
	still, err := keepDisk(ctx, droplet, filepath.Join(part, "upper"))
	if err != nil {
		return 0, fmt.Errorf("cannot keep the disk of %s: %w", droplet, err)
	}
	im.Standstill = still.Seconds()
	if im.Bytes, err = weigh(filepath.Join(part, "upper")); err != nil {
		return 0, fmt.Errorf("cannot keep the disk of %s: %w", droplet, err)
	}
	b, err := json.MarshalIndent(im, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(part, "image.json"), b, 0o600)
	}
	if err == nil {
		err = os.Rename(part, dir)
	}
	if err != nil {
		return 0, fmt.Errorf("cannot keep the disk of %s: %w", droplet, err)
	}
	d.lab.say("cloud: kept the disk of %s as %s: %d MiB, stood still for %.3f s", droplet, image, im.Bytes>>20, im.Standstill)
	return im.Bytes, nil
}

// Forget drops an image; one that is not there is dropped already.
func (d Droplets) Forget(_ context.Context, image string) error {
	dir, err := d.lab.imageDir(image)
	if err != nil {
		return err
	}
	// First what it is: half an image is none.
	if err := errors.Join(os.RemoveAll(filepath.Join(dir, "image.json")), os.RemoveAll(dir)); err != nil {
		return fmt.Errorf("cannot drop image %s: %w", image, err)
	}
	return nil
}

// keepDisk copies a host's writable layer and tells for how long the host stood still.
func keepDisk(ctx context.Context, host, to string) (still time.Duration, err error) {
	from := hostDir(host, "rw", "upper")
	pid, err := leader(host)
	if err != nil {
		return 0, err
	}
	if pid == 0 || isFrozen(host) {
		return 0, copyLayer(ctx, from, to)
	}
	if _, err := inside(ctx, host, "sync", "-f", "/"); err != nil {
		return 0, err
	}
	// The second copy takes what has changed during the first, which takes seconds.
	for range 2 {
		if err := copyLiving(ctx, from, to); err != nil {
			return 0, err
		}
	}
	mapped, err := mappedFiles(host)
	if err != nil {
		return 0, err
	}
	if err := dropFiles(to, mapped); err != nil {
		return 0, err
	}
	// A server that is killed from here on finds by this file whom to let go on.
	if err := os.WriteFile(heldMark(host), nil, 0o600); err != nil {
		return 0, err
	}
	limited, cancel := context.WithTimeoutCause(ctx, standstillLimit, fmt.Errorf("it would have stood still for more than %s", standstillLimit))
	defer cancel()
	began := time.Now()
	err = setFrozen(limited, host, true)
	if err == nil {
		err = copyLayer(limited, from, to)
	}
	if err != nil && limited.Err() != nil {
		err = errors.Join(err, context.Cause(limited))
	}
	err = errors.Join(err, setFrozen(context.WithoutCancel(ctx), host, false))
	return time.Since(began), errors.Join(err, os.Remove(heldMark(host)))
}

func heldMark(host string) string { return hostDir(host, "held-by-snapshot") }

// letGo thaws the hosts that a snapshot held when its server was killed.
func letGo(ctx context.Context) error {
	all, err := present()
	if err != nil {
		return err
	}
	for _, m := range all {
		if _, err := os.Stat(heldMark(m.Name)); err != nil {
			continue
		}
		if err := errors.Join(setFrozen(ctx, m.Name, false), os.Remove(heldMark(m.Name))); err != nil {
			return err
		}
	}
	return nil
}

// copyLayer makes to equal from: owners, hard links, extended attributes and the devices
// 0:0 by which an overlay says that a file is gone. Times are compared to the nanosecond:
// by the second alone, a file that was written twice in one second at the same size
// would keep its first content.
func copyLayer(ctx context.Context, from, to string) error {
	_, err := run(ctx, copyArgs(from, to)...)
	return err
}

func copyArgs(from, to string) []string {
	return []string{"rsync", "-aHAX", "--numeric-ids", "--delete", "--whole-file", "--modify-window=-1", from + "/", to + "/"}
}

// copyLiving is copyLayer of what changes meanwhile: a file that vanishes or cannot be read
// whole is for a later pass.
func copyLiving(ctx context.Context, from, to string) error {
	err := copyLayer(ctx, from, to)
	const partial, vanished = 23, 24
	if e, ok := errors.AsType[*exec.ExitError](err); ok && (e.ExitCode() == partial || e.ExitCode() == vanished) {
		return nil
	}
	return err
}

// writtenInMemory is a line of /proc/PID/maps for a file that a process may change through
// its memory: its device is not told, the path is as the process sees it.
var writtenInMemory = regexp.MustCompile(`(?m)^\S+ .w.s \S+ \S+ [1-9]\d* +(/.*)$`)

// mappedFiles are the files, below the host's root, that its programs have in memory to
// write on. A memory file system does not change a file's time at such writes.
func mappedFiles(host string) ([]string, error) {
	u, err := unified()
	if err != nil {
		return nil, err
	}
	var out []string
	err = filepath.WalkDir(filepath.Join(u, cgroup, host), func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a unit has just ended
		}
		if err != nil || e.Name() != "cgroup.procs" {
			return err
		}
		pids, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, pid := range strings.Fields(string(pids)) {
			maps, err := os.ReadFile(filepath.Join("/proc", pid, "maps"))
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
				continue
			}
			if err != nil {
				return err
			}
			out = append(out, mappedIn(string(maps))...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot find what %s has in memory: %w", host, err)
	}
	return out, nil
}

// dropFiles removes files of a copy, so that the next pass brings them anew.
func dropFiles(dir string, names []string) (err error) {
	// Links of the copy must not lead out of it.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	for _, name := range names {
		if err := root.Remove(strings.TrimPrefix(name, "/")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// mappedIn reads one process's maps.
func mappedIn(maps string) []string {
	var out []string
	for _, m := range writtenInMemory.FindAllStringSubmatch(maps, -1) {
		if p := m[1]; !strings.HasSuffix(p, " (deleted)") && !strings.HasPrefix(p, "/dev/") && filepath.Clean(p) == p {
			out = append(out, p)
		}
	}
	return out
}

// weigh is the sum of what the regular files below dir hold.
func weigh(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		sum += info.Size()
		return nil
	})
	return sum, err
}
