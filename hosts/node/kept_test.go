package node

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAUnitCallsBackAProgramThatOnlyRootCanReplace(t *testing.T) {
	bin, state := t.TempDir(), t.TempDir()
	for _, p := range []string{bin, state} {
		if err := os.Chmod(p, 0o755); err != nil { //nolint:gosec // as on a host
			t.Fatal(err)
		}
	}
	started := filepath.Join(bin, "refit-1")
	if err := os.WriteFile(started, []byte("the program that sudo looked at"), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	if !ours(started) || !ours(bin) {
		t.Fatal("a file of one's own is not one's own")
	}
	if err := os.Chmod(bin, 0o777); err != nil { //nolint:gosec // a folder in which others can replace it
		t.Fatal(err)
	}
	if ours(bin) {
		t.Error("a folder that everybody can write to is nobody's own")
	}
	kept := filepath.Join(state, "agents", "refit-1")
	if err := keep(started, kept); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(started, []byte("another program of the same length"), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	b, err := os.ReadFile(kept)
	fi, statErr := os.Stat(kept)
	if err != nil || statErr != nil || string(b) != "the program that sudo looked at" || fi.Mode().Perm() != 0o755 || !ours(kept) {
		t.Errorf("kept %q %v, %v, %v", b, fi.Mode(), err, statErr)
	}
	// Kept once: the name tells the content, and a job's unit may call it at any time.
	if err := os.WriteFile(started, []byte("the program that sudo lookeD at"), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	if err := keep(started, kept); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(kept); err != nil || string(b) != "the program that sudo looked at" {
		t.Errorf("%q, %v", b, err)
	}
	// A copy that others could have written is none.
	if err := os.Chmod(kept, 0o775); err != nil { //nolint:gosec // that is what is refused
		t.Fatal(err)
	}
	if err := keep(started, kept); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(kept); err != nil || string(b) != "the program that sudo lookeD at" || !ours(kept) {
		t.Errorf("%q, %v", b, err)
	}
}
