package mastodon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// jobThreads counts the threads of Sidekiq processes that take jobs or work on one,
// by the names that Sidekiq gives them: "processor" before 7, "sidekiq.CAPSULE/processor"
// since (Sidekiq::Processor#start, Sidekiq::Component#safe_thread). The kernel keeps
// 15 bytes of a name, see proc_pid_comm(5). A process that is gone has Ended.
func jobThreads(proc string, pids []int) (map[int]int, error) {
	all := make(map[int]int, len(pids))
	for _, pid := range pids {
		tasks, err := os.ReadDir(filepath.Join(proc, strconv.Itoa(pid), "task"))
		if gone(err) {
			all[pid] = Ended
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot list the threads of process %d: %w", pid, err)
		}
		n := 0
		for _, t := range tasks {
			name, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "task", t.Name(), "comm"))
			if gone(err) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("cannot read the name of a thread of process %d: %w", pid, err)
			}
			if takesJobs(strings.TrimSuffix(string(name), "\n")) {
				n++
			}
		}
		all[pid] = n
	}
	return all, nil
}

func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) }

// takesJobs tells whether a thread of that name takes jobs. The other two that
// Sidekiq names are the one that beats and the one that enqueues what is due.
func takesJobs(name string) bool {
	if name == "processor" {
		return true
	}
	return strings.HasPrefix(name, "sidekiq.") && name != "sidekiq.heartbe" && name != "sidekiq.schedul"
}
