package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/builds/store"
)

// everyBucket runs a test over each kind of bucket, each time an empty one.
func everyBucket(t *testing.T, test func(*testing.T, store.Bucket)) {
	t.Helper()
	t.Run("dir", func(t *testing.T) { test(t, store.Dir{Path: filepath.Join(t.TempDir(), "a", "b")}) })
	server := s3Server(t)
	if server == nil {
		return
	}
	for _, prefix := range []string{"", "in/a/folder"} {
		t.Run("s3 "+prefix, func(t *testing.T) { test(t, server.bucket(t, prefix)) })
	}
}

func get(t *testing.T, b store.Bucket, key string, offset int64) ([]byte, error) {
	t.Helper()
	r, err := b.Get(t.Context(), key, offset)
	if err != nil {
		return nil, err
	}
	all, err := io.ReadAll(r)
	return all, errors.Join(err, r.Close())
}

func put(t *testing.T, b store.Bucket, key, content string) {
	t.Helper()
	if err := b.Put(t.Context(), key, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
}

// noise cannot be compressed, and is the same for the same number.
func noise(seed uint64, n int) []byte {
	out := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // of no secret
	for i := range out {
		out[i] = byte(r.Uint32())
	}
	return out
}

func TestAnObjectIsReadAsItWasWritten(t *testing.T) {
	everyBucket(t, func(t *testing.T, b store.Bucket) {
		// Beside and around the size of the pieces in which larger ones are sent.
		for _, n := range []int{0, 1, 8<<20 - 1, 8 << 20, 8<<20 + 1, 17 << 20} {
			want := noise(uint64(n), n)
			key := fmt.Sprintf("some/object-%d", n)
			if err := b.Put(t.Context(), key, bytes.NewReader(want)); err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
			for _, offset := range []int{0, n / 3, n} {
				got, err := get(t, b, key, int64(offset))
				if err != nil || !bytes.Equal(got, want[offset:]) {
					t.Errorf("%d bytes from %d on: got %d, %v", n, offset, len(got), err)
				}
			}
		}
	})
}

// breaking gives so many bytes and then an error.
type breaking struct {
	n   int
	err error
}

func (b *breaking) Read(p []byte) (int, error) {
	if b.n == 0 {
		return 0, b.err
	}
	k := min(len(p), b.n)
	b.n -= k
	return k, nil
}

func TestASourceThatBreaksOffLeavesNoObject(t *testing.T) {
	everyBucket(t, func(t *testing.T, b store.Bucket) {
		broken := errors.New("the builder is gone")
		put(t, b, "there/before", "old")
		for _, n := range []int{0, 100, 8<<20 + 100, 17 << 20} {
			for _, key := range []string{"there/never", "there/before"} {
				if err := b.Put(t.Context(), key, &breaking{n, broken}); !errors.Is(err, broken) {
					t.Errorf("after %d bytes: got %v, want the source's own error", n, err)
				}
			}
		}
		if _, err := get(t, b, "there/never", 0); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
		if got, err := get(t, b, "there/before", 0); err != nil || string(got) != "old" {
			t.Errorf("what was there is now %q, %v", got, err)
		}
		if items, err := b.List(t.Context(), ""); err != nil || len(items) != 1 {
			t.Errorf("left %v, %v", items, err)
		}
	})
}

func TestACallWhoseTimeIsOverLeavesNoObject(t *testing.T) {
	everyBucket(t, func(t *testing.T, b store.Bucket) {
		ctx, cancel := context.WithCancel(t.Context())
		source := io.MultiReader(bytes.NewReader(noise(1, 9<<20)), readerFunc(func([]byte) (int, error) {
			cancel()
			return 0, context.Canceled
		}))
		if err := b.Put(ctx, "k", source); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if items, err := b.List(t.Context(), ""); err != nil || len(items) != 0 {
			t.Errorf("left %v, %v", items, err)
		}
		if _, err := b.List(ctx, ""); err == nil {
			if r, err := b.Get(ctx, "k", 0); err == nil {
				t.Errorf("a call that is over reads %v", r)
			}
		}
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func TestAnObjectTakesThePlaceOfAnother(t *testing.T) {
	everyBucket(t, func(t *testing.T, b store.Bucket) {
		put(t, b, "k", "a longer first")
		put(t, b, "k", "second")
		if got, err := get(t, b, "k", 0); err != nil || string(got) != "second" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestWhatIsNotThereIsToldAndIsGoneAlready(t *testing.T) {
	everyBucket(t, func(t *testing.T, b store.Bucket) {
		if items, err := b.List(t.Context(), ""); err != nil || len(items) != 0 {
			t.Errorf("an empty bucket lists %v, %v", items, err)
		}
		if _, err := get(t, b, "none/such", 0); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
		if err := b.Remove(t.Context(), "none/such"); err != nil {
			t.Error(err)
		}
		put(t, b, "some/such", "x")
		for range 2 {
			if err := b.Remove(t.Context(), "some/such"); err != nil {
				t.Error(err)
			}
		}
		if _, err := get(t, b, "some/such", 0); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	})
}

func TestObjectsAreListedByTheBeginningOfTheirKeysInOrder(t *testing.T) {
	everyBucket(t, func(t *testing.T, b store.Bucket) {
		keys := []string{"a-b/x", "a/b/c", "a/b.c", "a/bc", "b", "a/b/d/e"}
		for _, k := range keys {
			put(t, b, k, k)
		}
		slices.Sort(keys)
		for prefix, want := range map[string][]string{"": keys, "a/": {"a/b.c", "a/b/c", "a/b/d/e", "a/bc"}, "a/b/": {"a/b/c", "a/b/d/e"}, "a/b": {"a/b.c", "a/b/c", "a/b/d/e", "a/bc"}, "c": nil} {
			items, err := b.List(t.Context(), prefix)
			var got []string
			for _, item := range items {
				got = append(got, item.Key)
				if item.Size != int64(len(item.Key)) || item.Modified.IsZero() {
					t.Errorf("%q: %+v", prefix, item)
				}
			}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%q: got %v, %v, want %v", prefix, got, err, want)
			}
		}
	})
}

func TestADirectoryTakesNoKeyThatLeadsOut(t *testing.T) {
	root := t.TempDir()
	d := store.Dir{Path: filepath.Join(root, "store")}
	for _, key := range []string{"../x", "/x", "a/../../x", "", ".", "a//b", "a/", "a/.refit-tmp-1"} {
		if err := d.Put(t.Context(), key, strings.NewReader("x")); err == nil {
			t.Errorf("put %q", key)
		}
		if r, err := d.Get(t.Context(), key, 0); err == nil {
			t.Errorf("got %q: %v", key, r)
		}
		if err := d.Remove(t.Context(), key); err == nil {
			t.Errorf("removed %q", key)
		}
	}
	if left, err := os.ReadDir(root); err != nil || len(left) > 1 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestWhatAKilledStoreLeftInADirectoryIsNoObjectAndGoesAfterADay(t *testing.T) {
	d := store.Dir{Path: t.TempDir()}
	left := filepath.Join(d.Path, ".refit-tmp-123")
	young := filepath.Join(d.Path, ".refit-tmp-456")
	for _, f := range []string{left, young} {
		if err := os.WriteFile(f, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := noon.AddDate(-30, 0, 0)
	if err := os.Chtimes(left, old, old); err != nil {
		t.Fatal(err)
	}
	if items, err := d.List(t.Context(), ""); err != nil || len(items) != 0 {
		t.Errorf("lists %v, %v", items, err)
	}
	put(t, d, "k", "x")
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it stays: %v", err)
	}
	if _, err := os.Stat(young); err != nil {
		t.Errorf("what may be at work went: %v", err)
	}
}
