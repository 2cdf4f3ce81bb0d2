package stages

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"sync"

	"github.com/dustin/go-humanize"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/store"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// What follows is the store's part of the build. A store that cannot be reached, or holds
// something damaged, costs time and never the upgrade: the release is then built, or not
// stored, and the report says so.

// signatureFile is where a manifest's signature lies in a release.
const signatureFile = ".refit/manifest.json.sig"

// key is what the release is looked for by: built by this recipe on this system.
func (s build) key(ctx context.Context) (store.Key, error) {
	f, err := s.d.builder().Agent.Facts(ctx, node.FactsIn{Home: s.d.Layout.Home})
	if err != nil {
		return store.Key{}, err
	}
	digest, err := s.f.Recipe.Digest()
	if err != nil {
		return store.Key{}, err
	}
	return store.Key{Kind: store.Release, Name: s.f.To.Version.String(), OS: f.OS + " " + f.OSVersion, Arch: f.Arch, Recipe: digest}, nil
}

// stored finds the release in the store.
func (s build) stored(ctx context.Context, say pipeline.Say) (store.Artifact, bool) {
	if s.d.Store == nil {
		return store.Artifact{}, false
	}
	k, err := s.key(ctx)
	if err == nil {
		var a store.Artifact
		if a, err = s.d.Store.Find(ctx, k); err == nil {
			return a, true
		}
	}
	if !errors.Is(err, store.ErrNotFound) {
		say("the store cannot be asked, so the release is built: %v", err)
	}
	return store.Artifact{}, false
}

// take brings the release from the store to the builder, if it is there. An error is the
// run's own end; whatever else goes wrong leads to a build.
func (s build) take(ctx context.Context, say pipeline.Say) (bool, error) {
	a, ok := s.stored(ctx, say)
	if !ok {
		return false, ctx.Err()
	}
	say("%s lies in the store (%s, built on %s on %s)", a.Name, humanize.IBytes(uint64(a.Size())), a.Builder, a.Stored.Format("2 January 2006"))
	// What an earlier build left at work must not write into it.
	if err := s.d.Builder.Remove(ctx, s.f.Recipe, func(line string) { say("%s", line) }); err != nil {
		return false, err
	}
	err := s.unpack(ctx, a, say)
	switch {
	case err == nil:
		s.f.Digest = a.Digest
		s.f.Stored = fmt.Sprintf("%s was not built: it came from the store, where %s put it on %s", a.Name, a.Builder, a.Stored.Format("2 January 2006"))
		say("manifest %.12s, %d files", a.Digest, a.Files)
		return true, nil
	case ctx.Err() != nil, errors.Is(err, node.ErrFenced), errors.Is(err, node.ErrNoSpace), errors.Is(err, node.ErrInUse):
		return false, err // a build would meet the same
	}
	say("what the store holds cannot be used, so the release is built: %v", err)
	if errors.Is(err, store.ErrDamaged) || errors.Is(err, node.ErrPayload) {
		if rerr := s.d.Store.Remove(ctx, a); rerr != nil {
			say("and it stays there: %v", rerr)
		}
	}
	return false, nil
}

// unpack places the release on the builder as if it had been built there. Every content
// is held to the manifest, and the manifest to the artifact's digest.
func (s build) unpack(ctx context.Context, a store.Artifact, say pipeline.Say) error {
	r, err := s.d.Store.Open(ctx, a, store.PackObject)
	if err != nil {
		return err
	}
	source := &faulty{r: r}
	builder := s.d.builder()
	_, err = builder.Agent.PlacePut(ctx, node.PutIn{Home: s.d.Layout.Home, Release: a.Name, Digest: a.Digest, Sealed: true}, source, sayer(builder, say))
	if cause := source.fault(); cause != nil {
		err = cause // what the builder says followed from it
	}
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	found, err := s.d.Builder.Look(ctx, s.f.Recipe)
	if err != nil {
		return err
	}
	if found.State != builds.Whole || found.Recipe != a.Recipe || found.Manifest.Digest != a.Digest {
		return fmt.Errorf("%s: what came from the store is %s, built by the recipe %.12s and not by %.12s: %w", builder.Name, found.State, found.Recipe, a.Recipe, store.ErrDamaged)
	}
	return nil
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

// keep stores what was built, unless it is there.
func (s build) keep(ctx context.Context, built node.Head, say pipeline.Say) {
	if s.d.Store == nil {
		return
	}
	a, err := s.put(ctx, built, say)
	switch {
	case err != nil:
		s.f.Stored = fmt.Sprintf("%s is not in the store, and is built again where it is asked for anew: %v", built.Release, err)
	case a.Digest == "":
		return
	default:
		s.f.Stored = fmt.Sprintf("%s is in the store (%s)", built.Release, humanize.IBytes(uint64(a.Size())))
	}
	say("%s", s.f.Stored)
}

// put stores what was built; the zero artifact if it lies there already.
func (s build) put(ctx context.Context, built node.Head, say pipeline.Say) (store.Artifact, error) {
	var none store.Artifact
	k, err := s.key(ctx)
	if err != nil {
		return none, err
	}
	switch found, err := s.d.Store.Find(ctx, k); {
	case err == nil && found.Digest == built.Digest:
		return none, nil
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return none, err
	}
	builder, dir := s.d.builder(), s.d.Layout.Release(built.Release)
	parts := store.Parts{}
	if parts.Manifest, err = builder.Agent.ManifestFile(ctx, dir, built.Digest); err != nil {
		return none, err
	}
	switch sig, err := builder.Agent.FileGet(ctx, path.Join(dir, signatureFile)); {
	case err == nil:
		parts.Signature = sig.Content
	case !errors.Is(err, node.ErrNotFound):
		return none, err
	}
	parts.Pack = func(ctx context.Context, w io.Writer) error {
		_, err := builder.Agent.Pack(ctx, node.PackIn{Root: dir, Digest: built.Digest, All: true}, w, sayer(builder, say))
		return err
	}
	say("storing it in %s", s.d.Store)
	return s.d.Store.Put(ctx, store.Artifact{Key: k, Digest: built.Digest, Builder: builder.Name, Files: built.Files, Bytes: built.Bytes}, parts)
}
