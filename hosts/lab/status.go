package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Status is the fleet as it is now.
type Status struct {
	Schema string `json:"schema"`
	State  State  `json:"-"`
	// Primary is the host of the database's address, Redis the address of Redis.
	Primary string       `json:"primary"`
	Redis   string       `json:"redis"`
	Hosts   []HostStatus `json:"hosts"`
}

// HostStatus is one host as it is now.
type HostStatus struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	// State is systemd's word (running, degraded, starting, stopping), or frozen, or
	// off.
	State string `json:"state"`
	// Link is up, cut, or up and the rate to which it is limited.
	Link string `json:"link"`
	// Disk and DiskUsed are of the writable layer, Memory what the host's processes
	// use with their caches, all in MiB.
	Disk     int    `json:"disk_mib"`
	DiskUsed int    `json:"disk_used_mib"`
	Memory   int    `json:"memory_mib"`
	Failed   string `json:"failed_units"`
	// Live is the release that a node's live link names.
	Live string `json:"live,omitempty"`
}

// Status asks every host. A frozen or cut host is seen from outside.
func (l *Lab) Status(ctx context.Context) (Status, error) {
	s := Status{Schema: "refit.lab.status/v1", State: l.State, Primary: l.Primary, Redis: l.Redis}
	all, err := present()
	if err != nil {
		return s, err
	}
	for _, m := range all {
		h := HostStatus{Name: m.Name, Address: m.Address, State: "off", Disk: m.Disk}
		if m.Name == "redis" {
			h.Address = l.Redis
		}
		pid, err := leader(m.Name)
		if err != nil {
			return s, err
		}
		switch {
		case pid == 0:
		case isFrozen(m.Name):
			h.State = "frozen"
		default:
			h.State, h.Failed = systemState(ctx, m.Name)
		}
		if h.Link, err = link(ctx, m.Name); err != nil {
			return s, err
		}
		var fs unix.Statfs_t
		if err := unix.Statfs(hostDir(m.Name, "rw"), &fs); err != nil {
			return s, fmt.Errorf("cannot see the disk of %s: %w", m.Name, err)
		}
		h.DiskUsed = int((fs.Blocks - fs.Bfree) * uint64(fs.Bsize) >> 20)
		h.Memory = memory(m.Name)
		if to, err := os.Readlink(hostDir(m.Name, "root", "home/mastodon/live")); err == nil {
			h.Live = filepath.Base(to)
		}
		s.Hosts = append(s.Hosts, h)
	}
	return s, nil
}

// systemState asks a host's systemd how it fares and which units have failed. A
// host whose systemd does not answer yet is starting, or stopping.
func systemState(ctx context.Context, host string) (state, failed string) {
	out, err := inside(ctx, host, "systemctl", "is-system-running")
	if err != nil && out == "" {
		return "starting", ""
	}
	// With a word the exit status tells nothing more.
	if state = strings.TrimSpace(out); state == "offline" {
		return "starting", ""
	}
	out, err = inside(ctx, host, "systemctl", "list-units", "--failed", "--no-legend", "--plain", "--full")
	if err != nil {
		return "stopping", ""
	}
	var units []string
	for line := range strings.Lines(out) {
		units = append(units, strings.Fields(line)[0])
	}
	return state, strings.Join(units, " ")
}

func link(ctx context.Context, host string) (string, error) {
	out, err := run(ctx, "ip", "-n", netns, "-o", "link", "show", veth(host))
	if err != nil {
		return "", fmt.Errorf("cannot see the link of %s: %w", host, err)
	}
	if !strings.Contains(out, ",UP") {
		return "cut", nil
	}
	out, err = run(ctx, "tc", "-n", netns, "qdisc", "show", "dev", veth(host))
	if err != nil {
		return "", fmt.Errorf("cannot see the link of %s: %w", host, err)
	}
	if _, after, ok := strings.Cut(out, " rate "); ok {
		return "up, " + strings.Fields(after)[0], nil
	}
	return "up", nil
}

// memory of a host's group in MiB, 0 where the machine does not count it.
func memory(host string) int {
	for _, p := range []string{
		filepath.Join(cgroupRoot, "memory", cgroup, host, "memory.usage_in_bytes"),
		filepath.Join(cgroupRoot, cgroup, host, "memory.current"),
	} {
		if b, err := os.ReadFile(p); err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil {
				return int(n >> 20)
			}
		}
	}
	return 0
}
