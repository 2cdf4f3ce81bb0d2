package builds_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/git"
)

// fixture is a release of our own making: files by path. A content that begins
// with "->" is a symbolic link.
type fixture map[string]string

// standing is the smallest tree that is a release.
func standing(more fixture) fixture {
	f := fixture{
		"lib/mastodon/version.rb": "def major\n4\nend\ndef minor\n5\nend\ndef patch\n14\nend\n",
		".ruby-version":           "3.4.7\n",
		"Gemfile":                 "ruby '>= 3.2.0', '< 3.5.0'\n",
		"Gemfile.lock":            "GEM\n  specs:\n    puma (7.2.1)\n    sidekiq (8.0.9)\n      logger (>= 1.6)\n\nPLATFORMS\n  ruby\n\nBUNDLED WITH\n  2.7.2\n",
		".nvmrc":                  "24.10\n",
		"package.json":            `{"engines":{"node":">=20"},"packageManager":"yarn@4.10.3"}`,
		"config/sidekiq.yml":      ":queues:\n  - [default, 8]\n  - [push, 6]\n:scheduler:\n  :schedule:\n    tidy:\n      cron: '0 0 * * *'\n      class: Tidy\n    look:\n      every: 5m\n",
		"app/workers/a_worker.rb": "class AWorker\n  include Sidekiq::Worker\n  sidekiq_options queue: 'push'\nend\n",
	}
	maps.Copy(f, more)
	return f
}

func (f fixture) tree() builds.Tree {
	var t builds.Tree
	for p, text := range f {
		if text == "gone" {
			continue
		}
		file := git.File{Path: p, Mode: "100644", Hash: text}
		if strings.HasPrefix(text, "->") {
			file.Mode = "120000"
		}
		t.Files = append(t.Files, file)
	}
	slices.SortFunc(t.Files, func(a, b git.File) int { return strings.Compare(a.Path, b.Path) })
	t.Read = func(p string) ([]byte, error) {
		text, ok := f[p]
		if !ok || text == "lost" {
			return nil, errors.New("the object was never sent")
		}
		return []byte(strings.TrimPrefix(text, "->")), nil
	}
	return t
}

// understand compares two fixtures.
func understand(t *testing.T, from, to fixture) (builds.Understanding, error) {
	t.Helper()
	side := func(f fixture) builds.Side {
		c, err := builds.ReadContents(f.tree())
		if err != nil {
			t.Fatal(err)
		}
		return builds.Side{Release: builds.Release{Version: c.Version, Contents: c}, Tree: f.tree()}
	}
	var b builds.Between
	all := maps.Clone(from)
	maps.Copy(all, to)
	for p := range all {
		was, old := from[p]
		is, now := to[p]
		old, now = old && was != "gone", now && is != "gone"
		switch {
		case old && !now:
			b.Changes = append(b.Changes, git.Change{Path: p, Kind: "removed"})
		case now && !old:
			b.Changes = append(b.Changes, git.Change{Path: p, Kind: "added"})
		case was != is:
			b.Changes = append(b.Changes, git.Change{Path: p, Kind: "changed"})
		}
	}
	slices.SortFunc(b.Changes, func(a, b git.Change) int { return strings.Compare(a.Path, b.Path) })
	b.Patch = func(p string) (string, error) {
		if to[p] == "unreadable" {
			return "", errors.New("cannot compare")
		}
		return "diff of " + p, nil
	}
	return builds.Understand(side(from), side(to), b)
}

// changes compares the standing release with one that has other files.
func changes(t *testing.T, was, is fixture) builds.Changes {
	t.Helper()
	u, err := understand(t, standing(was), standing(is))
	if err != nil {
		t.Fatal(err)
	}
	return u.Changes
}

func TestNothingChangesBetweenEqualTrees(t *testing.T) {
	u, err := understand(t, standing(nil), standing(nil))
	if err != nil {
		t.Fatal(err)
	}
	want := builds.Changes{
		Ruby: builds.Pin{From: "3.4.7", To: "3.4.7"}, Node: builds.Pin{From: "24.10", To: "24.10"},
		Bundler: builds.Pin{From: "2.7.2", To: "2.7.2"}, Yarn: builds.Pin{From: "4.10.3", To: "4.10.3"},
		Migrations: builds.MigrationChanges{Pre: []string{}, Post: []string{}, Risky: []builds.Risky{}, Moved: []string{}, Changed: []string{}, Gone: []string{}},
		Jobs:       builds.JobChanges{Added: []builds.Job{}, Removed: []builds.Job{}},
		Queues:     builds.QueueChanges{Added: []string{}, Removed: []string{}, Unknown: []string{}},
		Schedule:   builds.ScheduleChanges{Added: []string{}, Removed: []string{}, Changed: []string{}},
		Units:      []string{}, UnitDiffs: map[string]string{},
		Env: builds.EnvChanges{Added: []string{}, Removed: []string{}, Comments: []string{}, Unknown: []string{}},
	}
	if diff := cmp.Diff(want, u.Changes); diff != "" {
		t.Error(diff)
	}
	if !u.MigrationFree || !u.Reversible || u.Order != "sidekiq" {
		t.Errorf("%v %v %s", u.MigrationFree, u.Reversible, u.Order)
	}
}

func TestPinsAndLocksThatDifferAreNamed(t *testing.T) {
	c := changes(t, nil, fixture{
		".ruby-version": "4.0.5\n",
		".nvmrc":        "gone",
		"package.json":  `{"packageManager":"yarn@4.16.0+sha512.ab"}`,
		"Gemfile.lock":  "GEM\n  specs:\n    puma (8.0.2)\n    nokogiri (1.19.4)\n    nokogiri (1.19.4-x86_64-linux-gnu)\n\nBUNDLED WITH\n  4.0.13\n",
	})
	for what, pair := range map[string][2]any{
		"ruby":    {builds.Pin{From: "3.4.7", To: "4.0.5"}, c.Ruby},
		"node":    {builds.Pin{From: "24.10", To: ""}, c.Node},
		"yarn":    {builds.Pin{From: "4.10.3", To: "4.16.0"}, c.Yarn},
		"bundler": {builds.Pin{From: "2.7.2", To: "4.0.13"}, c.Bundler},
		"gems": {&builds.Gems{Files: []string{"Gemfile.lock"}, Changed: []builds.GemChange{
			{Name: "nokogiri", To: "1.19.4, 1.19.4-x86_64-linux-gnu"}, {Name: "puma", From: "7.2.1", To: "8.0.2"}, {Name: "sidekiq", From: "8.0.9"},
		}}, c.Gems},
		"javascript": {&builds.Touched{Files: []string{"package.json"}}, c.JavaScript},
		"streaming":  {(*builds.Touched)(nil), c.Streaming},
	} {
		if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	// A lock that differs in no version has changed all the same.
	c = changes(t, nil, fixture{"Gemfile.lock": standing(nil)["Gemfile.lock"] + "\n"})
	if c.Gems == nil || len(c.Gems.Changed) != 0 || c.Gems.Changed == nil {
		t.Errorf("%+v", c.Gems)
	}
}

func TestOneLockServesTheWebAndStreaming(t *testing.T) {
	for file, want := range map[string][2][]string{
		"yarn.lock":                {{"yarn.lock"}, {"yarn.lock"}},
		"app/javascript/a.ts":      {{"app/javascript"}, nil},
		"app/javascript_of_ours":   {nil, nil},
		"streaming/index.js":       {nil, {"streaming"}},
		"streaming/package.json":   {nil, {"streaming"}},
		"vite.config.mts":          {nil, nil},
		"package.json.orig":        {nil, nil},
		"app/javascript/deep/x.ts": {{"app/javascript"}, nil},
	} {
		text := "{}"
		c := changes(t, nil, fixture{file: text})
		files := func(touched *builds.Touched) []string {
			if touched == nil {
				return nil
			}
			return touched.Files
		}
		if diff := cmp.Diff(want, [2][]string{files(c.JavaScript), files(c.Streaming)}); diff != "" {
			t.Errorf("%s: %s", file, diff)
		}
	}
}

func TestAMigrationIsNewByItsVersionAlone(t *testing.T) {
	const here, there = "db/migrate/20250101000000_add_a.rb", "db/post_migrate/20250101000000_add_a.rb"
	m := changes(t,
		fixture{
			here:                               "same",
			"db/migrate/20250102000000_b.rb":   "b",
			"db/migrate/20250103000000_c.rb":   "c",
			"db/migrate/20250104000000_d.rb":   "d",
			"db/post_migrate/2025_old.rb":      "e",
			"db/migrate/.rubocop.yml":          "x",
			"db/migrate/20250107000000_two.rb": "t",
		},
		fixture{
			there:                                            "same",       // moved
			"db/migrate/20250102000000_better.rb":            "b",          // renamed
			"db/migrate/20250103000000_c.rb":                 "c mended",   // changed in place
			"db/post_migrate/20250107000000_two_named.rb":    "t and more", // all three
			"db/migrate/20250105000000_new.rb":               "",
			"db/post_migrate/20250106000000_drop.rb":         "def up\n  drop_table :a\nend\ndef down\n  raise ActiveRecord::IrreversibleMigration\nend\n",
			"db/migrate/20241231000000_older_than_others.rb": "def up\n  A.update_all(b: 1)\nend\n",
			"db/migrate/helpers/20250108000000_none.rb":      "in a folder below",
			"db/migrate/20250109000000_linked.rb":            "->../elsewhere.rb",
		}).Migrations
	want := builds.MigrationChanges{
		Pre:  []string{"20241231000000_older_than_others", "20250105000000_new", "20250109000000_linked"},
		Post: []string{"20250106000000_drop"},
		Risky: []builds.Risky{
			{Name: "20241231000000_older_than_others", Reasons: []string{"rewrites data (update_all) and has no down: what stood there before is gone"}},
			{Name: "20250106000000_drop", Reasons: []string{"says itself that it cannot be reversed"}},
		},
		Moved:   []string{"20250101000000_add_a", "20250102000000_better", "20250107000000_two_named"},
		Changed: []string{"20250103000000_c", "20250107000000_two_named"},
		Gone:    []string{"2025_old", "20250104000000_d"},
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Error(diff)
	}
}

func TestAPostMigrationAloneMakesTheWayOneWay(t *testing.T) {
	for name, c := range map[string]struct {
		more             fixture
		free, reversible bool
	}{
		"none": {nil, true, true},
		"pre":  {fixture{"db/migrate/20250105000000_new.rb": ""}, false, true},
		"post": {fixture{"db/post_migrate/20250105000000_new.rb": ""}, false, false},
		"both": {fixture{"db/migrate/20250105000000_new.rb": "", "db/post_migrate/20250106000000_new.rb": ""}, false, false},
	} {
		u, err := understand(t, standing(nil), standing(c.more))
		if err != nil || u.MigrationFree != c.free || u.Reversible != c.reversible {
			t.Errorf("%s: free %v, reversible %v (%v)", name, u.MigrationFree, u.Reversible, err)
		}
	}
}

func TestJobClassesAreToldByTheirNameNotByTheirFile(t *testing.T) {
	for name, c := range map[string]struct {
		was, is        fixture
		added, removed []builds.Job
	}{
		"added":   {nil, fixture{"app/workers/fasp/b_worker.rb": "module Fasp\n  class BWorker\n  end\nend\n"}, []builds.Job{{Class: "Fasp::BWorker", File: "fasp/b_worker.rb"}}, nil},
		"removed": {fixture{"app/workers/activitypub/b_worker.rb": "class ActivityPub::BWorker < AWorker\nend\n"}, nil, nil, []builds.Job{{Class: "ActivityPub::BWorker", File: "activitypub/b_worker.rb"}}},
		"moved to a root of its own": {
			fixture{"app/workers/b_worker.rb": "class BWorker\nend\n"},
			fixture{"app/workers/concerns/b_worker.rb": "class BWorker\nend\n"},
			nil, nil,
		},
		"moved into another's file": {
			fixture{"app/workers/a_worker/b_worker.rb": "class AWorker::BWorker\nend\n"},
			fixture{"app/workers/a_worker.rb": "class AWorker\n  include Sidekiq::Worker\n  class BWorker\n    include Sidekiq::Job\n  end\nend\n"},
			nil, nil,
		},
		"nested deep":               {nil, fixture{"app/workers/scheduler/trends/x_scheduler.rb": "module Scheduler\n  module Trends\n    class XScheduler\n      include ::Sidekiq::Worker\n      class Oops < StandardError; end\n      class Bag\n        def x\n        end\n      end\n    end\n  end\nend\n"}, []builds.Job{{Class: "Scheduler::Trends::XScheduler", File: "scheduler/trends/x_scheduler.rb"}}, nil},
		"a second job in the file":  {nil, fixture{"app/workers/b_worker.rb": "class BWorker\n  class PartWorker\n    include Sidekiq::Job\n  end\nend\n"}, []builds.Job{{Class: "BWorker", File: "b_worker.rb"}, {Class: "BWorker::PartWorker", File: "b_worker.rb"}}, nil},
		"a module that is mixed in": {nil, fixture{"app/workers/concerns/backoff.rb": "module Backoff\n  extend ActiveSupport::Concern\n  included do\n    include Sidekiq::Worker\n  end\nend\n"}, nil, nil},
		"a class in a comment":      {nil, fixture{"app/workers/b_worker.rb": "=begin\nclass BWorker\nend\n=end\n# class BWorker\n__END__\nclass BWorker\nend\n"}, nil, nil},
		"a link to another":         {nil, fixture{"app/workers/b_worker.rb": "->class BWorker\nend\n"}, nil, nil},
		"no Ruby":                   {nil, fixture{"app/workers/README.md": "class Readme\n"}, nil, nil},
		"not a worker's folder":     {nil, fixture{"app/workers_old/b_worker.rb": "class BWorker\nend\n"}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := changes(t, c.was, c.is).Jobs
			want := builds.JobChanges{Added: append([]builds.Job{}, c.added...), Removed: append([]builds.Job{}, c.removed...)}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTheOrderFollowsTheJobs(t *testing.T) {
	b := fixture{"app/workers/b_worker.rb": "class BWorker\nend\n"}
	if u, err := understand(t, standing(b), standing(nil)); err != nil || u.Order != "web" {
		t.Errorf("a class that goes: %s first (%v)", u.Order, err)
	}
	if u, err := understand(t, standing(nil), standing(b)); err != nil || u.Order != "sidekiq" {
		t.Errorf("a class that comes: %s first (%v)", u.Order, err)
	}
}

func TestUnitsAndNginxComeWithTheirDiff(t *testing.T) {
	c := changes(t, fixture{"dist/old.service": "x", "dist/nginx.conf": "a"}, fixture{
		"dist/nginx.conf": "b", "dist/mastodon-web.service": "x", "dist/mastodon.timer": "x", "dist/README.md": "x", "dist/nginx.conf.d/x": "x", "distant.service": "x",
	})
	if diff := cmp.Diff([]string{"mastodon-web.service", "mastodon.timer", "old.service"}, c.Units); diff != "" {
		t.Error(diff)
	}
	if c.UnitDiffs["old.service"] != "diff of dist/old.service" || len(c.UnitDiffs) != 3 {
		t.Errorf("%v", c.UnitDiffs)
	}
	if c.Nginx == nil || c.Nginx.Diff != "diff of dist/nginx.conf" {
		t.Errorf("%+v", c.Nginx)
	}
}

func TestASearchDefinitionThatDiffersInBlanksIsToldFromOneThatDiffers(t *testing.T) {
	was := fixture{"app/chewy/accounts_index.rb": "field :a\n"}
	for name, c := range map[string]struct {
		is     fixture
		blanks bool
	}{
		"blanks":   {fixture{"app/chewy/accounts_index.rb": "  field  :a\n\n"}, true},
		"a field":  {fixture{"app/chewy/accounts_index.rb": "field :b\n"}, false},
		"one more": {fixture{"app/chewy/accounts_index.rb": "field :a\n", "app/chewy/tags_index.rb": "field :a\n"}, false},
		"one less": {fixture{"app/chewy/accounts_index.rb": "gone"}, false},
	} {
		if got := changes(t, was, c.is).Search; got == nil || got.Blanks != c.blanks {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := changes(t, was, was).Search; got != nil {
		t.Errorf("%+v", got)
	}
}

// A pin becomes a part of paths on hosts, and of what stands on a terminal.
func TestAPinThatIsNoVersionIsRefused(t *testing.T) {
	for file, text := range map[string]string{
		".ruby-version": "3.4.7/../../../home/x\n",
		".nvmrc":        "24.10\n::error::x",
		"Gemfile.lock":  "BUNDLED WITH\n   2.7.2 \x1b[2J\n",
	} {
		if c, err := builds.ReadContents(standing(fixture{file: text}).tree()); err == nil || !strings.Contains(err.Error(), "cannot read "+file) {
			t.Errorf("%s: %+v (%v)", file, c.Pins, err)
		}
	}
}

func TestWhatCannotBeReadStopsTheComparison(t *testing.T) {
	for name, c := range map[string]struct {
		is   fixture
		says string
	}{
		"code":          {fixture{"app/models/a.rb": "lost"}, "app/models/a.rb"},
		"a migration":   {fixture{"db/migrate/20250101000000_x.rb": "lost"}, "never sent"},
		"a chewy file":  {fixture{"app/chewy/a.rb": "lost"}, "never sent"},
		"a unit's diff": {fixture{"dist/a.service": "unreadable"}, "cannot compare"},
		"nginx's diff":  {fixture{"dist/nginx.conf": "unreadable"}, "cannot compare"},
	} {
		was := fixture{}
		for p := range c.is {
			was[p] = "before"
			if strings.HasPrefix(p, "db/") {
				was[p] = "gone"
			}
		}
		if _, err := understand(t, standing(was), standing(c.is)); err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "v4.5.14") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A picture that a partial clone lacks is not asked for.
	if _, err := understand(t, standing(nil), standing(fixture{"app/javascript/images/a.png": "lost", "public/ocr/eng.traineddata.gz": "lost"})); err != nil {
		t.Error(err)
	}
}
