package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/upstream"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

func parsed(t *testing.T, name string) builds.Version {
	t.Helper()
	v, err := builds.ParseVersion(name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// fleetPlan is a plan of a fleet that runs v4.5.15, with the way that was read.
func fleetPlan(t *testing.T, w way) *planned {
	t.Helper()
	return &planned{
		Plan: pipeline.Plan{ID: "run-1", Kind: "upgrade", From: "v4.5.15", To: "v4.6.0", Steps: []pipeline.Step{{Stage: timed{"build"}, Host: "uhura", Why: "build it"}}},
		facts: &stages.Facts{
			From: builds.Release{Version: parsed(t, "v4.5.15")}, To: builds.Release{Version: parsed(t, "v4.6.0")}, SidekiqFirst: true,
			Pre: []builds.Migration{{Version: "20260101000000", Name: "add_index"}}, Said: []string{"kirk is slow"},
		},
		way: w, via: []string{"v4.6.0"}, hash: "0123456789abcdef",
	}
}

func printed(t *testing.T, p *planned, asJSON bool) string {
	t.Helper()
	var b bytes.Buffer
	if err := p.print(&b, asJSON); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func read(t *testing.T, dir string) (*session, way) {
	t.Helper()
	clone, err := upstream.OpenClone(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := clone.Close(); err != nil {
			t.Error(err)
		}
	})
	x := &session{config: config{Upstream: upstreamConfig{Notes: t.TempDir()}}, source: clone.Source}
	return x, x.readWay(t.Context(), parsed(t, "v4.5.15"), parsed(t, "v4.6.0"), t.Logf)
}

func TestAFleetsPlanBeginsWithTheDecisionAndSaysAllThatChanges(t *testing.T) {
	_, w := read(t, someReleases(t))
	p := fleetPlan(t, w)
	got := printed(t, p, false)
	if !strings.HasPrefix(got, "v4.5.15 → v4.6.0: the way is open\n  1 migration while v4.5.15 serves, none after") {
		t.Errorf("the decision does not come first:\n%s", got)
	}
	for _, part := range []string{
		"Sidekiq goes first: it must know 1 new job class", "refit approve --to v4.6.0 --plan 0123456789abcdef", "kirk is slow", "20260101000000 add_index",
		"Ruby: 3.4.7 → 4.0.5", "puma 7.2.1 → 8.0.2", "environment names that are new: BIND", "queues added, which some Sidekiq has to work off: fasp", " 1  build  uhura  build it",
	} {
		if !strings.Contains(got, part) {
			t.Errorf("%q is not said:\n%s", part, got)
		}
	}
	p.refused = []string{"kirk: no disk"}
	if got := printed(t, p, false); !strings.HasPrefix(got, "v4.5.15 → v4.6.0: no: kirk: no disk\n") {
		t.Errorf("%s", got)
	}
	p.refused = append(p.refused, "spock: no disk")
	if got := printed(t, p, false); !strings.HasPrefix(got, "v4.5.15 → v4.6.0: no: 2 things stand against it") {
		t.Errorf("%s", got)
	}
}

// What nobody could read is not the same as nothing that changes.
func TestASourceThatCannotBeReadIsForAPersonToAcknowledge(t *testing.T) {
	dir := someReleases(t)
	if err := os.RemoveAll(filepath.Join(dir, ".git", "objects")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, ".git", "objects"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, w := read(t, dir)
	if !slices.Contains(w.names(), "source-unread") || !strings.Contains(strings.Join(w.doubts(), "\n"), "source-unread: ") {
		t.Errorf("%q, %q", w.names(), w.doubts())
	}
	if left := w.unacknowledged([]string{"notes-unread"}); len(left) != 1 || !strings.Contains(left[0], "--ack source-unread") {
		t.Errorf("%q", left)
	}
	p := fleetPlan(t, w)
	if got := printed(t, p, true); !strings.Contains(got, `"changes": null`) {
		t.Errorf("%s", got)
	}
	if got := printed(t, p, false); !strings.Contains(got, "sidekiq goes first\n") || strings.Contains(got, "asks for") {
		t.Errorf("%s", got)
	}
}

func TestOfAFleetThatRunsNoOneReleaseNothingIsClaimed(t *testing.T) {
	p := &planned{facts: &stages.Facts{To: builds.Release{Version: parsed(t, "v4.6.0")}}, refused: []string{"the nodes do not run one release"}}
	if got := printed(t, p, false); got != "what runs → v4.6.0: no: the nodes do not run one release\n" {
		t.Errorf("%q", got)
	}
	for _, claim := range []string{`"reversible": true`, `"migration_free": true`, `"order": "web"`, `"order": "sidekiq"`} {
		if got := printed(t, p, true); strings.Contains(got, claim) {
			t.Errorf("%s is claimed:\n%s", claim, got)
		}
	}
}

func TestUpstreamsWordsDoNotActOnATerminal(t *testing.T) {
	w := way{understood: &builds.Understanding{Changes: builds.Changes{
		Files: 1, Schedule: builds.ScheduleChanges{Added: []string{"x\x1b[2Jy"}},
	}}}
	if got := printed(t, fleetPlan(t, w), false); strings.Contains(got, "\x1b") || !strings.Contains(got, "x\uFFFD[2Jy") {
		t.Errorf("%q", got)
	}
}

func TestAWatcherAsksGitOnceForWhatItHasRead(t *testing.T) {
	dir := someReleases(t)
	x, _ := read(t, dir)
	o := &sourceOf{source: x.source, reader: upstream.Reader{Dir: t.TempDir()}}
	names := []string{"v4.5.14", "v4.5.15", "v4.6.0", "v4.7.0"}
	for _, from := range names {
		for _, to := range names {
			if _, err := o.Understand(t.Context(), parsed(t, from), parsed(t, to)); err != nil {
				t.Fatal(err)
			}
			if len(o.last) > 8 {
				t.Fatalf("%d pairs are at hand", len(o.last))
			}
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, ".git")); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Understand(t.Context(), parsed(t, "v4.7.0"), parsed(t, "v4.7.0")); err != nil {
		t.Errorf("git was asked again: %v", err)
	}
}
