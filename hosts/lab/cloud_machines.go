package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"vmst.io/refit/hosts/cloud/cloudtest"
)

// shutdownLimit is how long a host may take to shut down; a cloud gives up as well.
const shutdownLimit = 2 * time.Minute

// Droplets are the lab's hosts as the machines of a cloud account. Errors name the host.
type Droplets struct{ lab *Lab }

var _ cloudtest.Machines = Droplets{}

// Droplets gives the hosts as the machines of a cloud account.
func (l *Lab) Droplets() Droplets { return Droplets{l} }

// fresh is the lab as its state file has it now: other programs move addresses and
// promote databases.
func (l *Lab) fresh() (*Lab, error) {
	now, err := Open(l.Dir)
	if err != nil {
		return nil, err
	}
	now.say = l.say
	return now, nil
}

// Create boots a new host from an image, under its own name, addresses and identity. Rules
// that Fence was given for that name before hold from its first packet on.
func (d Droplets) Create(ctx context.Context, c cloudtest.Machine) (placed cloudtest.Placed, err error) {
	l, err := d.lab.fresh()
	if err != nil {
		return placed, err
	}
	im, err := l.Kept(c.Image)
	if err != nil {
		return placed, fmt.Errorf("cannot create %s: %w", c.Name, err)
	}
	data, err := readUserData(c.UserData)
	if err != nil {
		return placed, fmt.Errorf("cannot create %s: %w", c.Name, err)
	}
	var born clone
	err = changeRoster(rosterFile, func(r *roster) error {
		born, err = r.add(c.ID, c.Name, im.Machine)
		return err
	})
	if err != nil {
		return placed, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Destroy(context.WithoutCancel(ctx), c.Name))
		}
	}()
	m := born.Machine
	if err := networkAdd(ctx, m.Name, m.Address, born.Public); err != nil {
		return placed, err
	}
	if err := mountDisk(m); err != nil {
		return placed, err
	}
	if err := l.putDisk(ctx, m.Name, c.Image); err != nil {
		return placed, err
	}
	if err := l.newInstance(ctx, m, data, m.Address, born.Public); err != nil {
		return placed, err
	}
	if err := boot(m); err != nil {
		return placed, err
	}
	if err := booted(ctx, m.Name, bootLimit); err != nil {
		return placed, err
	}
	err = changeRoster(rosterFile, func(r *roster) error {
		r.made(m.Name)
		return nil
	})
	if err != nil {
		return placed, err
	}
	l.say("cloud: created %s (%d) from %s at %s and %s", m.Name, c.ID, c.Image, born.Public, m.Address)
	return cloudtest.Placed{Public: born.Public, Private: m.Address}, nil
}

// putDisk puts an image on a host's space, which has none, and lays it over the root.
func (l *Lab) putDisk(ctx context.Context, host, image string) error {
	dir, err := l.imageDir(image)
	if err != nil {
		return err
	}
	rw := hostDir(host, "rw")
	if _, err := run(ctx, "cp", "-a", filepath.Join(dir, "upper"), filepath.Join(rw, "upper")); err != nil {
		return fmt.Errorf("cannot put %s on the disk of %s: %w", image, host, err)
	}
	if err := os.Mkdir(filepath.Join(rw, "work"), 0o755); err != nil {
		return fmt.Errorf("cannot put %s on the disk of %s: %w", image, host, err)
	}
	return mountOverlay(host)
}

// Restore puts an image on a host's disk in the place of what is there, and boots it. It
// keeps its ID and addresses. An image of another instance becomes this one at boot.
func (d Droplets) Restore(ctx context.Context, droplet, image string) error {
	l, err := d.lab.fresh()
	if err != nil {
		return err
	}
	m, err := machine(droplet)
	if err != nil {
		return err
	}
	im, err := l.Kept(image)
	if err != nil {
		return fmt.Errorf("cannot restore %s: %w", droplet, err)
	}
	if slices.Contains(im.Machine.Trees, "builder") != slices.Contains(m.Trees, "builder") {
		return fmt.Errorf("cannot restore %s from %s: that is of %s, which runs from another root image", droplet, image, im.Machine.Name)
	}
	id, err := instance(droplet)
	if err != nil {
		return err
	}
	if err := l.PowerOff(ctx, droplet); err != nil {
		return err
	}
	if err := unmountBelow(hostDir(droplet, "root")); err != nil {
		return err
	}
	for _, part := range []string{"upper", "work"} {
		if err := os.RemoveAll(hostDir(droplet, "rw", part)); err != nil {
			return fmt.Errorf("cannot empty the disk of %s: %w", droplet, err)
		}
	}
	if err := l.putDisk(ctx, droplet, image); err != nil {
		return err
	}
	addresses, err := addressesOf(m)
	if err != nil {
		return err
	}
	if im.Instance != id {
		err = l.newInstance(ctx, m, instanceData{}, addresses...)
	} else {
		err = l.knowHost(ctx, droplet, addresses)
	}
	if err != nil {
		return err
	}
	if err := d.PowerOn(ctx, droplet); err != nil {
		return err
	}
	if droplet == l.Primary {
		// The standby has what its primary no longer knows.
		if err := l.ready(ctx, droplet, bootLimit); err != nil {
			return err
		}
		return l.RebuildStandby(ctx)
	}
	return nil
}

// addressesOf are a host's addresses, the private one first.
func addressesOf(m Machine) ([]string, error) {
	r, err := readRoster(rosterFile)
	if err != nil {
		return nil, err
	}
	out := []string{m.Address}
	if c, ok := r.clone(m.Name); ok {
		out = append(out, c.Public)
	}
	return out, nil
}

// PowerOn boots a host that is off; one that is on stays so.
func (d Droplets) PowerOn(ctx context.Context, droplet string) error {
	m, err := machine(droplet)
	if err != nil {
		return err
	}
	pid, err := leader(droplet)
	if err != nil {
		return err
	}
	if pid == 0 {
		if err := boot(m); err != nil {
			return err
		}
	}
	return booted(ctx, droplet, bootLimit)
}

// PowerOff pulls the plug.
func (d Droplets) PowerOff(ctx context.Context, droplet string) error {
	return d.lab.PowerOff(ctx, droplet)
}

// Shutdown asks the host's system to end, and fails if it does not.
func (d Droplets) Shutdown(ctx context.Context, droplet string) error {
	if _, err := machine(droplet); err != nil {
		return err
	}
	pid, err := leader(droplet)
	if err != nil || pid == 0 {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, shutdownLimit)
	defer cancel()
	// Without logind systemctl complains and then goes the direct way; what counts is
	// that the host ends.
	_, asked := inside(asking, droplet, "systemctl", "--no-block", "poweroff")
	err = await(asking, shutdownLimit, func() (bool, error) {
		_, err := os.Stat(hostDir(droplet, "pid"))
		return errors.Is(err, os.ErrNotExist), nil
	})
	if err != nil {
		return errors.Join(fmt.Errorf("%s does not shut down: %w", droplet, err), asked)
	}
	return d.lab.PowerOff(ctx, droplet)
}

// Destroy ends a host and takes away all that it was made of, its disk too. One that is
// not there is destroyed already; what an earlier try has left is taken away.
func (d Droplets) Destroy(ctx context.Context, droplet string) error {
	if _, err := machine(droplet); err != nil {
		r, rerr := readRoster(rosterFile)
		if rerr == nil && r.instance(droplet) == 0 {
			return nil
		}
		return errors.Join(err, rerr)
	}
	locks := append(nspawnLock(droplet), nspawnTraces(droplet)...)
	if err := d.lab.PowerOff(ctx, droplet); err != nil {
		return err
	}
	for _, at := range []string{hostDir(droplet), filepath.Join("/run/systemd/nspawn/unix-export", droplet)} {
		if err := unmountBelow(at); err != nil {
			return err
		}
	}
	if err := networkRemove(ctx, droplet); err != nil {
		return err
	}
	if err := d.Fence(ctx, droplet, nil, false); err != nil {
		return err
	}
	for _, p := range append(locks, hostDir(droplet)) {
		if err := os.RemoveAll(p); err != nil {
			return fmt.Errorf("cannot destroy %s: %w", droplet, err)
		}
	}
	return changeRoster(rosterFile, func(r *roster) error {
		r.drop(droplet)
		return nil
	})
}

// unmountBelow unmounts what is at dir and below it, and says if anything stays: nothing
// is removed below a mount.
func unmountBelow(dir string) error {
	all, err := mounts(dir)
	if err != nil {
		return err
	}
	for _, m := range all {
		if err := unix.Unmount(m, 0); err != nil {
			if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
				return fmt.Errorf("cannot unmount %s: %w", m, err)
			}
		}
	}
	if all, err = mounts(dir); err == nil && len(all) > 0 {
		err = fmt.Errorf("cannot unmount %s: mounts come back: %v", dir, all)
	}
	return err
}
