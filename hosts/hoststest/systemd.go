package hoststest

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"vmst.io/refit/hosts"
)

// Unit is a unit of a Systemd.
type Unit struct {
	// Active and Sub as systemctl shows them; empty for inactive/dead.
	Active, Sub string
	Result      string
	Pid         int
	Restarts    int
	ExecStart   string
	// Worn: it was started too often, and is started again only after reset-failed.
	Worn bool
	// StopTimeout as systemctl shows it; empty for "1min 30s".
	StopTimeout string
	// SuccessExitStatus as systemctl shows it.
	SuccessExitStatus string
}

// Systemd answers systemctl, systemd-run and journalctl from memory; its Exec is
// for a node.Machine. It starts no process.
type Systemd struct {
	// Units are those it knows, by name. Hold Lock to touch them while verbs run.
	Units map[string]*Unit
	// Journal are lines by unit.
	Journal map[string][]string
	// OnStart, when set, is called under the lock before a unit becomes active; its
	// error is the start's.
	OnStart func(name string, u *Unit) error
	// Dir is where drop-ins lie, of which it knows ExecCondition; they are read at each
	// daemon-reload. Empty for none.
	Dir string
	// Condition runs an ExecCondition, without its "+", and gives its exit status.
	Condition func(argv []string) int

	conditions map[string]string // the lines read, by file
	mu         sync.Mutex
	calls      [][]string
}

// Lock keeps verbs from it until the returned function is called.
func (s *Systemd) Lock() (unlock func()) {
	s.mu.Lock()
	return s.mu.Unlock
}

// Calls are the commands it was given, in order, without the questions.
func (s *Systemd) Calls() [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([][]string(nil), s.calls...)
}

// Exec answers one command.
func (s *Systemd) Exec(ctx context.Context, argv ...string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Units == nil {
		s.Units = make(map[string]*Unit)
	}
	var words []string
	options := make(map[string]string)
	for i, a := range argv[1:] {
		if a == "--" {
			words = append(words, argv[i+2:]...)
			break
		}
		if k, v, ok := strings.Cut(strings.TrimPrefix(a, "--"), "="); strings.HasPrefix(a, "--") && (ok || k != "") {
			options[k] = v
			continue
		}
		words = append(words, a)
	}
	switch {
	case argv[0] == "systemctl" && len(words) > 0 && words[0] == "show":
		var blocks []string
		for _, name := range words[1:] {
			blocks = append(blocks, s.show(name))
		}
		return []byte(strings.Join(blocks, "\n")), nil
	case argv[0] == "journalctl":
		return []byte(strings.Join(append(s.Journal[options["unit"]], ""), "\n")), nil
	}
	if len(argv) == 3 && argv[1] == "node" && s.Condition != nil {
		if code := s.Condition(argv); code != 0 {
			return nil, &hosts.ExitError{Command: argv[0], Code: code}
		}
		return nil, nil
	}
	s.calls = append(s.calls, argv)
	switch {
	case argv[0] == "systemctl" && len(words) == 1 && words[0] == "daemon-reload":
		return nil, s.reload()
	case argv[0] == "systemctl" && len(words) > 0:
		return nil, s.systemctl(words[0], words[1:])
	case argv[0] == "systemd-run":
		return nil, s.run(options["unit"], strings.Join(words, " "))
	}
	return nil, &hosts.ExitError{Command: argv[0], Code: 1, Stderr: "the test's systemd does not know it"}
}

func (s *Systemd) show(name string) string {
	u, load := s.Units[name], "loaded"
	if u == nil {
		u, load = &Unit{}, "not-found"
	}
	or := func(v, or string) string {
		if v == "" {
			return or
		}
		return v
	}
	exec := ""
	if u.ExecStart != "" {
		path, _, _ := strings.Cut(u.ExecStart, " ")
		exec = fmt.Sprintf("{ path=%s ; argv[]=%s ; ignore_errors=no ; start_time=[n/a] ; status=0/0 }", path, u.ExecStart)
	}
	return fmt.Sprintf("Id=%s\nLoadState=%s\nActiveState=%s\nSubState=%s\nResult=%s\nNRestarts=%d\nMainPID=%d\nExecStart=%s\nTimeoutStopUSec=%s\nKillSignal=15\nKillMode=control-group\nActiveEnterTimestamp=@1700000000\nNeedDaemonReload=no\nSuccessExitStatus=%s\n%s",
		name, load, or(u.Active, "inactive"), or(u.Sub, "dead"), or(u.Result, "success"), u.Restarts, u.Pid, exec, or(u.StopTimeout, "1min 30s"), u.SuccessExitStatus, s.shownCondition(name))
}

func (s *Systemd) shownCondition(name string) string {
	line := s.condition(name)
	if line == "" {
		return ""
	}
	line = strings.TrimPrefix(line, "+")
	program, _, _ := strings.Cut(line, " ")
	return fmt.Sprintf("ExecCondition={ path=%s ; argv[]=%s ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }\n", program, line)
}

// reload reads the drop-ins of all folders.
func (s *Systemd) reload() error {
	files, err := filepath.Glob(filepath.Join(s.Dir, "*.d", "*.conf"))
	if s.Dir == "" || err != nil {
		return err
	}
	s.conditions = map[string]string{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "ExecCondition="); ok {
				s.conditions[file] = v
			}
		}
	}
	return nil
}

// condition is what a unit asks before it starts, as systemd.unit(5) puts drop-ins together:
// from the folders of the unit, of its template, and of both names cut after each dash, the first
// file of each name; later names come after earlier ones, and an empty value takes back.
func (s *Systemd) condition(unit string) string {
	var dirs []string
	for _, name := range []string{unit, template(unit)} {
		dirs = append(dirs, name+".d")
		base := strings.TrimSuffix(name, ".service")
		for i := len(base) - 1; i > 0; i-- {
			if base[i] == '-' && i < len(base)-1 {
				dirs = append(dirs, base[:i+1]+".service.d")
			}
		}
	}
	first := map[string]string{}
	for _, dir := range dirs {
		for file, line := range s.conditions {
			if _, had := first[filepath.Base(file)]; !had && filepath.Base(filepath.Dir(file)) == dir {
				first[filepath.Base(file)] = line
			}
		}
	}
	line := ""
	for _, name := range slices.Sorted(maps.Keys(first)) {
		line = first[name]
	}
	return line
}

// template is the name of the template that a unit is an instance of, else its own.
func template(unit string) string {
	if i := strings.Index(unit, "@"); i > 0 {
		return unit[:i+1] + ".service"
	}
	return unit
}

func (s *Systemd) systemctl(op string, names []string) error {
	for _, name := range names {
		u := s.Units[name]
		if u == nil {
			return &hosts.ExitError{Command: "systemctl " + op, Code: 5, Stderr: "Unit " + name + " not loaded."}
		}
		switch op {
		case "start", "restart":
			if u.Worn {
				// systemd keeps the result of a failure before it.
				if u.Active, u.Sub = "failed", "failed"; u.Result == "" || u.Result == "success" {
					u.Result = "start-limit-hit"
				}
				return &hosts.ExitError{Command: "systemctl " + op, Code: 1, Stderr: "start of the service was attempted too often"}
			}
			if line := s.condition(name); line != "" {
				if code := s.Condition(strings.Fields(strings.TrimPrefix(line, "+"))); code != 0 {
					// Skipped: no failure, and systemctl says nothing.
					u.Active, u.Sub, u.Result, u.Pid = "inactive", "dead", "exec-condition", 0
					continue
				}
			}
			if s.OnStart != nil {
				if err := s.OnStart(name, u); err != nil {
					u.Active, u.Sub, u.Result = "failed", "failed", "exit-code"
					return &hosts.ExitError{Command: "systemctl " + op, Code: 1, Stderr: err.Error()}
				}
			}
			u.Active, u.Sub, u.Result = "active", "running", "success"
		case "reset-failed":
			u.Worn, u.Active, u.Sub, u.Result = false, "inactive", "dead", "success"
		case "stop":
			u.Active, u.Sub, u.Pid = "inactive", "dead", 0
		}
	}
	return nil
}

func (s *Systemd) run(name, exec string) error {
	if u := s.Units[name]; u != nil && u.Active != "" && u.Active != "inactive" {
		return &hosts.ExitError{Command: "systemd-run", Code: 1, Stderr: "Failed to start transient service unit: Unit " + name + " was already loaded or has a fragment file."}
	}
	s.Units[name] = &Unit{Active: "active", Sub: "running", ExecStart: exec}
	return nil
}
