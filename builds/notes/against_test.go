package notes_test

import (
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/notes"
)

func TestNotesAndSourceAreHeldAgainstEachOther(t *testing.T) {
	assets := notes.Notes{Flags: []string{"Requires assets recompilation"}}
	steps := notes.Notes{Steps: []notes.Step{
		{Target: notes.NonDocker, Text: "Install dependencies with bundle install and yarn install --immutable", Command: "bundle install"},
		{Target: notes.NonDocker, Text: "Install dependencies with bundle install and yarn install --immutable", Command: "yarn install --immutable"},
	}}
	for name, test := range map[string]struct {
		notes  []notes.Notes
		change func(*builds.Understanding)
		want   []string
	}{
		"both say nothing":      {[]notes.Notes{{}}, nil, nil},
		"nobody read the notes": {nil, func(u *builds.Understanding) { u.Changes.Gems = &builds.Gems{} }, nil},
		"both say assets": {[]notes.Notes{assets}, func(u *builds.Understanding) {
			u.Changes.JavaScript = &builds.Touched{Files: []string{"app/javascript"}}
		}, nil},
		"new packages are built too": {[]notes.Notes{{Flags: assets.Flags, Steps: steps.Steps}}, func(u *builds.Understanding) {
			u.Changes.Gems = &builds.Gems{}
			u.Changes.JavaScript = &builds.Touched{Files: []string{"yarn.lock"}}
		}, nil},
		"notes alone speak of it": {[]notes.Notes{assets}, nil, []string{"the notes speak of assets to be built, and the source has none"}},
		"the source alone has it": {[]notes.Notes{{}}, func(u *builds.Understanding) { u.Changes.Migrations.Pre = []string{"1_a"} }, []string{"the source has database migrations, of which the notes say nothing"}},
		"post-migrations that are not told": {
			[]notes.Notes{{Flags: []string{"Requires database migrations"}}},
			func(u *builds.Understanding) { u.Changes.Migrations.Post = []string{"2_b"} },
			[]string{"the source has post-migrations, of which the notes say nothing"},
		},
		"two steps for pre-migrations alone": {
			[]notes.Notes{{Flags: []string{"Requires two-step database migration process for zero-downtime deployment"}}},
			func(u *builds.Understanding) { u.Changes.Migrations.Pre = []string{"1_a"} }, nil,
		},
		"an older release's notes": {[]notes.Notes{steps, assets}, func(u *builds.Understanding) {
			u.Changes.Gems = &builds.Gems{}
			u.Changes.JavaScript = &builds.Touched{Files: []string{"yarn.lock", "app/javascript"}}
		}, nil},
		"a blank in the definitions": {[]notes.Notes{{}}, func(u *builds.Understanding) { u.Changes.Search = &builds.Search{Blanks: true} }, nil},
		"another Ruby, unsaid":       {[]notes.Notes{{}}, func(u *builds.Understanding) { u.Changes.Ruby = builds.Pin{From: "3.4.4", To: "3.4.7"} }, []string{"the source has another Ruby, of which the notes say nothing"}},
		"another minimum": {
			[]notes.Notes{{Dependencies: []notes.Dependency{{Name: "PostgreSQL", Min: "14"}, {Name: "Node", Min: "20.19"}, {Name: "Elasticsearch", Min: "7.x"}, {Name: "FFMpeg", Min: "5.1"}}}},
			func(u *builds.Understanding) {
				u.Requirements = map[string]builds.Minimum{"postgresql": {Min: "14.0", By: "db.rake"}, "node": {Min: "20", By: "package.json"}, "elasticsearch": {Min: "7"}}
			},
			[]string{"the notes ask for Node 20.19, the code for 20 (package.json)"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var u builds.Understanding
			if test.change != nil {
				test.change(&u)
			}
			if got := notes.Against(test.notes, u); !slices.Equal(got, test.want) {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(test.want, "\n  "))
			}
		})
	}
}

func release(t *testing.T, s string) builds.Version {
	t.Helper()
	v, err := builds.ParseVersion(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestTheNotesOfAWayAreReadAsOne(t *testing.T) {
	v := func(s string) builds.Version { return release(t, s) }
	names := func(items []notes.Item) string {
		var out []string
		for _, it := range items {
			out = append(out, it.Name)
		}
		return strings.Join(out, " ")
	}
	older := notes.Notes{Version: v("v4.6.4"), From: []builds.Version{v("v4.6.3")}, Warnings: []string{"StatsD is no more"}}
	newer := notes.Notes{Version: v("v4.6.5"), From: []builds.Version{v("v4.6.4")}}
	for from, want := range map[string]string{"v4.6.3": "statsd", "v4.6.2": "statsd skipped-notes"} {
		if got := names(notes.Way(v(from), older, newer)); got != want {
			t.Errorf("from %s: %s, not %s", from, got, want)
		}
	}
	if got := names(notes.Judge(newer, v("v4.6.3"))); got != "skipped-notes" {
		t.Errorf("the newer alone: %s", got)
	}
}

func TestNotesThatAreMissingInTheMiddleAreMissed(t *testing.T) {
	v := func(s string) builds.Version { return release(t, s) }
	of := func(version string, from ...string) notes.Notes {
		n := notes.Notes{Version: v(version)}
		for _, f := range from {
			n.From = append(n.From, v(f))
		}
		return n
	}
	for name, test := range map[string]struct {
		from string
		read []notes.Notes
		want string
	}{
		"all are there":                 {"v4.6.1", []notes.Notes{of("v4.6.2", "v4.6.1"), of("v4.6.3", "v4.6.2")}, ""},
		"one is missing":                {"v4.6.1", []notes.Notes{of("v4.6.2", "v4.6.1"), of("v4.6.4", "v4.6.3")}, "the notes of v4.6.4 are for an upgrade from v4.6.3, and those from v4.6.2 to there were not read"},
		"the first is missing":          {"v4.6.1", []notes.Notes{of("v4.6.3", "v4.6.2")}, "the notes of v4.6.3 are for an upgrade from v4.6.2, and those from v4.6.1 to there were not read"},
		"written for an older start":    {"v4.7.1", []notes.Notes{of("v4.7.2", "v4.7.0")}, ""},
		"from a later patch of before":  {"v4.5.20", []notes.Notes{of("v4.6.0", "v4.5.12"), of("v4.6.1", "v4.6.0")}, ""},
		"from an early patch of before": {"v4.5.2", []notes.Notes{of("v4.6.0", "v4.5.12")}, "the notes of v4.6.0 are for an upgrade from v4.5.12, and those from v4.5.2 to there were not read"},
		"one of several starts":         {"v4.6.6", []notes.Notes{of("v4.7.0", "v4.6.6", "v4.6.7-beta.1", "v4.6.7-rc.1")}, ""},
		"above all of several starts":   {"v4.6.8", []notes.Notes{of("v4.7.0", "v4.6.6", "v4.6.7-beta.1", "v4.6.7-rc.1")}, ""},
		"they name no start":            {"v4.6.1", []notes.Notes{of("v4.6.9")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, it := range notes.Way(v(test.from), test.read...) {
				if it.Name != "skipped-notes" || it.By != notes.Admin || test.want == "" {
					t.Errorf("%+v", it)
				}
				got = append(got, it.Texts...)
			}
			if strings.Join(got, "; ") != test.want {
				t.Errorf("%q, not %q", got, test.want)
			}
		})
	}
}
