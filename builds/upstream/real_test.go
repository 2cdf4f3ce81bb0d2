package upstream_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/upstream"
)

// realReleases gives a clone that carries upstream's history and the commit of every
// release, or skips: neither is part of this repository.
func realReleases(t *testing.T) (*upstream.Source, upstream.Commits, *oracle, map[string]string) {
	t.Helper()
	dir, file := os.Getenv("REFIT_UPSTREAM_CLONE"), os.Getenv("REFIT_UPSTREAM_COMMITS")
	if dir == "" || file == "" {
		t.Skip("REFIT_UPSTREAM_CLONE (a clone with upstream's history) and REFIT_UPSTREAM_COMMITS (its \"version commit\" lines) are not set: the real releases are left out")
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	commits, err := upstream.ReadCommits(f, file)
	if err != nil {
		t.Fatal(err)
	}
	clone, err := upstream.OpenClone(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := clone.Close(); err != nil {
			t.Error(err)
		}
	})
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	hashes := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^(v\S+) ([0-9a-f]{40})`).FindAllStringSubmatch(string(text), -1) {
		hashes[m[1]] = m[2]
	}
	return clone.Named(commits), commits, &oracle{t: t, dir: dir, env: map[string][]string{}, queues: map[string][]string{}}, hashes
}

// pairsOf are every release with the next one of the list, and across each
// border of two series last to last, first to first, first to last.
func pairsOf(list []builds.Version) [][2]builds.Version {
	var out [][2]builds.Version
	first, last := map[string]builds.Version{}, map[string]builds.Version{}
	var order []string
	for i, v := range list {
		if i > 0 {
			out = append(out, [2]builds.Version{list[i-1], v})
		}
		if first[v.Line()].IsZero() {
			first[v.Line()] = v
			order = append(order, v.Line())
		}
		last[v.Line()] = v
	}
	for i := 1; i < len(order); i++ {
		a, b := order[i-1], order[i]
		for _, p := range [][2]builds.Version{{last[a], last[b]}, {first[a], first[b]}, {first[a], last[b]}} {
			if !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

func TestEveryPairOfRealReleasesIsUnderstoodAsGitShowsIt(t *testing.T) {
	source, commits, o, hashes := realReleases(t)
	list, err := commits.Versions()
	if err != nil {
		t.Fatal(err)
	}
	rows := []string{
		"| from → to | files | Ruby | Node | Bundler | Yarn | gems | js | streaming | pre | post | risky | in place | jobs +/− | queues +/− | schedule +/−/~ | units | nginx | env +/− | search | undo | first | path | equal to git |",
		"|" + strings.Repeat("---|", 24),
	}
	tried, failed := 0, 0
	for _, p := range pairsOf(list) {
		a, b := p[0].String(), p[1].String()
		ran := false
		ok := t.Run(a+" to "+b, func(t *testing.T) {
			o.t, ran = t, true
			reader := upstream.Reader{Dir: t.TempDir(), Say: t.Logf}
			u, err := reader.Understand(t.Context(), source, p[0], p[1])
			if err != nil {
				t.Fatal(err)
			}
			o.hold(u, hashes[a], hashes[b])
			again, err := reader.Understand(t.Context(), source, p[0], p[1])
			if err != nil || asJSON(t, again) != asJSON(t, u) {
				t.Errorf("what is kept is not what was read (%v)", err)
			}
			if v := builds.Path(p[0], p[1], builds.PathOptions{Known: list}); v.Refused != "" {
				t.Errorf("the path is refused: %s", v.Refused)
			}
			if !t.Failed() {
				rows = append(rows, row(u))
			}
		})
		if ran {
			tried++
		}
		switch {
		case !ok:
			failed++
			rows = append(rows, fmt.Sprintf("| %s → %s | not as git shows it |", a, b))
		case ran:
			rows[len(rows)-1] += " yes |"
		}
	}
	t.Logf("%d pairs, %d not as git shows them\n%s", tried, failed, strings.Join(rows, "\n"))
}

// The widest way that there is: from the first release of a series to the last of the
// next. Its time is the processor's: a busy machine says nothing of the program. What the
// runtime has from the system is the most that was needed, so a process of its own is asked.
func TestAPlanOfRealReleasesIsQuickAndSmall(t *testing.T) {
	source, _, _, _ := realReleases(t)
	if os.Getenv("REFIT_MEASURED") == "" {
		own := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
		own.Env = append(os.Environ(), "REFIT_MEASURED=1")
		out, err := own.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Error(err)
		}
		return
	}
	reader := upstream.Reader{Dir: t.TempDir(), Say: t.Logf}
	for _, c := range []struct {
		how  string
		most time.Duration
	}{{"cold", 15 * time.Second}, {"cached", time.Second}} {
		began, clock := processor(t), time.Now()
		if _, err := reader.Understand(t.Context(), source, parse(t, "v4.3.0"), parse(t, "v4.4.22")); err != nil {
			t.Fatal(err)
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		took := processor(t) - began
		t.Logf("%s: %s of processor, %s by the clock, %d MiB", c.how, took.Round(time.Millisecond), time.Since(clock).Round(time.Millisecond), m.Sys>>20)
		if took > c.most || m.Sys > 300<<20 {
			t.Errorf("%s: %s and %d MiB, at most %s and 300 MiB", c.how, took, m.Sys>>20, c.most)
		}
	}
}

// processor is the time of it that this process has used.
func processor(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func asJSON(t *testing.T, u builds.Understanding) string {
	t.Helper()
	b, err := json.Marshal(u)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// hold compares every facet with what git says.
func (o *oracle) hold(u builds.Understanding, a, b string) {
	o.t.Helper()
	c := u.Changes
	same := func(what string, want, got any) {
		o.t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			o.t.Errorf("%s (git says -, refit says +):\n%s", what, diff)
		}
	}
	if want := strings.TrimSpace(o.git("rev-parse", b+"^{tree}")); u.To.Tag.Tree != want || u.To.Tag.Commit != b {
		o.t.Errorf("commit %s, tree %s; git says %s, %s", u.To.Tag.Commit, u.To.Tag.Tree, b, want)
	}
	same("files", len(o.paths(a, b, "")), c.Files)
	o.holdPins(same, c, a, b)
	o.holdMigrations(same, u, a, b)
	o.holdDist(same, c, a, b)
	added, removed := []string{}, []string{}
	for _, j := range c.Jobs.Added {
		added = append(added, j.Class+" "+j.File)
	}
	for _, j := range c.Jobs.Removed {
		removed = append(removed, j.Class+" "+j.File)
	}
	jobsAdded, jobsRemoved := o.jobs(a, b, "A", b), o.jobs(a, b, "D", a)
	same("jobs added", jobsAdded, set(added))
	same("jobs removed", jobsRemoved, set(removed))
	first := "sidekiq"
	if len(jobsAdded) == 0 && len(jobsRemoved) > 0 {
		first = "web"
	}
	same("order", first, u.Order)
	same("queues added", minus(o.queueNames(b), o.queueNames(a)), c.Queues.Added)
	same("queues removed", minus(o.queueNames(a), o.queueNames(b)), c.Queues.Removed)
	same("env added", minus(o.envNames(b), o.envNames(a)), c.Env.Added)
	same("env removed", minus(o.envNames(a), o.envNames(b)), c.Env.Removed)
	o.holdSchedule(same, c.Schedule, a, b)
	same("search", o.differs(a, b, "app/chewy"), c.Search != nil)
	if c.Search != nil {
		same("search files", o.paths(a, b, "", "app/chewy"), c.Search.Files)
		same("search blanks", strings.TrimSpace(o.git("diff", "-w", "--ignore-blank-lines", a, b, "--", "app/chewy")) == "", c.Search.Blanks)
	}
	mins := map[string]string{}
	for name, m := range u.Requirements {
		mins[name] = m.Min
	}
	same("requirements", o.minimums(b), mins)
}

func (o *oracle) holdPins(same func(string, any, any), c builds.Changes, a, b string) {
	pin := func(file, form string) builds.Pin {
		of := func(commit string) string {
			if m := regexp.MustCompile(form).FindStringSubmatch(o.show(commit, file)); m != nil {
				return m[1]
			}
			return ""
		}
		return builds.Pin{From: of(a), To: of(b)}
	}
	same("ruby", pin(".ruby-version", `^(\S+)`), c.Ruby)
	same("node", pin(".nvmrc", `^v?(\S+)`), c.Node)
	same("bundler", pin("Gemfile.lock", `BUNDLED WITH\n +(\S+)`), c.Bundler)
	same("yarn", pin("package.json", `"packageManager": "yarn@([0-9.]+)`), c.Yarn)
	same("gems", o.differs(a, b, "Gemfile.lock"), c.Gems != nil)
	if c.Gems != nil {
		gems := []string{}
		for _, g := range c.Gems.Changed {
			gems = append(gems, g.Name+" "+g.From+" "+g.To)
		}
		same("gem versions", o.gems(a, b), set(gems))
	}
	same("javascript", o.differs(a, b, "package.json", "yarn.lock", "app/javascript"), c.JavaScript != nil)
	same("streaming", o.differs(a, b, "streaming", "yarn.lock"), c.Streaming != nil)
}

func (o *oracle) holdMigrations(same func(string, any, any), u builds.Understanding, a, b string) {
	m := u.Changes.Migrations
	preA, postA, preB, postB := o.migrationFiles(a, "db/migrate"), o.migrationFiles(a, "db/post_migrate"), o.migrationFiles(b, "db/migrate"), o.migrationFiles(b, "db/post_migrate")
	oldAll, newAll := slices.Concat(preA, postA), slices.Concat(preB, postB)
	pre, post := minus(preB, oldAll), minus(postB, oldAll)
	same("pre", pre, m.Pre)
	same("post", post, m.Post)
	same("gone", minus(oldAll, newAll), m.Gone)
	moved := append(minus(preB, append(minus(newAll, preB), append(preA, pre...)...)), minus(postB, append(postA, post...))...)
	same("moved", set(moved), m.Moved)
	var changed []string
	for _, p := range o.paths(a, b, "M", "db/migrate/*.rb", "db/post_migrate/*.rb") {
		changed = append(changed, strings.TrimSuffix(filepath.Base(p), ".rb"))
	}
	same("changed in place", set(changed), m.Changed)
	same("migration-free", len(pre)+len(post) == 0, u.MigrationFree)
	same("reversible", len(post) == 0, u.Reversible)
	marks := map[string]string{}
	for _, r := range m.Risky {
		marks[r.Name] = strings.Join(r.Reasons, "\n")
	}
	for folder, names := range map[string][]string{"db/migrate/": pre, "db/post_migrate/": post} {
		for _, name := range names {
			text := o.show(b, folder+name+".rb")
			same(name+" rewrites data with no way back", o.rewrites(text), strings.Contains(marks[name], "rewrites data"))
			big, concurrent := o.bigIndex(text)
			same(name+" builds a big index", big, strings.Contains(marks[name], "builds an index on"))
			same(name+" builds it while nothing can be written", big && !concurrent, strings.Contains(marks[name], "that is not concurrent"))
		}
	}
}

func (o *oracle) holdSchedule(same func(string, any, any), s builds.ScheduleChanges, a, b string) {
	was, is := o.schedule(a), o.schedule(b)
	var added, removed, changed []string
	for name, text := range is {
		if old, ok := was[name]; !ok {
			added = append(added, name)
		} else if old != text {
			changed = append(changed, name)
		}
	}
	for name := range was {
		if _, ok := is[name]; !ok {
			removed = append(removed, name)
		}
	}
	same("schedule added", set(added), set(s.Added))
	same("schedule removed", set(removed), set(s.Removed))
	same("schedule changed", set(changed), set(s.Changed))
}

// holdDist compares the names, and applies every diff with git to what the old
// release has: it must give what the new one has.
func (o *oracle) holdDist(same func(string, any, any), c builds.Changes, a, b string) {
	var units []string
	for _, p := range o.paths(a, b, "", "dist") {
		if regexp.MustCompile(`\.(service|target|timer|socket)$`).MatchString(p) {
			units = append(units, filepath.Base(p))
		}
	}
	same("units", set(units), set(c.Units))
	same("nginx", o.differs(a, b, "dist/nginx.conf"), c.Nginx != nil)
	diffs := map[string]string{}
	for name, diff := range c.UnitDiffs {
		diffs["dist/"+name] = diff
	}
	if c.Nginx != nil {
		diffs["dist/nginx.conf"] = c.Nginx.Diff
	}
	for file, diff := range diffs {
		same("the diff of "+file, o.show(b, file), o.applied(o.show(a, file), file, diff))
	}
}

func (o *oracle) applied(text, file, diff string) string {
	dir := o.t.TempDir()
	full := filepath.Join(dir, file)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		o.t.Fatal(err)
	}
	if text != "" {
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			o.t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(o.t.Context(), "git", "apply", "-")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(diff)
	if out, err := cmd.CombinedOutput(); err != nil {
		o.t.Fatalf("git apply: %v\n%s\n%s", err, out, diff)
	}
	got, err := os.ReadFile(full)
	if err != nil {
		return "" // removed
	}
	return string(got)
}

// row is a line of the table of results.
func row(u builds.Understanding) string {
	c, m := u.Changes, u.Changes.Migrations
	pin := func(p builds.Pin) string {
		if p.Changed() {
			return p.From + " → " + p.To
		}
		return "·"
	}
	mark := func(changed bool) string {
		if changed {
			return "x"
		}
		return "·"
	}
	num := func(n ...int) string {
		var out []string
		for _, x := range n {
			out = append(out, fmt.Sprint(x))
		}
		if text := strings.Join(out, "/"); strings.Trim(text, "0/") != "" {
			return text
		}
		return "·"
	}
	search := mark(c.Search != nil)
	if c.Search != nil && c.Search.Blanks {
		search = "blanks"
	}
	return "| " + strings.Join([]string{
		u.From.Version.String() + " → " + u.To.Version.String(), fmt.Sprint(c.Files), pin(c.Ruby), pin(c.Node), pin(c.Bundler), pin(c.Yarn),
		mark(c.Gems != nil), mark(c.JavaScript != nil), mark(c.Streaming != nil), num(len(m.Pre)), num(len(m.Post)), num(len(m.Risky)), num(len(m.Changed)),
		num(len(c.Jobs.Added), len(c.Jobs.Removed)), num(len(c.Queues.Added), len(c.Queues.Removed)),
		num(len(c.Schedule.Added), len(c.Schedule.Removed), len(c.Schedule.Changed)), num(len(c.Units)), mark(c.Nginx != nil),
		num(len(c.Env.Added), len(c.Env.Removed)), search, mark(u.Reversible), u.Order, "go",
	}, " | ") + " |"
}
