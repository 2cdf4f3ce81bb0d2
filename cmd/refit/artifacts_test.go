package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/builds/store"
)

func stocked(t *testing.T, dir string) []store.Artifact {
	t.Helper()
	var out []store.Artifact
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	s := &store.Store{Bucket: store.Dir{Path: dir}, Now: func() time.Time { return at }}
	for i, a := range []store.Artifact{
		{Key: store.Key{Kind: store.Toolchain, Name: "ruby-3.4.7"}, Builder: "uhura"},
		{Key: store.Key{Kind: store.Release, Name: "v4.5.14"}, Builder: "uhura", Needs: []string{strings.Repeat("a", 64)}},
		{Key: store.Key{Kind: store.Release, Name: "v4.5.15"}, Builder: "uhura"},
		{Key: store.Key{Kind: store.Release, Name: "v4.5.15"}, Builder: "khan"},
	} {
		a.OS, a.Arch, a.Recipe, a.Digest = "debian 13", "amd64", strings.Repeat("f", 64), strings.Repeat(string(rune('a'+i)), 64)
		at = at.Add(time.Hour)
		parts := store.Parts{Manifest: []byte("{}"), Pack: func(_ context.Context, w io.Writer) error { _, err := w.Write(make([]byte, 1024)); return err }}
		if i == 2 {
			parts.Signature = []byte("sig")
		}
		kept, err := s.Put(t.Context(), a, parts)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, kept)
	}
	return out
}

// storing is a refit.yml with a store of that folder.
func storing(t *testing.T, dir string) string {
	t.Helper()
	text := strings.Replace(string(exampleYML), "  # dir: ~/.local/share/refit/artifacts", "  dir: "+dir, 1)
	path := filepath.Join(t.TempDir(), "refit.yml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheStoreIsListedForPeopleAndForPrograms(t *testing.T) {
	dir := t.TempDir()
	stocked(t, dir)
	stray := filepath.Join(dir, "release/v4.5.16/debian-13-amd64", strings.Repeat("f", 64), strings.Repeat("e", 64), store.ManifestObject)
	if err := errors.Join(os.MkdirAll(filepath.Dir(stray), 0o755), os.WriteFile(stray, []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	conf := storing(t, dir)
	var out, errw bytes.Buffer
	if code := run(t.Context(), []string{"refit", "artifacts", "--config", conf}, nil, &out, &errw); code != exitDone {
		t.Fatalf("exit %d: %s", code, errw.String())
	}
	for _, want := range []string{
		dir + "\n", "v4.5.14        bbbbbbbbbbbb  debian 13 amd64   1.0 KiB  2026-11-20 14:00, on uhura, not signed\n",
		"v4.5.15        cccccccccccc  debian 13 amd64   1.0 KiB  2026-11-20 15:00, on uhura, signed\n", "4 artifacts, 4.0 KiB\n", "1 objects of no artifact, 4 B",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, out.String())
		}
	}
	out.Reset()
	if code := run(t.Context(), []string{"refit", "artifacts", "--json", "--config", conf}, nil, &out, &errw); code != exitDone {
		t.Fatalf("exit %d: %s", code, errw.String())
	}
	var got artifactsJSON
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got.Schema != "refit.artifacts/v1" || len(got.Artifacts) != 4 || got.Strays != 1 {
		t.Errorf("%v: %s", err, out.String())
	}
}

func TestWithoutAStoreThereIsNothingToList(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "refit.yml")
	if err := os.WriteFile(conf, exampleYML, 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errw bytes.Buffer
	if code := run(t.Context(), []string{"refit", "artifacts", "--config", conf}, nil, &out, &errw); code != exitUsage || !strings.Contains(errw.String(), "names no store") {
		t.Errorf("exit %d: %s", code, errw.String())
	}
}

func TestAnEmptyStoreIsListedAsThat(t *testing.T) {
	var out, errw bytes.Buffer
	conf := storing(t, filepath.Join(t.TempDir(), "none", "yet"))
	for args, want := range map[string]string{"artifacts": "holds no artifact", "artifacts --json": `"artifacts": []`} {
		out.Reset()
		if code := run(t.Context(), append([]string{"refit"}, append(strings.Fields(args), "--config", conf)...), nil, &out, &errw); code != exitDone || !strings.Contains(out.String(), want) {
			t.Errorf("%s: exit %d: %s%s", args, code, out.String(), errw.String())
		}
	}
}

func TestNothingIsRemovedWhileTheNodesCannotSayWhatTheyHave(t *testing.T) {
	dir := t.TempDir()
	all := stocked(t, dir)
	c := storing(t, dir)
	x, err := openOver(c, "u-1", "artifacts --remove", t.Logf, noWay)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.digests(t.Context()); err == nil {
		t.Error("nodes that do not answer have nothing")
	}
	if err := x.Close(); err != nil {
		t.Error(err)
	}
	var out, errw bytes.Buffer
	for name, want := range map[string]string{"v9.9.9": "has no artifact", "v4.5.15": "could be 2 artifacts", "ccc": "has no artifact"} {
		if code := run(t.Context(), []string{"refit", "artifacts", "--config", c, "--remove", name}, nil, &out, &errw); code != exitUsage || !strings.Contains(errw.String(), want) {
			t.Errorf("%s: exit %d: %s", name, code, errw.String())
		}
		errw.Reset()
	}
	s := &store.Store{Bucket: store.Dir{Path: dir}}
	if list, err := s.List(t.Context()); err != nil || len(list.Artifacts) != len(all) {
		t.Errorf("left %v, %v", list.Artifacts, err)
	}
}

func TestWhatANodeHasOrAReleaseNeedsIsHeld(t *testing.T) {
	all := stocked(t, t.TempDir())
	for i, test := range []struct {
		chosen []store.Artifact
		on     map[string][]string
		want   string
	}{
		{all[2:3], nil, ""},
		{all[2:3], map[string][]string{all[2].Digest: {"spock", "kirk"}}, "lies on kirk, spock, which runs it or can go back to it"},
		{all[2:4], map[string][]string{all[3].Digest: {"kirk"}}, "lies on kirk"},
		{all[:1], nil, "cannot run without ruby-3.4.7"},
		{all[:2], nil, ""},
	} {
		if got := heldBy(all, test.chosen, test.on); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%d: got %q, want %q", i, got, test.want)
		}
	}
}

func TestAnArtifactIsNamedByItsNameOrTheBeginningOfItsManifest(t *testing.T) {
	all := stocked(t, t.TempDir())
	for name, want := range map[string]string{"v4.5.14": "b", "cccccc": "c", strings.Repeat("d", 64): "d", "ruby-3.4.7": "a"} {
		if a, err := chooseArtifact(all, name); err != nil || a.Digest[:1] != want {
			t.Errorf("%s: got %s, %v", name, a, err)
		}
	}
}

// noWay leads to no host.
func noWay(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("there is no way to any host")
}
