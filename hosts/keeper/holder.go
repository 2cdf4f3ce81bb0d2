package keeper

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// Me describes this process as a holder. command is what the person typed,
// without secrets.
func Me(command string) (Holder, error) {
	host, err := os.Hostname()
	if err != nil {
		return Holder{}, fmt.Errorf("cannot tell this machine's name: %w", err)
	}
	h := Holder{Host: host, PID: os.Getpid(), Command: command, Machine: machine(), Token: rand.Text()}
	h.Started, _, err = stat(h.PID)
	if err != nil {
		h.Started = "" // everywhere but on Linux
	}
	if u, err := user.Current(); err == nil {
		h.User = u.Username
	} else {
		h.User = strconv.Itoa(os.Getuid())
	}
	return h, nil
}

// machine tells this boot of this machine, and its process IDs, from any other:
// the kernel's random ID of the boot and the namespace of process IDs, which
// containers on one kernel do not share. Empty if one cannot be read, which is so
// everywhere but on Linux.
func machine() string {
	boot, err1 := os.ReadFile("/proc/sys/kernel/random/boot_id")
	pids, err2 := os.Readlink("/proc/self/ns/pid")
	if errors.Join(err1, err2) != nil {
		return ""
	}
	return string(bytes.TrimSpace(boot)) + " " + pids
}

// stat reads when a process began and its state ("R", "T" for frozen, "Z" for one
// that has ended but was not yet reaped): fields 3 and 22 of proc_pid_stat(5); the
// second field, the name, may hold spaces and brackets.
func stat(pid int) (start, state string, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", "", err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 {
		return "", "", fmt.Errorf("cannot read the state of process %d: %q", pid, b)
	}
	return fields[19], fields[0], nil
}

// dead tells that the holder's process is proven to be no more: it was one of
// this very machine, and there is none of its number and start. A process that is
// frozen is not dead.
func (h Holder) dead(me Holder) bool {
	if h.Machine == "" || h.Machine != me.Machine || h.PID <= 0 || h.Token == me.Token {
		return false
	}
	if err := syscall.Kill(h.PID, 0); errors.Is(err, syscall.ESRCH) {
		return true
	}
	start, state, err := stat(h.PID)
	return err == nil && (state == "Z" || state == "X" || h.Started != "" && start != h.Started)
}
