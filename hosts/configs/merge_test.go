package configs_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/hosts/configs"
)

func TestMergeBringsUpstreamsChangesIntoTheirs(t *testing.T) {
	for name, c := range map[string]struct{ old, new, theirs, want string }{
		"theirs is upstream's":       {"a\nb\n", "a\nc\n", "a\nb\n", "a\nc\n"},
		"upstream stands still":      {"a\nb\n", "a\nb\n", "x\nb\ny\n", "x\nb\ny\n"},
		"both made the same":         {"a\nb\nc\n", "a\nx\nc\n", "a\nx\nc\n", "a\nx\nc\n"},
		"both, at different places":  {"a\nb\nc\nd\n", "a\nb\nc\nD\n", "A\nb\nc\nd\n", "A\nb\nc\nD\n"},
		"upstream adds, they remove": {"a\nb\nc\nd\n", "a\nb\nc\nd\ne\n", "b\nc\nd\n", "b\nc\nd\ne\n"},
		"a line without an end":      {"a\nb\nc", "a\nb\nC", "A\nb\nc", "A\nb\nC"},
		"nothing at all":             {"", "", "", ""},
		"from nothing":               {"", "a\n", "", "a\n"},
	} {
		got, conflicts := configs.Merge([]byte(c.old), []byte(c.new), []byte(c.theirs))
		if string(got) != c.want || len(conflicts) > 0 {
			t.Errorf("%s: %q, %+v; want %q", name, got, conflicts, c.want)
		}
	}
}

func TestChangesThatTouchAreAConflictWithBothSides(t *testing.T) {
	for name, c := range map[string]struct {
		old, new, theirs string
		want             []configs.Conflict
	}{
		"one line":            {"a\nb\nc\n", "a\nn\nc\n", "a\nt\nc\n", []configs.Conflict{{Line: 2, Old: "b\n", New: "n\n", Theirs: "t\n"}}},
		"removed and changed": {"a\nb\nc\n", "a\nc\n", "a\nt\nc\n", []configs.Conflict{{Line: 2, Old: "b\n", New: "", Theirs: "t\n"}}},
		"neighbours":          {"a\nb\nc\nd\n", "a\nn\nc\nd\n", "a\nb\nt\nd\n", []configs.Conflict{{Line: 2, Old: "b\nc\n", New: "n\nc\n", Theirs: "b\nt\n"}}},
		"added at one place":  {"a\nb\n", "a\nn\nb\n", "a\nt\nb\n", []configs.Conflict{{Line: 2, Old: "", New: "n\n", Theirs: "t\n"}}},
		"two places, below a longer head": {
			"a\nb\nc\nd\ne\n", "a\nB\nc\nD\ne\n", "0\n0\na\nx\nc\ny\ne\n",
			[]configs.Conflict{{Line: 4, Old: "b\n", New: "B\n", Theirs: "x\n"}, {Line: 6, Old: "d\n", New: "D\n", Theirs: "y\n"}},
		},
	} {
		got, conflicts := configs.Merge([]byte(c.old), []byte(c.new), []byte(c.theirs))
		if string(got) != c.theirs || fmt.Sprintf("%+v", conflicts) != fmt.Sprintf("%+v", c.want) {
			t.Errorf("%s: %q, %+v; want %+v", name, got, conflicts, c.want)
		}
	}
}

// Random edits of a file of unlike lines: what merges is what git merge-file makes of
// it, and what git refuses is refused.
func TestMergeAgreesWithGit(t *testing.T) {
	exe, err := exec.LookPath("git")
	if err != nil {
		t.Skip("git is not installed, which this merge is held against")
	}
	edit := func(rng *rand.Rand, lines []string, who string) []string {
		out := slices.Clone(lines)
		for n := range 1 + rng.IntN(3) {
			at := rng.IntN(len(out))
			switch rng.IntN(3) {
			case 0:
				out[at] = fmt.Sprint(who, n)
			case 1:
				out = slices.Delete(out, at, at+1)
			default:
				out = slices.Insert(out, at, fmt.Sprint(who, n))
			}
		}
		return out
	}
	clean, refused := 0, 0
	for seed := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, 4))
		var base []string
		for i := range 20 {
			base = append(base, fmt.Sprint("line ", i))
		}
		text := func(lines []string) string { return strings.Join(lines, "\n") + "\n" }
		old, new, theirs := text(base), text(edit(rng, base, "new")), text(edit(rng, base, "theirs"))
		got, conflicts := configs.Merge([]byte(old), []byte(new), []byte(theirs))
		dir := t.TempDir()
		for name, content := range map[string]string{"old": old, "new": new, "theirs": theirs} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(exe, "merge-file", "-p", "theirs", "old", "new")
		cmd.Dir = dir
		want, err := cmd.Output()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		switch {
		case err == nil && len(conflicts) == 0:
			clean++
			if string(got) != string(want) {
				t.Fatalf("seed %d:\n%s\ngit:\n%s", seed, got, want)
			}
		case err != nil && len(conflicts) > 0:
			refused++
		case err != nil:
			t.Fatalf("seed %d: git finds a conflict and Merge none:\n%s", seed, got)
		default:
			t.Fatalf("seed %d: git merges and Merge does not: %+v", seed, conflicts)
		}
	}
	if clean < 30 || refused < 30 {
		t.Errorf("%d merged, %d conflicts: the lot is drawn badly", clean, refused)
	}
}

const (
	unit = "[Unit]\nDescription=mastodon-web\nAfter=network.target\n\n[Service]\nType=simple\nUser=mastodon\nEnvironment=\"PORT=3000\"\nExecStart=/home/mastodon/.rbenv/shims/bundle exec puma\nTimeoutSec=15\nRestart=always\n"
	site = "map $http_upgrade $connection_upgrade {\n  default upgrade;\n}\nserver {\n  listen 443 ssl http2;\n  server_name example.com;\n  keepalive_timeout 70;\n  client_max_body_size 99m;\n  location / {\n    try_files $uri @proxy;\n  }\n}\n"
)

func TestWhatAReleaseChangesIsProposedOrIsAPersons(t *testing.T) {
	old := map[string][]byte{"dist/mastodon-web.service": []byte(unit), "dist/nginx.conf": []byte(site), "dist/gone.timer": []byte("x\n"), "dist/same.service": []byte("same\n"), "app/web.service": []byte("a")}
	new := map[string][]byte{
		"dist/mastodon-web.service": []byte(strings.Replace(unit, "TimeoutSec=15", "TimeoutSec=15\nOOMScoreAdjust=100", 1)),
		"dist/nginx.conf":           []byte(strings.Replace(site, "99m", "199m", 1)),
		"dist/new.service":          []byte("[Unit]\n"), "dist/same.service": []byte("same\n"), "app/web.service": []byte("b"),
	}
	mine := strings.Replace(unit, "PORT=3000", "PORT={{.Host.Web.Port}}", 1)
	own := strings.Replace(strings.Replace(site, "example.com", "{{.Fleet.Domain}}", 1), "99m", "50m", 1)
	theirs := map[string][]byte{
		"web/etc/systemd/system/mastodon-web.service.tmpl":                   []byte(mine),
		"host/kirk/etc/systemd/system/mastodon-web.service":                  new["dist/mastodon-web.service"],
		"proxy/etc/nginx/sites-available/vmst.conf.tmpl":                     []byte(own),
		"proxy/etc/nginx/nginx.conf":                                         []byte("worker_processes auto;\nevents {}\n"),
		"web/etc/systemd/system/gone.timer":                                  []byte("mine\n"),
		"web/etc/systemd/system/mastodon-web.service.d/mastodon-web.service": []byte("[Service]\n"),
	}
	got := configs.Upstream(old, new, theirs)
	var lines []string
	for _, p := range got {
		lines = append(lines, p.Source+" "+p.Kind+" "+p.Template)
		if p.Why == "" {
			t.Errorf("%s says nothing", p.Source)
		}
	}
	want := []string{
		"dist/gone.timer removed web/etc/systemd/system/gone.timer",
		"dist/mastodon-web.service merged web/etc/systemd/system/mastodon-web.service.tmpl",
		"dist/new.service new ",
		"dist/nginx.conf conflict proxy/etc/nginx/sites-available/vmst.conf.tmpl",
	}
	if !slices.Equal(lines, want) {
		t.Fatalf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	if m := string(got[1].Merged); !strings.Contains(m, "PORT={{.Host.Web.Port}}") || !strings.Contains(m, "OOMScoreAdjust=100") {
		t.Errorf("merged is\n%s", m)
	}
	c := got[3]
	if len(c.Merged) > 0 || len(c.Conflicts) != 1 || !strings.Contains(c.Conflicts[0].New, "199m") || !strings.Contains(c.Conflicts[0].Theirs, "50m") || !strings.Contains(c.Conflicts[0].Old, "99m") || c.Conflicts[0].Line != 8 {
		t.Errorf("the conflict is %+v", c)
	}
	if again := configs.Upstream(new, new, theirs); len(again) > 0 {
		t.Errorf("nothing changed, and %+v is proposed", again)
	}
	// A unit that upstream begins to ship and that the team had before is no guess either.
	had := map[string][]byte{"web/etc/systemd/system/new.service": []byte("[Service]\n")}
	if p := configs.Upstream(nil, map[string][]byte{"dist/new.service": []byte("[Unit]\n")}, had); len(p) != 1 || p[0].Kind != configs.ProposalConflict {
		t.Errorf("%+v", p)
	}
}

func TestAUnitUnderATeamsOwnNameIsOfTheOneThatItWasMadeOf(t *testing.T) {
	other := strings.Replace(unit, "PORT=3000", "PORT=4000", 1)
	old := map[string][]byte{"dist/mastodon-web.service": []byte(unit), "dist/mastodon-web-stream@.service": []byte(other)}
	next := map[string][]byte{
		"dist/mastodon-web.service":         []byte(strings.Replace(unit, "TimeoutSec=15", "TimeoutSec=30", 1)),
		"dist/mastodon-web-stream@.service": []byte(strings.Replace(other, "TimeoutSec=15", "TimeoutSec=45", 1)),
	}
	theirs := map[string][]byte{
		"web/etc/systemd/system/mastodon-web-blue.service":        []byte(unit),
		"web/etc/systemd/system/mastodon-web-stream@4001.service": []byte(other),
		"web/etc/systemd/system/mastodon-webmail.service":         []byte(unit),
		"web/etc/systemd/system/mastodon-web-other.service":       []byte("[Service]\nExecStart=/usr/bin/other\n"),
		"web/etc/systemd/system/mastodon-web-blue.timer":          []byte(unit),
	}
	var lines []string
	for _, p := range configs.Upstream(old, next, theirs) {
		lines = append(lines, p.Source+" "+p.Kind+" "+p.Template)
	}
	want := []string{
		"dist/mastodon-web-stream@.service merged web/etc/systemd/system/mastodon-web-stream@4001.service",
		"dist/mastodon-web.service merged web/etc/systemd/system/mastodon-web-blue.service",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	// A change that reaches no template is told, not lost.
	if p := configs.Upstream(old, next, map[string][]byte{"web/etc/motd": []byte("x")}); len(p) != 2 || p[0].Kind != configs.ProposalUnmatched || p[0].Template != "" {
		t.Errorf("%+v", p)
	}
}
