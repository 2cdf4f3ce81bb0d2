package builds

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"vmst.io/refit/hosts/node"
)

// shelf is where a builder keeps parts of builds for later ones: a folder for each
// kind and key, with the files below tree and the record beside it. An entry gets its
// name whole, in one rename, belongs to root, and is hashed again before it is used.
type shelf struct{ dir string }

const (
	keptTree   = "tree"
	keptRecord = "entry.json"
	// halfMade begins the names of entries that have none yet.
	halfMade = ".making-"
	// keptFormat is the format of records that this code writes, and reads.
	keptFormat = 1
)

// kept is an entry's record.
type kept struct {
	Format int  `json:"format"`
	Kind   Kind `json:"kind"`
	// Key is what it was made from, see PartIn.
	Key string `json:"key"`
	// Release is the one for which it was made, Made when.
	Release string    `json:"release"`
	Made    time.Time `json:"made"`
	// Mirrors are what was fetched from for it, see PartIn.
	Mirrors map[string]string `json:"mirrors,omitempty"`
	// Fetched is what registries served for it.
	Fetched *Fetches     `json:"fetched,omitempty"`
	Files   []node.Entry `json:"files"`
}

func (k kept) bytes() int64 {
	var n int64
	for _, e := range k.Files {
		n += e.Size
	}
	return n
}

func (l Layout) shelf() shelf { return shelf{filepath.Join(l.Cache, "kept")} }

func (s shelf) entry(k Kind, key string) string { return filepath.Join(s.dir, string(k), key) }

// lock lets one process at a time read or change the shelf.
func (s shelf) lock(ctx context.Context) (*os.File, error) {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(err, f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), f.Close())
		case <-tick.C:
		}
	}
}

// find gives an entry, verified, or nil. harm says why one that was there cannot be
// used; it is gone then.
func (s shelf) find(ctx context.Context, k Kind, key string) (found *kept, harm string, err error) {
	at := s.entry(k, key)
	var rec kept
	switch err := readJSON(filepath.Join(at, keptRecord), &rec); {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Lstat(at); errors.Is(err, fs.ErrNotExist) {
			return nil, "", nil
		}
		harm = "it has no record"
	case err != nil:
		harm = "its record cannot be read: " + err.Error()
	case rec.Format != keptFormat || rec.Kind != k || rec.Key != key:
		harm = "its record is another's"
	}
	if harm == "" {
		have, err := node.Scan(ctx, filepath.Join(at, keptTree))
		switch {
		case ctx.Err() != nil:
			return nil, "", context.Cause(ctx)
		case err != nil:
			harm = err.Error()
		default:
			harm = differs(rec.Files, have)
		}
	}
	if harm != "" {
		return nil, harm, s.drop(at)
	}
	now := time.Now()
	return &rec, "", os.Chtimes(filepath.Join(at, keptRecord), now, now) // it was of use today
}

// differs names the first file that is not as recorded; empty for none.
func differs(want, have []node.Entry) string {
	for i := range max(len(want), len(have)) {
		switch {
		case i >= len(have) || i < len(want) && want[i].Path < have[i].Path:
			return want[i].Path + " is missing"
		case i >= len(want) || want[i].Path > have[i].Path:
			return have[i].Path + " was added"
		case want[i] != have[i]:
			return want[i].Path + " was changed"
		}
	}
	return ""
}

// drop takes an entry's name away at once, then its files.
func (s shelf) drop(at string) error {
	gone, err := os.MkdirTemp(s.dir, halfMade+"*")
	if err != nil {
		return err
	}
	if err := os.Rename(at, filepath.Join(gone, "old")); err != nil {
		return errors.Join(err, os.RemoveAll(gone))
	}
	return os.RemoveAll(gone)
}

// put makes an entry of what fill writes into a folder.
func (s shelf) put(ctx context.Context, rec kept, fill func(tree string) error) (kept, error) {
	if err := s.tidy(); err != nil {
		return rec, err
	}
	temp, err := os.MkdirTemp(s.dir, halfMade+"*")
	if err != nil {
		return rec, err
	}
	tree := filepath.Join(temp, keptTree)
	if err = fill(tree); err == nil {
		err = seal(tree, node.FixedTime())
	}
	if err == nil {
		rec.Format, rec.Made = keptFormat, time.Now().UTC().Truncate(time.Second)
		rec.Files, err = node.Scan(ctx, tree)
	}
	if err == nil {
		err = writeJSON(filepath.Join(temp, keptRecord), rec)
	}
	if err == nil {
		err = syncFS(temp)
	}
	at := s.entry(rec.Kind, rec.Key)
	if err == nil {
		err = errors.Join(os.Chmod(temp, 0o755), os.MkdirAll(filepath.Dir(at), 0o755))
	}
	if err == nil {
		if _, lerr := os.Lstat(at); lerr == nil {
			err = s.drop(at)
		}
	}
	if err == nil {
		err = os.Rename(temp, at)
	}
	if err != nil {
		return rec, errors.Join(err, os.RemoveAll(temp))
	}
	return rec, syncDir(filepath.Dir(at))
}

// tidy removes what a put that was cut off left. The lock is held, so nobody is at it.
func (s shelf) tidy() error {
	left, err := filepath.Glob(filepath.Join(s.dir, halfMade+"*"))
	if err != nil {
		return err
	}
	for _, l := range left {
		if err := os.RemoveAll(l); err != nil {
			return err
		}
	}
	return nil
}

// layInto puts an entry's files where the release in dir has them: as the same files, or,
// with copied, as copies that may get another time. Folders are made, and owned by dirs.
func (s shelf) layInto(ctx context.Context, rec kept, dir string, copied bool, dirs account) error {
	return within(dir, func(b inside) error { return s.lay(ctx, rec, b, copied, dirs) })
}

func (s shelf) lay(ctx context.Context, rec kept, to inside, copied bool, dirs account) error {
	tree, place := filepath.Join(s.entry(rec.Kind, rec.Key), keptTree), rec.Kind.place()
	var made []string
	switch err := to.folders(place); {
	case errors.Is(err, fs.ErrNotExist):
		made = append(made, place)
	case err != nil:
		return err
	}
	if err := to.MkdirAll(place, 0o755); err != nil {
		return err
	}
	for _, e := range rec.Files {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		dst := path.Join(place, e.Path)
		var err error
		switch {
		case e.Dir:
			if err = to.Mkdir(dst, 0o755); err == nil {
				made = append(made, dst)
			} else if errors.Is(err, fs.ErrExist) {
				err = to.folders(dst)
			}
		case e.Link != "":
			err = to.Symlink(e.Link, dst)
		default:
			err = to.put(filepath.Join(tree, e.Path), dst, copied)
		}
		if err != nil {
			return err
		}
	}
	for _, d := range made {
		if err := errors.Join(to.Chmod(d, 0o755), to.Lchown(d, dirs.uid, dirs.gid)); err != nil {
			return err
		}
	}
	return nil
}

// evict removes entries that were of no use for longer than age, and then the ones
// of no use for longest until the rest takes at most limit bytes. It returns what it
// removed, a line each.
func (s shelf) evict(age time.Duration, limit int64, now time.Time) ([]string, error) {
	type item struct {
		at, name string
		used     time.Time
		bytes    int64
	}
	var all []item
	var total int64
	records, err := filepath.Glob(filepath.Join(s.dir, "*", "*", keptRecord))
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		fi, err := os.Stat(r)
		if err != nil {
			return nil, err
		}
		b, err := os.ReadFile(r)
		if err != nil {
			return nil, err
		}
		it := item{at: filepath.Dir(r), name: filepath.Base(filepath.Dir(filepath.Dir(r))), used: fi.ModTime()}
		var rec kept
		if json.Unmarshal(b, &rec) != nil {
			it.used = time.Time{} // nobody can use it
		}
		it.bytes = rec.bytes()
		if rec.Release != "" {
			it.name += " made for " + rec.Release
		}
		total += it.bytes
		all = append(all, it)
	}
	slices.SortFunc(all, func(a, b item) int {
		return cmp.Or(a.used.Compare(b.used), strings.Compare(a.at, b.at))
	})
	var out []string
	for _, it := range all {
		old := now.Sub(it.used) > age
		if !old && total <= limit {
			break
		}
		if err := s.drop(it.at); err != nil {
			return out, fmt.Errorf("cannot remove %s: %w", it.at, err)
		}
		total -= it.bytes
		out = append(out, fmt.Sprintf("%s, %s, last used on %s", it.name, size(it.bytes), it.used.UTC().Format(time.DateOnly)))
	}
	return out, s.tidy()
}
