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
	"slices"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A pack is a tar stream compressed with zstd. It begins with the manifest, byte by
// byte as it lies on the builder, or with what leads there from another that the receiver
// has: whoever built the release encoded it, and nobody else does. The manifest's signature
// stands after it, empty where there is none, so that nothing else need be read of what is
// not signed as it should be. Files follow, each named by its index, then groups of files
// that are sent as what differs from older ones, and before all of them which they are, so
// that who receives it can refuse at once what will not do.
const (
	packManifest  = "manifest.json"
	packPatch     = "manifest.patch"
	packSignature = "manifest.sig"
	packHolds     = "contents.json"
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
	if in.All {
		in.Indexes = slices.Collect(contents(man.Files))
	}
	if err := checkIndexes(in.Indexes, man.Files); err != nil {
		return nil, fmt.Errorf("cannot pack %s: %w", man.Release, err)
	}
	var base *baseManifest
	if in.Base != nil {
		if base, err = readBase(in.Base.Root, in.Base.Release, in.Base.Digest); err != nil {
			return nil, fmt.Errorf("cannot pack %s: %w", man.Release, err)
		}
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(2), zstd.WithWindowSize(4<<20))
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(z)
	out, err := packAll(ctx, t, in, packHead{raw, signature}, man.Files, base)
	if err != nil {
		return nil, errors.Join(err, z.Close())
	}
	return out, errors.Join(t.Close(), z.Close())
}

// packHead is what stands before a pack's files.
type packHead struct{ manifest, signature []byte }

func packAll(ctx context.Context, t *tar.Writer, in PackIn, head packHead, files []Entry, base *baseManifest) (PackOut, error) {
	var out PackOut
	if err := packManifestOf(t, in, head.manifest, base); err != nil {
		return out, err
	}
	if err := packBytes(t, packSignature, head.signature); err != nil {
		return out, err
	}
	if len(in.Indexes) == 0 {
		return out, nil
	}
	plan, err := planPack(ctx, in, files, base)
	if err != nil {
		return out, err
	}
	list, err := json.Marshal(plan)
	if err != nil {
		return out, err
	}
	if err := packBytes(t, packHolds, list); err != nil {
		return out, err
	}
	buf := make([]byte, 128<<10)
	for _, i := range plan.Indexes {
		if err := context.Cause(ctx); err != nil {
			return out, err
		}
		if err := packFile(t, in.Root, i, files[i], buf); err != nil {
			return out, fmt.Errorf("cannot pack %s: %w", files[i].Path, err)
		}
	}
	var groups groupPacker
	for n, g := range plan.Groups {
		if err := context.Cause(ctx); err != nil {
			return out, err
		}
		if err := groups.write(t, n, g, in.Root, files, base); err != nil {
			return out, fmt.Errorf("cannot pack %s and what follows it: %w", files[g.Files[0]].Path, err)
		}
	}
	for _, i := range in.Indexes {
		out.Files++
		out.Bytes += files[i].Size
	}
	return out, nil
}

// packManifestOf writes the manifest, or the patch that leads to it. A manifest for which
// there is no patch was written by another hand; it is sent whole.
func packManifestOf(t *tar.Writer, in PackIn, manifest []byte, base *baseManifest) error {
	if base != nil {
		if b, err := diffManifest(*in.Base, base.raw, manifest); err == nil {
			return packBytes(t, packPatch, b)
		}
	}
	return packBytes(t, packManifest, manifest)
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
