package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// listed is how many differences an answer names.
const listed = 100

// prove holds a placed release, or a toolchain, to its manifest, and that to what is asked for.
func (m Machine) prove(ctx context.Context, in VerifyIn) (VerifyOut, error) {
	dir := m.shelf(in.Kind, in.Home).dir(in.Release)
	man, raw, err := readManifest(dir)
	if err != nil {
		return VerifyOut{}, err
	}
	out := VerifyOut{Head: man.head(digestOf(raw))}
	var diffs []Difference
	add := func(path, format string, args ...any) {
		diffs = append(diffs, Difference{path, fmt.Sprintf(format, args...)})
	}
	if man.Release != in.Release {
		add(manifestFile, "is the manifest of %s", man.Release)
	}
	if in.Digest != "" && out.Digest != in.Digest {
		add(manifestFile, "another manifest (%.12s) than the one that was built (%.12s)", out.Digest, in.Digest)
	}
	if out.SignedBy, out.Unsigned, err = m.signer(ctx, in.Signed, dir, out.Digest); err != nil {
		return out, err
	}
	if in.Kind == KindToolchain { // nothing in one is shared or writable, whatever a record says
		in.Links, in.Writable = map[string]string{}, []string{}
	}
	placed, err := in.placedAs(dir, add)
	if err != nil {
		return out, err
	}
	extra, err := bridgedPaths(dir)
	if err != nil {
		return out, err
	}
	own, err := man.compare(ctx, dir, placed, extra)
	if err != nil {
		return out, err
	}
	diffs = append(diffs, own...)
	theirs, unknown, err := m.proveBridged(ctx, in, dir, man)
	if err != nil {
		return out, err
	}
	diffs, out.Unknown = append(diffs, theirs...), unknown
	others, err := owned(ctx, dir, placed)
	if err != nil {
		return out, err
	}
	named := make(map[string]bool, len(diffs))
	for _, d := range diffs {
		named[d.Path] = true
	}
	for _, d := range others {
		if !named[d.Path] {
			diffs = append(diffs, d)
		}
	}
	slices.SortStableFunc(diffs, func(a, b Difference) int { return cmp.Compare(a.Path, b.Path) })
	out.Differences, out.More = diffs[:min(listed, len(diffs))], max(0, len(diffs)-listed)
	return out, nil
}

// signer tells whose signature a release's manifest has, or in words what is wrong with it.
func (m Machine) signer(ctx context.Context, s *Signed, dir, digest string) (by, wrong string, err error) {
	if s == nil {
		return "", "", nil
	}
	signature, err := ReadSignature(dir)
	if err != nil {
		return "", "", fmt.Errorf("cannot read the signature of %s: %w", dir, err)
	}
	by, err = m.demand(ctx, s, SignedText(digest), signature)
	var refused *Error
	if errors.As(err, &refused) {
		return "", refused.Text, nil
	}
	return by, "", err
}

// placedAs is how the release was placed: as asked for where that is said, since what
// the record on the host leaves out would not be looked at.
func (in VerifyIn) placedAs(dir string, wrong func(path, format string, args ...any)) (placedRecord, error) {
	var p placedRecord
	err := readJSON(filepath.Join(dir, placedFile), &p)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if in.Links != nil || in.Writable != nil {
			wrong(placedFile, "missing")
		}
	case err != nil:
		return p, fmt.Errorf("cannot read %s of %s: %w", placedFile, dir, err)
	default:
		if in.Links != nil && !maps.Equal(p.Links, in.Links) {
			wrong(placedFile, "names other shared links than a release here has")
		}
		if in.Writable != nil && !slices.Equal(p.Writable, in.Writable) {
			wrong(placedFile, "names other writable directories than a release here has: %q", p.Writable)
		}
	}
	if in.Links != nil {
		p.Links = in.Links
	}
	if in.Writable != nil {
		p.Writable = in.Writable
	}
	return p, nil
}

// owned finds what others than root own or can write to in a release, and what would
// run with another user's rights.
func owned(ctx context.Context, dir string, placed placedRecord) ([]Difference, error) {
	skip := placed.differs()
	var out []Difference
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := "."
		if p != dir {
			rel = filepath.ToSlash(p[len(dir)+1:])
			if skip(rel) {
				if d.IsDir() {
					return filepath.SkipDir
				}
				return nil
			}
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		switch mode := fi.Mode(); {
		case ok && int(st.Uid) != os.Geteuid():
			out = append(out, Difference{rel, "belongs to " + ownerOf(fi)})
		case mode&fs.ModeSymlink != 0:
		case mode&(fs.ModeSetuid|fs.ModeSetgid) != 0:
			out = append(out, Difference{rel, "would run with another user's rights (setuid)"})
		case mode.Perm()&0o022 != 0:
			out = append(out, Difference{rel, fmt.Sprintf("can be written by others than root (mode %#o)", mode.Perm())})
		}
		return context.Cause(ctx)
	})
	if err != nil {
		return nil, fmt.Errorf("cannot look at the owners in %s: %w", dir, err)
	}
	return out, nil
}
