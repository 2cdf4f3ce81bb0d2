package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// What is seen and done from outside the hosts, so that it neither opens an ssh
// connection nor is slowed by a limited link.

// Inside runs a program on a host as root, past its network and its sshd.
func (l *Lab) Inside(ctx context.Context, host string, argv ...string) (string, error) {
	return inside(ctx, host, argv...)
}

// Leader is the process ID, on this machine, of a host's PID 1; 0 while it is off.
func (l *Lab) Leader(host string) (int, error) { return leader(host) }

// Launch starts a program of this machine inside the lab's network.
func (l *Lab) Launch(c *exec.Cmd) error {
	if err := inNamespace(netns, c.Start); err != nil {
		return fmt.Errorf("cannot start %s in the lab's network: %w", c.Path, err)
	}
	return nil
}

// Traffic counts the bytes on a host's link since it was raised.
type Traffic struct {
	// To the host, and From it.
	To, From int64
}

// Traffic reads the counters of every host's link, by the host's name.
func (l *Lab) Traffic(ctx context.Context) (map[string]Traffic, error) {
	out, err := run(ctx, "ip", "-n", netns, "-s", "-j", "link", "show")
	if err != nil {
		return nil, fmt.Errorf("cannot count traffic: %w", err)
	}
	all, err := readTraffic([]byte(out))
	if err != nil {
		return nil, err
	}
	hosts, err := present()
	if err != nil {
		return nil, err
	}
	for _, m := range hosts {
		short := strings.TrimPrefix(veth(m.Name), "v-")
		if t, ok := all[short]; ok && short != m.Name {
			all[m.Name] = t
			delete(all, short)
		}
	}
	return all, nil
}

// readTraffic reads what ip says of the hosts' ends at the bridge: what that end
// sends is what the host gets.
func readTraffic(b []byte) (map[string]Traffic, error) {
	var links []struct {
		Name  string `json:"ifname"`
		Stats struct {
			RX, TX struct{ Bytes int64 }
		} `json:"stats64"`
	}
	if err := json.Unmarshal(b, &links); err != nil {
		return nil, fmt.Errorf("cannot count traffic: %w", err)
	}
	all := map[string]Traffic{}
	for _, l := range links {
		if host, ok := strings.CutPrefix(l.Name, "v-"); ok {
			all[host] = Traffic{To: l.Stats.TX.Bytes, From: l.Stats.RX.Bytes}
		}
	}
	return all, nil
}

// Group is a cgroup of the lab's for programs of this machine, so that all that one
// of them starts can be counted and ended, whatever it leaves behind.
type Group struct{ name, dir string }

// NewGroup makes the group of that name; one that is there is taken.
func NewGroup(name string) (*Group, error) {
	u, err := unified()
	if err != nil {
		return nil, err
	}
	g := &Group{name, filepath.Join(u, cgroup, name)}
	if err := os.MkdirAll(g.dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the cgroup %s: %w", name, err)
	}
	return g, nil
}

// Wrap gives the arguments that run a program in the group.
func (g *Group) Wrap(argv ...string) []string {
	return append([]string{"/bin/sh", "-c", `echo $$ > "$0" && exec "$@"`, filepath.Join(g.dir, "cgroup.procs")}, argv...)
}

// Processes are those in the group now.
func (g *Group) Processes() ([]int, error) {
	b, err := os.ReadFile(filepath.Join(g.dir, "cgroup.procs"))
	if err != nil {
		return nil, fmt.Errorf("cannot list the processes of %s: %w", g.name, err)
	}
	var pids []int
	for _, word := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			return nil, fmt.Errorf("cannot list the processes of %s: %w", g.name, err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// End kills what is left in the group and removes it.
func (g *Group) End(ctx context.Context) error {
	if err := killGroup(ctx, g.name); err != nil {
		return err
	}
	return removeTree(ctx, g.dir)
}
