package lab

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// watchesLimit is how many inotify instances one user may have. All hosts share
// root's; each takes about eight, and systemd fails units when none is left. The
// kernel's default is 128.
const (
	watchesLimit = "/proc/sys/fs/inotify/max_user_instances"
	wantWatches  = 1024
)

// watchesBefore is where the machine's own limit is kept until Down puts it back.
const watchesBefore = runDir + "/inotify"

func raiseWatches() error {
	b, err := os.ReadFile(watchesLimit)
	if err != nil {
		return fmt.Errorf("cannot read the limit of inotify instances: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return fmt.Errorf("cannot read the limit of inotify instances: %w", err)
	}
	if n >= wantWatches {
		return nil
	}
	// First what was, then what is: a crash between the two leaves nothing raised.
	if err := os.WriteFile(watchesBefore, b, 0o600); err != nil {
		return fmt.Errorf("cannot keep the limit of inotify instances: %w", err)
	}
	if err := os.WriteFile(watchesLimit, []byte(strconv.Itoa(wantWatches)), 0); err != nil {
		return fmt.Errorf("cannot raise the limit of inotify instances: %w", err)
	}
	return nil
}

// restoreWatches puts the machine's own limit back.
func restoreWatches() error {
	b, err := os.ReadFile(watchesBefore)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the former limit of inotify instances: %w", err)
	}
	if err := os.WriteFile(watchesLimit, b, 0); err != nil {
		return fmt.Errorf("cannot put back the limit of inotify instances: %w", err)
	}
	return nil
}
