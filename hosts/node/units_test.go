package node_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
)

func TestUnitsAreStartedAndStoppedAndTheirStatesTold(t *testing.T) {
	systemd := &hoststest.Systemd{Units: map[string]*hoststest.Unit{
		"mastodon-web.service": {Active: "active", Sub: "running", Restarts: 2, ExecStart: "/home/mastodon/live/.refit/bin/bundle exec puma", StopTimeout: "1min 30s"},
	}}
	a, _ := hoststest.NewNode(t, systemd)
	show, err := a.Units(t.Context(), node.UnitsIn{Op: node.ShowUnits, Units: []string{"mastodon-web.service", "nothing.service"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []node.UnitState{
		{
			Name: "mastodon-web.service", Load: "loaded", Active: "active", Sub: "running", Result: "success", Restarts: 2, ExecStart: "/home/mastodon/live/.refit/bin/bundle exec puma",
			StopTimeout: 90 * time.Second, KillSignal: 15, KillMode: "control-group", Since: time.Unix(1700000000, 0).UTC(),
		},
		{Name: "nothing.service", Load: "not-found", Active: "inactive", Sub: "dead", Result: "success", StopTimeout: 90 * time.Second, KillSignal: 15, KillMode: "control-group", Since: time.Unix(1700000000, 0).UTC()},
	}
	if diff := cmp.Diff(want, show.Units); diff != "" {
		t.Error(diff)
	}
	out, err := a.Units(t.Context(), node.UnitsIn{Op: node.StopUnits, Units: []string{"mastodon-web.service"}}, nil)
	if err != nil || out.Units[0].Running() {
		t.Errorf("stop: %+v, %v", out, err)
	}
	if _, err := a.Units(t.Context(), node.UnitsIn{Op: node.StartUnits, Units: []string{"nothing.service"}}, nil); !errors.Is(err, node.ErrNotFound) {
		t.Errorf("a unit that is not there: %v, want ErrNotFound", err)
	}
}

func TestAFailedStartNamesTheUnitAndItsResult(t *testing.T) {
	systemd := &hoststest.Systemd{
		Units:   map[string]*hoststest.Unit{"mastodon-web.service": {}},
		OnStart: func(string, *hoststest.Unit) error { return errors.New("Job failed.") }, //nolint:revive,staticcheck // systemd's own words
	}
	a, _ := hoststest.NewNode(t, systemd)
	out, err := a.Units(t.Context(), node.UnitsIn{Op: node.StartUnits, Units: []string{"mastodon-web.service"}}, nil)
	if err == nil || !strings.Contains(err.Error(), "mastodon-web.service is failed/failed with result exit-code") || !strings.Contains(err.Error(), "Job failed.") {
		t.Errorf("got %v", err)
	}
	if len(out.Units) != 1 || out.Units[0].Active != "failed" {
		t.Errorf("the states are not told beside the error: %+v", out)
	}
}

func TestAUnitThatDiedTooOftenIsStartedAllTheSame(t *testing.T) {
	for name, worn := range map[string]hoststest.Unit{
		"and was stopped in time": {Worn: true},
		"and is known as failed":  {Worn: true, Active: "failed", Sub: "failed", Result: "exit-code"},
	} {
		systemd := &hoststest.Systemd{Units: map[string]*hoststest.Unit{"mastodon-web.service": &worn, "mastodon-streaming@4000.service": {}}}
		a, _ := hoststest.NewNode(t, systemd)
		out, err := a.Units(t.Context(), node.UnitsIn{Op: node.StartUnits, Units: []string{"mastodon-web.service", "mastodon-streaming@4000.service"}}, nil)
		if err != nil || !out.Units[0].Running() || !out.Units[1].Running() {
			t.Errorf("%s: got %+v, %v", name, out, err)
		}
	}
}

func TestAStopThatTakesTooLongIsToldAndGoesOn(t *testing.T) {
	systemd := &hoststest.Systemd{Units: map[string]*hoststest.Unit{"w.service": {Active: "deactivating", Sub: "stop-sigterm"}}}
	m := node.Machine{State: t.TempDir(), Exec: func(ctx context.Context, argv ...string) ([]byte, error) {
		if len(argv) > 2 && argv[2] == "stop" {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		return systemd.Exec(ctx, argv...)
	}}
	a := &node.Agent{Host: "kirk", Shell: hoststest.NodeShell{Machine: m}, Binary: "/proc/self/exe", Epoch: func() int64 { return 1 }}
	_, err := a.Units(t.Context(), node.UnitsIn{Op: node.StopUnits, Units: []string{"w.service"}, Timeout: 50 * time.Millisecond}, nil)
	if !errors.Is(err, node.ErrTimeout) || !strings.Contains(err.Error(), "deactivating") {
		t.Errorf("got %v, want ErrTimeout with the state", err)
	}
}

func TestWhatIsNoUnitsNameIsRefused(t *testing.T) {
	systemd := &hoststest.Systemd{}
	a, _ := hoststest.NewNode(t, systemd)
	for _, name := range []string{"--force", "", "a b.service", "a;reboot", "../x", "..", "."} {
		if _, err := a.Units(t.Context(), node.UnitsIn{Op: node.StopUnits, Units: []string{name}}, nil); err == nil {
			t.Errorf("%q was accepted", name)
		}
		if _, err := a.JobStatus(t.Context(), name); err == nil {
			t.Errorf("%q was accepted for a job", name)
		}
		if err := a.JobClear(t.Context(), name); err == nil {
			t.Errorf("%q was cleared as a job", name)
		}
	}
	if len(systemd.Calls()) > 0 {
		t.Errorf("systemd was asked: %q", systemd.Calls())
	}
}

func TestTheJournalsLastLinesAreRead(t *testing.T) {
	a, _ := hoststest.NewNode(t, &hoststest.Systemd{Journal: map[string][]string{"w.service": {"one", "two"}}})
	out, err := a.Journal(t.Context(), node.JournalIn{Unit: "w.service"})
	if diff := cmp.Diff([]string{"one", "two"}, out.Lines); err != nil || diff != "" {
		t.Error(diff, err)
	}
}
