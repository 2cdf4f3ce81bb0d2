package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheHeadOfAManifestHasTheDigestOfTheWhole(t *testing.T) {
	root := t.TempDir()
	m := Manifest{
		Format: ManifestFormat, Release: "v4.5.1", Commit: "abc", Ruby: `3.4,"files":[`, Built: time.Date(2026, 11, 23, 1, 2, 3, 4, time.FixedZone("", 3600)),
		Files: []Entry{{Path: "a", Mode: 0o644, Size: 1, SHA256: strings.Repeat("0", 64)}, {Path: `b,"files":x`, Link: "a"}},
	}
	want, err := m.Write(root)
	if err != nil {
		t.Fatal(err)
	}
	head, digest, err := readHead(root)
	if err != nil || digest != want.Digest || head.Commit != "abc" || head.Ruby != m.Ruby || head.Files != nil {
		t.Errorf("%q instead of %q, %+v, %v", digest, want.Digest, head, err)
	}
}

func TestADamagedManifestHasAnotherDigestOrNone(t *testing.T) {
	root := t.TempDir()
	m := Manifest{Format: ManifestFormat, Release: "v4.5.1", Files: []Entry{{Path: "a", Link: "b"}}}
	if _, err := m.Write(root); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(root, manifestFile))
	if err != nil {
		t.Fatal(err)
	}
	_, good, err := readHead(root)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(whole) - 1 {
		if err := os.WriteFile(filepath.Join(root, manifestFile), whole[:i], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, digest, err := readHead(root); err == nil && digest == good {
			t.Errorf("cut after %d of %d bytes it is as good as whole", i, len(whole))
		}
	}
}
