package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"sync"
)

// attempts is how often the reading of an object is taken up again after the link to
// the bucket broke, without a byte more each time.
const attempts = 3

// Open reads a part of an artifact. A link that breaks is made again, and the reading
// goes on where it stood. What differs from what was stored gives ErrDamaged at the
// latest in place of the end: who uses the bytes before it must be able to take that
// back.
func (s *Store) Open(ctx context.Context, a Artifact, name string) (io.ReadCloser, error) {
	at, err := a.folder()
	if err != nil {
		return nil, err
	}
	o, ok := a.Objects[name]
	if !ok {
		return nil, fmt.Errorf("%s in %s has no %s: %w", a.Name, s, name, ErrNotFound)
	}
	p := &reading{ctx: ctx, s: s, key: path.Join(at, name), want: o, h: sha256.New()}
	if p.r, err = s.Bucket.Get(ctx, p.key, 0); err != nil {
		return nil, p.fail(err)
	}
	return p, nil
}

// Read returns the whole of a small part: the manifest, its signature.
func (s *Store) Read(ctx context.Context, a Artifact, name string) ([]byte, error) {
	r, err := s.Open(ctx, a, name)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = io.Copy(&b, r)
	return b.Bytes(), errors.Join(err, r.Close())
}

// reading is an object being read. It may be closed while it is read.
type reading struct {
	ctx  context.Context //nolint:containedctx // a reader has no other way to get one
	s    *Store
	key  string
	want Object
	h    hash.Hash
	n    int64
	lost int

	mu     sync.Mutex
	r      io.ReadCloser // nil while there is no link
	closed bool
}

// link is the open link to the object, made anew if there is none.
func (p *reading) link() (io.Reader, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, os.ErrClosed
	}
	if p.r == nil {
		r, err := p.s.Bucket.Get(p.ctx, p.key, p.n)
		if err != nil {
			return nil, err
		}
		p.r = r
	}
	return p.r, nil
}

func (p *reading) Read(b []byte) (int, error) {
	for {
		r, err := p.link()
		n := 0
		if err == nil {
			n, err = r.Read(b)
		}
		p.n += int64(n)
		p.h.Write(b[:n])
		if n > 0 {
			p.lost = 0
		}
		switch {
		case p.n > p.want.Size:
			return 0, p.fail(fmt.Errorf("%w: it is longer than what was stored", ErrDamaged))
		case errors.Is(err, io.EOF) && p.n == p.want.Size:
			if got := hex.EncodeToString(p.h.Sum(nil)); got != p.want.SHA256 {
				return 0, p.fail(fmt.Errorf("%w: its content is not what was stored", ErrDamaged))
			}
			return n, io.EOF
		case err == nil:
			return n, nil
		}
		if err := p.again(err); err != nil {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
	}
}

// again takes note of a link that broke, or that ended too early, and tells whether
// that was once too often.
func (p *reading) again(err error) error {
	if cerr := p.unlink(false); cerr != nil {
		err = errors.Join(err, cerr)
	}
	if p.ctx.Err() != nil {
		return p.fail(context.Cause(p.ctx))
	}
	if p.lost++; p.lost < attempts && !errors.Is(err, ErrNotFound) && !errors.Is(err, os.ErrClosed) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: it has %d bytes and %d were stored", ErrDamaged, p.n, p.want.Size)
	}
	return p.fail(err)
}

// unlink ends the link, for good or until the next read.
func (p *reading) unlink(forGood bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = p.closed || forGood
	r := p.r
	p.r = nil
	if r == nil {
		return nil
	}
	return r.Close()
}

func (p *reading) fail(err error) error {
	return fmt.Errorf("cannot read %s from %s: %w", p.key, p.s, err)
}

// Close ends the reading.
func (p *reading) Close() error { return p.unlink(true) }
