package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Down ends the lab and takes away all that it made on the machine but the cache
// and the lab's own directory. It needs no state file and no living supervisor,
// and may be called again.
func Down(ctx context.Context, say Say) error {
	if say == nil {
		say = func(string, ...any) {}
	}
	if os.Geteuid() != 0 {
		return errors.New("the lab needs root; run it with sudo")
	}
	locks := nspawnLocks()
	// In this order: what runs, what it has mounted, what it stood in.
	if err := killGroup(ctx, ""); err != nil {
		return err
	}
	if err := killStrays(ctx); err != nil {
		return err
	}
	return errors.Join(
		unmountAll(ctx),
		networkDown(ctx),
		removeGroups(ctx, ""),
		restoreWatches(),
		removeRun(locks),
	)
}

// nspawnLocks are the files by which nspawn knows that a root is in use: killed, it
// leaves them. They are named by device and inode of the root.
func nspawnLocks() []string {
	var out []string
	for _, name := range remains(hostDir("")) {
		out = append(out, nspawnLock(name)...)
	}
	return out
}

// nspawnLock is the file of one host, while its root is mounted.
func nspawnLock(name string) []string {
	var st unix.Stat_t
	if err := unix.Stat(hostDir(name, "root"), &st); err != nil {
		return nil
	}
	return []string{fmt.Sprintf("/run/systemd/nspawn/locks/inode-%d:%d", st.Dev, st.Ino)}
}

// nspawnTraces are what nspawn keeps of one host beside its lock.
func nspawnTraces(name string) []string {
	var out []string
	for _, kind := range []string{"propagate", "unix-export"} {
		out = append(out, filepath.Join("/run/systemd/nspawn", kind, name))
	}
	return out
}

// killStrays ends programs that were started in the lab's network from outside
// ("lab exec"): they would keep the namespace alive without a name.
func killStrays(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(netnsDir, netns)); err != nil {
		return nil
	}
	out, err := run(ctx, "ip", "netns", "pids", netns)
	if err != nil {
		return fmt.Errorf("cannot find programs in the lab's network: %w", err)
	}
	for _, f := range strings.Fields(out) {
		pid, err := strconv.Atoi(f)
		if err != nil || pid == os.Getpid() {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("cannot end process %d in the lab's network: %w", pid, err)
		}
	}
	return nil
}

// mounts lists the mounts at or below dir, the last made first.
func mounts(dir string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cannot list mounts: %w", err)
	}
	defer f.Close()
	var out []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) > 4 && (words[4] == dir || strings.HasPrefix(words[4], dir+"/")) {
			out = append([]string{words[4]}, out...)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("cannot list mounts: %w", err)
	}
	return out, nil
}

// labMounts are the mounts below runDir and those that newer nspawns make for each
// host beside it.
func labMounts() ([]string, error) {
	out, err := mounts(runDir)
	for _, name := range remains(hostDir("")) {
		if err != nil {
			return nil, err
		}
		var more []string
		more, err = mounts(filepath.Join("/run/systemd/nspawn/unix-export", name))
		out = append(out, more...)
	}
	return out, err
}

func unmountAll(ctx context.Context) error {
	for range 10 {
		ms, err := labMounts()
		if err != nil || len(ms) == 0 {
			return err
		}
		for _, m := range ms {
			if err := unix.Unmount(m, 0); err != nil {
				if err := unix.Unmount(m, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
					return fmt.Errorf("cannot unmount %s: %w", m, err)
				}
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return fmt.Errorf("mounts below %s come back as fast as they are unmounted", runDir)
}

// removeRun removes the folder of the running lab. It refuses while anything is
// mounted below it, since it would empty what is mounted.
func removeRun(locks []string) error {
	ms, err := labMounts()
	if err != nil {
		return err
	}
	if len(ms) > 0 {
		return fmt.Errorf("cannot remove %s: still mounted: %s", runDir, strings.Join(ms, " "))
	}
	for _, name := range remains(hostDir("")) {
		locks = append(locks, nspawnTraces(name)...)
	}
	if err := os.RemoveAll(runDir); err != nil {
		return fmt.Errorf("cannot remove %s: %w", runDir, err)
	}
	for _, p := range locks {
		if err := os.RemoveAll(p); err != nil {
			return fmt.Errorf("cannot remove %s: %w", p, err)
		}
	}
	return nil
}
