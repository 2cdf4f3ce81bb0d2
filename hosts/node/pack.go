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

// A pack is a tar stream compressed with zstd. It begins with the manifest, byte by
// byte as it lies on the builder: whoever built the release encoded it, and nobody
// else does. The manifest's signature stands after it, empty where there is none, so that
// nothing else need be read of what is not signed as it should be. Files follow, each named by its index, and before them which they are,
// so that who receives it can refuse at once what will not do.
const (
	packManifest  = "manifest.json"
	packSignature = "manifest.sig"
	packIndexes   = "indexes.json"
)

// pack writes a pack. Who receives it verifies every hash, so none but the manifest's
// is taken here.
func (m Machine) pack(ctx context.Context, raw json.RawMessage, w io.Writer, _ func(string)) (any, error) {
	var in PackIn
	if err := decode(raw, &in); err != nil {
		return nil, fmt.Errorf("cannot read the request: %w", err)
	}
	man, raw, err := readManifest(in.Root)
	if err != nil {
		return nil, err
	}
	if digest := digestOf(raw); digest != in.Digest {
		return nil, Failf(CodePayload, "%s holds the release with digest %.12s, not %.12s: it was built again", in.Root, digest, in.Digest)
	}
	signature, err := ReadSignature(in.Root)
	if err != nil {
		return nil, fmt.Errorf("cannot read the signature of %s: %w", man.Release, err)
	}
	if err := checkIndexes(in.Indexes, man.Files); err != nil {
		return nil, fmt.Errorf("cannot pack %s: %w", man.Release, err)
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(2), zstd.WithWindowSize(4<<20))
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(z)
	out, err := packAll(ctx, t, in, man.Files, raw, signature)
	if err != nil {
		return nil, errors.Join(err, z.Close())
	}
	return out, errors.Join(t.Close(), z.Close())
}

func packAll(ctx context.Context, t *tar.Writer, in PackIn, files []Entry, manifest, signature []byte) (PackOut, error) {
	var out PackOut
	if err := packBytes(t, packManifest, manifest); err != nil {
		return out, err
	}
	if err := packBytes(t, packSignature, signature); err != nil {
		return out, err
	}
	if len(in.Indexes) == 0 {
		return out, nil
	}
	list, err := json.Marshal(in.Indexes)
	if err != nil {
		return out, err
	}
	if err := packBytes(t, packIndexes, list); err != nil {
		return out, err
	}
	buf := make([]byte, 128<<10)
	for _, i := range in.Indexes {
		if err := context.Cause(ctx); err != nil {
			return out, err
		}
		if err := packFile(t, in.Root, i, files[i], buf); err != nil {
			return out, fmt.Errorf("cannot pack %s: %w", files[i].Path, err)
		}
		out.Files++
		out.Bytes += files[i].Size
	}
	return out, nil
}

// checkIndexes refuses what are no places of regular files, or not rising.
func checkIndexes(indexes []int, files []Entry) error {
	for n, i := range indexes {
		if i < 0 || i >= len(files) || !files[i].Regular() {
			return fmt.Errorf("the manifest has no file %d", i)
		}
		if n > 0 && indexes[n-1] >= i {
			return fmt.Errorf("file %d is out of order", i)
		}
	}
	return nil
}

func packBytes(t *tar.Writer, name string, b []byte) error {
	if err := t.WriteHeader(&tar.Header{Name: name, Size: int64(len(b)), Mode: 0o644, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	_, err := t.Write(b)
	return err
}

func packFile(t *tar.Writer, root string, i int, e Entry, buf []byte) error {
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
	_, err = io.CopyBuffer(onlyWriter{t}, onlyReader{f}, buf)
	return err
}
