package node

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"
)

// packReader reads a pack, see packManifest.
type packReader struct {
	z *zstd.Decoder
	t *tar.Reader
	// manifest is the one asked for, checked; raw its bytes, signature what stands
	// beside it, held to what was demanded.
	manifest  Manifest
	raw       []byte
	signature []byte
	// indexes are the files that follow, once contents was called.
	indexes []int
}

// claim is what a pack must hold.
type claim struct {
	release, digest string
	signed          *Signed
}

// openPack reads a pack's manifest and refuses another than the one that is claimed,
// or one that is not signed as demanded.
func (m Machine) openPack(ctx context.Context, payload io.Reader, c claim) (*packReader, error) {
	z, err := zstd.NewReader(payload, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(32<<20))
	if err != nil {
		return nil, err
	}
	p := &packReader{z: z, t: tar.NewReader(bufio.NewReaderSize(z, 256<<10))}
	if err := p.open(ctx, m, c); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *packReader) close() { p.z.Close() }

// open takes nothing of the manifest apart before its digest and its signature are
// what they should be.
func (p *packReader) open(ctx context.Context, m Machine, c claim) error {
	h, err := p.t.Next()
	if err != nil {
		return Failf(CodePayload, "the pack broke off before the manifest: %v", err)
	}
	if p.raw, err = p.small(h, packManifest); err != nil {
		return err
	}
	if got := digestOf(p.raw); got != c.digest {
		return Failf(CodePayload, "the pack holds the manifest with digest %.12s, not %.12s: the release was built again", got, c.digest)
	}
	if h, err = p.t.Next(); err != nil {
		return Failf(CodePayload, "the pack broke off after the manifest: %v", err)
	}
	if p.signature, err = p.small(h, packSignature); err != nil {
		return err
	}
	if _, err := m.demand(ctx, c.signed, SignedText(c.digest), p.signature); err != nil {
		return fmt.Errorf("the pack's manifest of %s is refused: %w", c.release, err)
	}
	if p.manifest, err = decodeManifest(p.raw); err != nil {
		return fmt.Errorf("cannot use the pack's manifest: %w", err)
	}
	if p.manifest.Release != c.release {
		return Failf(CodePayload, "the pack holds the manifest of %s, not of %s", p.manifest.Release, c.release)
	}
	return p.manifest.asWritten(p.raw)
}

// small reads an entry that fits into memory.
func (p *packReader) small(h *tar.Header, name string) ([]byte, error) {
	limit := int64(maxRequest)
	if name == packSignature {
		limit = maxSignature
	}
	if h.Name != name || h.Size > limit {
		return nil, Failf(CodePayload, "the pack holds %q (%d bytes) where %s should be", h.Name, h.Size, name)
	}
	b := make([]byte, h.Size)
	if _, err := io.ReadFull(p.t, b); err != nil {
		return nil, Failf(CodePayload, "the pack broke off in %s: %v", name, err)
	}
	return b, nil
}

// contents tells which contents follow, by hash. It is called once.
func (p *packReader) contents() (map[string]bool, error) {
	h, err := p.t.Next()
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, Failf(CodePayload, "the pack broke off after the manifest: %v", err)
	}
	b, err := p.small(h, packIndexes)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &p.indexes); err != nil {
		return nil, Failf(CodePayload, "cannot read which files the pack holds: %v", err)
	}
	if err := checkIndexes(p.indexes, p.manifest.Files); err != nil {
		return nil, Failf(CodePayload, "the pack does not fit its manifest: %v", err)
	}
	coming := make(map[string]bool, len(p.indexes))
	for _, i := range p.indexes {
		coming[p.manifest.Files[i].SHA256] = true
	}
	return coming, nil
}

// next gives the next file, which must be that of the index.
func (p *packReader) next(i int) (io.Reader, time.Time, error) {
	h, err := p.t.Next()
	if err != nil {
		return nil, time.Time{}, Failf(CodePayload, "the pack broke off before %s: %v", p.manifest.Files[i].Path, err)
	}
	if h.Name != strconv.Itoa(i) {
		return nil, time.Time{}, Failf(CodePayload, "the pack holds %q where %s should be", h.Name, p.manifest.Files[i].Path)
	}
	return p.t, h.ModTime, nil
}

// ended reads the pack's end.
func (p *packReader) ended() error {
	if len(p.indexes) == 0 {
		return nil // contents has read it
	}
	if _, err := p.t.Next(); !errors.Is(err, io.EOF) {
		return Failf(CodePayload, "the pack does not end after its last file (%v)", err)
	}
	return nil
}
