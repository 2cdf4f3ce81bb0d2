package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// swap is the verb "switch".
func (m Machine) swap(_ context.Context, in SwitchIn, _ io.Reader, _ func(string)) (SwitchOut, error) {
	if err := checkRelease(in.Release); err != nil {
		return SwitchOut{}, err
	}
	fi, err := os.Stat(releaseDir(in.Home, in.Release))
	if err == nil && !fi.IsDir() {
		err = errors.New("it is no directory")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return SwitchOut{}, Failf(CodeNotFound, "cannot switch to %s: it is not on this host", in.Release)
	}
	if err != nil {
		return SwitchOut{}, fmt.Errorf("cannot switch to %s: %w", in.Release, err)
	}
	if err := m.runnable(in.Home, in.Release); err != nil {
		return SwitchOut{}, fmt.Errorf("cannot switch to %s: %w", in.Release, err)
	}
	if in.Digest != "" {
		if _, digest, err := readHead(releaseDir(in.Home, in.Release)); err != nil || digest != in.Digest {
			return SwitchOut{}, errors.Join(Failf(CodePayload, "cannot switch to %s: what lies there is not the release that was verified (manifest %.12s, verified %.12s)", in.Release, digest, in.Digest), err)
		}
	}
	live := filepath.Join(home(in.Home), "live")
	// A real directory in live's place (an installation by the book) is not replaced.
	if fi, err := os.Lstat(live); err == nil && fi.Mode()&fs.ModeSymlink == 0 {
		return SwitchOut{}, fmt.Errorf("cannot switch to %s: %s is no symbolic link; move it to %s and link it", in.Release, live, releasesDir(in.Home))
	}
	out := SwitchOut{New: in.Release}
	if out.Old, err = liveRelease(in.Home); err != nil {
		return out, err
	}
	target := filepath.Join("releases", in.Release)
	now, err := os.Readlink(live)
	if err == nil && now == target {
		return out, nil
	}
	temp := filepath.Join(home(in.Home), tempPrefix+"live")
	err = removeIfThere(temp)
	if err == nil {
		err = os.Symlink(target, temp)
	}
	if err == nil {
		err = os.Rename(temp, live)
	}
	if err != nil {
		return out, errors.Join(fmt.Errorf("cannot switch to %s: %w", in.Release, err), removeIfThere(temp))
	}
	out.Changed = true
	return out, syncDir(home(in.Home))
}

func (m Machine) prune(ctx context.Context, in PruneIn, _ io.Reader, say func(string)) (PruneOut, error) {
	if len(in.Keep) == 0 {
		return PruneOut{}, errors.New("cannot prune: no release to keep is named")
	}
	lock, err := flock(ctx, m.state("place.lock"), syscall.LOCK_EX, fenceWait)
	if err != nil {
		return PruneOut{}, fmt.Errorf("cannot prune: %w", err)
	}
	defer lock.Close()
	releases, err := localReleases(in.Home)
	if err != nil {
		return PruneOut{}, err
	}
	out := PruneOut{Removed: []string{}, Held: make(map[string]string)}
	for _, r := range releases {
		if slices.Contains(in.Keep, r.name) {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return out, err
		}
		why, err := m.used(in.Home, r.name)
		if err != nil {
			return out, err
		}
		if why != "" {
			out.Held[r.name] = why
			continue
		}
		if !in.Dry {
			say("removing " + r.name)
			// Under another name first: half a release must not look like one.
			old := filepath.Join(releasesDir(in.Home), tempPrefix+"old-"+r.name)
			if err := os.RemoveAll(old); err != nil {
				return out, err
			}
			if err := os.Rename(r.dir, old); err != nil {
				return out, err
			}
			if err := os.RemoveAll(old); err != nil {
				return out, err
			}
		}
		out.Removed = append(out.Removed, r.name)
	}
	if err := m.pruneToolchains(ctx, in, &out, say); err != nil || in.Dry {
		return out, err
	}
	return out, errors.Join(m.shelf(KindRelease, in.Home).dropArrived(), m.shelf(KindToolchain, "").dropArrived())
}

// dropArrived removes what came of packs that were never placed.
func (s shelf) dropArrived() error {
	dirs, err := filepath.Glob(s.arrived("*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}
