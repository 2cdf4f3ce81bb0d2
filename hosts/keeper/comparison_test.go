package keeper

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheKeyOfAComparisonIsAnotherEachTimeAndTheKeepersOwnStaysInItsFile(t *testing.T) {
	s := newStore(filepath.Join(t.TempDir(), "keeper"))
	ana := person(s, "ana")
	first, err := ana.ComparisonKey(t.Context())
	if err != nil || len(first) != keyBytes {
		t.Fatalf("%d bytes, %v", len(first), err)
	}
	fi, err := os.Stat(s.keyFile())
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("its file: %v, %v", fi, err)
	}
	file, err := os.ReadFile(s.keyFile())
	if err != nil {
		t.Fatal(err)
	}
	own, err := s.ownKey()
	if err != nil {
		t.Fatal(err)
	}
	second, err := person(s, "bo").ComparisonKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(first, second) || bytes.Equal(first, own) || bytes.Equal(second, own) {
		t.Error("a key is given twice, or is the keeper's own")
	}
	if after, err := os.ReadFile(s.keyFile()); err != nil || !bytes.Equal(after, file) {
		t.Errorf("the keeper's own key was changed: %v", err)
	}
}

func TestADamagedKeyIsSaidAndNotReplacedInSilence(t *testing.T) {
	s := newStore(filepath.Join(t.TempDir(), "keeper"))
	if _, err := s.comparisonKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(s.keyFile())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.keyFile(), b[:len(b)-9], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.comparisonKey(t.Context()); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "remove "+s.keyFile()) {
		t.Errorf("damaged: %v", err)
	}
	if err := os.Remove(s.keyFile()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.comparisonKey(t.Context()); err != nil {
		t.Errorf("removed: %v", err)
	}
}
