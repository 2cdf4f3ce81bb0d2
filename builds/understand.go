package builds

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"vmst.io/refit/hosts/git"
)

// Side is one of two releases that are compared, with its tree.
type Side struct {
	Release Release
	Tree    Tree
}

// Between is how the two trees differ.
type Between struct {
	// Changes are the paths that differ.
	Changes []git.Change
	// Patch is one path's unified diff.
	Patch func(path string) (string, error)
}

// Understand says what two releases' sources mean for the way from one to the
// other. It reads and compares; it knows no fleet and no notes. A file that is
// there and cannot be read is an error: a guess would be worse.
func Understand(from, to Side, b Between) (Understanding, error) {
	u := Understanding{From: from.Release, To: to.Release}
	f := Compare(from.Release.Contents, to.Release.Contents, b.Changes)
	pins(&u.Changes, f.From.Pins, f.To.Pins)
	u.Changes.Files = f.Files
	u.Changes.JavaScript = touched(b.Changes, "package.json", "yarn.lock", "app/javascript/")
	u.Changes.Streaming = touched(b.Changes, "streaming/", "yarn.lock")
	read := map[string]fileCode{}
	for _, facet := range []func() error{
		func() error { return u.gems(from, to, b) },
		func() error { return u.migrations(f, from, to) },
		func() error { return u.jobs(from, to) },
		func() error { return u.code(from, to, read) },
		func() error { return u.schedule(from, to) },
		func() error { return u.dist(b) },
		func() error { return u.search(from, to, b) },
		func() (err error) { u.Requirements, err = minimums(to.Tree, f.To.Pins); return err },
	} {
		if err := facet(); err != nil {
			return Understanding{}, fmt.Errorf("cannot compare %s with %s: %w", from.Release.Version, to.Release.Version, err)
		}
	}
	m := u.Changes.Migrations
	u.MigrationFree = len(m.Pre)+len(m.Post) == 0
	u.Reversible = len(m.Post) == 0
	u.Order = "web"
	if SidekiqFirst(classes(u.Changes.Jobs.Added), classes(u.Changes.Jobs.Removed)) {
		u.Order = "sidekiq"
	}
	return u, nil
}

func pins(c *Changes, from, to Pins) {
	c.Ruby, c.Node = Pin{from.Ruby, to.Ruby}, Pin{from.Node, to.Node}
	c.Bundler, c.Yarn = Pin{from.Bundler, to.Bundler}, Pin{from.Yarn, to.Yarn}
}

// touched names which of parts differ, nil for none. A part that ends in a slash
// stands for all below it.
func touched(changes []git.Change, parts ...string) *Touched {
	var t Touched
	for _, part := range parts {
		if slices.ContainsFunc(changes, func(c git.Change) bool {
			return c.Path == part || strings.HasSuffix(part, "/") && strings.HasPrefix(c.Path, part)
		}) {
			t.Files = append(t.Files, strings.TrimSuffix(part, "/"))
		}
	}
	if t.Files == nil {
		return nil
	}
	return &t
}

func (u *Understanding) gems(from, to Side, b Between) error {
	t := touched(b.Changes, "Gemfile.lock")
	if t == nil {
		return nil
	}
	was, err := lockedGems(from.Tree)
	if err != nil {
		return err
	}
	is, err := lockedGems(to.Tree)
	if err != nil {
		return err
	}
	g := Gems{Files: t.Files, Changed: []GemChange{}}
	for name, v := range is {
		if was[name] != v {
			g.Changed = append(g.Changed, GemChange{name, was[name], v})
		}
	}
	for name, v := range was {
		if _, ok := is[name]; !ok {
			g.Changed = append(g.Changed, GemChange{name, v, ""})
		}
	}
	slices.SortFunc(g.Changed, func(a, b GemChange) int { return strings.Compare(a.Name, b.Name) })
	u.Changes.Gems = &g
	return nil
}

func (u *Understanding) migrations(f Facets, from, to Side) error {
	m := MigrationChanges{Pre: fileNames(f.Pre()), Post: fileNames(f.Post()), Gone: fileNames(f.MigrationsGone), Risky: []Risky{}, Moved: []string{}, Changed: []string{}}
	old := map[string]Migration{}
	for _, was := range f.From.Migrations {
		old[was.Version] = was
	}
	for _, is := range f.MigrationsChanged {
		was := old[is.Version]
		if was.Path != is.Path {
			m.Moved = append(m.Moved, is.FileName())
		}
		if from.Tree.hash(was.Path) != to.Tree.hash(is.Path) {
			m.Changed = append(m.Changed, is.FileName())
		}
	}
	for _, added := range f.MigrationsAdded {
		text, err := to.Tree.Read(added.Path)
		if err != nil {
			return err
		}
		if why := risks(added, string(text)); len(why) > 0 {
			m.Risky = append(m.Risky, Risky{added.FileName(), why})
		}
	}
	u.Changes.Migrations = m
	return nil
}

// FileName is the file's name without .rb: "20250717003848_create_username_blocks".
func (m Migration) FileName() string { return m.Version + "_" + m.Name }

func fileNames(list []Migration) []string {
	out := []string{}
	for _, m := range list {
		out = append(out, m.FileName())
	}
	return out
}

func (u *Understanding) jobs(from, to Side) error {
	was, err := jobsOf(from.Tree)
	if err != nil {
		return err
	}
	is, err := jobsOf(to.Tree)
	if err != nil {
		return err
	}
	u.Changes.Jobs = JobChanges{Added: jobsWithout(is, was), Removed: jobsWithout(was, is)}
	return nil
}

// jobsWithout returns the jobs of a whose class b lacks, wherever it lies.
func jobsWithout(a, b []Job) []Job {
	out := []Job{}
	for _, job := range a {
		if !slices.ContainsFunc(b, func(o Job) bool { return o.Class == job.Class }) {
			out = append(out, job)
		}
	}
	return out
}

func classes(jobs []Job) []string {
	var out []string
	for _, j := range jobs {
		out = append(out, j.Class)
	}
	return out
}

func (u *Understanding) schedule(from, to Side) error {
	was, err := schedule(from.Tree)
	if err != nil {
		return err
	}
	is, err := schedule(to.Tree)
	if err != nil {
		return err
	}
	old := map[string]string{}
	for _, e := range was {
		old[e.Name] = e.Text
	}
	s := ScheduleChanges{Added: []string{}, Removed: []string{}, Changed: []string{}}
	for _, e := range is {
		text, ok := old[e.Name]
		delete(old, e.Name)
		if !ok {
			s.Added = append(s.Added, e.Name)
		} else if text != e.Text {
			s.Changed = append(s.Changed, e.Name)
		}
	}
	for name := range old {
		s.Removed = append(s.Removed, name)
	}
	slices.Sort(s.Removed)
	u.Changes.Schedule = s
	return nil
}

// unitSuffixes are the kinds of systemd's units.
var unitSuffixes = []string{".service", ".target", ".timer", ".socket", ".path", ".slice", ".mount"}

func (u *Understanding) dist(b Between) error {
	u.Changes.Units, u.Changes.UnitDiffs = []string{}, map[string]string{}
	for _, c := range b.Changes {
		if !strings.HasPrefix(c.Path, "dist/") {
			continue
		}
		unit, nginx := slices.Contains(unitSuffixes, path.Ext(c.Path)), c.Path == "dist/nginx.conf"
		if !unit && !nginx {
			continue
		}
		diff, err := b.Patch(c.Path)
		if err != nil {
			return err
		}
		if nginx {
			u.Changes.Nginx = &Nginx{Files: []string{c.Path}, Diff: diff}
			continue
		}
		name := path.Base(c.Path)
		u.Changes.Units, u.Changes.UnitDiffs[name] = append(u.Changes.Units, name), diff
	}
	return nil
}

func (u *Understanding) search(from, to Side, b Between) error {
	s := Search{Blanks: true}
	for _, c := range b.Changes {
		if !strings.HasPrefix(c.Path, "app/chewy/") {
			continue
		}
		s.Files = append(s.Files, c.Path)
		if c.Kind != "changed" {
			s.Blanks = false
			continue
		}
		was, err := from.Tree.Read(c.Path)
		if err != nil {
			return err
		}
		is, err := to.Tree.Read(c.Path)
		if err != nil {
			return err
		}
		s.Blanks = s.Blanks && bytes.Equal(bytes.Join(bytes.Fields(was), nil), bytes.Join(bytes.Fields(is), nil))
	}
	if s.Files != nil {
		u.Changes.Search = &s
	}
	return nil
}
