package keeper

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// comparisonInfo binds what is derived to its purpose (RFC 5869, section 3.2).
const comparisonInfo = "refit: hashes of values for one comparison, v1"

// keyBytes is the length of the keeper's key and of what is derived from it.
const keyBytes = 32

func (s *store) keyFile() string { return filepath.Join(s.dir, "comparison.key") }

// comparisonKey derives a key for one comparison, by HKDF with SHA-256 (RFC 5869), from
// the keeper's own, which is made at the first call and never leaves its file. The salt is
// forgotten here: nobody, the keeper included, can derive the same key again.
func (s *store) comparisonKey(ctx context.Context) (derived []byte, err error) {
	err = s.locked(ctx, func() error {
		own, err := s.ownKey()
		if err != nil {
			return err
		}
		salt := make([]byte, keyBytes)
		rand.Read(salt) //nolint:errcheck // crypto/rand.Read never returns an error
		derived, err = hkdf.Key(sha256.New, own, salt, comparisonInfo, keyBytes)
		return err
	})
	return derived, err
}

// ownKey reads the keeper's key, or makes it.
func (s *store) ownKey() ([]byte, error) {
	_, b, err := read(s.fs, s.keyFile())
	if errors.Is(err, fs.ErrNotExist) {
		key := make([]byte, keyBytes)
		rand.Read(key) //nolint:errcheck // crypto/rand.Read never returns an error
		text := append([]byte(hex.EncodeToString(key)), '\n')
		return key, write(s.fs, s.keyFile(), head{ID: "comparison.key", Saved: s.now().UTC()}, text)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the key of comparisons: %w (where it is lost or damaged: remove %s, a new one is made)", err, s.keyFile())
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(key) != keyBytes {
		return nil, fmt.Errorf("%s is %w: it holds no key of %d bytes (remove it, a new one is made)", s.keyFile(), ErrDamaged, keyBytes)
	}
	return key, nil
}

// ComparisonKey is a key with which hosts hash values that are to be compared, and that
// nobody may see. It is good for the hosts of one comparison: each call gives another one,
// so what was hashed in one cannot be held against what was hashed in another, and is worth
// nothing to who finds it later. It must not be stored or shown.
func (k *Keeper) ComparisonKey(ctx context.Context) ([]byte, error) {
	a, err := k.ask(ctx, "comparison.key", nil, few)
	if err != nil {
		return nil, err
	}
	if len(a.Key) != keyBytes {
		return nil, fmt.Errorf("keeper %s: its answer holds no key", k.Name)
	}
	return a.Key, nil
}
