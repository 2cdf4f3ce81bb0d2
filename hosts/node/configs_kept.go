package node

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// Where a run's files stand on this host.
const (
	keptBegun = "begun" // old contents are kept, the new ones may be half in place
	keptDone  = "done"
	keptGoing = "going back"
	keptBack  = "back"
)

// keptRecord says what a run found here. It lies with the old contents, in files that are
// named by their place in Files.
type keptRecord struct {
	Format int    `json:"format"`
	Run    string `json:"run"`
	State  string `json:"state"`
	// Ran are the units that ran before and hear of changes: also one that a change has
	// brought down is started again.
	Ran   []string   `json:"ran,omitempty"`
	Files []keptFile `json:"files"`
}

// keptFile is one file as it was found.
type keptFile struct {
	Path string `json:"path"`
	// Missing: there was none.
	Missing bool   `json:"missing,omitempty"`
	UID     int    `json:"uid"`
	GID     int    `json:"gid"`
	Mode    uint32 `json:"mode"`
	// Was is the hash of the old content, Wrote of the one that the run put there.
	Was   string `json:"was,omitempty"`
	Wrote string `json:"wrote"`

	Check   string   `json:"check,omitempty"`
	Restart []string `json:"restart,omitempty"`
	Reload  []string `json:"reload,omitempty"`
}

func (r keptRecord) of(path string) *keptFile {
	for i := range r.Files {
		if r.Files[i].Path == path {
			return &r.Files[i]
		}
	}
	return nil
}

var runID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// keptRuns is how many runs' old contents stay, beside the one at work.
const keptRuns = 5

func (m Machine) keptDir(run string) string { return m.state("configs", run) }

func (m Machine) readKept(run string) (keptRecord, error) {
	r := keptRecord{Format: 1, Run: run}
	if !runID.MatchString(run) {
		return r, fmt.Errorf("%q is not the ID of a run", run)
	}
	err := readJSON(filepath.Join(m.keptDir(run), "record.json"), &r)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r, nil
	case err != nil:
		return r, err
	case r.Format != 1 || r.Run != run:
		return r, fmt.Errorf("%s is of format %d and run %q: another version of refit wrote it", m.keptDir(run), r.Format, r.Run)
	}
	return r, nil
}

func (m Machine) writeKept(r keptRecord) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(m.keptDir(r.Run), "record.json"), append(b, '\n'), 0o600)
}

// keep writes down what lies where files are about to be put. What the run found in an
// earlier call stays what it found.
func (m Machine) keep(r keptRecord, files []wanted, ran []string) (keptRecord, error) {
	// Old contents hold secrets.
	for _, dir := range []string{m.state("configs"), m.keptDir(r.Run)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return r, err
		}
		if err := errors.Join(os.Chmod(dir, 0o700), syncDir(filepath.Dir(dir))); err != nil {
			return r, err
		}
	}
	r.Files, r.State = slices.Clone(r.Files), keptBegun
	r.Ran = slices.Compact(slices.Sorted(slices.Values(slices.Concat(r.Ran, ran))))
	for _, w := range files {
		if k := r.of(w.Path); k != nil {
			k.Wrote, k.Check, k.Restart, k.Reload = sum(w.content), w.Check, w.Restart, w.Reload
			continue
		}
		k := keptFile{Path: w.Path, Missing: w.now == nil, Wrote: sum(w.content), Check: w.Check, Restart: w.Restart, Reload: w.Reload}
		if w.now != nil {
			k.UID, k.GID, k.Mode, k.Was = w.now.uid, w.now.gid, w.now.mode, sum(w.now.content)
			if err := writeFile(m.oldFile(r.Run, len(r.Files)), w.now.content, 0o600); err != nil {
				return r, err
			}
		}
		r.Files = append(r.Files, k)
	}
	return r, m.writeKept(r)
}

func (m Machine) oldFile(run string, i int) string {
	return filepath.Join(m.keptDir(run), strconv.Itoa(i))
}

// oldOf is what lay there before the run; nil for no file.
func (m Machine) oldOf(run string, i int, k keptFile) (*present, error) {
	if k.Missing {
		return nil, nil //nolint:nilnil // no file is an answer
	}
	b, err := os.ReadFile(m.oldFile(run, i))
	if err != nil {
		return nil, fmt.Errorf("what %s held before run %s is lost: %w", k.Path, run, err)
	}
	if sum(b) != k.Was {
		return nil, fmt.Errorf("what %s held before run %s is damaged in %s: put the file right by hand, then remove that folder", k.Path, run, m.keptDir(run))
	}
	return &present{content: b, uid: k.UID, gid: k.GID, mode: k.Mode}, nil
}

func (m Machine) keepMeddled(run string, i int, content []byte) error {
	return writeFile(m.oldFile(run, i)+".meddled", content, 0o600)
}

// forget removes what is kept of a run, its record first: without that the rest is nothing.
func (m Machine) forget(run string) error {
	dir := m.keptDir(run)
	if err := removeIfThere(filepath.Join(dir, "record.json")); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// forgetOld removes the oldest runs' old contents. IDs of runs begin with their time.
func (m Machine) forgetOld(but string) error {
	entries, err := os.ReadDir(m.state("configs"))
	if err != nil {
		return err
	}
	var runs []string
	for _, e := range entries {
		if e.IsDir() && e.Name() != but && runID.MatchString(e.Name()) {
			runs = append(runs, e.Name())
		}
	}
	slices.Sort(runs)
	var errs []error
	for _, run := range runs[:max(0, len(runs)-keptRuns)] {
		errs = append(errs, m.forget(run))
	}
	return errors.Join(errs...)
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
