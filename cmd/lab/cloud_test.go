package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/cloud/cloudtest"
	"vmst.io/refit/hosts/lab"
)

// standstill is for how long a snapshot may hold its host; users wait through it.
const standstill = 2 * time.Second

// over runs a program on a host over ssh, once its sshd is up.
func (f *fleet) over(t *testing.T, host string, argv ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		out, err := f.Exec(ctx, host, argv...)
		if err == nil {
			return strings.TrimSpace(out)
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-time.After(time.Second):
		}
	}
}

// keep takes a snapshot that is dropped with the test.
func (f *fleet) keep(t *testing.T, host, image string) lab.KeptImage {
	t.Helper()
	d := f.Droplets()
	if err := d.Forget(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := d.Snapshot(t.Context(), host, image); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Forget(context.WithoutCancel(t.Context()), image); err != nil {
			t.Error(err)
		}
	})
	im, err := f.Kept(image)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("snapshot of %s: %d MiB in %.1f s, of which it stood still for %.3f s", host, im.Bytes>>20, time.Since(began).Seconds(), im.Standstill)
	return im
}

// create boots a host from an image; it is gone with the test at the latest.
func (f *fleet) create(t *testing.T, m cloudtest.Machine) cloudtest.Placed {
	t.Helper()
	began := time.Now()
	placed, err := f.Droplets().Create(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Droplets().Destroy(context.WithoutCancel(t.Context()), m.Name); err != nil {
			t.Error(err)
		}
	})
	t.Logf("created %s at %s and %s in %.1f s", m.Name, placed.Public, placed.Private, time.Since(began).Seconds())
	return placed
}

func TestLabASnapshotUnderLoadIsNotNoticedAndHasWhatWasWrittenBefore(t *testing.T) {
	f := on(t, "v4.5.2")
	f.over(t, "kirk", "sh", "-c", "date > /var/tmp/before-the-snapshot; sync -f /")
	f.underLoad(t, func() {
		for _, host := range []string{"kirk", "sulu", "scotty", "majel"} {
			im := f.keep(t, host, "under-load-"+host)
			if im.Standstill <= 0 || im.Standstill > standstill.Seconds() {
				t.Errorf("%s stood still for %.3f s", host, im.Standstill)
			}
		}
	})
	at := filepath.Join(f.Dir, "images", "under-load-kirk", "upper")
	if b, err := os.ReadFile(filepath.Join(at, "var/tmp/before-the-snapshot")); err != nil || len(b) == 0 {
		t.Errorf("what was written before is not in it: %q, %v", b, err)
	}
	if live, err := os.Readlink(filepath.Join(at, "home/mastodon/live")); err != nil || filepath.Base(live) != "v4.5.2" {
		t.Errorf("its release is %s, %v", live, err)
	}
	f.runsEverywhere(t, "v4.5.2")
	f.well(t)
}

func TestLabACreatedHostIsItselfAndLeavesNothing(t *testing.T) {
	f := on(t, "v4.5.2")
	const name, id = "refit-lab-rehearsal-of-kirk", 20001 // longer than a device's name may be
	f.keep(t, "kirk", "to-be-cloned")
	d := f.Droplets()
	// Before it is there: it must meet no part of the site, not even at boot.
	onlySSH := []cloudtest.Rule{{In: true, Protocol: "tcp", Ports: "22", Addresses: []string{lab.Gateway}}}
	if err := d.Fence(t.Context(), name, onlySSH, true); err != nil {
		t.Fatal(err)
	}
	placed := f.create(t, cloudtest.Machine{ID: id, Name: name, Image: "to-be-cloned"})
	for ask, argv := range map[string][]string{
		"droplet ID": {"systemd-creds", "--system", "cat", "refit.instance"},
		"machine-id": {"cat", "/etc/machine-id"},
		"host key":   {"cat", "/etc/ssh/ssh_host_ed25519_key.pub"},
		"name":       {"hostname"},
	} {
		his, its := f.over(t, "kirk", argv...), f.over(t, name, argv...)
		if its == "" || its == his {
			t.Errorf("%s: %q, as kirk's %q", ask, its, his)
		}
		if ask == "droplet ID" && (its != strconv.Itoa(id) || his != "1004") {
			t.Errorf("%s: %q, kirk's %q", ask, its, his)
		}
		if ask == "name" && its != name {
			t.Errorf("%s: %q", ask, its)
		}
	}
	for _, address := range []string{placed.Public, placed.Private} {
		if !f.answers(t, address, 22) {
			t.Errorf("its sshd does not answer at %s", address)
		}
	}
	if out := f.over(t, name, "sh", "-c", "timeout 3 bash -c '</dev/tcp/majel-db/5432' && echo reached || echo cut off"); out != "cut off" {
		t.Errorf("past its firewall the database was %s", out)
	}
	if err := f.Reboot(t.Context(), name); err != nil {
		t.Logf("reboot: %v", err) // its application misses its database
	}
	if got := f.over(t, name, "systemd-creds", "--system", "cat", "refit.instance"); got != strconv.Itoa(id) {
		t.Errorf("after a reboot its ID is %q", got)
	}
	s, err := f.Status(t.Context())
	if err != nil || len(s.Hosts) != len(lab.Machines())+1 {
		t.Errorf("status shows %d hosts, %v", len(s.Hosts), err)
	}
	for range 2 { // the second finds nothing
		if err := d.Destroy(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	f.leftNothing(t, name)
	f.well(t)
}

// answers tells whether a port of an address takes connections within two seconds.
func (f *fleet) answers(t *testing.T, address string, port int) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	c, err := f.DialContext(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	return true
}

// leftNothing asks that the machine has no trace of a host.
func (f *fleet) leftNothing(t *testing.T, name string) {
	t.Helper()
	for what, argv := range map[string][]string{
		"mounts": {"cat", "/proc/self/mountinfo"}, "namespaces": {"ip", "netns", "list"},
		"cgroups":   {"find", "/sys/fs/cgroup", "-type", "d", "-path", "*/refit-lab/*"},
		"files":     {"find", "/run/refit-lab/hosts", "/run/systemd/nspawn", "-maxdepth", "2"},
		"processes": {"ps", "-eo", "args"},
	} {
		out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).Output()
		if err != nil {
			t.Fatalf("%v: %v", argv, err)
		}
		if strings.Contains(string(out), name) {
			t.Errorf("%s still show %s", what, name)
		}
	}
	for what, argv := range map[string][]string{
		"links":      {"ip", "-n", "refit-lab", "-o", "link", "show", "type", "veth"},
		"rule sets":  {"ip", "netns", "exec", "refit-lab", "nft", "list", "tables"},
		"namespaces": {"ip", "netns", "list"},
	} {
		out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).Output()
		if err != nil {
			t.Fatalf("%v: %v", argv, err)
		}
		want := map[string]int{"links": len(lab.Machines()), "rule sets": 0, "namespaces": len(lab.Machines()) + 1}[what]
		if n := strings.Count(string(out), "\n"); n != want {
			t.Errorf("%d %s, not %d:\n%s", n, what, want, out)
		}
	}
}

func TestLabAFenceWithoutRulesDeniesAll(t *testing.T) {
	f := on(t, "v4.5.2")
	d := f.Droplets()
	t.Cleanup(func() {
		if err := d.Fence(context.WithoutCancel(t.Context()), "khan", nil, false); err != nil {
			t.Error(err)
		}
	})
	reach := func(want bool) {
		t.Helper()
		if got := f.answers(t, "khan", lab.PortSearch); got != want {
			t.Errorf("khan answers: %v, not %v", got, want)
		}
		out, err := f.Inside(t.Context(), "khan", "timeout", "2", "bash", "-c", fmt.Sprintf("</dev/tcp/%s/%d", lab.Gateway, lab.PortGems))
		if (err == nil) != want {
			t.Errorf("khan reaches the mirrors: %v (%s), not %v", err == nil, out, want)
		}
	}
	reach(true)
	if err := d.Fence(t.Context(), "khan", nil, true); err != nil {
		t.Fatal(err)
	}
	reach(false)
	if err := d.Fence(t.Context(), "khan", []cloudtest.Rule{{In: true, Protocol: "tcp", Ports: strconv.Itoa(lab.PortSearch), Addresses: []string{"10.77.0.0/24"}}}, true); err != nil {
		t.Fatal(err)
	}
	if !f.answers(t, "khan", lab.PortSearch) || f.answers(t, "khan", 22) {
		t.Error("a rule for the search's port lets something else through")
	}
	if err := d.Fence(t.Context(), "khan", nil, false); err != nil {
		t.Fatal(err)
	}
	reach(true)
	f.well(t)
}

func TestLabACopyOfTheDatabaseHasAllRowsAndKeepsItsWrites(t *testing.T) {
	f := on(t, "v4.5.2")
	db := f.Managed()
	const rows = "SELECT (SELECT count(*) FROM users) || ' ' || (SELECT count(*) FROM statuses) || ' ' || (SELECT count(*) FROM schema_migrations)"
	before := f.sql(t, rows)
	began := time.Now()
	addr, port, err := db.Fork(t.Context(), "majel", "a-copy")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Destroy(context.WithoutCancel(t.Context()), "a-copy"); err != nil {
			t.Error(err)
		}
	})
	t.Logf("copied to %s:%d in %.1f s", addr, port, time.Since(began).Seconds())
	// As the application would: over the network, with its own role and password.
	copied := func(statement string) string {
		t.Helper()
		// Its password must stand in no list of arguments.
		const script = `PGPASSWORD=$(sed -n 's/^DB_PASS=//p' /home/mastodon/.env.production) exec psql -qXAt -h "$1" -p "$2" -U mastodon -d mastodon -c "$3"`
		out, err := f.Inside(t.Context(), "kirk", "sh", "-c", script, "sh", addr, strconv.Itoa(port), statement)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := copied(rows); got != before {
		t.Errorf("the copy has %q, the primary %q", got, before)
	}
	copied("CREATE TABLE only_here (n integer); INSERT INTO only_here SELECT generate_series(1, 1000)")
	if n := copied("SELECT count(*) FROM only_here"); strings.TrimSpace(n) != "1000" {
		t.Errorf("the copy holds %q", n)
	}
	if there := strings.TrimSpace(f.sql(t, "SELECT to_regclass('only_here') IS NULL")); there != "t" {
		t.Error("the primary sees what the copy was told")
	}
	if _, _, err := db.Fork(t.Context(), "majel", "a-copy"); err == nil {
		t.Error("a second copy of that name was made")
	}
	if err := db.Destroy(t.Context(), "a-copy"); err != nil {
		t.Fatal(err)
	}
	if f.answers(t, addr, port) {
		t.Error("the copy still answers")
	}
	if got := f.sql(t, rows); got != before {
		t.Errorf("the primary has %q, had %q", got, before)
	}
	f.well(t)
}

func TestLabAHostIsShutDownKeptAndRestoredInPlace(t *testing.T) {
	f := on(t, "v4.5.2")
	d := f.Droplets()
	step := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	id, key := f.over(t, "chekov", "cat", "/etc/machine-id"), f.over(t, "chekov", "cat", "/etc/ssh/ssh_host_ed25519_key.pub")
	step("shutdown", d.Shutdown(t.Context(), "chekov"))
	if pid, err := f.Leader("chekov"); err != nil || pid != 0 {
		t.Errorf("it is still up: %d, %v", pid, err)
	}
	if im := f.keep(t, "chekov", "while-off"); im.Standstill != 0 {
		t.Errorf("a host that is off stood still for %.3f s", im.Standstill)
	}
	step("power on", d.PowerOn(t.Context(), "chekov"))
	f.over(t, "chekov", "sh", "-c", "echo broken > /etc/nginx/nginx.conf; touch /var/tmp/since")
	step("restore", d.Restore(t.Context(), "chekov", "while-off"))
	f.over(t, "chekov", "sh", "-c", "test ! -e /var/tmp/since && nginx -t")
	if now := f.over(t, "chekov", "cat", "/etc/machine-id"); now != id {
		t.Errorf("its machine-id was %s and is %s", id, now)
	}
	if now := f.over(t, "chekov", "cat", "/etc/ssh/ssh_host_ed25519_key.pub"); now != key {
		t.Errorf("its host key was %s and is %s", key, now)
	}
	if got := f.over(t, "chekov", "systemd-creds", "--system", "cat", "refit.instance"); got != "1003" {
		t.Errorf("its ID is %q", got)
	}
	deadline := time.Now().Add(time.Minute)
	for {
		healthy, err := f.Front().Healthy(t.Context())
		step("balancer", err)
		if healthy["sulu"] && healthy["chekov"] && len(healthy) == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the balancer says %v", healthy)
		}
		time.Sleep(time.Second)
	}
	f.well(t)
}
