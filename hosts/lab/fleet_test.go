package lab

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestEveryAddressStandsOnceAndInTheLabsRange(t *testing.T) {
	seen := map[string]string{Gateway: "bridge", DatabaseAddress: "database", RedisMoved: "moved redis"}
	names := map[string]bool{}
	for _, m := range Machines() {
		if !inNetwork(netip.MustParseAddr(m.Address)) {
			t.Errorf("%s has %s, outside of %s", m.Name, m.Address, Network)
		}
		if other := seen[m.Address]; other != "" {
			t.Errorf("%s and %s have the same address %s", m.Name, other, m.Address)
		}
		if names[m.Name] {
			t.Errorf("two hosts are named %s", m.Name)
		}
		seen[m.Address], names[m.Name] = m.Name, true
	}
}

func TestEveryQueueIsServedAndTheSchedulersOnOneNodeOnly(t *testing.T) {
	served := map[string][]string{}
	for _, m := range Machines() {
		for _, a := range m.Apps {
			for _, q := range a.Queues {
				served[q] = append(served[q], m.Name)
			}
		}
	}
	for _, q := range []string{"default", "push", "ingress", "mailers", "pull", "fasp"} {
		if len(served[q]) < 2 {
			t.Errorf("queue %s is served by %v: it would stop while one node is rolled", q, served[q])
		}
	}
	if !slices.Equal(served["scheduler"], []string{"decker"}) {
		t.Errorf("the scheduler's queue is served by %v, want decker alone", served["scheduler"])
	}
}

func TestAnUnknownHostIsRefusedWithTheHostsThereAre(t *testing.T) {
	_, err := machine("enterprise")
	if err == nil || !strings.Contains(err.Error(), "kirk") {
		t.Errorf("got %v", err)
	}
}

func TestALabThatIsNotThereIsSaidSo(t *testing.T) {
	if _, err := Open(t.TempDir()); !errors.Is(err, ErrNotUp) {
		t.Errorf("got %v, want %v", err, ErrNotUp)
	}
}

func TestNamesOfTheLabResolveAndOthersDoNot(t *testing.T) {
	l := &Lab{State: State{Redis: RedisMoved}}
	for name, want := range map[string]string{
		"kirk": "10.77.0.21", "kirk." + Domain: "10.77.0.21", Domain: "10.77.0.5", "redis": RedisMoved,
		"majel-db": DatabaseAddress, "10.77.0.99": "10.77.0.99",
	} {
		if got, err := l.resolve(name); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, want)
		}
	}
	if got, err := l.resolve("example.org"); err == nil {
		t.Errorf("example.org resolved to %s", got)
	}
}
