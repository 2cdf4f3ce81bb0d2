package lab

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha1" //nolint:gosec // npm's metadata has it
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"
)

// metadataAge is how long a package's list of versions is taken from the cache
// without asking the registry again.
const metadataAge = 24 * time.Hour

// npm is a caching registry before another one. Tarballs of its overlay folder are
// answered before the registry's, also where the registry lacks them.
type npm struct {
	from    string
	cache   string
	overlay map[string]map[string]overlaid // name → version
	client  *http.Client
	once    singleflight.Group
}

// overlaid is one tarball of the overlay.
type overlaid struct {
	path     string
	manifest map[string]any
}

// npmRegistry is the registry that the machine's own npm uses.
func npmRegistry(ctx context.Context) string {
	const public = "https://registry.npmjs.org"
	if _, err := exec.LookPath("npm"); err != nil {
		return public
	}
	out, err := run(ctx, "npm", "config", "get", "registry")
	if url := strings.TrimSuffix(strings.TrimSpace(out), "/"); err == nil && strings.HasPrefix(url, "http") {
		return url
	}
	return public
}

func newNpm(from, cache, overlay string) (*npm, error) {
	n := &npm{
		from: strings.TrimSuffix(from, "/"), cache: cache, overlay: map[string]map[string]overlaid{},
		client: &http.Client{Timeout: 2 * time.Minute},
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the npm cache: %w", err)
	}
	if overlay == "" {
		return n, nil
	}
	files, err := filepath.Glob(filepath.Join(overlay, "*.tgz"))
	if err != nil {
		return nil, fmt.Errorf("cannot read the npm overlay: %w", err)
	}
	for _, f := range files {
		o, err := readTarball(f)
		if err != nil {
			return nil, fmt.Errorf("cannot read %s of the npm overlay: %w", f, err)
		}
		name, _ := o.manifest["name"].(string)
		version, _ := o.manifest["version"].(string)
		if name == "" || version == "" {
			return nil, fmt.Errorf("cannot read %s of the npm overlay: its package.json has no name or version", f)
		}
		if n.overlay[name] == nil {
			n.overlay[name] = map[string]overlaid{}
		}
		n.overlay[name][version] = o
	}
	return n, nil
}

// readTarball takes a package's own manifest and the sums of its tarball.
func readTarball(file string) (overlaid, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return overlaid{}, err
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return overlaid{}, err
	}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if err != nil {
			return overlaid{}, fmt.Errorf("no package.json: %w", err)
		}
		// The folder at the top may have any name.
		if _, rest, ok := strings.Cut(path.Clean(h.Name), "/"); !ok || rest != "package.json" {
			continue
		}
		m := map[string]any{}
		if err := json.NewDecoder(t).Decode(&m); err != nil {
			return overlaid{}, err
		}
		one, five := sha1.Sum(b), sha512.Sum512(b) //nolint:gosec // npm's metadata has it
		m["dist"] = map[string]any{"shasum": hex.EncodeToString(one[:]), "integrity": "sha512-" + base64.StdEncoding.EncodeToString(five[:])}
		return overlaid{file, m}, nil
	}
}

// ServeHTTP answers "/NAME" with the package's metadata and "/NAME/-/FILE.tgz" with
// a tarball.
func (n *npm) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "this mirror only reads", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	name, file, tarball := strings.Cut(name, "/-/")
	if name == "" || strings.HasPrefix(name, "-") || strings.Contains(name, "..") || strings.ContainsAny(file, "/\\") {
		http.NotFound(w, r)
		return
	}
	var err error
	if tarball {
		var p string
		if p, err = n.tarball(r.Context(), name, file); err == nil {
			w.Header().Set("Content-Type", "application/octet-stream")
			http.ServeFile(w, r, p)
			return
		}
	} else {
		var b []byte
		if b, err = n.metadata(r.Context(), name, "http://"+r.Host); err == nil {
			w.Header().Set("Content-Type", "application/json")
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
			return
		}
	}
	var status *statusError
	if errors.As(err, &status) && status.code == http.StatusNotFound {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	log.Printf("npm %s: %v", r.URL.Path, err)
	http.Error(w, err.Error(), http.StatusBadGateway)
}

// metadata gives a package's metadata with tarball addresses on this mirror.
func (n *npm) metadata(ctx context.Context, name, self string) ([]byte, error) {
	doc := map[string]any{}
	b, err := n.fetched(ctx, name)
	if err == nil {
		err = json.Unmarshal(b, &doc)
	}
	if err != nil && n.overlay[name] == nil {
		return nil, fmt.Errorf("cannot get %s: %w", name, err)
	}
	return json.Marshal(rewrite(doc, name, self, n.overlay[name]))
}

// rewrite points every version's tarball to this mirror under its usual path, and
// adds the overlay's versions.
func rewrite(doc map[string]any, name, self string, over map[string]overlaid) map[string]any {
	versions, ok := doc["versions"].(map[string]any)
	if !ok {
		versions = map[string]any{}
		doc["name"], doc["versions"] = name, versions
	}
	for _, v := range versions {
		m, _ := v.(map[string]any)
		dist, _ := m["dist"].(map[string]any)
		if from, ok := dist["tarball"].(string); ok {
			dist["tarball"] = self + "/" + name + "/-/" + path.Base(from)
		}
	}
	for version, o := range over {
		m := map[string]any{}
		for k, v := range o.manifest {
			m[k] = v
		}
		dist := map[string]any{"tarball": self + "/" + name + "/-/" + path.Base(name) + "-" + version + ".tgz"}
		for k, v := range o.manifest["dist"].(map[string]any) {
			dist[k] = v
		}
		m["dist"] = dist
		versions[version] = m
		if doc["dist-tags"] == nil {
			doc["dist-tags"] = map[string]any{"latest": version}
		}
	}
	return doc
}

// fetched gives the registry's metadata from the cache or from the registry. An old
// copy is better than none.
func (n *npm) fetched(ctx context.Context, name string) ([]byte, error) {
	p := filepath.Join(n.cache, "meta", strings.ReplaceAll(name, "/", "%2f")+".json")
	if info, err := os.Stat(p); err == nil && time.Since(info.ModTime()) < metadataAge {
		return os.ReadFile(p)
	}
	err := n.get(ctx, n.from+"/"+strings.ReplaceAll(name, "/", "%2f"), p)
	if b, rerr := os.ReadFile(p); rerr == nil {
		return b, nil
	}
	return nil, err
}

// tarball gives the file of a tarball, fetched if it is not in the cache.
func (n *npm) tarball(ctx context.Context, name, file string) (string, error) {
	base := path.Base(name)
	version := strings.TrimSuffix(strings.TrimPrefix(file, base+"-"), ".tgz")
	if o, ok := n.overlay[name][version]; ok {
		return o.path, nil
	}
	p := filepath.Join(n.cache, "tarballs", strings.ReplaceAll(name, "/", "%2f"), file)
	if _, err := os.Stat(p); err == nil {
		return p, nil
	}
	b, err := n.fetched(ctx, name)
	if err != nil {
		return "", fmt.Errorf("cannot get %s of %s: %w", file, name, err)
	}
	var doc struct {
		Versions map[string]struct {
			Dist struct{ Tarball string }
		}
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return "", fmt.Errorf("cannot read the metadata of %s: %w", name, err)
	}
	for _, v := range doc.Versions {
		if path.Base(v.Dist.Tarball) == file {
			return p, n.get(ctx, v.Dist.Tarball, p)
		}
	}
	return "", &statusError{http.StatusNotFound, file + " of " + name}
}

// statusError is an answer of the registry that is no 200.
type statusError struct {
	code int
	what string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("the registry answers %d for %s", e.code, e.what)
}

// get fetches an address into a file, once however many ask at the same time.
func (n *npm) get(ctx context.Context, url, to string) error {
	_, err, _ := n.once.Do(to, func() (any, error) {
		// The first asker may go away; the others still want it.
		req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, url, nil)
		if err != nil {
			return nil, err
		}
		resp, err := n.client.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, &statusError{resp.StatusCode, url}
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return nil, err
		}
		f, err := os.CreateTemp(filepath.Dir(to), ".new-*")
		if err != nil {
			return nil, err
		}
		_, err = io.Copy(f, resp.Body)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, errors.Join(err, os.Remove(f.Name()))
		}
		return nil, os.Rename(f.Name(), to)
	})
	return err
}
