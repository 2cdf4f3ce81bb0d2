package lab

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"
)

// page is what the templates of host files may ask for.
type page struct {
	State
	Host                                                                                   Machine
	Machines                                                                               []Machine
	Domain, Gateway, Network, Balancer                                                     string
	PortDatabase, PortPooler, PortRedis, PortSearch, PortGems, PortNpm, PortGit, PortFiles int
	PortCloud                                                                              int
	CloudBalancer, CloudDatabase                                                           string
}

func (l *Lab) page(m Machine) (page, error) {
	pike, err := machine("pike")
	if err != nil {
		return page{}, fmt.Errorf("cannot find the balancer: %w", err)
	}
	return page{
		State: l.State, Host: m, Machines: Machines(), Domain: Domain, Gateway: Gateway, Network: Network, Balancer: pike.Address,
		PortDatabase: PortDatabase, PortPooler: PortPooler, PortRedis: PortRedis, PortSearch: PortSearch,
		PortGems: PortGems, PortNpm: PortNpm, PortGit: PortGit, PortFiles: PortFiles,
		PortCloud: PortCloud, CloudBalancer: front, CloudDatabase: managedDatabase,
	}, nil
}

var helpers = template.FuncMap{
	"join": strings.Join,
	"has":  func(list []string, s string) bool { return slices.Contains(list, s) },
	"addr": func(name string) (string, error) {
		m, err := machine(name)
		return m.Address, err
	},
}

// render fills in one host file.
func render(name, text string, p any) ([]byte, error) {
	t, err := template.New(name).Option("missingkey=error").Funcs(helpers).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("cannot read host file %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, p); err != nil {
		return nil, fmt.Errorf("cannot fill in host file %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// lay renders the host's trees into its root. A file keeps its executable bit.
func (l *Lab) lay(m Machine, root string) error {
	p, err := l.page(m)
	if err != nil {
		return fmt.Errorf("cannot lay the files of %s: %w", m.Name, err)
	}
	for _, tree := range append([]string{"common"}, m.Trees...) {
		from := filepath.Join(l.Files, "hosts", tree)
		err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			rel, err := filepath.Rel(from, path)
			if err != nil {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b, err := render(filepath.Join(tree, rel), string(text), p)
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			mode := os.FileMode(0o644)
			if info.Mode()&0o100 != 0 {
				mode = 0o755
			}
			return put(filepath.Join(root, rel), b, mode)
		})
		if err != nil {
			return fmt.Errorf("cannot lay the files of %s: %w", m.Name, err)
		}
	}
	return nil
}

// put writes a file with its folders; what stood there is replaced, never followed.
func put(path string, b []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	if err := os.WriteFile(path, b, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// owned are files that must belong to a service or stay secret: path, user, mode.
var owned = []struct {
	path, user string
	mode       os.FileMode
}{
	{"home/mastodon/.env.production", "mastodon", 0o600},
	{"etc/refit/probe.token", "root", 0o600},
	{"etc/pgbouncer/userlist.txt", "postgres", 0o640},
	{"etc/pgbouncer/pgbouncer.ini", "postgres", 0o640},
	{"etc/postgresql/17/main/pg_hba.conf", "postgres", 0o640},
	{"etc/postgresql/17/main/conf.d/lab.conf", "postgres", 0o644},
	{"etc/lab/pgpass", "postgres", 0o600},
	{"etc/lab/database.sql", "postgres", 0o600},
	{"etc/redis/redis.conf", "redis", 0o640},
	{"root/.bashrc", "root", 0o600},
	{"etc/redis/redis.key", "redis", 0o600},
	{"etc/haproxy/site.pem", "haproxy", 0o600},
	{"home/mastodon/.gitconfig", "mastodon", 0o644},
}

// own gives the files of a host to whom they belong, by the host's own passwd.
func own(root string) error {
	b, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
	if err != nil {
		return fmt.Errorf("cannot read the host's users: %w", err)
	}
	ids := map[string][2]int{}
	for line := range strings.Lines(string(b)) {
		f := strings.Split(line, ":")
		if len(f) < 4 {
			continue
		}
		uid, err1 := strconv.Atoi(f[2])
		gid, err2 := strconv.Atoi(f[3])
		if err1 == nil && err2 == nil {
			ids[f[0]] = [2]int{uid, gid}
		}
	}
	for _, o := range owned {
		path := filepath.Join(root, o.path)
		if _, err := os.Lstat(path); err != nil {
			continue // another host's file
		}
		id, ok := ids[o.user]
		if !ok {
			return fmt.Errorf("cannot give %s to %s: the host has no such user", o.path, o.user)
		}
		if err := os.Chown(path, id[0], id[1]); err != nil {
			return fmt.Errorf("cannot give %s to %s: %w", o.path, o.user, err)
		}
		if err := os.Chmod(path, o.mode); err != nil {
			return fmt.Errorf("cannot set the mode of %s: %w", o.path, err)
		}
	}
	return nil
}

// identity writes what makes a host itself: keys, logins, machine-id, units to start.
func (l *Lab) identity(m Machine, root string, index int) error {
	copies := [][3]string{
		{l.path("keys", "host-"+m.Name), "etc/ssh/ssh_host_ed25519_key", "600"},
		{l.path("keys", "host-"+m.Name+".pub"), "etc/ssh/ssh_host_ed25519_key.pub", "644"},
		{l.AdminKeyFile() + ".pub", "root/.ssh/authorized_keys", "600"},
	}
	if m.Managed {
		copies = append(copies, [3]string{l.KeyFile() + ".pub", "home/refit/.ssh/authorized_keys", "644"})
	}
	for _, t := range m.Trees {
		switch t {
		case "balancer":
			copies = append(copies, [3]string{l.Authority(), "etc/haproxy/ca.crt", "644"})
		case "proxy":
			copies = append(copies, [3]string{l.path("keys", "web.crt"), "etc/nginx/site.crt", "644"}, [3]string{l.path("keys", "web.key"), "etc/nginx/site.key", "600"})
		case "node":
			copies = append(copies, [3]string{l.Authority(), "etc/stunnel/ca.crt", "644"}, [3]string{l.allowedSigners(), "etc/refit/allowed_signers", "644"})
		case "redis":
			copies = append(copies, [3]string{l.Authority(), "etc/redis/ca.crt", "644"},
				[3]string{l.path("keys", "redis.crt"), "etc/redis/redis.crt", "644"}, [3]string{l.path("keys", "redis.key"), "etc/redis/redis.key", "600"})
		case "builder":
			copies = append(copies, [3]string{l.KeyFile() + ".pub", "home/git/.ssh/authorized_keys", "644"})
		}
	}
	if m.Self {
		copies = append(copies, [3]string{l.Self, "usr/local/lib/lab/lab", "755"})
	}
	for _, c := range copies {
		b, err := os.ReadFile(c[0])
		if err != nil {
			return fmt.Errorf("cannot seed %s: %w", m.Name, err)
		}
		mode, err := strconv.ParseUint(c[2], 8, 32)
		if err != nil {
			return fmt.Errorf("cannot seed %s: %w", m.Name, err)
		}
		if err := put(filepath.Join(root, c[1]), b, os.FileMode(mode)); err != nil {
			return fmt.Errorf("cannot seed %s: %w", m.Name, err)
		}
	}
	if slices.Contains(m.Trees, "balancer") {
		crt, err := os.ReadFile(l.path("keys", "web.crt"))
		if err != nil {
			return fmt.Errorf("cannot seed %s: %w", m.Name, err)
		}
		key, err := os.ReadFile(l.path("keys", "web.key"))
		if err != nil {
			return fmt.Errorf("cannot seed %s: %w", m.Name, err)
		}
		if err := put(filepath.Join(root, "etc/haproxy/site.pem"), slices.Concat(crt, key), 0o600); err != nil {
			return fmt.Errorf("cannot seed %s: %w", m.Name, err)
		}
	}
	if err := put(filepath.Join(root, "etc/machine-id"), fmt.Appendf(nil, "%032x\n", 0x7ef1700000+index), 0o444); err != nil {
		return fmt.Errorf("cannot seed %s: %w", m.Name, err)
	}
	return enable(root, m.Units)
}

// enable starts units at boot.
func enable(root string, units []string) error {
	wants := filepath.Join(root, "etc/systemd/system/multi-user.target.wants")
	if err := os.MkdirAll(wants, 0o755); err != nil {
		return fmt.Errorf("cannot enable units: %w", err)
	}
	for _, u := range units {
		target := filepath.Join("/usr/lib/systemd/system", u)
		if _, err := os.Lstat(filepath.Join(root, "etc/systemd/system", u)); err == nil {
			target = filepath.Join("/etc/systemd/system", u)
		}
		link := filepath.Join(wants, u)
		if err := os.RemoveAll(link); err != nil {
			return fmt.Errorf("cannot enable %s: %w", u, err)
		}
		if err := os.Symlink(target, link); err != nil {
			return fmt.Errorf("cannot enable %s: %w", u, err)
		}
	}
	return nil
}

// layApps puts the application's units on a node: the unit files of the release as
// they are, and a drop-in with refit's layout.
func (l *Lab) layApps(ctx context.Context, m Machine, root string) error {
	if len(m.Apps) == 0 || l.App == "" || l.Release == "" {
		return nil
	}
	units := filepath.Join(root, "etc/systemd/system")
	var start []string
	for _, a := range m.Apps {
		text, err := run(ctx, "git", "--git-dir", l.App, "show", l.Release+":dist/"+a.From+".service")
		if err != nil {
			return fmt.Errorf("cannot read the unit files of %s: %w", l.Release, err)
		}
		unit := a.Name + ".service"
		if err := put(filepath.Join(units, unit), []byte(text), 0o644); err != nil {
			return fmt.Errorf("cannot put unit %s on %s: %w", unit, m.Name, err)
		}
		if err := put(filepath.Join(units, unit+".d", "10-refit.conf"), []byte(dropIn(a)), 0o644); err != nil {
			return fmt.Errorf("cannot put unit %s on %s: %w", unit, m.Name, err)
		}
		if !strings.HasSuffix(a.Name, "@") {
			start = append(start, unit)
		}
	}
	return enable(root, start)
}

// dropIn is refit's addition to one of upstream's units: runtimes are reached
// through the release, so that one switch moves and restores code and runtimes.
func dropIn(a AppUnit) string {
	var b strings.Builder
	b.WriteString("[Unit]\nAfter=stunnel-redis.service\nWants=stunnel-redis.service\n")
	b.WriteString("# Before the first deployment there is nothing to run.\nConditionPathExists=/home/mastodon/live/.refit\n\n[Service]\n")
	if a.Exec != "" {
		b.WriteString("ExecStart=\nExecStart=/home/mastodon/live/.refit/bin/" + a.Exec + "\n")
		b.WriteString("TimeoutStopSec=90\nReadWritePaths=/home/mastodon/releases /home/mastodon/shared\n")
	}
	for _, e := range a.Env {
		b.WriteString("Environment=" + e + "\n")
	}
	return b.String()
}
