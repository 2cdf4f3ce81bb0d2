package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Standby is the database host that is not the primary.
func (l *Lab) Standby() string {
	if l.Primary == "paris" {
		return "majel"
	}
	return "paris"
}

// PromoteStandby makes the warm standby the primary, as a managed database does: the
// old primary is stopped if it can be, and the database's address moves. Connections
// to it break. RebuildStandby makes the old primary the new standby.
func (l *Lab) PromoteStandby(ctx context.Context) error {
	from, to := l.Primary, l.Standby()
	if pid, err := leader(from); err == nil && pid != 0 && !isFrozen(from) {
		// A pooler that waits for its clients would hold the failover up.
		if _, err := inside(ctx, from, "systemctl", "kill", "--signal=KILL", "pgbouncer"); err != nil {
			return err
		}
		for _, unit := range []string{"pgbouncer", "postgresql@17-main"} {
			if _, err := inside(ctx, from, "systemctl", "stop", unit); err != nil {
				return err
			}
		}
	}
	if _, err := inside(ctx, to, "pg_ctlcluster", "17", "main", "promote"); err != nil {
		return fmt.Errorf("cannot promote %s: %w", to, err)
	}
	if err := l.awaitRecovery(ctx, to, "f"); err != nil {
		return fmt.Errorf("cannot promote %s: %w", to, err)
	}
	if err := moveAddress(ctx, from, to, DatabaseAddress, DatabaseAddress); err != nil {
		return err
	}
	l.Primary = to
	return l.save()
}

// RebuildStandby copies the primary to the other database host, which must be up,
// and lets it follow.
func (l *Lab) RebuildStandby(ctx context.Context) error {
	host := l.Standby()
	for _, argv := range [][]string{
		{"systemctl", "stop", "postgresql@17-main"},
		{"runuser", "-u", "postgres", "--", "/usr/local/lib/lab/copy-primary"},
		{"systemctl", "reset-failed"},
		{"systemctl", "start", "postgresql@17-main", "pgbouncer"},
	} {
		if _, err := inside(ctx, host, argv...); err != nil {
			return fmt.Errorf("cannot rebuild the standby: %w", err)
		}
	}
	if err := l.awaitRecovery(ctx, host, "t"); err != nil {
		return fmt.Errorf("cannot rebuild the standby: %w", err)
	}
	return nil
}

// awaitRecovery waits until a database says that it is ("t") or is not ("f") in
// recovery.
func (l *Lab) awaitRecovery(ctx context.Context, host, want string) error {
	return await(ctx, time.Minute, func() (bool, error) {
		out, err := inside(ctx, host, "runuser", "-u", "postgres", "--", "psql", "-qXAtc", "SELECT pg_is_in_recovery()")
		return err == nil && strings.TrimSpace(out) == want, nil
	})
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
	all, err := present()
	if err != nil {
		return err
	}
	for _, m := range all {
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
	p, err := l.page(m)
	if err != nil {
		return fmt.Errorf("cannot write the names on %s: %w", m.Name, err)
	}
	b, err := render("hosts", string(text), p)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(Machines(), func(f Machine) bool { return f.Name == m.Name }) {
		b = fmt.Appendf(b, "%s %s\n", m.Address, m.Name)
	}
	if err := os.WriteFile(hostDir(m.Name, "root", "etc/hosts"), b, 0o644); err != nil {
		return fmt.Errorf("cannot write the names on %s: %w", m.Name, err)
	}
	return nil
}
