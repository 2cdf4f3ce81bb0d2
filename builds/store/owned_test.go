package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/builds/store"
)

// folderOf is where an artifact of these tests lies.
func folderOf(a store.Artifact) string {
	return path.Join(string(a.Kind), a.Name, "debian-13-amd64", a.Recipe, a.Digest)
}

func keysOf(t *testing.T, b store.Bucket) []string {
	t.Helper()
	items, err := b.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, item := range items {
		out = append(out, item.Key)
	}
	return out
}

func TestPruningAndRemovingLeaveWhatOthersPutInTheBucket(t *testing.T) {
	everyBucket(t, func(t *testing.T, b store.Bucket) {
		others := []string{
			"media_attachments/files/1/photo.jpg", "packs/app-1.js", "artifact.json", "pack.tar.zst", ".refit/served",
			"release/notes.txt", "release/v4.5.9/debian-13-amd64/half",
			path.Join("release/v4.5.9/debian-13-amd64", hex64("a"), "pack.tar.zst"),
			path.Join("release/v4.5.9/debian-13-amd64", hex64("a"), hex64("1"), "photo.jpg"),
			path.Join("release/v4.5.9/debian-13-amd64", hex64("a"), hex64("1"), "x/pack.tar.zst"),
			path.Join("release/v4.5.9/debian-13-amd64", hex64("a"), "not-a-digest", "pack.tar.zst"),
			path.Join("media/v4.5.9/debian-13-amd64", hex64("a"), hex64("1"), "artifact.json"),
			path.Join("more/release/v4.5.9/debian-13-amd64", hex64("a"), hex64("1"), "pack.tar.zst"),
		}
		for _, key := range others {
			put(t, b, key, "theirs")
		}
		s := &store.Store{Bucket: b, Now: func() time.Time { return time.Now().AddDate(0, 0, -100) }}
		first := stored(t, s, release("v4.5.9", "a", "1"), "pack")
		stored(t, s, release("v4.5.9", "a", "2"), "pack")
		put(t, b, path.Join("release/v4.5.9/debian-13-amd64", hex64("a"), hex64("3"), store.PackObject), "a stray")
		s.Now = func() time.Time { return time.Now().Add(48 * time.Hour) }
		if err := s.Remove(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		out, err := s.Prune(t.Context(), store.Rule{}, func(string) bool { return false })
		if err != nil || len(out.Artifacts) != 1 || out.Strays != 1 {
			t.Errorf("pruned %+v, %v", out, err)
		}
		slices.Sort(others)
		if left := keysOf(t, b); !slices.Equal(left, others) {
			t.Errorf("left\n%s\nwant\n%s", strings.Join(left, "\n"), strings.Join(others, "\n"))
		}
	})
}

// rewrite changes the record of an artifact.
func rewrite(t *testing.T, b store.Bucket, a store.Artifact, change func(map[string]any)) {
	t.Helper()
	at := path.Join(folderOf(a), "artifact.json")
	raw, err := get(t, b, at, 0)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	change(m)
	if raw, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	put(t, b, at, string(raw))
}

func TestWhatAnotherVersionStoredIsNeitherUsedNorChangedNorPruned(t *testing.T) {
	for what, change := range map[string]func(map[string]any){
		"another format":                    func(m map[string]any) { m["format"] = 2 },
		"another format, of other fields":   func(m map[string]any) { m["format"], m["objects"], m["files"] = 2, []string{"x"}, "many" },
		"another format, in another folder": func(m map[string]any) { m["format"], m["name"] = 2, "other" },
		"a field that is not known":         func(m map[string]any) { m["libc"] = "musl" },
		"an object that is not known": func(m map[string]any) {
			m["objects"].(map[string]any)["sbom.json"] = map[string]any{"size": 1, "sha256": hex64("0")}
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := store.Dir{Path: t.TempDir()}
			now := noon
			s := &store.Store{Bucket: b, Now: func() time.Time { return now }}
			ruby := release("ruby-3.4.7", "c", "7")
			ruby.Kind = store.Toolchain
			stored(t, s, ruby, "ruby")
			a := release("v4.5.15", "a", "1")
			a.Needs = []string{ruby.Digest}
			stored(t, s, a, "theirs")
			put(t, b, path.Join(folderOf(a), "sbom.json"), "x")
			rewrite(t, b, a, change)
			before := keysOf(t, b)
			if _, err := s.Find(t.Context(), a.Key); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("found: %v", err)
			}
			_, err := s.Put(t.Context(), a, store.Parts{Manifest: []byte("{}"), Pack: packOf("ours")})
			if !errors.Is(err, store.ErrForeign) {
				t.Errorf("stored over it: %v", err)
			}
			now = time.Now().AddDate(1, 0, 0)
			out, err := s.Prune(t.Context(), store.Rule{}, func(string) bool { return false })
			if err != nil || len(out.Artifacts) != 0 || out.Strays != 0 || out.Foreign != 1 {
				t.Errorf("pruned %+v, %v", out, err)
			}
			if after := keysOf(t, b); !slices.Equal(after, before) {
				t.Errorf("left\n%s\nof\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
			}
			if got, err := get(t, b, path.Join(folderOf(a), store.PackObject), 0); err != nil || string(got) != "theirs" {
				t.Errorf("its pack is %q, %v", got, err)
			}
		})
	}
}

func TestAFailingPutLeavesWhatASecondStoreOfTheSamePut(t *testing.T) {
	everyBucket(t, func(t *testing.T, b store.Bucket) {
		s := &store.Store{Bucket: b, Now: func() time.Time { return noon }}
		a := release("v4.5.15", "a", "1")
		broken := errors.New("the builder is gone")
		_, err := s.Put(t.Context(), a, store.Parts{Manifest: []byte("{}\n"), Signature: []byte("sig"), Pack: func(ctx context.Context, w io.Writer) error {
			stored(t, s, a, "the second's") // begins later and is done earlier
			if _, err := io.WriteString(w, "the fir"); err != nil {
				return err
			}
			return broken
		}})
		if !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
		found, err := s.Find(t.Context(), a.Key)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{store.ManifestObject: "{}\n", store.SignatureObject: "sig", store.PackObject: "the second's"} {
			if got, err := read(t, s, found, name); err != nil || got != want {
				t.Errorf("%s is %q, %v", name, got, err)
			}
		}
		// Nor does one that comes later and fails, or need not come at all.
		late, err := s.Put(t.Context(), a, store.Parts{Manifest: []byte("{}\n"), Pack: func(context.Context, io.Writer) error { return broken }})
		if err != nil || !late.Stored.Equal(found.Stored) || !late.Signed() {
			t.Errorf("put again: %+v, %v", late, err)
		}
	})
}

func TestARecordWithoutAllItsObjectsIsNoArtifactAndIsWrittenAnew(t *testing.T) {
	everyBucket(t, func(t *testing.T, b store.Bucket) {
		s := &store.Store{Bucket: b}
		for name, n := range map[string]int{store.PackObject: 3, store.ManifestObject: 3, store.SignatureObject: 3, "cut": 4} {
			a := stored(t, s, release("v4.5.15", "a", "1"), "the pack")
			if name == "cut" {
				put(t, b, path.Join(folderOf(a), store.PackObject), "the")
			} else if err := b.Remove(t.Context(), path.Join(folderOf(a), name)); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Find(t.Context(), a.Key); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: got %v, want ErrNotFound", name, err)
			}
			if list, err := s.List(t.Context()); err != nil || len(list.Artifacts) != 0 || len(list.Strays) != n {
				t.Errorf("%s: listed %+v, %v", name, list, err)
			}
			a = stored(t, s, release("v4.5.15", "a", "1"), "the pack")
			if got, err := read(t, s, a, store.PackObject); err != nil || got != "the pack" {
				t.Errorf("%s: then %q, %v", name, got, err)
			}
		}
	})
}
