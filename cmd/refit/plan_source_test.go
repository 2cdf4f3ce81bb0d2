package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// someReleases makes a repository with tags v4.5.14, v4.5.15, v4.6.0 and v4.7.0
// of our own making, and returns its folder.
func someReleases(t *testing.T) string {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	dir := t.TempDir()
	git := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "HOME="+dir, "GIT_CONFIG_NOSYSTEM=1",
			"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=c", "GIT_COMMITTER_EMAIL=c@example.org")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "-q", "-b", "main")
	for _, r := range []struct {
		version string
		files   map[string]string
	}{
		{"4.5.14", map[string]string{
			".ruby-version": "3.4.7\n", "Gemfile.lock": "GEM\n  specs:\n    puma (7.2.1)\n\nBUNDLED WITH\n  2.7.2\n", "package.json": `{"packageManager":"yarn@4.10.3"}`,
			"config/sidekiq.yml": ":queues:\n  - default\n", "dist/nginx.conf": oldSite,
		}},
		{"4.5.15", map[string]string{"app/models/a.rb": "x\n"}},
		{"4.6.0", map[string]string{
			".ruby-version": "4.0.5\n", "Gemfile.lock": "GEM\n  specs:\n    puma (8.0.2)\n\nBUNDLED WITH\n  4.0.13\n", "yarn.lock": "x\n", "streaming/index.js": "process.env.BIND\n",
			"config/sidekiq.yml": ":queues:\n  - default\n  - fasp\n", "dist/nginx.conf": strings.Replace(oldSite, "99m", "199m", 1), "dist/mastodon-web.service": "[Service]\n",
			"app/workers/new_worker.rb":              "class NewWorker\n  include Sidekiq::Worker\nend\n",
			"db/migrate/20260101000000_add_index.rb": "def change\n  add_index :statuses, :x\nend\n",
		}},
		{"4.7.0", map[string]string{"db/post_migrate/20260701000000_drop_it.rb": "def up\n  drop_table :x\nend\n"}},
	} {
		p := strings.Split(r.version, ".")
		r.files["lib/mastodon/version.rb"] = "def major\n" + p[0] + "\nend\ndef minor\n" + p[1] + "\nend\ndef patch\n" + p[2] + "\nend\n"
		for name, text := range r.files {
			full := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		git("add", "-A")
		git("commit", "-q", "-m", r.version)
		git("tag", "-a", "-m", r.version, "v"+r.version)
	}
	return dir
}

// planOf runs the command and reads its JSON.
func planOf(t *testing.T, wantCode int, args ...string) map[string]any {
	t.Helper()
	code, out, errs := command(t.Context(), append([]string{"plan", "--json"}, args...)...)
	if code != wantCode {
		t.Fatalf("exit %d, want %d\n%s\n%s", code, wantCode, out, errs)
	}
	var p map[string]any
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return p
}

func TestAPlanOfTheSourceHasEveryPromisedField(t *testing.T) {
	dir := someReleases(t)
	p := planOf(t, exitDone, "--from", "v4.5.14", "--to", "v4.6.0", "--upstream", dir)
	changes, ok := p["changes"].(map[string]any)
	if !ok {
		t.Fatalf("%v", p)
	}
	has := func(where map[string]any, kind string, names ...string) {
		for _, name := range names {
			v, ok := where[name]
			if _, array := v.([]any); !ok || kind == "array" && !array {
				t.Errorf("%s is %v: %s", name, v, kind)
			}
		}
	}
	has(p, "any", "schema", "from", "to", "commit", "tree", "published", "deadline", "security", "requirements", "changes", "reversible", "order")
	has(p, "array", "advisories", "flags", "blockers", "acknowledgements", "steps")
	has(changes, "any", "ruby", "node", "bundler", "yarn", "gems", "javascript", "streaming", "migrations", "jobs", "queues", "nginx", "env", "search")
	has(changes, "array", "units")
	for name, parts := range map[string][]string{"migrations": {"pre", "post"}, "jobs": {"added", "removed"}, "queues": {"added", "removed"}, "env": {"added", "removed"}} {
		has(changes[name].(map[string]any), "array", parts...)
	}
	for what, want := range map[string]string{
		"schema": `"refit.plan/v1"`, "from": `"v4.5.14"`, "to": `"v4.6.0"`, "reversible": "true", "order": `"sidekiq"`, "steps": "[]", "security": "false", "published": `""`,
	} {
		if got := text(t, p[what]); got != want {
			t.Errorf("%s is %s, want %s", what, got, want)
		}
	}
	for what, want := range map[string]string{
		"ruby": `{"from":"3.4.7","to":"4.0.5"}`, "yarn": `{"from":"4.10.3","to":"4.10.3"}`, "units": `["mastodon-web.service"]`,
		"jobs":   `{"added":[{"class":"NewWorker","file":"new_worker.rb"}],"removed":[]}`,
		"search": "null", "streaming": `{"files":["streaming","yarn.lock"]}`,
		"queues": `{"added":["fasp"],"removed":[],"unknown":[]}`,
	} {
		if got := text(t, changes[what]); got != want {
			t.Errorf("changes.%s is %s, want %s", what, got, want)
		}
	}
	if nginx := text(t, changes["nginx"]); !strings.Contains(nginx, `-  client_max_body_size 99m;\n+  client_max_body_size 199m;`) {
		t.Errorf("the diff is missing: %s", nginx)
	}
	// A patch without anything: what did not change is null, no array is.
	p = planOf(t, exitDone, "--from", "v4.5.14", "--to", "v4.5.15", "--upstream", "file://"+dir)
	for path, v := range walk("", p) {
		if v == nil && !slices.Contains([]string{".changes.gems", ".changes.javascript", ".changes.streaming", ".changes.nginx", ".changes.search"}, path) {
			t.Errorf("%s is null", path)
		}
	}
}

// walk gives every value below v by its path.
func walk(at string, v any) map[string]any {
	out := map[string]any{at: v}
	if m, ok := v.(map[string]any); ok {
		for name, sub := range m {
			for p, x := range walk(at+"."+name, sub) {
				out[p] = x
			}
		}
	}
	return out
}

func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), `\u003e`, ">")
}

func TestAPlanOfTheSourceBeginsWithTheDecision(t *testing.T) {
	dir := someReleases(t)
	for name, c := range map[string]struct {
		from, to string
		code     int
		first    string
		says     []string
	}{
		"a patch": {"v4.5.14", "v4.5.15", exitDone, "v4.5.14 → v4.5.15: the way is open", []string{"no migration: it can be undone", "Sidekiq goes first, as upstream has it", "code alone: 2 files differ"}},
		"a minor": {"v4.5.15", "v4.6.0", exitDone, "v4.5.15 → v4.6.0: the way is open", []string{
			"1 migration while v4.5.15 serves, none after: it can be undone", "Sidekiq goes first: it must know 1 new job class", "20260101000000_add_index: builds an index on statuses",
			"Ruby: 3.4.7 → 4.0.5", "puma 7.2.1 → 8.0.2", "queues added, which some Sidekiq has to work off: fasp", "environment names that are new: BIND", "mastodon-web.service",
		}},
		"a one-way": {"v4.6.0", "v4.7.0", exitDone, "v4.6.0 → v4.7.0: the way is open", []string{"after which it cannot be undone: 20260701000000_drop_it", "signed out"}},
		"a jump":    {"v4.5.14", "v4.7.0", exitRefused, "v4.5.14 → v4.7.0: no: from v4.5.14 straight to v4.7.0 skips a minor series", []string{"v4.5.14 → v4.6.0 → v4.7.0"}},
		"back":      {"v4.6.0", "v4.5.15", exitRefused, "v4.6.0 → v4.5.15: no: v4.5.15 is older", []string{"refit rollback", "the web goes first"}},
		"nowhere":   {"v4.5.15", "v4.5.15", exitDone, "v4.5.15 → v4.5.15: the way is open", []string{"no files differ"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := command(t.Context(), "plan", "--from", c.from, "--to", c.to, "--upstream", dir)
			if code != c.code || !strings.HasPrefix(out, c.first) {
				t.Errorf("exit %d\n%s\n%s", code, out, errs)
			}
			for _, part := range c.says {
				if !strings.Contains(out, part) {
					t.Errorf("%q is not said:\n%s", part, out)
				}
			}
			if (c.code == exitRefused) != strings.Contains(errs, "refused, nothing was touched") {
				t.Errorf("%q", errs)
			}
		})
	}
}

func TestARefusedPlanOfTheSourceIsStillAPlanForPrograms(t *testing.T) {
	dir := someReleases(t)
	p := planOf(t, exitRefused, "--from", "v4.5.14", "--to", "v4.7.0", "--upstream", dir)
	if got := text(t, p["blockers"]); !strings.Contains(got, "skips a minor series") || p["schema"] != "refit.plan/v1" {
		t.Errorf("%v", p)
	}
	if got := text(t, p["via"]); got != `["v4.6.0","v4.7.0"]` {
		t.Errorf("the way to go is %s", got)
	}
}

func TestCommitsAreNamedWhereARepositoryHasNoTags(t *testing.T) {
	dir := someReleases(t)
	rev := func(ref string) string {
		out, err := exec.CommandContext(t.Context(), "git", "-C", dir, "rev-parse", ref).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	file := filepath.Join(t.TempDir(), "commits.txt")
	lines := "v4.5.14 " + rev("v4.5.14^{commit}") + "\nv4.5.15 " + rev("v4.5.15^{commit}") + " " + rev("v4.5.15^{tree}") + "\n"
	if err := os.WriteFile(file, []byte(lines), 0o644); err != nil {
		t.Fatal(err)
	}
	want := rev("v4.5.15^{tree}")
	if out, err := exec.CommandContext(t.Context(), "git", "-C", dir, "tag", "-d", "v4.5.14", "v4.5.15", "v4.6.0", "v4.7.0").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p := planOf(t, exitDone, "--from", "v4.5.14", "--to", "v4.5.15", "--upstream", dir, "--commits", file)
	if p["tree"] != want {
		t.Errorf("tree %v, want %s", p["tree"], want)
	}
	if code, _, errs := command(t.Context(), "plan", "--from", "v4.5.14", "--to", "v4.6.0", "--upstream", dir, "--commits", file); code != exitFailed || !strings.Contains(errs, "names no commit for v4.6.0") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if code, _, errs := command(t.Context(), "plan", "--from", "v4.5.14", "--to", "v4.5.15", "--upstream", dir); code != exitFailed || !strings.Contains(errs, "has no tag v4.5.14") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

func TestAPlanOfTheSourceThatCannotBeMadeSaysWhatToDo(t *testing.T) {
	dir := someReleases(t)
	none := filepath.Join(t.TempDir(), "none")
	for line, c := range map[string]struct {
		code int
		says string
	}{
		"--to v4.6.0 --upstream " + dir:                                       {exitUsage, "go with --from"},
		"--to v4.6.0 --commits x":                                             {exitUsage, "go with --from"},
		"--from v4.5.15 --upstream " + dir:                                    {exitUsage, "needs --to"},
		"--from 4.5 --to v4.6.0 --upstream " + dir:                            {exitUsage, "--from \"4.5\" is no release version"},
		"--from v4.5.15 --to latest --upstream " + dir:                        {exitUsage, "--to \"latest\" is no release version"},
		"--from v4.5.15 --to v4.6.0 -c x --upstream " + dir:                   {exitUsage, "leave one of the two out"},
		"--from v4.5.15 --to v4.6.0 --upstream " + none:                       {exitUsage, "neither a folder that is there nor a URL"},
		"--from v4.5.15 --to v4.6.0 --upstream " + t.TempDir():                {exitUsage, "name the folder of a clone"},
		"--from v4.5.15 --to v4.6.0 --upstream " + dir + " --commits " + none: {exitUsage, "--commits"},
		"--from v4.5.15 --to v4.6.9 --upstream " + dir:                        {exitFailed, "the nearest are"},
		"--from v4.5.15 --to v4.6.0 --upstream http://127.0.0.1:1/":           {exitFailed, "127.0.0.1:1"},
		"--from v4.5.15 v4.6.0 --upstream " + dir:                             {exitUsage, "takes no words beside its flags"},
		"--to v4.6.0 -c " + none:                                              {exitUsage, "refit example"},
	} {
		code, out, errs := command(t.Context(), append([]string{"plan"}, strings.Fields(line)...)...)
		if code != c.code || !strings.Contains(errs, c.says) || out != "" {
			t.Errorf("%s: exit %d\n%s\n%s", line, code, out, errs)
		}
	}
}

func TestWhatNotesLeaveToAnAdminStandsAgainstAPlanUntilItIsAcknowledged(t *testing.T) {
	dir := someReleases(t)
	notes := t.TempDir()
	body := func(tag, from, said string) string {
		return "## Upgrade notes\n\nTo get the code for " + tag + ", use `git fetch && git checkout " + tag + "`.\n\n" + said +
			"\n### Update steps\n\nThe following instructions are for updating from " + from + ".\n\n1. Restart all Mastodon processes.\n"
	}
	write(t, filepath.Join(notes, "v4.6.0.md"), body("v4.6.0", "4.5.14", "### Dependencies\n\n- Ruby: 3.3 or newer\n\n### StatsD\n\nStatsD has been dropped: remove `STATSD_ADDR`, see GHSA-2345-cfgh-jmpq.\n"))
	args := []string{"--from", "v4.5.14", "--to", "v4.6.0", "--upstream", dir, "--notes", notes}
	p := planOf(t, exitRefused, args...)
	if text(t, p["acknowledgements"]) != `["statsd"]` || !strings.Contains(text(t, p["blockers"]), "--ack statsd") {
		t.Errorf("%v, %v", p["acknowledgements"], p["blockers"])
	}
	if text(t, p["advisories"]) != `["GHSA-2345-cfgh-jmpq"]` || text(t, p["security"]) != "true" || !strings.Contains(text(t, p["differences"]), "the source has another Ruby, of which the notes say nothing") {
		t.Errorf("%v, %v, %v", p["advisories"], p["security"], p["differences"])
	}
	p = planOf(t, exitDone, append(args, "--ack", "statsd")...)
	if text(t, p["blockers"]) != "[]" || text(t, p["acknowledgements"]) != `["statsd"]` {
		t.Errorf("acknowledged: %v", p["blockers"])
	}
	planOf(t, exitRefused, append(args, "--ack", "statsd", "--ack", "statds")...)
	// A folder without the release's notes is no folder in which they ask for nothing.
	p = planOf(t, exitRefused, "--from", "v4.5.14", "--to", "v4.5.15", "--upstream", dir, "--notes", notes)
	if !strings.Contains(text(t, p["blockers"]), "--ack notes-unread") {
		t.Errorf("%v", p["blockers"])
	}
	if code, _, errs := command(t.Context(), "plan", "--from", "v4.5.14", "--to", "v4.6.0", "--upstream", dir, "--notes", filepath.Join(notes, "none")); code != exitUsage || !strings.Contains(errs, "folder of notes") {
		t.Errorf("code %d: %s", code, errs)
	}
}
