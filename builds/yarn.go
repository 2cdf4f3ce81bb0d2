package builds

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// YarnIn fetches the yarn that a release names.
type YarnIn struct {
	Layout  Layout  `json:"layout"`
	Version Version `json:"version"`
	// Registry is the npm registry's base URL; empty for the public one.
	Registry string `json:"registry,omitempty"`
	// Yarn is its version, Hash what packageManager says of yarn.js ("sha512.<hex>"), or empty.
	Yarn string `json:"yarn"`
	Hash string `json:"hash,omitempty"`
	// Checksums is yarn's checksumBehavior, see Mirrors.
	Checksums string   `json:"checksums,omitempty"`
	Patience  Patience `json:"patience,omitzero"`
}

// YarnOut is what was fetched.
type YarnOut struct {
	// SHA512 of yarn.js, in hex.
	SHA512 string `json:"sha512"`
	// Pinned: the release itself names the hash. Otherwise the registry's own
	// checksum was all there was to hold it to.
	Pinned bool `json:"pinned"`
}

const (
	publicNPM = "https://registry.npmjs.org"
	// yarnPackage holds yarn.js for every version of yarn since 2.
	yarnPackage = "@yarnpkg/cli-dist"
)

// yarnDist finds the checksum that the registry gives for a version of yarn.
func yarnDist(ctx context.Context, p Patience, registry, version string) (integrity string, err error) {
	body, err := p.get(ctx, registry+"/"+yarnPackage, "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8")
	if err != nil {
		return "", err
	}
	var meta struct {
		Versions map[string]struct {
			Dist struct {
				Integrity string `json:"integrity"`
			} `json:"dist"`
		} `json:"versions"`
	}
	if err := json.Unmarshal(body, &meta); err != nil {
		return "", fmt.Errorf("cannot read what %s says of %s: %w", registry, yarnPackage, err)
	}
	v, ok := meta.Versions[version]
	if !ok {
		return "", fmt.Errorf("%s has no yarn %s (package %s)", registry, version, yarnPackage)
	}
	if !strings.HasPrefix(v.Dist.Integrity, "sha512-") {
		return "", fmt.Errorf("%s gives no sha512 checksum for yarn %s", registry, version)
	}
	return v.Dist.Integrity, nil
}

func registryOr(url string) string {
	if url == "" {
		return publicNPM
	}
	return strings.TrimSuffix(url, "/")
}

// yarn fetches yarn and puts it into the build's own folder.
func yarn(ctx context.Context, in YarnIn, say func(string)) (YarnOut, error) {
	dir := in.Layout.Dir(in.Version)
	if err := requireUnfinished(dir); err != nil {
		return YarnOut{}, err
	}
	if err := noSettingsAbove(dir); err != nil {
		return YarnOut{}, err
	}
	registry := registryOr(in.Registry)
	integrity, err := yarnDist(ctx, in.Patience, registry, in.Yarn)
	if err != nil {
		return YarnOut{}, err
	}
	url := fmt.Sprintf("%s/%s/-/cli-dist-%s.tgz", registry, yarnPackage, in.Yarn)
	say("fetching yarn " + in.Yarn)
	tgz, err := in.Patience.get(ctx, url, "")
	if err != nil {
		return YarnOut{}, err
	}
	sum := sha512.Sum512(tgz)
	if got := "sha512-" + base64.StdEncoding.EncodeToString(sum[:]); got != integrity {
		return YarnOut{}, fmt.Errorf("%s has checksum %s, the registry says %s: it is not used", url, got, integrity)
	}
	js, err := yarnJS(tgz)
	if err != nil {
		return YarnOut{}, fmt.Errorf("cannot unpack %s: %w", url, err)
	}
	if err := checkHash(js, in.Hash); err != nil {
		return YarnOut{}, fmt.Errorf("yarn %s from %s: %w", in.Yarn, registry, err)
	}
	if err := in.Layout.placeYarn(in.Version, js); err != nil {
		return YarnOut{}, fmt.Errorf("cannot write yarn %s: %w", in.Yarn, err)
	}
	sum = sha512.Sum512(js)
	out := YarnOut{SHA512: hex.EncodeToString(sum[:]), Pinned: in.Hash != ""}
	return out, recordPackages(dir, in, out)
}

// recordPackages writes down what yarn is, and what it will hold its packages to: to
// yarn.lock's checksums, by itself, unless it is told not to.
func recordPackages(dir string, in YarnIn, y YarnOut) error {
	text, err := os.ReadFile(filepath.Join(dir, "yarn.lock"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot tell what the node packages are held to: %w", err)
	}
	all, err := ReadYarnLock(string(text))
	if err != nil {
		return err
	}
	item := Fetched{Kind: "yarn", Name: "yarn", Version: in.Yarn, SHA512: y.SHA512, Held: HeldToLock}
	if !y.Pinned {
		item.Held = HeldToRegistry
	}
	var f Fetches
	f.count(item)
	for _, p := range all {
		if p.Checksum != "" && in.Checksums == "" {
			f.Counts["npm"]++
			continue
		}
		if p.Elsewhere("linux", nodeCPU(runtime.GOARCH)) {
			continue // it is not fetched here
		}
		f.count(Fetched{Kind: "npm", Name: p.Name, Version: p.Version, Checksum: p.Checksum, Held: HeldToNothing})
	}
	return writeJSON(partFetches(dir, Packages), f)
}

// checkHash holds yarn.js to the hash in packageManager, which is corepack's:
// of the program, not of the package around it.
func checkHash(js []byte, want string) error {
	if want == "" {
		return nil
	}
	kind, hash, _ := strings.Cut(want, ".")
	var got string
	switch kind {
	case "sha512":
		sum := sha512.Sum512(js)
		got = hex.EncodeToString(sum[:])
	case "sha256":
		sum := sha256.Sum256(js)
		got = hex.EncodeToString(sum[:])
	case "sha224":
		sum := sha256.Sum224(js)
		got = hex.EncodeToString(sum[:])
	default:
		return fmt.Errorf("package.json asks for a %s hash, which refit does not know", kind)
	}
	if got != hash {
		return fmt.Errorf("yarn.js has %s %s, package.json asks for %s: it is not used", kind, got, hash)
	}
	return nil
}

// yarnJS takes yarn.js out of the package.
func yarnJS(tgz []byte) ([]byte, error) {
	zr, err := gzip.NewReader(bytes.NewReader(tgz))
	if err != nil {
		return nil, err
	}
	tr := tar.NewReader(zr)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("it holds no bin/yarn.js")
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag == tar.TypeReg && h.Name == "package/bin/yarn.js" {
			return io.ReadAll(io.LimitReader(tr, maxFetch))
		}
	}
}
