package lab

import (
	"archive/tar"
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
	"log"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/singleflight"
)

// nodeMirror serves Node as nodejs.org/dist does: a list of versions, and for each an
// archive with its checksums. It makes them of the packages in which the npm registry
// has Node's own binaries, each when it is first asked for.
type nodeMirror struct {
	npm   *npm
	cache string
	// platform as Node names it: "linux-x64".
	platform string
	once     singleflight.Group
}

func newNodeMirror(n *npm, cache string) *nodeMirror {
	platform := "linux-" + runtime.GOARCH
	if runtime.GOARCH == "amd64" {
		platform = "linux-x64"
	}
	return &nodeMirror{npm: n, cache: cache, platform: platform}
}

var nodePath = regexp.MustCompile(`^/v([0-9]+\.[0-9]+\.[0-9]+)/(SHASUMS256\.txt|node-v[0-9.]+-linux-[a-z0-9]+\.tar\.gz)$`)

func (m *nodeMirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "this mirror only reads", http.StatusMethodNotAllowed)
		return
	}
	if r.URL.Path == "/index.json" {
		list, err := m.index(r.Context())
		if err == nil {
			w.Header().Set("Content-Type", "application/json")
			err = json.NewEncoder(w).Encode(list)
		}
		if err != nil {
			m.fail(w, r, err)
		}
		return
	}
	at := nodePath.FindStringSubmatch(r.URL.Path)
	if at == nil {
		http.NotFound(w, r)
		return
	}
	dir, err := m.version(r.Context(), at[1])
	if err != nil {
		m.fail(w, r, err)
		return
	}
	http.ServeFile(w, r, filepath.Join(dir, at[2]))
}

func (m *nodeMirror) fail(w http.ResponseWriter, r *http.Request, err error) {
	var status *statusError
	if errors.As(err, &status) && status.code == http.StatusNotFound {
		http.NotFound(w, r)
		return
	}
	log.Printf("node %s: %v", r.URL.Path, err)
	http.Error(w, err.Error(), http.StatusBadGateway)
}

// nodePackage is a version of the package as the registry has it.
type nodePackage struct {
	Dist struct {
		Integrity string `json:"integrity"`
	} `json:"dist"`
}

func (m *nodeMirror) packages(ctx context.Context) (map[string]nodePackage, error) {
	b, err := m.npm.fetched(ctx, "node-"+m.platform)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Versions map[string]nodePackage `json:"versions"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("cannot read the metadata of node-%s: %w", m.platform, err)
	}
	return doc.Versions, nil
}

// nodeListed is an entry of index.json.
type nodeListed struct {
	Version string   `json:"version"`
	Files   []string `json:"files"`
}

func (m *nodeMirror) index(ctx context.Context) ([]nodeListed, error) {
	all, err := m.packages(ctx)
	if err != nil {
		return nil, err
	}
	list := []nodeListed{}
	for v := range all {
		list = append(list, nodeListed{"v" + v, []string{m.platform}})
	}
	slices.SortFunc(list, func(a, b nodeListed) int { return strings.Compare(b.Version, a.Version) })
	return list, nil
}

// version gives the folder of a version's files, made if it is not there.
func (m *nodeMirror) version(ctx context.Context, v string) (string, error) {
	dir := filepath.Join(m.cache, "v"+v)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	_, err, _ := m.once.Do(v, func() (any, error) {
		// The first asker may go away; the others still want it.
		return nil, m.make(context.WithoutCancel(ctx), v, dir)
	})
	return dir, err
}

func (m *nodeMirror) make(ctx context.Context, v, dir string) error {
	all, err := m.packages(ctx)
	if err != nil {
		return err
	}
	p, ok := all[v]
	if !ok {
		return &statusError{http.StatusNotFound, "node " + v}
	}
	name := "node-" + m.platform
	tgz, err := m.npm.tarball(ctx, name, name+"-"+v+".tgz")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(m.cache, 0o755); err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(m.cache, ".new-*")
	if err != nil {
		return err
	}
	top := "node-v" + v + "-" + m.platform
	sum, integrity, err := repackNode(tgz, filepath.Join(fresh, top+".tar.gz"), top)
	if err == nil && integrity != p.Dist.Integrity {
		err = fmt.Errorf("%s has integrity %s, and the registry says %s", tgz, integrity, p.Dist.Integrity)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(fresh, "SHASUMS256.txt"), []byte(sum+"  "+top+".tar.gz\n"), 0o644) //nolint:gosec // a public file
	}
	if err == nil {
		err = errors.Join(os.Chmod(fresh, 0o755), os.Rename(fresh, dir))
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	return nil
}

// repackNode packs an npm package anew, with another folder on top and without the
// package's own manifest. It gives the new archive's SHA-256 and the old one's integrity.
func repackNode(tgz, to, top string) (sum, integrity string, err error) {
	in, err := os.Open(tgz)
	if err != nil {
		return "", "", err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	old, fresh := sha512.New(), sha256.New()
	whole := io.TeeReader(in, old)
	zr, err := gzip.NewReader(whole)
	if err != nil {
		return "", "", err
	}
	zw, err := gzip.NewWriterLevel(io.MultiWriter(out, fresh), gzip.BestSpeed)
	if err != nil {
		return "", "", err
	}
	tr, tw := tar.NewReader(zr), tar.NewWriter(zw)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", "", err
		}
		_, rest, ok := strings.Cut(h.Name, "/")
		if !ok || rest == "package.json" || h.Typeflag != tar.TypeReg {
			continue
		}
		entry := &tar.Header{Name: top + "/" + rest, Mode: h.Mode, Size: h.Size, Typeflag: tar.TypeReg}
		if err := tw.WriteHeader(entry); err != nil {
			return "", "", err
		}
		if _, err := io.Copy(tw, tr); err != nil { //nolint:gosec // the machine's own registry
			return "", "", err
		}
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		return "", "", err
	}
	if _, err := io.Copy(io.Discard, whole); err != nil {
		return "", "", err
	}
	return hex.EncodeToString(fresh.Sum(nil)), "sha512-" + base64.StdEncoding.EncodeToString(old.Sum(nil)), nil
}
