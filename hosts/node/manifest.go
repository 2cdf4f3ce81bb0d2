package node

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// ManifestFormat is the format of the manifests that this code writes. It reads
// no other.
const ManifestFormat = 1

// Manifest says what a built release is, file by file.
type Manifest struct {
	Format int `json:"format"`
	// Kind is what it describes: nothing for a release, or a toolchain.
	Kind Kind `json:"kind,omitempty"`
	// Release is its name, "v4.5.14", or a toolchain's, "ruby-3.4.7".
	Release string `json:"release"`
	// Commit and Tree are the git hashes that it was built from.
	Commit string `json:"commit"`
	Tree   string `json:"tree"`
	// OS is what it was built on and for, "debian 13"; Arch in Go's words.
	OS   string `json:"os"`
	Arch string `json:"arch"`
	// Ruby and Node are the versions that it runs with.
	Ruby string `json:"ruby"`
	Node string `json:"node"`
	// Recipe says by what a toolchain was made: of one recipe each stands for the
	// other, though a compiler leaves no two equal. Empty for a release.
	Recipe string `json:"recipe,omitempty"`
	// Toolchains are those that a release was built with and runs with; none where it
	// runs with the host's own.
	Toolchains []ToolchainRef `json:"toolchains,omitempty"`
	// Overrides are the named deviations from the release's own pins.
	Overrides []string  `json:"overrides,omitempty"`
	Built     time.Time `json:"built"`
	// Modified is the date of the source. Where it is given, files and directories have
	// the times of FileTime; otherwise those with which they came.
	Modified time.Time `json:"modified,omitzero"`
	// Unverified says, a line each, what of the release was not held to a checksum that
	// its source has.
	Unverified []string `json:"unverified,omitempty"`
	// Files are in rising order of Path, directories before what is in them. They stay
	// the last field: readHead reads up to here.
	Files []Entry `json:"files"`
}

// ToolchainRef names a toolchain.
type ToolchainRef struct {
	// Name is its directory's below ToolchainsDir: "ruby-3.4.7".
	Name string `json:"name"`
	// Recipe is its manifest's.
	Recipe string `json:"recipe"`
	// Digest is the manifest's of the very one that the release was built with.
	Digest string `json:"digest"`
}

// Entry is a file, a directory or a symbolic link of a release.
type Entry struct {
	// Path is relative, with slashes.
	Path string `json:"path"`
	// Mode holds the permission bits; 0 for a link.
	Mode uint32 `json:"mode,omitempty"`
	// Dir marks a directory.
	Dir  bool  `json:"dir,omitempty"`
	Size int64 `json:"size,omitempty"`
	// SHA256 of the content, in hex; empty for directories and links.
	SHA256 string `json:"sha256,omitempty"`
	// Link is a symbolic link's target.
	Link string `json:"link,omitempty"`
}

// Regular tells whether the entry is a file with content.
func (e Entry) Regular() bool { return !e.Dir && e.Link == "" }

// Difference is one file that is not as a manifest says.
type Difference struct {
	Path string `json:"path"`
	// What in words: "missing", "content", "mode 0755 instead of 0644", "not in
	// the manifest".
	What string `json:"what"`
}

func (d Difference) String() string { return d.Path + ": " + d.What }

// Head says what a manifest is, without its files.
type Head struct {
	// Release, Commit and Tree as in Manifest.
	Release string `json:"release"`
	Commit  string `json:"commit"`
	Tree    string `json:"tree"`
	// Recipe is a toolchain's.
	Recipe string `json:"recipe,omitempty"`
	// OS and Arch are the system that it was made for, "debian 13" and "amd64".
	OS   string `json:"os,omitempty"`
	Arch string `json:"arch,omitempty"`
	// Toolchains are those that a release runs with.
	Toolchains []ToolchainRef `json:"toolchains,omitempty"`
	// Digest names the built release: equal digests mean equal files. It is the
	// SHA-256, in hex, of the manifest's file as Write wrote it, without the line's end.
	Digest string `json:"digest"`
	// Files counts the entries; Bytes is the size of all files.
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

func (m Manifest) head(digest string) Head {
	h := Head{Release: m.Release, Commit: m.Commit, Tree: m.Tree, Recipe: m.Recipe, OS: m.OS, Arch: m.Arch, Toolchains: m.Toolchains, Digest: digest, Files: len(m.Files)}
	for _, e := range m.Files {
		h.Bytes += e.Size
	}
	return h
}

// ReadManifest reads the manifest of the release in root.
func ReadManifest(root string) (Manifest, Head, error) {
	m, b, err := readManifest(root)
	if err != nil {
		return m, Head{}, err
	}
	return m, m.head(digestOf(b)), nil
}

// readManifest gives the file's bytes too.
func readManifest(root string) (Manifest, []byte, error) {
	path := filepath.Join(root, manifestFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return Manifest{}, nil, err
	}
	m, err := decodeManifest(b)
	if err != nil {
		err = fmt.Errorf("cannot read %s: %w", path, err)
	}
	return m, b, err
}

func decodeManifest(b []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return m, err
	}
	return m, m.Check()
}

// digestOf is the digest of a manifest's file. The bytes are hashed as they are, so
// that whoever passes them on needs not encode them again.
func digestOf(file []byte) string {
	sum := sha256.Sum256(bytes.TrimSuffix(file, []byte{'\n'}))
	return hex.EncodeToString(sum[:])
}

// Write writes the manifest into the release in root.
func (m Manifest) Write(root string) (Head, error) {
	if err := m.Check(); err != nil {
		return Head{}, err
	}
	m.Built, m.Modified = m.Built.UTC(), m.Modified.UTC()
	b, err := json.Marshal(m)
	if err != nil {
		return Head{}, fmt.Errorf("cannot encode the manifest of %s: %w", m.Release, err)
	}
	b = append(b, '\n')
	return m.head(digestOf(b)), writeFile(filepath.Join(root, manifestFile), b, 0o644)
}

// Check refuses a manifest that could not be placed safely: another format, a
// path that leaves the release or is not clean, entries out of order or twice, a
// file without a hash, one that others than root could write to or that would run with
// another user's rights, a link that leads out (but for those to the runtimes), a name
// that refit keeps for itself.
func (m Manifest) Check() error {
	if m.Format != ManifestFormat {
		return fmt.Errorf("manifest of format %d: this refit knows format %d", m.Format, ManifestFormat)
	}
	if err := m.Kind.check(m.Release); err != nil {
		return err
	}
	if (m.Kind == KindToolchain) != (m.Recipe != "") {
		return fmt.Errorf("manifest of %s: a toolchain has a recipe, a release has none", m.Release)
	}
	for _, t := range m.Toolchains {
		if err := KindToolchain.check(t.Name); err != nil {
			return fmt.Errorf("manifest of %s: %w", m.Release, err)
		}
	}
	symlinks, files := make(links), make(map[string]bool)
	for i, e := range m.Files {
		switch {
		case e.Path == "" || e.Path == "." || path.IsAbs(e.Path) || path.Clean(e.Path) != e.Path || e.Path == ".." || strings.HasPrefix(e.Path, "../") || strings.ContainsRune(e.Path, 0):
			return fmt.Errorf("manifest of %s: path %q is not a clean relative path", m.Release, e.Path)
		case i > 0 && m.Files[i-1].Path >= e.Path:
			return fmt.Errorf("manifest of %s: %q is out of order", m.Release, e.Path)
		case e.Regular() && len(e.SHA256) != 2*sha256.Size:
			return fmt.Errorf("manifest of %s: %q has no hash", m.Release, e.Path)
		case e.Mode&^0o777 != 0:
			return fmt.Errorf("manifest of %s: %q has mode %#o", m.Release, e.Path, e.Mode)
		}
		if what := checkEntry(e); what != "" {
			return fmt.Errorf("manifest of %s: %q %s", m.Release, e.Path, what)
		}
		for d := path.Dir(e.Path); d != "."; d = path.Dir(d) {
			if _, ok := symlinks[d]; ok {
				return fmt.Errorf("manifest of %s: %q lies below the link %q", m.Release, e.Path, d)
			}
			if files[d] {
				return fmt.Errorf("manifest of %s: %q lies below the file %q", m.Release, e.Path, d)
			}
		}
		if e.Link != "" {
			symlinks[e.Path] = e.Link
		} else if !e.Dir {
			files[e.Path] = true
		}
	}
	for _, e := range m.Files {
		if e.Link != "" && symlinks.leadsOut(e.Path) {
			return fmt.Errorf("manifest of %s: the link %q leads out of the release, to %q", m.Release, e.Path, e.Link)
		}
	}
	return nil
}

// checkRelease refuses a name that cannot be the name of a release's directory.
func checkRelease(name string) error {
	if len(name) < 2 || name[0] != 'v' || strings.ContainsAny(name, "/\x00 \n") {
		return fmt.Errorf("%q is not a release's name: it begins with v and holds no slash or space", name)
	}
	return nil
}
