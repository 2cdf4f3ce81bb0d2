package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// disabled are services that packages enable but that only some hosts run.
var disabled = []string{"nginx", "postgresql", "pgbouncer", "redis-server", "stunnel4", "haproxy", "sidekiq", "puma", "cron"}

// masked are units that a container has no use for or that would wait for devices.
var masked = []string{
	"systemd-udevd.service", "systemd-udev-trigger.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket",
	"systemd-timesyncd.service", "systemd-logind.service", "systemd-networkd.service", "systemd-pcrphase.service",
	"systemd-update-utmp.service", "systemd-firstboot.service", "systemd-hwdb-update.service", "systemd-pstore.service",
	"systemd-ask-password-wall.path", "systemd-ask-password-console.path", "networking.service", "ldconfig.service", "console-getty.service", "getty.target", "apt-daily.timer", "apt-daily-upgrade.timer",
	"dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer", "man-db.timer", "logrotate.timer", "motd-news.timer",
}

// sshdConfig leaves OpenSSH's defaults but for keys: PerSourcePenalties and
// MaxStartups stay as real hosts have them. Without PAM a login needs no logind.
const sshdConfig = `HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
Subsystem sftp /usr/lib/openssh/sftp-server
`

// sudoers is the right that refit's user has on a bare host; deploying gives it the
// tight form (cmd/lab/trust.go).
const sudoers = `Defaults:refit !requiretty
refit ALL=(root) NOPASSWD: /var/lib/refit/bin/refit-* node *
`

// bake makes a fresh root into the one that all hosts share: no identity, no unit
// that waits for hardware, the users that a fleet has.
func bake(ctx context.Context, root string) error {
	in := func(argv ...string) error {
		if _, err := run(ctx, append([]string{"chroot", root}, argv...)...); err != nil {
			return fmt.Errorf("cannot bake the hosts' root: %w", err)
		}
		return nil
	}
	steps := [][]string{
		{"useradd", "-u", "1000", "-m", "-s", "/bin/bash", "mastodon"},
		{"useradd", "-u", "1001", "-m", "-s", "/bin/bash", "refit"},
		{"useradd", "-u", "1002", "-m", "-s", "/usr/bin/git-shell", "git"},
		// Without PAM sshd refuses an account whose password is locked with "!".
		{"usermod", "-p", "*", "root"},
		{"usermod", "-p", "*", "mastodon"},
		{"usermod", "-p", "*", "refit"},
		{"usermod", "-p", "*", "git"},
		{"chmod", "755", "/home/mastodon"},
		{"install", "-d", "-m", "755", "/home/mastodon/releases", "/var/lib/refit", "/etc/refit"},
		{"install", "-d", "-o", "refit", "-g", "refit", "-m", "755", "/var/lib/refit/bin"},
		{"install", "-d", "-o", "mastodon", "-g", "mastodon", "-m", "755", "/home/mastodon/shared", "/home/mastodon/shared/log", "/home/mastodon/shared/system"},
		{"install", "-d", "-o", "git", "-g", "git", "-m", "755", "/srv/git"},
		{"systemctl", "set-default", "-q", "multi-user.target"},
	}
	for _, s := range steps {
		if err := in(s...); err != nil {
			return err
		}
	}
	for _, u := range disabled {
		// A package that is not installed has no unit to disable.
		if _, err := os.Lstat(filepath.Join(root, "usr/lib/systemd/system", u+".service")); err != nil {
			continue
		}
		if err := in("systemctl", "disable", "-q", u); err != nil {
			return err
		}
	}
	for _, u := range masked {
		link := filepath.Join(root, "etc/systemd/system", u)
		if err := os.RemoveAll(link); err != nil {
			return fmt.Errorf("cannot bake the hosts' root: %w", err)
		}
		if err := os.Symlink("/dev/null", link); err != nil {
			return fmt.Errorf("cannot bake the hosts' root: %w", err)
		}
	}
	if err := in("sh", "-c", "rm -rf /etc/ssh/ssh_host_* /var/lib/apt/lists/* /var/cache/apt/*.bin /etc/nginx/sites-enabled/* && "+
		"mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial && "+
		// Upstream's units preload the library by its development name.
		"ln -sfn libjemalloc.so.2 /usr/lib/$(uname -m)-linux-gnu/libjemalloc.so"); err != nil {
		return err
	}
	files := []struct {
		path, content string
		mode          os.FileMode
	}{
		{"etc/machine-id", "", 0o644},
		{"etc/ssh/sshd_config", sshdConfig, 0o644},
		{"etc/sudoers.d/refit", sudoers, 0o440},
		{"etc/resolv.conf", "", 0o644},
	}
	for _, f := range files {
		path := filepath.Join(root, f.path)
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("cannot bake the hosts' root: %w", err)
		}
		if err := os.WriteFile(path, []byte(f.content), f.mode); err != nil {
			return fmt.Errorf("cannot bake the hosts' root: %w", err)
		}
		if err := os.Chmod(path, f.mode); err != nil {
			return fmt.Errorf("cannot bake the hosts' root: %w", err)
		}
	}
	return nil
}
