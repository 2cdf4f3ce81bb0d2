package stages

import (
	"strings"
	"testing"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/cloud"
)

func TestTheSurveyChoosesWhichNodesAreKept(t *testing.T) {
	inCloud(t, func(t *testing.T, w *world, a *account) {
		v := aView(w.d, w.f)
		facts := v.Facts["spock"]
		facts.Disks[0].Total = facts.Disks[0].Free + 20<<30
		v.Facts["spock"] = facts
		w.d.Cloud.PowerOff = []string{"sidekiq"}
		refused, said := w.d.Cloud.choose(t.Context(), w.d, v, w.f)
		if len(refused) > 0 {
			t.Fatalf("refused: %q", refused)
		}
		if len(w.f.Snapshots) != 2 || w.f.Snapshots[0].Host != "spock" || w.f.Snapshots[0].Droplet != 14 || w.f.Snapshots[0].Off || w.f.Snapshots[1].Host != "scotty" || !w.f.Snapshots[1].Off {
			t.Errorf("%+v", w.f.Snapshots)
		}
		text := strings.Join(said, "\n")
		for _, want := range []string{
			"a snapshot of spock is kept for the tier web (20 GiB in use): it takes 17 to 24 minutes beside the build and costs $1.20 a month",
			"scotty is kept for the tier sidekiq (how much is in use is not known, at most the 25 GiB of its disk): it takes 21 to 30 minutes, in which the node is switched off",
			"no volume, no database, no Redis", "spock work while theirs is taken, so it is what a power cut would leave (sync is called before)",
			"is not known here", "The newest 2 of a tier stay, and others for 14 days", "golden image of each tier",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("does not say %q:\n%s", want, text)
			}
		}
	})
}

func TestAnIllNodeAndTheSchedulersAreNotKeptWhereAnotherIs(t *testing.T) {
	f := aFleet()
	for _, c := range []struct {
		tier  Fleet
		order []string
		want  string
	}{
		{f.With(hosts.Web), []string{"spock", "kirk"}, "kirk"}, // spock is ill and rolled first
		{f.With(hosts.Web), []string{"kirk", "spock"}, "spock"},
		{f.With(hosts.Sidekiq), []string{"scotty", "decker"}, "scotty"},
		{f.With(hosts.Sidekiq).But("scotty"), []string{"decker"}, "decker"},
	} {
		if got := pick(c.tier, c.order)[0].Name; got != c.want {
			t.Errorf("%q: %s, not %s", c.order, got, c.want)
		}
	}
	f[3].Roles = append(f[3].Roles, hosts.Keeper)
	if got := pick(f.With(hosts.Web), []string{"kirk", "spock"})[0].Name; got != "kirk" {
		t.Errorf("%s has another role too", got)
	}
}

func TestANodeWhoseDropletIsNotClearIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		bad  func(*account, *Cloud)
		says string
	}{
		"none has its address": {func(a *account, _ *Cloud) {
			a.droplets[2].Private = a.droplets[7].Private
			a.droplets[7].Private = a.droplets[6].Private
		}, "kirk: no droplet of the cloud account has its address 10.77.0.21: write `droplet: ID` to that host in refit.yml (13 has its name)"},
		"two have its address":      {func(a *account, _ *Cloud) { a.droplets[7].Public = a.droplets[2].Private }, "kirk: the droplets 13, 18 have its address 10.77.0.21"},
		"refit.yml names one amiss": {func(_ *account, c *Cloud) { c.Droplets = map[string]int{"kirk": 4711} }, "kirk: the cloud account has no droplet 4711, which refit.yml gives"},
		"refit.yml names one twice": {func(_ *account, c *Cloud) { c.Droplets = map[string]int{"kirk": 14} }, "kirk and spock are the same droplet, 14"},
		"the account does not say":  {func(a *account, _ *Cloud) { a.fails["Droplets"] = cloud.ErrDenied }, "make a new token"},
		"another's is switched off": {func(a *account, c *Cloud) {
			c.PowerOff, c.Droplets = []string{"web"}, map[string]int{"spock": 17}
		}, "spock: its droplet 17 has neither its address nor its name (it is called khan), and is not switched off"},
		"a keeper is switched off": {func(a *account, c *Cloud) {
			c.PowerOff = []string{"web"}
			a.w.d.Fleet[2].Roles, a.w.d.Fleet[3].Roles = []hosts.Role{hosts.Web, hosts.Builder}, []hosts.Role{hosts.Web, hosts.Keeper}
		}, "spock is keeper too and cannot be switched off"},
	} {
		t.Run(name, func(t *testing.T) {
			inCloud(t, func(t *testing.T, w *world, a *account) {
				c.bad(a, w.d.Cloud)
				refused, _ := w.d.Cloud.choose(t.Context(), w.d, aView(w.d, w.f), w.f)
				if !strings.Contains(strings.Join(refused, "\n"), c.says) {
					t.Errorf("refused: %q", refused)
				}
			})
		})
	}
	inCloud(t, func(t *testing.T, w *world, a *account) { // by its public address, and by its ID where no address helps
		a.droplets[2].Public, a.droplets[2].Private = a.droplets[2].Private, a.droplets[2].Public
		a.droplets[3].Private = a.droplets[2].Private
		w.d.Cloud.Droplets = map[string]int{"spock": 14}
		if refused, _ := w.d.Cloud.choose(t.Context(), w.d, aView(w.d, w.f), w.f); len(refused) > 0 {
			t.Errorf("refused: %q", refused)
		}
	})
}

func TestANodeOfBothTiersIsKeptOnce(t *testing.T) {
	for _, off := range [][]string{nil, {"web", "sidekiq"}} {
		inCloud(t, func(t *testing.T, w *world, _ *account) {
			var both Fleet
			for _, n := range w.d.Fleet {
				if n.Name == "decker" {
					continue
				}
				switch n.Name {
				case "kirk", "spock":
					n.Roles, n.Workers = append(n.Roles[:len(n.Roles):len(n.Roles)], hosts.Sidekiq), w.node("scotty").Workers
				case "scotty":
					continue
				}
				both = append(both, n)
			}
			w.d.Fleet, w.f.Sidekiq = both, []string{"kirk", "spock"}
			w.d.Cloud.PowerOff = off
			refused, _ := w.d.Cloud.choose(t.Context(), w.d, aView(w.d, w.f), w.f)
			if len(refused) > 0 || len(w.f.Web) == 0 {
				t.Fatalf("refused: %q, web %q", refused, w.f.Web)
			}
			seen := map[string]bool{}
			for _, k := range w.f.Snapshots {
				if seen[k.Host] {
					t.Errorf("%s is kept twice, by one name: %+v", k.Host, w.f.Snapshots)
				}
				seen[k.Host] = true
			}
		})
	}
}
