package node

import (
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
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// placing is one release being built under a temporary name.
type placing struct {
	PutIn
	pack  *packReader
	files []Entry // of the manifest
	root  string
	// arrived is where contents of the pack lie, by their hash, until the release is whole.
	arrived string
	run     string
	out     *PutOut
}

func (p *placing) build(ctx context.Context, say func(string)) error {
	skip := placedRecord{Links: p.Links}.differs()
	coming, err := p.pack.contents()
	if err != nil {
		return err
	}
	local := local{shelf: p.pack.claim.shelf, arrived: p.arrived, without: coming}
	found, err := local.find(ctx, p.pack.manifest)
	if err != nil {
		return err
	}
	if err := p.harmed(ctx); err != nil {
		return err
	}
	if err := p.lacks(found, coming, skip); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(p.root, metaDir), 0o755); err != nil {
		return err
	}
	for _, e := range p.files {
		if e.Dir && !skip(e.Path) {
			if err := os.MkdirAll(filepath.Join(p.root, e.Path), 0o755); err != nil {
				return err
			}
		}
	}
	if err := p.unpack(ctx, found); err != nil {
		return err
	}
	say(fmt.Sprintf("%d files arrived", p.out.Sent))
	if err := p.fill(ctx, found, skip); err != nil {
		return err
	}
	for _, e := range p.files {
		if e.Link != "" && !skip(e.Path) {
			if err := os.Symlink(e.Link, filepath.Join(p.root, e.Path)); err != nil {
				return err
			}
		}
	}
	return p.finish(skip)
}

// lacks refuses a pack without a content that no release on this host has either,
// before anything of it is read, so that the caller can send it with the next.
func (p *placing) lacks(found map[string]string, coming map[string]bool, skip func(string) bool) error {
	needed := make(map[string]bool, len(p.files))
	for _, e := range p.files {
		if e.Regular() && found[e.SHA256] == "" && !coming[e.SHA256] && !skip(e.Path) {
			needed[e.SHA256] = true
		}
	}
	for i := range contents(p.files) {
		if needed[p.files[i].SHA256] {
			p.out.Lacking = append(p.out.Lacking, i)
		}
	}
	switch n := len(p.out.Lacking); n {
	case 0:
		return nil
	case 1:
		return Failf(CodePayload, "the pack lacks %s, and no release on this host has it unharmed", p.files[p.out.Lacking[0]].Path)
	default:
		return Failf(CodePayload, "the pack lacks %s and %d other files, and no release on this host has them unharmed", p.files[p.out.Lacking[0]].Path, n-1)
	}
}

// when is the time that a path is to have; came is the one with which it came.
func (p *placing) when(rel string, came time.Time) time.Time {
	if p.pack.manifest.Modified.IsZero() {
		return came
	}
	return FileTime(rel, p.pack.manifest.Modified)
}

// writeContent writes a new file from r and verifies what it wrote.
func writeContent(dst string, e Entry, r io.Reader, modified time.Time, buf []byte) error {
	f, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fs.FileMode(e.Mode))
	if err != nil {
		return err
	}
	h := sha256.New()
	// A byte more than the manifest says is enough to refuse it, and no disk is filled.
	n, err := io.CopyBuffer(onlyWriter{f}, io.TeeReader(io.LimitReader(r, e.Size+1), h), buf)
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
// linked only if its owner, mode and time are right already, and never in a writable
// directory: what one release writes must not change another.
func (p *placing) fill(ctx context.Context, found map[string]string, skip func(string) bool) error {
	files := p.files
	var linked, copied atomic.Int64
	err := each(ctx, len(files), func(i int, buf []byte) error {
		e := files[i]
		dst := filepath.Join(p.root, e.Path)
		src := found[e.SHA256]
		if !e.Regular() || skip(e.Path) {
			return nil
		}
		fi, err := os.Lstat(src)
		if err != nil {
			return err
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		// ext4 allows 65,000 links to a file; far below it a copy is as good.
		same := ok && int(st.Uid) == os.Geteuid() && uint32(fi.Mode().Perm()) == e.Mode && fi.Mode()&(fs.ModeSetuid|fs.ModeSetgid) == 0 && st.Nlink < 10_000 &&
			fits(e.Path, p.pack.manifest.Modified, fi.ModTime())
		other := !strings.HasPrefix(src, p.arrived+"/")
		if same && !below(e.Path, p.Writable) {
			if err := os.Link(src, dst); err == nil {
				if other {
					linked.Add(1)
				}
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
		if other {
			copied.Add(1)
		}
		return writeContent(dst, e, onlyReader{f}, p.when(e.Path, fi.ModTime()), buf)
	})
	p.out.Linked, p.out.Copied = int(linked.Load()), int(copied.Load())
	return err
}

// finish makes the shared links, the writable directories and the records, and
// gives directories their modes and times.
func (p *placing) finish(skip func(string) bool) error {
	for link, target := range p.Links {
		path := filepath.Join(p.root, link)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(target, path); err != nil {
			return err
		}
	}
	for _, e := range slices.Backward(p.files) {
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
	if err := writeFile(filepath.Join(p.root, manifestFile), p.pack.raw, 0o644); err != nil {
		return err
	}
	if len(p.pack.signature) > 0 {
		if err := writeFile(filepath.Join(p.root, signatureFile), p.pack.signature, 0o644); err != nil {
			return err
		}
	}
	if err := p.record(); err != nil {
		return err
	}
	return p.dirTimes(skip)
}

// record writes down how a thing was placed. A sealed release lies as it was built, and
// has to be placed yet where Mastodon is to run it.
func (p *placing) record() error {
	if p.Sealed && p.Kind == KindRelease {
		return nil
	}
	b, err := json.Marshal(placedRecord{Digest: p.Digest, Run: p.run, Links: p.Links, Writable: p.Writable, Owner: p.Owner})
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(p.root, placedFile), append(b, '\n'), 0o644)
}

// dirTimes gives directories their times, when nothing more is put into them.
func (p *placing) dirTimes(skip func(string) bool) error {
	if p.pack.manifest.Modified.IsZero() {
		return nil
	}
	for _, e := range p.files {
		if !e.Dir || skip(e.Path) {
			continue
		}
		at := p.when(e.Path, time.Time{})
		if err := os.Chtimes(filepath.Join(p.root, e.Path), at, at); err != nil {
			return err
		}
	}
	return nil
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
