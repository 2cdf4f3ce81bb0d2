package configs_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"vmst.io/refit/hosts/configs"
)

// repository is what a commit of refit's holds.
func repository(t testing.TB) fstest.MapFS {
	t.Helper()
	rendered, err := configs.Render(whole(), fleet(), release())
	if err != nil {
		t.Fatal(err)
	}
	tree, err := configs.Tree(rendered, release())
	if err != nil {
		t.Fatal(err)
	}
	out := fstest.MapFS{}
	for name, content := range tree {
		out[name] = &fstest.MapFile{Data: content}
	}
	return out
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	lock, files, err := configs.ReadTree(repository(t))
	if err != nil {
		t.Fatal(err)
	}
	want := render(t, whole())
	if lock.Schema != configs.Schema || lock.Version != "v4.5.1" || lock.Images["web"] != 12 || lock.Toolchains["ruby"] != "3.4.7" || lock.Artifact != release().Artifact {
		t.Errorf("%+v", lock)
	}
	if fmt.Sprintf("%+v", files) != fmt.Sprintf("%+v", want) {
		t.Errorf("read back:\n%+v\nwritten:\n%+v", files, want)
	}
	if _, _, err := configs.ReadTree(fstest.MapFS{}); !errors.Is(err, configs.ErrNoLock) {
		t.Errorf("an empty repository: %v", err)
	}
}

func TestTheLockIsReadByPeople(t *testing.T) {
	text := string(repository(t)[configs.LockFile].Data)
	for _, want := range []string{
		"schema: 1\n", "version: v4.5.1\n", "  kirk:\n", "    /home/mastodon/.env.production:\n", "      mode: \"0640\"\n",
		"      owner: mastodon\n", "      secrets:\n      - DB_PASS\n      - SECRET_KEY_BASE\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the lock lacks %q:\n%s", want, text)
		}
	}
}

func TestARepositoryThatDoesNotFitItselfIsRefused(t *testing.T) {
	const motd = "rendered/kirk/etc/motd"
	lockWith := func(old, replacement string) func(fstest.MapFS) {
		return func(r fstest.MapFS) {
			text := r[configs.LockFile].Data
			if !bytes.Contains(text, []byte(old)) {
				t.Fatalf("the lock has no %q", old)
			}
			r[configs.LockFile] = &fstest.MapFile{Data: bytes.Replace(text, []byte(old), []byte(replacement), 1)}
		}
	}
	for name, c := range map[string]struct {
		spoil func(fstest.MapFS)
		want  string
	}{
		"a content":                    {func(r fstest.MapFS) { r[motd] = &fstest.MapFile{Data: []byte("by hand\n")} }, motd},
		"a missing file":               {func(r fstest.MapFS) { delete(r, motd) }, motd},
		"a stray file":                 {func(r fstest.MapFS) { r["rendered/kirk/etc/hosts"] = &fstest.MapFile{} }, "rendered/kirk/etc/hosts"},
		"a stray host":                 {func(r fstest.MapFS) { r["rendered/khan/etc/hosts"] = &fstest.MapFile{} }, "rendered/khan/etc/hosts"},
		"a link":                       {func(r fstest.MapFS) { r[motd] = &fstest.MapFile{Data: []byte("/etc/shadow"), Mode: 0o777 | 1<<27} }, motd},
		"a newer schema":               {lockWith("schema: 1", "schema: 2"), "schema 2"},
		"a newer key":                  {lockWith("version:", "colour: red\nversion:"), "not known"},
		"a newer schema with new keys": {lockWith("schema: 1", "colour: red\nschema: 3"), "schema 3"},
		"no schema":                    {lockWith("schema: 1\n", ""), "schema 0"},
		"marks of a merge":             {lockWith("schema: 1\n", "<<<<<<< HEAD\nschema: 1\n=======\n"), configs.LockFile},
		"an empty lock":                {func(r fstest.MapFS) { r[configs.LockFile] = &fstest.MapFile{Data: []byte(" \n")} }, "empty"},
		"a path that leaves":           {lockWith("/etc/motd:", "/../../etc/motd:"), "/../../etc/motd"},
		"refit's own place":            {lockWith("/etc/motd:", "/etc/refit/secrets.env:"), "refit's own"},
		"a host that leaves":           {lockWith("  kirk:\n", "  ../kirk:\n"), "../kirk"},
		"setuid":                       {lockWith("mode: \"0640\"", "mode: \"4755\""), "mode"},
		"an odd owner":                 {lockWith("owner: mastodon", "owner: \"a b\""), "owner"},
		"an odd check":                 {lockWith("check: nginx", "check: sh"), "check"},
		"an odd unit":                  {lockWith("- nginx.service", "- \"-H khan\""), "unit"},
		"another secret":               {lockWith("- DB_PASS", "- DB_PASX"), "secrets"},
	} {
		r := repository(t)
		c.spoil(r)
		if _, _, err := configs.ReadTree(r); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}

func TestATreeThatCannotBeIsRefused(t *testing.T) {
	for name, rendered := range map[string]map[string][]configs.File{
		"a host that leaves": {"../kirk": {{Path: "/etc/a"}}},
		"a path that leaves": {"kirk": {{Path: "/etc/../../a"}}},
		"a relative path":    {"kirk": {{Path: "etc/a"}}},
		"twice":              {"kirk": {{Path: "/etc/a"}, {Path: "/etc/a"}}},
		"refit's own":        {"kirk": {{Path: "/var/lib/refit/x"}}},
	} {
		if _, err := configs.Tree(rendered, release()); err == nil {
			t.Errorf("%s is written", name)
		}
	}
}

func TestWhatIsNoLongerRenderedIsRemoved(t *testing.T) {
	r := repository(t)
	from := whole()
	delete(from, "host/kirk/etc/motd")
	delete(from, "web/etc/motd")
	delete(from, "all/etc/motd")
	tree, err := configs.Tree(render(t, from), release())
	if err != nil {
		t.Fatal(err)
	}
	gone, err := configs.Removed(r, tree)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name, content := range gone {
		if content != nil {
			t.Errorf("%s is written anew", name)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	if want := []string{"rendered/decker/etc/motd", "rendered/kirk/etc/motd", "rendered/spock/etc/motd", "rendered/sulu/etc/motd"}; !slices.Equal(names, want) {
		t.Errorf("removed are %q, want %q", names, want)
	}
	if gone, err := configs.Removed(fstest.MapFS{}, tree); err != nil || len(gone) != 0 {
		t.Errorf("of an empty repository %v is removed (%v)", gone, err)
	}
}

// canary is a value that must never be shown.
const canary = "c4n4ryVALUE9zQ7x"

// FuzzReadTree: whatever the lock is, reading it ends, and no value of it that is none
// of a path is shown.
func FuzzReadTree(f *testing.F) {
	lock := string(repository(f)[configs.LockFile].Data)
	for _, text := range []string{lock, strings.Replace(lock, "0640", canary, 1), "schema: " + canary, "schema: 1\nversion: [" + canary, "schema: 1\nversion: {" + canary + ": 1}", "&a *a", "a: &a [*a]", "schema: 1\nversion: !!int " + canary, "\t" + canary, "- " + canary} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := repository(t)
		r[configs.LockFile] = &fstest.MapFile{Data: []byte(text)}
		_, files, err := configs.ReadTree(r)
		if err == nil {
			if _, err := configs.Tree(files, release()); err != nil {
				t.Errorf("what was read cannot be written: %v", err)
			}
		}
		// The canary's own lines are values only while it is not part of a name.
		if err != nil && strings.Contains(err.Error(), canary) && strings.Count(text, canary) == 1 && !strings.Contains(text, canary+":") && !strings.Contains(text, "/") {
			t.Errorf("a value is shown: %v", err)
		}
	})
}

func TestGlobsOfFilesYMLFit(t *testing.T) {
	for _, c := range []struct {
		glob, path string
		fits       bool
	}{
		{"/etc/nginx/**", "/etc/nginx/nginx.conf", true},
		{"/etc/nginx/**", "/etc/nginx/a/b/c.conf", true},
		{"/etc/nginx/*", "/etc/nginx/a/b.conf", false},
		{"/**/*.service", "/etc/systemd/system/a.service", true},
		{"/**/*.service", "/a.service", true},
		{"/etc/**/b", "/etc/b", true},
		{"/etc/**/b", "/etc/a/c", false},
		{"/etc/nginx", "/etc/nginx/x", false},
		{"/etc/m?td", "/etc/motd", true},
	} {
		from := folder("all"+c.path, "x", "files.yml", "files:\n- path: "+c.glob+"\n  mode: \"0600\"\n")
		out, err := configs.Render(from, fleet(), release())
		if fits := err == nil && out["kirk"][0].Mode == 0o600; fits != c.fits {
			t.Errorf("%s fits %s: %v, want %v (%v)", c.glob, c.path, fits, c.fits, err)
		}
	}
}

// Random trees are written and read back the same.
func TestRandomTreesAreReadBack(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 2))
		files := map[string][]configs.File{}
		for range rng.IntN(4) {
			host := fmt.Sprintf("h-%d", rng.IntN(100))
			if files[host] != nil {
				continue
			}
			for i := range 1 + rng.IntN(5) {
				content := make([]byte, rng.IntN(200))
				for j := range content {
					content[j] = byte(rng.IntN(256))
				}
				files[host] = append(files[host], configs.File{
					Path: fmt.Sprintf("/etc/%d/ü %d: #x", i, rng.IntN(9)), Content: content, Owner: "root", Group: "a-b", Mode: 0o640, Check: "none",
				})
			}
		}
		tree, err := configs.Tree(files, configs.Release{Version: "v1: #'\"", Toolchains: map[string]string{"yes": "no", "1": "0x1"}})
		if err != nil {
			t.Fatal(err)
		}
		r := fstest.MapFS{}
		for name, content := range tree {
			r[name] = &fstest.MapFile{Data: content}
		}
		lock, got, err := configs.ReadTree(r)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, tree[configs.LockFile])
		}
		if lock.Version != "v1: #'\"" || lock.Toolchains["yes"] != "no" || lock.Toolchains["1"] != "0x1" || fmt.Sprintf("%v", got) != fmt.Sprintf("%v", files) {
			t.Fatalf("seed %d: written\n%v\nread\n%v", seed, files, got)
		}
	}
}
