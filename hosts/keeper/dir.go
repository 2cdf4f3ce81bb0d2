package keeper

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Dir is a shelf in a local folder: the keeper's own, and the mirror on the
// operator's machine.
type Dir struct {
	// Path of the folder; it is made, with mode 0700, when something is saved.
	Path string
	// FS; nil for the machine's.
	FS FS
	// Now; nil for time.Now.
	Now func() time.Time
}

var idRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

func (d *Dir) file(id string) (string, error) {
	if !idRule.MatchString(id) {
		return "", fmt.Errorf("%q cannot be the name of a run: letters, digits, dot, dash and underscore only", id)
	}
	return filepath.Join(d.Path, id+".json"), nil
}

func (d *Dir) fs() FS {
	if d.FS == nil {
		return Disk{}
	}
	return d.FS
}

func (d *Dir) now() time.Time {
	if d.Now == nil {
		return time.Now().UTC()
	}
	return d.Now().UTC()
}

// Load returns what was last saved under id; fs.ErrNotExist, ErrDamaged and
// ErrNewerFormat tell why not.
func (d *Dir) Load(_ context.Context, id string) ([]byte, error) {
	path, err := d.file(id)
	if err != nil {
		return nil, err
	}
	h, b, err := read(d.fs(), path)
	if err != nil {
		return nil, err
	}
	if h.ID != id {
		return nil, fmt.Errorf("%s is %w: it is the journal of run %s", path, ErrDamaged, h.ID)
	}
	return b, nil
}

// Save stores b under id, unless something newer is there (ErrStale). The same
// bytes under the same epoch and seq may be saved again. A damaged file is kept
// beside under another name and replaced.
func (d *Dir) Save(_ context.Context, id string, epoch, seq int64, b []byte) error {
	path, err := d.file(id)
	if err != nil {
		return err
	}
	if err := d.fs().MkdirAll(d.Path, 0o700); err != nil {
		return fmt.Errorf("cannot make %s: %w", d.Path, typed(err))
	}
	old, was, err := read(d.fs(), path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, ErrDamaged):
		aside := fmt.Sprintf("%s.damaged-%d", path, d.now().Unix())
		if err := d.fs().Rename(path, aside); err != nil {
			return fmt.Errorf("cannot set the damaged %s aside: %w", path, typed(err))
		}
	case err != nil:
		return err
	case old.Epoch == epoch && old.Seq == seq && bytes.Equal(was, b):
		return nil
	case epoch < old.Epoch || seq <= old.Seq:
		return fmt.Errorf("save %d of epoch %d for run %s is %w: save %d of epoch %d is stored; somebody else went on with that run",
			seq, epoch, id, ErrStale, old.Seq, old.Epoch)
	}
	return write(d.fs(), path, head{ID: id, Epoch: epoch, Seq: seq, Saved: d.now()}, b)
}

// List returns the journals, the last saved first, damaged ones too.
func (d *Dir) List(_ context.Context) ([]Entry, error) {
	files, err := d.fs().ReadDir(d.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list %s: %w", d.Path, err)
	}
	var out []Entry
	for _, f := range files {
		id, ok := strings.CutSuffix(f.Name(), ".json")
		if !ok || f.IsDir() || !idRule.MatchString(id) {
			continue
		}
		h, b, err := read(d.fs(), filepath.Join(d.Path, f.Name()))
		e := Entry{ID: id, Epoch: h.Epoch, Seq: h.Seq, Saved: h.Saved, Size: len(b)}
		if err != nil {
			// What its head says of its time may be what is damaged, and it must not be
			// taken for an old one.
			e.Damaged = err.Error()
			if info, err := f.Info(); err == nil {
				e.Saved = info.ModTime().UTC()
			}
		}
		out = append(out, e)
	}
	slices.SortStableFunc(out, func(a, b Entry) int {
		return cmp.Or(b.Saved.Compare(a.Saved), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// Remove removes the journal of a run that is over; one that is not there is no
// error.
func (d *Dir) Remove(_ context.Context, id string) error {
	path, err := d.file(id)
	if err != nil {
		return err
	}
	if err := d.fs().Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove %s: %w", path, typed(err))
	}
	return nil
}

// MirrorDir is the folder for a fleet's mirror on this machine:
// $XDG_STATE_HOME/refit/FLEET, or ~/.local/state/refit/FLEET.
func MirrorDir(fleet string) (string, error) {
	if !idRule.MatchString(fleet) {
		return "", fmt.Errorf("%q cannot be the name of a fleet: letters, digits, dot, dash and underscore only", fleet)
	}
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) { // the XDG rule: a relative path is to be ignored
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("cannot tell where to mirror the journal: %w", err)
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "refit", fleet), nil
}

// Shelf is what keeps journals: a Keeper, a Dir, a Mirror.
type Shelf interface {
	Load(ctx context.Context, id string) ([]byte, error)
	Save(ctx context.Context, id string, epoch, seq int64, b []byte) error
	List(ctx context.Context) ([]Entry, error)
}

// Mirror is a shelf with a copy on the operator's machine, for the day on which
// the keeper is gone for good. Only the first shelf's word counts.
type Mirror struct {
	// Main is saved to first; its error is the save's.
	Main Shelf
	// Local gets a copy after that.
	Local Shelf
	// Say is told when the copy fails, which fails nothing else; nil for nobody.
	Say func(text string)
}

// Load reads from Main alone. To recover from the copy is a person's decision.
func (m *Mirror) Load(ctx context.Context, id string) ([]byte, error) { return m.Main.Load(ctx, id) }

// List reads from Main alone.
func (m *Mirror) List(ctx context.Context) ([]Entry, error) { return m.Main.List(ctx) }

// Save saves to Main and then to Local.
func (m *Mirror) Save(ctx context.Context, id string, epoch, seq int64, b []byte) error {
	if err := m.Main.Save(ctx, id, epoch, seq, b); err != nil {
		return err
	}
	if err := m.Local.Save(ctx, id, epoch, seq, b); err != nil && m.Say != nil {
		m.Say(fmt.Sprintf("the journal is saved on the keeper, but its copy on this machine could not be written: %v", err))
	}
	return nil
}
