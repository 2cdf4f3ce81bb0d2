package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Dir is a Bucket in a directory.
type Dir struct {
	// Path is the directory. It is made when the first object is.
	Path string
}

// tempName begins the names of files that are being written.
const tempName = ".refit-tmp-"

func (d Dir) String() string { return d.Path }

// root is the directory by one name, so that what lies in it begins with that.
func (d Dir) root() string { return filepath.Clean(d.Path) }

func (d Dir) file(key string) (string, error) {
	if !filepath.IsLocal(key) || key == "." || filepath.Clean(key) != key || strings.HasPrefix(filepath.Base(key), tempName) {
		return "", fmt.Errorf("%q is no object's key", key)
	}
	return filepath.Join(d.root(), key), nil
}

// Put implements Bucket. The object is on the disk when it returns.
func (d Dir) Put(ctx context.Context, key string, r io.Reader) error {
	file, err := d.file(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := d.sweep(); err != nil {
		return err
	}
	// In the root, where a removal of empty folders meets nobody.
	f, err := os.CreateTemp(d.root(), tempName+"*")
	if err != nil {
		return err
	}
	_, err = io.Copy(f, whileIn(ctx, r))
	if err := errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := d.install(f.Name(), file); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// install gives a whole file its name. Another store may remove the folder, for being
// empty, in just that moment.
func (d Dir) install(temp, file string) error {
	var err error
	for range 3 {
		if err = os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err = os.Rename(temp, file); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return err
	}
	for dir := filepath.Dir(file); ; dir = filepath.Dir(dir) {
		if err := syncDir(dir); err != nil || len(dir) <= len(d.root()) {
			return err
		}
	}
}

// sweep removes files that were being written a day ago.
func (d Dir) sweep() error {
	old, err := filepath.Glob(filepath.Join(d.Path, tempName+"*"))
	if err != nil {
		return err
	}
	for _, file := range old {
		if fi, err := os.Stat(file); err == nil && time.Since(fi.ModTime()) > strayAge {
			if err := gone(os.Remove(file)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Get implements Bucket.
func (d Dir) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, error) {
	file, err := d.file(key)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", key, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{whileIn(ctx, f), f}, nil
}

// List implements Bucket.
func (d Dir) List(ctx context.Context, prefix string) ([]Item, error) {
	var out []Item
	err := filepath.WalkDir(d.root(), func(file string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // a store that has nothing yet, or what was removed meanwhile
		case err != nil:
			return err
		case !e.Type().IsRegular() || strings.HasPrefix(e.Name(), tempName):
			return context.Cause(ctx)
		}
		key := filepath.ToSlash(strings.TrimPrefix(file, d.root()+string(filepath.Separator)))
		if !strings.HasPrefix(key, prefix) {
			return nil
		}
		fi, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			out = append(out, Item{Key: key, Size: fi.Size(), Modified: fi.ModTime()})
		}
		return err
	})
	slices.SortFunc(out, func(a, b Item) int { return strings.Compare(a.Key, b.Key) })
	return out, err
}

// Remove implements Bucket. Folders that it leaves empty go too.
func (d Dir) Remove(_ context.Context, key string) error {
	file, err := d.file(key)
	if err != nil {
		return err
	}
	if err := gone(os.Remove(file)); err != nil {
		return err
	}
	for dir := filepath.Dir(file); len(dir) > len(d.root()); dir = filepath.Dir(dir) {
		if os.Remove(dir) != nil {
			break // not empty, or gone
		}
	}
	return nil
}

func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// whileIn reads until ctx ends.
func whileIn(ctx context.Context, r io.Reader) io.Reader { return untilDone{ctx, r} }

type untilDone struct {
	ctx context.Context //nolint:containedctx // a reader has no other way to get one
	r   io.Reader
}

func (u untilDone) Read(b []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.r.Read(b)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
