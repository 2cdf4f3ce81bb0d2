package stages

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"sync"

	"github.com/dustin/go-humanize"

	"vmst.io/refit/builds/store"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// What follows is how the builder uses the store. A store that cannot be reached, or holds
// something damaged, costs time and never the upgrade: what it should have given is then
// made, or not stored, and that is said.

// signatureFile is where a manifest's signature lies beside it.
const signatureFile = ".refit/manifest.json.sig"

// ware is what the store may hold: a release, or a toolchain.
type ware struct {
	key  store.Key
	kind node.Kind
	// dir is its directory on the builder.
	dir string
}

// inStore finds a ware in the store.
func (d Deps) inStore(ctx context.Context, w ware, say pipeline.Say) (store.Artifact, bool) {
	a, err := d.Store.Find(ctx, w.key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		say("the store cannot be asked, so %s is made: %v", w.key.Name, err)
	}
	return a, err == nil
}

// fromStore brings a ware from the store to the builder. It returns false, after it was
// said why, where the ware has to be made; an error is one that making it would meet too.
func (d Deps) fromStore(ctx context.Context, w ware, a store.Artifact, say pipeline.Say) (bool, error) {
	say("%s lies in the store (%s, made on %s on %s)", a.Name, humanize.IBytes(uint64(a.Size())), a.Builder, a.Stored.Format("2 January 2006"))
	err := d.vouched(ctx, a)
	if err == nil {
		err = d.unpack(ctx, w, a, say)
	}
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil, errors.Is(err, node.ErrFenced), errors.Is(err, node.ErrNoSpace), w.kind == node.KindRelease && errors.Is(err, node.ErrInUse):
		return false, err
	}
	d.unusable(ctx, a, err, say)
	return false, nil
}

// unusable says why what the store holds is of no use, and takes away what is damaged. A
// pack that the builder cannot take and that is as it was stored is another version's of
// refit: it stays.
func (d Deps) unusable(ctx context.Context, a store.Artifact, why error, say pipeline.Say) {
	say("what the store holds of %s cannot be used, so it is made: %v", a.Name, why)
	damaged := errors.Is(why, store.ErrDamaged)
	if !damaged && errors.Is(why, node.ErrPayload) {
		err := d.asStored(ctx, a)
		damaged = errors.Is(err, store.ErrDamaged)
		switch {
		case err == nil:
			say("and it stays there: it is as it was stored, so it may be of use to the version of refit that stored it")
		case !damaged:
			say("and it stays there: %v", err)
		}
	}
	if !damaged {
		return
	}
	if err := d.Store.Remove(ctx, a); err != nil {
		say("and it stays there: %v", err)
	}
}

// asStored reads the whole pack: store.ErrDamaged if it is not what was stored.
func (d Deps) asStored(ctx context.Context, a store.Artifact) error {
	r, err := d.Store.Open(ctx, a, store.PackObject)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}

// vouched refuses an artifact that the key of this refit did not sign.
func (d Deps) vouched(ctx context.Context, a store.Artifact) error {
	var signature []byte
	if a.Signed() {
		var err error
		if signature, err = d.Store.Read(ctx, a, store.SignatureObject); err != nil {
			return err
		}
	}
	return d.Builder.Vouched(a.Digest, signature)
}

// unpack places an artifact on the builder as if it had been made there. Every content
// is held to the manifest, and the manifest to the artifact's digest.
func (d Deps) unpack(ctx context.Context, w ware, a store.Artifact, say pipeline.Say) error {
	r, err := d.Store.Open(ctx, a, store.PackObject)
	if err != nil {
		return err
	}
	source := &faulty{r: r}
	builder := d.builder()
	_, err = builder.Agent.PlacePut(ctx, node.PutIn{Kind: w.kind, Home: d.Layout.Home, Release: a.Name, Digest: a.Digest, Sealed: true}, source, sayer(builder, say))
	if cause := source.fault(); cause != nil {
		err = cause // what the builder says followed from it
	}
	return errors.Join(err, r.Close())
}

// faulty remembers why its source could not be read. Whoever reads it may still do so
// when the call is over that it was given to.
type faulty struct {
	r   io.Reader
	mu  sync.Mutex
	err error
}

func (f *faulty) Read(b []byte) (int, error) {
	n, err := f.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.err = err
	}
	return n, err
}

func (f *faulty) fault() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// toStore stores what was made; the zero artifact if it lies there already.
func (d Deps) toStore(ctx context.Context, w ware, made node.Head, say pipeline.Say) (store.Artifact, error) {
	a, err := d.put(ctx, w, made, say)
	if err != nil {
		err = fmt.Errorf("%s is not in the store, and is made again where it is asked for anew: %w", made.Release, err)
	}
	return a, err
}

func (d Deps) put(ctx context.Context, w ware, made node.Head, say pipeline.Say) (store.Artifact, error) {
	var none store.Artifact
	switch found, err := d.Store.Find(ctx, w.key); {
	case err == nil && found.Digest == made.Digest:
		return none, nil
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return none, err
	}
	builder := d.builder()
	var parts store.Parts
	var err error
	if parts.Manifest, err = builder.Agent.ManifestFile(ctx, w.dir, made.Digest); err != nil {
		return none, err
	}
	switch sig, err := builder.Agent.FileGet(ctx, path.Join(w.dir, signatureFile)); {
	case err == nil:
		parts.Signature = sig.Content
	case !errors.Is(err, node.ErrNotFound):
		return none, err
	}
	parts.Pack = func(ctx context.Context, to io.Writer) error {
		_, err := builder.Agent.Pack(ctx, node.PackIn{Root: w.dir, Digest: made.Digest, All: true}, to, sayer(builder, say))
		return err
	}
	a := store.Artifact{Key: w.key, Digest: made.Digest, Builder: builder.Name, Files: made.Files, Bytes: made.Bytes}
	for _, t := range made.Toolchains {
		a.Needs = append(a.Needs, t.Digest)
	}
	say("storing %s in %s", made.Release, d.Store)
	return d.Store.Put(ctx, a, parts)
}
