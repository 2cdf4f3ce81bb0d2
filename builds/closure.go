package builds

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// The manifests that the front end's builders write, from Vite, from the asset
// plugin of upstream and from Webpacker.
var packManifests = []string{"public/packs/.vite/manifest.json", "public/packs/.vite/manifest-assets.json", "public/packs/manifest.json"}

// asset is a file that a manifest names.
type asset struct {
	path      string // below public
	integrity string // "sha384-…", or empty
}

// checkAssets holds the manifests of built assets to the files: every file named
// is there, and has the checksum where the manifest gives one. A page that names
// a file that is not there is broken while every health check passes.
func checkAssets(dir string) (n int, err error) {
	err = within(dir, func(b inside) error {
		n, err = b.checkAssets()
		return err
	})
	return n, err
}

func (b inside) checkAssets() (int, error) {
	var named []asset
	found := false
	read := func(files []string, below string, parse func([]byte) ([]asset, error)) error {
		for _, m := range files {
			text, err := b.ReadFile(m)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return fmt.Errorf("cannot read %s: %w", m, err)
			}
			assets, err := parse(text)
			if err != nil {
				return fmt.Errorf("cannot read %s: %w", m, err)
			}
			for _, a := range assets {
				if !filepath.IsLocal(a.path) {
					return fmt.Errorf("%s names %q, which leads out of %s", m, a.path, below)
				}
				a.path = path.Join(below, a.path)
				named = append(named, a)
			}
			found = found || below == "packs"
		}
		return nil
	}
	sprockets, err := b.match("public/assets/.sprockets-manifest-*.json")
	if err != nil {
		return 0, fmt.Errorf("cannot look for manifests of assets: %w", err)
	}
	if err := errors.Join(
		read(packManifests, "packs", parsePacks),
		read([]string{"public/assets/.manifest.json"}, "assets", parsePropshaft),
		read(sprockets, "assets", parseSprockets),
	); err != nil {
		return 0, err
	}
	if !found {
		return 0, fmt.Errorf("the build left no manifest of assets (%s)", strings.Join(packManifests, ", "))
	}
	if len(named) == 0 {
		return 0, errors.New("the manifests of assets name no file")
	}
	var wrong []string
	for _, a := range named {
		text, err := b.ReadFile(path.Join("public", a.path))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			wrong = append(wrong, a.path+" (missing)")
		case err != nil:
			return 0, fmt.Errorf("cannot read a built asset: %w", err)
		case !serviceWorker(a.path) && !hasIntegrity(text, a.integrity):
			wrong = append(wrong, a.path+" (another checksum)")
		}
	}
	slices.Sort(wrong)
	wrong = slices.Compact(wrong)
	if n := len(wrong); n > 0 {
		return 0, fmt.Errorf("the manifests of assets name %d files that are not as they say: %s", n, strings.Join(wrong[:min(n, 10)], ", "))
	}
	return len(named), nil
}

// serviceWorker tells whether a file is the service worker or its map. Webpack's
// Workbox (releases before 4.4) writes the list of files to keep into it when the
// manifest has its checksum already; no browser holds a service worker to one.
func serviceWorker(file string) bool { return file == "packs/sw.js" || file == "packs/sw.js.map" }

// parsePacks reads either form: Vite's maps a source to {file, css, assets,
// integrity}; Webpacker's maps a name to "/packs/…" or to {src, integrity}, and
// "entrypoints" to lists of such names.
func parsePacks(b []byte) ([]asset, error) {
	var entries map[string]json.RawMessage
	if err := json.Unmarshal(b, &entries); err != nil {
		return nil, err
	}
	var out []asset
	for name, raw := range entries {
		var plain string
		if json.Unmarshal(raw, &plain) == nil {
			out = append(out, asset{path: below(plain)})
			continue
		}
		var e struct {
			File, Src, Integrity string
			CSS, Assets          json.RawMessage
		}
		if name == "entrypoints" {
			var points map[string]struct{ Assets map[string][]string }
			if err := json.Unmarshal(raw, &points); err != nil {
				return nil, fmt.Errorf("entrypoints: %w", err)
			}
			for _, p := range points {
				for _, files := range p.Assets {
					for _, f := range files {
						out = append(out, asset{path: below(f)})
					}
				}
			}
			continue
		}
		if err := json.Unmarshal(raw, &e); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		switch {
		case e.File != "":
			out = append(out, asset{path: below(e.File), integrity: e.Integrity})
		case e.Src != "":
			out = append(out, asset{path: below(e.Src), integrity: e.Integrity})
		default:
			return nil, fmt.Errorf("%s names no file", name)
		}
		for _, list := range []json.RawMessage{e.CSS, e.Assets} {
			if len(list) == 0 {
				continue
			}
			var files []string
			if err := json.Unmarshal(list, &files); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			for _, f := range files {
				out = append(out, asset{path: below(f)})
			}
		}
	}
	return out, nil
}

// parsePropshaft reads Propshaft's: a name to its hashed file, or to
// {digested_path, integrity} since Propshaft 1.2.
func parsePropshaft(b []byte) ([]asset, error) {
	var entries map[string]json.RawMessage
	if err := json.Unmarshal(b, &entries); err != nil {
		return nil, err
	}
	var out []asset
	for name, raw := range entries {
		var plain string
		if json.Unmarshal(raw, &plain) == nil {
			out = append(out, asset{path: plain})
			continue
		}
		var e struct {
			Path      string `json:"digested_path"`
			Integrity string `json:"integrity"`
		}
		if err := json.Unmarshal(raw, &e); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if e.Path == "" {
			return nil, fmt.Errorf("%s names no file", name)
		}
		out = append(out, asset{path: e.Path, integrity: e.Integrity})
	}
	return out, nil
}

// parseSprockets reads that of releases before 4.4.
func parseSprockets(b []byte) ([]asset, error) {
	var m struct {
		Assets map[string]string `json:"assets"`
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	var out []asset
	for _, file := range m.Assets {
		out = append(out, asset{path: file})
	}
	return out, nil
}

// below turns a name in a manifest into a path below public/packs.
func below(name string) string {
	return path.Clean(strings.TrimPrefix(strings.TrimPrefix(name, "/"), "packs/"))
}

// hasIntegrity tells whether b has one of the checksums (subresource integrity:
// several may stand side by side). An unknown kind proves nothing and so fails.
func hasIntegrity(b []byte, integrity string) bool {
	if integrity == "" {
		return true
	}
	for _, one := range strings.Fields(integrity) {
		kind, want, _ := strings.Cut(one, "-")
		var sum []byte
		switch kind {
		case "sha256":
			s := sha256.Sum256(b)
			sum = s[:]
		case "sha384":
			s := sha512.Sum384(b)
			sum = s[:]
		case "sha512":
			s := sha512.Sum512(b)
			sum = s[:]
		}
		if sum != nil && base64.StdEncoding.EncodeToString(sum) == want {
			return true
		}
	}
	return false
}
