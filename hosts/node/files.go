package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"vmst.io/refit/hosts"
)

// maxFile bounds the files that travel inside a request or reply, in bytes.
const maxFile = 1 << 20

func (m Machine) fileGet(_ context.Context, in FileGetIn, _ io.Reader, _ func(string)) (FileGetOut, error) {
	b, fi, err := readSmall(in.Path)
	if err != nil {
		return FileGetOut{}, err
	}
	return FileGetOut{Content: b, Mode: uint32(fi.Mode().Perm()), Owner: ownerOf(fi)}, nil
}

func readSmall(path string) ([]byte, fs.FileInfo, error) {
	if !filepath.IsAbs(path) {
		return nil, nil, fmt.Errorf("%q is no absolute path", path)
	}
	fi, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxFile {
		return nil, nil, fmt.Errorf("%s is no file of at most %d bytes", path, maxFile)
	}
	b, err := os.ReadFile(path)
	return b, fi, err
}

func (m Machine) filePut(ctx context.Context, in FilePutIn, _ io.Reader, _ func(string)) (FilePutOut, error) {
	var out FilePutOut
	if len(in.Content) > maxFile {
		return out, fmt.Errorf("cannot write %s: more than %d bytes", in.Path, maxFile)
	}
	before, fi, err := readSmall(in.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return out, fmt.Errorf("cannot write %s: %w", in.Path, err)
	}
	owner := in.Owner
	if fi != nil {
		out.Existed, out.Previous = true, before
		if in.Mode == 0 {
			in.Mode = uint32(fi.Mode().Perm())
		}
		if owner == "" {
			owner = ownerOf(fi)
		}
		if bytes.Equal(before, in.Content) && uint32(fi.Mode().Perm()) == in.Mode && ownerOf(fi) == owner {
			return out, nil
		}
	}
	if in.Mode == 0 {
		in.Mode = 0o644
	}
	inPlace := len(in.Validate) > 0 && !slices.Contains(in.Validate, "{}")
	if err := m.putFile(ctx, in, owner, !inPlace); err != nil {
		return out, fmt.Errorf("cannot write %s: %w", in.Path, err)
	}
	out.Changed = true
	if !inPlace {
		return out, nil
	}
	if err := m.validate(ctx, in.Validate, in.Path); err != nil {
		err = fmt.Errorf("cannot write %s: %w; the previous content is back", in.Path, err)
		if !out.Existed {
			return out, errors.Join(err, os.Remove(in.Path), syncDir(filepath.Dir(in.Path)))
		}
		back := FilePutIn{Path: in.Path, Content: before, Mode: uint32(fi.Mode().Perm())}
		return out, errors.Join(err, m.putFile(context.WithoutCancel(ctx), back, ownerOf(fi), false))
	}
	return out, nil
}

// putFile writes the file under a temporary name, with its owner and mode, and
// renames it. With first it is validated before that.
func (m Machine) putFile(ctx context.Context, in FilePutIn, owner string, first bool) error {
	dir := filepath.Dir(in.Path)
	f, err := os.CreateTemp(dir, tempPrefix+filepath.Base(in.Path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(in.Content)
	err = errors.Join(err, f.Chmod(fs.FileMode(in.Mode&0o777)))
	if err == nil && owner != "" {
		var uid, gid int
		if uid, gid, _, err = lookupUser(owner); err == nil && uid != os.Geteuid() {
			err = f.Chown(uid, gid)
		}
	}
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil && first && len(in.Validate) > 0 {
		err = m.validate(ctx, in.Validate, f.Name())
	}
	if err == nil {
		err = os.Rename(f.Name(), in.Path)
	}
	if err != nil {
		return errors.Join(err, removeIfThere(f.Name()))
	}
	return syncDir(dir)
}

func (m Machine) validate(ctx context.Context, argv []string, path string) error {
	words := slices.Clone(argv)
	for i, w := range words {
		if w == "{}" {
			words[i] = path
		}
	}
	_, err := m.exec(ctx, words...)
	var exit *hosts.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%s refuses it: %s", strings.Join(argv, " "), exit.Stderr)
	}
	return err
}
