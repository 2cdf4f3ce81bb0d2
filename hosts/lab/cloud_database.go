package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"time"

	"vmst.io/refit/hosts/cloud/cloudtest"
)

// managedDatabase is the name of the lab's database in the account.
const managedDatabase = "majel"

// firstForkPort is the port of the first copy of the database; a host has ten at most.
const (
	firstForkPort = 5433
	forkLimit     = 10
)

// Managed is the lab's database as a managed one.
type Managed struct{ lab *Lab }

var _ cloudtest.Databases = Managed{}

// Managed gives the lab's database as a managed one.
func (l *Lab) Managed() Managed { return Managed{l} }

// backupsFile lists when the provider's backups were made.
func (l *Lab) backupsFile() string { return l.path("backups.json") }

// Backups are the instants at which the provider has backed the database up.
func (m Managed) Backups(_ context.Context, name string) ([]time.Time, error) {
	if name != managedDatabase {
		return nil, nil // copies are backed up after a day, which no lab lives
	}
	var out []time.Time
	b, err := os.ReadFile(m.lab.backupsFile())
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read when %s was backed up: %w", name, err)
	}
	return out, nil
}

// SetBackupAge makes the newest backup of the database so old, with six more before it, a
// day between each.
func (l *Lab) SetBackupAge(age time.Duration) error {
	if age < 0 {
		return fmt.Errorf("a backup cannot be %s old", age)
	}
	newest := time.Now().UTC().Add(-age).Truncate(time.Second)
	var all []time.Time
	for day := range 7 {
		all = append(all, newest.AddDate(0, 0, -day))
	}
	b, err := json.Marshal(all)
	if err == nil {
		err = os.WriteFile(l.backupsFile()+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(l.backupsFile()+".new", l.backupsFile())
	}
	if err != nil {
		return fmt.Errorf("cannot write when the database was backed up: %w", err)
	}
	return nil
}

var forkName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// addFork finds a place for a copy on a host.
func (r *roster) addFork(name, host string) (fork, error) {
	if !forkName.MatchString(name) || name == managedDatabase {
		return fork{}, fmt.Errorf("cannot name a copy of the database %q: up to 63 small letters, digits and dashes, and not %s", name, managedDatabase)
	}
	taken := map[int]bool{}
	for _, f := range r.Forks {
		if f.Name == name {
			return fork{}, fmt.Errorf("cannot copy the database to %s: there is one, at port %d of %s", name, f.Port, f.Host)
		}
		taken[f.Port] = taken[f.Port] || f.Host == host
	}
	for port := firstForkPort; port < firstForkPort+forkLimit; port++ {
		if !taken[port] {
			f := fork{name, host, port}
			r.Forks = append(r.Forks, f)
			return f, nil
		}
	}
	return fork{}, fmt.Errorf("cannot copy the database to %s: %s has %d copies; destroy one", name, host, forkLimit)
}

// Fork copies the primary as it is now into a cluster of its own on the standby's host,
// with the same roles and passwords, and starts it.
func (m Managed) Fork(ctx context.Context, from, name string) (addr string, port int, err error) {
	if from != managedDatabase {
		return "", 0, fmt.Errorf("the lab has no database %q; it has %s", from, managedDatabase)
	}
	l, err := m.lab.fresh()
	if err != nil {
		return "", 0, err
	}
	host, err := machine(l.Standby())
	if err != nil {
		return "", 0, err
	}
	var f fork
	err = changeRoster(rosterFile, func(r *roster) error {
		f, err = r.addFork(name, host.Name)
		return err
	})
	if err != nil {
		return "", 0, err
	}
	for _, argv := range [][]string{
		{"runuser", "-u", "postgres", "--", "/usr/local/lib/lab/fork-primary", name, strconv.Itoa(f.Port)},
		{"systemctl", "enable", "-q", "--now", forkUnit(name)},
	} {
		if _, err := inside(ctx, host.Name, argv...); err != nil {
			err = fmt.Errorf("cannot copy the database to %s: %w", name, err)
			return "", 0, errors.Join(err, m.Destroy(context.WithoutCancel(ctx), name))
		}
	}
	l.say("cloud: copied the database to %s at %s:%d", name, host.Address, f.Port)
	return host.Address, f.Port, nil
}

func forkUnit(name string) string { return "lab-fork@" + name + ".service" }

// Destroy ends a copy and removes what it holds; one that is not there is destroyed
// already. The lab's own database is never destroyed.
func (m Managed) Destroy(ctx context.Context, name string) error {
	r, err := readRoster(rosterFile)
	if err != nil {
		return err
	}
	if name == managedDatabase {
		return fmt.Errorf("the lab does not destroy %s, on which the site stands", name)
	}
	i := slices.IndexFunc(r.Forks, func(f fork) bool { return f.Name == name })
	if i < 0 {
		return nil
	}
	// With its host its disk is gone too.
	host := r.Forks[i].Host
	if host == redisHost {
		// What is not there any more is stopped.
		if _, err := inside(ctx, host, "sh", "-c", "systemctl stop "+valkeyUnit(name)+" || ! systemctl -q is-active "+valkeyUnit(name)); err != nil {
			return fmt.Errorf("cannot stop %s: %w", name, err)
		}
	} else if r.instance(host) != 0 {
		at := "/var/lib/postgresql/forks/" + name
		for _, argv := range [][]string{{"systemctl", "disable", "-q", "--now", forkUnit(name)}, {"rm", "-rf", at, at + ".env"}} {
			if _, err := inside(ctx, host, argv...); err != nil {
				return fmt.Errorf("cannot destroy the copy %s of the database: %w", name, err)
			}
		}
	}
	return changeRoster(rosterFile, func(r *roster) error {
		r.Forks = slices.DeleteFunc(r.Forks, func(f fork) bool { return f.Name == name })
		return nil
	})
}

var _ cloudtest.Makers = Managed{}

// redisHost holds what the account makes of that kind beside the fleet's own.
const redisHost = "redis"

// Make starts an empty Redis on the Redis host, at a port of its own, without TLS. It keeps
// nothing on disk.
func (m Managed) Make(ctx context.Context, engine, name, password string) (addr string, port int, err error) {
	if engine != "valkey" {
		return "", 0, fmt.Errorf("the lab makes no empty cluster of the engine %q", engine)
	}
	l, err := m.lab.fresh()
	if err != nil {
		return "", 0, err
	}
	var f fork
	err = changeRoster(rosterFile, func(r *roster) error {
		f, err = r.addFork(name, redisHost)
		return err
	})
	if err != nil {
		return "", 0, err
	}
	_, err = inside(ctx, redisHost, "systemd-run", "-q", "--unit", valkeyUnit(name), "--collect", "--property=Restart=always",
		"redis-server", "--bind", "*", "--protected-mode", "no", "--port", strconv.Itoa(f.Port), "--requirepass", password, "--save", "", "--dir", "/var/tmp", "--maxmemory-policy", "noeviction")
	if err != nil {
		err = fmt.Errorf("cannot start %s: %w", name, err)
		return "", 0, errors.Join(err, m.Destroy(context.WithoutCancel(ctx), name))
	}
	l.say("cloud: started the Redis %s at %s:%d", name, RedisAddress, f.Port)
	return RedisAddress, f.Port, nil
}

func valkeyUnit(name string) string { return "lab-valkey-" + name + ".service" }
