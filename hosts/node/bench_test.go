package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkTheScanOfARelease hashes a tree of 2,000 files of 8 KiB, as placing does.
func BenchmarkTheScanOfARelease(b *testing.B) {
	root := b.TempDir()
	for i := range 2000 {
		dir := filepath.Join(root, fmt.Sprintf("gem-%d", i%50))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.rb", i)), []byte(strings.Repeat(fmt.Sprintf("%08d", i), 1024)), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(2000 * 8192)
	for b.Loop() {
		entries, err := Scan(b.Context(), root)
		if err != nil {
			b.Fatal(err)
		}
		if len(entries) < 2000 {
			b.Fatalf("%d entries", len(entries))
		}
	}
}
