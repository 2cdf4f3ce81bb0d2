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
	f.must(t, 3, f.config(t, "prefix: /usr, why: \"Debian's own Ruby", "prefix: /opt/none, why: \"Debian's own Ruby"), upgrade, "ruby")
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

// TestLabEachBrokenReleaseEndsAsTheExitTableSays breaks an upgrade in each way, under
// load, and asks for the exit code, the cause in the report, and the old release
// everywhere with no request failed.
func TestLabEachBrokenReleaseEndsAsTheExitTableSays(t *testing.T) {
	f := on(t, "v4.5.2")
	quick := []string{"boot: 60s", "boot: 25s"}
	for _, test := range []struct {
		release string
		code    int
		config  []string
		words   []string
	}{
		{release: "v4.5.3", code: 1, words: []string{"assets:precompile"}},
		{release: "v4.5.4", code: 1, words: []string{"does not boot"}},
		{release: "v4.5.5", code: 6, config: quick, words: []string{"kirk: page: / answers 500"}},
		{release: "v4.5.6", code: 1, words: []string{"packs/chunk-", "(missing)"}},
		{release: "v4.5.7", code: 6, config: quick, words: []string{"mastodon-streaming@4000.service on kirk does not stay up"}},
		{release: "v4.5.8", code: 6, config: append([]string{"sidekiq: 3s", "sidekiq: 30s"}, quick...), words: []string{"on scotty does not stay up", "KILL"}},
		{release: "v4.5.9", code: 3, words: []string{">=26"}},
		{release: "v4.5.10", code: 6, config: quick, words: []string{"mastodon-web.service on kirk"}},
		{release: "v4.6.4", code: 3, words: []string{"3.4", "ruby"}},
	} {
		t.Run(test.release, func(t *testing.T) {
			config := ""
			if test.config != nil {
				config = f.config(t, test.config...)
			}
			f.underLoad(t, func() {
				f.must(t, test.code, config, []string{"upgrade", "--to", test.release, "--yes"}, test.words...)
			})
			f.runsEverywhere(t, "v4.5.2")
			f.well(t)
		})
	}
}

func TestLabAReleaseWithAGemFromGitIsBuilt(t *testing.T) {
	f := theFleet(t)
	f.must(t, 0, "", []string{"build", "--to", "v4.6.6"}, "DONE")
}
