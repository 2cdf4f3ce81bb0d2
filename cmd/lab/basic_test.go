package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLabBadInputIsRefusedBeforeAnythingIsTouched(t *testing.T) {
	f := theFleet(t)
	before := f.fingerprint(t)
	upgrade := []string{"upgrade", "--to", "v4.5.2", "--yes"}
	known, err := os.ReadFile(f.KnownHosts())
	if err != nil {
		t.Fatal(err)
	}
	without := filepath.Join(t.TempDir(), "known_hosts")
	var lines []string
	for line := range strings.Lines(string(known)) {
		if !strings.Contains(line, "10.77.0.21") {
			lines = append(lines, line)
		}
	}
	if err := os.WriteFile(without, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	f.must(t, 2, "", []string{"upgrade", "v4.5.2", "--yes"}, "takes no words beside its flags")
	f.must(t, 2, "", []string{"upgrade"}, "needs --to")
	f.must(t, 2, f.config(t, "domain:", "domian:"), upgrade, "domian", "refit.yml:")
	f.must(t, 4, f.config(t, f.KnownHosts(), without), upgrade, "kirk", "add this line")
	f.must(t, 3, "", []string{"upgrade", "--to", "v4.5.99", "--yes"}, "has no tag v4.5.99", "v4.5.9")
	f.must(t, 3, "", []string{"upgrade", "--to", "v4.5.0", "--yes"}, "older than v4.5.1")
	f.must(t, 3, "", []string{"upgrade", "--to", "v4.7.0", "--yes"}, "skips a minor series")
	f.must(t, 3, f.config(t, "disk_free: 200MiB", "disk_free: 100GiB"), upgrade, "free at", "kirk")
	f.must(t, 3, f.config(t, "toolchain:\n", "toolchain:\n  ruby: {version: 3.3.8, prefix: /opt/none, why: \"a test of one that is not there\"}\n"), upgrade, "ruby 3.3.8 is missing in /opt/none")
	f.must(t, 3, f.config(t, ", collections", ""), []string{"upgrade", "--to", "v4.5.2", "--yes"}, "serves", "refit.yml says")
	f.must(t, 3, f.config(t, "port: 5432", "port: 25061", "name: mastodon\n", "name: mastodon-pool\n"), upgrade, "transaction pooler")
	f.must(t, 3, "", []string{"upgrade", "--to", "v4.5.9", "--yes"}, "node")
	f.must(t, 3, "", []string{"upgrade", "--to", "v4.5.2"}, "--yes")
	if _, err := f.Exec(t.Context(), "kirk", "mv", "/etc/sudoers.d/refit", "/root/sudoers"); err != nil {
		t.Fatal(err)
	}
	a := f.run(t, "", upgrade...)
	if _, err := f.Exec(t.Context(), "kirk", "mv", "/root/sudoers", "/etc/sudoers.d/refit"); err != nil {
		t.Fatal(err)
	}
	if (a.code != 3 && a.code != 4) || !strings.Contains(a.err, "kirk") || !strings.Contains(a.err, "sudo") {
		t.Errorf("a missing right: %s", a)
	}
	f.same(t, before)
}

func TestLabAPatchReleaseIsRolledUnnoticedAndBackAgain(t *testing.T) {
	f := theFleet(t)
	var rolled answer
	met := f.underLoad(t, func() { rolled = f.must(t, 0, "", []string{"upgrade", "--to", "v4.5.2", "--yes"}, "DONE") })
	f.socketsWell(t, met, rolled.err)
	f.runsEverywhere(t, "v4.5.2")

	before := f.fingerprint(t)
	f.must(t, 0, "", []string{"upgrade", "--to", "v4.5.2", "--yes"}, "nothing to do")
	f.same(t, before)

	f.must(t, 0, "", []string{"verify"}, "unmodified")
	f.isKilledOnTheWayBackAndForth(t)
}
