package toolchain

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// maxUnpacked bounds what an archive may unpack to, bytes; Node's takes 200 MB.
const maxUnpacked = 4 << 30

// unpack writes Node's archive, without its one folder on top, into the prefix. Nothing
// is written elsewhere, whatever the archive says.
func unpack(ctx context.Context, in MakeIn) (struct{}, error) {
	if err := unfinished(in); err != nil {
		return struct{}{}, err
	}
	a := in.Artifact
	if a.Tool != "node" || len(a.Archives) != 1 {
		return struct{}{}, fmt.Errorf("%s is no archive to unpack", a.Name)
	}
	file := filepath.Join(archives(in.Layout), a.Archives[0].File)
	// Between its fetching and now it may have been damaged.
	if sum, err := hashOf(file); err != nil || sum != a.Archives[0].SHA256 {
		return struct{}{}, errors.Join(fmt.Errorf("%s is not as it was fetched; try again", file), err)
	}
	if err := unpackTo(ctx, file, a.Prefix); err != nil {
		return struct{}{}, fmt.Errorf("cannot unpack %s: %w", file, err)
	}
	return struct{}{}, nil
}

func unpackTo(ctx context.Context, file, dir string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	tr := tar.NewReader(zr)
	var links []*tar.Header
	for left := int64(maxUnpacked); ; {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		whole := path.Clean(h.Name)
		_, name, below := strings.Cut(whole, "/")
		if !below || !filepath.IsLocal(whole) || name == ".refit" || strings.HasPrefix(name, ".refit/") {
			if h.Typeflag == tar.TypeDir || h.Typeflag == tar.TypeXGlobalHeader {
				continue // the folder on top
			}
			return fmt.Errorf("it holds %q, which does not belong there", h.Name)
		}
		if left -= h.Size; left < 0 {
			return errors.New("it is larger than any Node")
		}
		if h.Typeflag == tar.TypeSymlink {
			h.Name = name
			links = append(links, h) // last, so that no file is written through one
			continue
		}
		if err := unpackOne(root, name, h, tr); err != nil {
			return err
		}
	}
	for _, h := range links {
		if path.IsAbs(h.Linkname) || !filepath.IsLocal(path.Join(path.Dir(h.Name), h.Linkname)) {
			return fmt.Errorf("its link %s leads out of it, to %q", h.Name, h.Linkname)
		}
		if err := parents(root, path.Dir(h.Name)); err != nil {
			return err
		}
		if err := root.Symlink(h.Linkname, h.Name); err != nil {
			return err
		}
	}
	return nil
}

func unpackOne(root *os.Root, name string, h *tar.Header, r io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		return parents(root, name)
	case tar.TypeReg:
	default:
		return fmt.Errorf("%s is neither a file, a directory nor a link", h.Name)
	}
	if err := parents(root, path.Dir(name)); err != nil {
		return err
	}
	perm := fs.FileMode(0o644)
	if h.Mode&0o100 != 0 {
		perm = 0o755
	}
	out, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, r)
	return errors.Join(err, out.Chmod(perm), out.Close())
}

func parents(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	return root.MkdirAll(dir, 0o755)
}
