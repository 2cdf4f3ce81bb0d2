package notes_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmst.io/refit/builds/notes"
)

func TestWhatIsNoTextIsRefusedWithTheReason(t *testing.T) {
	for says, body := range map[string]string{
		"empty":                            "",
		"empty ":                           " \r\n\t\n\ufeff"[:5],
		"not UTF-8":                        "## Upgrade notes\n\xff\xfe",
		"a control character (U+0000)":     "## Upgrade\x00notes",
		"a control character (U+001B) on ": "one\ntwo \x1b[2J",
		"a control character (U+009B)":     "\u009b2J",
		"longer than 512 KiB":              strings.Repeat("a", notes.MaxBody+1),
	} {
		if _, err := notes.Parse([]byte(body)); !errors.Is(err, notes.ErrUnreadable) || !strings.Contains(err.Error(), strings.TrimSpace(says)) {
			t.Errorf("%.20q gave %v, want %q", body, err, says)
		}
	}
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := notes.Parse(program[:4096]); !errors.Is(err, notes.ErrUnreadable) {
		t.Errorf("a program was read: %v", err)
	}
}

func TestTextThatIsNoNotesDoesNotPassForNotesThatAskForNothing(t *testing.T) {
	for _, body := range []string{"hello", "# A recipe\n\nTake two eggs.\n", "| a | b |\n|---|---|\n", "<html><body>404</body></html>", "{\"message\":\"Not Found\"}"} {
		n := parse(t, []byte(body))
		if !slices.Contains(n.Unknown, notes.NoSteps) || len(n.Steps)+len(n.Flags)+len(n.Dependencies)+len(n.Advisories) > 0 {
			t.Errorf("%q was read as %+v", body, n)
		}
	}
}

// within is a body with one thing in a section.
func within(section, text string) []byte {
	return []byte("## " + section + "\n\n" + text + "\n\n## Update steps\n\n1. Restart all Mastodon processes\n")
}

func TestAnAdvisoryIsOneThatAReaderSeesWhole(t *testing.T) {
	id := "GHSA-2222-3333-4444"
	for body, want := range map[string][]notes.Advisory{
		"- Fix it (" + id + ")":                                                 {{ID: id}},
		"- Fix it ([here](https://example.org/" + id + "))":                     {{ID: id}},
		"- Fix it ([`" + id + "`](https://example.org/" + id + "))":             {{ID: id}},
		"- **Fix it** <https://example.org/" + id + ">":                         {{ID: id}},
		"> - Fix it: " + id:                                                     {{ID: id}},
		"<p><a href='https://example.org/" + id + "'>it</a></p>":                {{ID: id}},
		"- " + id + " (critical severity)":                                      {{ID: id, Severity: "critical"}},
		"- " + id + ", high severity\n- again " + id:                            {{ID: id, Severity: "high"}},
		"- Fix " + id + "\n- Fixes a moderate security issue (" + id + ")":      {{ID: id, Severity: "moderate"}},
		"- Fix two low severity vulnerabilities (CVE-2030-1111, CVE-2030-2222)": {{ID: "CVE-2030-1111", Severity: "low"}, {ID: "CVE-2030-2222", Severity: "low"}},
		"- It is critical to update (CVE-2030-1111)":                            {{ID: "CVE-2030-1111"}},
		"<!-- " + id + " -->":                                                   {},
		"- Fix it <!-- " + id + " -->":                                          {},
		"- Fix GHSA-2222-3333-444":                                              {},
		"- Fix XGHSA-2222-3333-44445":                                           {},
		"- Fix CVE-2030-123":                                                    {},
		"- Fix CVE&#45;2030-1234":                                               {},
		"- Fix GHSA-aaaa-bbbb-iiii":                                             {},
	} {
		if diff := cmp.Diff(want, parse(t, within("Changelog", body)).Advisories); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
	if n := parse(t, []byte("- Fix CVE-2030-1234")); len(n.Advisories) > 0 {
		t.Error("a number at which a body ends may be half of one, and was taken for whole")
	}
}

func TestACommandIsACodeSpanThatCanBeRun(t *testing.T) {
	for text, want := range map[string][]string{
		"`bundle install` and `yarn`":                    {"bundle install", "yarn"},
		"``bin/x `date` ``":                              {"bin/x `date`"},
		"`RAILS_ENV=production bin/tootctl a`":           {"RAILS_ENV=production bin/tootctl a"},
		"`A=\"b c\" D='e f' rails g`":                    {`A="b c" D='e f' rails g`},
		"`sudo -u mastodon ./script --now`":              {"sudo -u mastodon ./script --now"},
		"`RAILS_ENV=production`":                         {""},
		"`/home/mastodon/live` and `dist/nginx.conf`":    {""},
		"`mastodon-streaming@4001`, `rbenv`, `bin/yarn`": {""},
		"bundle install":                                 {""},
		"`bundle install":                                {""},
		"`git\u202e checkout v4`":                        {""},
		"`bundle\n   install`":                           {"bundle install"},
	} {
		var got []string
		for _, s := range parse(t, within("Update steps", "1. Do "+text)).Steps[:len(want)] {
			got = append(got, s.Command)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

func TestNothingUnseenIsHandedOn(t *testing.T) {
	hidden := "rm \u202e-rf \u200b/"
	for _, body := range []string{
		"## Upgrade notes\n\n```\n" + hidden + "\n```\n", "## Upgrade notes\n\n    " + hidden + "\n", "## Upgrade notes\n\n" + hidden + "\n",
		"## Upgrade notes\n\n`" + hidden + "`\n", "## Encryption keys\n\n```\nbin/rails x\n" + hidden + "\n```\n", "## Update steps\n\n1. Do\n   ```\n   " + hidden + "\n   ```\n",
		"## Upgrade notes\n\nDo &#27;[2J and &#x9b;2J &#x202e;&zwj;&#13;it.\n", "## Do &#27;[2J\n", "- [&#7;](https://example.org/&#27;)\n",
		"## Update steps\n\n1. ```\n   " + hidden + "\n   ```\n", "<p>" + hidden + "</p>\n", "> [!WARNING]\n> ```\n> " + hidden + "\n> ```\n",
	} {
		n := parse(t, []byte(body))
		if said := fmt.Sprintf("%+v", n); strings.ContainsAny(said, "\u202e\u200b\u200d\x1b\u009b\x07\r") {
			t.Errorf("%q is handed on as %q", body, said)
		}
	}
}

func TestALineOfDependenciesIsReadOrHandedOn(t *testing.T) {
	for line, want := range map[string]string{
		"Ruby: 3.3 or newer":                          "Ruby 3.3",
		"Node.js: 22 or higher.":                      "Node.js 22",
		"**Redis**: 7.0 or newer":                     "Redis 7.0",
		"Elasticsearch (optional): 7.x (or its kin)":  "Elasticsearch 7.x, optional",
		"ImageMagick: 6.9.7-7 or newer":               "ImageMagick 6.9.7-7",
		"libvips (optional, not both): 8.13 or newer": "libvips 8.13, optional",
		"Search (recommended, for search): 7.x":       "Search 7.x, optional",
		"Ruby (not optional): 3.3 or newer":           "Ruby 3.3",
		"Ruby: 2.7 to 3.0":                            "Ruby 2.7, warned",
		"Node: >= 14, < 18":                           "Node 14, warned",
		"PostgreSQL: 12 or newer. Not 14.0 to 14.3":   "PostgreSQL 12, warned",
		"PostgreSQL: 12 or newer, but not 14.0":       "unknown",
		"Ruby: 3.3ish":                                "unknown",
		"Ruby: the latest":                            "unknown",
		"Ruby 3.3":                                    "unknown",
		"Ruby: 3.3 or newer\n  - but not on Tuesdays": "unknown",
	} {
		n := parse(t, within("Dependencies", "- "+line))
		got := "unknown"
		if len(n.Unknown) == 0 {
			got = n.Dependencies[0].Name + " " + n.Dependencies[0].Min
			if n.Dependencies[0].Optional {
				got += ", optional"
			}
			if len(n.Warnings) > 0 {
				got += ", warned"
			}
		}
		if got != want || len(n.Dependencies) > 1 {
			t.Errorf("%q is read as %s (%+v), want %s", line, got, n.Dependencies, want)
		}
	}
}

func TestOriginsAreReadAllOrNone(t *testing.T) {
	for text, want := range map[string]string{
		"4.6.4.":                                "[v4.6.4]",
		"v4.6.4.":                               "[v4.6.4]",
		"4.6.6, 4.6.7-beta.1 or 4.6.7-rc.1.":    "[v4.6.6 v4.6.7-beta.1 v4.6.7-rc.1]",
		"4.6.6, 4.6.7-beta.1, and 4.2.0-rc1.":   "[v4.6.6 v4.6.7-beta.1 v4.2.0-rc.1]",
		"4.6.4 or newer.":                       "[]",
		"any 4.6.":                              "[]",
		"4.6.\u202e4.":                          "[]",
		"4.6.4":                                 "[]",
		"4.6.4. They take an hour of downtime.": "[v4.6.4]",
		"4.6.4 and 99999999999999999999.0.0.":   "[]",
	} {
		n := parse(t, within("Update steps", "The following instructions are for updating from "+text))
		if got := fmt.Sprint(n.From); got != want || (want == "[]") != (len(n.Unknown) > 0) && !strings.Contains(text, "hour") {
			t.Errorf("%q is read as %s, want %s; unknown %q", text, got, want, n.Unknown)
		}
		if strings.Contains(text, "hour") && !slices.Contains(n.Unknown, "They take an hour of downtime.") {
			t.Errorf("what stands behind a known sentence is lost: %q", n.Unknown)
		}
	}
}

func TestNotesThatNameTwoReleasesAreNotBelieved(t *testing.T) {
	get := func(v, w string) string {
		return "To get the code for " + v + ", use `git fetch && git checkout " + w + "`."
	}
	for body, want := range map[string]string{
		get("v4.6.5", "v4.6.5"): "v4.6.5",
		get("v4.6.5", "v4.6.4"): "",
		get("v4.6.5", "main"):   "",
		get("v4.6.5", "v4.6.5") + "\n\n" + get("v4.6.6", "v4.6.6"): "v4.6.5",
	} {
		n := parse(t, within("Upgrade notes", body))
		if n.Version.String() != want || (want == "" || strings.Contains(body, "v4.6.6")) != (len(n.Unknown) > 0) {
			t.Errorf("%q is read as %q, unknown %q", body, n.Version, n.Unknown)
		}
	}
}

func TestNothingThatSoundsLikeAnInstructionIsLost(t *testing.T) {
	said := "Sharpen every pencil"
	for where, body := range map[string]string{
		"a sentence of the upgrade notes":       "## Upgrade notes\n\n" + said + ".\n",
		"a sentence behind a known one":         "## Upgrade overview\n\nThis release contains upgrade notes that deviate from the norm: " + said + ".\n",
		"a heading of the upgrade notes":        "## Upgrade notes\n\n### " + said + "\n",
		"a heading before all":                  "## " + said + "\n",
		"a point":                               "## Upgrade notes\n\n- " + said + "\n",
		"a numbered point":                      "## Update steps\n\n7. " + said + "\n",
		"a point under a step":                  "## Update steps\n\n1. Restart all Mastodon processes\n   - " + said + "\n",
		"a point beside a variant":              "## Update steps\n\n1. Clear cache:\n   - Docker: no\n   - " + said + "\n",
		"a note":                                "> [!NOTE]\n> " + said + "\n",
		"a tip between the steps":               "## Update steps\n\n> [!TIP]\n> " + said + "\n",
		"a quote in the changelog":              "## Changelog\n\n> " + said + "\n",
		"behind the backups":                    "## Upgrade notes\n\n> As always, make sure you have backups of the database before performing any upgrades. " + said + ".\n",
		"a listing":                             "## Upgrade notes\n\n```\n" + said + "\n```\n",
		"html":                                  "## Upgrade notes\n\n<p>" + said + "</p>\n",
		"a line of the overview":                "## Upgrade overview\n\nℹ️ Requires assets recompilation\n" + said + "\n",
		"a bold line":                           "## Upgrade notes\n\n**" + said + ":**\n",
		"a definition of a link":                "## Upgrade notes\n\n[x]: https://example.org/ \"" + said + "\"\n",
		"a line after more brackets than count": "## Upgrade notes\n\n" + strings.Repeat("[", 500) + said + "\n",
		"a quote deeper than is followed":       "## Upgrade notes\n\n" + strings.Repeat("> ", 50) + said + "\n",
		"behind a hint":                         "## Update steps\n\n> [!TIP]\n> The `charlock_holmes` gem may fail to build. " + said + " before.\n",
		"a command before all":                  "The cure is `bin/tootctl sharpen --all`. " + said + ".\n",
		"an order before all":                   "Set your clocks. Configure nothing, and " + said + ".\n",
		"a warning":                             "## Upgrade notes\n\n> [!CAUTION]\n> " + said + "\n",
		"a breaking change":                     "## Changelog\n\n### Changed\n\n- Change all. This is a breaking change: " + said + "\n",
	} {
		n := parse(t, []byte(body))
		if !slices.ContainsFunc(append(n.Unknown, n.Warnings...), func(s string) bool { return strings.Contains(s, said) }) {
			t.Errorf("%s: nothing of it in %+v", where, n)
		}
	}
}

// Also where the list stands under a heading that says nothing.
func TestACommandAtWhichTheBodyIsCutIsNotTaken(t *testing.T) {
	for _, heading := range []string{"### Update steps", "## U from 9.2.13."} {
		body := "## Upgrade overview\n\nThis release contains upgrade notes that deviate from the norm:\n\n" + heading + "\n\n1. Precompile the assets:\n   ```\n   bundle exec rails assets:precomp"
		for _, s := range parse(t, []byte(body)).Steps {
			if s.Command != "" {
				t.Errorf("%s: %+v", heading, s)
			}
		}
		if steps := parse(t, []byte(body+"ile\n")).Steps; len(steps) == 0 || steps[0].Command != "bundle exec rails assets:precompile" {
			t.Errorf("%s, whole: %+v", heading, steps)
		}
	}
}
