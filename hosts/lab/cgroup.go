package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const cgroupRoot = "/sys/fs/cgroup"

// hierarchies are the cgroup trees in which a host needs a group of its own: one
// on a unified machine; on a hybrid one all of them but v1's cpuset, which takes
// no process before its cpus and mems are set. A host without its own group would
// share one with others, and a freeze would hit them too.
func hierarchies() ([]string, error) {
	if _, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers")); err == nil {
		return []string{cgroupRoot}, nil
	}
	all, err := filepath.Glob(filepath.Join(cgroupRoot, "*", "cgroup.procs"))
	if err != nil {
		return nil, fmt.Errorf("cannot list cgroup hierarchies: %w", err)
	}
	var out []string
	for _, p := range all {
		if d := filepath.Dir(p); filepath.Base(d) != "cpuset" {
			out = append(out, d)
		}
	}
	return out, nil
}

// unified is the version 2 hierarchy: it freezes and kills a whole group at once.
func unified() (string, error) {
	for _, d := range []string{cgroupRoot, filepath.Join(cgroupRoot, "unified")} {
		if _, err := os.Stat(filepath.Join(d, "cgroup.controllers")); err == nil {
			return d, nil
		}
	}
	return "", errors.New("this machine has no cgroup v2 hierarchy; boot it with systemd.unified_cgroup_hierarchy=1, or mount cgroup2 at /sys/fs/cgroup/unified")
}

// makeGroups makes the group of a host in every hierarchy and gives their paths.
func makeGroups(name string) ([]string, error) {
	hs, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, h := range hs {
		d := filepath.Join(h, cgroup, name)
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("cannot make the cgroup of %s: %w", name, err)
		}
		out = append(out, d)
	}
	return out, nil
}

// killGroup kills every process of a group (a host's name, or "" for the whole
// lab), also frozen ones, and waits until none is left.
func killGroup(ctx context.Context, name string) error {
	u, err := unified()
	if err != nil {
		return err
	}
	d := filepath.Join(u, cgroup, name)
	if _, err := os.Stat(d); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := os.WriteFile(filepath.Join(d, "cgroup.kill"), []byte("1"), 0); err != nil {
		return fmt.Errorf("cannot kill the processes of %s: %w", d, err)
	}
	err = await(ctx, 20*time.Second, func() (bool, error) {
		b, err := os.ReadFile(filepath.Join(d, "cgroup.events"))
		if errors.Is(err, os.ErrNotExist) {
			return true, nil
		}
		return strings.Contains(string(b), "populated 0"), err
	})
	if err != nil {
		return fmt.Errorf("processes of %s do not end: %w", d, err)
	}
	return nil
}

// removeGroups removes the groups below name in every hierarchy, leaves first.
func removeGroups(ctx context.Context, name string) error {
	hs, err := hierarchies()
	if err != nil {
		return err
	}
	var errs []error
	for _, h := range hs {
		errs = append(errs, removeTree(ctx, filepath.Join(h, cgroup, name)))
	}
	return errors.Join(errs...)
}

func removeTree(ctx context.Context, d string) error {
	entries, err := os.ReadDir(d)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read cgroup %s: %w", d, err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(ctx, filepath.Join(d, e.Name())); err != nil {
				return err
			}
		}
	}
	// A group of a dying process stays busy for a moment.
	err = await(ctx, 5*time.Second, func() (bool, error) {
		err := os.Remove(d)
		return err == nil || errors.Is(err, os.ErrNotExist), nil
	})
	if err != nil {
		return fmt.Errorf("cannot remove cgroup %s: %w", d, err)
	}
	return nil
}

// setFrozen freezes or thaws a host. The kernel goes on answering TCP for it.
func setFrozen(ctx context.Context, host string, frozen bool) error {
	u, err := unified()
	if err != nil {
		return err
	}
	d := filepath.Join(u, cgroup, host)
	want, mark := "0", "frozen 0"
	if frozen {
		want, mark = "1", "frozen 1"
	}
	if err := os.WriteFile(filepath.Join(d, "cgroup.freeze"), []byte(want), 0); err != nil {
		return fmt.Errorf("cannot freeze or thaw %s: %w", host, err)
	}
	// A snapshot counts how long its host stands still.
	return awaitEvery(ctx, 20*time.Second, 2*time.Millisecond, func() (bool, error) {
		b, err := os.ReadFile(filepath.Join(d, "cgroup.events"))
		return strings.Contains(string(b), mark), err
	})
}

// isFrozen tells whether a host is frozen now.
func isFrozen(host string) bool {
	u, err := unified()
	if err != nil {
		return false
	}
	b, err := os.ReadFile(filepath.Join(u, cgroup, host, "cgroup.events"))
	return err == nil && strings.Contains(string(b), "frozen 1")
}

// await asks cond every 50 ms until it holds, fails, or the limit passes.
func await(ctx context.Context, limit time.Duration, cond func() (bool, error)) error {
	return awaitEvery(ctx, limit, 50*time.Millisecond, cond)
}

func awaitEvery(ctx context.Context, limit, every time.Duration, cond func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		ok, err := cond()
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %s: %w", limit, ctx.Err())
		case <-tick.C:
		}
	}
}
