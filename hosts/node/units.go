package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"vmst.io/refit/hosts"
)

var unitName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9@._:\\-]*$`)

// checkUnits refuses what cannot be a unit's name, above all an option.
func checkUnits(units ...string) error {
	for _, u := range units {
		if !unitName.MatchString(u) {
			return fmt.Errorf("%q is not the name of a unit", u)
		}
	}
	return nil
}

// exec runs a command of systemd's.
func (m Machine) exec(ctx context.Context, argv ...string) ([]byte, error) {
	if m.Exec != nil {
		return m.Exec(ctx, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = append(os.Environ(), "LC_ALL=C", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=")
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = &hosts.ExitError{Command: strings.Join(argv[:min(2, len(argv))], " "), Code: exit.ExitCode(), Stderr: tail(errs.String(), 4<<10)}
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return out.Bytes(), err
}

func tail(s string, n int) string {
	s = strings.TrimSpace(s)
	return s[max(0, len(s)-n):]
}

func (m Machine) unitsShow(ctx context.Context, in UnitsIn, _ io.Reader, _ func(string)) (UnitsOut, error) {
	states, err := m.show(ctx, in.Home, in.Units)
	return UnitsOut{Units: states}, err
}

func (m Machine) units(ctx context.Context, in UnitsIn, _ io.Reader, _ func(string)) (UnitsOut, error) {
	if err := checkUnits(in.Units...); err != nil {
		return UnitsOut{}, err
	}
	if in.Timeout == 0 {
		in.Timeout = 2 * time.Minute
	}
	var argv []string
	switch in.Op {
	case StartUnits, StopUnits, RestartUnits, ResetFailed:
		argv = append([]string{"systemctl", "--no-ask-password", string(in.Op), "--"}, in.Units...)
	case KillUnits:
		argv = append([]string{"systemctl", "--no-ask-password", "kill", "--kill-whom=main", "--signal=" + in.Signal, "--"}, in.Units...)
		if in.Signal == "" {
			return UnitsOut{}, errors.New("units: kill needs a signal")
		}
	case ReloadDaemon:
		argv = []string{"systemctl", "--no-ask-password", "daemon-reload"}
	default:
		return UnitsOut{}, fmt.Errorf("units: no operation %q", in.Op)
	}
	if len(in.Units) == 0 && in.Op != ReloadDaemon {
		return UnitsOut{}, fmt.Errorf("units: %s needs the names of units", in.Op)
	}
	limited, cancel := context.WithTimeoutCause(ctx, in.Timeout, ErrTimeout)
	defer cancel()
	if in.Op == StartUnits || in.Op == RestartUnits {
		if err := m.forgetFailures(limited, in); err != nil {
			return UnitsOut{}, err
		}
	}
	_, opErr := m.exec(limited, argv...)
	states, err := m.show(ctx, in.Home, in.Units)
	if worn := startLimited(states); err == nil && opErr != nil && len(worn) > 0 && (in.Op == StartUnits || in.Op == RestartUnits) {
		if _, err := m.exec(limited, append([]string{"systemctl", "--no-ask-password", string(ResetFailed), "--"}, worn...)...); err != nil {
			return UnitsOut{Units: states}, errors.Join(opErr, err)
		}
		_, opErr = m.exec(limited, argv...)
		states, err = m.show(ctx, in.Home, in.Units)
	}
	if err != nil {
		return UnitsOut{}, errors.Join(opErr, err)
	}
	out := UnitsOut{Units: states}
	switch {
	case opErr == nil && (in.Op == StartUnits || in.Op == RestartUnits):
		return out, m.skipped(states)
	case opErr == nil:
		return out, nil
	case errors.Is(opErr, ErrTimeout):
		return out, Failf(CodeTimeout, "%s not done after %s and going on: %s", in.Op, in.Timeout, describe(states))
	}
	for _, s := range states {
		if s.Load == "not-found" {
			return out, Failf(CodeNotFound, "cannot %s: this host has no unit %s", in.Op, s.Name)
		}
	}
	return out, fmt.Errorf("cannot %s: %w (%s)", in.Op, opErr, describe(states))
}

// forgetFailures lets units that failed be started with a clean count. A unit that
// died often and is then refused for its start limit keeps the result of its death:
// only before the start can it be told from one that fails anew.
func (m Machine) forgetFailures(ctx context.Context, in UnitsIn) error {
	states, err := m.show(ctx, in.Home, in.Units)
	if err != nil {
		return err
	}
	var failed []string
	for _, s := range states {
		if s.Load == "loaded" && s.Result != "" && s.Result != "success" {
			failed = append(failed, s.Name)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	if _, err := m.exec(ctx, append([]string{"systemctl", "--no-ask-password", string(ResetFailed), "--"}, failed...)...); err != nil {
		return fmt.Errorf("cannot forget that %s failed: %w", strings.Join(failed, ", "), err)
	}
	return nil
}

// startLimited are the units that systemd does not start any more because they were
// started too often within seconds (systemd.unit(5), StartLimitBurst). That guards
// against a unit's own restarts: a release that dies at once must not keep the one
// before it from being started in its place.
func startLimited(states []UnitState) []string {
	var worn []string
	for _, s := range states {
		if s.Result == "start-limit-hit" {
			worn = append(worn, s.Name)
		}
	}
	return worn
}

func describe(states []UnitState) string {
	var all []string
	for _, s := range states {
		text := fmt.Sprintf("%s is %s/%s", s.Name, s.Active, s.Sub)
		if s.Result != "" && s.Result != "success" {
			text += " with result " + s.Result
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

var unitProperties = strings.Join([]string{
	"Id", "Names", "LoadState", "ActiveState", "SubState", "Result", "NRestarts", "MainPID", "ExecStart", "TimeoutStopUSec",
	"KillSignal", "KillMode", "ActiveEnterTimestamp", "NeedDaemonReload", "ExecCondition", "SuccessExitStatus",
}, ",")

// show asks systemd for the states of units, in the order asked for.
func (m Machine) show(ctx context.Context, homeDir string, units []string) ([]UnitState, error) {
	if len(units) == 0 {
		return nil, nil
	}
	if err := checkUnits(units...); err != nil {
		return nil, err
	}
	b, err := m.exec(ctx, append([]string{"systemctl", "show", "--timestamp=unix", "--property=" + unitProperties, "--"}, units...)...)
	if err != nil {
		return nil, fmt.Errorf("cannot ask systemd: %w", err)
	}
	blocks := strings.Split(strings.TrimSpace(string(b)), "\n\n")
	if len(blocks) != len(units) {
		return nil, fmt.Errorf("cannot ask systemd: %d answers for %d units", len(blocks), len(units))
	}
	states := make([]UnitState, len(units))
	for i, block := range blocks {
		if states[i], err = parseUnit(block); err != nil {
			return nil, fmt.Errorf("cannot read the state of %s: %w", units[i], err)
		}
		states[i].Name = units[i]
		if states[i].Pid > 0 {
			// The process may end at any time; then it has no directory, which is the truth.
			if dir, err := os.Readlink(m.proc(strconv.Itoa(states[i].Pid), "cwd")); err == nil {
				states[i].Dir, states[i].Release = dir, releaseOf(homeDir, dir)
			}
		}
	}
	return states, nil
}

// parseUnit reads one unit's block of "systemctl show".
func parseUnit(block string) (UnitState, error) {
	var s UnitState
	var errs []error
	opened := false
	number := func(v string) int {
		if v == "" || v == "[not set]" {
			return 0
		}
		n, err := strconv.Atoi(v)
		errs = append(errs, err)
		return n
	}
	for line := range strings.Lines(block) {
		k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		switch k {
		case "LoadState":
			s.Load = v
		case "ActiveState":
			s.Active = v
		case "SubState":
			s.Sub = v
		case "Result":
			s.Result = v
		case "NRestarts":
			s.Restarts = number(v)
		case "MainPID":
			s.Pid = number(v)
		case "KillSignal":
			s.KillSignal = number(v)
		case "KillMode":
			s.KillMode = v
		case "NeedDaemonReload":
			s.NeedReload = v == "yes"
		case "ExecCondition":
			s.Guarded = s.Guarded || guards(v)
		case "SuccessExitStatus":
			opened = opensSeal(v)
		case "ExecStart":
			// { path=/usr/bin/node ; argv[]=/usr/bin/node ./streaming ; ignore_errors=no ; … }
			if _, rest, ok := strings.Cut(v, "argv[]="); ok {
				s.ExecStart, _, _ = strings.Cut(rest, " ; ")
			}
		case "TimeoutStopUSec":
			d, err := parseSpan(v)
			errs = append(errs, err)
			s.StopTimeout = d
		case "ActiveEnterTimestamp":
			if sec, ok := strings.CutPrefix(v, "@"); ok {
				n, err := strconv.ParseInt(sec, 10, 64)
				errs = append(errs, err)
				if n > 0 {
					s.Since = time.Unix(n, 0).UTC()
				}
			}
		}
	}
	s.Guarded = s.Guarded && !opened
	return s, errors.Join(errs...)
}

// parseSpan reads a time span as systemd prints it, "1min 30s"; infinity is 0.
func parseSpan(s string) (time.Duration, error) {
	if s == "infinity" || s == "" {
		return 0, nil
	}
	units := map[string]time.Duration{
		"us": time.Microsecond, "ms": time.Millisecond, "s": time.Second, "min": time.Minute, "h": time.Hour,
		"d": 24 * time.Hour, "day": 24 * time.Hour, "w": 7 * 24 * time.Hour, "month": 2629800 * time.Second, "y": 31557600 * time.Second,
	}
	var sum time.Duration
	for _, word := range strings.Fields(s) {
		i := strings.IndexFunc(word, func(r rune) bool { return r < '0' || r > '9' })
		if i <= 0 {
			return 0, fmt.Errorf("%q is not a time span", s)
		}
		n, err := strconv.ParseInt(word[:i], 10, 64)
		unit, ok := units[strings.TrimSuffix(word[i:], "s")]
		if word[i:] == "s" || word[i:] == "us" || word[i:] == "ms" {
			unit, ok = units[word[i:]]
		}
		if err != nil || !ok {
			return 0, fmt.Errorf("%q is not a time span", s)
		}
		sum += time.Duration(n) * unit
	}
	return sum, nil
}

// releaseOf is the name of the release that a directory lies in.
func releaseOf(homeDir, dir string) string {
	rest, ok := strings.CutPrefix(dir, releasesDir(homeDir)+"/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	name = strings.TrimSuffix(name, " (deleted)")
	return filepath.Base(name)
}

func (m Machine) journal(ctx context.Context, in JournalIn, _ io.Reader, _ func(string)) (JournalOut, error) {
	if err := checkUnits(in.Unit); err != nil {
		return JournalOut{}, err
	}
	if in.Lines <= 0 {
		in.Lines = 30
	}
	argv := []string{"journalctl", "--no-pager", "--quiet", "--output=short-iso", "--unit=" + in.Unit, "--lines=" + strconv.Itoa(min(in.Lines, 1000))}
	if !in.Since.IsZero() {
		argv = append(argv, "--since=@"+strconv.FormatInt(in.Since.Unix(), 10))
	}
	if in.Priority > 0 {
		argv = append(argv, "--priority="+strconv.Itoa(in.Priority))
	}
	b, err := m.exec(ctx, argv...)
	if err != nil {
		return JournalOut{}, fmt.Errorf("cannot read the journal of %s: %w", in.Unit, err)
	}
	out := JournalOut{Lines: []string{}}
	for line := range strings.Lines(string(b)) {
		out.Lines = append(out.Lines, strings.TrimRight(line, "\n"))
	}
	return out, nil
}
