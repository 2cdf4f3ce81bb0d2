package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"vmst.io/refit/hosts/lab"
)

// The contenders.
const (
	Refit      = "refit"
	Hand       = "hand"
	Capistrano = "capistrano"
	Ansible    = "ansible"
)

// Packages are what the contenders need of Debian beyond every lab's hosts: the tools
// themselves for the control root, and Python on the hosts, without which Ansible
// does nothing there. One root serves both.
var Packages = []string{"python3", "ansible-core", "capistrano", "ruby-ed25519", "ruby-bcrypt-pbkdf"}

// Memory is what the machine must have free for a bench: the hosts' disks, which hold
// up to three releases each, lie in it.
const Memory = 10 << 30

// helpers is where the scripts stand on the hosts that all contenders but refit call.
const helpers = "/usr/local/lib/bench"

// fleet is the lab's hosts by what they do in a roll.
type fleet struct{ proxies, webs, sidekiqs []lab.Machine }

func theFleet() fleet {
	var f fleet
	for _, m := range lab.Machines() {
		switch {
		case has(m, "proxy"):
			f.proxies = append(f.proxies, m)
		case has(m, "web"):
			f.webs = append(f.webs, m)
		case has(m, "node"):
			f.sidekiqs = append(f.sidekiqs, m)
		}
	}
	return f
}

func has(m lab.Machine, tree string) bool {
	for _, t := range m.Trees {
		if t == tree {
			return true
		}
	}
	return false
}

// nodes are the hosts that run the application.
func (f fleet) nodes() []lab.Machine {
	return append(append([]lab.Machine{}, f.webs...), f.sidekiqs...)
}

// migrator is the node that runs migrations: the same one that refit takes, the
// first Sidekiq node that does not schedule.
func (f fleet) migrator() lab.Machine { return f.sidekiqs[0] }

// units are those of the application that run on a node, in the order in which they
// are stopped.
func units(m lab.Machine) []string {
	if has(m, "web") {
		return []string{"mastodon-web.service", "mastodon-streaming@4000.service"}
	}
	var out []string
	for _, a := range m.Apps {
		out = append(out, a.Name+".service")
	}
	return out
}

func addresses(ms []lab.Machine) string {
	var out []string
	for _, m := range ms {
		out = append(out, m.Address)
	}
	return strings.Join(out, " ")
}

// hostEnv is host.env beside the scripts on a host.
func (f fleet) hostEnv(m lab.Machine, database string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "DOMAIN=%s\nPROXIES=%q\nDB_HOST=%s\nDB_PORT=%d\nDB_NAME=mastodon\n", lab.Domain, addresses(f.proxies), database, lab.PortDatabase)
	fmt.Fprintf(&b, "UNITS=%q\nWORKERS=(", strings.Join(units(m), " "))
	for _, a := range m.Apps {
		if len(a.Queues) > 0 {
			fmt.Fprintf(&b, "%q ", a.Name+".service "+strings.Join(a.Queues, " "))
		}
	}
	b.WriteString(")\n")
	return b.String()
}

// inventory is Ansible's.
func (f fleet) inventory(c Case) string {
	var b strings.Builder
	for _, g := range []struct {
		name  string
		hosts []lab.Machine
	}{{"proxy", f.proxies}, {"web", f.webs}, {"sidekiq", f.sidekiqs}, {"migrator", []lab.Machine{f.migrator()}}} {
		fmt.Fprintf(&b, "[%s]\n", g.name)
		for _, m := range g.hosts {
			fmt.Fprintln(&b, m.Address)
		}
	}
	fmt.Fprintf(&b, "[all:vars]\nfrom=%s\nto=%s\nlib=%s\nreleases=/home/mastodon/releases\n", c.From(), c.To(), helpers)
	return b.String()
}

// command is a contender's whole roll. It is started in the lab's network and in the
// group; root is where the other tools live.
func (b *bench) command(ctx context.Context, contender string, c Case, group *lab.Group, root string) (*exec.Cmd, error) {
	argv := []string{b.Refit, "upgrade", "--to", c.To(), "--yes", "--json"}
	env := append(os.Environ(), b.refitEnv()...)
	switch contender {
	case Refit:
	case Hand:
		argv = inside(root, lab.ControlDir+"/hand/roll")
	case Capistrano:
		argv = inside(root, "/bin/sh", "-c", "cd "+lab.ControlDir+"/capistrano && exec cap fleet deploy")
	case Ansible:
		argv = inside(root, "ansible-playbook", lab.ControlDir+"/ansible/roll.yml")
		if err := os.WriteFile(filepath.Join(b.Dir, "hosts.ini"), []byte(b.fleet.inventory(c)), 0o644); err != nil {
			return nil, fmt.Errorf("cannot write Ansible's inventory: %w", err)
		}
	default:
		return nil, fmt.Errorf("%q is no contender", contender)
	}
	if contender != Refit {
		env = b.fleet.toolEnv(c)
	}
	argv = group.Wrap(argv...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = env
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	return cmd, nil
}

// inside are the arguments that run a program in the control root.
func inside(root string, argv ...string) []string { return append([]string{"chroot", root}, argv...) }

// toolEnv is the whole environment of the tools in the control root.
func (f fleet) toolEnv(c Case) []string {
	return []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "USER=root", "LOGNAME=root",
		"ANSIBLE_CONFIG=" + lab.ControlDir + "/ansible/ansible.cfg",
		"FROM=" + c.From(), "TO=" + c.To(),
		"PROXIES=" + addresses(f.proxies), "WEBS=" + addresses(f.webs), "SIDEKIQS=" + addresses(f.sidekiqs), "MIGRATOR=" + f.migrator().Address,
	}
}

// refitEnv is what refit is told by its environment.
func (b *bench) refitEnv() []string {
	return []string{
		"REFIT_CONFIG=" + filepath.Join(b.Dir, "refit.yml"),
		"XDG_STATE_HOME=" + filepath.Join(b.Lab.Dir, "state"), "XDG_CACHE_HOME=" + filepath.Join(b.Lab.Dir, "cache"),
	}
}

// zeroHolds gives a refit.yml in which nothing is held or soaked.
func zeroHolds(text string) (string, error) {
	lines := strings.Split(text, "\n")
	within, changed := false, 0
	for i, line := range lines {
		switch {
		case line == "holds:":
			within = true
		case within && strings.HasPrefix(line, "  "):
			key, _, ok := strings.Cut(line, ":")
			if !ok {
				return "", fmt.Errorf("refit.yml: %q under holds is no setting", line)
			}
			lines[i] = key + ": 0s"
			changed++
		default:
			within = false
		}
	}
	if changed == 0 {
		return "", fmt.Errorf("refit.yml has no holds to set to zero")
	}
	return strings.Join(lines, "\n"), nil
}
