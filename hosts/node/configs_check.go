package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

const unitsAt = "/" + unitsDir + "/"

// told is who must hear of a change.
type told struct {
	daemon, nginx   bool
	restart, reload []string
}

func (t *told) add(f ConfigFile) {
	t.daemon = t.daemon || strings.HasPrefix(f.Path, unitsAt)
	t.restart = append(t.restart, f.Restart...)
	t.reload = append(t.reload, f.Reload...)
	if f.Check == "nginx" {
		t.nginx = true
		if len(f.Restart)+len(f.Reload) == 0 {
			t.reload = append(t.reload, "nginx.service")
		}
	}
}

// units are those that must hear of it, but for those that the caller starts itself; one
// that is restarted is not reloaded too.
func (t told) units(leave []string) (restart, reload []string) {
	restart = slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(t.restart))), func(u string) bool {
		return slices.Contains(leave, u)
	})
	reload = slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(t.reload))), func(u string) bool {
		return slices.Contains(leave, u) || slices.Contains(restart, u)
	})
	return restart, reload
}

// toldOf are the units that must hear of a change, of those that run now.
func (m Machine) toldOf(ctx context.Context, t told, leave []string) ([]string, error) {
	restart, reload := t.units(leave)
	states, err := m.show(ctx, "", slices.Concat(restart, reload))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, s := range states {
		if s.Running() {
			out = append(out, s.Name)
		}
	}
	return out, nil
}

// tell has systemd read its units, and those units of them that ran read their files. One
// that does not come up again is an error.
func (m Machine) tell(ctx context.Context, t told, in ConfigIn, ran []string, out ConfigOut) (ConfigOut, error) {
	if t.daemon {
		if _, err := m.exec(ctx, "systemctl", "--no-ask-password", "daemon-reload"); err != nil {
			return out, fmt.Errorf("systemd could not read its units anew: %w", err)
		}
		out.Reloaded = true
	}
	restart, reload := t.units(in.Leave)
	for _, unit := range slices.Concat(restart, reload) {
		if !slices.Contains(ran, unit) {
			continue
		}
		now, err := m.show(ctx, "", []string{unit})
		if err != nil {
			return out, err
		}
		// What failed at its start has nothing to reload.
		if slices.Contains(restart, unit) || !now[0].Running() {
			_, err = m.units(ctx, UnitsIn{Op: RestartUnits, Units: []string{unit}}, nil, nil)
		} else {
			_, err = m.exec(ctx, "systemctl", "--no-ask-password", "reload", "--", unit)
		}
		if err != nil {
			return out, fmt.Errorf("%s does not take its configuration: %w (journalctl -u %s)", unit, err, unit)
		}
		if now, err = m.show(ctx, "", []string{unit}); err != nil {
			return out, err
		}
		if !now[0].Running() {
			return out, fmt.Errorf("%s does not stay up (%s; journalctl -u %s)", unit, describe(now), unit)
		}
		out.Told = append(out.Told, unit)
	}
	return out, nil
}

// checkUnitFiles has systemd read copies of the unit files, each beside the drop-ins that
// it would have. Drop-ins for all units of a prefix are read with none.
func (m Machine) checkUnitFiles(ctx context.Context, files []wanted) error {
	files = slices.DeleteFunc(slices.Clone(files), func(w wanted) bool {
		return w.Check != "systemd" || !strings.HasPrefix(w.Path, unitsAt)
	})
	if len(files) == 0 {
		return nil
	}
	dir := m.state("configs", ".check")
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return err
	}
	err := m.verifyCopies(ctx, dir, files)
	return errors.Join(err, os.RemoveAll(dir))
}

func (m Machine) verifyCopies(ctx context.Context, dir string, files []wanted) error {
	var units []string
	for _, w := range files {
		name := strings.TrimPrefix(w.Path, unitsAt)
		copied := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(copied), 0o700), os.WriteFile(copied, w.content, 0o600)); err != nil {
			return err
		}
		unit, _, dropIn := strings.Cut(name, "/")
		if dropIn {
			unit = strings.TrimSuffix(unit, ".d")
		}
		units = append(units, unit)
	}
	slices.Sort(units)
	var there []string
	for _, unit := range slices.Compact(units) {
		at := filepath.Join(dir, unit)
		_, err := os.Stat(at)
		if errors.Is(err, fs.ErrNotExist) {
			if err = m.copyUnit(unit, at); errors.Is(err, fs.ErrNotExist) {
				continue
			}
		}
		if err != nil {
			return err
		}
		there = append(there, at)
	}
	if len(there) == 0 {
		return nil
	}
	// Without --recursive-errors a fault of any unit that these depend on would count.
	argv := append([]string{"systemd-analyze", "verify", "--man=no", "--recursive-errors=no"}, there...)
	return m.validate(ctx, argv, "")
}

// unitPath is where systemd looks for units, the first that wins first (systemd.unit(5)).
var unitPath = []string{unitsDir, "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"}

// copyUnit copies the unit that drop-ins are for, or the template that it is made from.
func (m Machine) copyUnit(unit, to string) error {
	names := []string{unit}
	if template, rest, ok := strings.Cut(unit, "@"); ok && !strings.HasPrefix(rest, ".") {
		names = append(names, template+"@"+path.Ext(unit))
	}
	for _, name := range names {
		for _, dir := range unitPath {
			b, err := os.ReadFile(m.root(dir, name))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			return os.WriteFile(to, b, 0o600)
		}
	}
	return fs.ErrNotExist
}
