package standin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"vmst.io/refit/hosts/lab/standin"
)

const source = "../../../testdata/mastodon"

func git(t *testing.T, repo string, args ...string) string {
	t.Helper()
	out, err := exec.Command("git", append([]string{"--git-dir", repo}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func assembled(t *testing.T) string {
	t.Helper()
	repo := filepath.Join(t.TempDir(), "mastodon.git")
	if err := standin.Assemble(context.Background(), source, repo); err != nil {
		t.Fatal(err)
	}
	return repo
}

func TestAssemblingTwiceGivesTheSameCommits(t *testing.T) {
	first := assembled(t)
	// What the user has configured must not show.
	t.Setenv("GIT_AUTHOR_NAME", "Somebody Else")
	t.Setenv("GIT_DIR", t.TempDir())
	t.Setenv("TZ", "Pacific/Auckland")
	second := assembled(t)
	t.Setenv("GIT_DIR", "")
	if err := os.Unsetenv("GIT_DIR"); err != nil {
		t.Fatal(err)
	}
	a, b := git(t, first, "show-ref"), git(t, second, "show-ref")
	if a != b {
		t.Errorf("first:\n%s\nsecond:\n%s", a, b)
	}
}

func TestTheAssembledRepositoryHoldsWhatItsTablePromises(t *testing.T) {
	repo := assembled(t)
	t.Run("every release has the files an operator relies on", func(t *testing.T) { checkFiles(t, repo) })
	t.Run("every release says its own version and stands on its base", func(t *testing.T) { checkVersions(t, repo) })
	t.Run("patch releases have no migrations", func(t *testing.T) { checkPatches(t, repo) })
	t.Run("a migration version never stands for two different files", func(t *testing.T) { checkMigrations(t, repo) })
	t.Run("no lock file names a registry of ours", func(t *testing.T) { checkLocks(t, repo) })
}

func checkFiles(t *testing.T, repo string) {
	t.Helper()
	tags, err := standin.Tags(source)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		".ruby-version", ".nvmrc", "Gemfile", "Gemfile.lock", "package.json", "yarn.lock", ".yarnrc.yml", "streaming/package.json", "streaming/index.js",
		"config/puma.rb", "config/sidekiq.yml", "config/database.yml", "db/schema.rb", "lib/mastodon/version.rb", "bin/rails", "bin/tootctl",
		"dist/mastodon-web.service", "dist/mastodon-sidekiq.service", "dist/mastodon-streaming.service", "dist/mastodon-streaming@.service",
	}
	for _, tag := range tags {
		has := map[string]string{}
		for line := range strings.Lines(git(t, repo, "ls-tree", "-r", tag.Name)) {
			entry, name, _ := strings.Cut(strings.TrimSpace(line), "\t")
			has[name] = entry
		}
		for _, f := range want {
			if has[f] == "" {
				t.Errorf("%s lacks %s", tag.Name, f)
			}
		}
		for _, f := range tag.Remove {
			if has[f] != "" {
				t.Errorf("%s still has %s", tag.Name, f)
			}
		}
		if mode := has["bin/tootctl"]; !strings.HasPrefix(mode, "100755") {
			t.Errorf("%s: bin/tootctl is not executable: %s", tag.Name, mode)
		}
		if link := has["public/sw.js"]; !strings.HasPrefix(link, "120000") {
			t.Errorf("%s: public/sw.js is no symlink: %s", tag.Name, link)
		}
		if kind := git(t, repo, "cat-file", "-t", tag.Name); kind != "tag" {
			t.Errorf("%s is a %s, not an annotated tag", tag.Name, kind)
		}
	}
}

func checkVersions(t *testing.T, repo string) {
	t.Helper()
	tags, err := standin.Tags(source)
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range tags {
		n := tag.Numbers()
		text := strings.Join(strings.Fields(git(t, repo, "show", tag.Name+":lib/mastodon/version.rb")), " ")
		want := fmt.Sprintf("def major %s end def minor %s end def patch %s end", n[0], n[1], n[2])
		if !strings.Contains(text, want) {
			t.Errorf("%s: version.rb does not say %q", tag.Name, want)
		}
		if tag.Base == "" {
			continue
		}
		if parent, base := git(t, repo, "rev-parse", tag.Name+"^{commit}^"), git(t, repo, "rev-parse", tag.Base+"^{commit}"); parent != base {
			t.Errorf("%s stands on %s, not on %s (%s)", tag.Name, parent, tag.Base, base)
		}
	}
	if main, last := git(t, repo, "rev-parse", "main"), git(t, repo, "rev-parse", "v4.7.0^{commit}"); main != last {
		t.Errorf("main is %s, not v4.7.0 (%s)", main, last)
	}
}

func checkPatches(t *testing.T, repo string) {
	t.Helper()
	for _, to := range []string{"v4.5.1", "v4.5.2", "v4.5.20", "v4.5.21"} {
		if diff := git(t, repo, "diff", "--name-only", "v4.5.0", to, "--", "db"); diff != "" {
			t.Errorf("v4.5.0 to %s changes %s", to, diff)
		}
	}
}

// A database that tried a broken release keeps its versions: another release's
// migration of the same version would count as applied there.
func checkMigrations(t *testing.T, repo string) {
	t.Helper()
	tags, err := standin.Tags(source)
	if err != nil {
		t.Fatal(err)
	}
	type file struct{ tag, entry string }
	seen := map[string]file{}
	for _, tag := range tags {
		for line := range strings.Lines(git(t, repo, "ls-tree", "-r", tag.Name, "db/migrate", "db/post_migrate")) {
			entry := strings.TrimSpace(line) // with the content's hash and the path
			version, _, _ := strings.Cut(path.Base(entry), "_")
			if len(version) != 14 {
				t.Errorf("%s: no version in %q", tag.Name, entry)
			}
			if first, ok := seen[version]; !ok {
				seen[version] = file{tag.Name, entry}
			} else if first.entry != entry {
				t.Errorf("version %s is %q in %s and %q in %s", version, first.entry, first.tag, entry, tag.Name)
			}
		}
	}
	if len(seen) < 15 {
		t.Errorf("only %d migrations over all releases: %v", len(seen), seen)
	}
}

func checkLocks(t *testing.T, repo string) {
	t.Helper()
	gems, err := standin.Gems(source)
	if err != nil {
		t.Fatal(err)
	}
	public := map[string]bool{"https://rubygems.org/": true}
	for _, name := range gems {
		public["https://github.com/"+name+".git"] = true
	}
	tags, err := standin.Tags(source)
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range tags {
		if lock := git(t, repo, "show", tag.Name+":yarn.lock"); strings.Contains(lock, "http://") || strings.Contains(lock, "https://") {
			t.Errorf("%s: yarn.lock holds an address", tag.Name)
		}
		for _, line := range strings.Split(git(t, repo, "show", tag.Name+":Gemfile.lock"), "\n") {
			if remote, ok := strings.CutPrefix(strings.TrimSpace(line), "remote: "); ok && !public[remote] {
				t.Errorf("%s: Gemfile.lock names %s", tag.Name, remote)
			}
		}
	}
}

func TestEachLockFileIsMadeAnewOnceAndKeptForTheReleasesThatShareIt(t *testing.T) {
	repo := filepath.Join(t.TempDir(), "mastodon.git")
	calls := 0
	err := standin.AssembleWith(context.Background(), standin.Options{
		Source: source, Target: repo,
		Relock: func(_ context.Context, dir string) error {
			calls++
			return os.WriteFile(filepath.Join(dir, "Gemfile.lock"), fmt.Appendf(nil, "lock %d\n", calls), 0o644)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if calls != 3 {
		t.Errorf("%d lock files made, want 3: those of v4.5.0, v4.6.0 and v4.6.6", calls)
	}
	if lock := git(t, repo, "show", "v4.5.10:Gemfile.lock"); lock != "lock 1" {
		t.Errorf("v4.5.10 has %q, not the lock file of v4.5.0", lock)
	}
	if lock := git(t, repo, "show", "v4.6.4:Gemfile.lock"); lock != "lock 2" {
		t.Errorf("v4.6.4 has %q, not the lock file of v4.6.0", lock)
	}
	if a, b := git(t, repo, "show", "v4.5.0:Gemfile.lock"), git(t, repo, "show", "v4.6.0:Gemfile.lock"); a == b {
		t.Errorf("v4.5.0 and v4.6.0 have different gems and the same lock file %q", a)
	}
}

func TestAFailureLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	broken := errors.New("no gems today")
	err := standin.AssembleWith(context.Background(), standin.Options{
		Source: source, Target: filepath.Join(dir, "mastodon.git"),
		Relock: func(context.Context, string) error { return broken },
	})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "v4.5.0") {
		t.Errorf("error %v, want one that names the release and wraps %v", err, broken)
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestARepositoryThatIsThereIsNotTouched(t *testing.T) {
	dir := t.TempDir()
	if err := standin.Assemble(context.Background(), source, dir); !errors.Is(err, standin.ErrTargetExists) {
		t.Errorf("error %v, want %v", err, standin.ErrTargetExists)
	}
}

func TestAWrongTableOfReleasesIsRefusedWithItsReason(t *testing.T) {
	for name, c := range map[string]struct{ table, folder, want string }{
		"unknown field":     {`[{"name": "v1.0.0", "date": "2025-01-01", "abuot": "x"}]`, "v1.0.0", "abuot"},
		"no version":        {`[{"name": "1.0", "date": "2025-01-01"}]`, "1.0", "vX.Y.Z"},
		"no date":           {`[{"name": "v1.0.0"}]`, "v1.0.0", "v1.0.0"},
		"listed twice":      {`[{"name": "v1.0.0", "date": "2025-01-01"}, {"name": "v1.0.0", "base": "v1.0.0", "date": "2025-01-01"}]`, "v1.0.0", "twice"},
		"first with a base": {`[{"name": "v1.0.0", "base": "v0.9.0", "date": "2025-01-01"}]`, "v1.0.0", "first"},
		"unknown base":      {`[{"name": "v1.0.0", "date": "2025-01-01"}, {"name": "v1.0.1", "base": "v0.9.0", "date": "2025-01-01"}]`, "v1.0.0", "v0.9.0"},
		"none":              {`[]`, "v1.0.0", "none"},
		"missing folder":    {`[{"name": "v1.0.0", "date": "2025-01-01"}, {"name": "v1.0.1", "base": "v1.0.0", "date": "2025-01-01"}]`, "v1.0.0", "v1.0.1 is missing"},
		"unlisted folder":   {`[{"name": "v1.0.0", "date": "2025-01-01"}]`, "v1.0.9", "not in tags.json"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, "tags", c.folder), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "tags.json"), []byte(c.table), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := standin.Tags(dir); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// What make bench compares must not grow or shrink from one release to the next.
func TestTheReleasesAsLargeAsARealOneHaveTheSameFiller(t *testing.T) {
	type set struct {
		To        string
		Files     int
		Mean      int
		Hashed    bool
		Rewritten map[string]float64
	}
	var first []set
	for _, release := range []string{"v4.5.20", "v4.5.21", "v4.6.20"} {
		b, err := os.ReadFile(filepath.Join(source, "tags", release, "config/filler.json"))
		if err != nil {
			t.Fatal(err)
		}
		var filler struct{ Sets []set }
		if err := json.Unmarshal(b, &filler); err != nil {
			t.Fatal(err)
		}
		for i := range filler.Sets {
			for r := range filler.Sets[i].Rewritten {
				if r != release {
					t.Errorf("%s: %s rewrote files of it, which no base of it is", release, r)
				}
			}
			filler.Sets[i].Rewritten = nil
		}
		if first == nil {
			first = filler.Sets
		}
		if fmt.Sprint(filler.Sets) != fmt.Sprint(first) {
			t.Errorf("%s has %v, v4.5.20 has %v", release, filler.Sets, first)
		}
	}
	if len(first) != 2 || first[0].Files+first[1].Files < 29_000 {
		t.Errorf("the filler is %v", first)
	}
}
