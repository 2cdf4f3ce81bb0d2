package builds_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/git"
)

func version(t *testing.T, s string) builds.Version {
	t.Helper()
	v, err := builds.ParseVersion(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVersionsAreOrderedAndKnowTheirLine(t *testing.T) {
	order := []string{"v4.5.14", "v4.5.15", "v4.6.0-beta.1", "v4.6.0-rc.1", "v4.6.0", "v4.6.10", "v5.0.0"}
	for i := range order[1:] {
		if version(t, order[i]).Compare(version(t, order[i+1])) >= 0 {
			t.Errorf("%s does not come before %s", order[i], order[i+1])
		}
	}
	a, b := version(t, "4.5.14"), version(t, "v4.6.0-rc.1")
	if a.String() != "v4.5.14" || a.Number() != "4.5.14" || a.Line() != "4.5" || a.SameLine(b) || a.Prerelease() || !b.Prerelease() {
		t.Errorf("%v %v", a, b)
	}
	if got := version(t, "v4.2.0-rc1").String(); got != "v4.2.0-rc.1" {
		t.Errorf("an old pre-release is read as %s", got)
	}
	for _, bad := range []string{"", "v4.6", "4", "latest", "v4.6.0.1", "v4.6.x", "vv4.6.0"} {
		if v, err := builds.ParseVersion(bad); err == nil {
			t.Errorf("%q was read as %s", bad, v)
		}
	}
}

func TestARubyRequirementMeansWhatBundlerMeans(t *testing.T) {
	for _, c := range []struct {
		requirement builds.Requirement
		version     string
		want        bool
	}{
		{builds.Requirement{">= 3.2.0", "< 3.5.0"}, "3.2.0", true},
		{builds.Requirement{">= 3.2.0", "< 3.5.0"}, "3.5.0", false},
		{builds.Requirement{">= 3.2.0", "< 3.5.0"}, "3.1.9", false},
		{builds.Requirement{"~> 3.2"}, "3.9.1", true},
		{builds.Requirement{"~> 3.2"}, "4.0.0", false},
		{builds.Requirement{"~> 3.2.1"}, "3.2.9", true},
		{builds.Requirement{"~> 3.2.1"}, "3.3.0", false},
		{builds.Requirement{"3.3.8"}, "3.3.8", true},
		{builds.Requirement{"3.3"}, "3.3.8", false},
		{builds.Requirement{"> 3.3"}, "3.3.1", true},
		{builds.Requirement{"!= 3.3.1"}, "3.3.1", false},
		{nil, "1.8.7", true},
	} {
		got, err := c.requirement.Allows(c.version)
		if err != nil || got != c.want {
			t.Errorf("%q allows %s: %v (%v), want %v", c.requirement, c.version, got, err, c.want)
		}
	}
	if _, err := (builds.Requirement{"about 3"}).Allows("3.3.8"); err == nil {
		t.Error("an unreadable requirement was read")
	}
}

// tree is a release's tree of the shape of Mastodon's.
func tree(changes map[string]string) builds.Tree {
	files := map[string]string{
		"lib/mastodon/version.rb": "module Mastodon\n  module Version\n    module_function\n\n    def major\n      4\n    end\n\n    def minor\n      5\n    end\n\n    def patch\n      15\n    end\n\n    def default_prerelease\n      ''\n    end\n  end\nend\n",
		".ruby-version":           "3.4.7\n",
		"Gemfile":                 "# frozen_string_literal: true\n\nsource 'https://rubygems.org'\nruby '>= 3.2.0', '< 3.5.0'\n\ngem 'puma'\n",
		".nvmrc":                  "24.10\n",
		"package.json":            `{"name":"@mastodon/mastodon","engines":{"node":">=20"},"packageManager":"yarn@4.10.3"}`,
		"streaming/package.json":  `{"name":"@mastodon/streaming"}`,
		"Gemfile.lock": "GIT\n  remote: https://github.com/mastodon/webpush.git\n  revision: 9631ac63045cfabddacc69fc06e919b4c13eb913\n  ref: 9631ac6\n  specs:\n    webpush (1.1.0)\n      hkdf (~> 1.0)\n\n" +
			"GEM\n  remote: https://rubygems.org/\n  specs:\n    puma (7.2.1)\n\nPLATFORMS\n  ruby\n\nDEPENDENCIES\n  puma\n  webpush!\n\nRUBY VERSION\n   ruby 3.4.1p0\n\nBUNDLED WITH\n  2.7.2\n",
		"config/sidekiq.yml":                          "---\n:concurrency: 5\n:queues:\n  - [default, 8]\n  - [push, 6]\n  - [pull] # comment\n  - mailers\n  - - fasp\n    - 3\n\n:scheduler:\n  :schedule:\n    vacuum:\n      cron: '<%= Random.rand(0..59) %> * * * *'\n      queue: scheduler\n",
		"app/workers/activitypub/delivery_worker.rb":  "# frozen_string_literal: true\n\nclass ActivityPub::DeliveryWorker\n  include Sidekiq::Worker\n  class Oops < StandardError; end\nend\n",
		"app/workers/fasp/announce_worker.rb":         "module Fasp\n  class AnnounceWorker < Fasp::BaseWorker\n    def perform; end\n  end\nend\n",
		"app/workers/concerns/exponential_backoff.rb": "module ExponentialBackoff\n  extend ActiveSupport::Concern\nend\n",
		"app/workers/README.md":                       "",
		"db/migrate/20250717003848_create_blocks.rb":  "",
		"db/post_migrate/20250801000000_drop_old.rb":  "",
		"dist/mastodon-web.service":                   "",
		"dist/nginx.conf":                             "",
	}
	for p, text := range changes {
		if text == "-" {
			delete(files, p)
			continue
		}
		files[p] = text
	}
	var t builds.Tree
	for p := range files {
		t.Files = append(t.Files, git.File{Path: p, Mode: "100644"})
	}
	slices.SortFunc(t.Files, func(a, b git.File) int { return strings.Compare(a.Path, b.Path) })
	t.Read = func(p string) ([]byte, error) { return []byte(files[p]), nil }
	return t
}

func TestATreeSaysWhatItNeeds(t *testing.T) {
	got, err := builds.ReadContents(tree(nil))
	if err != nil {
		t.Fatal(err)
	}
	want := builds.Contents{
		Version: version(t, "v4.5.15"),
		Pins: builds.Pins{
			Ruby: "3.4.7", RubyAllowed: builds.Requirement{">= 3.2.0", "< 3.5.0"}, Node: "24.10", NodeAllowed: ">=20", Bundler: "2.7.2", Yarn: "4.10.3",
		},
		Migrations: []builds.Migration{
			{Version: "20250717003848", Name: "create_blocks", Path: "db/migrate/20250717003848_create_blocks.rb"},
			{Version: "20250801000000", Name: "drop_old", Path: "db/post_migrate/20250801000000_drop_old.rb", Post: true},
		},
		Jobs:               []string{"ActivityPub::DeliveryWorker", "Fasp::AnnounceWorker"},
		Queues:             []builds.Queue{{Name: "default", Weight: 8}, {Name: "push", Weight: 6}, {Name: "pull", Weight: 1}, {Name: "mailers", Weight: 1}, {Name: "fasp", Weight: 3}},
		GitSources:         []builds.GitSource{{Remote: "https://github.com/mastodon/webpush.git", Revision: "9631ac63045cfabddacc69fc06e919b4c13eb913", Gems: []string{"webpush"}}},
		Locks:              builds.Locks{Gems: 1},
		StreamingWorkspace: "@mastodon/streaming",
		Units:              []string{"mastodon-web.service"},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b builds.Version) bool { return a.Compare(b) == 0 })); diff != "" {
		t.Error(diff)
	}
}

func TestOddFormsAreRead(t *testing.T) {
	hash := strings.Repeat("ab", 64)
	got, err := builds.ReadContents(tree(map[string]string{
		".ruby-version":           "ruby-3.3.5",
		".nvmrc":                  "v24.17.0\n",
		"package.json":            `{"packageManager":"yarn@4.16.0+sha512.` + hash + `"}`,
		"Gemfile":                 "ruby \"~> 3.3\" # why\n",
		"lib/mastodon/version.rb": "def major\n4\nend\ndef minor\n7\nend\ndef patch\n0\nend\ndef default_prerelease\n'rc.1'\nend\n",
		"streaming/package.json":  "-",
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := builds.Pins{Ruby: "3.3.5", RubyAllowed: builds.Requirement{"~> 3.3"}, Node: "24.17.0", Bundler: "2.7.2", Yarn: "4.16.0", YarnHash: "sha512." + hash}
	if diff := cmp.Diff(want, got.Pins); diff != "" {
		t.Error(diff)
	}
	if got.Version.String() != "v4.7.0-rc.1" || got.StreamingWorkspace != "" {
		t.Errorf("version %s, workspace %q", got.Version, got.StreamingWorkspace)
	}
}

func TestWhatCannotBeReadIsAnErrorAndNoGuess(t *testing.T) {
	for says, change := range map[string]map[string]string{
		"lib/mastodon/version.rb":     {"lib/mastodon/version.rb": "VERSION = '4.5.15'\n"},
		"line 4 of config/sidekiq":    {"config/sidekiq.yml": "---\n:queues:\n  - [default, 8]\n  - <%= ENV['QUEUE'] %>\n"},
		"ruby requirement":            {"Gemfile": "ruby file: '.ruby-version'\n"},
		"refit builds with yarn":      {"package.json": `{"packageManager":"pnpm@9.0.0"}`},
		"cannot read package.json":    {"package.json": `{`},
		"GIT block":                   {"Gemfile.lock": "GIT\n  specs:\n    x (1)\n"},
		"have one version":            {"db/post_migrate/20250717003848_again.rb": "x"},
		"cannot read the ruby requir": {"Gemfile": "ruby '>= banana'\n"},
	} {
		if _, err := builds.ReadContents(tree(change)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v gave %v, want %q", change, err, says)
		}
	}
}

func TestFacetsNameWhatDiffers(t *testing.T) {
	from, err := builds.ReadContents(tree(nil))
	if err != nil {
		t.Fatal(err)
	}
	to, err := builds.ReadContents(tree(map[string]string{
		"app/workers/fasp/announce_worker.rb":         "-",
		"app/workers/new_worker.rb":                   "class NewWorker\nend\n",
		"config/sidekiq.yml":                          ":queues:\n  - default\n  - push\n  - pull\n  - fasp\n  - fresh\n",
		"db/migrate/20250717003848_create_blocks.rb":  "repaired",
		"db/migrate/20260101000000_add_column.rb":     "",
		"db/post_migrate/20260102000000_drop_more.rb": "",
		"db/post_migrate/20250801000000_drop_old.rb":  "-",
	}))
	if err != nil {
		t.Fatal(err)
	}
	changes := []git.Change{
		{Path: "app/chewy/accounts_index.rb", Kind: "changed"},
		{Path: "app/workers/new_worker.rb", Kind: "added"},
		{Path: "config/sidekiq.yml", Kind: "changed"},
		{Path: "db/migrate/20250717003848_create_blocks.rb", Kind: "changed"},
		{Path: "dist/mastodon-streaming@.service", Kind: "changed"},
		{Path: "yarn.lock", Kind: "changed"},
	}
	f := builds.Compare(from, to, changes)
	for what, c := range map[string]struct{ got, want any }{
		"pre":             {f.Pre(), []builds.Migration{{Version: "20260101000000", Name: "add_column", Path: "db/migrate/20260101000000_add_column.rb"}}},
		"post":            {f.Post(), []builds.Migration{{Version: "20260102000000", Name: "drop_more", Path: "db/post_migrate/20260102000000_drop_more.rb", Post: true}}},
		"changed":         {len(f.MigrationsChanged), 1},
		"gone":            {len(f.MigrationsGone), 1},
		"jobs added":      {f.JobsAdded, []string{"NewWorker"}},
		"jobs removed":    {f.JobsRemoved, []string{"Fasp::AnnounceWorker"}},
		"queues added":    {f.QueuesAdded, []string{"fresh"}},
		"queues removed":  {f.QueuesRemoved, []string{"mailers"}},
		"chewy":           {f.ChewyChanged, []string{"app/chewy/accounts_index.rb"}},
		"dist":            {f.DistChanged, []string{"dist/mastodon-streaming@.service"}},
		"streaming":       {f.StreamingChanged, true},
		"node modules":    {f.NodeModules, true},
		"gems":            {f.GemsChanged, false},
		"sidekiq changed": {f.SidekiqChanged, true},
		"files":           {f.Files, 6},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
}
