package node

import (
	"cmp"
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
)

// bridgedRecord is bridged.json: what was added to a release.
type bridgedRecord struct {
	Files []bridgedEntry `json:"files"`
}

type bridgedEntry struct {
	Path string `json:"path"`
	From string `json:"from"`
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
	if out.ToTo, err = addAssets(ctx, in.Home, in.From, in.To); err != nil {
		return out, err
	}
	out.ToFrom, err = addAssets(ctx, in.Home, in.To, in.From)
	return out, err
}

// addAssets adds the hashed files of one release that another lacks. What will be
// added is on record before it is: a crash leaves no file that nobody knows of.
func addAssets(ctx context.Context, homeDir, from, to string) (int, error) {
	src, dst := releaseDir(homeDir, from), releaseDir(homeDir, to)
	var rec bridgedRecord
	if err := readJSON(filepath.Join(dst, bridgedFile), &rec); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	known := make(map[string]bool)
	for _, e := range rec.Files {
		known[e.Path] = true
	}
	of, err := origins(src)
	if err != nil {
		return 0, err
	}
	var add, proofs []string
	for _, dir := range assetDirs {
		err := filepath.WalkDir(filepath.Join(src, dir), func(p string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) && p == filepath.Join(src, dir) {
				return filepath.SkipDir
			}
			if err != nil {
				return err
			}
			rel := p[len(src)+1:]
			if _, err := os.Lstat(filepath.Join(dst, rel)); err == nil || ownAsset(rel) {
				return nil
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			// Directories are on record too: the manifest does not have them.
			if d.IsDir() || d.Type().IsRegular() {
				if !known[rel] {
					// A file that came to the other release from a third is that one's.
					origin := cmp.Or(of[rel], from)
					rec.Files = append(rec.Files, bridgedEntry{Path: rel, From: origin})
					proofs = append(proofs, origin)
				}
				add = append(add, rel)
			}
			return context.Cause(ctx)
		})
		if err != nil {
			return 0, fmt.Errorf("cannot list the assets of %s: %w", from, err)
		}
	}
	if len(add) == 0 {
		return 0, nil
	}
	slices.Sort(proofs)
	if err := keepProof(src, dst, slices.Compact(proofs)); err != nil {
		return 0, err
	}
	b, err := json.Marshal(rec)
	if err != nil {
		return 0, err
	}
	if err := writeFile(filepath.Join(dst, bridgedFile), append(b, '\n'), 0o644); err != nil {
		return 0, err
	}
	n := 0
	for _, rel := range add {
		if err := context.Cause(ctx); err != nil {
			return n, err
		}
		made, err := addAsset(filepath.Join(src, rel), filepath.Join(dst, rel))
		if err != nil {
			return n, fmt.Errorf("cannot add %s to %s: %w", rel, to, err)
		}
		n += made
	}
	return n, nil
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
	err = os.Link(src, dst)
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
	return 1, writeFile(dst, b, fi.Mode().Perm())
}
