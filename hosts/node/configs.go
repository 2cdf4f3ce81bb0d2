package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// wanted is a file with its values put in, beside what lies there.
type wanted struct {
	ConfigFile
	content []byte
	uid     int
	gid     int
	now     *present // nil for no file
}

func (w wanted) state() string {
	switch {
	case w.now == nil:
		return ConfigMissing
	case !bytes.Equal(w.now.content, w.content):
		return ConfigOther
	case w.now.uid != w.uid || w.now.gid != w.gid || w.now.mode != w.Mode:
		return ConfigRights
	}
	return ConfigSame
}

// want reads all that the request needs and refuses what it must. Nothing is changed.
func (m Machine) want(in ConfigIn) (files []wanted, lacks []string, known secrets, err error) {
	seen := map[string]bool{}
	var refs []string
	for _, f := range in.Files {
		if err := fault(in, f); err != nil {
			return nil, nil, nil, err
		}
		if seen[f.Path] {
			return nil, nil, nil, fmt.Errorf("%s stands twice in the request", f.Path)
		}
		seen[f.Path] = true
		refs = append(refs, references(f.Content)...)
	}
	slices.Sort(refs)
	refs = slices.Compact(refs)
	known, err = m.secrets(len(refs) > 0)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, name := range refs {
		if _, ok := known[name]; !ok {
			lacks = append(lacks, name)
		}
	}
	for _, f := range in.Files {
		w := wanted{ConfigFile: f, content: known.in(f.Content)}
		w.Mode &= 0o777
		if w.uid, _, _, err = lookupUser(f.Owner); err != nil {
			return nil, nil, nil, fmt.Errorf("%s: %w", f.Path, err)
		}
		if w.gid, err = lookupGroup(f.Group); err != nil {
			return nil, nil, nil, fmt.Errorf("%s: %w", f.Path, err)
		}
		if w.now, err = m.present(f.Path); err != nil {
			return nil, nil, nil, err
		}
		files = append(files, w)
	}
	return files, lacks, known, nil
}

func (m Machine) configLook(_ context.Context, in ConfigIn, _ io.Reader, _ func(string)) (ConfigOut, error) {
	files, lacks, known, err := m.want(in)
	if err != nil {
		return ConfigOut{}, err
	}
	out := ConfigOut{Lacks: lacks}
	for _, w := range files {
		s := ConfigState{Path: w.Path, State: w.state()}
		if w.now != nil {
			s.Owner, s.Group, s.Mode = userName(w.now.uid), groupNamed(w.now.gid), w.now.mode
			if in.Contents {
				s.Content = known.out(w.now.content, w.Content)
			}
		}
		out.Files = append(out.Files, s)
	}
	return out, nil
}

// configApply keeps what it finds before it changes anything, so that whoever kills it
// leaves either nothing changed, or a record by which all is put back.
func (m Machine) configApply(ctx context.Context, in ConfigIn, _ io.Reader, _ func(string)) (ConfigOut, error) {
	files, lacks, known, err := m.want(in)
	if err != nil {
		return ConfigOut{}, err
	}
	if len(lacks) > 0 {
		return ConfigOut{Lacks: lacks}, Failf(CodeNotFound, "%s has no value for %s, which its configuration refers to: add each there as a line NAME=value. Nothing was written", SecretsFile, strings.Join(lacks, ", "))
	}
	kept, err := m.readKept(in.Run)
	if err != nil {
		return ConfigOut{}, err
	}
	if kept.State == keptBack {
		// A run that was taken back and goes forward again begins anew.
		if err := m.forget(in.Run); err != nil {
			return ConfigOut{}, err
		}
		kept = keptRecord{Format: 1, Run: in.Run}
	}
	changed := slices.DeleteFunc(slices.Clone(files), func(w wanted) bool { return w.state() == ConfigSame })
	if len(changed) == 0 && kept.State != keptBegun {
		return ConfigOut{}, nil
	}
	if err := m.checkUnitFiles(ctx, changed); err != nil {
		return ConfigOut{}, known.hide(fmt.Errorf("%w. Nothing was written", err))
	}
	before := kept
	var t told
	for _, w := range changed {
		t.add(w.ConfigFile)
	}
	ran, err := m.toldOf(ctx, t, in.Leave)
	if err != nil {
		return ConfigOut{}, err
	}
	if kept, err = m.keep(kept, changed, ran); err != nil {
		return ConfigOut{}, fmt.Errorf("cannot keep what is there now, so nothing was written: %w", err)
	}
	out, err := m.putConfigs(ctx, in, kept, files, changed)
	if err != nil {
		return ConfigOut{}, known.hide(m.putBack(ctx, in, before, kept, changed, err))
	}
	kept.State = keptDone
	return out, errors.Join(m.writeKept(kept), m.forgetOld(in.Run))
}

// putConfigs writes the files, has them checked by who reads them, and tells the units.
func (m Machine) putConfigs(ctx context.Context, in ConfigIn, kept keptRecord, files, changed []wanted) (ConfigOut, error) {
	var out ConfigOut
	for _, w := range changed {
		if err := m.put(w.Path, present{content: w.content, uid: w.uid, gid: w.gid, mode: w.Mode}); err != nil {
			return out, fmt.Errorf("cannot write %s: %w", w.Path, err)
		}
		out.Changed = append(out.Changed, w.Path)
	}
	// Also what an earlier call wrote and did not live to tell.
	touched := slices.DeleteFunc(slices.Clone(files), func(w wanted) bool { return kept.of(w.Path) == nil })
	var t told
	for _, w := range touched {
		t.add(w.ConfigFile)
	}
	if t.nginx {
		if err := m.validate(ctx, []string{"nginx", "-t"}, ""); err != nil {
			return out, err
		}
	}
	return m.tell(ctx, t, in, kept.Ran, out)
}

// putBack leaves the host as the call found it, after the error that is given.
func (m Machine) putBack(ctx context.Context, in ConfigIn, before, kept keptRecord, changed []wanted, cause error) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	var t told
	for _, w := range changed {
		t.add(w.ConfigFile)
		errs = append(errs, m.putOrRemove(w.Path, w.now))
	}
	if errors.Join(errs...) == nil {
		_, err := m.tell(ctx, t, in, kept.Ran, ConfigOut{})
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w; and what was there could not be put back whole: %w. It lies in %s", cause, err, m.keptDir(kept.Run))
	}
	var err error
	if before.State == "" {
		err = m.forget(kept.Run)
	} else {
		err = m.writeKept(before)
	}
	return errors.Join(fmt.Errorf("%w; what was there before is back", cause), err)
}

func (m Machine) configRestore(ctx context.Context, in ConfigIn, _ io.Reader, _ func(string)) (ConfigOut, error) {
	var out ConfigOut
	kept, err := m.readKept(in.Run)
	if err != nil || kept.State == "" || kept.State == keptBack {
		return out, err
	}
	known, err := m.secrets(false)
	if err != nil {
		return out, err
	}
	// From here on a call that is killed has units to tell, whatever it finds in place.
	kept.State = keptGoing
	if err := m.writeKept(kept); err != nil {
		return out, err
	}
	var t told
	for i, k := range kept.Files {
		old, err := m.oldOf(kept.Run, i, k)
		if err != nil {
			return out, err
		}
		now, err := m.present(k.Path)
		if err != nil {
			return out, err
		}
		t.add(ConfigFile{Path: k.Path, Check: k.Check, Restart: k.Restart, Reload: k.Reload})
		if now.same(old) {
			continue
		}
		if now != nil && sum(now.content) != k.Wrote {
			if err := m.keepMeddled(kept.Run, i, now.content); err != nil {
				return out, err
			}
			out.Meddled = append(out.Meddled, k.Path)
		}
		if err := m.putOrRemove(k.Path, old); err != nil {
			return out, fmt.Errorf("cannot put %s back: %w", k.Path, err)
		}
		out.Changed = append(out.Changed, k.Path)
	}
	if t.nginx {
		if err := m.validate(ctx, []string{"nginx", "-t"}, ""); err != nil {
			return out, known.hide(fmt.Errorf("what was there before run %s is back, and %w: it runs on with what it has loaded; mend that, then again", in.Run, err))
		}
	}
	if out, err = m.tell(ctx, t, in, kept.Ran, out); err != nil {
		return out, fmt.Errorf("what was there before run %s is back, and %w", in.Run, err)
	}
	kept.State = keptBack
	return out, m.writeKept(kept)
}
