package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Dump is a copy of a fleet's database, taken before a run changed it. Its objects lie
// below dump/FLEET/RUN: the archive, as pg_dump -Fc writes it, and dump.json, which is
// written last: without it the archive counts for nothing.
type Dump struct {
	Format int `json:"format"`
	// Fleet is whose database it is, Run the run that took it.
	Fleet string `json:"fleet"`
	Run   string `json:"run"`
	// From and To are the releases between which it was taken.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// Database is the database's name, Server its PostgreSQL's version, Program that of
	// the pg_dump that wrote the archive: a pg_restore must not be older.
	Database string `json:"database"`
	Server   string `json:"server"`
	Program  string `json:"program"`
	// Host is where pg_dump ran.
	Host string `json:"host"`
	// Taken is when it was begun, by the database server's clock: what was written after
	// that is not in it.
	Taken time.Time `json:"taken"`
	// Stored is when it lay here whole.
	Stored time.Time `json:"stored"`
	// Entries and Tables count what the archive's table of contents names, as it was read
	// back from here.
	Entries int `json:"entries"`
	Tables  int `json:"tables"`
	// Archive is the archive.
	Archive Object `json:"archive"`
}

const (
	dumps = "dump"
	// archiveObject is what pg_restore takes.
	archiveObject = "database.pgdump"
	// dumpRecord says what the dump is. It is written last and removed first.
	dumpRecord = "dump.json"
)

// runName is a run's ID, as refit makes them.
var runName = regexp.MustCompile(`^[0-9]{8}-[0-9]{6}-[a-z0-9]{1,16}$`)

func (d Dump) String() string {
	return fmt.Sprintf("the dump of %s taken by run %s on %s", d.Database, d.Run, d.Taken.UTC().Format("2 January 2006 15:04 MST"))
}

// Key is where the archive lies in the bucket.
func (d Dump) Key() string { return path.Join(dumps, d.Fleet, d.Run, archiveObject) }

func (d Dump) folder() (string, error) {
	if !part.MatchString(d.Fleet) {
		return "", fmt.Errorf("%q cannot be the fleet of a dump", d.Fleet)
	}
	if !runName.MatchString(d.Run) {
		return "", fmt.Errorf("%q cannot be the run of a dump", d.Run)
	}
	return path.Join(dumps, d.Fleet, d.Run), nil
}

// dumpOf tells of which fleet's dump a key is a part. A key counts only if it has the form
// of this code's to the last letter: only what it owns may be removed.
func dumpOf(key string) (fleet string, ok bool) {
	p := strings.Split(key, "/")
	ok = len(p) == 4 && p[0] == dumps && part.MatchString(p[1]) && runName.MatchString(p[2]) && (p[3] == archiveObject || p[3] == dumpRecord)
	if !ok {
		return "", false
	}
	return p[1], true
}

// DumpParts is where a dump comes from.
type DumpParts struct {
	// Write writes the archive and fills in what is known once it is written. It is
	// called once; only one that returns nil has written a whole archive.
	Write func(ctx context.Context, w io.Writer, d *Dump) error
	// Check reads the archive's table of contents as it lies in the store, and fills in
	// Entries and Tables. It need not read on after that.
	Check func(ctx context.Context, r io.Reader, d *Dump) error
	// Most is more than the archive can have, in bytes; 0 if that is not known.
	Most int64
}

// PutDump stores a dump of d's fleet and run, in the place of one that is there. It is
// whole only if the archive was written to its end, lies there with its whole length and
// passes parts.Check; else what was stored of it is removed again.
func (s *Store) PutDump(ctx context.Context, d Dump, parts DumpParts) (Dump, error) {
	at, err := d.folder()
	if err == nil {
		err = s.Bucket.Remove(ctx, path.Join(at, dumpRecord)) // before what it speaks of is another
	}
	if err == nil {
		// What a killed run sent costs room and stands in no dump's way: where it cannot be
		// taken away now, the next prune does, and tells if it cannot.
		untidy := s.abandon(ctx, at+"/", s.now())
		if err = s.putDump(ctx, &d, at, parts); err != nil {
			err = errors.Join(err, untidy)
		}
	}
	if err != nil {
		return Dump{}, fmt.Errorf("cannot store the dump in %s: %w", s, err)
	}
	return d, nil
}

func (s *Store) putDump(ctx context.Context, d *Dump, at string, parts DumpParts) error {
	o, err := s.upload(ctx, path.Join(at, archiveObject), parts.Most, func(ctx context.Context, w io.Writer) error { return parts.Write(ctx, w, d) })
	if err != nil {
		return err // a bucket puts an object whole or not at all
	}
	d.Archive = o
	err = s.proveDump(ctx, d, parts.Check)
	if err == nil {
		d.Format, d.Stored = Format, s.now().UTC()
		var b []byte
		if b, err = json.MarshalIndent(d, "", "  "); err == nil {
			err = s.Bucket.Put(ctx, path.Join(at, dumpRecord), bytes.NewReader(append(b, '\n')))
		}
	}
	if err == nil {
		return nil
	}
	// It may be large, and it is of no use. What cannot be removed now is torn, and goes
	// with the next prune.
	tidy, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidying)
	defer cancel()
	return errors.Join(err, s.Bucket.Remove(tidy, path.Join(at, dumpRecord)), s.Bucket.Remove(tidy, path.Join(at, archiveObject)))
}

// proveDump holds what lies in the store to what was sent there.
func (s *Store) proveDump(ctx context.Context, d *Dump, check func(context.Context, io.Reader, *Dump) error) error {
	items, err := s.Bucket.List(ctx, d.Key())
	if err != nil {
		return fmt.Errorf("it cannot be listed back: %w", err)
	}
	i := slices.IndexFunc(items, func(item Item) bool { return item.Key == d.Key() })
	switch {
	case i < 0:
		return fmt.Errorf("%w: it was sent there and is not listed", ErrDamaged)
	case items[i].Size != d.Archive.Size || d.Archive.Size == 0:
		return fmt.Errorf("%w: %d bytes were sent and %d lie there", ErrDamaged, d.Archive.Size, items[i].Size)
	}
	r, err := s.OpenDump(ctx, *d)
	if err != nil {
		return err
	}
	return errors.Join(check(ctx, r, d), r.Close())
}

// OpenDump reads a dump's archive. As with Open, what differs from what was stored gives
// ErrDamaged at the latest in place of the end.
func (s *Store) OpenDump(ctx context.Context, d Dump) (io.ReadCloser, error) {
	if _, err := d.folder(); err != nil {
		return nil, err
	}
	p := &reading{ctx: ctx, s: s, key: d.Key(), want: d.Archive, h: sha256.New()}
	var err error
	if p.r, err = s.Bucket.Get(ctx, p.key, 0); err != nil {
		return nil, p.fail(err)
	}
	return p, nil
}

// FindDump returns the whole dump that a run took, ErrNotFound without one.
func (s *Store) FindDump(ctx context.Context, fleet, run string) (Dump, error) {
	at, err := Dump{Fleet: fleet, Run: run}.folder()
	if err != nil {
		return Dump{}, err
	}
	all, err := s.list(ctx, at+"/")
	if err != nil {
		return Dump{}, err
	}
	if len(all.Dumps) == 0 {
		return Dump{}, fmt.Errorf("a dump by run %s: %w", run, ErrNotFound)
	}
	return all.Dumps[0], nil
}

// listDumps sorts what belongs to dumps into whole ones and others.
func (s *Store) listDumps(ctx context.Context, items []Item, sizes map[string]int64, out *Listing) error {
	taken := map[string]bool{}
	for _, item := range items {
		if _, ok := dumpOf(item.Key); !ok || path.Base(item.Key) != dumpRecord {
			continue
		}
		at := path.Dir(item.Key)
		d, err := s.readDump(ctx, item.Key)
		switch {
		case errors.Is(err, ErrForeign):
			out.ForeignDumps, taken[at] = out.ForeignDumps+1, true
		case errors.Is(err, ErrDamaged), errors.Is(err, ErrNotFound):
			// Torn, or one that was removed meanwhile.
		case err != nil:
			return err
		case sizes[d.Key()] == d.Archive.Size:
			out.Dumps, taken[at] = append(out.Dumps, d), true
		}
	}
	for _, item := range items {
		if _, ok := dumpOf(item.Key); ok && !taken[path.Dir(item.Key)] {
			out.Torn = append(out.Torn, item)
		}
	}
	slices.SortStableFunc(out.Dumps, func(a, b Dump) int {
		if c := strings.Compare(a.Fleet, b.Fleet); c != 0 {
			return c
		}
		return b.Stored.Compare(a.Stored)
	})
	return nil
}

// readDump reads a dump.json, ErrDamaged if it is none of this place.
func (s *Store) readDump(ctx context.Context, key string) (Dump, error) {
	b, err := s.small(ctx, key)
	if err != nil {
		return Dump{}, err
	}
	d, err := parseDump(b, key)
	if err != nil {
		return d, fmt.Errorf("%s in %s: %w", key, s, err)
	}
	return d, nil
}

func parseDump(b []byte, key string) (Dump, error) {
	var said struct {
		Format int `json:"format"`
	}
	var d Dump
	if err := json.Unmarshal(b, &said); err != nil {
		return d, fmt.Errorf("%w (%w)", ErrDamaged, err)
	}
	if said.Format > 0 && said.Format != Format {
		return d, fmt.Errorf("%w: its format is %d and this one writes %d", ErrForeign, said.Format, Format)
	}
	if err := json.Unmarshal(b, &d); err != nil {
		return d, fmt.Errorf("%w (%w)", ErrDamaged, err)
	}
	strict := json.NewDecoder(bytes.NewReader(b))
	strict.DisallowUnknownFields()
	if err := strict.Decode(new(Dump)); err != nil {
		return d, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	at, err := d.folder()
	if err != nil || d.Format != Format || key != path.Join(at, dumpRecord) || d.Archive.Size == 0 || !hexes.MatchString(d.Archive.SHA256) {
		return d, fmt.Errorf("%w: it is no record of this place", ErrDamaged)
	}
	return d, nil
}

// RemoveDump takes a dump away.
func (s *Store) RemoveDump(ctx context.Context, d Dump) error {
	at, err := d.folder()
	for _, name := range []string{dumpRecord, archiveObject} {
		if err == nil {
			err = s.Bucket.Remove(ctx, path.Join(at, name))
		}
	}
	if err != nil {
		return fmt.Errorf("cannot remove %s from %s: %w", d, s, err)
	}
	return nil
}

// pruneDumps removes what the rule does not keep of its fleet's dumps: all whole ones but
// the newest, and what is torn and a day old. Another fleet's are none of its business.
func (s *Store) pruneDumps(ctx context.Context, r Rule, list Listing, out *Pruned) error {
	if r.Fleet == "" || r.Dumps < 1 {
		return nil
	}
	var errs []error
	kept := 0
	for _, d := range list.Dumps { // the newest first
		if d.Fleet != r.Fleet {
			continue
		}
		if kept++; kept <= r.Dumps {
			continue
		}
		if err := s.RemoveDump(ctx, d); err != nil {
			errs = append(errs, err)
			continue
		}
		out.Dumps = append(out.Dumps, d)
		out.Bytes += d.Archive.Size
	}
	for _, item := range list.Torn {
		if fleet, _ := dumpOf(item.Key); fleet != r.Fleet || s.now().Sub(item.Modified) < strayAge {
			continue
		}
		if err := s.Bucket.Remove(ctx, item.Key); err != nil {
			errs = append(errs, err)
			continue
		}
		out.Strays++
		out.Bytes += item.Size
	}
	errs = append(errs, s.abandon(ctx, path.Join(dumps, r.Fleet)+"/", s.now().Add(-strayAge)))
	return errors.Join(errs...)
}

// abandoner is a bucket that keeps what was sent of an object whose sender was killed,
// unseen by List, until somebody takes it away.
type abandoner interface {
	// Abandon takes away what was begun before a time of objects whose keys begin so.
	Abandon(ctx context.Context, prefix string, before time.Time, mine func(key string) bool) error
}

// abandon takes away what killed runs sent of dumps.
func (s *Store) abandon(ctx context.Context, prefix string, before time.Time) error {
	b, ok := s.Bucket.(abandoner)
	if !ok {
		return nil
	}
	return b.Abandon(ctx, prefix, before, func(key string) bool {
		_, ok := dumpOf(key)
		return ok
	})
}
