package cloud_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/hosts/cloud"
	"vmst.io/refit/hosts/cloud/cloudtest"
)

// walked asks a simulated account for all that the client can, and gives what was
// exchanged.
func walked(t *testing.T) (log []cloudtest.Exchange) {
	t.Helper()
	const token = "dop_v1_walked"
	s := cloudtest.New(cloudtest.Config{
		Token: token, Pace: 20 * time.Second,
		VPCs: []cloudtest.SeedVPC{{ID: "5a4981aa-9653-4bd1-bef5-d6bff52042e4", Name: "home", Region: "tor1", Range: "10.0.0.0/24"}},
		Droplets: []cloudtest.Seed{
			{ID: 11, Name: "kirk", Region: "tor1", Size: "s-2vcpu-4gb", Image: 1, Private: "10.0.0.21", VPC: "5a4981aa-9653-4bd1-bef5-d6bff52042e4", Tags: []string{"web"}},
			{ID: 12, Name: "sulu", Region: "tor1", Size: "s-1vcpu-1gb", Image: 1, Private: "10.0.0.11", VPC: "5a4981aa-9653-4bd1-bef5-d6bff52042e4"},
		},
		Images:    []cloudtest.SeedImage{{ID: 1, Slug: "debian-13-x64", Name: "13 x64"}},
		Balancers: []cloudtest.SeedBalancer{{Name: "pike", Droplets: []int{12}}},
		Clusters:  []cloudtest.SeedCluster{{Name: "majel", Engine: "pg", Version: "17", Host: "10.0.0.40", Port: 25060}},
	})
	defer s.Close()
	c, err := cloud.New(cloud.Options{Token: token, Transport: s.Transport(), Patience: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	ctx, ok := t.Context(), func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	_, err = c.Account(ctx)
	ok("account", err)
	all, err := c.Droplets(ctx, "")
	ok("droplets", err)
	tagged, err := c.Droplets(ctx, "web")
	ok("droplets with a tag", err)
	if len(all) != 2 || len(tagged) != 1 || tagged[0].ID != 11 {
		t.Errorf("all %v, with the tag %v", all, tagged)
	}
	name := cloud.SnapshotName("home", "r1", "kirk")
	a, err := c.Snapshot(ctx, 11, name)
	ok("snapshot", err)
	ok("snapshot's end", c.Await(ctx, 11, a.ID, 5*time.Second, t.Logf))
	im, err := c.SnapshotOf(ctx, 11, name)
	ok("the snapshot's image", err)
	marks := cloud.Marks("home", cloud.ForUndo, "r1", cloud.TierTag("web"))
	ok("tag", c.TagImage(ctx, im.ID, marks...))
	ok("tag again", c.TagImage(ctx, im.ID, marks...))
	found, err := c.Images(ctx, cloud.FleetTag("home"))
	ok("images", err)
	if len(found) != 1 || found[0].ID != im.ID || !cloud.Ours(found[0].Tags, "home", cloud.ForUndo) {
		t.Errorf("found %+v", found)
	}
	born, err := c.Create(ctx, cloud.NewDroplet{Name: "uhura-r1", Region: "tor1", Size: "s-2vcpu-4gb", Image: im.ID, VPC: all[0].VPC, Tags: []string{cloud.RunTag("r1")}})
	ok("create", err)
	again, err := c.Create(ctx, cloud.NewDroplet{Name: "uhura-r1", Region: "tor1", Size: "s-2vcpu-4gb", Image: im.ID, VPC: all[0].VPC, Tags: []string{cloud.RunTag("r1")}})
	if err != nil || again.ID != born.ID {
		t.Errorf("a droplet of that name twice: %d and %d, %v", born.ID, again.ID, err)
	}
	wall, err := c.CreateFirewall(ctx, cloud.Firewall{Name: "refit-home-r1", Droplets: []int{born.ID}, In: []cloud.Rule{{Protocol: "tcp", Ports: "22", Addresses: []string{"10.0.0.51/32"}}}})
	ok("firewall", err)
	walls, err := c.Firewalls(ctx)
	if err != nil || len(walls) != 1 {
		t.Errorf("firewalls %v, %v", walls, err)
	}
	ok("off", c.Power(ctx, born.ID, cloud.PowerOff))
	ok("on", c.Power(ctx, born.ID, cloud.PowerOn))
	b, err := c.Balancer(ctx, "pike")
	if err != nil || !slices.Equal(b.Droplets, []int{12}) {
		t.Errorf("balancer %+v, %v", b, err)
	}
	_, err = c.BalancerTraffic(ctx, b.ID, time.Now().Add(-time.Hour), time.Now())
	ok("traffic", err)
	d, err := c.Database(ctx, "majel")
	ok("database", err)
	_, err = c.Backups(ctx, d.ID)
	ok("backups", err)
	ok("no firewall", c.DestroyFirewall(ctx, wall.ID))
	ok("destroy", c.Destroy(ctx, born.ID))
	ok("destroy what is gone", c.Destroy(ctx, born.ID))
	ok("no image", c.DeleteImage(ctx, im.ID))
	if _, err := c.Droplet(ctx, born.ID); !errors.Is(err, cloud.ErrNotFound) {
		t.Errorf("a droplet that is gone: %v", err)
	}
	return s.Log()
}

func TestTheClientGoesThroughAWholeLifeInAStrictAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		creates := 0
		for _, e := range walked(t) {
			if e.Method == "POST" && strings.HasSuffix(e.URL, "/v2/droplets") {
				creates++
			}
		}
		if creates != 1 {
			t.Errorf("a droplet was asked for %d times", creates)
		}
	})
}

// What the client sends and reads in that life, held to the provider's own description:
// REFIT_OPENAPI names its folder.
func TestWhatTheClientExchangesIsAsTheProviderDescribesIt(t *testing.T) {
	var log []cloudtest.Exchange
	synctest.Test(t, func(t *testing.T) { log = walked(t) })
	cloudtest.Hold(t, os.Getenv(cloudtest.Description), log)
}
