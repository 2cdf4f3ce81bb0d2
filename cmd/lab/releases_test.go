package main

import (
	"testing"
)

// TestLabEachBrokenReleaseEndsAsTheExitTableSays breaks an upgrade in each way, under
// load, and asks for the exit code, the cause in the report, and the old release
// everywhere with no request failed.
func TestLabEachBrokenReleaseEndsAsTheExitTableSays(t *testing.T) {
	f := on(t, "v4.5.2")
	quick := []string{"boot: 60s", "boot: 25s"}
	for _, test := range []struct {
		release string
		code    int
		config  []string
		words   []string
		full    bool // for make test-full: others end as it does
	}{
		{release: "v4.5.3", code: 1, words: []string{"assets:precompile"}},
		{release: "v4.5.4", code: 1, words: []string{"does not boot"}},
		{release: "v4.5.5", code: 6, config: quick, words: []string{"kirk: page: / answers 500"}},
		{release: "v4.5.6", code: 1, words: []string{"packs/chunk-", "(missing)"}},
		{release: "v4.5.7", code: 6, config: quick, words: []string{"mastodon-streaming@4000.service on kirk does not stay up"}, full: true},
		{release: "v4.5.8", code: 6, config: append([]string{"sidekiq: 3s", "sidekiq: 30s"}, quick...), words: []string{"Sidekiq on scotty works with v4.5.8: was true for", "KILL"}},
		{release: "v4.5.9", code: 3, words: []string{">=26"}},
		{release: "v4.5.10", code: 6, config: quick, words: []string{"mastodon-web.service on kirk"}, full: true},
		{release: "v4.6.4", code: 3, words: []string{"no definition of ruby 4.0.5", "toolchain.ruby_build.revision"}},
	} {
		t.Run(test.release, func(t *testing.T) {
			if test.full {
				full(t)
			}
			config := ""
			if test.config != nil {
				config = f.config(t, test.config...)
			}
			upgrade := func() {
				f.must(t, test.code, config, []string{"upgrade", "--to", test.release, "--yes"}, test.words...)
			}
			if test.code == 3 {
				upgrade() // refused before anything is touched, and before users have met anything
			} else {
				f.underLoad(t, upgrade)
			}
			f.runsEverywhere(t, "v4.5.2")
			f.well(t)
		})
	}
}

func TestLabAReleaseWithAGemFromGitIsBuilt(t *testing.T) {
	f := theFleet(t)
	f.must(t, 0, "", []string{"build", "--to", "v4.6.6"}, "DONE")
}
