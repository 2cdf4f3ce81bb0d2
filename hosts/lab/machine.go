package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Paths of a running host.
func hostDir(name string, elem ...string) string {
	return filepath.Join(append([]string{runDir, "hosts", name}, elem...)...)
}

// Root is where a host's file system is seen from the machine.
func (l *Lab) Root(host string) string { return hostDir(host, "root") }

// mountHost gives a host its own writable layer of limited size over the image.
// "df" on the host shows the limit, and a full disk gives ENOSPC.
func mountHost(m Machine) error {
	if err := mountDisk(m); err != nil {
		return err
	}
	for _, d := range []string{"upper", "work"} {
		if err := os.Mkdir(hostDir(m.Name, "rw", d), 0o755); err != nil {
			return fmt.Errorf("cannot make the disk of %s: %w", m.Name, err)
		}
	}
	return mountOverlay(m.Name)
}

// mountDisk gives a host the empty space of its writable layer.
func mountDisk(m Machine) error {
	for _, d := range []string{"rw", "root"} {
		if err := os.MkdirAll(hostDir(m.Name, d), 0o755); err != nil {
			return fmt.Errorf("cannot make the disk of %s: %w", m.Name, err)
		}
	}
	rw := hostDir(m.Name, "rw")
	if err := unix.Mount("refit-lab", rw, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=755", m.Disk)); err != nil {
		return fmt.Errorf("cannot make the disk of %s: %w", m.Name, err)
	}
	return nil
}

// baseOf is the mounted image that a host stands on: the builder alone compiles.
func baseOf(name string) string {
	if m, err := machine(name); err == nil && slices.Contains(m.Trees, "builder") {
		return filepath.Join(runDir, "workshop")
	}
	return filepath.Join(runDir, "base")
}

func mountOverlay(name string) error {
	rw := hostDir(name, "rw")
	opts := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", baseOf(name), rw, rw)
	if err := unix.Mount("refit-lab", hostDir(name, "root"), "overlay", 0, opts); err != nil {
		return fmt.Errorf("cannot lay the disk of %s over the image: %w", name, err)
	}
	return nil
}

// supervise is what watches one host: it takes its place in the host's cgroups and
// starts the container again when the host reboots, which nspawn tells by status
// 133 since no manager of units stands behind it. It is a shell because it is the
// smallest program that outlives its starter. CAP_NET_ADMIN is what the host's
// systemd needs to give a unit a network of its own: without it PrivateNetwork=yes
// is passed over with a warning, and nspawn keeps it only for networks that it made
// itself. What it reaches is the host's own network namespace. A host whose machine-id is
// empty makes one by itself, so none is given. The credential tells the host which droplet
// it is, as a cloud's metadata service would: no copy of its disk holds it.
const supervise = `for c in $GROUPS_OF_HOST; do echo $$ > "$c/cgroup.procs" || exit 1; done
while :; do
  systemd-nspawn -q -b -D "$DIR/root" -M "$HOST" --register=no --keep-unit --network-namespace-path="$NETNS" --capability=CAP_NET_ADMIN ${UUID:+--uuid="$UUID"} --set-credential=refit.instance:"$INSTANCE" \
    --link-journal=no --resolv-conf=off --timezone=off --console=read-only </dev/null >>"$DIR/console.log" 2>&1 &
  echo $! > "$DIR/pid.new" && mv "$DIR/pid.new" "$DIR/pid"
  wait $!
  rc=$?
  rm -f "$DIR/pid"
  [ $rc = 133 ] || break
done
echo "nspawn ended with $rc" >> "$DIR/console.log"`

// boot starts a host whose disk is mounted. It returns at once.
func boot(m Machine) error {
	groups, err := makeGroups(m.Name)
	if err != nil {
		return err
	}
	id, err := os.ReadFile(hostDir(m.Name, "root", "etc/machine-id"))
	if err != nil {
		return fmt.Errorf("cannot start %s: %w", m.Name, err)
	}
	if err := os.Remove(hostDir(m.Name, "pid")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot start %s: %w", m.Name, err)
	}
	droplet, err := instance(m.Name)
	if err != nil {
		return fmt.Errorf("cannot start %s: %w", m.Name, err)
	}
	c := exec.Command("sh", "-c", supervise)
	c.Env = append(os.Environ(),
		"GROUPS_OF_HOST="+strings.Join(groups, " "), "DIR="+hostDir(m.Name), "HOST="+m.Name,
		"NETNS="+filepath.Join(netnsDir, nsPrefix+m.Name), "UUID="+strings.TrimSpace(string(id)),
		"INSTANCE="+strconv.Itoa(droplet))
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return fmt.Errorf("cannot start %s: %w", m.Name, err)
	}
	go func() {
		// Reaped if it ends while we live; if we end first, init does it.
		if err := c.Wait(); err != nil {
			return
		}
	}()
	return nil
}

// leader gives the process ID, on the machine, of a host's PID 1; 0 while it has
// none.
func leader(host string) (int, error) {
	b, err := os.ReadFile(hostDir(host, "pid"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("cannot find %s: %w", host, err)
	}
	pid := strings.TrimSpace(string(b))
	kids, err := os.ReadFile(filepath.Join("/proc", pid, "task", pid, "children"))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("cannot find %s: %w", host, err)
	}
	for _, kid := range strings.Fields(string(kids)) {
		status, err := os.ReadFile(filepath.Join("/proc", kid, "status"))
		if err != nil {
			continue // it has just ended
		}
		for line := range strings.Lines(string(status)) {
			f := strings.Fields(line)
			if len(f) == 3 && f[0] == "NSpid:" && f[2] == "1" {
				return strconv.Atoi(kid)
			}
		}
	}
	return 0, nil
}

// inside runs a program on a host through its namespaces, so that it works on a
// host that is cut off or whose sshd is gone. A frozen host's program runs too.
func inside(ctx context.Context, host string, argv ...string) (string, error) {
	pid, err := leader(host)
	if err != nil {
		return "", err
	}
	if pid == 0 {
		return "", fmt.Errorf("%s is not up; start it with: lab start %s", host, host)
	}
	out, err := run(ctx, append([]string{"nsenter", "-t", strconv.Itoa(pid), "-m", "-u", "-i", "-n", "-p", "-C", "--"}, argv...)...)
	if err != nil {
		return out, fmt.Errorf("on %s: %w", host, err)
	}
	return out, nil
}

// ready waits until a host has started all its units and its sshd lets the lab's
// own key in. Port 22 is never asked without logging in: OpenSSH counts bare
// connections as an attack.
func (l *Lab) ready(ctx context.Context, host string, limit time.Duration) error {
	if err := booted(ctx, host, limit); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	state, err := inside(ctx, host, "systemctl", "is-system-running", "--wait")
	if err != nil && strings.TrimSpace(state) == "" {
		return fmt.Errorf("%s does not finish booting: %w", host, err)
	}
	if s := strings.TrimSpace(state); s != "running" {
		failed, err := inside(ctx, host, "systemctl", "list-units", "--failed", "--no-legend", "--plain")
		if err != nil {
			return err
		}
		return fmt.Errorf("%s is %s; failed units: %s (its console: %s)", host, s, strings.Join(strings.Fields(failed), " "), hostDir(host, "console.log"))
	}
	if err := settled(ctx, host); err != nil {
		return err
	}
	if _, err := l.Exec(ctx, host, "true"); err != nil {
		return fmt.Errorf("%s has booted but lets nobody in: %w", host, err)
	}
	return nil
}

// booted waits until a host's systemd answers; its units may still be starting.
func booted(ctx context.Context, host string, limit time.Duration) error {
	err := await(ctx, limit, func() (bool, error) {
		pid, err := leader(host)
		if err != nil || pid == 0 {
			return false, err
		}
		_, err = os.Stat(filepath.Join("/proc", strconv.Itoa(pid), "root/run/dbus/system_bus_socket"))
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("%s does not boot (its console: %s): %w", host, hostDir(host, "console.log"), err)
	}
	return nil
}

// settled waits until the host's own units are active: one that is about to be
// started again after a failure counts as running for systemd as a whole.
func settled(ctx context.Context, host string) error {
	m, err := machine(host)
	if err != nil || len(m.Units) == 0 {
		return err
	}
	return await(ctx, time.Minute, func() (bool, error) {
		out, err := inside(ctx, host, append([]string{"systemctl", "is-active"}, m.Units...)...)
		if strings.Contains(out, "failed") {
			return false, fmt.Errorf("units %s of %s: %s", strings.Join(m.Units, " "), host, strings.Join(strings.Fields(out), " "))
		}
		return err == nil, nil
	})
}
