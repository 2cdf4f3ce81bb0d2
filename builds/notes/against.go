package notes

import (
	"fmt"
	"slices"
	"strings"

	"vmst.io/refit/builds"
)

// Against holds the notes of the releases on a way against what their sources say, and
// tells where they differ, a sentence each. The source is the better witness; a
// difference is shown, since one of the two may know what the other does not.
func Against(list []Notes, u builds.Understanding) []string {
	if len(list) == 0 {
		return nil
	}
	said := map[string]bool{}
	for _, n := range list {
		for _, it := range Judge(n, builds.Version{}) {
			said[it.Name] = true
		}
	}
	c := u.Changes
	m := c.Migrations
	var out []string
	for _, one := range []struct {
		what   string
		source bool
		may    bool     // the source has what notes may mean by it
		names  []string // of items by which the notes say so
	}{
		{"database migrations", len(m.Pre)+len(m.Post) > 0, false, []string{"migrations", "pre-migrations", "two-step-migrations", "long-migrations"}},
		{"post-migrations", len(m.Post) > 0, true, []string{"pre-migrations", "two-step-migrations"}},
		{"new gems", c.Gems != nil, false, []string{"bundle"}},
		{"new node packages", c.JavaScript != nil && slices.Contains(c.JavaScript.Files, "yarn.lock"), false, []string{"yarn"}},
		{"assets to be built", c.JavaScript != nil && slices.Contains(c.JavaScript.Files, "app/javascript"), c.JavaScript != nil, []string{"assets"}},
		{"another Ruby", c.Ruby.Changed(), false, []string{"ruby-version", "ruby"}},
		{"changed search definitions", c.Search != nil && !c.Search.Blanks, c.Search != nil, []string{"search-mappings", "elasticsearch"}},
	} {
		notes := slices.ContainsFunc(one.names, func(name string) bool { return said[name] })
		switch {
		case one.source && !notes:
			out = append(out, "the source has "+one.what+", of which the notes say nothing")
		case !one.source && !one.may && notes:
			out = append(out, "the notes speak of "+one.what+", and the source has none")
		}
	}
	return append(out, minimums(list[len(list)-1], u.Requirements)...)
}

// minimums compares the least versions that the newest notes name with those that the
// code checks. Of a prefix, "14" and "14.0", both say the same.
func minimums(n Notes, code map[string]builds.Minimum) []string {
	var out []string
	for _, d := range n.Dependencies {
		name := strings.ToLower(strings.TrimSuffix(d.Name, ".js"))
		is, ok := code[name]
		if !ok || d.Min == "" || strings.HasSuffix(d.Min, ".x") || bareVersion(d.Min) == bareVersion(is.Min) {
			continue
		}
		out = append(out, fmt.Sprintf("the notes ask for %s %s, the code for %s (%s)", d.Name, d.Min, is.Min, is.By))
	}
	return out
}

// bareVersion is a version without the zeros at its end.
func bareVersion(v string) string {
	for strings.HasSuffix(v, ".0") {
		v = strings.TrimSuffix(v, ".0")
	}
	return v
}
