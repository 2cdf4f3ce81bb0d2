package node

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"
)

// pack writes the files asked for as a tar stream compressed with zstd, each
// named by its index. Who receives it verifies every hash, so none is taken here.
func (m Machine) pack(ctx context.Context, raw json.RawMessage, w io.Writer, _ func(string)) (any, error) {
	var in PackIn
	if err := decode(raw, &in); err != nil {
		return nil, fmt.Errorf("cannot read the request: %w", err)
	}
	man, err := ReadManifest(in.Root)
	if err != nil {
		return nil, err
	}
	digest, err := man.Digest()
	if err != nil {
		return nil, err
	}
	if digest != in.Digest {
		return nil, Failf(CodePayload, "%s holds the release with digest %.12s, not %.12s: it was built again", in.Root, digest, in.Digest)
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(2), zstd.WithWindowSize(4<<20))
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(z)
	var out PackOut
	for _, i := range in.Indexes {
		if err := context.Cause(ctx); err != nil {
			return nil, errors.Join(err, z.Close())
		}
		if i < 0 || i >= len(man.Files) || !man.Files[i].Regular() {
			return nil, errors.Join(fmt.Errorf("the manifest of %s has no file %d", man.Release, i), z.Close())
		}
		if err := packFile(t, in.Root, i, man.Files[i]); err != nil {
			return nil, errors.Join(fmt.Errorf("cannot pack %s: %w", man.Files[i].Path, err), z.Close())
		}
		out.Files++
		out.Bytes += man.Files[i].Size
	}
	return out, errors.Join(t.Close(), z.Close())
}

func packFile(t *tar.Writer, root string, i int, e Entry) error {
	f, err := os.Open(filepath.Join(root, e.Path))
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.Size() != e.Size {
		return Failf(CodePayload, "it has %d bytes and the manifest says %d: the release was changed after it was built", fi.Size(), e.Size)
	}
	if err := t.WriteHeader(&tar.Header{Name: strconv.Itoa(i), Size: e.Size, Mode: int64(e.Mode), ModTime: fi.ModTime().Truncate(time.Second), Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}
