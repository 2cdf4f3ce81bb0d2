package node_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
)

// words is text that cannot be made much smaller, the same for the same seed.
func words(seed uint64, n int) string {
	r := rand.New(rand.NewPCG(seed, 7)) //nolint:gosec // of no secret
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "%x ", r.Uint32())
	}
	return b.String()[:n]
}

// edited is text with a word changed here and there.
func edited(text string) string {
	b := []byte(text)
	for i := 1000; i < len(b); i += 9000 {
		copy(b[i:], "EDITED")
	}
	return string(b)
}

// Two releases of which the later is an edited earlier: one file in its place, hashed
// assets and a gem under new names, a large one, one that is writable, one that is new.
func twoReleases() (older, newer map[string]string) {
	app, script, gem, large := words(1, 60_000), words(2, 80_000), words(3, 50_000), words(4, 3<<20)
	older = map[string]string{
		"app/models/a.rb": app, "public/packs/index-1a2B_c3d.js": script, "public/packs/index-zzzzzzzz.js": words(5, 900),
		"vendor/bundle/ruby/3.3.0/gems/rack-3.1.2/lib/rack.rb": gem, "vendor/large.bin": large, "tmp/cache/boot": words(6, 4000), "same": "same", "gone": "gone",
	}
	newer = map[string]string{
		"app/models/a.rb": edited(app), "public/packs/index-9z8Y-x7w.js": edited(script), "public/packs/index-yyyyyyyy.js": words(5, 900) + "more",
		"vendor/bundle/ruby/3.4.0/gems/rack-3.1.3/lib/rack.rb": edited(gem), "vendor/large.bin": edited(large), "tmp/cache/boot": words(6, 4000) + "x", "same": "same", "app/new.rb": words(9, 500),
	}
	return older, newer
}

func packFrom(t *testing.T, a *node.Agent, root string, base *node.Base, indexes ...int) *bytes.Buffer {
	t.Helper()
	var pack bytes.Buffer
	if _, err := a.Pack(t.Context(), node.PackIn{Root: root, Digest: headOf(t, root).Digest, Indexes: indexes, Base: base}, &pack, nil); err != nil {
		t.Fatal(err)
	}
	return &pack
}

func baseOf(t *testing.T, root string) *node.Base {
	t.Helper()
	h := headOf(t, root)
	return &node.Base{Root: root, Release: h.Release, Digest: h.Digest, Without: []string{"tmp", "log"}}
}

// onOlder makes two releases and places the older.
func onOlder(t *testing.T) (a *node.Agent, home, root1, root2 string, m1, m2 node.Manifest) {
	t.Helper()
	a, _ = hoststest.NewNode(t, nil)
	home = t.TempDir()
	older, newer := twoReleases()
	root1, m1 = build(t, "v1.0.0", older)
	root2, m2 = build(t, "v2.0.0", newer)
	if _, _, err := place(t, a, home, root1); err != nil {
		t.Fatal(err)
	}
	return a, home, root1, root2, m1, m2
}

func sound(t *testing.T, a *node.Agent, home, release string) {
	t.Helper()
	v, err := a.PlaceVerify(t.Context(), node.VerifyIn{Home: home, Release: release}, nil)
	if err != nil || len(v.Differences) > 0 {
		t.Errorf("%s: %v, %v", release, v.Differences, err)
	}
}

func TestAPackThatBeginsFromAnOlderReleasePlacesTheSameWithFewerBytes(t *testing.T) {
	a, home, root1, root2, _, m2 := onOlder(t)
	when := time.Date(2026, 11, 1, 2, 3, 4, 0, time.UTC)
	if err := os.Chtimes(filepath.Join(root2, "app/models/a.rb"), when, when); err != nil {
		t.Fatal(err)
	}
	base := baseOf(t, root1)
	want, err := a.PlaceWant(t.Context(), wantIn(t, home, root2), packFrom(t, a, root2, base), nil)
	if err != nil || len(want.Indexes) != 7 {
		t.Fatalf("wants %v, %v", want.Indexes, err)
	}
	whole, patched := pack(t, a, root2, want.Indexes...).Len(), packFrom(t, a, root2, base, want.Indexes...)
	if patched.Len() > whole/20 {
		t.Errorf("the pack takes %d bytes, and %d without a base", patched.Len(), whole)
	}
	out, err := a.PlacePut(t.Context(), putIn(t, home, root2), patched, nil)
	if err != nil || out.Sent != 7 {
		t.Fatalf("got %+v, %v", out, err)
	}
	sound(t, a, home, "v2.0.0")
	sound(t, a, home, "v1.0.0")
	built, err1 := os.ReadFile(filepath.Join(root2, ".refit/manifest.json"))
	arrived, err2 := os.ReadFile(filepath.Join(out.Path, ".refit/manifest.json"))
	if err := errors.Join(err1, err2); err != nil || !bytes.Equal(built, arrived) {
		t.Errorf("another manifest arrived: %v", err)
	}
	if fi, err := os.Stat(filepath.Join(out.Path, "app/models/a.rb")); err != nil || !fi.ModTime().Equal(when) {
		t.Errorf("its time is %v, %v", fi.ModTime(), err)
	}
	if left, err := os.ReadDir(filepath.Join(home, "releases")); err != nil || len(left) != 2 {
		t.Errorf("left %v, %v", left, err)
	}
	if n := len(regular(m2)); n != 8 {
		t.Errorf("%d files", n)
	}
}

func TestAManifestTravelsAsWhatDiffersFromAnother(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	home := t.TempDir()
	files := map[string]string{}
	for i := range 2000 {
		files[fmt.Sprintf("lib/part%d/file%d.rb", i%50, i)] = fmt.Sprint(i)
	}
	root1, _ := build(t, "v1.0.0", files)
	if _, _, err := place(t, a, home, root1); err != nil {
		t.Fatal(err)
	}
	next := maps.Clone(files)
	next["lib/part3/file1003.rb"] = "edited"
	next["lib/part0/new.rb"] = "new"
	next["zz.rb"] = "last"
	delete(next, "lib/part7/file7.rb")
	root2, _ := build(t, "v2.0.0", next)
	whole, patch := pack(t, a, root2).Len(), packFrom(t, a, root2, baseOf(t, root1))
	if patch.Len() > whole/20 {
		t.Errorf("it takes %d bytes, whole %d", patch.Len(), whole)
	}
	want, err := a.PlaceWant(t.Context(), wantIn(t, home, root2), patch, nil)
	if err != nil || len(want.Indexes) != 3 {
		t.Errorf("wants %v, %v", want.Indexes, err)
	}
}

func TestAManifestThatAnotherHandWroteIsSentWholeAndRefused(t *testing.T) {
	a, home, root1, root2, _, _ := onOlder(t)
	file := filepath.Join(root2, ".refit/manifest.json")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	spaced := strings.ReplaceAll(string(b), `{"path":`, `{ "path":`)
	if err := os.WriteFile(file, []byte(spaced), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = a.PlaceWant(t.Context(), wantIn(t, home, root2), packFrom(t, a, root2, baseOf(t, root1)), nil)
	if !errors.Is(err, node.ErrPayload) || !strings.Contains(err.Error(), "is not written as refit writes one") {
		t.Errorf("got %v", err)
	}
}

func TestAPackThatBeginsFromAReleaseThatIsNotHereIsRefusedAsThat(t *testing.T) {
	a, home, root1, root2, m1, m2 := onOlder(t)
	pack1 := packFrom(t, a, root2, baseOf(t, root1))
	pack2 := packFrom(t, a, root2, baseOf(t, root1), regular(m2)[0])
	for what, spoil := range map[string]func(dir string) error{
		"gone":            func(dir string) error { return os.RemoveAll(dir) },
		"built again":     func(dir string) error { m1.Commit = "another"; _, err := m1.Write(dir); return err },
		"a cut manifest":  func(dir string) error { return os.Truncate(filepath.Join(dir, ".refit/manifest.json"), 100) },
		"of another name": func(dir string) error { m1.Release = "v1.0.1"; _, err := m1.Write(dir); return err },
	} {
		other := t.TempDir()
		if err := os.CopyFS(other, os.DirFS(home)); err != nil {
			t.Fatal(err)
		}
		if err := spoil(filepath.Join(other, "releases/v1.0.0")); err != nil {
			t.Fatal(err)
		}
		if _, err := a.PlaceWant(t.Context(), wantIn(t, other, root2), bytes.NewReader(pack1.Bytes()), nil); !errors.Is(err, node.ErrBase) {
			t.Errorf("%s: want: got %v, want ErrBase", what, err)
		}
		if _, err := a.PlacePut(t.Context(), putIn(t, other, root2), bytes.NewReader(pack2.Bytes()), nil); !errors.Is(err, node.ErrBase) {
			t.Errorf("%s: put: got %v, want ErrBase", what, err)
		}
		if left, err := filepath.Glob(filepath.Join(other, "releases/*v2*")); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", what, left, err)
		}
	}
}

func TestAHarmedFileFromWhichAPackBeginsIsToldBeforeThePackIsRead(t *testing.T) {
	a, home, root1, root2, _, m2 := onOlder(t)
	if err := os.WriteFile(filepath.Join(home, "releases/v1.0.0/app/models/a.rb"), []byte(words(8, 60_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	base := baseOf(t, root1)
	want, err := a.PlaceWant(t.Context(), wantIn(t, home, root2), packFrom(t, a, root2, base), nil)
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	source := packFrom(t, a, root2, base, want.Indexes...)
	all := source.Len()
	out, err := a.PlacePut(t.Context(), putIn(t, home, root2), readerFunc(func(b []byte) (int, error) {
		n, err := source.Read(b[:min(len(b), 512)])
		read += n
		return n, err
	}), nil)
	if !errors.Is(err, node.ErrPayload) || len(out.Lacking) == 0 {
		t.Fatalf("got %+v, %v", out, err)
	}
	found := false
	for _, i := range out.Lacking {
		found = found || m2.Files[i].Path == "app/models/a.rb"
	}
	if !found {
		t.Errorf("it lacks %v, and not app/models/a.rb", out.Lacking)
	}
	t.Logf("%d of %d bytes were read", read, all)
	if n := onlyArrivedBeside(t, home); n != 0 {
		t.Errorf("%d files arrived", n)
	}
	if _, err := a.PlacePut(t.Context(), putIn(t, home, root2), pack(t, a, root2, regular(m2)...), nil); err != nil {
		t.Fatal(err)
	}
	sound(t, a, home, "v2.0.0")
}

// onlyArrivedBeside counts what arrived of v2.0.0.
func onlyArrivedBeside(t *testing.T, home string) int {
	t.Helper()
	files, err := os.ReadDir(filepath.Join(home, "releases/.refit-tmp-arrived-v2.0.0"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return len(files)
}

func TestAFileHarmedOnTheBuilderIsNoBeginning(t *testing.T) {
	a, home, root1, root2, _, _ := onOlder(t)
	if err := os.WriteFile(filepath.Join(root1, "app/models/a.rb"), []byte(words(8, 60_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	base := baseOf(t, root1)
	want, err := a.PlaceWant(t.Context(), wantIn(t, home, root2), packFrom(t, a, root2, base), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.PlacePut(t.Context(), putIn(t, home, root2), packFrom(t, a, root2, base, want.Indexes...), nil); err != nil {
		t.Error(err)
	}
	sound(t, a, home, "v2.0.0")
}

func TestAPackThatIsCutOrFlippedAnywhereNeverMakesARelease(t *testing.T) {
	a, home, root1, root2, _, m2 := onOlder(t)
	base := baseOf(t, root1)
	whole := packFrom(t, a, root2, base, regular(m2)[:7]...).Bytes()
	try := func(what string, bad []byte) {
		t.Helper()
		out, err := a.PlacePut(t.Context(), putIn(t, home, root2), bytes.NewReader(bad), nil)
		switch {
		case err == nil: // what was flipped had no meaning: the result is what counts
			sound(t, a, home, "v2.0.0")
			if err := os.RemoveAll(out.Path); err != nil {
				t.Fatal(err)
			}
		default:
			if _, err := os.Stat(filepath.Join(home, "releases/v2.0.0")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: there is a release all the same: %v", what, err)
			}
		}
		sound(t, a, home, "v1.0.0")
	}
	step := max(1, len(whole)/40)
	for i := 0; i < len(whole); i += step {
		try(fmt.Sprintf("cut at %d", i), whole[:i])
		bad := bytes.Clone(whole)
		bad[i] ^= 0x21
		try(fmt.Sprintf("flipped at %d", i), bad)
	}
}

func TestWhatArrivedBeforeACutIsNotSentAgain(t *testing.T) {
	a, home, root1, _, _, _ := onOlder(t)
	// More than what the compression holds back until it has a block.
	_, newer := twoReleases()
	newer["lib/added.rb"] = words(11, 600_000)
	root2, _ := build(t, "v2.0.0", newer)
	for what, base := range map[string]*node.Base{"whole": nil, "from a base": baseOf(t, root1)} {
		want, err := a.PlaceWant(t.Context(), wantIn(t, home, root2), packFrom(t, a, root2, base), nil)
		if err != nil {
			t.Fatal(err)
		}
		whole := packFrom(t, a, root2, base, want.Indexes...).Bytes()
		_, err = a.PlacePut(t.Context(), putIn(t, home, root2), io.LimitReader(bytes.NewReader(whole), int64(len(whole)-len(whole)/20)), nil)
		if !errors.Is(err, node.ErrPayload) {
			t.Fatalf("%s: got %v, want ErrPayload", what, err)
		}
		arrived := onlyArrivedBeside(t, home)
		again, err := a.PlaceWant(t.Context(), wantIn(t, home, root2), packFrom(t, a, root2, base), nil)
		if err != nil || arrived == 0 || len(again.Indexes) != len(want.Indexes)-arrived {
			t.Errorf("%s: %d arrived, and after %d files it wants %d more, %v", what, arrived, len(want.Indexes), len(again.Indexes), err)
		}
		out, err := a.PlacePut(t.Context(), putIn(t, home, root2), packFrom(t, a, root2, base, again.Indexes...), nil)
		if err != nil || out.Sent != len(again.Indexes) {
			t.Errorf("%s: then %+v, %v", what, out, err)
		}
		sound(t, a, home, "v2.0.0")
		if n := onlyArrivedBeside(t, home); n > 0 {
			t.Errorf("%s: %d files stay though the release is whole", what, n)
		}
		if err := os.RemoveAll(filepath.Join(home, "releases/v2.0.0")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatArrivedAndWasHarmedSinceIsSentAgain(t *testing.T) {
	a, home, _, root2, _, m2 := onOlder(t)
	want, err := a.PlaceWant(t.Context(), wantIn(t, home, root2), pack(t, a, root2), nil)
	if err != nil {
		t.Fatal(err)
	}
	whole := pack(t, a, root2, want.Indexes...).Bytes()
	if _, err = a.PlacePut(t.Context(), putIn(t, home, root2), bytes.NewReader(whole[:len(whole)-5000]), nil); err == nil {
		t.Fatal("a cut pack was placed")
	}
	dir := filepath.Join(home, "releases/.refit-tmp-arrived-v2.0.0")
	files, err := os.ReadDir(dir)
	if err != nil || len(files) == 0 {
		t.Fatalf("nothing arrived: %v", err)
	}
	for _, f := range files { // as after a power cut: its size and zeros
		fi, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, f.Name()), make([]byte, fi.Size()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again, err := a.PlaceWant(t.Context(), wantIn(t, home, root2), pack(t, a, root2), nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := a.PlacePut(t.Context(), putIn(t, home, root2), pack(t, a, root2, again.Indexes...), nil)
	if !errors.Is(err, node.ErrPayload) || len(out.Lacking) != len(files) {
		t.Fatalf("got %+v, %v; %d files are harmed", out, err, len(files))
	}
	if _, err := a.PlacePut(t.Context(), putIn(t, home, root2), pack(t, a, root2, regular(m2)...), nil); err != nil {
		t.Fatal(err)
	}
	sound(t, a, home, "v2.0.0")
}

func TestPruningDropsWhatArrivedOfReleasesThatWereNeverPlaced(t *testing.T) {
	a, home, _, root2, _, m2 := onOlder(t)
	whole := pack(t, a, root2, regular(m2)...).Bytes()
	if _, err := a.PlacePut(t.Context(), putIn(t, home, root2), bytes.NewReader(whole[:len(whole)-5000]), nil); err == nil {
		t.Fatal("a cut pack was placed")
	}
	if onlyArrivedBeside(t, home) == 0 {
		t.Fatal("nothing arrived")
	}
	if _, err := a.Prune(t.Context(), node.PruneIn{Home: home, Keep: []string{"v1.0.0"}, Dry: true}, nil); err != nil || onlyArrivedBeside(t, home) == 0 {
		t.Errorf("a look removed it: %v", err)
	}
	if _, err := a.Prune(t.Context(), node.PruneIn{Home: home, Keep: []string{"v1.0.0"}}, nil); err != nil || onlyArrivedBeside(t, home) > 0 {
		t.Errorf("it stays: %v", err)
	}
}

func TestASealedReleaseIsVerifiedWithItsTemporaryFiles(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	home := t.TempDir()
	root, m := build(t, "v1.0.0", v1)
	h := headOf(t, root)
	in := node.PutIn{Home: home, Release: h.Release, Digest: h.Digest, Sealed: true}
	var all bytes.Buffer
	if _, err := a.Pack(t.Context(), node.PackIn{Root: root, Digest: h.Digest, All: true}, &all, nil); err != nil {
		t.Fatal(err)
	}
	out, err := a.PlacePut(t.Context(), in, &all, nil)
	if err != nil || out.Sent == 0 || out.Sent == len(m.Files) {
		t.Fatalf("got %+v, %v", out, err)
	}
	sound(t, a, home, "v1.0.0")
	if err := os.WriteFile(filepath.Join(out.Path, "tmp/cache/boot"), []byte("evil"), 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := a.PlaceVerify(t.Context(), node.VerifyIn{Home: home, Release: "v1.0.0"}, nil)
	if err != nil || len(v.Differences) != 1 {
		t.Errorf("a changed file in tmp is not seen: %v, %v", v.Differences, err)
	}
}

func TestFilesOfAReleaseAreReadVerifiedAndNoOthers(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	root, m := build(t, "v1.0.0", v1)
	in := node.PackIn{Root: root, Digest: headOf(t, root).Digest}
	want := map[int]node.Entry{}
	for _, i := range regular(m)[:3] {
		in.Indexes = append(in.Indexes, i)
		want[i] = m.Files[i]
	}
	got := map[string]string{}
	if err := a.Files(t.Context(), in, want, func(e node.Entry, b []byte) error {
		got[e.Path] = string(b)
		return nil
	}); err != nil || len(got) != 3 {
		t.Fatalf("got %v, %v", got, err)
	}
	for p, b := range got {
		if v1[p] != b {
			t.Errorf("%s is %q", p, b)
		}
	}
	stop := errors.New("the bucket is full")
	if err := a.Files(t.Context(), in, want, func(node.Entry, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	delete(want, in.Indexes[0])
	if err := a.Files(t.Context(), in, want, func(node.Entry, []byte) error { return nil }); err == nil {
		t.Error("a file that nobody asked for was taken")
	}
	e := m.Files[in.Indexes[0]]
	e.SHA256 = strings.Repeat("0", 64)
	want[in.Indexes[0]] = e
	if err := a.Files(t.Context(), in, want, func(node.Entry, []byte) error { return nil }); err == nil {
		t.Error("a file of another content was taken")
	}
	in.Digest = strings.Repeat("0", 64)
	if err := a.Files(t.Context(), in, want, func(node.Entry, []byte) error { return nil }); !errors.Is(err, node.ErrPayload) {
		t.Errorf("another release: %v", err)
	}
}

func TestAManifestIsReadAsItLiesThere(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	root, _ := build(t, "v1.0.0", v1)
	want, err := os.ReadFile(filepath.Join(root, ".refit/manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := a.ManifestFile(t.Context(), root, headOf(t, root).Digest)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes of %d, %v", len(got), len(want), err)
	}
	if _, err := a.ManifestFile(t.Context(), root, strings.Repeat("0", 64)); !errors.Is(err, node.ErrPayload) {
		t.Errorf("another digest: %v", err)
	}
	if _, err := a.ManifestFile(t.Context(), t.TempDir(), headOf(t, root).Digest); !errors.Is(err, node.ErrNotFound) {
		t.Errorf("no release: %v", err)
	}
}
