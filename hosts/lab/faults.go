package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// Cut takes a host off the network: packets vanish without an answer, and open
// connections neither close nor move.
func (l *Lab) Cut(ctx context.Context, host string) error { return setLink(ctx, host, "down") }

// Heal puts a cut host back.
func (l *Lab) Heal(ctx context.Context, host string) error { return setLink(ctx, host, "up") }

func setLink(ctx context.Context, host, to string) error {
	if _, err := machine(host); err != nil {
		return err
	}
	if _, err := run(ctx, "ip", "-n", netns, "link", "set", "v-"+host, to); err != nil {
		return fmt.Errorf("cannot set the link of %s %s: %w", host, to, err)
	}
	return nil
}

// Freeze stops every process of a host. Its kernel still accepts connections: only
// a deadline on answers finds it out.
func (l *Lab) Freeze(ctx context.Context, host string) error {
	if _, err := machine(host); err != nil {
		return err
	}
	return setFrozen(ctx, host, true)
}

// Thaw lets a frozen host go on.
func (l *Lab) Thaw(ctx context.Context, host string) error {
	if _, err := machine(host); err != nil {
		return err
	}
	return setFrozen(ctx, host, false)
}

// Reboot reboots a host in good order and waits until all its units run again.
func (l *Lab) Reboot(ctx context.Context, host string) error {
	before, err := leader(host)
	if err != nil {
		return err
	}
	// Without logind systemctl complains and then reboots the direct way; what
	// counts is that PID 1 is another one.
	if _, err := inside(ctx, host, "systemctl", "--no-block", "reboot"); err != nil && before == 0 {
		return err
	}
	err = await(ctx, 2*time.Minute, func() (bool, error) {
		now, err := leader(host)
		return now != 0 && now != before, err
	})
	if err != nil {
		return fmt.Errorf("%s does not reboot: %w", host, err)
	}
	return l.ready(ctx, host, bootLimit)
}

// PowerOff ends a host at once, as a pulled plug would. What it wrote stays.
func (l *Lab) PowerOff(ctx context.Context, host string) error {
	if _, err := machine(host); err != nil {
		return err
	}
	if err := killGroup(ctx, host); err != nil {
		return err
	}
	if err := os.Remove(hostDir(host, "pid")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot note that %s is off: %w", host, err)
	}
	return removeGroups(ctx, host)
}

// Start boots a host that is off and waits until all its units run.
func (l *Lab) Start(ctx context.Context, host string) error {
	m, err := machine(host)
	if err != nil {
		return err
	}
	pid, err := leader(host)
	if err != nil {
		return err
	}
	if pid != 0 {
		return fmt.Errorf("%s is up already", host)
	}
	if err := boot(m); err != nil {
		return err
	}
	return l.ready(ctx, host, bootLimit)
}

// Kill kills with SIGKILL: all processes of a unit if what has a unit's ending,
// else all processes of that name.
func (l *Lab) Kill(ctx context.Context, host, what string) error {
	argv := []string{"pkill", "-KILL", "-x", what}
	if strings.HasSuffix(what, ".service") {
		argv = []string{"systemctl", "kill", "--signal=KILL", what}
	}
	_, err := inside(ctx, host, argv...)
	return err
}

// StopService stops a unit of a host and waits for its end.
func (l *Lab) StopService(ctx context.Context, host, unit string) error {
	_, err := inside(ctx, host, "systemctl", "stop", unit)
	return err
}

// StartService starts a unit of a host.
func (l *Lab) StartService(ctx context.Context, host, unit string) error {
	_, err := inside(ctx, host, "systemctl", "start", unit)
	return err
}

const fillName = "var/tmp/lab-fill"

// Fill leaves no byte free on a host's disk.
func (l *Lab) Fill(_ context.Context, host string) error {
	if _, err := machine(host); err != nil {
		return err
	}
	f, err := os.OpenFile(hostDir(host, "root", fillName), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot fill the disk of %s: %w", host, err)
	}
	defer f.Close()
	// Twice: what allocation itself needs is taken between counting and asking.
	for chunk := int64(64 << 20); chunk >= 4096; {
		info, err := f.Stat()
		if err != nil {
			return fmt.Errorf("cannot fill the disk of %s: %w", host, err)
		}
		switch err := unix.Fallocate(int(f.Fd()), 0, info.Size(), chunk); {
		case err == nil:
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOSPC):
			chunk /= 2
		default:
			return fmt.Errorf("cannot fill the disk of %s: %w", host, err)
		}
	}
	return nil
}

// Free gives back what Fill took.
func (l *Lab) Free(_ context.Context, host string) error {
	if _, err := machine(host); err != nil {
		return err
	}
	if err := os.Remove(hostDir(host, "root", fillName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot free the disk of %s: %w", host, err)
	}
	return nil
}

// Limit limits a host's link in both directions. rate is as tc writes it: "64kbps"
// is 64 kilobytes, "100mbit" 100 megabits a second.
func (l *Lab) Limit(ctx context.Context, host, rate string) error {
	if _, err := machine(host); err != nil {
		return err
	}
	for _, end := range ends(host) {
		argv := []string{"tc", "-n", end[0], "qdisc", "replace", "dev", end[1], "root", "tbf", "rate", rate, "burst", "32k", "latency", "400ms"}
		if _, err := run(ctx, argv...); err != nil {
			return fmt.Errorf("cannot limit the link of %s to %s: %w", host, rate, err)
		}
	}
	return nil
}

// Unlimit takes the limit off.
func (l *Lab) Unlimit(ctx context.Context, host string) error {
	if _, err := machine(host); err != nil {
		return err
	}
	for _, end := range ends(host) {
		out, err := run(ctx, "tc", "-n", end[0], "qdisc", "show", "dev", end[1])
		if err != nil {
			return fmt.Errorf("cannot see the limit of %s: %w", host, err)
		}
		if !strings.Contains(out, "tbf") {
			continue
		}
		if _, err := run(ctx, "tc", "-n", end[0], "qdisc", "del", "dev", end[1], "root"); err != nil {
			return fmt.Errorf("cannot unlimit the link of %s: %w", host, err)
		}
	}
	return nil
}

// ends are both ends of a host's link: namespace and device.
func ends(host string) [][2]string {
	return [][2]string{{netns, "v-" + host}, {nsPrefix + host, "eth0"}}
}

// PromoteStandby makes the warm standby the primary, as a managed database does: the
// old primary is stopped if it can be, and the database's address moves. Connections
// to it break.
func (l *Lab) PromoteStandby(ctx context.Context) error {
	from, to := "majel", "paris"
	if l.Primary == to {
		return fmt.Errorf("%s is the primary already", to)
	}
	if pid, err := leader(from); err == nil && pid != 0 && !isFrozen(from) {
		if _, err := inside(ctx, from, "systemctl", "stop", "--no-block", "pgbouncer"); err != nil {
			return err
		}
		if _, err := inside(ctx, from, "pg_ctlcluster", "17", "main", "stop", "-m", "fast"); err != nil {
			l.say("lab: the old primary does not stop by itself: %v", err)
		}
	}
	if _, err := inside(ctx, to, "pg_ctlcluster", "17", "main", "promote"); err != nil {
		return fmt.Errorf("cannot promote %s: %w", to, err)
	}
	err := await(ctx, time.Minute, func() (bool, error) {
		out, err := inside(ctx, to, "runuser", "-u", "postgres", "--", "psql", "-qXAtc", "SELECT pg_is_in_recovery()")
		return strings.TrimSpace(out) == "f", err
	})
	if err != nil {
		return fmt.Errorf("cannot promote %s: %w", to, err)
	}
	if err := moveAddress(ctx, from, to, DatabaseAddress, DatabaseAddress); err != nil {
		return err
	}
	l.Primary = to
	return l.save()
}

// MoveRedis gives Redis another address, and its name with it. Its data stay; its
// connections break. Called again it moves back.
func (l *Lab) MoveRedis(ctx context.Context) error {
	from, to := RedisAddress, RedisMoved
	if l.Redis == to {
		from, to = to, from
	}
	if _, err := inside(ctx, "redis", "systemctl", "stop", "redis-server"); err != nil {
		return err
	}
	if err := moveAddress(ctx, "redis", "redis", from, to); err != nil {
		return err
	}
	l.Redis = to
	for _, m := range Machines() {
		if err := l.rename(m); err != nil {
			return err
		}
	}
	if _, err := inside(ctx, "redis", "systemctl", "start", "redis-server"); err != nil {
		return err
	}
	return l.save()
}

// rename writes a host's names anew, in place: a program that has the file open
// must see it.
func (l *Lab) rename(m Machine) error {
	text, err := os.ReadFile(filepath.Join(l.Files, "hosts/common/etc/hosts"))
	if err != nil {
		return fmt.Errorf("cannot write the names on %s: %w", m.Name, err)
	}
	b, err := render("hosts", string(text), l.page(m))
	if err != nil {
		return err
	}
	if err := os.WriteFile(hostDir(m.Name, "root", "etc/hosts"), b, 0o644); err != nil {
		return fmt.Errorf("cannot write the names on %s: %w", m.Name, err)
	}
	return nil
}

// snapshotDir is where a host's kept disk is.
func (l *Lab) snapshotDir(host, name string) (string, error) {
	if _, err := machine(host); err != nil {
		return "", err
	}
	bad := strings.IndexFunc(name, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_", r)
	})
	if name == "" || bad >= 0 {
		return "", fmt.Errorf("cannot name a snapshot %q: letters, digits, - and _ only", name)
	}
	return l.path("snapshots", host, name), nil
}

// Snapshot keeps a host's disk as it is now: frozen for the moment, then copied, as
// consistent as after a crash, like a cloud's snapshot of a running machine.
func (l *Lab) Snapshot(ctx context.Context, host, name string) (err error) {
	dir, err := l.snapshotDir(host, name)
	if err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(filepath.Dir(dir), 0o755)); err != nil {
		return fmt.Errorf("cannot keep the disk of %s: %w", host, err)
	}
	if pid, err := leader(host); err == nil && pid != 0 && !isFrozen(host) {
		if err := setFrozen(ctx, host, true); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, setFrozen(context.WithoutCancel(ctx), host, false)) }()
	}
	if _, err := run(ctx, "cp", "-a", hostDir(host, "rw", "upper"), dir); err != nil {
		return fmt.Errorf("cannot keep the disk of %s: %w", host, err)
	}
	return nil
}

// Restore switches a host off, puts a kept disk back and boots it.
func (l *Lab) Restore(ctx context.Context, host, name string) error {
	dir, err := l.snapshotDir(host, name)
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("%s has no snapshot %s: %w", host, name, err)
	}
	if err := l.PowerOff(ctx, host); err != nil {
		return err
	}
	if err := unix.Unmount(hostDir(host, "root"), 0); err != nil {
		return fmt.Errorf("cannot unmount the disk of %s: %w", host, err)
	}
	rw := hostDir(host, "rw")
	if err := errors.Join(os.RemoveAll(filepath.Join(rw, "upper")), os.RemoveAll(filepath.Join(rw, "work")), os.Mkdir(filepath.Join(rw, "work"), 0o755)); err != nil {
		return fmt.Errorf("cannot empty the disk of %s: %w", host, err)
	}
	if _, err := run(ctx, "cp", "-a", dir, filepath.Join(rw, "upper")); err != nil {
		return fmt.Errorf("cannot put back the disk of %s: %w", host, err)
	}
	if err := mountOverlay(host); err != nil {
		return err
	}
	return l.Start(ctx, host)
}
