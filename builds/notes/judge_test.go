package notes_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/notes"
)

// judgedAs is the one item that notes with one step, or one flag, come to.
func judgedAs(t *testing.T, n notes.Notes) notes.Item {
	t.Helper()
	items := notes.Judge(n, builds.Version{})
	if len(items) != 1 {
		t.Fatalf("%+v comes to %+v", n, items)
	}
	return items[0]
}

func TestRefitDoesWhatItIsKnownToDoAndNothingThatIsHungOntoIt(t *testing.T) {
	for command, want := range map[string]string{
		"git fetch && git checkout v4.6.5": "checkout refit",
		"bundle install":                   "bundle refit",
		"yarn install --immutable":         "yarn refit",
		"yarn install":                     "yarn refit",
		"RAILS_ENV=production bundle exec rails assets:precompile":                               "assets refit",
		"RAILS_ENV=production bundle exec rails db:migrate":                                      "migrations refit",
		"SKIP_POST_DEPLOYMENT_MIGRATIONS=true RAILS_ENV=production bundle exec rails db:migrate": "pre-migrations refit",
		"RAILS_ENV=production SKIP_POST_DEPLOYMENT_MIGRATIONS=true bin/rails db:migrate":         "pre-migrations refit",
		"RUBY_CONFIGURE_OPTS=--with-jemalloc rbenv install":                                      "ruby refit",
		"sudo systemctl restart mastodon-streaming":                                              "restart refit",
		"RAILS_ENV=production bin/tootctl search deploy --only-mapping --only=accounts":          "search-mappings refit",
		"RAILS_ENV=production bin/tootctl search deploy --reset-chewy":                           "elasticsearch admin",
		"RAILS_ENV=production bin/tootctl search deploy --only-mapping --reset-chewy":            "elasticsearch admin",
		"RAILS_ENV=production bin/tootctl cache clear":                                           "cache-clear admin",
		"bin/rails db:encryption:init":                                                           "encryption-keys admin",
		"BUNDLE_BUILD__CHARLOCK_HOLMES=\"--with-cxxflags=-std=c++17\" bundle install":            "charlock-holmes nobody",
		"bundle install && rm -rf public":                                                        " admin",
		"X=$(reboot) bundle install":                                                             " admin",
		"bundle install --path /tmp":                                                             " admin",
		"git fetch && git checkout v4.6.5 && bin/migrate":                                        " admin",
		"RAILS_ENV=production bundle exec rails db:migrate:down":                                 " admin",
		"SKIP_POST_DEPLOYMENT_MIGRATIONS=true RAILS_ENV=production bundle exec rails db:drop":    " admin",
		"sudo systemctl restart mastodon-web; reboot":                                            " admin",
		"bin/tootctl maintenance fix-duplicates":                                                 " admin",
	} {
		it := judgedAs(t, notes.Notes{Steps: []notes.Step{{Target: notes.Both, Text: command, Command: command}}})
		name, by, _ := strings.Cut(want, " ")
		if string(it.By) != by || (name != "" && it.Name != name) || it.Why == "" || !slices.Equal(it.Commands, []string{command}) {
			t.Errorf("%s is judged %+v, want %s", command, it, want)
		}
	}
	for text, want := range map[string]notes.By{
		"Install dependencies with bundle install and yarn install --immutable": notes.Refit,
		"Install dependencies: bundle install":                                  notes.Refit,
		"Install dependencies with bundle install and delete public/packs":      notes.Admin,
		"Stop Sidekiq, then bundle install":                                     notes.Admin,
	} {
		if it := judgedAs(t, notes.Notes{Steps: []notes.Step{{Target: notes.Both, Text: text, Command: "bundle install"}}}); it.By != want {
			t.Errorf("%q is judged %+v, want %s", text, it, want)
		}
	}
	for flag, want := range map[string]notes.By{
		"Requires assets recompilation":                                  notes.Refit,
		"Requires assets recompilation, and a new proxy":                 notes.Admin,
		"Requires database migrations":                                   notes.Refit,
		"Requires database migrations and downtime":                      notes.Admin,
		"Requires streaming API restart":                                 notes.Refit,
		"Default Ruby version has been updated":                          notes.Refit,
		"The minimal supported version for Ruby has been bumped to 3.3":  notes.Refit,
		"The minimal supported version for Ruby has been bumped by hand": notes.Admin,
		"The minimum supported PostgreSQL version has been bumped to 14": notes.Admin,
		"Requires unusually long database migrations":                    notes.Admin,
		"Requires dancing":                                               notes.Admin,
	} {
		if it := judgedAs(t, notes.Notes{Flags: []string{flag}}); it.By != want {
			t.Errorf("%q is judged %+v, want %s", flag, it, want)
		}
	}
}

func TestWhatIsOnlyToBeKnownIsNotWhereItAsksForSomething(t *testing.T) {
	for text, want := range map[string]notes.By{
		"This release is an important security release fixing two critical security issues (CVE-2030-1111).":  notes.Nobody,
		"We recently released security updates, please update as soon as possible.":                           notes.Nobody,
		"If you use nightly builds, do not use this release but update to nightly-9 with its security fixes.": notes.Nobody,
		"While we continue to support Mastodon 9.1, we encourage administrators to update.":                   notes.Nobody,
		"For the security fixes to work you must rotate your keys.":                                           notes.Admin,
		"This security release requires a new proxy.":                                                         notes.Admin,
		"While we continue to support Mastodon 9.1, please rebuild your images.":                              notes.Admin,
		"This is a security release. Rotate your keys after it.":                                              notes.Admin,
		"This is a security release. The proxy has to send one more header.":                                  notes.Admin,
		"With the security fixes in place, delete public/packs.":                                              notes.Admin,
		"These security updates come with a script, and then restart nginx.":                                  notes.Admin,
		"We will stop bundling PgHero in a future release. Install your own.":                                 notes.Admin,
		"This release is an important security release. Corresponding security releases are available for the 8.0.x branch. " +
			"If you are using nightly builds, do not use this release but update to nightly-9 or newer instead. If you are on the main branch, update to the latest commit.": notes.Nobody,
	} {
		if it := judgedAs(t, notes.Notes{Warnings: []string{text}}); it.By != want {
			t.Errorf("%q is judged %+v, want %s", text, it, want)
		}
	}
}

func TestEveryNameCanBeTypedAndIsStable(t *testing.T) {
	typed := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	for name, body := range everyBody(t) {
		n := parse(t, body)
		items := notes.Judge(n, builds.Version{})
		seen := map[string]bool{}
		for _, it := range items {
			if !typed.MatchString(it.Name) || seen[it.Name] || it.Why == "" || len(it.Name) > 80 {
				t.Errorf("%s: a bad or doubled name in %+v", name, it)
			}
			seen[it.Name] = true
		}
		for _, u := range n.Unknown {
			if !slices.ContainsFunc(items, func(it notes.Item) bool { return it.By == notes.Admin && slices.Contains(it.Texts, u) }) {
				t.Errorf("%s: nobody is asked about %q", name, u)
			}
		}
	}
	a := judgedAs(t, notes.Notes{Unknown: []string{"Paint the shed."}})
	b := judgedAs(t, notes.Notes{Unknown: []string{"paint  the shed"}})
	c := judgedAs(t, notes.Notes{Unknown: []string{"Paint the shed blue."}})
	if a.Name != b.Name || a.Name == c.Name || judgedAs(t, notes.Notes{Unknown: []string{"水"}}).Name == judgedAs(t, notes.Notes{Unknown: []string{"火"}}).Name {
		t.Errorf("%s, %s, %s", a.Name, b.Name, c.Name)
	}
}

func TestAnAdminsPartIsNotLostBesideRefits(t *testing.T) {
	items := notes.Judge(notes.Notes{
		Flags: []string{"Requires database migrations"},
		Steps: []notes.Step{
			{Target: notes.Both, Text: "Restart all Mastodon processes"},
			{Target: notes.Docker, Text: "Throw the old images away", Command: "docker image prune"},
			{Target: notes.NonDocker, Text: "Edit nginx"},
		},
		Unknown: []string{"Restart all Mastodon processes"},
	}, builds.Version{})
	var names []string
	for _, it := range items {
		names = append(names, it.Name+" "+string(it.By))
	}
	if got := strings.Join(names, ", "); !strings.HasPrefix(got, "migrations refit, restart refit, reverse-proxy admin, restart-all-mastodon-processes-") || !strings.HasSuffix(got, " admin") || len(items) != 4 {
		t.Error(got)
	}
}

func TestNotesForAnotherOriginSayThatSomeWereSkipped(t *testing.T) {
	v := func(s string) builds.Version { return release(t, s) }
	n := notes.Notes{From: []builds.Version{v("4.6.4"), v("4.6.5-rc.1")}}
	for from, want := range map[string]int{"4.6.4": 0, "4.6.5-rc.1": 0, "4.6.3": 1, "4.5.20": 1} {
		if got := notes.Judge(n, v(from)); len(got) != want || (want == 1 && (got[0].Name != "skipped-notes" || got[0].By != notes.Admin)) {
			t.Errorf("from %s: %+v", from, got)
		}
	}
	if got := notes.Judge(notes.Notes{}, v("4.6.4")); len(got) != 0 {
		t.Errorf("notes that name no origin: %+v", got)
	}
}
