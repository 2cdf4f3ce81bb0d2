package builds_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmst.io/refit/builds"
)

func TestTheLinesThatMatterAreFound(t *testing.T) {
	for name, c := range map[string]struct {
		log  string
		want []string
	}{
		"bundler misses a gem": {
			log: "Fetching gem metadata from http://10.77.0.1:8081/......\n" +
				"Could not find gem 'webpush (= 2.0)' in rubygems repository http://10.77.0.1:8081/ or\ninstalled locally.\n\nThe source contains the following gems matching 'webpush':\n  * webpush-1.1.0\n",
			want: []string{
				"Could not find gem 'webpush (= 2.0)' in rubygems repository http://10.77.0.1:8081/ or", "installed locally.",
				"The source contains the following gems matching 'webpush':", "  * webpush-1.1.0",
			},
		},
		"a gem does not compile": {
			log: "Installing rake 13.3.1\nInstalling pg 1.6.2 with native extensions\n" +
				"Gem::Ext::BuildError: ERROR: Failed to build gem native extension.\n\n    current directory: /home/mastodon/releases/v4.5.15/vendor/bundle/ruby/3.3.0/gems/pg-1.6.2/ext\n/usr/bin/ruby3.3 extconf.rb\n" +
				"checking for libpq per pkg-config... no\nPlease install libpq or postgresql client package\n\n" +
				"An error occurred while installing pg (1.6.2), and Bundler cannot continue.\n",
			want: []string{
				"Gem::Ext::BuildError: ERROR: Failed to build gem native extension.",
				"    current directory: /home/mastodon/releases/v4.5.15/vendor/bundle/ruby/3.3.0/gems/pg-1.6.2/ext",
				"/usr/bin/ruby3.3 extconf.rb", "checking for libpq per pkg-config... no", "Please install libpq or postgresql client package",
				"An error occurred while installing pg (1.6.2), and Bundler cannot continue.",
			},
		},
		"yarn's lock is out of date": {
			log: "➤ YN0000: · Yarn 4.10.3\n➤ YN0000: ┌ Resolution step\n➤ YN0002: │ peer dependency\n" +
				"➤ YN0028: │ The lockfile would have been modified by this install, which is explicitly forbidden.\n➤ YN0000: └ Completed\n➤ YN0000: · Failed with errors in 1s 20ms\n",
			want: []string{"YN0028: The lockfile would have been modified by this install, which is explicitly forbidden."},
		},
		"yarn cannot fetch": {
			log: "➤ YN0000: ┌ Fetch step\n➤ YN0035: │ emoji-mart-lazyload@npm:3.0.1-j: The remote server failed to provide the requested resource\n" +
				"➤ YN0035: │   Response Code: 404 (Not Found)\n➤ YN0013: │ 4 packages were added\n➤ YN0000: · Failed with errors in 9s\n",
			want: []string{
				"YN0035: emoji-mart-lazyload@npm:3.0.1-j: The remote server failed to provide the requested resource",
				"YN0035: Response Code: 404 (Not Found)",
			},
		},
		"rails aborts": {
			log: "bundler: warning\nrails aborted!\nNameError: uninitialized constant Webpush (NameError)\n\n" +
				"/home/mastodon/releases/v4.5.15/config/application.rb:3:in `<main>'\n/home/mastodon/releases/v4.5.15/Rakefile:5:in `<main>'\nTasks: TOP => environment\n",
			want: []string{
				"rails aborted!", "NameError: uninitialized constant Webpush (NameError)",
				"/home/mastodon/releases/v4.5.15/config/application.rb:3:in `<main>'", "Tasks: TOP => environment",
			},
		},
		"vite fails in colours": {
			log: "vite v7.1.12 building for production...\ntransforming...\r✓ 120 modules\n\x1b[31m✗ Build failed in 2.31s\x1b[39m\n" +
				"error during build:\n[vite]: Rollup failed to resolve import \"emoji-mart\" from \"/app/javascript/x.ts\".\n    at viteLog (file:///x.js:1:2)\n    at next (file:///y.js:1:2)\n",
			want: []string{
				"✗ Build failed in 2.31s", "error during build:",
				"[vite]: Rollup failed to resolve import \"emoji-mart\" from \"/app/javascript/x.ts\".", "    at viteLog (file:///x.js:1:2)",
			},
		},
		"bundler has no room": {
			log: "Retrying download gem from http://10.77.0.1:8081/ due to error (2/4): Bundler::NoSpaceOnDeviceError There was an error\n" +
				"Bundler::NoSpaceOnDeviceError: There was an error while trying to write to\n`/home/mastodon/releases/v4.5.0/vendor/bundle/ruby/3.3.0/bin`. There was\ninsufficient space remaining on the device.\n" +
				strings.Repeat("/usr/share/rubygems-integration/all/gems/bundler-2.6.7/lib/bundler/shared_helpers.rb:115:in\n`rescue in filesystem_access'\n", 9) +
				"/usr/share/rubygems-integration/all/gems/bundler-2.6.7/exe/bundle:20:in `<top\n(required)>'\n  /home/mastodon/.refit/ruby/bin/bundle:25:in `load'\n" +
				"An error occurred while installing rake (13.2.1), and Bundler cannot continue.\n",
			want: []string{
				"Bundler::NoSpaceOnDeviceError: There was an error while trying to write to",
				"`/home/mastodon/releases/v4.5.0/vendor/bundle/ruby/3.3.0/bin`. There was", "insufficient space remaining on the device.",
				"/usr/share/rubygems-integration/all/gems/bundler-2.6.7/lib/bundler/shared_helpers.rb:115:in",
				"An error occurred while installing rake (13.2.1), and Bundler cannot continue.",
			},
		},
		"nothing known": {
			log:  strings.Repeat("line\n", 3) + "the end\n",
			want: []string{"line", "line", "line", "the end"},
		},
		"nothing at all": {},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, builds.ErrorLines(c.log, 14)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestALongFailureKeepsItsBeginningAndItsEnd(t *testing.T) {
	var log strings.Builder
	log.WriteString("Error: the cause\n")
	for i := range 40 {
		log.WriteString("Error: consequence " + strings.Repeat("x", i) + "\n")
	}
	log.WriteString("Error: the end\n")
	got := builds.ErrorLines(log.String(), 10)
	if len(got) != 10 || got[0] != "Error: the cause" || got[9] != "Error: the end" {
		t.Errorf("%d lines: %q", len(got), got)
	}
}

func TestAnErrorTellsWhatFailedWhereAndWhereTheLogIs(t *testing.T) {
	err := &builds.BuildError{
		Host: "uhura", Step: "bundle", Command: []string{"bundle", "install"}, Result: "exit-code", Code: 7,
		Lines: []string{"Could not find gem"}, Log: "uhura:/var/lib/refit/jobs/x/log",
	}
	for _, s := range []string{"uhura", `"bundle install"`, "exit status 7", "Could not find gem", "uhura:/var/lib/refit/jobs/x/log"} {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q does not say %q", err, s)
		}
	}
	err.Result = "oom-kill"
	if !strings.Contains(err.Error(), "for want of memory") {
		t.Errorf("%q does not tell that memory ran out", err)
	}
}
