package stages

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/cloud"
)

// marked are the tags of something that refit made, with a time relative to now.
func marked(fleet string, p cloud.Purpose, run string, in ...time.Duration) []string {
	tags := cloud.Marks(fleet, p, run)
	for _, d := range in {
		tags = append(tags, cloud.ExpiryTag(time.Now().Add(d)))
	}
	return tags
}

func TestASweepTakesWhatIsExpiredAndNothingThatOnlyLooksLikeIt(t *testing.T) {
	inBirth(t, func(t *testing.T, n *nursery) {
		const run, half = "20261101-100000-aaaaa", "20261102-100000-bbbbb"
		n.w.d.Cloud.Droplets = map[string]int{"khan": 501}
		n.w.d.Cloud.Runs = func(context.Context) ([]CloudRun, error) { return []CloudRun{{ID: run}, {ID: half, Open: true}}, nil }
		want := map[string]bool{}
		droplet := func(id int, goes bool, tags []string, address ...string) {
			x := cloud.Droplet{ID: id, Name: fmt.Sprintf("refit-lab-%d", id), Status: "off", Tags: tags}
			for _, a := range address {
				x.Public = netip.MustParseAddr(a)
			}
			n.a.droplets = append(n.a.droplets, x)
			if goes {
				want[fmt.Sprintf("droplet %d", id)] = true
			}
		}
		past := -time.Hour
		droplet(400, true, marked("lab", cloud.ForReplacement, run, past))
		droplet(401, true, marked("lab", cloud.ForRehearsal, run, past, 2*past))
		droplet(500, false, marked("lab", cloud.ForReplacement, run, past), "10.77.0.22") // has spock's address
		droplet(501, false, marked("lab", cloud.ForReplacement, run, past))               // refit.yml names it
		droplet(502, false, marked("lab", cloud.ForReplacement, run))                     // never expires
		droplet(503, false, marked("lab", cloud.ForReplacement, run, time.Hour))
		droplet(504, false, marked("lab", cloud.ForReplacement, run, past, time.Hour)) // its time was made longer
		droplet(505, false, marked("lab2", cloud.ForReplacement, run, past))           // another fleet's
		droplet(506, false, marked("la", cloud.ForReplacement, run, past))
		droplet(507, false, marked("lab", cloud.ForUndo, run, past))
		droplet(508, false, marked("lab", cloud.ForReplacement, half, past)) // of a run that is half way
		droplet(509, false, []string{cloud.FleetTag("lab"), cloud.PurposeTag(cloud.ForReplacement), cloud.ExpiryTag(time.Now().Add(past))})
		droplet(510, false, []string{cloud.MadeTag, cloud.FleetTag("lab"), cloud.ExpiryTag(time.Now().Add(past))})
		droplet(511, false, append(marked("lab", cloud.ForReplacement, run), "refit:expires:soon"))
		droplet(512, false, append(marked("lab", cloud.ForReplacement, run, past), "refit:expires:"))
		droplet(513, false, nil)
		base := func(id string, goes bool, tags []string) {
			n.a.bases = append(n.a.bases, cloud.Database{ID: id, Name: "refit-lab-" + id, Tags: tags})
			if goes {
				want["database "+id] = true
			}
		}
		base("fork", true, marked("lab", cloud.ForRehearsal, run, past))
		base("production", false, nil)
		base("others", false, marked("lab2", cloud.ForRehearsal, run, past))
		base("young", false, marked("lab", cloud.ForRehearsal, run, time.Hour))
		wall := func(id, name string, goes bool, tags []string, droplets ...int) {
			n.a.walls = append(n.a.walls, cloud.Firewall{ID: id, Name: name, Tags: tags, Droplets: droplets})
			if goes {
				want["firewall "+id] = true
			}
		}
		const none = "20261103-100000-ccccc"
		wall("a", cloud.BirthName("lab", none), true, []string{cloud.RunTag(none)})
		wall("b", cloud.BirthName("lab", run), false, []string{cloud.RunTag(run)}) // machines of it stay
		wall("c", cloud.BirthName("lab", half), false, []string{cloud.RunTag(half)})
		wall("d", cloud.BirthName("lab", none), false, []string{cloud.RunTag(none), "prod"})
		wall("e", cloud.BirthName("lab", none), false, []string{"prod"})
		wall("f", cloud.BirthName("lab", none), false, []string{cloud.RunTag(none)}, 13)
		wall("g", cloud.BirthName("lab-2", none), false, []string{cloud.RunTag(none)})
		wall("h", "refit-lab-mine-birth", false, []string{"refit:run:mine"})
		wall("i", "refit-lab-"+none, false, []string{cloud.RunTag(none)})

		list, err := n.w.d.Expired(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(n.a.gone) > 0 {
			t.Fatalf("to list destroyed %q", n.a.gone)
		}
		if err := n.w.d.Sweep(t.Context(), list, n.w.say); err != nil {
			t.Fatal(err)
		}
		for _, g := range n.a.gone {
			if !want[g] {
				t.Errorf("destroyed %s", g)
			}
			delete(want, g)
		}
		if len(want) > 0 {
			t.Errorf("%v stay", want)
		}
	})
}

func TestAWallGoesWithTheLastMachineBehindIt(t *testing.T) {
	inBirth(t, func(t *testing.T, n *nursery) {
		const run = "20261101-100000-aaaaa"
		n.a.droplets = append(n.a.droplets, cloud.Droplet{ID: 400, Name: "spock", Tags: marked("lab", cloud.ForReplacement, run, -time.Hour)})
		n.a.walls = []cloud.Firewall{{ID: "a", Name: cloud.BirthName("lab", run), Tags: []string{cloud.RunTag(run)}}}
		n.a.fails["Destroy"] = errors.New("locked")
		list, err := n.w.d.Expired(t.Context())
		if err != nil || len(list) != 2 {
			t.Fatalf("%v, %v", list, err)
		}
		// Its machine could not be destroyed, and is off behind it: but for the firewall it
		// could be switched on and reach out.
		if err := n.w.d.Sweep(t.Context(), list, n.w.say); err == nil || !strings.Contains(err.Error(), "droplet spock (400)") {
			t.Error(err)
		}
		if len(n.a.gone) > 0 {
			t.Errorf("destroyed %q", n.a.gone)
		}
		clear(n.a.fails)
		if err := n.w.d.Sweep(t.Context(), list, n.w.say); err != nil || !slices.Equal(n.a.gone, []string{"droplet 400", "firewall a"}) {
			t.Errorf("destroyed %q, %v", n.a.gone, err)
		}
	})
}

func TestNothingIsSweptWhereTheRunsAreNotKnown(t *testing.T) {
	inBirth(t, func(t *testing.T, n *nursery) {
		n.w.d.Cloud.Runs = func(context.Context) ([]CloudRun, error) { return nil, errors.New("no answer") }
		if list, err := n.w.d.Expired(t.Context()); err == nil || len(list) > 0 {
			t.Errorf("%v, %v", list, err)
		}
	})
}

func TestWhatCameIntoServiceAfterItWasListedStays(t *testing.T) {
	inBirth(t, func(t *testing.T, n *nursery) {
		n.a.droplets = append(n.a.droplets, cloud.Droplet{ID: 400, Name: "spock", Tags: marked("lab", cloud.ForReplacement, "20261101-100000-aaaaa", -time.Hour)})
		list, err := n.w.d.Expired(t.Context())
		if err != nil || len(list) != 1 {
			t.Fatalf("%v, %v", list, err)
		}
		n.w.d.Cloud.Droplets = map[string]int{"spock": 400}
		if err := n.w.d.Sweep(t.Context(), list, n.w.say); err != nil || len(n.a.gone) > 0 || !n.w.heard("stays") {
			t.Errorf("%v, %q", err, n.a.gone)
		}
	})
}
