package node_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
)

// tree writes files: a name that ends with / is a directory, content that begins
// with "-> " a link.
func tree(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		p := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		switch {
		case err != nil:
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(p, 0o755)
		case strings.HasPrefix(content, "-> "):
			err = os.Symlink(content[3:], p)
		case strings.HasPrefix(name, "bin/"):
			err = os.WriteFile(p, []byte(content), 0o755) //nolint:gosec // a program
		default:
			err = os.WriteFile(p, []byte(content), 0o644) //nolint:gosec // a release's file
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func build(t *testing.T, release string, files map[string]string) (string, node.Manifest) {
	t.Helper()
	root := filepath.Join(t.TempDir(), release)
	tree(t, root, files)
	entries, err := node.Scan(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	m := node.Manifest{Format: node.ManifestFormat, Release: release, Commit: "c" + release, Files: entries}
	if _, err := m.Write(root); err != nil {
		t.Fatal(err)
	}
	return root, m
}

var v1 = map[string]string{
	"bin/rails": "#!ruby", "app/a.rb": "a", "app/same1.rb": "same", "app/same2.rb": "same", "config/empty/": "", "lib/l": "-> ../app/a.rb",
	"log/.keep": "keep", "public/packs/a-111.js": "js1", "public/packs/.vite/manifest.json": "m1", "public/packs/sw.js": "sw1", "tmp/cache/boot": "iseq",
	".refit/bin/ruby": "wrapper",
}

var v2 = map[string]string{
	"bin/rails": "#!ruby", "app/moved.rb": "a", "app/same1.rb": "same", "app/new.rb": "new", "config/empty/": "",
	"log/.keep": "keep", "public/packs/b-222.js": "js2", "public/packs/.vite/manifest.json": "m2", "public/packs/sw.js": "sw2", "tmp/cache/boot": "iseq2",
	".refit/bin/ruby": "wrapper",
}

// place does what a stage does: want, pack, put, and again with what put lacks.
func place(t *testing.T, a *node.Agent, home, root string) (node.WantOut, node.PutOut, error) {
	t.Helper()
	want, err := a.PlaceWant(t.Context(), wantIn(t, home, root), pack(t, a, root), nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := a.PlacePut(t.Context(), putIn(t, home, root), pack(t, a, root, want.Indexes...), nil)
	if len(out.Lacking) > 0 {
		all := append(slices.Clone(want.Indexes), out.Lacking...)
		slices.Sort(all)
		out, err = a.PlacePut(t.Context(), putIn(t, home, root), pack(t, a, root, all...), nil)
	}
	return want, out, err
}

func pack(t *testing.T, a *node.Agent, root string, indexes ...int) *bytes.Buffer {
	t.Helper()
	var pack bytes.Buffer
	if _, err := a.Pack(t.Context(), node.PackIn{Root: root, Digest: headOf(t, root).Digest, Indexes: indexes}, &pack, nil); err != nil {
		t.Fatal(err)
	}
	return &pack
}

func headOf(t *testing.T, root string) node.Head {
	t.Helper()
	_, head, err := node.ReadManifest(root)
	if err != nil {
		t.Fatal(err)
	}
	return head
}

func wantIn(t *testing.T, home, root string) node.WantIn {
	t.Helper()
	h := headOf(t, root)
	return node.WantIn{Home: home, Release: h.Release, Digest: h.Digest}
}

func putIn(t *testing.T, home, root string) node.PutIn {
	t.Helper()
	h := headOf(t, root)
	return node.PutIn{Home: home, Release: h.Release, Digest: h.Digest, Links: map[string]string{"log": "/var/log/shared", ".env.production": filepath.Join(home, ".env.production")}}
}

// regular are the places of the files in a manifest.
func regular(m node.Manifest) []int {
	var indexes []int
	for i, e := range m.Files {
		if e.Regular() {
			indexes = append(indexes, i)
		}
	}
	return indexes
}

func TestAPlacedReleaseIsTheBuiltOneAndTheNextSendsOnlyWhatIsNew(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	home := t.TempDir()
	root1, _ := build(t, "v1.0.0", v1)
	root2, m2 := build(t, "v2.0.0", v2)

	want, out, err := place(t, a, home, root1)
	if err != nil || out.Placed || out.Path != filepath.Join(home, "releases/v1.0.0") {
		t.Fatalf("got %+v, %v", out, err)
	}
	if len(want.Indexes) != 9 || out.Sent != 9 {
		t.Errorf("asked for %d files and got %d, want 9: one for each content", len(want.Indexes), out.Sent)
	}
	v, err := a.PlaceVerify(t.Context(), node.VerifyIn{Home: home, Release: "v1.0.0"}, nil)
	if err != nil || len(v.Differences) > 0 {
		t.Errorf("verify: %v, %v", v.Differences, err)
	}
	if link, err := os.Readlink(filepath.Join(out.Path, "log")); err != nil || link != "/var/log/shared" {
		t.Errorf("log is %q, %v", link, err)
	}

	want, out, err = place(t, a, home, root2)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range want.Indexes {
		names = append(names, m2.Files[i].Path)
	}
	if diff := cmp.Diff([]string{"app/new.rb", "public/packs/.vite/manifest.json", "public/packs/b-222.js", "public/packs/sw.js", "tmp/cache/boot"}, without(names, "log/.keep")); diff != "" {
		t.Errorf("asked for other files than the new ones:\n%s", diff)
	}
	if out.Linked == 0 || nlink(t, filepath.Join(out.Path, "app/moved.rb")) < 2 {
		t.Errorf("unchanged files are not linked: %+v", out)
	}

	_, out, err = place(t, a, home, root2)
	if err != nil || !out.Placed {
		t.Errorf("placing again: %+v, %v", out, err)
	}
}

func without(names []string, not string) []string {
	var out []string
	for _, n := range names {
		if n != not {
			out = append(out, n)
		}
	}
	return out
}

func nlink(t *testing.T, path string) uint64 {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return uint64(fi.Sys().(*syscall.Stat_t).Nlink) //nolint:unconvert // its type differs by architecture
}

func TestAHarmedFileOfAnotherReleaseIsToldAndThenNotUsed(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	home := t.TempDir()
	root1, _ := build(t, "v1.0.0", v1)
	if _, _, err := place(t, a, home, root1); err != nil {
		t.Fatal(err)
	}
	harmed := filepath.Join(home, "releases/v1.0.0/bin/rails")
	if err := os.WriteFile(harmed, []byte("#!evil"), 0o755); err != nil { //nolint:gosec // as it was
		t.Fatal(err)
	}
	root2, m2 := build(t, "v2.0.0", v2)
	want, err := a.PlaceWant(t.Context(), wantIn(t, home, root2), pack(t, a, root2), nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := a.PlacePut(t.Context(), putIn(t, home, root2), pack(t, a, root2, want.Indexes...), nil)
	if !errors.Is(err, node.ErrPayload) || len(out.Lacking) != 1 || m2.Files[out.Lacking[0]].Path != "bin/rails" || !strings.Contains(err.Error(), "bin/rails") {
		t.Errorf("put says %+v, %v", out, err)
	}
	if left, err := os.ReadDir(filepath.Join(home, "releases")); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
	if _, _, err := place(t, a, home, root2); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(home, "releases/v2.0.0/bin/rails")); err != nil || string(b) != "#!ruby" {
		t.Errorf("got %q, %v", b, err)
	}
	v, err := a.PlaceVerify(t.Context(), node.VerifyIn{Home: home, Release: "v1.0.0"}, nil)
	if err != nil || len(v.Differences) != 1 || v.Differences[0].Path != "bin/rails" {
		t.Errorf("verify found %v, %v", v.Differences, err)
	}
	// It is mended by placing it again, since it is not in use.
	if _, out, err := place(t, a, home, root1); err != nil || out.Placed {
		t.Errorf("placing again: %+v, %v", out, err)
	}
}

func TestAReleaseWithoutAManifestIsNotBelievedByTheNamesOfItsFiles(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	home := t.TempDir()
	tree(t, filepath.Join(home, "releases/v0.9.0"), map[string]string{"bin/rails": "#!ruby", "app/new.rb": "old"})
	root, m := build(t, "v2.0.0", v2)
	want, err := a.PlaceWant(t.Context(), wantIn(t, home, root), pack(t, a, root), nil)
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]bool{}
	for _, i := range want.Indexes {
		asked[m.Files[i].Path] = true
	}
	if !asked["app/new.rb"] || asked["bin/rails"] {
		t.Errorf("asked for %v: wanted app/new.rb, whose content differs, and not bin/rails", asked)
	}
	if _, out, err := place(t, a, home, root); err != nil || out.Linked+out.Copied == 0 {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestWhatAReleaseWritesToIsNoSourceOfFiles(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	home := t.TempDir()
	root1, _ := build(t, "v1.0.0", map[string]string{"app/a.rb": "a", "var/b": "bb"})
	in := putIn(t, home, root1)
	in.Writable = []string{"tmp", "var"}
	if _, err := a.PlacePut(t.Context(), in, pack(t, a, root1, 1, 3), nil); err != nil {
		t.Fatal(err)
	}
	root2, m2 := build(t, "v2.0.0", map[string]string{"app/a.rb": "a", "app/b": "bb"})
	want, err := a.PlaceWant(t.Context(), wantIn(t, home, root2), pack(t, a, root2), nil)
	if err != nil || len(want.Indexes) != 1 || m2.Files[want.Indexes[0]].Path != "app/b" {
		t.Errorf("got %+v, %v; wanted app/b alone", want, err)
	}
}

func TestAPackThatIsCutOrDamagedLeavesNothing(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	root, m := build(t, "v1.0.0", v1)
	indexes := regular(m)
	whole := pack(t, a, root, indexes...).Bytes()
	other, _ := build(t, "v2.0.0", v2)
	for name, pack := range map[string][]byte{
		"cut":                 whole[:len(whole)/2],
		"empty":               nil,
		"lacking a file":      pack(t, a, root, indexes[1:]...).Bytes(),
		"the manifest alone":  pack(t, a, root).Bytes(),
		"no pack at all":      []byte("hello"),
		"damaged content":     flipped(whole),
		"of another release":  pack(t, a, other).Bytes(),
		"without a manifest":  tarred(t, "0", "a"),
		"a cut manifest":      tarred(t, "manifest.json", `{"format":1,"rel`),
		"an endless manifest": tarred(t, "manifest.json", ""),
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			if err := os.Mkdir(filepath.Join(home, "releases"), 0o755); err != nil {
				t.Fatal(err)
			}
			_, err := a.PlacePut(t.Context(), putIn(t, home, root), bytes.NewReader(pack), nil)
			if !errors.Is(err, node.ErrPayload) {
				t.Errorf("got %v, want ErrPayload", err)
			}
			onlyArrived(t, home, "v1.0.0", m)
		})
	}
}

// onlyArrived holds the folder of releases to what may lie there when a placement has
// failed: verified contents that the next need not be sent. It returns how many.
func onlyArrived(t *testing.T, home, release string, m node.Manifest) int {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(home, "releases"))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, e := range m.Files {
		known[e.SHA256] = true
	}
	n := 0
	for _, d := range left {
		if d.Name() != ".refit-tmp-arrived-"+release {
			t.Errorf("left %s", d.Name())
			continue
		}
		files, err := os.ReadDir(filepath.Join(home, "releases", d.Name()))
		if err != nil || len(files) == 0 {
			t.Errorf("left %s, with %d files, %v", d.Name(), len(files), err)
		}
		for _, f := range files {
			b, err := os.ReadFile(filepath.Join(home, "releases", d.Name(), f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != f.Name() || !known[f.Name()] {
				t.Errorf("left %s, whose content is another", f.Name())
			}
			n++
		}
	}
	return n
}

// tarred is one entry, compressed. Without content it says that it has 200 GB.
func tarred(t *testing.T, name, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	h := &tar.Header{Name: name, Size: int64(len(content)), Mode: 0o644}
	if content == "" {
		h.Size = 200 << 30
	}
	err = w.WriteHeader(h)
	if err == nil {
		_, err = w.Write([]byte(content))
	}
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestAManifestOtherThanTheOneNamedIsRefusedBeforeAnythingIsLookedAt(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	home := t.TempDir()
	root, _ := build(t, "v1.0.0", v1)
	other, _ := build(t, "v2.0.0", v2)
	digest := wantIn(t, home, root)
	digest.Digest = headOf(t, other).Digest
	release := wantIn(t, home, root)
	release.Release = "v1.0.1"
	for name, in := range map[string]node.WantIn{"another digest": digest, "another release": release} {
		if _, err := a.PlaceWant(t.Context(), in, pack(t, a, root), nil); !errors.Is(err, node.ErrPayload) {
			t.Errorf("%s: got %v, want ErrPayload", name, err)
		}
	}
	if _, err := a.PlaceWant(t.Context(), wantIn(t, home, root), nil, nil); !errors.Is(err, node.ErrPayload) {
		t.Errorf("no pack: got %v, want ErrPayload", err)
	}
}

func TestAManifestOfTheRightDigestThatCouldNotBePlacedSafelyIsRefused(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	home := t.TempDir()
	const evil = `{"format":1,"release":"v1.0.0","files":[{"path":"../../etc/cron.d/x","dir":true}]}`
	pack := compressed(t, tarOf(t, part{"manifest.json", evil}, part{"manifest.sig", ""}))
	sum := sha256.Sum256([]byte(evil))
	digest := hex.EncodeToString(sum[:])
	if _, err := a.PlaceWant(t.Context(), node.WantIn{Home: home, Release: "v1.0.0", Digest: digest}, bytes.NewReader(pack), nil); err == nil || !strings.Contains(err.Error(), "not a clean relative path") {
		t.Errorf("want: got %v", err)
	}
	if _, err := a.PlacePut(t.Context(), node.PutIn{Home: home, Release: "v1.0.0", Digest: digest}, bytes.NewReader(pack), nil); err == nil || !strings.Contains(err.Error(), "not a clean relative path") {
		t.Errorf("put: got %v", err)
	}
	if left, err := os.ReadDir(home); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestTheManifestArrivesByteByByteAsTheBuilderWroteIt(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	home := t.TempDir()
	root, _ := build(t, "v1.0.0", v1)
	_, out, err := place(t, a, home, root)
	if err != nil {
		t.Fatal(err)
	}
	built, err1 := os.ReadFile(filepath.Join(root, ".refit/manifest.json"))
	arrived, err2 := os.ReadFile(filepath.Join(out.Path, ".refit/manifest.json"))
	if err := errors.Join(err1, err2); err != nil || !bytes.Equal(built, arrived) {
		t.Errorf("another manifest arrived: %v", err)
	}
	shown, err := a.Manifest(t.Context(), node.ManifestIn{Home: home, Release: "v1.0.0"})
	if diff := cmp.Diff(headOf(t, root), shown); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func flipped(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 0x40
	return b
}

func TestAReleaseBuiltAgainIsNotPackedUnderItsOldManifest(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	root, m := build(t, "v1.0.0", v1)
	in := node.PackIn{Root: root, Digest: headOf(t, root).Digest, Indexes: []int{0}}
	m.Commit = "another"
	if _, err := m.Write(root); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Pack(t.Context(), in, &bytes.Buffer{}, nil); !errors.Is(err, node.ErrPayload) {
		t.Errorf("got %v, want ErrPayload", err)
	}
}

func TestTheLiveReleaseIsNotReplaced(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	home := t.TempDir()
	root1, m1 := build(t, "v1.0.0", v1)
	if _, _, err := place(t, a, home, root1); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Switch(t.Context(), node.SwitchIn{Home: home, Release: "v1.0.0"}); err != nil {
		t.Fatal(err)
	}
	m1.Commit = "another"
	if _, err := m1.Write(root1); err != nil {
		t.Fatal(err)
	}
	if _, _, err := place(t, a, home, root1); !errors.Is(err, node.ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
}

func TestAFullDiskIsToldAndLeavesNoHalfRelease(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only root can mount a small disk: the error's code is tested elsewhere")
		return
	}
	a, _ := hoststest.NewNode(t, nil)
	home := t.TempDir()
	if err := syscall.Mount("tmpfs", home, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(home, 0); err != nil {
			t.Error(err)
		}
	})
	root, _ := build(t, "v1.0.0", map[string]string{"big": strings.Repeat("0123456789abcdef", 16<<10)})
	if err := os.Mkdir(filepath.Join(home, "releases"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, _, err := place(t, a, home, root); !errors.Is(err, node.ErrNoSpace) {
		t.Errorf("got %v, want ErrNoSpace", err)
	}
	if left, err := os.ReadDir(filepath.Join(home, "releases")); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestAManifestThatLeavesItsReleaseIsRefused(t *testing.T) {
	for _, path := range []string{"/etc/passwd", "../x", "a/../../x", "a//b", "", ".."} {
		m := node.Manifest{Format: 1, Release: "v1.0.0", Files: []node.Entry{{Path: path, Dir: true}}}
		if err := m.Check(); err == nil {
			t.Errorf("path %q was accepted", path)
		}
	}
	m := node.Manifest{Format: 1, Release: "v1.0.0", Files: []node.Entry{{Path: "a", Link: "/etc"}, {Path: "a/b", Dir: true}}}
	if err := m.Check(); err == nil {
		t.Error("a path below a link was accepted")
	}
	m = node.Manifest{Format: 2, Release: "v1.0.0"}
	if err := m.Check(); err == nil {
		t.Error("another format was accepted")
	}
}

func TestAPlacementThatIsEndedLeavesNothingAndCanBeRepeated(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	home := t.TempDir()
	root, _ := build(t, "v1.0.0", v1)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := a.PlacePut(ctx, putIn(t, home, root), readerFunc(func([]byte) (int, error) {
		cancel()
		return 0, context.Canceled
	}), nil)
	if err == nil {
		t.Fatal("an ended placement succeeded")
	}
	if _, _, err := place(t, a, home, root); err != nil {
		t.Errorf("repeated: %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
