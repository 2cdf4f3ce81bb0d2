package main

import (
	"strings"
	"testing"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/notes"
)

func TestOnlyWhatTheWayAsksForCanBeAcknowledged(t *testing.T) {
	w := way{items: []notes.Item{{Name: "statsd", By: notes.Admin, Why: "what reads these figures will miss them"}, {Name: "assets", By: notes.Refit}}}
	for name, test := range map[string]struct {
		acks []string
		want []string
	}{
		"nothing said":      {nil, []string{"nobody has acknowledged statsd; once you have seen to it, add --ack statsd"}},
		"acknowledged":      {[]string{"statsd"}, nil},
		"a slip":            {[]string{"statd"}, []string{"nobody has acknowledged statsd; …", "--ack statd acknowledges nothing that this way asks for (it asks for: statsd)"}},
		"what refit does":   {[]string{"statsd", "assets"}, []string{"--ack assets acknowledges nothing"}},
		"twice is no fault": {[]string{"statsd", "statsd"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := w.unacknowledged(test.acks)
			if len(got) != len(test.want) {
				t.Fatalf("%q", got)
			}
			for i, want := range test.want {
				if want, _, _ = strings.Cut(want, "…"); !strings.HasPrefix(got[i], want) {
					t.Errorf("%q", got[i])
				}
			}
		})
	}
}

func TestNotesOfTheWayThatCannotBeReadTakeNoneOfTheOthersAlong(t *testing.T) {
	of := func(version, said string) string {
		return "## Upgrade notes\n\nTo get the code for " + version + ", use `git fetch && git checkout " + version + "`.\n\n" + said + "\n\n### Update steps\n\n1. Restart all Mastodon processes\n"
	}
	read, unread := parseAll(map[string]string{
		"v4.6.10": of("v4.6.10", "### StatsD\n\nIt is gone."), "v4.6.9": "", "v4.6.8": of("v4.6.7", ""), "v4.6.7": "### Update steps\n\n1. Restart all Mastodon processes\n",
	})
	var got []string
	for _, n := range read {
		got = append(got, n.Version.String())
	}
	if strings.Join(got, " ") != "v4.6.7 v4.6.10" {
		t.Errorf("read: %q", got)
	}
	if len(unread) != 2 || !strings.Contains(unread[0], "v4.6.8: the notes of another release: they tell to check out v4.6.7") || !strings.Contains(unread[1], "v4.6.9: not the text of release notes: empty") {
		t.Errorf("unread: %q", unread)
	}
	var w way
	w.judge(builds.Version{}, read, unread)
	if names := strings.Join(w.names(), " "); names != "notes-unread statsd" {
		t.Errorf("asked for: %s", names)
	}
}

func TestOfTheNotesMinimumsThoseCountThatNoCodeChecks(t *testing.T) {
	w := way{read: []notes.Notes{{Dependencies: []notes.Dependency{{Name: "FFMpeg", Min: "5.1"}, {Name: "Node", Min: "22"}, {Name: "libvips", Min: "8.13", Optional: true}}}}}
	if got := w.minimums(); len(got) != 2 || got["ffmpeg"].Min != "5.1" || got["node"].By != "the release notes" {
		t.Errorf("%v", got)
	}
	w.understood = &builds.Understanding{Requirements: map[string]builds.Minimum{"node": {Min: "22.1", By: "package.json"}}}
	if got := w.minimums(); len(got) != 2 || got["node"].By != "package.json" {
		t.Errorf("%v", got)
	}
}

func TestWhatAReleaseDropsAndTheFleetSetsIsAcknowledgedByName(t *testing.T) {
	var w way
	to, err := builds.ParseVersion("v4.3.0")
	if err != nil {
		t.Fatal(err)
	}
	w.drops(to, map[string][]string{"STATSD_ADDR": {"kirk", "spock"}, "STATSD_SIDEKIQ": {"kirk"}})
	if got := strings.Join(w.unacknowledged([]string{"env-statsd-sidekiq"}), "; "); got != "nobody has acknowledged env-statsd-addr; once you have seen to it, add --ack env-statsd-addr" {
		t.Error(got)
	}
	if got := w.asks()[0]; got != "env-statsd-addr: v4.3.0 does not read STATSD_ADDR any more, which kirk, spock set: see what took its place" {
		t.Error(got)
	}
}
