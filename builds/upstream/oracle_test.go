package upstream_test

import (
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// oracle finds the truth about real releases by another way than the program
// does: the git binary, its own diff and grep, and expressions of its own.
type oracle struct {
	t   *testing.T
	dir string
	// env and queues are what each commit reads, since asking takes long.
	env, queues map[string][]string
}

// git runs the git binary. A clone that lacks objects must not fetch them.
func (o *oracle) git(args ...string) string {
	o.t.Helper()
	out, err := o.try(args...)
	if err != nil {
		o.t.Fatalf("git %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func (o *oracle) try(args ...string) (string, error) {
	cmd := exec.CommandContext(o.t.Context(), "git", append([]string{"--no-pager", "-c", "core.quotePath=false"}, args...)...)
	cmd.Dir = o.dir
	cmd.Env = append(os.Environ(), "GIT_NO_LAZY_FETCH=1", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C")
	out, err := cmd.Output()
	return string(out), err
}

// show is a file's text, empty if the tree lacks it.
func (o *oracle) show(commit, file string) string {
	out, err := o.try("show", commit+":"+file)
	if err != nil {
		return ""
	}
	return out
}

// paths are those that differ, of one kind of change ("A", "D", "M", "" for all).
func (o *oracle) paths(a, b, filter string, where ...string) []string {
	args := []string{"diff", "--no-renames", "--name-only"}
	if filter != "" {
		args = append(args, "--diff-filter="+filter)
	}
	return lines(o.git(append(append(args, a, b, "--"), where...)...))
}

func (o *oracle) differs(a, b string, where ...string) bool {
	return strings.TrimSpace(o.git(append([]string{"diff", "--no-renames", "--shortstat", a, b, "--"}, where...)...)) != ""
}

// grep greps a commit's tree for one expression and returns the first group of each hit.
func (o *oracle) grep(commit, extended, group string, where ...string) []string {
	out, err := o.try(append([]string{"grep", "-hoIE", extended, commit, "--"}, where...)...)
	if err != nil && out != "" {
		o.t.Fatal(err)
	}
	var found []string
	for _, m := range regexp.MustCompile(group).FindAllStringSubmatch(out, -1) {
		found = append(found, strings.Join(m[1:], ""))
	}
	return set(found)
}

// envNames greps for the forms that the issue names.
func (o *oracle) envNames(commit string) []string {
	if _, ok := o.env[commit]; !ok {
		scope := []string{"app", "config", "lib", "streaming", "bin", "vite.config.*"}
		ruby := o.grep(commit, `(^|[^A-Za-z0-9_])ENV(\[|\.(fetch|key\?)[ (]) *['"][A-Za-z0-9_]+['"]`, `['"]([A-Za-z0-9_]+)['"]`, scope...)
		node := o.grep(commit, `process\.env\.[A-Za-z0-9_]+`, `process\.env\.(\w+)`, scope...)
		o.env[commit] = set(append(ruby, node...))
	}
	return o.env[commit]
}

// queueNames greps config/sidekiq.yml and the workers.
func (o *oracle) queueNames(commit string) []string {
	if _, ok := o.queues[commit]; !ok {
		listed := regexp.MustCompile(`(?m)^  - \[?([a-z_]+)`).FindAllStringSubmatch(o.show(commit, "config/sidekiq.yml"), -1)
		asked := o.grep(commit, `sidekiq_options .*queue: *['":][a-z_]+`, `queue: *['":]([a-z_]+)`, "app/workers")
		for _, m := range listed {
			asked = append(asked, m[1])
		}
		o.queues[commit] = set(asked)
	}
	return o.queues[commit]
}

// migrationFiles are base names without .rb, by folder.
func (o *oracle) migrationFiles(commit, folder string) []string {
	var out []string
	for _, p := range lines(o.git("ls-tree", "--name-only", commit, folder+"/")) {
		if name, ok := strings.CutSuffix(path.Base(p), ".rb"); ok {
			out = append(out, name)
		}
	}
	return out
}

// jobs are "class file" of the files of app/workers that git says were added or
// removed, the class told by the file's text.
func (o *oracle) jobs(a, b, filter, commit string) []string {
	out := []string{}
	for _, p := range o.paths(a, b, filter, "app/workers") {
		if strings.Contains(p, "/concerns/") || !strings.HasSuffix(p, ".rb") {
			continue
		}
		var name []string
		for _, m := range regexp.MustCompile(`(?m)^ *(module|class) ([A-Za-z:]+)`).FindAllStringSubmatch(o.show(commit, p), -1) {
			name = append(name, m[2])
			if m[1] == "class" {
				break
			}
		}
		out = append(out, strings.Join(name, "::")+" "+strings.TrimPrefix(p, "app/workers/"))
	}
	return set(out)
}

// schedule is the text of each entry by name: the keys at the indent that upstream gives them.
func (o *oracle) schedule(commit string) map[string]string {
	_, text, _ := strings.Cut(o.show(commit, "config/sidekiq.yml"), "\n  :schedule:\n")
	out := map[string]string{}
	for _, part := range regexp.MustCompile(`(?m)^    (\w+):\n((?:      .*\n)*)`).FindAllStringSubmatch(text, -1) {
		out[part[1]] = part[2]
	}
	return out
}

// gems are "name from to" of the lines that differ in Gemfile.lock.
func (o *oracle) gems(a, b string) []string {
	was, is := map[string]string{}, map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^([-+])    ([^ ]+) \((.*)\)$`).FindAllStringSubmatch(o.git("diff", "-U0", a, b, "--", "Gemfile.lock"), -1) {
		if m[1] == "-" {
			was[m[2]] = m[3]
		} else {
			is[m[2]] = m[3]
		}
	}
	var out []string
	for name, v := range was {
		if is[name] != v {
			out = append(out, name+" "+v+" "+is[name])
		}
	}
	for name, v := range is {
		if _, both := was[name]; !both {
			out = append(out, name+"  "+v)
		}
	}
	return set(out)
}

// minimums are what error texts and manifests say, not what code compares.
func (o *oracle) minimums(commit string) map[string]string {
	out := map[string]string{}
	for name, where := range map[string][2]string{
		"ruby":          {"Gemfile", `(?m)^ruby '>= ([\d.]+)'`},
		"node":          {"package.json", `"node": ">=(\d+)"`},
		"postgresql":    {"lib/tasks/db.rake", `requires PostgreSQL ([\d.]+) or newer`},
		"libvips":       {"config/initializers/vips.rb", `please install libvips >= ([\d.]+)`},
		"elasticsearch": {"app/lib/admin/system_check/elasticsearch_check.rb", `'(\d+)\.x'`},
	} {
		if m := regexp.MustCompile(where[1]).FindStringSubmatch(o.show(commit, where[0])); m != nil {
			out[name] = m[1]
		}
	}
	if m := regexp.MustCompile(`(?m)^    sidekiq \((\d)`).FindStringSubmatch(o.show(commit, "Gemfile.lock")); m != nil {
		out["redis"] = map[string]string{"6": "4.0.0", "7": "6.2.0", "8": "7.0.0"}[m[1]]
	}
	// The text names a release; its last migration is what the code compares with.
	if m := regexp.MustCompile(`Zero-downtime migrations from Mastodon versions earlier than ([\d.]+) are not supported`).FindStringSubmatch(o.show(commit, "lib/tasks/db.rake")); m != nil {
		out["schema"] = map[string]string{"4.2.0": "20230907150100", "4.3.0": "20241007071624"}[m[1]]
	}
	return out
}

// rewrites tells whether a new migration's text changes rows without a way back,
// by cutting the text at its "def down".
func (o *oracle) rewrites(text string) bool {
	text = regexp.MustCompile(`(?m)#.*$`).ReplaceAllString(text, "")
	up, down, hasDown := strings.Cut(text, "def down")
	rewrites := regexp.MustCompile(`update_all|update_column|\.upsert|delete_all|\.save|UPDATE |DELETE FROM|INSERT INTO|\.update\(`).MatchString(up)
	down = strings.NewReplacer("end", "", ";", "", " ", "", "\n", "").Replace(down)
	return rewrites && (!hasDown || down == "" || strings.Contains(down, "IrreversibleMigration"))
}

// bigIndex tells whether a new migration builds an index on a table that is big
// on every instance, and whether that is concurrent.
func (o *oracle) bigIndex(text string) (big, concurrent bool) {
	for _, m := range regexp.MustCompile(`add_index :(statuses|accounts|follows|quotes|notifications|preview_cards|users|status_stats|conversations|media_attachments|tagged_objects),[^\n]*`).FindAllString(text, -1) {
		if !strings.Contains(text, "create_table :"+strings.TrimSuffix(strings.Fields(m)[1][1:], ",")) {
			big, concurrent = true, strings.Contains(m, "algorithm: :concurrently")
		}
	}
	return big, concurrent
}

func lines(out string) []string {
	out = strings.TrimSpace(out)
	if out == "" {
		return nil
	}
	return strings.Split(out, "\n")
}

// set sorts, without doubles; never nil.
func set(list []string) []string {
	out := append([]string{}, list...)
	slices.Sort(out)
	return slices.Compact(out)
}

func minus(a, b []string) []string {
	out := []string{}
	for _, x := range a {
		if !slices.Contains(b, x) {
			out = append(out, x)
		}
	}
	return set(out)
}
