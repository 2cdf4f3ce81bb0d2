package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The words with which a job's unit calls this program back: "refit node job.end
// UNIT", before its command and after.
const (
	jobBeginWord = "job.begin"
	jobEndWord   = "job.end"
)

func (m Machine) jobDir(unit string, elem ...string) string {
	return m.state(append([]string{"jobs", unit}, elem...)...)
}

// jobRecord is a job's status.json. JobNone in it means asked for, not begun.
type jobRecord struct {
	Job
	Format int `json:"format"`
}

func (m Machine) readJob(unit string) (Job, error) {
	var r jobRecord
	err := readJSON(m.jobDir(unit, "status.json"), &r)
	if errors.Is(err, fs.ErrNotExist) {
		return Job{Unit: unit, State: JobNone}, nil
	}
	if err == nil && r.Format != 1 {
		err = fmt.Errorf("the record of job %s has format %d: this refit knows format 1", unit, r.Format)
	}
	return r.Job, err
}

func (m Machine) writeJob(j Job) error {
	b, err := json.Marshal(jobRecord{Job: j, Format: 1})
	if err != nil {
		return err
	}
	return writeFile(m.jobDir(j.Unit, "status.json"), append(b, '\n'), 0o600)
}

func (m Machine) jobStart(ctx context.Context, in JobIn, _ io.Reader, _ func(string)) (Job, error) {
	if err := checkUnits(in.Unit); err != nil {
		return Job{}, err
	}
	if !strings.HasSuffix(in.Unit, ".service") || len(in.Argv) == 0 {
		return Job{}, fmt.Errorf("a job needs a unit's name that ends with .service, and a command: %q, %q", in.Unit, in.Argv)
	}
	lock, err := flock(ctx, m.state("jobs", in.Unit+".lock"), syscall.LOCK_EX, fenceWait)
	if err != nil {
		return Job{}, err
	}
	defer lock.Close()
	now, err := m.settledJob(ctx, in.Unit)
	if err != nil {
		return Job{}, err
	}
	if now.State == JobRunning {
		now.Adopted = true
		return now, nil
	}
	args, err := m.prepareJob(ctx, in)
	if err != nil {
		return Job{}, fmt.Errorf("cannot start job %s: %w", in.Unit, err)
	}
	// A failed unit stays loaded until it is reset; one that systemd does not know
	// makes this fail, which is as good.
	m.exec(ctx, "systemctl", "reset-failed", in.Unit) //nolint:errcheck // see above
	if _, err := m.exec(ctx, args...); err != nil {
		return Job{}, errors.Join(fmt.Errorf("cannot start job %s: %w", in.Unit, err), removeIfThere(m.jobDir(in.Unit, "env")))
	}
	return m.lookJob(ctx, in.Unit)
}

// prepareJob writes what a job needs and its record, durably, before it is
// started, and returns the command that starts it.
func (m Machine) prepareJob(ctx context.Context, in JobIn) ([]string, error) {
	agent, err := m.keptAgent()
	if err != nil {
		return nil, err
	}
	dir := m.jobDir(in.Unit)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	env, err := envFile(in.Env)
	if err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(dir, "env"), env, 0o600); err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(dir, "log"), nil, 0o600); err != nil {
		return nil, err
	}
	req := RequestOf(ctx)
	job := Job{Unit: in.Unit, State: JobNone, Argv: in.Argv, Run: req.Run, Epoch: req.Epoch, Asked: time.Now().UTC(), Boot: m.boot()}
	if err := m.writeJob(job); err != nil {
		return nil, err
	}
	// "+" runs the two callbacks as root and outside of the unit's sandbox.
	props := []string{
		"Type=exec",
		"EnvironmentFile=" + filepath.Join(dir, "env"),
		"StandardOutput=append:" + filepath.Join(dir, "log"),
		"StandardError=append:" + filepath.Join(dir, "log"),
		"ExecStartPre=+" + strings.Join([]string{agent, "node", jobBeginWord, in.Unit}, " "),
		"ExecStopPost=+" + strings.Join([]string{agent, "node", jobEndWord, in.Unit}, " "),
		// A job is never ended by a timer: half a migration is worse than a slow one.
		"RuntimeMaxSec=infinity",
		"TimeoutStartSec=infinity",
	}
	if in.Dir != "" {
		props = append(props, "WorkingDirectory="+in.Dir)
	}
	if in.User != "" {
		props = append(props, "User="+in.User)
	}
	if in.NoNetwork {
		props = append(props, "PrivateNetwork=yes")
	}
	args := []string{"systemd-run", "--quiet", "--no-ask-password", "--unit=" + in.Unit, "--description=refit job " + in.Unit}
	for _, p := range append(props, in.Properties...) {
		args = append(args, "--property="+p)
	}
	return append(append(args, "--"), escapeArgv(in.Argv)...), nil
}

// escapeArgv keeps systemd-run from expanding $NAME and %x in the words.
func escapeArgv(argv []string) []string {
	out := make([]string, len(argv))
	for i, a := range argv {
		out[i] = strings.ReplaceAll(a, "$", "$$")
	}
	return out
}

// envFile writes KEY=value pairs as systemd.exec(5) reads an EnvironmentFile.
func envFile(env []string) ([]byte, error) {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", `$`, `\$`)
	var b strings.Builder
	for i, kv := range env {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" || strings.ContainsAny(k, " \t\n\"'\\#;") || strings.ContainsRune(v, 0) {
			// The value may be a secret, so the error holds neither it nor the name.
			return nil, fmt.Errorf("environment pair %d is not KEY=value", i+1)
		}
		b.WriteString(k + `="` + escape.Replace(v) + "\"\n")
	}
	return []byte(b.String()), nil
}

// jobBegan is called by the job's unit before its command.
func (m Machine) jobBegan(unit string, now time.Time) error {
	if err := checkUnits(unit); err != nil {
		return err
	}
	j, err := m.readJob(unit)
	if err != nil {
		return err
	}
	j.State, j.Began, j.Boot = JobRunning, now.UTC(), m.boot()
	return m.writeJob(j)
}

// jobEnded is called by the job's unit after its command, with the variables that
// systemd.exec(5) gives to ExecStopPost.
func (m Machine) jobEnded(unit string, env func(string) string, now time.Time) error {
	if err := checkUnits(unit); err != nil {
		return err
	}
	j, err := m.readJob(unit)
	if err != nil {
		return err
	}
	j.State, j.Ended, j.Result = JobDone, now.UTC(), env("SERVICE_RESULT")
	j.Code, j.Signal = 0, ""
	switch status := env("EXIT_STATUS"); env("EXIT_CODE") {
	case "exited":
		if j.Code, err = strconv.Atoi(status); err != nil {
			j.Code = -1
		}
	case "":
		// It ended before its command began: systemd could not execute it.
		j.Code = -1
	default: // killed, dumped
		j.Code, j.Signal = -1, status
		// systemd counts TERM as a good end; a host that shuts down sends it.
		if j.Result == "success" {
			j.Result = "signal"
		}
	}
	if j.Result == "" {
		j.Result = "unknown"
	}
	return errors.Join(m.writeJob(j), removeIfThere(m.jobDir(unit, "env")))
}

func (m Machine) jobStatus(ctx context.Context, in JobStatusIn, _ io.Reader, _ func(string)) (Job, error) {
	if err := checkUnits(in.Unit); err != nil {
		return Job{}, err
	}
	ends := time.Now().Add(in.Wait)
	for {
		j, err := m.lookJob(ctx, in.Unit)
		left := time.Until(ends)
		if err != nil || j.State != JobRunning || left <= 0 {
			return j, err
		}
		// A job that is killed hard leaves no record of its end: systemd is asked
		// again now and then.
		if err := m.awaitRecord(ctx, in.Unit, min(left, 2*time.Second)); err != nil {
			return j, err
		}
	}
}

// awaitRecord waits, at most so long, for the record of a job's end.
func (m Machine) awaitRecord(ctx context.Context, unit string, within time.Duration) error {
	over := time.NewTimer(within)
	defer over.Stop()
	t := time.NewTicker(2 * lockPoll)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-over.C:
			return nil
		case <-t.C:
		}
		if j, err := m.readJob(unit); err != nil || j.State == JobDone {
			return err
		}
	}
}

// settledJob is lookJob for one who wants to start a job of this name: a unit
// whose end is on record already may take a moment to be gone.
func (m Machine) settledJob(ctx context.Context, unit string) (Job, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fenceWait, Failf(CodeTimeout, "the last job %s has ended, but its unit is still there after %s", unit, fenceWait))
	defer cancel()
	t := time.NewTicker(2 * lockPoll)
	defer t.Stop()
	for {
		states, err := m.show(ctx, "", []string{unit})
		if err != nil {
			return Job{}, err
		}
		j, err := m.lookJob(ctx, unit)
		if err != nil || j.State != JobDone || !atWork(states[0]) {
			return j, err
		}
		select {
		case <-ctx.Done():
			return Job{}, context.Cause(ctx)
		case <-t.C:
		}
	}
}

// atWork tells whether a unit's processes may be running.
func atWork(s UnitState) bool {
	return s.Active == "active" || s.Active == "activating" || s.Active == "deactivating" || s.Active == "reloading"
}

// lookJob joins what systemd knows with what is on record. systemd is asked
// first: a job that ends between the two looks has its end on record by then.
func (m Machine) lookJob(ctx context.Context, unit string) (Job, error) {
	states, err := m.show(ctx, "", []string{unit})
	if err != nil {
		return Job{}, err
	}
	j, err := m.readJob(unit)
	if err != nil {
		return Job{}, err
	}
	if fi, err := os.Stat(m.jobDir(unit, "log")); err == nil {
		j.LogSize = fi.Size()
	}
	switch s := states[0]; {
	case j.State == JobDone:
	case atWork(s):
		j.State, j.Pid = JobRunning, s.Pid
	case j.State == JobRunning && j.Boot != m.boot():
		j.State, j.Text = JobUnknown, "the host was restarted while it ran"
	case j.State == JobRunning:
		j.State, j.Text = JobUnknown, "its unit is gone and left no result"
	}
	return j, nil
}

func (m Machine) jobLog(_ context.Context, in JobLogIn, _ io.Reader, _ func(string)) (JobLogOut, error) {
	if err := checkUnits(in.Unit); err != nil {
		return JobLogOut{}, err
	}
	f, err := os.Open(m.jobDir(in.Unit, "log"))
	if errors.Is(err, fs.ErrNotExist) {
		return JobLogOut{}, Failf(CodeNotFound, "job %s has no log on this host", in.Unit)
	}
	if err != nil {
		return JobLogOut{}, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return JobLogOut{}, err
	}
	if in.Max <= 0 {
		in.Max = 256 << 10
	}
	if in.Offset < 0 {
		in.Offset = max(0, fi.Size()+in.Offset)
	}
	b := make([]byte, max(0, min(int64(in.Max), 4<<20, fi.Size()-in.Offset)))
	n, err := f.ReadAt(b, in.Offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return JobLogOut{}, err
	}
	return JobLogOut{Data: b[:n], Next: in.Offset + int64(n), Size: fi.Size()}, nil
}

func (m Machine) jobClear(ctx context.Context, in UnitIn, _ io.Reader, _ func(string)) (struct{}, error) {
	if err := checkUnits(in.Unit); err != nil {
		return struct{}{}, err
	}
	lock, err := flock(ctx, m.state("jobs", in.Unit+".lock"), syscall.LOCK_EX, fenceWait)
	if err != nil {
		return struct{}{}, err
	}
	defer lock.Close()
	return struct{}{}, m.clearJob(ctx, in.Unit)
}

func (m Machine) clearJob(ctx context.Context, unit string) error {
	j, err := m.lookJob(ctx, unit)
	if err != nil {
		return err
	}
	if j.State == JobRunning {
		return Failf(CodeInUse, "job %s is at work", unit)
	}
	m.exec(ctx, "systemctl", "reset-failed", unit) //nolint:errcheck // fails for a unit that systemd has forgotten, which is the aim
	return os.RemoveAll(m.jobDir(unit))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
