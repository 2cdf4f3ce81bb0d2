package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
)

// Parts is where the parts of an artifact come from.
type Parts struct {
	// Manifest is the manifest's file; Signature its signature, empty for none.
	Manifest, Signature []byte
	// Pack writes the pack. It is called once.
	Pack func(ctx context.Context, w io.Writer) error
}

// Put stores an artifact: Stored, Format and Objects of a are filled in. One that lies
// there whole stays, and is returned as it is. One that fails leaves nothing that could be
// taken for whole. It removes nothing: by now what lies there may be another's who stores
// the same. What it leaves goes as strays do; a pack, which is what takes room, is among
// it only if the record alone could not be written.
func (s *Store) Put(ctx context.Context, a Artifact, parts Parts) (Artifact, error) {
	a.Format, a.Stored, a.Objects = Format, s.now().UTC(), map[string]Object{}
	at, err := a.folder()
	if err != nil {
		return Artifact{}, err
	}
	there, err := s.list(ctx, at+"/")
	switch {
	case err == nil && len(there.Foreign) > 0:
		err = fmt.Errorf("%s: %w", at, ErrForeign)
	case err == nil && len(there.Artifacts) > 0:
		return there.Artifacts[0], nil
	case err == nil:
		err = s.put(ctx, &a, at, parts)
	}
	if err != nil {
		return Artifact{}, fmt.Errorf("cannot store %s in %s: %w", a.Name, s, err)
	}
	return a, nil
}

func (s *Store) put(ctx context.Context, a *Artifact, at string, parts Parts) error {
	for name, b := range map[string][]byte{ManifestObject: parts.Manifest, SignatureObject: parts.Signature} {
		if len(b) == 0 {
			continue
		}
		if err := s.object(ctx, a, at, name, func(_ context.Context, w io.Writer) error {
			_, err := w.Write(b)
			return err
		}); err != nil {
			return err
		}
	}
	if err := s.object(ctx, a, at, PackObject, parts.Pack); err != nil {
		return err
	}
	b, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	return s.Bucket.Put(ctx, path.Join(at, recordObject), bytes.NewReader(append(b, '\n')))
}

// object stores one part and notes what it is.
func (s *Store) object(ctx context.Context, a *Artifact, at, name string, write func(context.Context, io.Writer) error) error {
	o, err := s.upload(ctx, path.Join(at, name), 0, write)
	if err == nil {
		a.Objects[name] = o
	}
	return err
}

// upload stores what is written and tells what it was. It has at most so many bytes; 0 if
// that is not known.
func (s *Store) upload(ctx context.Context, key string, most int64, write func(context.Context, io.Writer) error) (Object, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	m := &measure{h: sha256.New()}
	wrote := make(chan error, 1)
	go func() {
		err := write(ctx, io.MultiWriter(w, m))
		w.CloseWithError(err) // nil for the end
		wrote <- err
	}()
	err := s.Bucket.Put(ctx, key, expected{r, most})
	r.CloseWithError(errors.Join(errUnread, err)) // whoever writes need not go on
	if err != nil {
		cancel()
	}
	if werr := <-wrote; werr != nil && !errors.Is(werr, errUnread) {
		return Object{}, werr // the bucket's error, if any, is that its source ended
	}
	if err != nil {
		return Object{}, err
	}
	return Object{Size: m.n, SHA256: hex.EncodeToString(m.h.Sum(nil))}, nil
}

// expected is a source of which is known how much it gives at most.
type expected struct {
	io.Reader
	most int64
}

// Most is in bytes; 0 for what is not known.
func (e expected) Most() int64 { return e.most }

// errUnread ends a source that nobody reads any more.
var errUnread = errors.New("the store reads no further")

type measure struct {
	h hash.Hash
	n int64
}

func (m *measure) Write(b []byte) (int, error) {
	m.n += int64(len(b))
	return m.h.Write(b)
}

// clear removes what is the store's in an artifact's folder, the record first.
func (s *Store) clear(ctx context.Context, at string) error {
	err := s.Bucket.Remove(ctx, path.Join(at, recordObject))
	if err != nil {
		return fmt.Errorf("cannot remove %s from %s: %w", at, s, err)
	}
	items, err := s.Bucket.List(ctx, at+"/")
	for i := 0; i < len(items) && err == nil; i++ {
		if owned(items[i].Key) {
			err = s.Bucket.Remove(ctx, items[i].Key)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot remove all of %s from %s: %w", at, s, err)
	}
	return nil
}

// Remove takes an artifact away.
func (s *Store) Remove(ctx context.Context, a Artifact) error {
	at, err := a.folder()
	if err != nil {
		return err
	}
	return s.clear(ctx, at)
}
