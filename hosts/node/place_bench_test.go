package node_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
)

// sized makes a release of Mastodon's size: 33,000 files in 4,000 folders, 380 MB, a
// few of them large. Of each hundred files, new ones have the release's own content.
func sized(b *testing.B, release string, changed int) string {
	b.Helper()
	root := filepath.Join(b.TempDir(), release)
	content := make([]byte, 4<<20)
	r := rand.NewChaCha8([32]byte{})
	for i := range 33_000 {
		size := 6000 + i%7*800
		if i%330 == 0 {
			size = 1_200_000
		}
		if _, err := r.Read(content[:32]); err != nil {
			b.Fatal(err)
		}
		copy(content[64:], fmt.Appendf(nil, "%d", i))
		if i%100 < changed {
			copy(content[96:], release)
		} else {
			clear(content[96:128])
		}
		dir := filepath.Join(root, "vendor/bundle", fmt.Sprintf("gem-%d", i%400), "lib", fmt.Sprintf("part-%d", i%3600))
		err := os.MkdirAll(dir, 0o755)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, fmt.Sprintf("file_%d.rb", i)), content[:size], 0o644) //nolint:gosec // a release's file
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	entries, err := node.Scan(b.Context(), root)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := (node.Manifest{Format: node.ManifestFormat, Release: release, Files: entries}).Write(root); err != nil {
		b.Fatal(err)
	}
	return root
}

// BenchmarkARelease places a release of Mastodon's size on a node without any, and
// the next, of which two files in a hundred are new, beside it.
func BenchmarkARelease(b *testing.B) {
	a, _ := hoststest.NewNode(b, nil)
	root, next := sized(b, "v1.0.0", 0), sized(b, "v2.0.0", 2)
	home := b.TempDir()
	in := func(root string) (node.WantIn, node.PackIn) {
		_, head, err := node.ReadManifest(root)
		if err != nil {
			b.Fatal(err)
		}
		return node.WantIn{Home: home, Release: head.Release, Digest: head.Digest}, node.PackIn{Root: root, Digest: head.Digest}
	}
	measure(b, a, "first", root, in)
	measure(b, a, "next", next, in)
}

// step measures do alone, also in processor time: by the clock it is what else the
// machine does.
func step(b *testing.B, name string, prepare, do func(ctx context.Context) error) {
	b.Run(name, func(b *testing.B) {
		b.ReportAllocs()
		var used time.Duration
		for b.Loop() {
			b.StopTimer()
			if err := prepare(b.Context()); err != nil {
				b.Fatal(err)
			}
			before := processor(b)
			b.StartTimer()
			if err := do(b.Context()); err != nil {
				b.Fatal(err)
			}
			used += processor(b) - before
		}
		b.ReportMetric(float64(used.Milliseconds())/float64(b.N), "cpu-ms/op")
	})
}

func processor(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func nothing(context.Context) error { return nil }

func measure(b *testing.B, a *node.Agent, name, root string, in func(string) (node.WantIn, node.PackIn)) {
	b.Helper()
	want, pack := in(root)
	var manifest, files bytes.Buffer
	if _, err := a.Pack(b.Context(), pack, &manifest, nil); err != nil {
		b.Fatal(err)
	}
	step(b, name+"/manifest", nothing, func(ctx context.Context) error {
		_, err := a.Pack(ctx, pack, io.Discard, nil)
		return err
	})
	step(b, name+"/want", nothing, func(ctx context.Context) error {
		out, err := a.PlaceWant(ctx, want, bytes.NewReader(manifest.Bytes()), nil)
		pack.Indexes = out.Indexes
		return err
	})
	step(b, name+"/pack", nothing, func(ctx context.Context) error {
		files.Reset()
		_, err := a.Pack(ctx, pack, &files, nil)
		return err
	})
	step(b, name+"/put", func(context.Context) error {
		return os.RemoveAll(filepath.Join(want.Home, "releases", want.Release))
	}, func(ctx context.Context) error {
		_, err := a.PlacePut(ctx, node.PutIn{Home: want.Home, Release: want.Release, Digest: want.Digest}, bytes.NewReader(files.Bytes()), nil)
		return err
	})
	step(b, name+"/placed", nothing, func(ctx context.Context) error {
		out, err := a.PlaceWant(ctx, want, bytes.NewReader(manifest.Bytes()), nil)
		if err == nil && !out.Placed {
			err = fmt.Errorf("%s is not placed", want.Release)
		}
		return err
	})
}
