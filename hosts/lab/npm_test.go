package lab

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// registry is a small npm registry that counts what it is asked.
func registry(t *testing.T) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	var asked atomic.Int32
	mux := http.NewServeMux()
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch r.URL.EscapedPath() {
		case "/left-pad":
			fmt.Fprintf(w, `{"name":"left-pad","dist-tags":{"latest":"1.3.0"},"versions":{"1.3.0":{"name":"left-pad","dist":{"tarball":"%s/files/left-pad-1.3.0.tgz","integrity":"sha512-x"}}}}`, s.URL)
		case "/@scope%2fthing":
			fmt.Fprintf(w, `{"name":"@scope/thing","versions":{"2.0.0":{"dist":{"tarball":"%s/@scope/thing/-/thing-2.0.0.tgz"}}}}`, s.URL)
		case "/files/left-pad-1.3.0.tgz":
			fmt.Fprint(w, "left-pad's bytes")
		case "/@scope/thing/-/thing-2.0.0.tgz":
			fmt.Fprint(w, "thing's bytes")
		default:
			http.NotFound(w, r)
		}
	})
	return s, &asked
}

func mirror(t *testing.T, from, cache, overlay string) *httptest.Server {
	t.Helper()
	n, err := newNpm(from, cache, overlay)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(n)
	t.Cleanup(s.Close)
	return s
}

func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func tarballOf(t *testing.T, metadata, version string) string {
	t.Helper()
	var doc struct {
		Versions map[string]struct {
			Dist struct{ Tarball, Integrity string }
		}
	}
	if err := json.Unmarshal([]byte(metadata), &doc); err != nil {
		t.Fatalf("%v in %s", err, metadata)
	}
	return doc.Versions[version].Dist.Tarball
}

func TestTarballAddressesPointToTheMirrorUnderTheirUsualPath(t *testing.T) {
	from, _ := registry(t)
	m := mirror(t, from.URL, t.TempDir(), "")
	_, b := fetch(t, m.URL+"/left-pad")
	if got, want := tarballOf(t, b, "1.3.0"), m.URL+"/left-pad/-/left-pad-1.3.0.tgz"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, path := range []string{"/@scope%2fthing", "/@scope/thing"} {
		_, b = fetch(t, m.URL+path)
		if got, want := tarballOf(t, b, "2.0.0"), m.URL+"/@scope/thing/-/thing-2.0.0.tgz"; got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}

func TestATarballIsFetchedOnceAndThenServedWithoutTheRegistry(t *testing.T) {
	from, asked := registry(t)
	cache := t.TempDir()
	m := mirror(t, from.URL, cache, "")
	for _, c := range [][2]string{{"/left-pad/-/left-pad-1.3.0.tgz", "left-pad's bytes"}, {"/@scope/thing/-/thing-2.0.0.tgz", "thing's bytes"}} {
		if code, b := fetch(t, m.URL+c[0]); code != 200 || b != c[1] {
			t.Errorf("%s: got %d %s", c[0], code, b)
		}
	}
	before := asked.Load()
	from.Close()
	again := mirror(t, from.URL, cache, "")
	if code, b := fetch(t, again.URL+"/left-pad/-/left-pad-1.3.0.tgz"); code != 200 || b != "left-pad's bytes" {
		t.Errorf("without the registry: got %d %s", code, b)
	}
	if code, _ := fetch(t, again.URL+"/left-pad"); code != 200 {
		t.Errorf("metadata without the registry: got %d", code)
	}
	if asked.Load() != before {
		t.Errorf("the registry was asked %d times more", asked.Load()-before)
	}
}

func TestWhatTheRegistryLacksIsNotFoundAndNothingIsKept(t *testing.T) {
	from, _ := registry(t)
	cache := t.TempDir()
	m := mirror(t, from.URL, cache, "")
	for _, path := range []string{"/nothing", "/nothing/-/nothing-1.0.0.tgz", "/left-pad/-/left-pad-9.9.9.tgz", "/", "/-/ping", "/../etc/-/passwd"} {
		if code, b := fetch(t, m.URL+path); code != http.StatusNotFound {
			t.Errorf("%s: got %d %s", path, code, b)
		}
	}
	err := filepath.WalkDir(cache, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasSuffix(path, "left-pad.json") {
			t.Errorf("kept %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestADeadRegistryIsABadGateway(t *testing.T) {
	from, _ := registry(t)
	from.Close()
	m := mirror(t, from.URL, t.TempDir(), "")
	if code, _ := fetch(t, m.URL+"/left-pad"); code != http.StatusBadGateway {
		t.Errorf("got %d", code)
	}
}

func TestTheMirrorTakesNothing(t *testing.T) {
	from, _ := registry(t)
	m := mirror(t, from.URL, t.TempDir(), "")
	resp, err := http.Post(m.URL+"/left-pad", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("got %s", resp.Status)
	}
}

func overlayWith(t *testing.T, file, manifest string) string {
	t.Helper()
	dir := t.TempDir()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: "package/package.json", Mode: 0o644, Size: int64(len(manifest))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(manifest)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, file), b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestTheOverlayIsAnsweredFirstAndAddsItsVersions(t *testing.T) {
	from, _ := registry(t)
	over := overlayWith(t, "left-pad-1.4.0.tgz", `{"name":"left-pad","version":"1.4.0","dependencies":{"a":"1"}}`)
	m := mirror(t, from.URL, t.TempDir(), over)
	_, b := fetch(t, m.URL+"/left-pad")
	if tarballOf(t, b, "1.3.0") == "" || !strings.Contains(b, `"integrity":"sha512-`) {
		t.Errorf("got %s", b)
	}
	code, got := fetch(t, tarballOf(t, b, "1.4.0"))
	want, err := os.ReadFile(filepath.Join(over, "left-pad-1.4.0.tgz"))
	if err != nil || code != 200 || got != string(want) {
		t.Errorf("got %d, %d bytes, %v; want %d bytes", code, len(got), err, len(want))
	}
}

func TestTheOverlayServesPackagesThatTheRegistryLacks(t *testing.T) {
	from, _ := registry(t)
	over := overlayWith(t, "scope-only-1.0.0.tgz", `{"name":"@scope/only","version":"1.0.0"}`)
	m := mirror(t, from.URL, t.TempDir(), over)
	_, b := fetch(t, m.URL+"/@scope%2fonly")
	if code, _ := fetch(t, tarballOf(t, b, "1.0.0")); code != 200 {
		t.Errorf("got %d for %s", code, b)
	}
}

func TestAnOverlayFileWithoutANameIsRefused(t *testing.T) {
	if _, err := newNpm("http://127.0.0.1:1", t.TempDir(), overlayWith(t, "x.tgz", `{}`)); err == nil {
		t.Error("it was taken")
	}
}
