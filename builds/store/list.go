package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Listing is all that a store holds. What lies in the same bucket and has no key of the
// store's form is not the store's, and is in none of these.
type Listing struct {
	// Artifacts are whole; by kind, name and time, the newest of a name first.
	Artifacts []Artifact
	// Foreign were stored by another version of refit, with as much of each as this one
	// understands. They stay as they are, and so does what they need.
	Foreign []Artifact
	// Strays are objects of no whole artifact: a store that was killed while it wrote.
	Strays []Item
	// Dumps are whole; by fleet and time, the newest of a fleet first. ForeignDumps counts
	// those of another version of refit. Torn are objects of no whole dump.
	Dumps        []Dump
	ForeignDumps int
	Torn         []Item
}

// List tells all that is in the store.
func (s *Store) List(ctx context.Context) (Listing, error) { return s.list(ctx, "") }

func (s *Store) list(ctx context.Context, prefix string) (Listing, error) {
	var out Listing
	items, err := s.Bucket.List(ctx, prefix)
	if err != nil {
		return out, fmt.Errorf("cannot list %s: %w", s, err)
	}
	sizes := map[string]int64{}
	for _, item := range items {
		sizes[item.Key] = item.Size
	}
	taken := map[string]bool{} // folders of which nothing is a stray
	for _, item := range items {
		if path.Base(item.Key) != recordObject || !owned(item.Key) {
			continue
		}
		at := path.Dir(item.Key)
		a, err := s.record(ctx, item.Key)
		switch {
		case errors.Is(err, ErrForeign):
			out.Foreign, taken[at] = append(out.Foreign, a), true
		case errors.Is(err, ErrDamaged), errors.Is(err, ErrNotFound):
			// A stray, or one that was removed meanwhile.
		case err != nil:
			return out, err
		case a.lies(at, sizes):
			out.Artifacts, taken[at] = append(out.Artifacts, a), true
		}
	}
	for _, item := range items {
		if owned(item.Key) && !taken[path.Dir(item.Key)] {
			out.Strays = append(out.Strays, item)
		}
	}
	if err := s.listDumps(ctx, items, sizes, &out); err != nil {
		return out, err
	}
	slices.SortStableFunc(out.Artifacts, func(a, b Artifact) int {
		if c := strings.Compare(string(a.Kind)+"\x00"+a.Name, string(b.Kind)+"\x00"+b.Name); c != 0 {
			return c
		}
		return b.Stored.Compare(a.Stored)
	})
	return out, nil
}

// owned tells whether a key has the form that this code gives to keys, to the last
// letter. A bucket may hold what others put there, and only what is owned may be removed.
func owned(key string) bool {
	p := strings.Split(key, "/")
	if len(p) != 6 || p[0] != string(Release) && p[0] != string(Toolchain) || !known(p[5]) {
		return false
	}
	return part.MatchString(p[1]) && part.MatchString(p[2]) && hexes.MatchString(p[3]) && hexes.MatchString(p[4])
}

// known tells whether an object of that name is part of an artifact of this Format.
func known(name string) bool {
	return slices.Contains([]string{ManifestObject, SignatureObject, PackObject, recordObject}, name)
}

// lies tells whether all parts lie in the artifact's folder, each as long as it was
// stored. Their contents are held to the record when they are read.
func (a Artifact) lies(at string, sizes map[string]int64) bool {
	for name, o := range a.Objects {
		if n, ok := sizes[path.Join(at, name)]; !ok || n != o.Size {
			return false
		}
	}
	return true
}

// maxRecord bounds artifact.json, in bytes.
const maxRecord = 1 << 20

// record reads an artifact.json, ErrDamaged if it is none of this place. With ErrForeign
// comes what could be understood of it.
func (s *Store) record(ctx context.Context, key string) (Artifact, error) {
	b, err := s.small(ctx, key)
	if err != nil {
		return Artifact{}, err
	}
	a, err := parse(b, key)
	if err != nil {
		return a, fmt.Errorf("%s in %s: %w", key, s, err)
	}
	return a, nil
}

// small reads a record whole.
func (s *Store) small(ctx context.Context, key string) ([]byte, error) {
	r, err := s.Bucket.Get(ctx, key, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s in %s: %w", key, s, err)
	}
	b, err := io.ReadAll(io.LimitReader(r, maxRecord))
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("cannot read %s in %s: %w", key, s, err)
	}
	return b, nil
}

// parse reads a record that lies at key. One that says of itself that it is of another
// format, or says more than this code knows, is another version's: it may be whole.
func parse(b []byte, key string) (Artifact, error) {
	var said struct {
		Format int `json:"format"`
	}
	var a Artifact
	if err := json.Unmarshal(b, &said); err != nil {
		return a, fmt.Errorf("%w (%w)", ErrDamaged, err)
	}
	err := json.Unmarshal(b, &a)
	if said.Format > 0 && said.Format != Format {
		return a, fmt.Errorf("%w: its format is %d and this one writes %d", ErrForeign, said.Format, Format)
	}
	if err != nil {
		return a, fmt.Errorf("%w (%w)", ErrDamaged, err)
	}
	strict := json.NewDecoder(bytes.NewReader(b))
	strict.DisallowUnknownFields()
	if err := strict.Decode(new(Artifact)); err != nil {
		return a, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	return a, a.fits(key)
}

// fits tells why a record cannot be the one of its place; nil if it can.
func (a Artifact) fits(key string) error {
	at, err := a.folder()
	if err != nil || a.Format != Format || key != path.Join(at, recordObject) {
		return fmt.Errorf("%w: it is no record of this place", ErrDamaged)
	}
	for name := range a.Objects {
		switch {
		case !part.MatchString(name) || name == recordObject:
			return fmt.Errorf("%w: %q is no object's name", ErrDamaged, name)
		case !known(name):
			return fmt.Errorf("%w: it has an object %s", ErrForeign, name)
		}
	}
	if a.Objects[PackObject].Size == 0 || a.Objects[ManifestObject].Size == 0 {
		return fmt.Errorf("%w: it has no pack or no manifest", ErrDamaged)
	}
	return nil
}
