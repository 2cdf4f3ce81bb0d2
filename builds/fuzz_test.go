package builds_test

import (
	"testing"

	"vmst.io/refit/builds"
)

// FuzzATreeIsReadOrRefused: whatever a tag's files hold, reading them ends
// without a panic, and what was read can be read again.
func FuzzATreeIsReadOrRefused(f *testing.F) {
	seed := tree(nil)
	read := func(p string) string {
		b, err := seed.Read(p)
		if err != nil {
			f.Fatal(err)
		}
		return string(b)
	}
	f.Add(read("config/sidekiq.yml"), read("Gemfile.lock"), read("Gemfile"), read("package.json"), read("app/workers/fasp/announce_worker.rb"), read("lib/mastodon/version.rb"))
	f.Add(":queues:\n  - - a\n    - 99999999999999999999\n", "GIT\n\n  specs:\n", "ruby '~> 3'", `{"packageManager":"yarn@1"}`, "class A; end\nend\nend\n", "")
	f.Add(":queues:\n- 1\n  - 2\n", "BUNDLED WITH\n", "ruby ',', ','", `[]`, "module A\n  end\nend", "def major\n1\nend")
	f.Fuzz(func(t *testing.T, queues, lock, gemfile, pkg, worker, ver string) {
		c, err := builds.ReadContents(tree(map[string]string{
			"config/sidekiq.yml": queues, "Gemfile.lock": lock, "Gemfile": gemfile, "package.json": pkg,
			"app/workers/fasp/announce_worker.rb": worker, "lib/mastodon/version.rb": ver,
		}))
		if err != nil {
			return
		}
		if f := builds.Compare(c, c, nil); len(f.MigrationsAdded)+len(f.JobsAdded)+len(f.QueuesRemoved) > 0 {
			t.Errorf("a release differs from itself: %+v", f)
		}
		for _, q := range c.Queues {
			if q.Name == "" || q.Weight < 0 {
				t.Errorf("read the queue %+v", q)
			}
		}
		for _, l := range builds.ErrorLines(queues+lock+worker, 14) {
			if l == "" {
				t.Error("an empty line matters to nobody")
			}
		}
	})
}
