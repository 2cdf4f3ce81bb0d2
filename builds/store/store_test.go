package store_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"vmst.io/refit/builds/store"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func hex64(c string) string { return strings.Repeat(c, 64) }

func release(name, recipe, digest string) store.Artifact {
	return store.Artifact{
		Key:    store.Key{Kind: store.Release, Name: name, OS: "debian 13", Arch: "amd64", Recipe: hex64(recipe)},
		Digest: hex64(digest), Builder: "khan", Files: 3, Bytes: 1000,
	}
}

func packOf(content string) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, content)
		return err
	}
}

func stored(t *testing.T, s *store.Store, a store.Artifact, pack string) store.Artifact {
	t.Helper()
	a, err := s.Put(t.Context(), a, store.Parts{Manifest: []byte("{}\n"), Signature: []byte("sig"), Pack: packOf(pack)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func read(t *testing.T, s *store.Store, a store.Artifact, name string) (string, error) {
	t.Helper()
	b, err := s.Read(t.Context(), a, name)
	return string(b), err
}

func TestAnArtifactIsFoundByWhatItWasMadeOfAndByNothingElse(t *testing.T) {
	everyBucket(t, func(t *testing.T, b store.Bucket) {
		s := &store.Store{Bucket: b, Now: func() time.Time { return noon }}
		a := stored(t, s, release("v4.5.15", "a", "1"), "the pack")
		found, err := s.Find(t.Context(), a.Key)
		if err != nil || found.Digest != a.Digest || !found.Stored.Equal(noon) || found.Builder != "khan" || !found.Signed() || found.Size() != int64(len("{}\nsigthe pack")) {
			t.Fatalf("found %+v, %v", found, err)
		}
		for name, want := range map[string]string{store.ManifestObject: "{}\n", store.SignatureObject: "sig", store.PackObject: "the pack"} {
			if got, err := read(t, s, found, name); err != nil || got != want {
				t.Errorf("%s is %q, %v", name, got, err)
			}
		}
		for what, change := range map[string]func(*store.Key){
			"another kind":         func(k *store.Key) { k.Kind = store.Toolchain },
			"another name":         func(k *store.Key) { k.Name = "v4.5.1" },
			"another OS":           func(k *store.Key) { k.OS = "debian 12" },
			"another architecture": func(k *store.Key) { k.Arch = "arm64" },
			"another recipe":       func(k *store.Key) { k.Recipe = hex64("b") },
		} {
			k := a.Key
			change(&k)
			if _, err := s.Find(t.Context(), k); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: got %v, want ErrNotFound", what, err)
			}
		}
		if err := s.Remove(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if items, err := b.List(t.Context(), ""); err != nil || len(items) > 0 {
			t.Errorf("left %v, %v", items, err)
		}
	})
}

func TestOfTwoBuildsByOneRecipeTheNewerIsFoundAndNeitherHarmsTheOther(t *testing.T) {
	everyBucket(t, func(t *testing.T, b store.Bucket) {
		now := noon
		s := &store.Store{Bucket: b, Now: func() time.Time { return now }}
		older := stored(t, s, release("v4.5.15", "a", "1"), "one")
		now = now.Add(time.Hour)
		newer := stored(t, s, release("v4.5.15", "a", "2"), "two")
		found, err := s.Find(t.Context(), older.Key)
		if err != nil || found.Digest != newer.Digest {
			t.Errorf("found %v, %v", found, err)
		}
		if got, err := read(t, s, older, store.PackObject); err != nil || got != "one" {
			t.Errorf("the older holds %q, %v", got, err)
		}
	})
}

func TestAPackThatBreaksOffLeavesNoPackAndTellsWhy(t *testing.T) {
	everyBucket(t, func(t *testing.T, b store.Bucket) {
		s := &store.Store{Bucket: b}
		broken := errors.New("the builder's disk cannot be read")
		for _, n := range []int{0, 100, 9 << 20} {
			_, err := s.Put(t.Context(), release("v4.5.15", "a", "1"), store.Parts{Manifest: []byte("{}"), Pack: func(_ context.Context, w io.Writer) error {
				if _, err := w.Write(noise(1, n)); err != nil {
					return err
				}
				return broken
			}})
			if !errors.Is(err, broken) {
				t.Errorf("after %d bytes: got %v, want the pack's own error", n, err)
			}
			list, err := s.List(t.Context())
			if err != nil || len(list.Artifacts) > 0 || len(list.Strays) != 1 || path.Base(list.Strays[0].Key) != store.ManifestObject {
				t.Errorf("after %d bytes: left %v, %v, want a manifest alone", n, list, err)
			}
		}
	})
}

// failing is a bucket of which every call after the first few fails.
type failing struct {
	store.Bucket
	mu   sync.Mutex
	left int
	// dead: so do all that follow. Otherwise one fails and the rest do not.
	dead bool
}

var errBucket = errors.New("the bucket is gone")

func (f *failing) fails() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left--
	if f.left == -1 || f.left < 0 && f.dead {
		return errBucket
	}
	return nil
}

func (f *failing) Put(ctx context.Context, key string, r io.Reader) error {
	if err := f.fails(); err != nil {
		return err
	}
	return f.Bucket.Put(ctx, key, r)
}

func (f *failing) Remove(ctx context.Context, key string) error {
	if err := f.fails(); err != nil {
		return err
	}
	return f.Bucket.Remove(ctx, key)
}

func (f *failing) List(ctx context.Context, prefix string) ([]store.Item, error) {
	if err := f.fails(); err != nil {
		return nil, err
	}
	return f.Bucket.List(ctx, prefix)
}

func TestWhateverCallOfAPutFailsNothingHalfMadeIsTakenForWhole(t *testing.T) {
	everyBucket(t, func(t *testing.T, b store.Bucket) {
		good := &store.Store{Bucket: b, Now: func() time.Time { return noon }}
		for _, dead := range []bool{false, true} {
			for n := 0; ; n++ {
				a := release("v4.5.15", "a", "1")
				f := &failing{Bucket: b, left: n, dead: dead}
				_, err := (&store.Store{Bucket: f}).Put(t.Context(), a, store.Parts{Manifest: []byte("{}"), Signature: []byte("s"), Pack: packOf(string(noise(2, 9<<20)))})
				if err == nil {
					break // no call is left that could fail
				}
				if !errors.Is(err, errBucket) {
					t.Errorf("call %d: got %v", n, err)
				}
				if _, err := good.Find(t.Context(), a.Key); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("call %d: got %v, want ErrNotFound", n, err)
				}
				if n > 20 {
					t.Fatal("it never succeeds")
				}
			}
			// The way is free: what failing ones left was written over, and can be again.
			if err := good.Remove(t.Context(), release("v4.5.15", "a", "1")); err != nil {
				t.Fatal(err)
			}
			a := stored(t, good, release("v4.5.15", "a", "1"), "whole")
			if got, err := read(t, good, a, store.PackObject); err != nil || got != "whole" {
				t.Errorf("then stored as %q, %v", got, err)
			}
			if err := good.Remove(t.Context(), a); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestAByteMoreLessOrOtherInTheStoreIsFoundBeforeTheEnd(t *testing.T) {
	everyBucket(t, func(t *testing.T, b store.Bucket) {
		s := &store.Store{Bucket: b}
		content := string(noise(3, 100_000))
		a := stored(t, s, release("v4.5.15", "a", "1"), content)
		at := path.Join("release/v4.5.15/debian-13-amd64", hex64("a"), hex64("1"), store.PackObject)
		for _, i := range []int{0, 1, 50_000, 99_999} {
			bad := []byte(content)
			bad[i] ^= 1
			put(t, b, at, string(bad))
			if _, err := read(t, s, a, store.PackObject); !errors.Is(err, store.ErrDamaged) {
				t.Errorf("byte %d: got %v, want ErrDamaged", i, err)
			}
		}
		for what, bad := range map[string]string{"cut": content[:50_000], "empty": "", "longer": content + "x"} {
			put(t, b, at, bad)
			if _, err := read(t, s, a, store.PackObject); !errors.Is(err, store.ErrDamaged) {
				t.Errorf("%s: got %v, want ErrDamaged", what, err)
			}
		}
		if err := b.Remove(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		if _, err := read(t, s, a, store.PackObject); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("gone: got %v, want ErrNotFound", err)
		}
	})
}

func TestARecordThatWasChangedCountsForNothing(t *testing.T) {
	d := store.Dir{Path: t.TempDir()}
	s := &store.Store{Bucket: d, Now: func() time.Time { return noon }}
	a := stored(t, s, release("v4.5.15", "a", "1"), "the pack")
	at := path.Join("release/v4.5.15/debian-13-amd64", hex64("a"), hex64("1"), "artifact.json")
	file := filepath.Join(d.Path, at)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(map[string]any){
		"no format":             func(m map[string]any) { delete(m, "format") },
		"another kind":          func(m map[string]any) { m["kind"] = "toolchain" },
		"another name":          func(m map[string]any) { m["name"] = "v4.5.14" },
		"a name that leads out": func(m map[string]any) { m["name"] = "../v4.5.15" },
		"another OS":            func(m map[string]any) { m["os"] = "debian 12" },
		"another architecture":  func(m map[string]any) { m["arch"] = "arm64" },
		"another recipe":        func(m map[string]any) { m["recipe"] = hex64("b") },
		"another digest":        func(m map[string]any) { m["digest"] = hex64("2") },
		"no digest":             func(m map[string]any) { m["digest"] = "" },
		"no objects":            func(m map[string]any) { delete(m, "objects") },
		"no pack":               func(m map[string]any) { delete(m["objects"].(map[string]any), store.PackObject) },
		"an object elsewhere":   func(m map[string]any) { m["objects"].(map[string]any)["../../x"] = map[string]any{"size": 1} },
		"another type":          func(m map[string]any) { m["files"] = "many" },
	} {
		var m map[string]any
		if err := json.Unmarshal(good, &m); err != nil {
			t.Fatal(err)
		}
		change(m)
		bad, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		put(t, d, at, string(bad))
		if _, err := s.Find(t.Context(), a.Key); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", what, err)
		}
		if list, err := s.List(t.Context()); err != nil || len(list.Artifacts) != 0 || len(list.Strays) != 4 {
			t.Errorf("%s: listed %+v, %v", what, list, err)
		}
	}
	for n := range good {
		if n%7 == 0 {
			put(t, d, at, string(good[:n]))
			if _, err := s.Find(t.Context(), a.Key); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("cut at %d: got %v", n, err)
			}
		}
	}
	put(t, d, at, string(good))
	if _, err := s.Find(t.Context(), a.Key); err != nil {
		t.Errorf("as it was: %v", err)
	}
}

func TestAnArtifactThatCannotBeNamedIsNotStored(t *testing.T) {
	s := &store.Store{Bucket: store.Dir{Path: t.TempDir()}}
	for what, change := range map[string]func(*store.Artifact){
		"no name":               func(a *store.Artifact) { a.Name = "" },
		"a name that leads out": func(a *store.Artifact) { a.Name = "../x" },
		"a recipe that is none": func(a *store.Artifact) { a.Recipe = "x" },
		"no digest":             func(a *store.Artifact) { a.Digest = "" },
		"no OS":                 func(a *store.Artifact) { a.OS = "" },
	} {
		a := release("v4.5.15", "a", "1")
		change(&a)
		if _, err := s.Put(t.Context(), a, store.Parts{Manifest: []byte("{}"), Pack: packOf("x")}); err == nil {
			t.Errorf("%s was stored", what)
		}
	}
	if items, err := s.Bucket.List(t.Context(), ""); err != nil || len(items) > 0 {
		t.Errorf("left %v, %v", items, err)
	}
}

// shaky breaks each link to an object after some bytes.
type shaky struct {
	store.Bucket
	after int
	links int
}

var errCut = errors.New("connection reset")

func (s *shaky) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, error) {
	r, err := s.Bucket.Get(ctx, key, offset)
	if err != nil || !strings.HasSuffix(key, store.PackObject) {
		return r, err
	}
	s.links++
	if s.after < 0 {
		return nil, errors.Join(errCut, r.Close())
	}
	left := s.after
	return struct {
		io.Reader
		io.Closer
	}{readerFunc(func(p []byte) (int, error) {
		if left == 0 {
			return 0, errCut
		}
		n, err := r.Read(p[:min(len(p), left)])
		left -= n
		return n, err
	}), r}, nil
}

func TestAReadingGoesOnWhereTheLinkBroke(t *testing.T) {
	content := string(noise(4, 100_000))
	s := &store.Store{Bucket: store.Dir{Path: t.TempDir()}}
	a := stored(t, s, release("v4.5.15", "a", "1"), content)
	b := &shaky{Bucket: s.Bucket, after: 30_000}
	got, err := read(t, &store.Store{Bucket: b}, a, store.PackObject)
	if err != nil || got != content {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if b.links != 4 {
		t.Errorf("%d links, want 4", b.links)
	}
}

func TestALinkThatBreaksWithoutAByteMoreIsGivenUp(t *testing.T) {
	s := &store.Store{Bucket: store.Dir{Path: t.TempDir()}}
	a := stored(t, s, release("v4.5.15", "a", "1"), "content")
	for _, after := range []int{0, -1} {
		b := &shaky{Bucket: s.Bucket, after: after}
		if _, err := read(t, &store.Store{Bucket: b}, a, store.PackObject); !errors.Is(err, errCut) {
			t.Errorf("got %v, want the link's own error", err)
		}
		if b.links > 3 {
			t.Errorf("%d links were tried", b.links)
		}
	}
}

func TestAReadingThatIsClosedReadsNoMore(t *testing.T) {
	s := &store.Store{Bucket: store.Dir{Path: t.TempDir()}}
	a := stored(t, s, release("v4.5.15", "a", "1"), "content")
	r, err := s.Open(t.Context(), a, store.PackObject)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(&bytes.Buffer{}, r); err == nil {
		t.Errorf("read %d bytes", n)
	}
}

func TestStoresAtWorkSideBySideDoNotHarmEachOther(t *testing.T) {
	everyBucket(t, func(t *testing.T, b store.Bucket) {
		// The server of these tests keeps objects in folders, and may remove an empty one
		// while another call is about to write into it. What lies here holds it.
		put(t, b, path.Join("release/v4.5.15/debian-13-amd64", hex64("a"), "held"), "x")
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				s := &store.Store{Bucket: b}
				a := release("v4.5.15", "a", fmt.Sprint(i))
				for n := range 5 {
					pack := fmt.Sprintf("pack %d of %d", n, i)
					kept, err := s.Put(t.Context(), a, store.Parts{Manifest: []byte("{}"), Pack: packOf(pack)})
					if err != nil {
						t.Error(err)
						return
					}
					if got, err := s.Read(t.Context(), kept, store.PackObject); err != nil || string(got) != pack {
						t.Errorf("got %q, %v", got, err)
					}
					if n < 4 {
						if err := s.Remove(t.Context(), kept); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		wg.Wait()
		if list, err := (&store.Store{Bucket: b}).List(t.Context()); err != nil || len(list.Artifacts) != 4 || len(list.Strays) != 0 {
			t.Errorf("in the end %+v, %v", list, err)
		}
	})
}
