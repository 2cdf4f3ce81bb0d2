// Package store keeps what was built, so that it is built once: in a directory, or in
// a bucket of a server that speaks S3.
//
// An artifact is a release or a toolchain: its manifest, the manifest's signature where
// there is one, and one pack of all contents. Its objects lie below a name that holds
// its manifest's digest, so those of two builds never mix, and artifact.json is written
// last: without it, all the others are nothing.
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
	"time"
)

// Bucket is where a Store keeps its objects. Keys are clean relative paths with
// slashes.
type Bucket interface {
	// Put writes an object whole or not at all. It takes the place of one that is there.
	Put(ctx context.Context, key string, r io.Reader) error
	// Get reads an object from an offset, in bytes, on; ErrNotFound without one.
	Get(ctx context.Context, key string, offset int64) (io.ReadCloser, error)
	// List names the objects whose keys begin with prefix, in rising order of their keys.
	List(ctx context.Context, prefix string) ([]Item, error)
	// Remove takes an object away. One that is not there is none the less gone.
	Remove(ctx context.Context, key string) error
	// String says where it is, for people; it holds no secret.
	String() string
}

// Item is one object of a Bucket.
type Item struct {
	Key string
	// Size in bytes.
	Size int64
	// Modified is when it was written, by the clock of whoever keeps it.
	Modified time.Time
}

// Errors that callers tell apart.
var (
	// ErrNotFound: the store has no such artifact, or the bucket no such object.
	ErrNotFound = errors.New("not in the store")
	// ErrDamaged: an object is not what was stored. Whoever reads it must not use it.
	ErrDamaged = errors.New("damaged in the store")
	// ErrForeign: what lies there was stored by another version of refit, in a form that
	// this one does not know. It is neither used nor changed.
	ErrForeign = errors.New("stored by another version of refit")
)

// Format is the format of artifact.json that this code writes. It reads no other: what
// has another is ErrForeign.
const Format = 1

// The objects of an artifact.
const (
	// ManifestObject is the manifest's file, byte by byte as it was built: the digest and
	// the signature are over it.
	ManifestObject = "manifest.json"
	// SignatureObject is the manifest's signature.
	SignatureObject = "manifest.sig"
	// PackObject holds every content, as the verb "pack" of package node writes it.
	PackObject = "pack.tar.zst"
	// recordObject says what the artifact is. It is written last and removed first.
	recordObject = "artifact.json"
)

// Kind is what an artifact is.
type Kind string

// The kinds of artifacts.
const (
	Release   Kind = "release"
	Toolchain Kind = "toolchain"
)

// Key says what an artifact was made of. Equal keys make equal artifacts, on whatever
// builder.
type Key struct {
	Kind Kind `json:"kind"`
	// Name is the release's or the toolchain's: "v4.5.15", "ruby-3.4.7".
	Name string `json:"name"`
	// OS as in a manifest, "debian 13"; Arch in Go's words.
	OS   string `json:"os"`
	Arch string `json:"arch"`
	// Recipe is the recipe's digest, in hex.
	Recipe string `json:"recipe"`
}

// Artifact is one thing in the store.
type Artifact struct {
	Format int `json:"format"`
	Key
	// Digest is the manifest's, see node.Head: it names what was built.
	Digest string `json:"digest"`
	// Builder is the host that built it.
	Builder string `json:"builder"`
	// Stored is when it was put here.
	Stored time.Time `json:"stored"`
	// Files counts the manifest's entries, Bytes is the size of all files.
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
	// Needs are the digests of artifacts that it cannot run without: a release's
	// toolchains.
	Needs []string `json:"needs,omitempty"`
	// Objects are its parts, by name.
	Objects map[string]Object `json:"objects"`
}

// Object is a part of an artifact.
type Object struct {
	// Size in bytes.
	Size int64 `json:"size"`
	// SHA256 of the content, in hex.
	SHA256 string `json:"sha256"`
}

// Size is what the artifact takes in the store, in bytes.
func (a Artifact) Size() int64 {
	var n int64
	for _, o := range a.Objects {
		n += o.Size
	}
	return n
}

// Signed tells whether a signature lies beside the manifest. It says nothing of whose.
func (a Artifact) Signed() bool { return a.Objects[SignatureObject].Size > 0 }

func (a Artifact) String() string {
	return fmt.Sprintf("%s for %s %s, manifest %.12s", a.Name, a.OS, a.Arch, a.Digest)
}

var (
	part  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$`)
	hexes = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// folder is where the artifacts of a key lie.
func (k Key) folder() (string, error) {
	system := strings.ReplaceAll(k.OS, " ", "-") + "-" + k.Arch
	for what, text := range map[string]string{"kind": string(k.Kind), "name": k.Name, "system": system} {
		if !part.MatchString(text) {
			return "", fmt.Errorf("%q cannot be the %s of an artifact", text, what)
		}
	}
	if !hexes.MatchString(k.Recipe) {
		return "", fmt.Errorf("%q is no recipe's digest", k.Recipe)
	}
	return path.Join(string(k.Kind), k.Name, system, k.Recipe), nil
}

func (a Artifact) folder() (string, error) {
	at, err := a.Key.folder()
	if err == nil && !hexes.MatchString(a.Digest) {
		err = fmt.Errorf("%q is no manifest's digest", a.Digest)
	}
	return path.Join(at, a.Digest), err
}

// Store keeps artifacts in a Bucket. Several may work on one bucket at the same time.
type Store struct {
	Bucket Bucket
	// Now is the time; nil for the clock.
	Now func() time.Time
}

func (s *Store) String() string { return s.Bucket.String() }

func (s *Store) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// Find returns the newest artifact of a key, ErrNotFound without one. A record that
// cannot be read counts for nothing: what it speaks of is built again.
func (s *Store) Find(ctx context.Context, k Key) (Artifact, error) {
	at, err := k.folder()
	if err != nil {
		return Artifact{}, err
	}
	all, err := s.list(ctx, at+"/")
	if err != nil {
		return Artifact{}, err
	}
	var found Artifact
	for _, a := range all.Artifacts {
		if a.Key == k && a.Stored.After(found.Stored) {
			found = a
		}
	}
	if found.Digest == "" {
		return found, fmt.Errorf("%s for %s %s: %w", k.Name, k.OS, k.Arch, ErrNotFound)
	}
	return found, nil
}
