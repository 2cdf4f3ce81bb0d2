package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func (h Holder) String() string {
	s := fmt.Sprintf("%s of epoch %d (pid %d, run %s, since %s)", h.Verb, h.Epoch, h.Pid, h.Run, h.Since.UTC().Format(time.TimeOnly))
	if h.State == "T" || h.State == "t" {
		s += ", which is frozen"
	}
	return s
}

// holderRecord is a Holder as it is stored. Start is the process's start time in
// clock ticks since boot and Boot that boot: a pid alone is soon another's.
type holderRecord struct {
	Holder
	Start uint64 `json:"start"`
	Boot  string `json:"boot"`
}

// recordHolder puts a verb at work on record and returns what takes it off.
func (m Machine) recordHolder(h Holder) (forget func(), err error) {
	p, err := m.process(h.Pid)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(holderRecord{Holder: h, Start: p.start, Boot: m.boot()})
	if err != nil {
		return nil, err
	}
	dir := m.holdersDir()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot go on record: %w", err)
	}
	f, err := os.CreateTemp(dir, tempPrefix+strconv.Itoa(h.Pid)+"-*")
	if err != nil {
		return nil, fmt.Errorf("cannot go on record: %w", err)
	}
	_, err = f.Write(b)
	name := filepath.Join(dir, strings.TrimPrefix(filepath.Base(f.Name()), tempPrefix)+".json")
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot go on record: %w", err), os.Remove(f.Name()))
	}
	return func() {
		// A record that stays is recognised by its dead process and swept.
		os.Remove(name) //nolint:errcheck // see above
	}, nil
}

// holders returns the verbs on record whose process lives.
func (m Machine) holders() ([]Holder, error) {
	live, _, err := m.holderFiles()
	return live, err
}

// holderFiles returns the verbs on record, and the files of those whose process
// is gone.
func (m Machine) holderFiles() (live []Holder, dead []string, err error) {
	files, err := filepath.Glob(filepath.Join(m.holdersDir(), "*.json"))
	if err != nil {
		return nil, nil, err
	}
	boot := m.boot()
	for _, file := range files {
		var r holderRecord
		if err := readJSON(file, &r); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return nil, nil, err
		}
		p, err := m.process(r.Pid)
		if err != nil || r.Boot != boot || p.start != r.Start || p.state == "Z" {
			dead = append(dead, file)
			continue
		}
		r.State, r.Holder.start = p.state, r.Start
		live = append(live, r.Holder)
	}
	return live, dead, nil
}

// end kills a verb's process with its group and all that descends from it: a
// systemctl that it had started must not do later what the fence forbids. The
// process is known by its start time, so no other is ever hit.
func (m Machine) end(h Holder) error {
	if h.Pid == os.Getpid() || h.Pid <= 1 {
		return errors.New("it is this process")
	}
	p, err := m.process(h.Pid)
	if err != nil || p.start != h.start {
		return nil // gone meanwhile
	}
	// All are stopped before the first is killed: a child must not go on because its
	// parent died, and none may start another between the look and the kill.
	doomed := make(map[int]bool)
	for found := []int{h.Pid}; len(found) > 0; {
		for _, pid := range found {
			doomed[pid] = true
			if err := signalIfThere(pid, syscall.SIGSTOP); err != nil {
				return err
			}
		}
		all, err := m.processes()
		if err != nil {
			return err
		}
		found = nil
		for _, q := range all {
			if !doomed[q.pid] && q.pid != os.Getpid() && (doomed[q.parent] || q.group == h.Pid) {
				found = append(found, q.pid)
			}
		}
	}
	for pid := range doomed {
		if err := signalIfThere(pid, syscall.SIGKILL); err != nil {
			return err
		}
	}
	// sudo stops itself with its command. Woken, it sees that the command is dead and
	// ends too; only then does the caller hear of it.
	if parent, err := m.process(p.parent); err == nil && parent.state == "T" {
		return signalIfThere(p.parent, syscall.SIGCONT)
	}
	return nil
}

func signalIfThere(pid int, signal syscall.Signal) error {
	if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// process is a line of the kernel's table of processes.
type process struct {
	pid, parent, group int
	state              string
	start              uint64 // clock ticks after boot
}

// process reads /proc/PID/stat (proc_pid_stat(5)): the fields after the command's
// name, which is in parentheses and may hold anything.
func (m Machine) process(pid int) (process, error) {
	b, err := os.ReadFile(m.proc(strconv.Itoa(pid), "stat"))
	if err != nil {
		return process{}, err
	}
	i := strings.LastIndexByte(string(b), ')')
	f := strings.Fields(string(b[i+1:]))
	if i < 0 || len(f) < 20 {
		return process{}, fmt.Errorf("cannot read the state of process %d: %q", pid, b)
	}
	p := process{pid: pid, state: f[0]}
	var errs [3]error
	p.parent, errs[0] = strconv.Atoi(f[1])
	p.group, errs[1] = strconv.Atoi(f[2])
	p.start, errs[2] = strconv.ParseUint(f[19], 10, 64)
	return p, errors.Join(errs[:]...)
}

// processes lists all processes; those that end meanwhile are left out.
func (m Machine) processes() ([]process, error) {
	dirs, err := os.ReadDir(m.proc())
	if err != nil {
		return nil, err
	}
	var all []process
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		if p, err := m.process(pid); err == nil {
			all = append(all, p)
		}
	}
	return all, nil
}

// boot is the ID of the host's boot. In a container it is the machine's below, so
// the start time of the first process stands beside it.
func (m Machine) boot() string {
	b, err := os.ReadFile(m.proc("sys/kernel/random/boot_id"))
	if err != nil {
		return ""
	}
	id := strings.TrimSpace(string(b))
	if p, err := m.process(1); err == nil {
		id += "." + strconv.FormatUint(p.start, 10)
	}
	return id
}
