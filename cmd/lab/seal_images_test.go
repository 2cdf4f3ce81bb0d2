package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/cloud/cloudtest"
	"vmst.io/refit/hosts/lab"
)

// clouded is the lab's refit.yml with the account that its hosts are droplets of.
func (f *fleet) clouded(t *testing.T) string {
	t.Helper()
	return f.config(t, "\ndatabase:\n", fmt.Sprintf("\ncloud:\n  token: {file: %s}\n  api: %s\n  balancer: pike\n  database: majel\ndatabase:\n", f.CloudToken(), f.CloudAPI()))
}

// image is the newest kept disk of a host.
func (f *fleet) image(t *testing.T, host string) lab.KeptImage {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(f.Dir, "images", "*", "image.json"))
	if err != nil {
		t.Fatal(err)
	}
	var newest lab.KeptImage
	for _, file := range all {
		im, err := f.Kept(filepath.Base(filepath.Dir(file)))
		if err != nil {
			t.Fatal(err)
		}
		if im.Machine.Name == host && im.Made.After(newest.Made) {
			newest = im
		}
	}
	if newest.Key == "" {
		t.Fatalf("no image of %s in %v", host, all)
	}
	return newest
}

// TestLabAnUpgradeKeepsNodesBeforeAndMakesGoldenImagesAfter upgrades under load with images
// of one node of each tier before and after, and with the seal. Then somebody boots a clone of a golden image
// by hand: it must start nothing and take no job.
func TestLabAnUpgradeKeepsNodesBeforeAndMakesGoldenImagesAfter(t *testing.T) {
	f := on(t, "v4.5.2")
	config := f.clouded(t)
	f.withDatabase(t, func() {
		f.must(t, 0, config, []string{"doctor"}, "pike", "majel")
		f.underLoad(t, func() {
			f.must(t, 0, config, []string{"upgrade", "--to", "v4.6.0", "--yes"}, "seal: done", "snapshot: done", "snapshots done: done", "golden: done", "retire images: done", "DONE")
		})
		shown := f.must(t, 0, config, []string{"status"}).out
		for _, words := range []string{
			"snapshot of the web node", "snapshot of the sidekiq node scotty with v4.5.2: image",
			"golden image of the web node", "golden image of the sidekiq node scotty with v4.6.0: image",
		} {
			if !strings.Contains(shown, words) {
				t.Errorf("status does not show %q:\n%s", words, shown)
			}
		}
		if faults, err := f.CloudFaults(t.Context()); err != nil || strings.TrimSpace(faults) != "" {
			t.Errorf("the account says: %s, %v", faults, err)
		}

		for host, units := range appUnits {
			for _, u := range units {
				if shown := f.unitState(t, host, u, "ExecCondition"); !strings.Contains(shown, "permit.check") {
					t.Errorf("%s: %s starts without asking: %s", host, u, shown)
				}
			}
		}

		const clone = "scotty-by-hand"
		f.create(t, cloudtest.Machine{ID: 20002, Name: clone, Image: f.image(t, "scotty").Key})
		if got := f.over(t, clone, "readlink", "/home/mastodon/live"); !strings.HasSuffix(got, "v4.6.0") {
			t.Errorf("the golden image is of %q", got)
		}
		for until := time.Now().Add(15 * time.Second); time.Now().Before(until); time.Sleep(time.Second) {
			for _, u := range appUnits["scotty"] {
				if got := f.unitState(t, clone, u, "ActiveState"); got != "inactive" {
					t.Fatalf("%s is %s on the clone", u, got)
				}
			}
			if n := f.working(t, clone); n > 0 {
				t.Fatalf("%d workers of the clone tell Redis that they work", n)
			}
		}
		if out := f.over(t, clone, "sh", "-c", "pgrep -u mastodon -l || echo none"); out != "none" {
			t.Errorf("Mastodon's user runs on the clone: %s", out)
		}
		for _, u := range appUnits["scotty"] {
			if got := f.over(t, clone, "sh", "-c", "systemctl start "+u+"; systemctl show --value -p Result "+u); got != "exec-condition" {
				t.Errorf("%s on the clone ended with %q", u, got)
			}
		}
		f.outOfStep(t, config)
		f.must(t, 0, config, []string{"rollback", "--yes"})
	})
	f.runsEverywhere(t, "v4.5.2")
}

// outOfStep puts the disk of a web node back to its snapshot of before the upgrade, as a
// person would in the control panel. refit must tell, refuse, and bring it back unnoticed.
func (f *fleet) outOfStep(t *testing.T, config string) {
	t.Helper()
	before := f.oldest(t, "kirk", "spock")
	host := before.Machine.Name
	if err := f.Droplets().Restore(t.Context(), host, before.Key); err != nil {
		t.Fatal(err)
	}
	if got := f.over(t, host, "readlink", "/home/mastodon/live"); !strings.HasSuffix(got, "v4.5.2") {
		t.Fatalf("the snapshot is of %q", got)
	}
	wrong := host + " is out of step: it runs v4.5.2, and the fleet v4.6.0"
	f.must(t, 3, config, []string{"upgrade", "--to", "v4.7.0", "--yes"}, wrong, "`refit align --host "+host+"`")
	f.must(t, 3, config, []string{"doctor"}, wrong)
	if shown := f.must(t, 0, config, []string{"status"}).out; !strings.Contains(shown, wrong) {
		t.Errorf("status does not say it:\n%s", shown)
	}
	f.underLoad(t, func() {
		f.must(t, 0, config, []string{"align", "--host", host, "--yes"}, "set aside "+host+": done", "bring "+host+": done", "in step "+host+": done", "DONE")
	})
	f.runsEverywhere(t, "v4.6.0")
	f.must(t, 3, config, []string{"align", "--host", host, "--yes"}, host+" is in step")
	f.must(t, 0, config, []string{"verify"}, "unmodified")
}

// oldest is the oldest kept disk of any of these hosts.
func (f *fleet) oldest(t *testing.T, hosts ...string) lab.KeptImage {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(f.Dir, "images", "*", "image.json"))
	if err != nil {
		t.Fatal(err)
	}
	var oldest lab.KeptImage
	for _, file := range all {
		im, err := f.Kept(filepath.Base(filepath.Dir(file)))
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(hosts, im.Machine.Name) && (oldest.Key == "" || im.Made.Before(oldest.Made)) {
			oldest = im
		}
	}
	if oldest.Key == "" {
		t.Fatalf("no image of %v in %v", hosts, all)
	}
	return oldest
}
