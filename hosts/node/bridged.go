package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// bridgedDir keeps, for each release whose files were added to this one, that release's
// manifest and its signature: they are proof of those files when the release is gone.
const bridgedDir = metaDir + "/bridged"

// bridgedPaths are the files that were added to a release.
func bridgedPaths(dir string) (map[string]bool, error) {
	var rec bridgedRecord
	if err := readJSON(filepath.Join(dir, bridgedFile), &rec); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read %s of %s: %w", bridgedFile, dir, err)
	}
	extra := make(map[string]bool, len(rec.Files))
	for _, f := range rec.Files {
		extra[f.Path] = true
	}
	return extra, nil
}

// origins tells of the files that were added to a release whence each is.
func origins(dir string) (map[string]string, error) {
	var rec bridgedRecord
	if err := readJSON(filepath.Join(dir, bridgedFile), &rec); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	from := make(map[string]string, len(rec.Files))
	for _, f := range rec.Files {
		from[f.Path] = f.From
	}
	return from, nil
}

// keepProof keeps the manifests of those releases in dst of whose files some are about
// to be added from src. One that has no manifest cannot be proved, which verifying says.
func keepProof(src, dst string, from []string) error {
	for _, release := range from {
		if err := checkRelease(release); err != nil {
			return err
		}
		to := filepath.Join(dst, bridgedDir, release)
		at, err := proofOf(src, release)
		if err != nil {
			return err
		}
		if at == "" {
			continue
		}
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		for _, f := range [][2]string{{manifestFile, "manifest.json"}, {signatureFile, "manifest.json.sig"}} {
			if err := keepFile(filepath.Join(at, f[0]), filepath.Join(at, f[1]), filepath.Join(to, f[1])); err != nil {
				return fmt.Errorf("cannot keep the manifest of %s: %w", release, err)
			}
		}
		if err := syncDir(to); err != nil {
			return err
		}
	}
	return nil
}

// keepFile links one of two files, whichever is there, to a name; none to nothing.
func keepFile(one, other, to string) error {
	b, err := os.ReadFile(one)
	from := one
	if errors.Is(err, fs.ErrNotExist) {
		b, err = os.ReadFile(other)
		from = other
	}
	if errors.Is(err, fs.ErrNotExist) {
		return removeIfThere(to)
	}
	if err != nil {
		return err
	}
	if err := removeIfThere(to); err != nil {
		return err
	}
	if err := os.Link(from, to); err == nil {
		return nil
	} else if !errors.Is(err, syscall.EXDEV) && !errors.Is(err, syscall.EMLINK) && !errors.Is(err, syscall.EPERM) {
		return err
	}
	return writeFile(to, b, 0o644)
}

// proofOf is the directory with the manifest of a release as src knows it: its own, or
// one that src keeps; empty where there is none.
func proofOf(src, release string) (string, error) {
	if filepath.Base(src) == release {
		if _, err := os.Stat(filepath.Join(src, manifestFile)); err == nil {
			return src, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		return "", nil
	}
	kept := filepath.Join(src, bridgedDir, release)
	if _, err := os.Stat(filepath.Join(kept, "manifest.json")); err == nil {
		return kept, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return "", nil
}

// proveBridged holds the files that were added to a release to the manifests of the
// releases that they are of.
func (m Machine) proveBridged(ctx context.Context, in VerifyIn, dir string, own Manifest) (diffs []Difference, unknown map[string]int, err error) {
	from, err := origins(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read %s of %s: %w", bridgedFile, dir, err)
	}
	mine := make(map[string]bool, len(own.Files))
	for _, e := range own.Files {
		mine[e.Path] = true
	}
	by := map[string][]string{}
	for path, release := range from {
		switch {
		case mine[path]: // the release's own manifest speaks of it
		case !filepath.IsLocal(path) || filepath.Clean(path) != path || !below(path, assetDirs) || ownAsset(path):
			diffs = append(diffs, Difference{path, "is said to be a bridged asset and cannot be one"})
		default:
			by[release] = append(by[release], path)
		}
	}
	unknown = map[string]int{}
	for _, release := range slices.Sorted(maps.Keys(by)) {
		slices.Sort(by[release])
		of, err := m.bridgedOf(ctx, in, dir, release)
		if err != nil {
			return nil, nil, err
		}
		if of.wrong != "" {
			diffs = append(diffs, Difference{bridgedDir + "/" + release, of.wrong})
			continue
		}
		if !of.vouched {
			unknown[release] = len(by[release])
		}
		if of.entries != nil {
			found, err := compareBridged(ctx, dir, release, by[release], of.entries)
			if err != nil {
				return nil, nil, err
			}
			diffs = append(diffs, found...)
		}
	}
	if len(unknown) == 0 {
		unknown = nil
	}
	return diffs, unknown, nil
}

// keptManifest is the manifest of another release that is kept beside a release.
type keptManifest struct {
	// entries are its files by path, nil where none is kept.
	entries map[string]Entry
	// vouched: it is signed as was asked for, or nothing was. A release that was placed
	// before anybody signed has a manifest without a signature, and stays live with it.
	vouched bool
	// wrong says what is wrong with it; empty for nothing.
	wrong string
}

// bridgedOf reads the kept manifest of another release.
func (m Machine) bridgedOf(ctx context.Context, in VerifyIn, dir, release string) (keptManifest, error) {
	if err := checkRelease(release); err != nil {
		return keptManifest{wrong: err.Error()}, nil //nolint:nilerr // it is what is wrong
	}
	kept := filepath.Join(dir, bridgedDir, release)
	b, err := os.ReadFile(filepath.Join(kept, "manifest.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return keptManifest{}, nil
	}
	if err != nil {
		return keptManifest{}, err
	}
	man, err := decodeManifest(b)
	if err != nil {
		return keptManifest{wrong: "holds a manifest that cannot be used: " + err.Error()}, nil
	}
	if man.Release != release {
		return keptManifest{wrong: "holds the manifest of " + man.Release}, nil
	}
	of := keptManifest{entries: make(map[string]Entry, len(man.Files)), vouched: in.Signed == nil}
	for _, e := range man.Files {
		of.entries[e.Path] = e
	}
	if of.vouched {
		return of, nil
	}
	signature, err := os.ReadFile(filepath.Join(kept, "manifest.json.sig"))
	if errors.Is(err, fs.ErrNotExist) {
		return of, nil
	}
	if err == nil {
		_, err = m.demand(ctx, in.Signed, SignedText(digestOf(b)), signature)
	}
	if refused := new(Error); errors.As(err, &refused) {
		return keptManifest{wrong: refused.Text}, nil
	}
	of.vouched = err == nil
	return of, err
}

// compareBridged hashes files that were added. One that is on record and not there is
// none: the record is written first.
func compareBridged(ctx context.Context, dir, release string, paths []string, entries map[string]Entry) ([]Difference, error) {
	found := make([]string, len(paths))
	err := each(ctx, len(paths), func(i int, buf []byte) error {
		p := filepath.Join(dir, paths[i])
		fi, err := os.Lstat(p)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		e, ok := entries[paths[i]]
		switch {
		case !ok:
			found[i] = "not in the manifest of " + release + ", whence it is said to be"
		case e.Dir != fi.IsDir() || e.Regular() != fi.Mode().IsRegular():
			found[i] = "of another kind than in " + release
		case e.Regular():
			sum, _, err := hashFile(p, buf)
			if err != nil {
				return err
			}
			if sum != e.SHA256 {
				found[i] = "other content than in " + release
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot hash the bridged files in %s: %w", dir, err)
	}
	var out []Difference
	for i, what := range found {
		if what != "" {
			out = append(out, Difference{paths[i], what})
		}
	}
	return out, nil
}
