package lab

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheRootComesFromTheMachinesOwnDebianMirror(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  apt
	}{
		"one line each": {
			map[string]string{"sources.list": "# deb http://old.example/debian buster main\ndeb [signed-by=/k.gpg] http://mirror.example/debian bookworm main\ndeb http://mirror.example/debian-security/ bookworm-security main\ndeb-src http://src.example/debian bookworm main\n"},
			apt{"http://mirror.example/debian", "http://mirror.example/debian-security", ""},
		},
		"stanzas": {
			map[string]string{
				"sources.list.d/debian.sources": "Types: deb\nURIs: https://mirror.example/debian/\nSuites: trixie\n\nTypes: deb\nURIs: https://sec.example/debian-security\n",
				"sources.list.d/other.list":     "deb https://packages.example/apt stable main\n",
			},
			apt{"https://mirror.example/debian", "https://sec.example/debian-security", ""},
		},
		"a mirror without security": {
			map[string]string{"sources.list": "deb http://mirror.example/debian trixie main\n"},
			apt{"http://mirror.example/debian", "", ""},
		},
		"ubuntu": {
			map[string]string{"sources.list.d/ubuntu.sources": "URIs: http://archive.ubuntu.com/ubuntu/\n"},
			apt{"http://deb.debian.org/debian", "http://deb.debian.org/debian-security", debianKeys},
		},
		"nothing": {nil, apt{"http://deb.debian.org/debian", "http://deb.debian.org/debian-security", debianKeys}},
	} {
		t.Run(name, func(t *testing.T) {
			etc := t.TempDir()
			for f, text := range c.files {
				if err := put(filepath.Join(etc, f), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := aptSources(etc)
			if err != nil || got != c.want {
				t.Errorf("got %+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

func TestLinesForAptNameTheHostsSuite(t *testing.T) {
	got := apt{"http://m/debian", "http://m/debian-security", ""}.lines()
	if len(got) != 2 || got[0] != "deb http://m/debian trixie main" || got[1] != "deb http://m/debian-security trixie-security main" {
		t.Errorf("got %q", got)
	}
	got = apt{"http://m/debian", "", "/k.gpg"}.lines()
	if len(got) != 1 || got[0] != "deb [signed-by=/k.gpg] http://m/debian trixie main" {
		t.Errorf("got %q", got)
	}
}

func TestRelockingMovesVersionsAndLeavesTheRestAlone(t *testing.T) {
	const lock = "GEM\n  remote: https://rubygems.org/\n  specs:\n    actionpack (7.2.2.1)\n      activesupport (= 7.2.2.1)\n      rack (>= 2.2.4, < 3.2)\n    activesupport (7.2.2.1)\n    base64 (0.2.0)\n\nPLATFORMS\n  ruby\n\nDEPENDENCIES\n  actionpack (~> 7.2.2)\n\nRUBY VERSION\n   ruby 3.4.1p0\n\nBUNDLED WITH\n   2.7.2\n"
	const want = "GEM\n  remote: https://rubygems.org/\n  specs:\n    actionpack (7.2.2.2)\n      activesupport (= 7.2.2.2)\n      rack (>= 2.2.4, < 3.2)\n    activesupport (7.2.2.2)\n    base64 (0.2.0)\n\nPLATFORMS\n  ruby\n\nDEPENDENCIES\n  actionpack (~> 7.2.2)\n\nRUBY VERSION\n   ruby 3.4.1p0\n\nBUNDLED WITH\n   2.7.2\n"
	registry, dir := t.TempDir(), t.TempDir()
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(registry, "versions"), "created_at: 2025\n---\nactionpack 7.2.2.2 aa\nactivesupport 7.2.2.2 bb\nrack 3.1.20 cc\n")
	write(filepath.Join(dir, "Gemfile.lock"), lock)
	for range 2 { // doing it again changes nothing
		if err := Relock(registry)(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "Gemfile.lock")); err != nil || string(got) != want {
			t.Errorf("got\n%s%v", got, err)
		}
	}
}

func TestRelockingWithoutARegistryFails(t *testing.T) {
	if err := Relock(t.TempDir())(t.Context(), t.TempDir()); err == nil {
		t.Error("no error")
	}
}

func TestMorePackagesMakeAnotherImage(t *testing.T) {
	plain := imageKey(nil)
	if imageKey([]string{}) != plain {
		t.Error("no more packages are another image")
	}
	if imageKey([]string{"python3"}) == plain {
		t.Error("an image with python3 has the name of one without")
	}
}
