package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

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
	if _, err := run(ctx, "ip", "-n", netns, "link", "set", veth(host), to); err != nil {
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
		argv := []string{"tc", "-n", end[0], "qdisc", "replace", "dev", end[1], "root", "tbf", "rate", rate, "burst", burst(rate), "latency", "400ms"}
		if _, err := run(ctx, argv...); err != nil {
			return fmt.Errorf("cannot limit the link of %s to %s: %w", host, rate, err)
		}
	}
	return nil
}

// burst is what a token bucket lets through at once. It must hold what a fast link
// sends between two ticks of the kernel, and must not hide a slow link's rate.
func burst(rate string) string {
	for _, fast := range []string{"mbit", "mbps", "gbit", "gbps"} {
		if strings.HasSuffix(strings.ToLower(rate), fast) {
			return "256k"
		}
	}
	return "16k"
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
	return [][2]string{{netns, veth(host)}, {nsPrefix + host, "eth0"}}
}
