package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// proc is where the kernel shows processes: /proc.
type proc string

func (p proc) file(pid int, name string) string {
	return filepath.Join(string(p), strconv.Itoa(pid), name)
}

// field reads "NAME: N kB" of a process in bytes; 0 where it is not told, as of a
// process that has just ended.
func (p proc) field(pid int, file, name string) int64 {
	b, err := os.ReadFile(p.file(pid, file))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}

// used is a process' own share of memory: what it shares with others is divided
// among them, so that a tool's forks are not counted whole each.
func (p proc) used(pid int) int64 {
	if pss := p.field(pid, "smaps_rollup", "Pss"); pss > 0 {
		return pss
	}
	return p.field(pid, "status", "VmRSS")
}

// children are the processes that one has started and that have not ended.
func (p proc) children(pid int) []int {
	lists, err := filepath.Glob(filepath.Join(string(p), strconv.Itoa(pid), "task", "*", "children"))
	if err != nil {
		return nil
	}
	var out []int
	for _, l := range lists {
		b, err := os.ReadFile(l)
		if err != nil {
			continue // it has just ended
		}
		for _, word := range strings.Fields(string(b)) {
			if kid, err := strconv.Atoi(word); err == nil {
				out = append(out, kid)
			}
		}
	}
	return out
}

// below are all processes below one, itself left out.
func (p proc) below(pid int) []int {
	var out []int
	for _, kid := range p.children(pid) {
		out = append(append(out, kid), p.below(kid)...)
	}
	return out
}

// name is the kernel's name of a process, cut after fifteen letters.
func (p proc) name(pid int) string {
	b, err := os.ReadFile(p.file(pid, "comm"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// program is the file that a process runs, without its folder.
func (p proc) program(pid int) string {
	exe, err := os.Readlink(p.file(pid, "exe"))
	if err != nil {
		return ""
	}
	return filepath.Base(exe)
}

// forRoll are the processes that run on a host for a roll: all that came in through
// its sshd, and agents of refit that systemd started. The application's own programs
// are not among them: migrations take the same memory whoever starts them.
func (p proc) forRoll(leader int) []int {
	var all []int
	for _, kid := range p.children(leader) {
		switch name := p.name(kid); {
		case name == "sshd":
			all = append(all, p.below(kid)...)
		case strings.HasPrefix(name, "refit-"):
			all = append(append(all, kid), p.below(kid)...)
		}
	}
	return slices.DeleteFunc(all, func(pid int) bool {
		program := p.program(pid)
		return strings.HasPrefix(program, "ruby") || strings.HasPrefix(program, "node")
	})
}

// peak is the most memory that some processes took together.
type peak struct {
	// sum is the largest sum of shares seen at one time; one the most that a single
	// process ever had, which a look in between may have missed.
	sum, one int64
	// at is what ran at the time of sum, for the log.
	at []string
}

func (k *peak) look(p proc, pids []int) {
	var sum int64
	var at []string
	for _, pid := range pids {
		used := p.used(pid)
		sum += used
		k.one = max(k.one, p.field(pid, "status", "VmHWM"))
		at = append(at, fmt.Sprintf("%s %.1f MB", p.name(pid), float64(used)/1e6))
	}
	if sum > k.sum {
		k.sum, k.at = sum, at
	}
}

func (k *peak) bytes() int64 { return max(k.sum, k.one) }

// every is how often memory is looked at.
const every = 200 * time.Millisecond

// memory looks at the controller and at the hosts until it is stopped.
type memory struct {
	controller *peak
	hosts      map[string]*peak
	stop       context.CancelFunc
	done       sync.WaitGroup
	err        error
}

// watchMemory begins to look. processes are the controller's, leaders the hosts' PID 1
// by the hosts' names.
func watchMemory(ctx context.Context, p proc, processes func() ([]int, error), leaders map[string]int) *memory {
	ctx, stop := context.WithCancel(ctx)
	m := &memory{controller: &peak{}, hosts: map[string]*peak{}, stop: stop}
	for host := range leaders {
		m.hosts[host] = &peak{}
	}
	m.done.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			pids, err := processes()
			m.err = errors.Join(m.err, err)
			m.controller.look(p, pids)
			for host, leader := range leaders {
				m.hosts[host].look(p, p.forRoll(leader))
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if m.err != nil {
				return
			}
		}
	})
	return m
}

// end stops looking.
func (m *memory) end() error {
	m.stop()
	m.done.Wait()
	return m.err
}
