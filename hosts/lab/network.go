package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ip runs iproute2's ip with one batch of lines, inside a namespace ("" for the
// machine's own).
func ipBatch(ctx context.Context, ns string, lines ...string) error {
	f, err := os.CreateTemp("", "refit-lab-ip-*")
	if err != nil {
		return fmt.Errorf("cannot write commands for ip: %w", err)
	}
	defer os.Remove(f.Name())
	if _, err := f.WriteString(strings.Join(lines, "\n") + "\n"); err != nil {
		return errors.Join(fmt.Errorf("cannot write commands for ip: %w", err), f.Close())
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("cannot write commands for ip: %w", err)
	}
	argv := []string{"ip", "-batch", f.Name()}
	if ns != "" {
		argv = []string{"ip", "-n", ns, "-batch", f.Name()}
	}
	_, err = run(ctx, argv...)
	return err
}

// networkUp makes the lab's namespace with its bridge, and one namespace per host.
// Addresses are put on from outside: a host needs no network daemon and keeps its
// address over reboots. There is no uplink and no default route: what tries to
// reach the outside fails at once.
func networkUp(ctx context.Context, ms []Machine) error {
	lines := []string{"netns add " + netns}
	for _, m := range ms {
		lines = append(lines, "netns add "+nsPrefix+m.Name)
	}
	if err := ipBatch(ctx, "", lines...); err != nil {
		return fmt.Errorf("cannot make the lab's namespaces: %w", err)
	}
	lines = []string{
		"link set lo up", "link add " + bridge + " type bridge", "addr add " + Gateway + "/24 dev " + bridge,
		"link set " + bridge + " up",
	}
	for _, m := range ms {
		lines = append(lines, fmt.Sprintf("link add v-%s type veth peer name eth0 netns %s", m.Name, nsPrefix+m.Name),
			fmt.Sprintf("link set v-%s master %s up", m.Name, bridge))
	}
	if err := ipBatch(ctx, netns, lines...); err != nil {
		return fmt.Errorf("cannot make the lab's bridge: %w", err)
	}
	for _, m := range ms {
		lines = []string{"link set lo up", "addr add " + m.Address + "/24 dev eth0", "link set eth0 up"}
		if m.Name == "majel" {
			lines = append(lines, "addr add "+DatabaseAddress+"/24 dev eth0")
		}
		if err := ipBatch(ctx, nsPrefix+m.Name, lines...); err != nil {
			return fmt.Errorf("cannot give %s its address: %w", m.Name, err)
		}
	}
	return nil
}

// moveAddress takes an address from one host's namespace and gives it to another.
// Every neighbour forgets where the address was, so that open connections to it
// are reset by its new holder instead of hanging.
func moveAddress(ctx context.Context, from, to, take, give string) error {
	if holds(ctx, from, take) {
		if err := ipBatch(ctx, nsPrefix+from, "addr del "+take+"/24 dev eth0"); err != nil {
			return fmt.Errorf("cannot take %s from %s: %w", take, from, err)
		}
	}
	if !holds(ctx, to, give) {
		if err := ipBatch(ctx, nsPrefix+to, "addr add "+give+"/24 dev eth0"); err != nil {
			return fmt.Errorf("cannot give %s to %s: %w", give, to, err)
		}
	}
	var errs []error
	for _, m := range Machines() {
		for _, a := range []string{take, give} {
			_, err := run(ctx, "ip", "-n", nsPrefix+m.Name, "neigh", "flush", "to", a)
			errs = append(errs, err)
		}
	}
	for _, a := range []string{take, give} {
		_, err := run(ctx, "ip", "-n", netns, "neigh", "flush", "to", a)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// holds tells whether a host's namespace has the address.
func holds(ctx context.Context, host, address string) bool {
	out, err := run(ctx, "ip", "-n", nsPrefix+host, "-o", "addr", "show", "dev", "eth0")
	return err == nil && strings.Contains(out, " "+address+"/")
}

// networkDown removes every namespace of the lab; their links go with them.
func networkDown(ctx context.Context) error {
	names, err := filepath.Glob(filepath.Join(netnsDir, netns+"*"))
	if err != nil {
		return fmt.Errorf("cannot look for the lab's namespaces: %w", err)
	}
	var errs []error
	for _, n := range names {
		if base := filepath.Base(n); base == netns || strings.HasPrefix(base, nsPrefix) {
			_, err := run(ctx, "ip", "netns", "del", base)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
