package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"

	"golang.org/x/sync/errgroup"
)

// The files by which a release speaks of itself. They are no part of what its
// manifest lists.
const (
	metaDir      = ".refit"
	manifestFile = metaDir + "/manifest.json"
	placedFile   = metaDir + "/placed.json"
	bridgedFile  = metaDir + "/bridged.json"
)

// reserved tells whether a path is one by which a release speaks of itself.
func reserved(rel string) bool {
	switch rel {
	case manifestFile, signatureFile, placedFile, bridgedFile, bridgedDir:
		return true
	}
	return strings.HasPrefix(rel, bridgedDir+"/")
}

// hashers is how many files are hashed at once: reading overlaps with hashing,
// and a node that serves users keeps most of its processor.
func hashers() int { return max(2, min(4, runtime.NumCPU())) }

// Scan lists a built release, file by file, in a manifest's order. It refuses
// what is no file, directory or symbolic link.
func Scan(ctx context.Context, root string) ([]Entry, error) {
	return scan(ctx, root, func(string) bool { return false })
}

// scan is Scan without the paths that skip names; a directory is skipped with all
// below it.
func scan(ctx context.Context, root string, skip func(path string) bool) ([]Entry, error) {
	var all []Entry
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if p == root {
			return ctx.Err()
		}
		rel := filepath.ToSlash(p[len(root)+1:])
		if skip(rel) || reserved(rel) {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		e := Entry{Path: rel}
		switch {
		case d.IsDir():
			e.Dir = true
		case d.Type() == fs.ModeSymlink:
			if e.Link, err = os.Readlink(p); err != nil {
				return err
			}
		case !d.Type().IsRegular():
			return fmt.Errorf("%s is neither a file nor a directory nor a link", p)
		}
		if e.Link == "" {
			fi, err := d.Info()
			if err != nil {
				return err
			}
			e.Mode = uint32(fi.Mode().Perm())
			if !e.Dir {
				e.Size = fi.Size()
			}
		}
		all = append(all, e)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list %s: %w", root, err)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Path < all[j].Path })
	err = each(ctx, len(all), func(i int, buf []byte) error {
		e := &all[i]
		if !e.Regular() {
			return nil
		}
		sum, n, err := hashFile(filepath.Join(root, e.Path), buf)
		e.SHA256, e.Size = sum, n
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot hash %s: %w", root, err)
	}
	return all, nil
}

// each calls f for 0 … n-1 from a few goroutines, each with a buffer of its own,
// until one fails.
func each(ctx context.Context, n int, f func(i int, buf []byte) error) error {
	const batch = 64
	next := make(chan int)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(next)
		for i := 0; i < n; i += batch {
			select {
			case next <- i:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	for range hashers() {
		g.Go(func() error {
			buf := make([]byte, 128<<10)
			for first := range next {
				for i := first; i < min(n, first+batch); i++ {
					if err := f(i, buf); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// hashFile returns the SHA-256 of a file in hex, and its size.
func hashFile(path string, buf []byte) (string, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.CopyBuffer(h, onlyReader{f}, buf)
	if err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(h.Sum(nil)), n, nil
}

// onlyReader hides a file's WriteTo, which would take a buffer of its own.
type onlyReader struct{ io.Reader }

// Compare hashes the release in root and tells what is not as the manifest says.
// Of a release placed on a host it leaves out what is meant to differ: writable
// directories, shared links and bridged files.
func (m Manifest) Compare(ctx context.Context, root string) ([]Difference, error) {
	var placed placedRecord
	if err := readJSON(filepath.Join(root, placedFile), &placed); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	extra, err := bridgedPaths(root)
	if err != nil {
		return nil, err
	}
	return m.compare(ctx, root, placed, extra)
}

// compare is Compare for a release that was placed in a way, with the paths that were
// added to it.
func (m Manifest) compare(ctx context.Context, root string, placed placedRecord, extra map[string]bool) ([]Difference, error) {
	skip := placed.differs()
	have, err := scan(ctx, root, skip)
	if err != nil {
		return nil, err
	}
	var out []Difference
	if out, err = placed.compareLinks(root); err != nil {
		return nil, err
	}
	i := 0
	for _, want := range m.Files {
		if skip(want.Path) {
			continue
		}
		for ; i < len(have) && have[i].Path < want.Path; i++ {
			if !extra[have[i].Path] && !placed.implied(have[i]) {
				out = append(out, Difference{have[i].Path, "not in the manifest"})
			}
		}
		if i == len(have) || have[i].Path != want.Path {
			out = append(out, Difference{want.Path, "missing"})
			continue
		}
		if what := differ(want, have[i]); what != "" {
			out = append(out, Difference{want.Path, what})
		}
		i++
	}
	for ; i < len(have); i++ {
		if !extra[have[i].Path] && !placed.implied(have[i]) {
			out = append(out, Difference{have[i].Path, "not in the manifest"})
		}
	}
	return out, nil
}

func differ(want, have Entry) string {
	switch {
	case want.Dir != have.Dir || want.Regular() != have.Regular():
		return "of another kind"
	case want.Link != have.Link:
		return fmt.Sprintf("points to %s instead of %s", have.Link, want.Link)
	case want.SHA256 != have.SHA256:
		return "other content"
	case want.Mode != have.Mode:
		return fmt.Sprintf("mode %#o instead of %#o", have.Mode, want.Mode)
	}
	return ""
}

// placedRecord is placed.json: how a release was placed on this host.
type placedRecord struct {
	Digest   string            `json:"digest"`
	Run      string            `json:"run,omitempty"`
	Links    map[string]string `json:"links,omitempty"`
	Writable []string          `json:"writable,omitempty"`
	Owner    string            `json:"owner,omitempty"`
}

// differs tells of which paths a placed release may differ from its manifest.
func (p placedRecord) differs() func(string) bool {
	return func(rel string) bool {
		if _, ok := p.Links[rel]; ok {
			return true
		}
		for link := range p.Links {
			if strings.HasPrefix(rel, link+"/") {
				return true
			}
		}
		return below(rel, p.Writable)
	}
}

// below tells whether a path is one of dirs or lies in one.
func below(rel string, dirs []string) bool {
	for _, d := range dirs {
		if rel == d || strings.HasPrefix(rel, d+"/") {
			return true
		}
	}
	return false
}

// implied tells whether a directory that the manifest lacks is there only to hold
// a shared link or a writable directory.
func (p placedRecord) implied(e Entry) bool {
	if !e.Dir {
		return false
	}
	if e.Path == metaDir {
		return true
	}
	for link := range p.Links {
		if strings.HasPrefix(link, e.Path+"/") {
			return true
		}
	}
	for _, w := range p.Writable {
		if strings.HasPrefix(w, e.Path+"/") {
			return true
		}
	}
	return false
}

func (p placedRecord) compareLinks(root string) ([]Difference, error) {
	var out []Difference
	for link, want := range p.Links {
		have, err := os.Readlink(filepath.Join(root, link))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			out = append(out, Difference{link, "missing"})
		case err != nil:
			out = append(out, Difference{link, "no link to " + want})
		case have != want:
			out = append(out, Difference{link, fmt.Sprintf("points to %s instead of %s", have, want)})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Path < out[j].Path })
	return out, nil
}
