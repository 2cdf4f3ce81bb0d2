package main

import (
	"os"
	"path/filepath"
	"slices"
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
				{Name: "statsd", By: notes.Admin, Texts: []string{"StatsD is gone"}},
				{Name: "assets", By: notes.Refit, Texts: []string{"Build them"}},
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
