package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// manifestPatch is a manifest as what differs from another. A manifest of 37,000 files
// takes 1.4 MB compressed, since no hash can be; a patch release changes a few of them.
type manifestPatch struct {
	// Release and Digest are those of the manifest that it begins from.
	Release string `json:"release"`
	Digest  string `json:"digest"`
	// Head is the file up to its first entry, Tail what follows the last.
	Head string        `json:"head"`
	Tail string        `json:"tail"`
	Runs []manifestRun `json:"runs"`
}

// manifestRun is some entries: N of the other manifest's from place From on, and then
// New ones, each as it stands in the file.
type manifestRun struct {
	From int               `json:"from,omitempty"`
	N    int               `json:"n,omitempty"`
	New  []json.RawMessage `json:"new,omitempty"`
}

// splitManifest takes a manifest's file apart, byte by byte.
func splitManifest(file []byte) (head string, entries []json.RawMessage, tail string, err error) {
	const begins = `,"files":[`
	before, _, ok := bytes.Cut(file, []byte(begins))
	if !ok {
		return "", nil, "", errors.New("it lists no files")
	}
	// With the bracket, so that what follows is a list.
	rest := file[len(before)+len(begins)-1:]
	d := json.NewDecoder(bytes.NewReader(rest))
	if err := d.Decode(&entries); err != nil {
		return "", nil, "", err
	}
	return string(before) + begins, entries, string(rest[d.InputOffset():]), nil
}

// diffManifest makes the patch, encoded, that leads from one manifest's file to another.
// There is none to a file that JSON would not be written as.
func diffManifest(base Base, from, to []byte) ([]byte, error) {
	p := manifestPatch{Release: base.Release, Digest: base.Digest}
	_, old, _, err := splitManifest(from)
	if err != nil {
		return nil, err
	}
	var entries []json.RawMessage
	if p.Head, entries, p.Tail, err = splitManifest(to); err != nil {
		return nil, err
	}
	at := make(map[string]int, len(old))
	for i, e := range old {
		at[string(e)] = i
	}
	for _, e := range entries {
		last := len(p.Runs) - 1
		i, ok := at[string(e)]
		switch {
		case !ok && last >= 0:
			p.Runs[last].New = append(p.Runs[last].New, e)
		case !ok:
			p.Runs = append(p.Runs, manifestRun{New: []json.RawMessage{e}})
		case last >= 0 && len(p.Runs[last].New) == 0 && p.Runs[last].From+p.Runs[last].N == i:
			p.Runs[last].N++
		default:
			p.Runs = append(p.Runs, manifestRun{From: i, N: 1})
		}
	}
	b, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	made, err := applyPatch(b, from)
	if err == nil && !bytes.Equal(made, to) {
		err = errors.New("it was not written by refit")
	}
	return b, err
}

// applyPatch makes the manifest's file from an encoded patch and the file it begins from.
func applyPatch(patch, from []byte) ([]byte, error) {
	var p manifestPatch
	if err := json.Unmarshal(patch, &p); err != nil {
		return nil, err
	}
	return p.apply(from)
}

// apply makes the manifest's file from the one that the patch begins from.
func (p manifestPatch) apply(from []byte) ([]byte, error) {
	_, old, _, err := splitManifest(from)
	if err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, len(from)), p.Head...)
	first := true
	add := func(e []byte) error {
		if !first {
			out = append(out, ',')
		}
		first = false
		if out = append(out, e...); len(out) > maxRequest {
			return errors.New("it makes a manifest that is too long")
		}
		return nil
	}
	for _, r := range p.Runs {
		if r.From < 0 || r.N < 0 || r.N > len(old) || r.From > len(old)-r.N {
			return nil, fmt.Errorf("it names the entries %d to %d of %d", r.From, r.From+r.N, len(old))
		}
		for _, e := range old[r.From : r.From+r.N] {
			if err := add(e); err != nil {
				return nil, err
			}
		}
		for _, e := range r.New {
			if err := add(e); err != nil {
				return nil, err
			}
		}
	}
	return append(append(out, ']'), p.Tail...), nil
}

// baseManifest is the manifest of a release that a pack begins from.
type baseManifest struct {
	Manifest
	raw  []byte
	root string
}

// readBase reads the manifest in root and refuses any but that of the digest.
func readBase(root, release, digest string) (*baseManifest, error) {
	m, raw, err := readManifest(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Failf(CodeBase, "the pack begins from %s, which is not in %s", release, filepath.Dir(root))
	}
	if err != nil {
		return nil, Failf(CodeBase, "the pack begins from %s: %v", release, err)
	}
	if got := digestOf(raw); got != digest || m.Release != release {
		return nil, Failf(CodeBase, "the pack begins from the %s with manifest %.12s, and %s holds %s with %.12s", release, digest, root, m.Release, got)
	}
	return &baseManifest{m, raw, root}, nil
}
