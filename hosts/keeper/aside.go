package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// archived is the folder beside the journals into which people move old ones.
const archived = "archive"

// Aside lists the journals that lie under another name than a run's own: those that were
// set aside as damaged, renamed, or moved into the folder "archive". Entry.File names each.
// A journal in the making is none, nor a file that has no word of a run.
func (d *Dir) Aside(_ context.Context) ([]Entry, error) {
	var out []Entry
	for _, folder := range []string{"", archived} {
		files, err := d.fs().ReadDir(filepath.Join(d.Path, folder))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot list %s: %w", filepath.Join(d.Path, folder), err)
		}
		for _, f := range files {
			if e, ok := d.aside(folder, f); ok {
				out = append(out, e)
			}
		}
	}
	return out, nil
}

// aside is the entry of one such file.
func (d *Dir) aside(folder string, f fs.DirEntry) (Entry, bool) {
	name := f.Name()
	if !f.Type().IsRegular() || strings.HasSuffix(name, ".tmp") {
		return Entry{}, false
	}
	id, suffix, found := strings.Cut(name, ".json")
	h, b, err := read(d.fs(), filepath.Join(d.Path, folder, name))
	own := folder == "" && found && suffix == "" && idRule.MatchString(id)
	switch {
	case own && (err != nil || h.ID == id): // List's
		return Entry{}, false
	case err != nil && (!found || !idRule.MatchString(id)):
		return Entry{}, false
	}
	e := Entry{ID: h.ID, Epoch: h.Epoch, Seq: h.Seq, Saved: h.Saved, Size: len(b), File: filepath.Join(folder, name)}
	if err != nil {
		e.ID, e.Damaged = id, err.Error()
		if info, err := f.Info(); err == nil {
			e.Saved = info.ModTime().UTC()
		}
	}
	return e, true
}

// LoadAside returns the content of a file that Aside lists; fs.ErrNotExist for any other.
func (d *Dir) LoadAside(ctx context.Context, file string) ([]byte, error) {
	entries, err := d.Aside(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.File == file {
			_, b, err := read(d.fs(), filepath.Join(d.Path, file))
			return b, err
		}
	}
	return nil, fmt.Errorf("no journal lies aside as %q: %w", file, fs.ErrNotExist)
}

// Aside lists what lies beside the journals; see Dir.Aside. It waits for no lock.
func (k *Keeper) Aside(ctx context.Context) ([]Entry, error) {
	a, err := k.ask(ctx, "shelf.aside", asideIn{}, few)
	return a.Entries, err
}

// LoadAside returns the content of a file that Aside lists.
func (k *Keeper) LoadAside(ctx context.Context, file string) ([]byte, error) {
	a, err := k.ask(ctx, "shelf.aside", asideIn{File: file}, few)
	return a.Bytes, err
}

// asideIn asks for a file; for their list if it names none.
type asideIn struct {
	File string `json:"file,omitempty"`
}
