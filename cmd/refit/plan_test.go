package main

import (
	"strings"
	"testing"
	"time"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/notes"
	"vmst.io/refit/hosts/git"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

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
	if !strings.HasPrefix(out, "v4.6.4 → v4.6.5: the way is open\n  no migration: it can be undone at any time\n  web goes first\n  it takes about 4m0s, by 1 earlier run\n  commit abc, tree def\n  plan 0123456789abcdef, which an approval names: ") {
		t.Error(out)
	}
	if secured := told(nil, func(p *planned) { p.way.advisories = []string{"CVE-2030-1111", "CVE-2030-2222"} }); !strings.Contains(secured, "the way is open\n  security: CVE-2030-1111, CVE-2030-2222\n  no migration") {
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
	if strings.Count(many, "\n  2030 drop") != 8 || strings.Count(many, "and 22 more (see --json)") != 2 || strings.Count(many, "\n  more: ") != 30 {
		t.Error(many)
	}
}
