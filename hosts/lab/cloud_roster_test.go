package lab

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func kirk(t *testing.T) Machine {
	t.Helper()
	m, err := machine("kirk")
	must(t, err)
	return m
}

func TestACreatedHostHasAddressesOfItsOwnAndIsLikeItsSource(t *testing.T) {
	var r roster
	c, err := r.add(2001, "refit-lab-run1-kirk.new", kirk(t))
	must(t, err)
	if c.Machine.Address != "10.77.0.100" || c.Public != "10.77.0.200" || c.Machine.Name != "refit-lab-run1-kirk.new" {
		t.Errorf("got %+v", c)
	}
	if !slices.Equal(c.Machine.Trees, kirk(t).Trees) || len(c.Machine.Apps) != len(kirk(t).Apps) {
		t.Errorf("it is not like kirk: %+v", c.Machine)
	}
	if r.instance("refit-lab-run1-kirk.new") != 2001 || r.instance("kirk") != firstInstance+3 {
		t.Errorf("instances %d and %d", r.instance("refit-lab-run1-kirk.new"), r.instance("kirk"))
	}
	if n := len(r.present()); n != len(Machines())+1 {
		t.Errorf("%d hosts", n)
	}
}

func TestAnAddressThatHasBecomeFreeIsGivenAgainLast(t *testing.T) {
	var r roster
	for i := range cloneLimit {
		c, err := r.add(2000+i, fmt.Sprintf("c%d", i), kirk(t))
		must(t, err)
		for _, a := range []string{c.Machine.Address, c.Public} {
			if !inNetwork(netip.MustParseAddr(a)) {
				t.Fatalf("%s is outside of the lab", a)
			}
		}
		if i == 0 {
			r.drop("c0")
		}
	}
	c, err := r.add(3000, "last", kirk(t))
	must(t, err)
	if c.Machine.Address != "10.77.0.100" {
		t.Errorf("got %s", c.Machine.Address)
	}
	if _, err := r.add(3001, "one-more", kirk(t)); err == nil || !strings.Contains(err.Error(), "50") {
		t.Errorf("got %v", err)
	}
}

func TestNamesAndIDsThatCannotBeAreRefused(t *testing.T) {
	var r roster
	for _, name := range []string{"", "mirrors", "kirk", "a/b", "..", "-a", "a_b", strings.Repeat("a", 65), "a..b", "a\nb"} {
		if _, err := r.add(2001, name, kirk(t)); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
	for _, id := range []int{0, 1, firstInstance, firstInstance + 5} {
		if _, err := r.add(id, "new", kirk(t)); err == nil {
			t.Errorf("ID %d was taken", id)
		}
	}
	if len(r.Clones) != 0 {
		t.Errorf("left %+v", r.Clones)
	}
}

func TestADestroyedHostOfTheFleetGivesItsNameFree(t *testing.T) {
	var r roster
	like := kirk(t)
	r.drop("kirk")
	r.drop("kirk")
	if len(r.Gone) != 1 || r.instance("kirk") != 0 || slices.ContainsFunc(r.present(), func(m Machine) bool { return m.Name == "kirk" }) {
		t.Fatalf("kirk is still there: %+v", r)
	}
	c, err := r.add(2001, "kirk", like)
	must(t, err)
	if r.instance("kirk") != 2001 || c.Machine.Address == like.Address {
		t.Errorf("got %+v, instance %d", c, r.instance("kirk"))
	}
	r.drop("kirk")
	if r.instance("kirk") != 0 || len(r.present()) != len(Machines())-1 {
		t.Errorf("kirk is back: %+v", r)
	}
	if r.drop("nobody"); len(r.Gone) != 1 {
		t.Errorf("gone: %v", r.Gone)
	}
}

func TestTheRosterIsKeptAndOneThatCannotBeReadIsSaidSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "droplets.json")
	must(t, changeRoster(path, func(r *roster) error {
		_, err := r.add(2001, "new", kirk(t))
		return err
	}))
	refused := changeRoster(path, func(r *roster) error {
		r.drop("new")
		return os.ErrInvalid
	})
	if refused == nil {
		t.Error("a change that failed was said to be done")
	}
	r, err := readRoster(path)
	must(t, err)
	if r.instance("new") != 2001 {
		t.Errorf("got %+v", r)
	}
	must(t, os.WriteFile(path, []byte("{"), 0o600))
	if _, err := readRoster(path); err == nil || !strings.Contains(err.Error(), "lab down") {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsToBeClearedNeedsNoRoster(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "a-clone"), 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "kirk"), 0o755))
	got := remains(dir)
	if len(got) != len(Machines())+1 || !slices.Contains(got, "a-clone") || !slices.Contains(got, "redis") {
		t.Errorf("got %v", got)
	}
}

func TestEveryLinkHasANameThatLinuxTakes(t *testing.T) {
	seen := map[string]string{}
	for _, host := range []string{"kirk", "exactly13let", "exactly13lettr", "refit-lab-run1-kirk", "refit-lab-run1-spock"} {
		v := veth(host)
		if len(v) > 15 || seen[v] != "" {
			t.Errorf("%s: %s (%d letters), taken by %q", host, v, len(v), seen[v])
		}
		seen[v] = host
	}
	if veth("kirk") != "v-kirk" {
		t.Errorf("kirk's link is %s", veth("kirk"))
	}
}
