package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/node"
)

// sealing is a configuration of a fleet of which images are taken: the lab's own where that
// has an account, else with one that is only named.
func (f *fleet) sealing(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(f.Config())
	if err != nil {
		t.Fatal(err)
	}
	if regexp.MustCompile(`(?m)^cloud:`).Match(b) {
		return ""
	}
	return f.clouded(t)
}

// unitState is one of a unit's states on a host.
func (f *fleet) unitState(t *testing.T, host, unit, property string) string {
	t.Helper()
	return strings.TrimSpace(f.onHost(t, host, "systemctl", "show", "--value", "--property="+property, unit))
}

// working are the workers of a host of which Redis has a fresh sign of life and whose
// process is there.
func (f *fleet) working(t *testing.T, host string) int {
	t.Helper()
	all, err := f.workers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, w := range all {
		if w.Hostname == host && w.why == "" {
			n++
		}
	}
	return n
}

// TestLabNoUnitStartsOnAMachineWhosePermitIsAnothers seals a node, gives it the permit
// of another machine, as a clone has it, and asks systemd for each of its units.
func TestLabNoUnitStartsOnAMachineWhosePermitIsAnothers(t *testing.T) {
	f := on(t, "v4.5.2")
	const host = "scotty"
	permit, check := node.StateDir+"/permit", node.StateDir+"/permit.d/check"
	units := appUnits[host]
	pids := func() string {
		var all []string
		for _, u := range units {
			all = append(all, f.unitState(t, host, u, "MainPID"))
		}
		return strings.Join(all, " ")
	}
	before := pids()
	f.must(t, 0, "", []string{"seal", "--host", host}, "sealed: "+host)
	f.must(t, 0, "", []string{"seal", "--host", host}, "sealed already")
	if now := pids(); now != before {
		t.Errorf("the units' processes were %s and are %s", before, now)
	}
	right := f.onHost(t, host, "cat", permit)
	var p struct{ Instance string }
	if err := json.Unmarshal([]byte(right), &p); err != nil || p.Instance == "" {
		t.Fatalf("%v: %s", err, right)
	}
	defer func() { // not t.Cleanup, by whose time t.Context() has ended
		if err := install(f.Lab, host, permit, []byte(right), 0o644); err != nil {
			t.Error(err)
		}
		f.must(t, 0, "", []string{"seal", "--host", host})
		f.onHost(t, host, append([]string{"systemctl", "start"}, units...)...)
		f.well(t)
	}()
	f.restartsSealed(t, host, true)

	// What a clone finds on its disk: a permit that is not for it.
	if err := install(f.Lab, host, permit, []byte(strings.ReplaceAll(right, p.Instance, p.Instance+"0")), 0o644); err != nil {
		t.Fatal(err)
	}
	f.restartsSealed(t, host, false)
	for until := time.Now().Add(15 * time.Second); time.Now().Before(until); time.Sleep(time.Second) {
		if n := f.working(t, host); n > 0 {
			t.Fatalf("%d workers of a sealed machine tell Redis that they work", n)
		}
	}
	f.must(t, 3, f.sealing(t), []string{"doctor"}, host, "permit is for machine "+p.Instance+"0, and it is "+p.Instance, "refit seal --host "+host)
	f.must(t, 3, "", []string{"seal"}, "permit is for machine "+p.Instance+"0", "nothing was touched")
	// After a reboot, too: they are enabled.
	if err := f.Reboot(t.Context(), host); err != nil {
		t.Fatal(err)
	}
	for _, u := range units {
		if got := f.unitState(t, host, u, "ActiveState"); got != "inactive" {
			t.Errorf("%s is %s after a boot", u, got)
		}
	}

	// A person says that it is the right machine.
	f.must(t, 0, "", []string{"seal", "--host", host}, "sealed; Mastodon's units start on machine "+p.Instance)
	f.restartsSealed(t, host, true)
	f.runsEverywhere(t, "v4.5.2")

	// Without the program that is asked nothing starts either.
	at := filepath.Join(f.Root(host), check)
	if err := os.Rename(at, at+".away"); err != nil {
		t.Fatal(err)
	}
	f.restartsSealed(t, host, false)
	if err := os.Rename(at+".away", at); err != nil {
		t.Fatal(err)
	}
	f.restartsSealed(t, host, true)
}

// restartsSealed restarts each unit of a host and asks that it runs then, or that systemd
// passed it over.
func (f *fleet) restartsSealed(t *testing.T, host string, runs bool) {
	t.Helper()
	for _, u := range appUnits[host] {
		// It ends well in either case: a unit that is passed over has not failed.
		f.onHost(t, host, "systemctl", "restart", u)
		active, result := f.unitState(t, host, u, "ActiveState"), f.unitState(t, host, u, "Result")
		all, err := processes(host, u)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case runs && (active != "active" || len(all) == 0):
			t.Errorf("%s is %s with result %s:\n%s", u, active, result, f.onHost(t, host, "journalctl", "-n", "20", "-u", u))
		case !runs && (active != "inactive" || len(all) > 0):
			t.Errorf("%s is %s with result %s and %d processes", u, active, result, len(all))
		}
	}
}
