package lab

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestHostsHaveNoRubyNoNodeAndNoCompiler(t *testing.T) {
	for _, p := range hostsRoot(nil).packages {
		for _, not := range []string{"ruby", "rails", "puma", "nodejs", "build-essential", "gcc", "ansible"} {
			if strings.HasPrefix(p, not) || strings.HasSuffix(p, "-dev") {
				t.Errorf("the hosts' root has %s", p)
			}
		}
	}
	workshop := workshopRoot([]string{"python3"})
	for _, p := range []string{"ruby", "ruby-build", "build-essential", "libjemalloc-dev", "systemd", "python3"} {
		if !slices.Contains(workshop.packages, p) {
			t.Errorf("the workshop lacks %s", p)
		}
	}
	if workshop.key() == hostsRoot([]string{"python3"}).key() {
		t.Error("both roots have one name")
	}
	if baseOf("uhura") != filepath.Join(runDir, "workshop") || baseOf("kirk") != filepath.Join(runDir, "base") {
		t.Errorf("uhura stands on %s, kirk on %s", baseOf("uhura"), baseOf("kirk"))
	}
}

func TestSourcePackagesComeFromWhereTheOthersCome(t *testing.T) {
	got := apt{"http://m/debian", "http://m/debian-security", "/k.gpg"}.ofSource()
	if got != "deb-src [signed-by=/k.gpg] http://m/debian trixie main" {
		t.Errorf("got %q", got)
	}
}

func TestTheVersionOfASourceStandsInItsName(t *testing.T) {
	for name, want := range map[string]string{
		"/usr/src/refit/ruby3.3_3.3.14.orig.tar.xz": "3.3.14", "ruby3.4_3.4.11.orig.tar.gz": "3.4.11",
		"": "", "ruby3.3_3.3.14-0+deb13u1.debian.tar.xz": "", "ruby3.3_3.3.14~rc1.orig.tar.xz": "", "ruby3.3_3.3.orig.tar.xz": "", "ruby.tar.xz": "",
	} {
		if got, err := sourceVersion(name); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestRubyBuildsRepositoryHoldsTheDefinitionAndIsTheSameEachTime(t *testing.T) {
	archive := []byte("an archive")
	sum := sha256.Sum256(archive)
	definition := rubyDefinition("3.3.14", archive)
	if want := `install_package "ruby-3.3.14" "https://cache.ruby-lang.org/pub/ruby/3.3/ruby-3.3.14.tar.gz#` + hex.EncodeToString(sum[:]) + "\" enable_shared standard\n"; definition != want {
		t.Errorf("the definition is %s", definition)
	}
	var commits []string
	for range 2 {
		dir := filepath.Join(t.TempDir(), "ruby-build.git")
		commit, err := rubyBuildRepository(t.Context(), dir, []byte("#!/bin/bash\n"), "3.3.14", definition)
		if err != nil {
			t.Fatal(err)
		}
		commits = append(commits, commit)
		for file, want := range map[string]string{"share/ruby-build/3.3.14": definition, "bin/ruby-build": "#!/bin/bash\n"} {
			if got, err := run(t.Context(), "git", "--git-dir", dir, "show", commit+":"+file); err != nil || got != want {
				t.Errorf("%s is %q, %v", file, got, err)
			}
		}
		if got, err := run(t.Context(), "git", "--git-dir", dir, "ls-tree", commit+":bin"); err != nil || !strings.HasPrefix(got, "100755 ") {
			t.Errorf("bin holds %q, %v", got, err)
		}
		left, err := os.ReadDir(filepath.Dir(dir))
		if err != nil || len(left) != 1 {
			t.Errorf("left %v, %v", left, err)
		}
	}
	if len(commits[0]) != 40 || commits[0] != commits[1] {
		t.Errorf("commits %v", commits)
	}
}

func TestAReleaseIsRepinnedWithinItsLineAlone(t *testing.T) {
	for pin, want := range map[string]string{"3.3.8\n": "3.3.14\n", "3.3.14\n": "3.3.14\n", "3.4.7\n": "3.4.7\n", "3.30.1\n": "3.30.1\n", "4.0.5\n": "4.0.5\n"} {
		dir := t.TempDir()
		file := filepath.Join(dir, ".ruby-version")
		if err := os.WriteFile(file, []byte(pin), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Repin("3.3.14")(dir); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(file); err != nil || string(b) != want {
			t.Errorf("%q became %q, %v", pin, b, err)
		}
	}
	if err := Repin("3.3.14")(t.TempDir()); err == nil {
		t.Error("a release without a pin was repinned")
	}
}

// nodeTgz is a package as the npm registry has Node's binaries.
func nodeTgz(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for name, text := range map[string]string{"package/package.json": "{}", "package/bin/node": "elf", "package/include/node/node.h": "h"} {
		err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text)), Typeflag: tar.TypeReg})
		if err == nil {
			_, err = io.WriteString(w, text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// nodeServers are a registry that has Node 20.19.2 and the mirror before it.
func nodeServers(t *testing.T, tgz []byte, integrity string) (mirror *httptest.Server, platform string) {
	t.Helper()
	platform = newNodeMirror(nil, "").platform
	name := "node-" + platform
	var registry *httptest.Server
	registry = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/" + name:
			fmt.Fprintf(w, `{"versions":{"20.19.2":{"dist":{"integrity":%q,"tarball":"%s/%s/-/%s-20.19.2.tgz"}}}}`, integrity, registry.URL, name, name)
		case "/" + name + "/-/" + name + "-20.19.2.tgz":
			if _, err := w.Write(tgz); err != nil {
				t.Error(err)
			}
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(registry.Close)
	n, err := newNpm(registry.URL, filepath.Join(t.TempDir(), "npm"), "")
	if err != nil {
		t.Fatal(err)
	}
	mirror = httptest.NewServer(newNodeMirror(n, filepath.Join(t.TempDir(), "node")))
	t.Cleanup(mirror.Close)
	return mirror, platform
}

func integrityOf(b []byte) string {
	sum := sha512.Sum512(b)
	return "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
}

func fetched(t *testing.T, url string) (int, []byte) {
	t.Helper()
	resp, err := http.Get(url) //nolint:noctx // a server of the test's own
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, b
}

func TestNodeIsServedAsItsOwnSiteServesIt(t *testing.T) {
	tgz := nodeTgz(t)
	mirror, platform := nodeServers(t, tgz, integrityOf(tgz))
	_, b := fetched(t, mirror.URL+"/index.json")
	var index []nodeListed
	if err := json.Unmarshal(b, &index); err != nil || len(index) != 1 || index[0].Version != "v20.19.2" || !slices.Equal(index[0].Files, []string{platform}) {
		t.Errorf("index %s, %v", b, err)
	}
	top := "node-v20.19.2-" + platform
	code, archive := fetched(t, mirror.URL+"/v20.19.2/"+top+".tar.gz")
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, archive)
	}
	sum := sha256.Sum256(archive)
	if _, sums := fetched(t, mirror.URL+"/v20.19.2/SHASUMS256.txt"); string(sums) != hex.EncodeToString(sum[:])+"  "+top+".tar.gz\n" {
		t.Errorf("sums %s", sums)
	}
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{top + "/bin/node", top + "/include/node/node.h"}) {
		t.Errorf("it holds %v", names)
	}
}

func TestANodeThatTheRegistryDoesNotVouchForIsNotServed(t *testing.T) {
	mirror, platform := nodeServers(t, nodeTgz(t), integrityOf([]byte("another")))
	for path, want := range map[string]int{
		"/v20.19.2/SHASUMS256.txt":                        http.StatusBadGateway,
		"/v20.19.2/node-v20.19.2-" + platform + ".tar.gz": http.StatusBadGateway,
		"/v20.19.3/SHASUMS256.txt":                        http.StatusNotFound,
		"/v20.19.2/../../etc/passwd":                      http.StatusNotFound,
		"/v20.19.2/":                                      http.StatusNotFound,
		"/v20.19.2/node-v20.19.2-win-x64.zip":             http.StatusNotFound,
	} {
		if code, b := fetched(t, mirror.URL+path); code != want {
			t.Errorf("%s: %d %s", path, code, b)
		}
	}
}
