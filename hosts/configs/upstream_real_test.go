package configs

import (
	"bytes"
	"os"
	"os/exec"
	"path"
	"regexp"
	"strings"
	"testing"
)

// shippedAt is dist/ of a real release, or the test is skipped: upstream's history is no
// part of this repository.
func shippedAt(t *testing.T, version string) map[string][]byte {
	t.Helper()
	clone, commits := os.Getenv("REFIT_UPSTREAM_CLONE"), os.Getenv("REFIT_UPSTREAM_COMMITS")
	if clone == "" || commits == "" {
		t.Skip("REFIT_UPSTREAM_CLONE (a clone with upstream's history) and REFIT_UPSTREAM_COMMITS (its \"version commit\" lines) are not set: the real releases are left out")
	}
	list, err := os.ReadFile(commits)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(version) + ` ([0-9a-f]{40})`).FindSubmatch(list)
	if m == nil {
		t.Fatalf("%s does not name %s", commits, version)
	}
	git := func(args ...string) []byte {
		out, err := exec.Command("git", append([]string{"-C", clone}, args...)...).Output()
		if err != nil {
			t.Fatalf("git %q: %v", args, err)
		}
		return out
	}
	out := map[string][]byte{}
	for _, name := range strings.Fields(string(git("ls-tree", "--name-only", string(m[1]), "dist/"))) {
		if shipped(name) {
			out[name] = git("show", string(m[1])+":"+name)
		}
	}
	if len(out) < 4 {
		t.Fatalf("%s ships %d files", version, len(out))
	}
	return out
}

// asATeamHasIt is what a team makes of upstream's files: its domain, its certificate, its
// web nodes, its units under names of their own.
func asATeamHasIt(t *testing.T, of map[string][]byte) map[string][]byte {
	t.Helper()
	site := string(of["dist/nginx.conf"])
	for _, change := range [][2]string{
		{"    server 127.0.0.1:3000 fail_timeout=0;\n", "{{- range hosts \"web\"}}\n    server {{.Address}}:{{.Web.Port}} max_fails=0;\n{{- end}}\n"},
		{"server_name example.com;", "server_name {{.Fleet.Domain}};"},
		{"  # ssl_certificate     /etc/letsencrypt/live/example.com/fullchain.pem;", "  ssl_certificate     /etc/letsencrypt/live/vmst.io/fullchain.pem;"},
		{"  # ssl_certificate_key /etc/letsencrypt/live/example.com/privkey.pem;", "  ssl_certificate_key /etc/letsencrypt/live/vmst.io/privkey.pem;"},
	} {
		if !strings.Contains(site, change[0]) {
			t.Fatalf("upstream's site has no %q any more", change[0])
		}
		site = strings.ReplaceAll(site, change[0], change[1])
	}
	sidekiq := bytes.ReplaceAll(of["dist/mastodon-sidekiq.service"], []byte("DB_POOL=25"), []byte("DB_POOL=40"))
	return map[string][]byte{
		"proxy/etc/nginx/sites-available/vmst.conf.tmpl":                      []byte(site),
		"web/etc/systemd/system/mastodon-web.service":                         of["dist/mastodon-web.service"],
		"sidekiq/etc/systemd/system/mastodon-sidekiq-push-pull.service":       sidekiq,
		"sidekiq/etc/systemd/system/mastodon-sidekiq.service.d/override.conf": []byte("[Service]\nLimitNOFILE=65536\n"),
	}
}

func TestWhatRealReleasesChangeInTheirFilesFitsIntoATeams(t *testing.T) {
	for _, x := range []struct {
		from, to string
		want     map[string]string // the kind of each proposal, by source and template
	}{
		{"v4.3.0", "v4.4.0", map[string]string{"dist/nginx.conf vmst.conf.tmpl": ProposalMerged}},
		{"v4.4.0", "v4.5.0", map[string]string{"dist/nginx.conf vmst.conf.tmpl": ProposalMerged}},
		{"v4.5.0", "v4.6.0", map[string]string{"dist/nginx.conf vmst.conf.tmpl": ProposalMerged, "dist/mastodon-prometheus-exporter.service .": ProposalNew}},
		{"v4.3.0", "v4.6.0", map[string]string{"dist/nginx.conf vmst.conf.tmpl": ProposalMerged, "dist/mastodon-prometheus-exporter.service .": ProposalNew}},
	} {
		old, new := shippedAt(t, x.from), shippedAt(t, x.to)
		theirs := asATeamHasIt(t, old)
		got := map[string]string{}
		for _, p := range Upstream(old, new, theirs) {
			got[p.Source+" "+path.Base(p.Template)] = p.Kind
			if p.Kind != ProposalMerged {
				continue
			}
			// What upstream changed is in it, and what the team changed still is: the same edits
			// made on upstream's new file give the same.
			if want := asATeamHasIt(t, new)[p.Template]; !bytes.Equal(p.Merged, want) {
				t.Errorf("%s to %s: %s is merged to\n%s", x.from, x.to, p.Template, p.Merged)
			}
			if again := Upstream(old, new, map[string][]byte{p.Template: p.Merged}); len(again) > 0 && again[0].Template == p.Template {
				t.Errorf("%s to %s: what was merged is proposed again: %s", x.from, x.to, again[0].Why)
			}
		}
		if len(got) != len(x.want) {
			t.Errorf("%s to %s: %v", x.from, x.to, got)
		}
		for name, kind := range x.want {
			if got[name] != kind {
				t.Errorf("%s to %s: %s is %q, not %q", x.from, x.to, name, got[name], kind)
			}
		}
	}
}

func TestWhatATeamChangedWhereARealReleaseDoesIsAPersons(t *testing.T) {
	old, new := shippedAt(t, "v4.5.0"), shippedAt(t, "v4.6.0")
	theirs := asATeamHasIt(t, old)
	const site = "proxy/etc/nginx/sites-available/vmst.conf.tmpl"
	theirs[site] = bytes.ReplaceAll(theirs[site], []byte("    try_files $uri @proxy;\n"), []byte("    try_files $uri @puma;\n"))
	for _, p := range Upstream(old, new, theirs) {
		if p.Template != site {
			continue
		}
		if p.Kind != ProposalConflict || len(p.Merged) > 0 || len(p.Conflicts) == 0 {
			t.Fatalf("%s, %d conflicts", p.Kind, len(p.Conflicts))
		}
		c := p.Conflicts[0]
		if !strings.Contains(c.Theirs, "@puma") || !strings.Contains(c.New, "@mastodon") || !strings.Contains(c.Old, "@proxy") {
			t.Errorf("%+v", c)
		}
		if line := strings.Split(string(theirs[site]), "\n")[c.Line-1]; !strings.Contains(c.Theirs, line) {
			t.Errorf("line %d is %q", c.Line, line)
		}
		return
	}
	t.Error("the site is not spoken of")
}

func TestAChangeOfARealUnitReachesUnitsThatWereMadeOfItUnderOtherNames(t *testing.T) {
	old := shippedAt(t, "v4.5.0")
	new := shippedAt(t, "v4.5.0")
	new["dist/mastodon-sidekiq.service"] = bytes.ReplaceAll(new["dist/mastodon-sidekiq.service"], []byte("TimeoutSec=15"), []byte("TimeoutSec=30"))
	if bytes.Equal(new["dist/mastodon-sidekiq.service"], old["dist/mastodon-sidekiq.service"]) {
		t.Fatal("upstream's unit has no TimeoutSec=15 any more")
	}
	got := Upstream(old, new, asATeamHasIt(t, old))
	if len(got) != 1 || got[0].Kind != ProposalMerged || !strings.Contains(string(got[0].Merged), "TimeoutSec=30") || !strings.Contains(string(got[0].Merged), "DB_POOL=40") {
		t.Errorf("%+v", got)
	}
}
