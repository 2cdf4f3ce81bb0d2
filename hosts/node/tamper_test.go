package node_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
)

// part is one entry of a pack.
type part struct{ name, content string }

func tarOf(t testing.TB, parts ...part) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, p := range parts {
		if err := w.WriteHeader(&tar.Header{Name: p.name, Size: int64(len(p.content)), Mode: 0o644, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(p.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func compressed(t testing.TB, b []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(b, nil)
}

func plain(t testing.TB, b []byte) []byte {
	t.Helper()
	z, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	out, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// tarFields are the fields of a header by their first byte (ustar).
var tarFields = map[string]int{
	"name": 0, "mode": 100, "uid": 108, "gid": 116, "size": 124, "size's end": 134, "mtime": 136, "chksum": 148, "typeflag": 156,
	"linkname": 157, "magic": 257, "version": 263, "uname": 265, "gname": 297, "devmajor": 329, "prefix": 345, "rest": 500,
}

// rightSum makes a header's checksum right again.
func rightSum(block []byte) {
	copy(block[148:156], "        ")
	n := 0
	for _, c := range block {
		n += int(c)
	}
	copy(block[148:156], fmt.Sprintf("%06o\x00 ", n))
}

// A signed pack is changed at every kind of byte that it has: in each field of each of
// its headers, with the checksum left and made right, at the beginning, in the middle and
// at the end of each content, in the padding, in the end. The node takes nothing or the
// release that was signed.
func TestAPackThatIsChangedAtAnyKindOfByteIsRefusedOrStillTheRelease(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	us := newSigner(t)
	asked := allow(t, us.line(""))
	root, m := build(t, "v1.0.0", map[string]string{"app/a.rb": strings.Repeat("a line of ruby\n", 50), "bin/rails": "#!ruby", "lib/l": "-> ../app/a.rb"})
	signedAs(t, a, root, us.sign(node.SignatureNamespace, string(node.SignedText(headOf(t, root).Digest))))
	whole := pack(t, a, root, distinct(m)...).Bytes()
	bare := plain(t, whole)

	cases := map[string][]byte{"as it is": whole}
	for at, n := 0, 0; at+512 <= len(bare) && bare[at] != 0; n++ {
		h, err := tar.NewReader(bytes.NewReader(bare[at:])).Next()
		if err != nil {
			t.Fatal(err)
		}
		for field, offset := range tarFields {
			for _, flip := range []byte{0x01, 0x80} {
				b := bytes.Clone(bare)
				b[at+offset] ^= flip
				if flip == 0x01 {
					cases[fmt.Sprintf("%s, %s of the header", h.Name, field)] = compressed(t, b)
				}
				rightSum(b[at : at+512])
				cases[fmt.Sprintf("%s, %s of the header, %#x, its sum right", h.Name, field, flip)] = compressed(t, b)
			}
		}
		size := int(h.Size)
		padded := (size + 511) / 512 * 512
		for place, offset := range map[string]int{"beginning": 0, "quarter": size / 4, "middle": size / 2, "end": size - 1, "padding": size} {
			if offset < 0 || offset >= padded {
				continue
			}
			b := bytes.Clone(bare)
			b[at+512+offset] ^= 0x01
			cases[fmt.Sprintf("%s, %s of the content", h.Name, place)] = compressed(t, b)
		}
		cases[h.Name+" left out"] = compressed(t, slices.Concat(bare[:at], bare[at+512+padded:]))
		cases[h.Name+" twice"] = compressed(t, slices.Concat(bare[:at+512+padded], bare[at:]))
		cases[h.Name+" cut before it"] = compressed(t, bare[:at])
		cases[h.Name+" cut in its header"] = compressed(t, bare[:at+100])
		cases[h.Name+" cut in its content"] = compressed(t, bare[:at+512+size/2])
		at += 512 + padded
	}
	cases["more behind it"] = compressed(t, append(bytes.Clone(bare[:len(bare)-1024]), tarOf(t, part{"99", "more"})...))
	for i := range len(whole) / 7 {
		b := bytes.Clone(whole)
		b[i*7] ^= 0x10
		cases[fmt.Sprintf("byte %d as it is sent", i*7)] = b
	}
	taken := 0
	for name, pack := range cases {
		home := t.TempDir()
		if err := os.Mkdir(filepath.Join(home, "releases"), 0o755); err != nil {
			t.Fatal(err)
		}
		in := putIn(t, home, root)
		in.Signed = asked
		_, err := a.PlacePut(t.Context(), in, bytes.NewReader(pack), nil)
		left, readErr := os.ReadDir(filepath.Join(home, "releases"))
		if readErr != nil {
			t.Fatal(readErr)
		}
		if err != nil {
			// What arrived whole before the pack ended may stay for the next one.
			left = slices.DeleteFunc(left, func(d fs.DirEntry) bool { return d.Name() == ".refit-tmp-arrived-v1.0.0" })
			if len(left) > 0 || name == "as it is" {
				t.Errorf("%s: %v, and left %v", name, err, left)
			}
			continue
		}
		taken++
		v, err := a.PlaceVerify(t.Context(), node.VerifyIn{Home: home, Release: "v1.0.0", Digest: in.Digest, Signed: asked, Links: in.Links, Writable: []string{"tmp"}}, nil)
		if err != nil || len(v.Differences) > 0 || v.Unsigned != "" {
			t.Errorf("%s: it was taken, and is %+v, %v", name, v, err)
		}
	}
	// Modes, owners and times in a header say nothing, so some changes change nothing.
	t.Logf("%d packs, %d of them taken", len(cases), taken)
	if taken > len(cases)/2 || len(cases) < 350 {
		t.Errorf("%d packs, %d of them taken", len(cases), taken)
	}
}

// around lists all below a directory, but for what lies in the release, or arrived for it.
func around(t testing.TB, base, release string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(base, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if p == release || p == filepath.Join(filepath.Dir(release), ".refit-tmp-arrived-"+filepath.Base(release)) {
			return filepath.SkipDir
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		out[p] = fi.Mode().String()
		if d.Type().IsRegular() {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			out[p] += string(b)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// FuzzAPackWritesNowhereButIntoItsRelease gives a node manifests and packs of anybody's,
// under the digest that they have.
func FuzzAPackWritesNowhereButIntoItsRelease(f *testing.F) {
	const content = "content"
	h := sha256.Sum256([]byte(content))
	entry := `,"sha256":"` + hex.EncodeToString(h[:]) + `","size":7`
	for _, files := range []string{
		`{"path":"a","mode":420` + entry + `}`,
		`{"path":"../../x","mode":420` + entry + `}`,
		`{"path":"a","link":"../../../../canary"},{"path":"a/x","mode":420` + entry + `}`,
		`{"path":"a","link":"/tmp"},{"path":"b","link":"a/.."}`,
		`{"path":".refit","mode":493,"dir":true},{"path":".refit/placed.json","mode":420` + entry + `}`,
		`{"path":"log","mode":420` + entry + `}`,
		`{"path":"log","link":"../../../"},{"path":"tmp","link":"../../.."}`,
		`{"path":"tmp","mode":493,"dir":true},{"path":"tmp/x","mode":420` + entry + `}`,
	} {
		f.Add(`{"format":1,"release":"v1.0.0","commit":"","tree":"","os":"","arch":"","ruby":"","node":"","built":"0001-01-01T00:00:00Z","files":[`+files+`]}`, []byte("[0]"), "0", []byte(content))
	}
	f.Add(`{}`, []byte("[1,0]"), "../x", []byte("other"))
	f.Fuzz(func(t *testing.T, manifest string, indexes []byte, name string, content []byte) {
		notPlain := func(r rune) bool { return r <= ' ' || r > '~' } // no name that this form of tar can hold
		if len(name) > 90 || name == "" || strings.ContainsFunc(name, notPlain) || len(manifest)+len(indexes)+len(content) > 1<<16 {
			return
		}
		a, _ := hoststest.NewNode(t, nil)
		base := t.TempDir()
		home := filepath.Join(base, "one", "two", "home")
		release := filepath.Join(home, "releases", "v1.0.0")
		for p, text := range map[string]string{"canary": "sings", "one/canary": "sings", "one/two/canary": "sings", "one/two/home/canary": "sings", "one/two/home/releases/canary": "sings"} {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(base, p)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(base, p), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		before := around(t, base, release)
		h := sha256.Sum256([]byte(manifest))
		b := compressed(t, tarOf(t, part{"manifest.json", manifest + "\n"}, part{"manifest.sig", ""}, part{"contents.json", `{"indexes":` + string(indexes) + "}"}, part{name, string(content)}))
		out, err := a.PlacePut(t.Context(), node.PutIn{
			Home: home, Release: "v1.0.0", Digest: hex.EncodeToString(h[:]), Links: map[string]string{"log": filepath.Join(base, "canary"), "public/system": "/nowhere"},
		}, bytes.NewReader(b), nil)
		if diff := cmp.Diff(before, around(t, base, release)); diff != "" {
			t.Errorf("it wrote elsewhere (%v):\n%s", err, diff)
		}
		_, statErr := os.Lstat(release)
		if err != nil && statErr == nil {
			t.Errorf("it was refused (%v) and lies there", err)
		}
		if err != nil {
			return
		}
		v, err := a.PlaceVerify(t.Context(), node.VerifyIn{Home: home, Release: "v1.0.0"}, nil)
		if err != nil || len(v.Differences) > 0 {
			t.Errorf("it was taken (%+v) and is not what its manifest says: %+v, %v", out, v, err)
		}
	})
}
