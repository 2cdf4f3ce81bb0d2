package node

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestAProcessesUnitIsTheLastOneOfItsControlGroup(t *testing.T) {
	for text, want := range map[string]string{
		"0::/system.slice/mastodon-web.service\n":                                                          "mastodon-web.service",
		"0::/system.slice/system-mastodon\\x2dstreaming.slice/mastodon-streaming@4000.service\n":           "mastodon-streaming@4000.service",
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-r1.scope\n":                        "run-r1.scope",
		"0::/machine.slice/kirk.service/system.slice/mastodon-web.service/sub\n":                           "mastodon-web.service",
		"12:cpu:/x\n1:name=systemd:/system.slice/mastodon-sidekiq.service\n0::/system.slice/other.slice\n": "mastodon-sidekiq.service",
		"0::/\n": "", "": "", "hello": "",
	} {
		file := filepath.Join(t.TempDir(), "cgroup")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := unitOf(file); err != nil || got != want {
			t.Errorf("%q: %q, %v, wanted %q", text, got, err, want)
		}
	}
}

func TestLibrariesOfOtherReleasesAndGoneOnesAreFoundInAProcess(t *testing.T) {
	file := filepath.Join(t.TempDir(), "maps")
	text := `7f1-7f2 r-xp 00000000 08:01 11 /home/mastodon/releases/v2/vendor/a.so
7f2-7f3 r--p 00000000 08:01 11 /home/mastodon/releases/v2/vendor/a.so
7f3-7f4 r-xp 00000000 08:01 12 /home/mastodon/releases/v1/vendor/b.so
7f4-7f5 r--p 00000000 08:01 12 /home/mastodon/releases/v1/vendor/b.so
7f5-7f6 r-xp 00000000 08:01 13 /home/mastodon/releases/v2/vendor/c.so (deleted)
7f6-7f7 r-xp 00000000 08:01 14 /usr/lib/libc.so.6
7f7-7f8 rw-p 00000000 00:00 0 [heap]
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := strayLibraries(file, "/home/mastodon/releases", "/home/mastodon/releases/v2")
	want := []string{"/home/mastodon/releases/v1/vendor/b.so", "/home/mastodon/releases/v2/vendor/c.so, which was removed or replaced since"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}
