package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/notes"
	"vmst.io/refit/hosts/git"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

func TestAPlansHashIsOfWhatWillBeDoneAndOfNothingElse(t *testing.T) {
	dir := t.TempDir()
	known := filepath.Join(dir, "known_hosts")
	base := func() (*session, *planned) {
		if err := os.WriteFile(known, []byte("kirk ssh-ed25519 AAAA\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		x := &session{config: config{Fleet: "vmst.io", SSH: sshConfig{KnownHosts: known}, Keep: 2}}
		p := &planned{
			Plan: pipeline.Plan{ID: "run-1", Kind: "upgrade", From: "v4.6.4", To: "v4.6.5", Steps: []pipeline.Step{
				{Stage: timed{"build"}, Host: "uhura"}, {Stage: timed{"roll web kirk"}, Host: "kirk", Why: "one"}, {Stage: timed{"post-migrate"}, OneWay: true},
			}},
			facts: &stages.Facts{To: builds.Release{Tag: git.Tag{Commit: "c", Tree: "t"}}},
			way: way{items: []notes.Item{
				{Name: "statsd", By: notes.Admin, Texts: []string{"StatsD is gone"}}, {Name: "assets", By: notes.Refit, Texts: []string{"Build them"}},
				{Name: notesUnread, By: notes.Admin, Texts: []string{"the limit ends at 10:00"}},
			}},
		}
		return x, p
	}
	hash := func(change func(*session, *planned)) string {
		x, p := base()
		if change != nil {
			change(x, p)
		}
		h, err := x.hashOf(p)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	is := hash(nil)
	for name, change := range map[string]func(*session, *planned){
		"nothing":           nil,
		"the run's ID":      func(_ *session, p *planned) { p.ID = "run-2" },
		"how long it takes": func(_ *session, p *planned) { p.Steps[0].Expect = time.Hour },
		"a step's reason":   func(_ *session, p *planned) { p.Steps[1].Why = "another" },
		"the fleet's health": func(_ *session, p *planned) {
			p.facts.Baseline.Latency, p.facts.Said = time.Second, []string{"kirk is slow"}
		},
		"what stands against it now": func(_ *session, p *planned) { p.refused = []string{"kirk: no disk"} },
		"where refit.yml lies":       func(x *session, _ *planned) { x.config.dir = "/elsewhere" },
		"what refit does itself":     func(_ *session, p *planned) { p.way.items = slices.Delete(p.way.items, 1, 2) },
		"why notes cannot be read":   func(_ *session, p *planned) { p.way.items[2].Texts[0] = "the limit ends at 11:00" },
		"why somebody is asked":      func(_ *session, p *planned) { p.way.items[0].Why = "better words" },
	} {
		if got := hash(change); got != is {
			t.Errorf("%s changes the hash", name)
		}
	}
	seen := map[string]string{is: "nothing"}
	for name, change := range map[string]func(*session, *planned){
		"the release":    func(_ *session, p *planned) { p.To = "v4.6.6" },
		"the one before": func(_ *session, p *planned) { p.From = "v4.6.3" },
		"the commit":     func(_ *session, p *planned) { p.facts.To.Tag.Commit = "d" },
		"the tree":       func(_ *session, p *planned) { p.facts.To.Tag.Tree = "u" },
		"refit.yml":      func(x *session, _ *planned) { x.config.Keep = 3 },
		"an override": func(x *session, _ *planned) {
			x.config.Toolchain.Ruby = &overrideConfig{Version: "3.4.7", Why: "it is there"}
		},
		"a host key":           func(*session, *planned) { write(t, known, "kirk ssh-ed25519 BBBB\n") },
		"a step less":          func(_ *session, p *planned) { p.Steps = p.Steps[:2] },
		"another order":        func(_ *session, p *planned) { p.Steps[0], p.Steps[1] = p.Steps[1], p.Steps[0] },
		"another host":         func(_ *session, p *planned) { p.Steps[1].Host = "spock" },
		"a way back":           func(_ *session, p *planned) { p.Steps[2].OneWay = false },
		"an acknowledgement":   func(_ *session, p *planned) { p.way.items[0].Name = "ffmpeg" },
		"what the notes say":   func(_ *session, p *planned) { p.way.items[0].Texts[0] = "StatsD is gone, and so is your proxy" },
		"what they ask to run": func(_ *session, p *planned) { p.way.items[0].Commands = []string{"bin/x"} },
		"no acknowledgement":   func(_ *session, p *planned) { p.way.items = nil },
	} {
		got := hash(change)
		if other, twice := seen[got]; twice {
			t.Errorf("%s has the hash of %s", name, other)
		}
		seen[got] = name
	}
	if len(is) != 16 {
		t.Errorf("%q", is)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

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

func TestAPlanIsToldWithTheDecisionFirst(t *testing.T) {
	version := func(s string) builds.Version {
		v, err := builds.ParseVersion(s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	told := func(refused []string, change func(*planned)) string {
		p := &planned{
			Plan:  pipeline.Plan{From: "v4.6.4", To: "v4.6.5", Steps: []pipeline.Step{{Stage: timed{"build"}, Host: "uhura", Expect: 4 * time.Minute}}},
			facts: &stages.Facts{From: builds.Release{Version: version("v4.6.4")}, To: builds.Release{Version: version("v4.6.5"), Tag: git.Tag{Commit: "abc", Tree: "def"}}},
			way: way{items: []notes.Item{{
				Name: "encryption-keys", By: notes.Admin, Why: "made once", Texts: []string{"Make them.", "Once."}, Commands: []string{"bin/rails db:encryption:init", "::stop-commands::x"},
			}}},
			hash: "0123456789abcdef", earlier: 1, refused: refused,
		}
		if change != nil {
			change(p)
		}
		var b strings.Builder
		if err := p.print(&b, false); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	out := told(nil, nil)
	if !strings.HasPrefix(out, "v4.6.4 → v4.6.5: nothing stands against it\n  no migration: it can be undone at any time\n  web is rolled first; it takes about 4m0s, by 1 earlier run\n  commit abc, tree def\n  plan 0123456789abcdef\n") {
		t.Error(out)
	}
	if secured := told(nil, func(p *planned) { p.way.advisories = []string{"CVE-2030-1111", "CVE-2030-2222"} }); !strings.Contains(secured, "nothing stands against it\n  security: CVE-2030-1111, CVE-2030-2222\n  no migration") {
		t.Error(secured)
	}
	if !strings.Contains(out, "\n  encryption-keys: made once (Make them.; 1 more)\n    $ bin/rails db:encryption:init\n") {
		t.Error(out)
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(strings.TrimSpace(line), "::") {
			t.Errorf("GitHub Actions would obey %q", line)
		}
	}
	if out := told([]string{"kirk: no disk"}, nil); !strings.HasPrefix(out, "v4.6.4 → v4.6.5: no: kirk: no disk\n") {
		t.Error(out)
	}
	if out := told([]string{"kirk: no disk", "spock: no disk"}, nil); !strings.HasPrefix(out, "v4.6.4 → v4.6.5: no: 2 things stand against it, named at the end\n") {
		t.Error(out)
	}
	many := told(nil, func(p *planned) {
		for range 30 {
			p.facts.Post = append(p.facts.Post, builds.Migration{Version: "2030", Name: "drop"})
			p.way.items = append(p.way.items, notes.Item{Name: "more", By: notes.Admin})
		}
	})
	if strings.Count(many, "\n  2030 drop") != 8 || !strings.Contains(many, "and 22 more (see --json)") || strings.Count(many, "\n  more: ") != 30 {
		t.Error(many)
	}
}
