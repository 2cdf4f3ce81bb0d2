package node

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

func (m Machine) manifestShow(_ context.Context, in ManifestIn, _ io.Reader, _ func(string)) (Manifest, error) {
	root := in.Release
	if !filepath.IsAbs(root) {
		if err := checkRelease(root); err != nil {
			return Manifest{}, err
		}
		root = releaseDir(in.Home, in.Release)
	}
	return ReadManifest(root)
}

func (m Machine) placeVerify(ctx context.Context, in VerifyIn, _ io.Reader, _ func(string)) (VerifyOut, error) {
	if err := checkRelease(in.Release); err != nil {
		return VerifyOut{}, err
	}
	root := releaseDir(in.Home, in.Release)
	man, err := ReadManifest(root)
	if err != nil {
		return VerifyOut{}, err
	}
	digest, err := man.Digest()
	if err != nil {
		return VerifyOut{}, err
	}
	diffs, err := man.Compare(ctx, root)
	if err != nil {
		return VerifyOut{}, err
	}
	out := VerifyOut{Digest: digest, Files: len(man.Files), Differences: diffs}
	if len(diffs) > 100 {
		out.Differences, out.More = diffs[:100], len(diffs)-100
	}
	return out, nil
}

// placed tells whether a release is on this host complete and unharmed, as the
// manifest says.
func placed(ctx context.Context, dir string, want Manifest) (bool, error) {
	digest, err := want.Digest()
	if err != nil {
		return false, err
	}
	var p placedRecord
	if err := readJSON(filepath.Join(dir, placedFile), &p); errors.Is(err, fs.ErrNotExist) || err == nil && p.Digest != digest {
		return false, nil
	} else if err != nil {
		return false, err
	}
	diffs, err := want.Compare(ctx, dir)
	return err == nil && len(diffs) == 0, err
}

func (m Machine) placeWant(ctx context.Context, in WantIn, _ io.Reader, say func(string)) (WantOut, error) {
	if err := in.Manifest.Check(); err != nil {
		return WantOut{}, err
	}
	disk, err := diskOf(releasesDir(in.Home))
	if err != nil {
		return WantOut{}, err
	}
	out := WantOut{Indexes: []int{}, Free: disk.Free}
	if out.Placed, err = placed(ctx, releaseDir(in.Home, in.Manifest.Release), in.Manifest); err != nil || out.Placed {
		return out, err
	}
	found, err := findLocal(ctx, in.Home, in.Manifest)
	if err != nil {
		return out, err
	}
	asked := make(map[string]bool)
	for i, e := range in.Manifest.Files {
		if !e.Regular() || asked[e.SHA256] {
			continue
		}
		asked[e.SHA256] = true
		if _, ok := found[e.SHA256]; ok {
			out.Local += e.Size
			continue
		}
		out.Indexes = append(out.Indexes, i)
		out.Bytes += e.Size
	}
	say(fmt.Sprintf("%d of %d files to send", len(out.Indexes), len(in.Manifest.Files)))
	return out, nil
}

func (m Machine) placePut(ctx context.Context, in PutIn, payload io.Reader, say func(string)) (PutOut, error) {
	if err := in.check(); err != nil {
		return PutOut{}, err
	}
	// Two calls for one host can meet when a caller repeats after a cut link.
	lock, err := flock(ctx, m.state("place.lock"), syscall.LOCK_EX, fenceWait)
	if err != nil {
		return PutOut{}, fmt.Errorf("cannot place %s: %w", in.Manifest.Release, err)
	}
	defer lock.Close()
	final := releaseDir(in.Home, in.Manifest.Release)
	out := PutOut{Path: final}
	if out.Placed, err = placed(ctx, final, in.Manifest); err != nil || out.Placed {
		return out, err
	}
	if err := m.free(in.Home, in.Manifest.Release, "replace"); err != nil {
		return out, err
	}
	temp := filepath.Join(releasesDir(in.Home), tempPrefix+"placing-"+in.Manifest.Release)
	err = os.RemoveAll(temp)
	if err == nil {
		p := &placing{PutIn: in, root: temp, out: &out, run: RequestOf(ctx).Run}
		err = p.build(ctx, payload, say)
	}
	if err == nil {
		err = install(temp, final)
	}
	if err != nil {
		return out, errors.Join(fmt.Errorf("cannot place %s: %w", in.Manifest.Release, err), os.RemoveAll(temp))
	}
	return out, nil
}

func (in *PutIn) check() error {
	if err := in.Manifest.Check(); err != nil {
		return err
	}
	if in.Writable == nil {
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

// free refuses a release that is in use.
func (m Machine) free(homeDir, release, deed string) error {
	why, err := m.used(homeDir, release)
	if err == nil && why != "" {
		err = Failf(CodeInUse, "cannot %s %s: %s", deed, release, why)
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

// placing is one release being built under a temporary name.
type placing struct {
	PutIn
	root string
	run  string
	out  *PutOut
}

func (p *placing) build(ctx context.Context, payload io.Reader, say func(string)) error {
	files := p.Manifest.Files
	skip := placedRecord{Links: p.Links}.differs()
	if err := os.MkdirAll(filepath.Join(p.root, metaDir), 0o755); err != nil {
		return err
	}
	for _, e := range files {
		if e.Dir && !skip(e.Path) {
			if err := os.MkdirAll(filepath.Join(p.root, e.Path), 0o755); err != nil {
				return err
			}
		}
	}
	found, err := findLocal(ctx, p.Home, p.Manifest)
	if err != nil {
		return err
	}
	if err := p.unpack(ctx, payload, found, skip); err != nil {
		return err
	}
	say(fmt.Sprintf("%d files arrived", p.out.Sent))
	if err := p.fill(ctx, found, skip); err != nil {
		return err
	}
	for _, e := range files {
		if e.Link != "" && !skip(e.Path) {
			if err := os.Symlink(e.Link, filepath.Join(p.root, e.Path)); err != nil {
				return err
			}
		}
	}
	return p.finish(skip)
}

// unpack takes the files of the pack, verifies each, and adds them to found. It
// reads no further than the pack's end.
func (p *placing) unpack(ctx context.Context, payload io.Reader, found map[string]string, skip func(string) bool) error {
	need := false
	for _, e := range p.Manifest.Files {
		need = need || e.Regular() && found[e.SHA256] == ""
	}
	if !need {
		return nil
	}
	z, err := zstd.NewReader(payload, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(32<<20))
	if err != nil {
		return err
	}
	defer z.Close()
	t := tar.NewReader(bufio.NewReaderSize(z, 256<<10))
	buf := make([]byte, 128<<10)
	for ctx.Err() == nil {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return Failf(CodePayload, "the pack broke off after %d files: %v", p.out.Sent, err)
		}
		i, err := strconv.Atoi(h.Name)
		if err != nil || i < 0 || i >= len(p.Manifest.Files) || !p.Manifest.Files[i].Regular() {
			return Failf(CodePayload, "the pack holds %q, which the manifest has no file for", h.Name)
		}
		e := p.Manifest.Files[i]
		dst := filepath.Join(p.root, e.Path)
		if skip(e.Path) {
			dst = filepath.Join(p.root, metaDir, tempPrefix+h.Name) // of use only for its content
		}
		if err := writeContent(dst, e, t, h.ModTime, buf); err != nil {
			return err
		}
		found[e.SHA256] = dst
		p.out.Sent++
	}
	return context.Cause(ctx)
}

// writeContent writes a new file from r and verifies what it wrote.
func writeContent(dst string, e Entry, r io.Reader, modified time.Time, buf []byte) error {
	f, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fs.FileMode(e.Mode))
	if err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.CopyBuffer(onlyWriter{f}, io.TeeReader(r, h), buf)
	if err == nil {
		err = f.Chmod(fs.FileMode(e.Mode)) // the umask took its part when it was made
	}
	if err := errors.Join(err, f.Close()); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return Failf(CodePayload, "the pack broke off in %s", e.Path)
		}
		return err
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != e.SHA256 || n != e.Size {
		return Failf(CodePayload, "%s arrived with other content than the manifest says", e.Path)
	}
	return os.Chtimes(dst, modified, modified)
}

type onlyWriter struct{ io.Writer }

// fill links or copies every file that did not come with the pack. A file is
// linked only if its owner and mode are right already, and never in a writable
// directory: what one release writes must not change another.
func (p *placing) fill(ctx context.Context, found map[string]string, skip func(string) bool) error {
	files := p.Manifest.Files
	for _, e := range files {
		if e.Regular() && found[e.SHA256] == "" && !skip(e.Path) {
			return Failf(CodePayload, "the pack lacks %s, and no release on this host has it", e.Path)
		}
	}
	var linked, copied atomic.Int64
	err := each(ctx, len(files), func(i int, buf []byte) error {
		e := files[i]
		dst := filepath.Join(p.root, e.Path)
		src := found[e.SHA256]
		if !e.Regular() || skip(e.Path) || src == dst {
			return nil
		}
		fi, err := os.Lstat(src)
		if err != nil {
			return err
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		// ext4 allows 65,000 links to a file; far below it a copy is as good.
		same := ok && int(st.Uid) == os.Geteuid() && uint32(fi.Mode().Perm()) == e.Mode && st.Nlink < 10_000
		rel, err := filepath.Rel(p.root, src)
		fromWritable := err == nil && below(rel, p.Writable)
		if same && !below(e.Path, p.Writable) && !fromWritable {
			if err := os.Link(src, dst); err == nil {
				linked.Add(1)
				return nil
			} else if !errors.Is(err, syscall.EXDEV) && !errors.Is(err, syscall.EMLINK) && !errors.Is(err, syscall.EPERM) {
				return err
			}
		}
		f, err := os.Open(src)
		if err != nil {
			return err
		}
		defer f.Close()
		copied.Add(1)
		return writeContent(dst, e, onlyReader{f}, fi.ModTime(), buf)
	})
	p.out.Linked, p.out.Copied = int(linked.Load()), int(copied.Load())
	return err
}

// finish makes the shared links, the writable directories and the records, and
// gives directories their modes.
func (p *placing) finish(skip func(string) bool) error {
	// Files in a place that a shared link takes were of use for their content only.
	spare, err := filepath.Glob(filepath.Join(p.root, metaDir, tempPrefix+"*"))
	if err != nil {
		return err
	}
	for _, f := range spare {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	for link, target := range p.Links {
		path := filepath.Join(p.root, link)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(target, path); err != nil {
			return err
		}
	}
	for i := len(p.Manifest.Files) - 1; i >= 0; i-- {
		e := p.Manifest.Files[i]
		if e.Dir && !skip(e.Path) {
			if err := os.Chmod(filepath.Join(p.root, e.Path), fs.FileMode(e.Mode)); err != nil {
				return err
			}
		}
	}
	for _, dir := range p.Writable {
		if err := os.MkdirAll(filepath.Join(p.root, dir), 0o755); err != nil {
			return err
		}
		if err := chownAll(filepath.Join(p.root, dir), p.Owner); err != nil {
			return err
		}
	}
	if err := p.Manifest.Write(p.root); err != nil {
		return err
	}
	digest, err := p.Manifest.Digest()
	if err != nil {
		return err
	}
	b, err := json.Marshal(placedRecord{Digest: digest, Run: p.run, Links: p.Links, Writable: p.Writable, Owner: p.Owner})
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(p.root, placedFile), append(b, '\n'), 0o644)
}

// chownAll gives a directory and all below it to a user.
func chownAll(dir, owner string) error {
	if owner == "" {
		return nil
	}
	uid, gid, _, err := lookupUser(owner)
	if err != nil {
		return err
	}
	if uid == os.Geteuid() {
		return nil
	}
	return filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(p, uid, gid)
	})
}

// lookupUser finds a user's numbers, with those of all groups.
func lookupUser(name string) (uid, gid int, groups []uint32, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, nil, fmt.Errorf("this host has no user %s: %w", name, err)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return 0, 0, nil, err
	}
	for _, id := range ids {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return 0, 0, nil, err
		}
		groups = append(groups, uint32(n))
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return uid, gid, groups, errors.Join(err1, err2)
}

func itoa(n int) string { return strconv.Itoa(n) }
