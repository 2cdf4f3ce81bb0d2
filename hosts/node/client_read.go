package node

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/klauspost/compress/zstd"
)

// errEnough ends a pack of which the reader has what it wanted.
var errEnough = errors.New("nothing more of the pack is wanted")

// ManifestFile reads the manifest's file of the release in root, byte by byte as it lies
// there: what its digest, and a signature, are over.
func (a *Agent) ManifestFile(ctx context.Context, root, digest string) ([]byte, error) {
	var file []byte
	err := a.readPack(ctx, PackIn{Root: root, Digest: digest}, func(h *tar.Header, r io.Reader) error {
		if h.Name != packManifest || h.Size > maxRequest {
			return Failf(CodePayload, "it begins with %q (%d bytes)", h.Name, h.Size)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if got := digestOf(b); got != digest {
			return Failf(CodePayload, "it holds the manifest %.12s, not %.12s", got, digest)
		}
		file = b
		return errEnough
	})
	if err == nil && file == nil {
		err = Failf(CodePayload, "it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: cannot read the manifest of %s: %w", a.Host, root, err)
	}
	return file, nil
}

// Files reads files of the release in root, in rising order of their places in its
// manifest, and gives each to do, whole and verified. What do returns ends the reading.
func (a *Agent) Files(ctx context.Context, in PackIn, files map[int]Entry, do func(Entry, []byte) error) error {
	left := len(files)
	err := a.readPack(ctx, in, func(h *tar.Header, r io.Reader) error {
		i, err := strconv.Atoi(h.Name)
		if err != nil {
			return nil // what stands before the files
		}
		e, ok := files[i]
		if !ok || h.Size != e.Size {
			return Failf(CodePayload, "it holds a file %d of %d bytes that nobody asked for", i, h.Size)
		}
		b := make([]byte, e.Size)
		if _, err := io.ReadFull(r, b); err != nil {
			return err
		}
		if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != e.SHA256 {
			return Failf(CodePayload, "%s arrived with other content than the manifest says", e.Path)
		}
		left--
		return do(e, b)
	})
	if err == nil && left != 0 {
		err = Failf(CodePayload, "%d of %d files did not come", left, len(files))
	}
	if err != nil {
		return fmt.Errorf("%s: cannot read files of %s: %w", a.Host, in.Root, err)
	}
	return nil
}

// readPack gives each entry of a pack to do. errEnough from it ends the reading well.
func (a *Agent) readPack(ctx context.Context, in PackIn, do func(*tar.Header, io.Reader) error) error {
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		_, err := a.Pack(ctx, in, w, nil)
		w.CloseWithError(err) // nil for the end
		packed <- err
	}()
	err := entries(r, do)
	if err == nil {
		_, err = io.Copy(io.Discard, r) // what follows the tar's end
	}
	r.CloseWithError(errEnough)
	perr := <-packed
	switch {
	case errors.Is(err, errEnough):
		return nil
	case perr != nil && !errors.Is(perr, errEnough):
		return perr // the rest followed from it
	}
	return err
}

func entries(r io.Reader, do func(*tar.Header, io.Reader) error) error {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return err
	}
	defer z.Close()
	for t := tar.NewReader(bufio.NewReaderSize(z, 256<<10)); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = do(h, t)
		}
		if err != nil {
			return err
		}
	}
}
