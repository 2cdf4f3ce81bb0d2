package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
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
		lines = append(lines, linkTo(m.Name)...)
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

// veth is the bridge's end of a host's link. Linux gives a device 15 letters; a longer
// name is cut to a sum of it, so that rules for a host can be made before the host is.
func veth(host string) string {
	if name := "v-" + host; len(name) < unix.IFNAMSIZ {
		return name
	}
	return "v-" + shortSum(host)
}

// shortSum stands for a name where that is too long or has other letters than allowed.
func shortSum(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:6])
}

// linkTo are the lines that link a host's namespace to the bridge.
func linkTo(host string) []string {
	return []string{
		fmt.Sprintf("link add %s type veth peer name eth0 netns %s", veth(host), nsPrefix+host),
		fmt.Sprintf("link set %s master %s up", veth(host), bridge),
	}
}

// networkAdd makes the namespace of one more host, with its addresses, of which the first
// is the one that it sends from.
func networkAdd(ctx context.Context, host string, addresses ...string) error {
	lines := []string{"link set lo up"}
	for _, a := range addresses {
		lines = append(lines, "addr add "+a+"/24 dev eth0")
	}
	for _, step := range []struct {
		ns    string
		lines []string
	}{{"", []string{"netns add " + nsPrefix + host}}, {netns, linkTo(host)}, {nsPrefix + host, append(lines, "link set eth0 up")}} {
		if err := ipBatch(ctx, step.ns, step.lines...); err != nil {
			return fmt.Errorf("cannot put %s on the network: %w", host, err)
		}
	}
	return nil
}

// networkRemove takes the namespace and the link of one host away, if they are there.
func networkRemove(ctx context.Context, host string) error {
	if _, err := run(ctx, "ip", "-n", netns, "link", "show", veth(host)); err == nil {
		// With the namespace alone the link goes later, and its name is taken until then.
		if _, err := run(ctx, "ip", "-n", netns, "link", "del", veth(host)); err != nil {
			return fmt.Errorf("cannot take %s off the network: %w", host, err)
		}
	}
	if _, err := os.Stat(filepath.Join(netnsDir, nsPrefix+host)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if _, err := run(ctx, "ip", "netns", "del", nsPrefix+host); err != nil {
		return fmt.Errorf("cannot take %s off the network: %w", host, err)
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
	all, err := present()
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range all {
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
