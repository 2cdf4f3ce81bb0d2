package builds

import (
	"slices"
	"strings"

	"vmst.io/refit/hosts/git"
)

// Compare derives the facets of two releases from what their trees say and from
// the paths in which they differ.
func Compare(from, to Contents, changes []git.Change) Facets {
	f := Facets{From: from, To: to, Files: len(changes)}
	changed := map[string]bool{}
	for _, c := range changes {
		if c.Kind == "changed" {
			changed[c.Path] = true
		}
		switch {
		case strings.HasPrefix(c.Path, "app/chewy/"):
			f.ChewyChanged = append(f.ChewyChanged, c.Path)
		case strings.HasPrefix(c.Path, "dist/"):
			f.DistChanged = append(f.DistChanged, c.Path)
		case strings.HasPrefix(c.Path, "streaming/"):
			f.StreamingChanged = true
		case strings.HasPrefix(c.Path, "app/javascript/"), strings.HasPrefix(c.Path, "config/vite"), strings.HasPrefix(c.Path, "vite.config"),
			strings.HasPrefix(c.Path, "config/webpack"), strings.HasPrefix(c.Path, "app/assets/"):
			f.FrontendChanged = true
		case c.Path == "yarn.lock", c.Path == "package.json", c.Path == ".yarnrc.yml", strings.HasPrefix(c.Path, ".yarn/"):
			// One lock serves both workspaces, so both may run other packages.
			f.NodeModules, f.FrontendChanged, f.StreamingChanged = true, true, true
		case c.Path == "Gemfile.lock":
			f.GemsChanged = true
		case c.Path == ".ruby-version":
			f.RubyChanged = true
		case c.Path == ".nvmrc":
			f.NodeChanged = true
		case c.Path == ".env.production.sample":
			f.EnvSampleChanged = true
		case c.Path == "config/sidekiq.yml":
			f.SidekiqChanged = true
		}
	}
	old := map[string]Migration{}
	for _, m := range from.Migrations {
		old[m.Version] = m
	}
	for _, m := range to.Migrations {
		was, ok := old[m.Version]
		delete(old, m.Version)
		switch {
		case !ok:
			f.MigrationsAdded = append(f.MigrationsAdded, m)
		case was.Path != m.Path || changed[m.Path]:
			f.MigrationsChanged = append(f.MigrationsChanged, m)
		}
	}
	for _, m := range from.Migrations {
		if _, ok := old[m.Version]; ok {
			f.MigrationsGone = append(f.MigrationsGone, m)
		}
	}
	f.JobsAdded, f.JobsRemoved = without(to.Jobs, from.Jobs), without(from.Jobs, to.Jobs)
	f.QueuesAdded, f.QueuesRemoved = without(names(to.Queues), names(from.Queues)), without(names(from.Queues), names(to.Queues))
	return f
}

// without returns what of a is not in b, in a's order; never nil.
func without(a, b []string) []string {
	out := []string{}
	for _, x := range a {
		if !slices.Contains(b, x) {
			out = append(out, x)
		}
	}
	return out
}

func names(queues []Queue) []string {
	var out []string
	for _, q := range queues {
		out = append(out, q.Name)
	}
	return out
}
