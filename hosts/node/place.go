package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

func (m Machine) manifestShow(_ context.Context, in ManifestIn, _ io.Reader, _ func(string)) (Head, error) {
	root := in.Release
	if !filepath.IsAbs(root) {
		if err := checkRelease(root); err != nil {
			return Head{}, err
		}
		root = releaseDir(in.Home, in.Release)
	}
	_, head, err := ReadManifest(root)
	return head, err
}

func (m Machine) placeVerify(ctx context.Context, in VerifyIn, _ io.Reader, _ func(string)) (VerifyOut, error) {
	if err := in.Kind.check(in.Release); err != nil {
		return VerifyOut{}, err
	}
	root := m.shelf(in.Kind, in.Home).dir(in.Release)
	man, head, err := ReadManifest(root)
	if err != nil {
		return VerifyOut{}, err
	}
	diffs, err := man.Compare(ctx, root)
	if err != nil {
		return VerifyOut{}, err
	}
	out := VerifyOut{Digest: head.Digest, Files: len(man.Files), Differences: diffs}
	if len(diffs) > 100 {
		out.Differences, out.More = diffs[:100], len(diffs)-100
	}
	return out, nil
}

// placed tells whether a release is on this host complete and unharmed, as the
// manifest says.
func placed(ctx context.Context, dir string, want Manifest, digest string) (bool, error) {
	var p placedRecord
	if err := readJSON(filepath.Join(dir, placedFile), &p); errors.Is(err, fs.ErrNotExist) || err == nil && p.Digest != digest {
		return false, nil
	} else if err != nil {
		return false, err
	}
	diffs, err := want.Compare(ctx, dir)
	return err == nil && len(diffs) == 0, err
}

func (m Machine) placeWant(ctx context.Context, in WantIn, payload io.Reader, say func(string)) (WantOut, error) {
	pack, err := openPack(payload, in.Release, in.Digest)
	if err != nil {
		return WantOut{}, err
	}
	defer pack.close()
	if err := in.Kind.check(in.Release); err != nil {
		return WantOut{}, err
	}
	shelf := m.shelf(in.Kind, in.Home)
	disk, err := diskOf(shelf.root)
	if err != nil {
		return WantOut{}, err
	}
	out := WantOut{Indexes: []int{}, Free: disk.Free}
	if out.Placed, err = shelf.has(ctx, in.Release, pack.manifest, in.Digest); err != nil || out.Placed {
		return out, err
	}
	if in.Kind == KindToolchain {
		// Told before anything is sent: another one that is in use does not go away by waiting.
		if err := m.free(shelf, in.Home, in.Release, pack.manifest.Recipe); err != nil {
			return out, err
		}
	}
	local := local{shelf: shelf, trust: true}
	found, err := local.find(ctx, pack.manifest)
	if err != nil {
		return out, err
	}
	files := pack.manifest.Files
	for i := range contents(files) {
		if _, ok := found[files[i].SHA256]; ok {
			out.Local += files[i].Size
			continue
		}
		out.Indexes = append(out.Indexes, i)
		out.Bytes += files[i].Size
	}
	say(fmt.Sprintf("%d of %d files to send", len(out.Indexes), len(files)))
	return out, nil
}

// contents gives, rising, the places of the files that have a content first.
func contents(files []Entry) iter.Seq[int] {
	return func(yield func(int) bool) {
		seen := make(map[string]bool, len(files))
		for i, e := range files {
			if !e.Regular() || seen[e.SHA256] {
				continue
			}
			seen[e.SHA256] = true
			if !yield(i) {
				return
			}
		}
	}
}

func (m Machine) placePut(ctx context.Context, in PutIn, payload io.Reader, say func(string)) (PutOut, error) {
	if err := in.check(); err != nil {
		return PutOut{}, err
	}
	pack, err := openPack(payload, in.Release, in.Digest)
	if err != nil {
		return PutOut{}, err
	}
	defer pack.close()
	// Two calls for one host can meet when a caller repeats after a cut link.
	lock, err := flock(ctx, m.state("place.lock"), syscall.LOCK_EX, fenceWait)
	if err != nil {
		return PutOut{}, fmt.Errorf("cannot place %s: %w", in.Release, err)
	}
	defer lock.Close()
	shelf := m.shelf(in.Kind, in.Home)
	final := shelf.dir(in.Release)
	out := PutOut{Path: final}
	if out.Placed, err = shelf.has(ctx, in.Release, pack.manifest, in.Digest); err != nil || out.Placed {
		return out, err
	}
	if err := m.free(shelf, in.Home, in.Release, pack.manifest.Recipe); err != nil {
		return out, err
	}
	temp := shelf.temp("placing", in.Release)
	err = os.RemoveAll(temp)
	if err == nil {
		p := &placing{PutIn: in, shelf: shelf, pack: pack, files: pack.manifest.Files, root: temp, out: &out, run: RequestOf(ctx).Run}
		err = p.build(ctx, say)
	}
	if err == nil {
		err = install(temp, final)
	}
	if err != nil {
		return out, errors.Join(fmt.Errorf("cannot place %s: %w", in.Release, err), os.RemoveAll(temp))
	}
	return out, nil
}

func (in *PutIn) check() error {
	if err := in.Kind.check(in.Release); err != nil {
		return err
	}
	if in.Kind == KindToolchain && (len(in.Links) > 0 || len(in.Writable) > 0 || in.Owner != "") {
		return fmt.Errorf("%s is a toolchain, which has no shared links and nothing that anybody writes to", in.Release)
	}
	if in.Writable == nil && in.Kind == KindRelease {
		in.Writable = []string{"tmp"}
	}
	for _, p := range in.Writable {
		if !filepath.IsLocal(p) {
			return fmt.Errorf("writable directory %q is not a path in the release", p)
		}
	}
	for p := range in.Links {
		if !filepath.IsLocal(p) {
			return fmt.Errorf("link %q is not a path in the release", p)
		}
	}
	return nil
}

// free refuses to replace what is in use. recipe is the new toolchain's.
func (m Machine) free(s shelf, homeDir, name, recipe string) error {
	why := ""
	var err error
	if s.kind == KindToolchain {
		why, err = m.holdsToolchain(s, homeDir, name, recipe)
	} else {
		why, err = m.used(homeDir, name)
	}
	if err == nil && why != "" {
		err = Failf(CodeInUse, "cannot replace %s: %s", name, why)
	}
	return err
}

// used tells why a release must stay as it is; empty if nothing needs it.
func (m Machine) used(homeDir, release string) (string, error) {
	live, err := liveRelease(homeDir)
	if err != nil {
		return "", err
	}
	if live == release {
		return "live", nil
	}
	pid, name, err := m.worksIn(releaseDir(homeDir, release))
	if err == nil && pid > 0 {
		return fmt.Sprintf("process %d (%s) works in it", pid, name), nil
	}
	return "", err
}

// install moves a complete release to its place. Another of its name gives way;
// a crash in between leaves no release of that name and the next call makes it.
func install(temp, final string) error {
	dir, err := os.Open(filepath.Dir(final))
	if err != nil {
		return err
	}
	defer dir.Close()
	// One flush of the file system: flushing 33,000 files one by one takes minutes.
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("cannot flush %s: %w", temp, err)
	}
	old := filepath.Join(filepath.Dir(final), tempPrefix+"old-"+filepath.Base(final))
	if err := os.RemoveAll(old); err != nil {
		return err
	}
	if err := os.Rename(final, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(temp, final); err != nil {
		return err
	}
	return errors.Join(dir.Sync(), os.RemoveAll(old))
}
