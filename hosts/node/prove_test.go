package node_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
)

// shelf is a node with signed releases on it.
type shelf struct {
	t     *testing.T
	a     *node.Agent
	home  string
	us    signer
	asked *node.Signed
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	a, _ := hoststest.NewNode(t, nil)
	us := newSigner(t)
	return &shelf{t, a, t.TempDir(), us, allow(t, us.line(""))}
}

// put builds, signs and places a release.
func (s *shelf) put(release string, files map[string]string) (root string) {
	s.t.Helper()
	root, m := build(s.t, release, files)
	signedAs(s.t, s.a, root, s.us.sign(node.SignatureNamespace, string(node.SignedText(headOf(s.t, root).Digest))))
	in := putIn(s.t, s.home, root)
	in.Signed = s.asked
	if _, err := s.a.PlacePut(s.t.Context(), in, pack(s.t, s.a, root, distinct(m)...), nil); err != nil {
		s.t.Fatal(err)
	}
	return root
}

// distinct are the places of the files that have a content first: what packs hold.
func distinct(m node.Manifest) []int {
	var indexes []int
	seen := map[string]bool{}
	for _, i := range regular(m) {
		if !seen[m.Files[i].SHA256] {
			seen[m.Files[i].SHA256] = true
			indexes = append(indexes, i)
		}
	}
	return indexes
}

func (s *shelf) path(elem string) string { return filepath.Join(s.home, "releases", elem) }

func (s *shelf) write(path, text string) {
	s.t.Helper()
	p := s.path(path)
	err := os.MkdirAll(filepath.Dir(p), 0o755)
	if err == nil {
		err = os.RemoveAll(p) // it may be the same file as another release's
	}
	if err == nil {
		err = os.WriteFile(p, []byte(text), 0o644) //nolint:gosec // a release's file
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// must ends the test on an error of preparing it.
func (s *shelf) must(errs ...error) {
	s.t.Helper()
	if err := errors.Join(errs...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shelf) verify(release, digest string) (node.VerifyOut, error) {
	return s.a.PlaceVerify(s.t.Context(), node.VerifyIn{
		Home: s.home, Release: release, Digest: digest, Signed: s.asked, Writable: []string{"tmp"},
		Links: map[string]string{"log": "/var/log/shared", ".env.production": filepath.Join(s.home, ".env.production")},
	}, nil)
}

func TestWhateverIsChangedInAPlacedReleaseIsFound(t *testing.T) {
	files := map[string]string{
		"app/models/a.rb": "class A\nend\n", "bin/rails": "#!ruby", "lib/l": "-> ../app/models/a.rb", "lib/empty/": "", "log/.keep": "",
		"vendor/bundle/ruby/3.3.0/gems/rack-3.1.8/lib/rack.rb": "module Rack\nend\n", "public/packs/app-1.js": "js", "tmp/x": "x", ".refit/bin/ruby": "#!/bin/sh\n",
	}
	const gem = "vendor/bundle/ruby/3.3.0/gems/rack-3.1.8/lib/rack.rb"
	at := func(s *shelf, p string) string { return s.path("v1.0.0/" + p) }
	for name, c := range map[string]struct {
		spoil func(*shelf)
		want  []string // the differences
		sign  string   // what is wrong with the signature
	}{
		"nothing":                 {func(*shelf) {}, nil, ""},
		"what Mastodon may write": {func(s *shelf) { s.write("v1.0.0/tmp/more", "x"); s.must(os.Chmod(at(s, "tmp/more"), 0o666)) }, nil, ""},
		"a byte of a Ruby file":   {func(s *shelf) { s.write("v1.0.0/app/models/a.rb", "class B\nend\n") }, []string{"app/models/a.rb: other content"}, ""},
		"a gem":                   {func(s *shelf) { s.write("v1.0.0/"+gem, "module Rack\n  evil\nend\n") }, []string{gem + ": other content"}, ""},
		"an asset":                {func(s *shelf) { s.write("v1.0.0/public/packs/app-1.js", "JS") }, []string{"public/packs/app-1.js: other content"}, ""},
		"a file that is more":     {func(s *shelf) { s.write("v1.0.0/app/models/evil.rb", "evil") }, []string{"app/models/evil.rb: not in the manifest"}, ""},
		"a folder that is more":   {func(s *shelf) { s.must(os.Mkdir(at(s, "app/evil"), 0o755)) }, []string{"app/evil: not in the manifest"}, ""},
		"a file that is less":     {func(s *shelf) { s.must(os.Remove(at(s, "bin/rails"))) }, []string{"bin/rails: missing"}, ""},
		"a link that leads away":  {func(s *shelf) { s.must(os.Remove(at(s, "lib/l")), os.Symlink("/etc", at(s, "lib/l"))) }, []string{"lib/l: points to /etc instead of ../app/models/a.rb"}, ""},
		"a link for a file": {func(s *shelf) {
			s.must(os.Remove(at(s, "bin/rails")), os.Symlink("../app/models/a.rb", at(s, "bin/rails")))
		}, []string{"bin/rails: of another kind"}, ""},
		"a mode":                   {func(s *shelf) { s.must(os.Chmod(at(s, "app/models/a.rb"), 0o755)) }, []string{"app/models/a.rb: mode 0755 instead of 0644"}, ""},
		"a file open to all":       {func(s *shelf) { s.must(os.Chmod(at(s, "app/models/a.rb"), 0o666)) }, []string{"app/models/a.rb: mode 0666 instead of 0644"}, ""},
		"the release open to all":  {func(s *shelf) { s.must(os.Chmod(at(s, "."), 0o777)) }, []string{".: can be written by others than root (mode 0777)"}, ""},
		"a setuid bit":             {func(s *shelf) { s.must(os.Chmod(at(s, "bin/rails"), 0o755|os.ModeSetuid)) }, []string{"bin/rails: would run with another user's rights (setuid)"}, ""},
		"a shared link":            {func(s *shelf) { s.must(os.Remove(at(s, "log")), os.Symlink("/tmp", at(s, "log"))) }, []string{"log: points to /tmp instead of /var/log/shared"}, ""},
		"a wrapper of the runtime": {func(s *shelf) { s.write("v1.0.0/.refit/bin/ruby", "#!/bin/sh\nevil\n") }, []string{".refit/bin/ruby: other content"}, ""},
		"a record that lets more be written": {func(s *shelf) {
			s.write("v1.0.0/app/models/evil.rb", "evil")
			b, err := os.ReadFile(at(s, ".refit/placed.json"))
			s.must(err)
			s.write("v1.0.0/.refit/placed.json", strings.Replace(string(b), `["tmp"]`, `["tmp","app"]`, 1))
		}, []string{`.refit/placed.json: names other writable directories than a release here has: ["tmp" "app"]`, "app/models/evil.rb: not in the manifest"}, ""},
		"a record with another link": {func(s *shelf) {
			b, err := os.ReadFile(at(s, ".refit/placed.json"))
			s.must(err)
			s.write("v1.0.0/.refit/placed.json", strings.Replace(string(b), `"log":`, `"app":"/tmp","log":`, 1))
		}, []string{".refit/placed.json: names other shared links than a release here has"}, ""},
		"no record": {func(s *shelf) { s.must(os.Remove(at(s, ".refit/placed.json"))) }, []string{".refit/placed.json: missing"}, ""},
		"a file that is said to be bridged": {func(s *shelf) {
			s.write("v1.0.0/app/models/evil.rb", "evil")
			s.write("v1.0.0/.refit/bridged.json", `{"files":[{"path":"app/models/evil.rb","from":"v0.9.0"}]}`)
		}, []string{"app/models/evil.rb: is said to be a bridged asset and cannot be one"}, ""},
		"a manifest of assets that is said to be bridged": {func(s *shelf) {
			s.write("v1.0.0/public/packs/.vite/manifest.json", "evil")
			s.write("v1.0.0/.refit/bridged.json", `{"files":[{"path":"public/packs/.vite","from":"v0.9.0"},{"path":"public/packs/.vite/manifest.json","from":"v0.9.0"}]}`)
		}, []string{"public/packs/.vite/manifest.json: is said to be a bridged asset and cannot be one"}, ""},
		"its signature": {func(s *shelf) { s.must(os.Remove(at(s, ".refit/manifest.json.sig"))) }, nil, "it is not signed"},
		"another signature": {func(s *shelf) {
			s.write("v1.0.0/.refit/manifest.json.sig", string(s.us.sign(node.SignatureNamespace, "other")))
		}, nil, "not one that"},
		"the manifest with the file": {func(s *shelf) {
			s.write("v1.0.0/app/models/a.rb", "class B\nend\n")
			entries, err := node.Scan(s.t.Context(), s.path("v1.0.0"))
			s.must(err)
			entries = slices.DeleteFunc(entries, func(e node.Entry) bool { return e.Path == "log" || e.Path == ".env.production" })
			m, _, err := node.ReadManifest(s.path("v1.0.0"))
			s.must(err)
			m.Files = entries
			_, err = m.Write(s.path("v1.0.0"))
			s.must(err)
		}, []string{".refit/manifest.json: another manifest"}, "not one that"},
		"the whole release": {func(s *shelf) {
			s.put("v1.0.1", map[string]string{"app/models/a.rb": "class Other\nend\n"})
			s.must(os.RemoveAll(s.path("v1.0.0")), os.Rename(s.path("v1.0.1"), s.path("v1.0.0")))
		}, []string{".refit/manifest.json: is the manifest of v1.0.1", ".refit/manifest.json: another manifest"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t)
			digest := headOf(t, s.put("v1.0.0", files)).Digest
			c.spoil(s)
			out, err := s.verify("v1.0.0", digest)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i, d := range out.Differences {
				text := d.String()
				if i < len(c.want) && strings.HasSuffix(c.want[i], "another manifest") {
					text = text[:min(len(text), len(c.want[i]))]
				}
				got = append(got, text)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if (c.sign == "") != (out.Unsigned == "") || !strings.Contains(out.Unsigned, c.sign) {
				t.Errorf("of the signature: %q, wanted %q", out.Unsigned, c.sign)
			}
		})
	}
}

func TestAFileOfAnotherUsersInAReleaseIsFound(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only root can give files away: it is tried where tests run as root")
		return
	}
	s := newShelf(t)
	digest := headOf(t, s.put("v1.0.0", map[string]string{"app/a.rb": "a"})).Digest
	s.must(os.Lchown(s.path("v1.0.0/app/a.rb"), 65534, 65534))
	out, err := s.verify("v1.0.0", digest)
	if err != nil || len(out.Differences) != 1 || !strings.HasPrefix(out.Differences[0].String(), "app/a.rb: belongs to ") {
		t.Errorf("%+v, %v", out.Differences, err)
	}
}

func TestBridgedFilesAreHeldToTheReleaseTheyAreOfAlsoWhenThatIsGone(t *testing.T) {
	packs := func(name, content string) map[string]string {
		return map[string]string{"public/packs/" + name: content, "public/packs/deep/" + name: content, "public/packs/.vite/manifest.json": name}
	}
	prepare := func(t *testing.T) *shelf {
		s := newShelf(t)
		for _, v := range []string{"v1.0.0", "v1.0.1", "v1.0.2"} {
			s.put(v, packs(v+".js", "content of "+v))
		}
		// What came from the first comes to the third by way of the second.
		for _, pair := range [][2]string{{"v1.0.0", "v1.0.1"}, {"v1.0.1", "v1.0.2"}} {
			if _, err := s.a.Bridge(t.Context(), node.BridgeIn{Home: s.home, From: pair[0], To: pair[1], Keep: time.Hour}); err != nil {
				t.Fatal(err)
			}
		}
		s.must(os.RemoveAll(s.path("v1.0.0")))
		return s
	}
	for name, c := range map[string]struct {
		spoil func(*shelf)
		want  string
	}{
		"nothing":     {func(*shelf) {}, ""},
		"its content": {func(s *shelf) { s.write("v1.0.2/public/packs/v1.0.0.js", "evil") }, "public/packs/v1.0.0.js: other content than in v1.0.0"},
		"a link for it": {func(s *shelf) {
			s.must(os.Remove(s.path("v1.0.2/public/packs/v1.0.0.js")), os.Symlink("/etc/passwd", s.path("v1.0.2/public/packs/v1.0.0.js")))
		}, "public/packs/v1.0.0.js: of another kind than in v1.0.0"},
		"a folder for it": {func(s *shelf) {
			s.must(os.Remove(s.path("v1.0.2/public/packs/v1.0.0.js")), os.Mkdir(s.path("v1.0.2/public/packs/v1.0.0.js"), 0o755))
		}, "public/packs/v1.0.0.js: of another kind than in v1.0.0"},
		"that it came, and is gone again": {func(s *shelf) { s.must(os.Remove(s.path("v1.0.2/public/packs/v1.0.0.js"))) }, ""},
		"whence it came":                  {func(s *shelf) { s.edit("v1.0.2/.refit/bridged.json", `"from":"v1.0.0"`, `"from":"v1.0.1"`) }, "not in the manifest of v1.0.1, whence it is said to be"},
		"the other's manifest": {func(s *shelf) {
			s.edit("v1.0.2/.refit/bridged/v1.0.0/manifest.json", `"commit":"cv1.0.0"`, `"commit":"dv1.0.0"`)
		}, ".refit/bridged/v1.0.0: the signature is not one"},
		"the other's manifest, cut":      {func(s *shelf) { s.write("v1.0.2/.refit/bridged/v1.0.0/manifest.json", "{") }, ".refit/bridged/v1.0.0: holds a manifest that cannot be used"},
		"the other's signature, emptied": {func(s *shelf) { s.must(os.Truncate(s.path("v1.0.2/.refit/bridged/v1.0.0/manifest.json.sig"), 0)) }, ".refit/bridged/v1.0.0: it is not signed"},
		"its content, and the other's signature": {func(s *shelf) {
			s.must(os.Remove(s.path("v1.0.2/.refit/bridged/v1.0.0/manifest.json.sig")))
			s.write("v1.0.2/public/packs/v1.0.0.js", "evil")
		}, "public/packs/v1.0.0.js: other content than in v1.0.0"},
		"another manifest for the other's": {func(s *shelf) {
			s.must(os.RemoveAll(s.path("v1.0.2/.refit/bridged/v1.0.0")), os.Rename(s.path("v1.0.2/.refit/bridged/v1.0.1"), s.path("v1.0.2/.refit/bridged/v1.0.0")))
		}, ".refit/bridged/v1.0.0: holds the manifest of v1.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := prepare(t)
			c.spoil(s)
			out, err := s.verify("v1.0.2", "")
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				if len(out.Differences) > 0 || out.Unsigned != "" || len(out.Unknown) > 0 {
					t.Errorf("%+v", out)
				}
				return
			}
			if !slices.ContainsFunc(out.Differences, func(d node.Difference) bool { return strings.Contains(d.String(), c.want) }) {
				t.Errorf("found %v, wanted %q", out.Differences, c.want)
			}
		})
	}
	s := prepare(t)
	s.must(os.RemoveAll(s.path("v1.0.2/.refit/bridged")))
	if out, err := s.verify("v1.0.2", ""); err != nil || out.Unknown["v1.0.0"] != 2 || out.Unknown["v1.0.1"] != 2 {
		t.Errorf("without the others' manifests: %+v, %v", out, err)
	}
	// What lies in the release that was bridged from and is none of its files is found too.
	s = newShelf(t)
	s.put("v1.0.0", packs("a.js", "a"))
	s.put("v1.0.1", packs("b.js", "b"))
	s.write("v1.0.0/public/packs/evil.js", "evil")
	if _, err := s.a.Bridge(t.Context(), node.BridgeIn{Home: s.home, From: "v1.0.0", To: "v1.0.1"}); err != nil {
		t.Fatal(err)
	}
	out, err := s.verify("v1.0.1", "")
	if err != nil || len(out.Differences) != 1 || out.Differences[0].Path != "public/packs/evil.js" {
		t.Errorf("%+v, %v", out.Differences, err)
	}
}

func (s *shelf) edit(path, old, now string) {
	s.t.Helper()
	b, err := os.ReadFile(s.path(path))
	s.must(err)
	if !strings.Contains(string(b), old) {
		s.t.Fatalf("%s does not hold %q: %s", path, old, b)
	}
	s.write(path, strings.ReplaceAll(string(b), old, now))
}

func TestLiveIsNotPointedAtAnotherReleaseThanTheOneThatWasVerified(t *testing.T) {
	s := newShelf(t)
	s.put("v1.0.0", map[string]string{"a": "a"})
	digest := headOf(t, s.put("v1.0.1", map[string]string{"a": "b"})).Digest
	for _, want := range []bool{true, false} {
		if !want {
			s.must(os.RemoveAll(s.path("v1.0.1")), os.Rename(s.path("v1.0.0"), s.path("v1.0.1")))
		}
		out, err := s.a.Switch(t.Context(), node.SwitchIn{Home: s.home, Release: "v1.0.1", Digest: digest})
		if want && (err != nil || !out.Changed) || !want && !errors.Is(err, node.ErrPayload) {
			t.Errorf("%+v, %v", out, err)
		}
	}
	s.must(os.Remove(s.path("v1.0.1/.refit/manifest.json")))
	if _, err := s.a.Switch(t.Context(), node.SwitchIn{Home: s.home, Release: "v1.0.1", Digest: digest}); !errors.Is(err, node.ErrPayload) {
		t.Errorf("without a manifest: %v", err)
	}
}
