package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// permitCheckWord is the word with which systemd calls this program back before it starts
// a unit: "refit node permit.check". It reads no request.
const permitCheckWord = "permit.check"

// SealedStatus is the exit status of a check that refuses. From an ExecCondition 1 to
// 254 skip a unit without its failing (systemd.service(5)); 203, systemd's own for a program
// that is not there, is among them, so that a lost check refuses too.
const SealedStatus = 93

const (
	// unitsDir is where the machine's admin, and refit, have drop-ins.
	unitsDir = "etc/systemd/system"
	// dropInName sorts behind drop-ins of the release's own (10-refit.conf). Of several with
	// this name systemd reads the one of the most precise folder.
	dropInName = "50-refit-permit.conf"
	// mastodonUnits is the folder of drop-ins for every unit whose name begins so, also for
	// instances of templates and for what refit.yml does not name (systemd.unit(5), since 239).
	mastodonUnits = "mastodon-"
)

// permitRecord is the permit's file.
type permitRecord struct {
	Format int `json:"format"`
	Permit
}

func (m Machine) permitFile() string { return m.state("permit") }

// checkProgram is the program that units ask: a copy under a name that no new refit
// changes and no cleaning of agents removes. What it decides by, the permit's file, has
// one format for all of them.
func (m Machine) checkProgram() string { return m.state("permit.d", "check") }

func (m Machine) checkLine() string { return m.checkProgram() + " node " + permitCheckWord }

func (m Machine) dropIn() []byte {
	return []byte("# Written by refit: no unit of Mastodon's starts on a machine that has no permit for itself.\n" +
		"# docs/cloud.md, \"Sealed images\". \"+\" asks as root, outside of the unit's sandbox.\n" +
		"[Service]\nExecCondition=+" + m.checkLine() + "\n")
}

// dropIns are the drop-in files that hold units: one for all that are called mastodon-*, one for
// each template, one for each other unit.
func (m Machine) dropIns(units []string) ([]string, error) {
	dirs := []string{mastodonUnits + ".service.d"}
	for _, u := range units {
		name, ok := strings.CutSuffix(u, ".service")
		if !ok {
			return nil, fmt.Errorf("%s is no service: only those can be held by a permit", u)
		}
		template, _, instance := strings.Cut(name, "@")
		switch {
		case strings.HasPrefix(name, mastodonUnits):
		case instance:
			dirs = append(dirs, template+"@.service.d")
		default:
			dirs = append(dirs, u+".d")
		}
	}
	slices.Sort(dirs)
	dirs = slices.Compact(dirs)
	for i, d := range dirs {
		dirs[i] = m.root(unitsDir, d, dropInName)
	}
	return dirs, nil
}

// guards tells whether one ExecCondition, as systemctl shows it, asks for the permit.
func guards(shown string) bool {
	_, argv, _ := strings.Cut(shown, "argv[]=")
	argv, rest, _ := strings.Cut(argv, " ; ")
	return strings.HasSuffix(argv, "/permit.d/check node "+permitCheckWord) && strings.Contains(rest, "ignore_errors=no")
}

// opensSeal tells whether a unit's SuccessExitStatus counts an exit status as good that a
// check can end with: its own, systemd's for programs that cannot be started (200 and
// more), a crash's. A shell's for signals, such as Java's 143, are none.
func opensSeal(statuses string) bool {
	return slices.ContainsFunc(strings.Fields(statuses), func(word string) bool {
		n, err := strconv.Atoi(word)
		return err == nil && n != 0 && (n < 128 || n >= 200)
	})
}

func (m Machine) readPermit() (*Permit, error) {
	var r permitRecord
	err := readJSON(m.permitFile(), &r)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil //nolint:nilnil // no permit is an answer
	case err != nil:
		return nil, err
	case r.Format != 1:
		return nil, fmt.Errorf("%s has format %d, not 1", m.permitFile(), r.Format)
	case r.Instance == "":
		return nil, fmt.Errorf("%s names no machine", m.permitFile())
	}
	return &r.Permit, nil
}

// permitted is nil where a unit that asks may start: the permit is whole and this
// very machine's. Whatever cannot be found out refuses.
func (m Machine) permitted() error {
	p, err := m.readPermit()
	if err != nil {
		return Failf(CodeSealed, "sealed: the permit cannot be read: %v", err)
	}
	if p == nil {
		return Failf(CodeSealed, "sealed: this machine has no permit (%s)", m.permitFile())
	}
	id, err := m.instance()
	if err != nil {
		return Failf(CodeSealed, "sealed: %v", err)
	}
	if p.Instance != id.ID {
		return Failf(CodeSealed, "sealed: the permit is for machine %s, and this is %s: a clone of it, or a machine set up from its image", p.Instance, id.ID)
	}
	return nil
}

// skipped is an error where a unit that was told to start was not even tried. systemd
// takes that for no failure, and may forget why at once (a unit that nothing refers to is
// unloaded), so where it says nothing the permit is tried.
func (m Machine) skipped(states []UnitState) error {
	var names []string
	known := false
	for _, s := range states {
		was := s.Result == "exec-condition"
		if was || s.Guarded && s.Active == "inactive" {
			names, known = append(names, s.Name), known || was
		}
	}
	if len(names) == 0 {
		return nil
	}
	why := m.permitted()
	if why == nil {
		if _, err := os.Stat(m.checkProgram()); err != nil {
			why = fmt.Errorf("sealed: the program that units ask is not there: %w", err)
		}
	}
	switch {
	case why != nil:
		return Failf(CodeSealed, "%v. So systemd did not start %s", why, strings.Join(names, ", "))
	case known:
		return Failf(CodeSealed, "sealed: an ExecCondition kept systemd from starting %s, and the permit is good: journalctl -u %s says which", strings.Join(names, ", "), names[0])
	}
	return nil // it started and has ended, which its gate judges
}

func (m Machine) permitShow(ctx context.Context, in PermitIn, _ io.Reader, _ func(string)) (PermitOut, error) {
	return m.lookPermit(ctx, in)
}

func (m Machine) lookPermit(ctx context.Context, in PermitIn) (PermitOut, error) {
	var out PermitOut
	files, err := m.dropIns(in.Units)
	if err != nil {
		return out, err
	}
	if out.Instance, err = m.instance(); err != nil {
		out.InstanceError = err.Error()
	}
	if out.Permit, err = m.readPermit(); err != nil {
		out.PermitError = err.Error()
	}
	if err := m.permitted(); err != nil {
		out.Refused = err.Error()
	} else if _, err := m.exec(ctx, strings.Fields(m.checkLine())...); err != nil {
		// As units will.
		out.Refused = fmt.Sprintf("sealed: the permit is good, and %s, which units ask, does not say so: %v", m.checkProgram(), err)
	}
	for _, file := range files {
		if b, err := os.ReadFile(file); err != nil || !bytes.Equal(b, m.dropIn()) {
			out.Stale = append(out.Stale, file)
		}
	}
	states, err := m.show(ctx, in.Home, in.Units)
	if err != nil {
		return out, err
	}
	for _, s := range states {
		if s.Load != "not-found" && !s.Guarded {
			out.Lacks = append(out.Lacks, s.Name)
		}
	}
	out.Beside, err = m.beside(ctx, in)
	return out, err
}

// permitWrite writes what units ask before the drop-ins that make them ask, so that at no
// moment a unit that runs could not be started again.
func (m Machine) permitWrite(ctx context.Context, in PermitIn, _ io.Reader, _ func(string)) (PermitOut, error) {
	if err := checkUnits(in.Units...); err != nil {
		return PermitOut{}, err
	}
	files, err := m.dropIns(in.Units)
	if err != nil {
		return PermitOut{}, err
	}
	id, err := m.instance()
	if err != nil {
		return PermitOut{}, err
	}
	var wrote []string
	changed, err := m.writeCheck()
	if err != nil {
		return PermitOut{}, fmt.Errorf("cannot write the program that units ask: %w", err)
	}
	if changed {
		wrote = append(wrote, m.checkProgram())
	}
	if m.permitted() != nil {
		if in.Run == "" {
			in.Run = RequestOf(ctx).Run
		}
		b, err := json.Marshal(permitRecord{Format: 1, Permit: Permit{Instance: id.ID, At: time.Now().UTC().Truncate(time.Second), Run: in.Run}})
		if err != nil {
			return PermitOut{}, err
		}
		if err := writeFile(m.permitFile(), append(b, '\n'), 0o644); err != nil {
			return PermitOut{}, fmt.Errorf("cannot write the permit: %w", err)
		}
		wrote = append(wrote, m.permitFile())
	}
	// A check that cannot run here (a file system without programs) would refuse for ever:
	// nothing is made to ask it.
	if _, err := m.exec(ctx, strings.Fields(m.checkLine())...); err != nil {
		return PermitOut{}, Failf(CodeSealed, "the permit is written, and %s, which units are to ask, does not say so: %v. No unit was made to ask it; is its file system mounted noexec?", m.checkProgram(), err)
	}
	reload := false
	for _, file := range files {
		if b, err := os.ReadFile(file); err == nil && bytes.Equal(b, m.dropIn()) {
			continue
		}
		if err := writeFile(file, m.dropIn(), 0o644); err != nil {
			return PermitOut{}, fmt.Errorf("cannot write a drop-in: %w", err)
		}
		// Its folder may be new.
		if err := syncDir(filepath.Dir(filepath.Dir(file))); err != nil {
			return PermitOut{}, err
		}
		wrote, reload = append(wrote, file), true
	}
	out, err := m.held(ctx, in, reload)
	out.Wrote = wrote
	return out, err
}

// held looks whether what was written holds, and makes systemd read it where needed:
// also where a call before this one ended between writing and reading.
func (m Machine) held(ctx context.Context, in PermitIn, reload bool) (PermitOut, error) {
	var out PermitOut
	var err error
	if !reload {
		if out, err = m.lookPermit(ctx, in); err != nil {
			return out, err
		}
	}
	if reload || len(out.Lacks) > 0 {
		if _, err := m.exec(ctx, "systemctl", "--no-ask-password", "daemon-reload"); err != nil {
			return out, fmt.Errorf("cannot make systemd read the drop-ins: %w", err)
		}
		if out, err = m.lookPermit(ctx, in); err != nil {
			return out, err
		}
	}
	switch {
	case out.Refused != "":
		return out, Failf(CodeSealed, "%s, though the permit was just written", out.Refused)
	case len(out.Lacks) > 0:
		return out, fmt.Errorf("systemd would start %s without asking for the permit: another drop-in takes ExecCondition back, or SuccessExitStatus counts a refusal as success; `systemctl cat %s` shows which, and it has to go",
			strings.Join(out.Lacks, ", "), out.Lacks[0])
	}
	return out, nil
}

func (m Machine) permitWithdraw(ctx context.Context, in PermitIn, _ io.Reader, _ func(string)) (PermitOut, error) {
	var wrote []string
	err := os.Remove(m.permitFile())
	switch {
	case err == nil:
		wrote = []string{m.permitFile()}
		err = syncDir(filepath.Dir(m.permitFile()))
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	if err != nil {
		return PermitOut{}, fmt.Errorf("cannot withdraw the permit: %w", err)
	}
	out, err := m.lookPermit(ctx, in)
	out.Wrote = wrote
	return out, err
}
