package node

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"
)

// packReader reads a pack, see packManifest.
type packReader struct {
	z *zstd.Decoder
	t *tar.Reader
	// claim is what was asked for.
	claim claim
	// manifest is the one asked for, checked; raw its bytes, signature what stands
	// beside it, held to what was demanded.
	manifest  Manifest
	raw       []byte
	signature []byte
	// holds tells what follows, once contents was called; base is the release that its
	// groups begin from.
	holds packContents
	base  *baseManifest
}

// claim is what a pack must hold.
type claim struct {
	// shelf is where it belongs, and where what it begins from lies.
	shelf           shelf
	release, digest string
	signed          *Signed
	links           map[string]string
	writable        []string
}

// openPack reads a pack's manifest and refuses another than the one that is claimed,
// or one that is not signed as demanded.
func (m Machine) openPack(ctx context.Context, payload io.Reader, c claim) (*packReader, error) {
	z, err := zstd.NewReader(payload, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	p := &packReader{claim: c, z: z, t: tar.NewReader(bufio.NewReaderSize(z, 256<<10))}
	if err := p.open(ctx, m); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *packReader) close() { p.z.Close() }

// open takes nothing of the manifest apart before its digest and its signature are
// what they should be.
func (p *packReader) open(ctx context.Context, m Machine) error {
	c := p.claim
	h, err := p.t.Next()
	if err != nil {
		return Failf(CodePayload, "the pack broke off before the manifest: %v", err)
	}
	if p.raw, err = p.manifestFile(h); err != nil {
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

// manifestFile reads the manifest's bytes, or makes them from those of a release that is
// here. Either way it is their digest that says whether they are the ones asked for.
func (p *packReader) manifestFile(h *tar.Header) ([]byte, error) {
	if h.Name != packPatch {
		return p.small(h, packManifest)
	}
	b, err := p.small(h, packPatch)
	if err != nil {
		return nil, err
	}
	var patch manifestPatch
	if err := json.Unmarshal(b, &patch); err != nil {
		return nil, Failf(CodePayload, "cannot read how the manifest differs from another: %v", err)
	}
	base, err := p.baseOf(Base{Release: patch.Release, Digest: patch.Digest})
	if err != nil {
		return nil, err
	}
	if b, err = patch.apply(base.raw); err != nil {
		return nil, Failf(CodePayload, "cannot make the manifest from that of %s: %v", patch.Release, err)
	}
	return b, nil
}

// baseOf is the release on this host that the pack begins from.
func (p *packReader) baseOf(b Base) (*baseManifest, error) {
	if err := p.claim.shelf.kind.check(b.Release); err != nil {
		return nil, Failf(CodePayload, "the pack begins from a release that cannot be: %v", err)
	}
	if p.base == nil || p.base.Release != b.Release || digestOf(p.base.raw) != b.Digest {
		base, err := readBase(p.claim.shelf.dir(b.Release), b.Release, b.Digest)
		if err != nil {
			return nil, err
		}
		p.base = base
	}
	return p.base, nil
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
	b, err := p.small(h, packHolds)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &p.holds); err != nil {
		return nil, Failf(CodePayload, "cannot read which files the pack holds: %v", err)
	}
	var base *baseManifest
	if p.holds.Base != nil {
		if base, err = p.baseOf(*p.holds.Base); err != nil {
			return nil, err
		}
	}
	files := p.manifest.Files
	if err := p.holds.check(files, base); err != nil {
		return nil, Failf(CodePayload, "the pack does not fit its manifest: %v", err)
	}
	coming := make(map[string]bool, len(p.holds.Indexes))
	for _, i := range p.holds.Indexes {
		coming[files[i].SHA256] = true
	}
	for _, g := range p.holds.Groups {
		for _, i := range g.Files {
			coming[files[i].SHA256] = true
		}
	}
	return coming, nil
}

// next gives the entry of a name; first is the file that it holds, or begins with.
func (p *packReader) next(name string, first int) (io.Reader, time.Time, error) {
	h, err := p.t.Next()
	if err != nil {
		return nil, time.Time{}, Failf(CodePayload, "the pack broke off before %s: %v", p.manifest.Files[first].Path, err)
	}
	if h.Name != name {
		return nil, time.Time{}, Failf(CodePayload, "the pack holds %q where %s should be", h.Name, p.manifest.Files[first].Path)
	}
	return p.t, h.ModTime, nil
}

// ended reads the pack's end.
func (p *packReader) ended() error {
	if len(p.holds.Indexes)+len(p.holds.Groups) == 0 {
		return nil // contents has read it
	}
	if _, err := p.t.Next(); !errors.Is(err, io.EOF) {
		return Failf(CodePayload, "the pack does not end after its last file (%v)", err)
	}
	return nil
}
