package builds_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmst.io/refit/builds"
)

func TestQueuesAreThoseOfTheListAndThoseThatCodeNames(t *testing.T) {
	for name, c := range map[string]struct {
		options        string // of a new worker
		added, unknown []string
	}{
		"one that is listed":    {"sidekiq_options queue: 'push'", nil, nil},
		"quotes":                {"sidekiq_options queue: 'fasp', retry: 0", []string{"fasp"}, nil},
		"double quotes":         {`sidekiq_options retry: 3, queue: "fasp"`, []string{"fasp"}, nil},
		"a symbol":              {"sidekiq_options queue: :fasp", []string{"fasp"}, nil},
		"a hash rocket":         {"sidekiq_options :queue => 'fasp'", []string{"fasp"}, nil},
		"a string key":          {"sidekiq_options 'queue' => 'fasp'", []string{"fasp"}, nil},
		"brackets":              {"sidekiq_options(queue: 'fasp')", []string{"fasp"}, nil},
		"over lines":            {"sidekiq_options retry: 3,\n                  queue: 'fasp',\n                  dead: false", []string{"fasp"}, nil},
		"when it is queued":     {"def x = BWorker.set(queue: 'fasp').perform_async", []string{"fasp"}, nil},
		"in Active Job's words": {"queue_as :fasp", []string{"fasp"}, nil},
		"known while it runs":   {"sidekiq_options queue: QUEUE", nil, []string{"app/workers/b_worker.rb: sidekiq_options queue: QUEUE"}},
		"in a comment":          {"# sidekiq_options queue: 'fasp'", nil, nil},
		"no queue at all":       {"sidekiq_options retry: 3\n  def perform(queue: 'x')\n  end", nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := changes(t, nil, fixture{"app/workers/b_worker.rb": "class BWorker\n  " + c.options + "\nend\n"}).Queues
			want := builds.QueueChanges{Added: append([]string{}, c.added...), Removed: []string{}, Unknown: append([]string{}, c.unknown...)}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	got := changes(t, nil, fixture{"config/sidekiq.yml": ":queues:\n  - default\n  - [fasp]\n"}).Queues
	if diff := cmp.Diff([]string{"fasp"}, got.Added); diff != "" {
		t.Error(diff)
	}
	if len(got.Removed) != 0 {
		t.Errorf("push is gone from the list, and a worker still asks for it: %v", got.Removed)
	}
	got = changes(t, nil, fixture{"config/sidekiq.yml": ":queues:\n  - default\n", "app/workers/a_worker.rb": "class AWorker\nend\n"}).Queues
	if diff := cmp.Diff([]string{"push"}, got.Removed); diff != "" {
		t.Error(diff)
	}
}

func TestTheScheduleIsComparedByEntry(t *testing.T) {
	got := changes(t, nil, fixture{"config/sidekiq.yml": ":queues:\n  - default\n  - push\n:scheduler:\n  :schedule:\n    # a remark\n    look:\n      every: 10m\n\n    'new_one':\n      cron: '<%= Random.rand(0..59) %> * * * *'\n    short: { every: 1h }\n:limits:\n  tidy: 1\n"}).Schedule
	want := builds.ScheduleChanges{Added: []string{"new_one", "short"}, Removed: []string{"tidy"}, Changed: []string{"look"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEnvironmentNamesAreThoseOfTheCodeThatRuns(t *testing.T) {
	e := changes(t,
		fixture{"app/models/a.rb": "ENV['BOTH']; ENV['GOES']; ENV[dynamic]\n", "config/x.rb": "# ENV['SPOKEN_OF']\n", "lib/same.rb": "ENV[known_since_long]\n"},
		fixture{
			"lib/same.rb":                    "\n\nENV[known_since_long]\n",
			"app/models/a.rb":                "ENV['BOTH']\nENV[dynamic]\n",
			"app/javascript/images/x.png":    "ENV['NO_CODE']",
			"app/javascript/blob.js":         "\x00 process.env.BINARY",
			"app/helpers/link.rb":            "->ENV['LINKED']",
			"app/views/x.html.haml":          "= ENV['IN_A_VIEW']",
			"bin/tool":                       "ENV.fetch('IN_BIN')",
			"config/y.yml":                   "a: <%= ENV['IN_YAML'] %>",
			"lib/tasks/x.rake":               "ENV.key?('IN_LIB')\nENV.fetch(\"#{prefix}URL\")\n",
			"streaming/index.js":             "process.env.IN_STREAMING",
			"vite.config.mts":                "process.env.IN_VITE",
			"config/vite/plugin.ts":          "process.env.IN_VITE_TOO",
			"spec/x_spec.rb":                 "ENV['IN_SPEC']",
			"db/migrate/20250101000000_x.rb": "ENV['IN_DB']",
			"application.rb":                 "ENV['AT_THE_ROOT']",
			"config/z.rb":                    "# set ENV['MENTIONED']\n",
		}).Env
	want := builds.EnvChanges{
		Added:    []string{"IN_A_VIEW", "IN_BIN", "IN_LIB", "IN_STREAMING", "IN_VITE", "IN_VITE_TOO", "IN_YAML", "MENTIONED"},
		Removed:  []string{"GOES", "SPOKEN_OF"},
		Comments: []string{"MENTIONED", "SPOKEN_OF"},
		Unknown:  []string{"app/models/a.rb: ENV[dynamic]", "lib/tasks/x.rake: ENV.fetch(\"#{prefix}URL\")"},
	}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Error(diff)
	}
}

func TestTheOldestVersionsThatTheCodeAcceptsAreRead(t *testing.T) {
	vips := "unless Vips.at_least_libvips?(8, 13)\n  abort\nend\n"
	es := "def required_version\n    '7.x'\n  end\n"
	u, err := understand(t, standing(nil), standing(fixture{
		"lib/tasks/db.rake":                                 "pg_version = x.database_version\nabort 'no' if pg_version < 140_000\nabort <<~M if ENV['SKIP_POST_DEPLOYMENT_MIGRATIONS'] && schema_version < 2023_09_07_150100\n",
		"config/initializers/vips.rb":                       vips,
		"app/lib/admin/system_check/elasticsearch_check.rb": es,
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]builds.Minimum{
		"ruby":          {Min: "3.2.0", By: "Gemfile: >= 3.2.0, < 3.5.0"},
		"node":          {Min: "20", By: "package.json: >=20"},
		"postgresql":    {Min: "14.0", By: "lib/tasks/db.rake before every migration"},
		"schema":        {Min: "20230907150100", By: "lib/tasks/db.rake before migrations without downtime"},
		"libvips":       {Min: "8.13", By: "config/initializers/vips.rb at every start"},
		"elasticsearch": {Min: "7", By: "app/lib/admin/system_check/elasticsearch_check.rb: a warning to admins, where search is used"},
		"redis":         {Min: "7.0.0", By: "Sidekiq 8.0.9 at every start"},
	}
	if diff := cmp.Diff(want, u.Requirements); diff != "" {
		t.Error(diff)
	}
	u, err = understand(t, standing(nil), standing(fixture{
		"lib/tasks/db.rake":           "version = x.database_version\nabort 'no' if version < 120_000\n",
		"config/initializers/vips.rb": "if Rails.configuration.x.use_vips\n  " + vips + "end\n",
		"Gemfile.lock":                "GEM\n  specs:\n    sidekiq (99.0.0)\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if got := u.Requirements["libvips"]; !strings.Contains(got.By, "where libvips is used") || got.Unless != "MASTODON_USE_LIBVIPS" {
		t.Errorf("%+v", got)
	}
	if got, ok := u.Requirements["redis"]; ok || u.Requirements["postgresql"].Min != "12.0" {
		t.Errorf("a Sidekiq of the future asks for %v", got)
	}
}
