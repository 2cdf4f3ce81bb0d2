package node_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
)

// What verify finds wrong, placing again must mend: `refit place` is what admins are told
// to do about it.

func TestAReleaseThatIsNotAsItWasPlacedIsPlacedAnew(t *testing.T) {
	for name, spoil := range map[string]func(*shelf){
		"an owner":      func(s *shelf) { s.must(os.Lchown(s.path("v1.0.0/app/a.rb"), 65534, 65534)) },
		"a setuid bit":  func(s *shelf) { s.must(os.Chmod(s.path("v1.0.0/app/a.rb"), 0o644|os.ModeSetuid)) },
		"its own mode":  func(s *shelf) { s.must(os.Chmod(s.path("v1.0.0"), 0o777)) },
		"a record lost": func(s *shelf) { s.must(os.Remove(s.path("v1.0.0/.refit/placed.json"))) },
		"another link on the record": func(s *shelf) {
			s.edit("v1.0.0/.refit/placed.json", `"links":{`, `"links":{"app":"/x",`)
			s.must(os.RemoveAll(s.path("v1.0.0/app")), os.Symlink("/x", s.path("v1.0.0/app")))
		},
		"another writable directory on the record": func(s *shelf) {
			s.edit("v1.0.0/.refit/placed.json", `"writable":["tmp"]`, `"writable":["tmp","app"]`)
			s.write("v1.0.0/app/a.rb", "evil")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t)
			root := s.put("v1.0.0", map[string]string{"app/a.rb": "a"})
			spoil(s)
			ask, put := wantIn(t, s.home, root), putIn(t, s.home, root)
			ask.Links, ask.Writable, ask.Signed, put.Signed = put.Links, []string{"tmp"}, s.asked, s.asked
			want, err := s.a.PlaceWant(t.Context(), ask, pack(t, s.a, root), nil)
			if err != nil || want.Placed {
				t.Fatalf("it is taken for placed: %t, %v", want.Placed, err)
			}
			m, _, err := node.ReadManifest(root)
			if err != nil {
				t.Fatal(err)
			}
			if out, err := s.a.PlacePut(t.Context(), put, pack(t, s.a, root, distinct(m)...), nil); err != nil || out.Placed {
				t.Fatalf("%+v, %v", out, err)
			}
			v, err := s.a.PlaceVerify(t.Context(), node.VerifyIn{Home: s.home, Release: "v1.0.0", Digest: headOf(t, root).Digest, Signed: s.asked, Links: put.Links, Writable: []string{"tmp"}}, nil)
			if err != nil || len(v.Differences) > 0 || v.Unsigned != "" {
				t.Errorf("placed anew: %v %q, %v", v.Differences, v.Unsigned, err)
			}
			if want, err := s.a.PlaceWant(t.Context(), ask, pack(t, s.a, root), nil); err != nil || !want.Placed {
				t.Errorf("and then: %t, %v", want.Placed, err)
			}
		})
	}
}

func TestAToolchainsRecordOnTheHostHidesNothing(t *testing.T) {
	// Another build by the same recipe would stand for it.
	for name, files := range map[string]map[string]string{"the same": ruby347, "another build": {"bin/ruby": "elf of another build", "lib/set.rb": "set"}} {
		t.Run(name, func(t *testing.T) {
			a, _ := hoststest.NewNode(t, nil)
			home := t.TempDir()
			at := mustPlace(t, a, home, toolchain(t, "ruby-3.4.7", "r1", debian13, ruby347))
			b, err := os.ReadFile(filepath.Join(at, ".refit/placed.json"))
			if err != nil {
				t.Fatal(err)
			}
			for file, text := range map[string]string{
				"lib/set.rb": "evil", "lib/more.rb": "evil",
				".refit/placed.json": strings.TrimSuffix(strings.TrimSpace(string(b)), "}") + `,"writable":["lib"]}` + "\n",
			} {
				if err := os.WriteFile(filepath.Join(at, file), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			v, err := a.PlaceVerify(t.Context(), node.VerifyIn{Kind: node.KindToolchain, Release: "ruby-3.4.7"}, nil)
			if err != nil || len(v.Differences) < 2 {
				t.Errorf("found %v, %v", v.Differences, err)
			}
			if want, _, err := placeToolchain(t, a, home, toolchain(t, "ruby-3.4.7", "r1", debian13, files)); err != nil || want.Placed {
				t.Errorf("it is taken for placed: %t, %v", want.Placed, err)
			}
		})
	}
}

func TestAReleaseThatWasPlacedBeforeAnybodySignedDoesNotSpoilTheNext(t *testing.T) {
	s := newShelf(t)
	old, m := build(t, "v1.0.0", map[string]string{"public/packs/a-1.js": "1"})
	if _, err := s.a.PlacePut(t.Context(), putIn(t, s.home, old), pack(t, s.a, old, distinct(m)...), nil); err != nil {
		t.Fatal(err)
	}
	root := s.put("v1.0.1", map[string]string{"public/packs/a-2.js": "2"})
	if _, err := s.a.Bridge(t.Context(), node.BridgeIn{Home: s.home, From: "v1.0.0", To: "v1.0.1", Keep: time.Hour}); err != nil {
		t.Fatal(err)
	}
	v, err := s.verify("v1.0.1", headOf(t, root).Digest)
	if err != nil || len(v.Differences) > 0 || v.Unsigned != "" || v.Unknown["v1.0.0"] == 0 {
		t.Errorf("%v, unsigned %q, not known %v, %v", v.Differences, v.Unsigned, v.Unknown, err)
	}
}

func TestFilesOfAReleaseThatAUserPutThereAreCopiedOverTheBridge(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving files away needs root")
	}
	s := newShelf(t)
	tree(t, s.path("v1.0.0"), map[string]string{"public/packs/a-1.js": "1", "public/packs/b-1.js": "1"})
	s.must(os.Chown(s.path("v1.0.0/public/packs/a-1.js"), 65534, 65534), os.Chmod(s.path("v1.0.0/public/packs/b-1.js"), 0o666))
	root := s.put("v1.0.1", map[string]string{"public/packs/a-2.js": "2"})
	if _, err := s.a.Bridge(t.Context(), node.BridgeIn{Home: s.home, From: "v1.0.0", To: "v1.0.1", Keep: time.Hour}); err != nil {
		t.Fatal(err)
	}
	v, err := s.verify("v1.0.1", headOf(t, root).Digest)
	if err != nil || len(v.Differences) > 0 {
		t.Errorf("%v, %v", v.Differences, err)
	}
	if b, err := os.ReadFile(s.path("v1.0.1/public/packs/a-1.js")); err != nil || string(b) != "1" {
		t.Errorf("%q, %v", b, err)
	}
}
