package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// bridgedRecord is bridged.json: what was added to a release.
type bridgedRecord struct {
	Files []bridgedEntry `json:"files"`
}

type bridgedEntry struct {
	Path string `json:"path"`
	// From is the release whose own file it is, by its manifest.
	From string `json:"from"`
	// Since is when that release gave way to another here; for a directory, when it was
	// made.
	Since time.Time `json:"since,omitzero"`
}

// assetDirs hold the files whose names change with their content.
var assetDirs = []string{"public/packs", "public/assets"}

// ownAsset tells whether a file below assetDirs belongs to its release alone:
// manifests, service workers, the error page. Their names stay when the content
// changes, so another release's would be wrong.
func ownAsset(rel string) bool {
	base := filepath.Base(rel)
	return strings.Contains(rel, "/.vite/") ||
		strings.HasPrefix(base, "manifest") && strings.HasSuffix(base, ".json") ||
		strings.HasPrefix(base, ".sprockets-manifest") ||
		strings.HasPrefix(base, "sw.js") ||
		strings.HasPrefix(base, "500.html")
}

func (m Machine) bridge(ctx context.Context, in BridgeIn, _ io.Reader, _ func(string)) (BridgeOut, error) {
	for _, name := range []string{in.From, in.To} {
		if err := checkRelease(name); err != nil {
			return BridgeOut{}, err
		}
		if _, err := os.Stat(releaseDir(in.Home, name)); err != nil {
			return BridgeOut{}, fmt.Errorf("cannot bridge %s and %s: %w", in.From, in.To, err)
		}
	}
	lock, err := flock(ctx, m.state("place.lock"), syscall.LOCK_EX, fenceWait)
	if err != nil {
		return BridgeOut{}, err
	}
	defer lock.Close()
	var out BridgeOut
	now := time.Now().UTC().Truncate(time.Second)
	if out.ToTo, err = addAssets(ctx, bridging{in.Home, in.From, in.To, in.Keep, now}); err != nil {
		return out, err
	}
	out.ToFrom, err = addAssets(ctx, bridging{in.Home, in.To, in.From, in.Keep, now})
	return out, err
}

// bridging is one release's hashed files being added to another.
type bridging struct {
	home, from, to string
	// keep as in BridgeIn.
	keep time.Duration
	now  time.Time
}

// addAssets adds the hashed files of one release that another lacks: its own, and those
// of releases before it whose time is not over. What will be added is on record before it
// is: a crash leaves no file that nobody knows of.
func addAssets(ctx context.Context, b bridging) (int, error) {
	src, dst := releaseDir(b.home, b.from), releaseDir(b.home, b.to)
	var was, rec bridgedRecord
	for dir, r := range map[string]*bridgedRecord{src: &was, dst: &rec} {
		if err := readJSON(filepath.Join(dir, bridgedFile), r); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
	}
	add, err := b.lacking(ctx, src, dst, was)
	if err != nil || len(add) == 0 {
		return 0, err
	}
	var of []string
	for _, e := range add {
		of = append(of, e.From)
	}
	slices.Sort(of)
	if err := keepProof(src, dst, slices.Compact(of)); err != nil {
		return 0, err
	}
	if err := note(dst, &rec, add); err != nil {
		return 0, err
	}
	n := 0
	for _, e := range add {
		if err := context.Cause(ctx); err != nil {
			return n, err
		}
		made, err := addAsset(filepath.Join(src, e.Path), filepath.Join(dst, e.Path))
		if err != nil {
			return n, fmt.Errorf("cannot add %s to %s: %w", e.Path, b.to, err)
		}
		n += made
	}
	return n, nil
}

// lacking lists the files to add, each with the release that it is of.
func (b bridging) lacking(ctx context.Context, src, dst string, was bridgedRecord) ([]bridgedEntry, error) {
	older := make(map[string]bridgedEntry, len(was.Files))
	for _, e := range was.Files {
		older[e.Path] = e
	}
	var add []bridgedEntry
	for _, dir := range assetDirs {
		err := filepath.WalkDir(filepath.Join(src, dir), func(p string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) && p == filepath.Join(src, dir) {
				return filepath.SkipDir
			}
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			rel := p[len(src)+1:]
			if _, err := os.Lstat(filepath.Join(dst, rel)); err == nil || ownAsset(rel) {
				return nil
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			e := bridgedEntry{Path: rel, From: b.from, Since: b.now}
			if o, ok := older[rel]; ok { // that came to the other release from a third
				if o.Since.IsZero() { // of a refit that did not note it
					o.Since = b.now
				}
				if b.now.Sub(o.Since) >= b.keep {
					return nil
				}
				e = o
			}
			add = append(add, e)
			return context.Cause(ctx)
		})
		if err != nil {
			return nil, fmt.Errorf("cannot list the assets of %s: %w", b.from, err)
		}
	}
	return add, nil
}

// note puts what will be added on the record, with the directories that will be made for
// it: the manifest does not have them.
func note(dst string, rec *bridgedRecord, add []bridgedEntry) error {
	known := make(map[string]bool)
	for _, e := range rec.Files {
		known[e.Path] = true
	}
	put := func(e bridgedEntry) {
		if !known[e.Path] {
			known[e.Path] = true
			rec.Files = append(rec.Files, e)
		}
	}
	for _, e := range add {
		for dir := filepath.Dir(e.Path); dir != "."; dir = filepath.Dir(dir) {
			_, err := os.Lstat(filepath.Join(dst, dir))
			if err == nil {
				break
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			put(bridgedEntry{Path: dir, From: e.From, Since: e.Since})
		}
		put(e)
	}
	b, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dst, bridgedFile), append(b, '\n'), 0o644)
}

// addAsset makes dst a directory, or the same file as src, and counts files. A
// link appears whole; a copy is made beside and linked into place.
func addAsset(src, dst string) (int, error) {
	fi, err := os.Lstat(src)
	if err != nil {
		return 0, err
	}
	if fi.IsDir() {
		return 0, os.MkdirAll(dst, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return 0, err
	}
	if err = syscall.EPERM; ours(src) { // a user's own file would stay one in dst
		err = os.Link(src, dst)
	}
	if errors.Is(err, fs.ErrExist) {
		return 0, nil
	}
	if err == nil {
		return 1, nil
	}
	if !errors.Is(err, syscall.EXDEV) && !errors.Is(err, syscall.EMLINK) && !errors.Is(err, syscall.EPERM) {
		return 0, err
	}
	b, err := os.ReadFile(src)
	if err != nil {
		return 0, err
	}
	return 1, writeFile(dst, b, fi.Mode().Perm()&^0o022)
}
