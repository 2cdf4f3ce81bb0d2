package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"vmst.io/refit/hosts/lab"
)

// Artifact is a release as the other tools get it: one archive, with the same files
// that refit places.
type Artifact struct {
	Release string `json:"release"`
	Files   int    `json:"files"`
	// Bytes of all files, Packed of the archive.
	Bytes  int64 `json:"bytes"`
	Packed int64 `json:"packed_bytes"`
}

// packRelease packs a folder: sorted, with numeric owners, by the same compression
// that a careful hand would take. What only refit reads of its own placing, and what
// the boot on that node left in tmp, stays out.
const packRelease = `set -o pipefail
tar --sort=name --numeric-owner --exclude=./.refit/placed.json --exclude='./tmp/?*' -C "$1" -c . | zstd -3 --long=27 -T0 -q -f -o "$2"`

// artifacts lets refit build and place every release that is rolled to, packs it from
// a node, and takes it off the nodes again. Nobody's time is measured meanwhile: the
// builder has the release from then on, the other tools the archive.
func (b *bench) artifacts(ctx context.Context) (map[string]Artifact, error) {
	out := map[string]Artifact{}
	if err := os.MkdirAll(filepath.Join(b.Dir, "artifact"), 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the artifacts: %w", err)
	}
	from := b.fleet.webs[0]
	for _, release := range b.chosenTargets() {
		began := time.Now()
		b.Say("bench: building and placing %s with refit", release)
		if err := b.refit(ctx, "place", "--to", release); err != nil {
			return nil, err
		}
		dir := b.releaseOn(from.Name, release)
		a := Artifact{Release: release}
		var err error
		if a.Files, a.Bytes, err = weigh(dir); err != nil {
			return nil, fmt.Errorf("cannot pack %s: %w", release, err)
		}
		archive := filepath.Join(b.Dir, "artifact", release+".tar.zst")
		if text, err := exec.CommandContext(ctx, "bash", "-c", packRelease, "bash", dir, archive).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("cannot pack %s: %w: %s", release, err, text)
		}
		info, err := os.Stat(archive)
		if err != nil {
			return nil, fmt.Errorf("cannot pack %s: %w", release, err)
		}
		a.Packed = info.Size()
		out[release] = a
		b.Say("bench: %s has %d files, %.0f MB, %.1f MB packed (%.0f s)", release, a.Files, float64(a.Bytes)/1e6, float64(a.Packed)/1e6, time.Since(began).Seconds())
		if err := b.at(ctx, b.fleet.nodes(), func(lab.Machine) string { return "rm -rf /home/mastodon/releases/" + release }); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// weigh counts the files of a folder and their bytes.
func weigh(dir string) (files int, bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files, bytes = files+1, bytes+info.Size()
		return nil
	})
	return files, bytes, err
}

// refit runs refit outside of any measurement; what it says is in the log folder.
func (b *bench) refit(ctx context.Context, args ...string) (err error) {
	name := filepath.Join(b.Dir, "log", "refit-"+strings.Join(args, "-")+".log")
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("cannot keep what refit says: %w", err)
	}
	log, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("cannot keep what refit says: %w", err)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	c := exec.CommandContext(ctx, b.Refit, args...)
	c.Env = append(os.Environ(), b.refitEnv()...)
	c.Stdout, c.Stderr = log, log
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	if err := b.Lab.Launch(c); err != nil {
		return err
	}
	if err := c.Wait(); err != nil {
		return fmt.Errorf("refit %s: %w: %s", strings.Join(args, " "), err, lastLines(filepath.Dir(name), filepath.Base(name)))
	}
	return nil
}
