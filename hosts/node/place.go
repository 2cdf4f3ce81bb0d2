package node

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

func (m Machine) manifestShow(_ context.Context, in ManifestIn, _ io.Reader, _ func(string)) (Head, error) {
	dir, err := rootOf(in.Home, in.Release)
	if err != nil {
		return Head{}, err
	}
	_, head, err := ReadManifest(dir)
	return head, err
}

func (m Machine) placeVerify(ctx context.Context, in VerifyIn, _ io.Reader, _ func(string)) (VerifyOut, error) {
	if err := in.Kind.check(in.Release); err != nil {
		return VerifyOut{}, err
	}
	return m.prove(ctx, in)
}

// standing is how what lies on a host stands to what a pack brings.
type standing struct {
	// whole: it is complete and unharmed, and does what the pack's would.
	whole bool
	// same: it is the pack's very own, so that the pack's signature fits it.
	same bool
	// signed: its signature is the pack's, or one that will do as well.
	signed bool
}

// standing looks at what lies where a pack's release or toolchain belongs. A toolchain
// may be another one than the pack's, if it was made by the same recipe for the same
// system: releases run from it, and it does what the new one would.
func (m Machine) standing(ctx context.Context, pack *packReader) (standing, error) {
	c := pack.claim
	dir := c.shelf.dir(c.release)
	var st standing
	var p placedRecord
	err := readJSON(filepath.Join(dir, placedFile), &p)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return st, err
	}
	if err == nil && p.Digest == c.digest {
		v, err := m.prove(ctx, VerifyIn{Kind: c.shelf.kind, Home: c.shelf.home, Release: c.release, Digest: c.digest, Links: c.links, Writable: c.writable})
		if err != nil || len(v.Differences) > 0 {
			return st, err
		}
		have, err := ReadSignature(dir)
		return standing{whole: true, same: true, signed: bytes.Equal(have, pack.signature)}, err
	}
	if c.shelf.kind != KindToolchain {
		return st, nil
	}
	have, raw, err := readManifest(dir)
	if err != nil || !have.standsFor(pack.manifest) {
		return st, nil //nolint:nilerr // a manifest that cannot be read is as good as none: placing it anew mends it
	}
	if _, err := os.Lstat(filepath.Join(dir, unfinishedFile)); err == nil {
		return st, nil
	}
	v, err := m.prove(ctx, VerifyIn{Kind: c.shelf.kind, Home: c.shelf.home, Release: c.release})
	if err != nil || len(v.Differences) > 0 {
		return st, err
	}
	st.whole, st.same = true, digestOf(raw) == c.digest
	_, refused, err := m.signer(ctx, c.signed, dir, digestOf(raw))
	st.signed = refused == ""
	return st, err
}

// standsFor tells whether a toolchain does what another would.
func (m Manifest) standsFor(other Manifest) bool {
	return m.Kind == KindToolchain && m.Recipe == other.Recipe && m.OS == other.OS && m.Arch == other.Arch
}

func (m Machine) placeWant(ctx context.Context, in WantIn, payload io.Reader, say func(string)) (WantOut, error) {
	pack, err := m.openPack(ctx, payload, claim{m.shelf(in.Kind, in.Home), in.Release, in.Digest, in.Signed, in.Links, in.Writable})
	if err != nil {
		return WantOut{}, err
	}
	defer pack.close()
	if err := cmp.Or(in.Kind.check(in.Release), m.suits(pack.manifest)); err != nil {
		return WantOut{}, err
	}
	shelf := m.shelf(in.Kind, in.Home)
	disk, err := diskOf(shelf.root)
	if err != nil {
		return WantOut{}, err
	}
	out := WantOut{Indexes: []int{}, Free: disk.Free}
	there, err := m.standing(ctx, pack)
	if err != nil {
		return out, err
	}
	if out.Placed = there.whole && there.signed; out.Placed || there.same {
		// One that was placed before it was signed needs its signature alone.
		return out, nil
	}
	if in.Kind == KindToolchain {
		// Told before anything is sent: another one that is in use does not go away by waiting.
		if err := m.free(shelf, in.Home, in.Release, pack.manifest.Recipe); err != nil {
			return out, err
		}
	}
	local := local{shelf: shelf, arrived: shelf.arrived(in.Release), trust: true}
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

// suits refuses what was made for another system: native code of one does not run, or
// runs by luck, on another.
func (m Machine) suits(man Manifest) error {
	system, err := m.system()
	if err != nil {
		return err
	}
	if (man.OS == "" || man.OS == system) && (man.Arch == "" || man.Arch == runtime.GOARCH) {
		return nil
	}
	return Failf(CodePayload, "%s was made for %s (%s), and this host runs %s (%s)", man.Release, man.OS, man.Arch, system, runtime.GOARCH)
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
	pack, err := m.openPack(ctx, payload, claim{m.shelf(in.Kind, in.Home), in.Release, in.Digest, in.Signed, in.Links, in.Writable})
	if err != nil {
		return PutOut{}, err
	}
	defer pack.close()
	if err := m.suits(pack.manifest); err != nil {
		return PutOut{}, err
	}
	// Two calls for one host can meet when a caller repeats after a cut link.
	lock, err := flock(ctx, m.state("place.lock"), syscall.LOCK_EX, fenceWait)
	if err != nil {
		return PutOut{}, fmt.Errorf("cannot place %s: %w", in.Release, err)
	}
	defer lock.Close()
	shelf := m.shelf(in.Kind, in.Home)
	final := shelf.dir(in.Release)
	out := PutOut{Path: final}
	there, err := m.standing(ctx, pack)
	if err != nil {
		return out, err
	}
	if out.Placed = there.whole && (there.signed || there.same); out.Placed {
		if there.signed || len(pack.signature) == 0 {
			return out, nil
		}
		return out, writeFile(filepath.Join(final, signatureFile), pack.signature, 0o644)
	}
	if err := m.free(shelf, in.Home, in.Release, pack.manifest.Recipe); err != nil {
		return out, err
	}
	temp, arrived := shelf.temp("placing", in.Release), shelf.arrived(in.Release)
	err = os.RemoveAll(temp)
	if err == nil {
		p := &placing{PutIn: in, pack: pack, files: pack.manifest.Files, root: temp, arrived: arrived, out: &out, run: RequestOf(ctx).Run}
		err = p.build(ctx, say)
	}
	if err == nil {
		err = install(temp, final)
	}
	if err != nil {
		return out, errors.Join(fmt.Errorf("cannot place %s: %w", in.Release, err), os.RemoveAll(temp), keepArrived(arrived, err))
	}
	return out, os.RemoveAll(arrived)
}

func (in *PutIn) check() error {
	if err := in.Kind.check(in.Release); err != nil {
		return err
	}
	if in.Kind == KindToolchain && (len(in.Links) > 0 || len(in.Writable) > 0 || in.Owner != "") {
		return fmt.Errorf("%s is a toolchain, which has no shared links and nothing that anybody writes to", in.Release)
	}
	if in.Writable == nil && in.Kind == KindRelease && !in.Sealed {
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

// install moves what is complete to its place. Another of its name gives way, in one
// step where the file system can; where it cannot, a crash in between leaves none of that
// name and the next call makes it.
func install(temp, final string) error {
	dir, err := os.Open(filepath.Dir(final))
	if err != nil {
		return err
	}
	defer dir.Close()
	// One flush of the file system: flushing 33,000 files one by one takes minutes.
	if err := Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("cannot flush %s: %w", temp, err)
	}
	if err := exchange(temp, final); err == nil {
		return errors.Join(dir.Sync(), os.RemoveAll(temp))
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
