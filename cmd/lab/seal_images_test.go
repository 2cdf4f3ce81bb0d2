package main

import (
	"fmt"
	"path/filepath"
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
		f.must(t, 0, config, []string{"rollback", "--yes"})
	})
	f.runsEverywhere(t, "v4.5.2")
}
