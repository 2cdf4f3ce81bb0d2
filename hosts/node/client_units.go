package node

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// UnitState is a unit as systemd sees it.
type UnitState struct {
	Name string `json:"name"`
	// Load is "loaded", or "not-found" for a unit that the host does not have.
	Load string `json:"load"`
	// Active and Sub as systemctl shows them: "active"/"running".
	Active string `json:"active"`
	Sub    string `json:"sub"`
	// Result of the last run: "success", "exit-code", "signal", "timeout", …
	Result string `json:"result"`
	// Restarts is NRestarts: automatic restarts since it was last started by hand.
	Restarts int `json:"restarts"`
	// Pid is MainPID; 0 when it does not run.
	Pid int `json:"pid,omitempty"`
	// ExecStart is the argument list as configured now.
	ExecStart string `json:"exec_start,omitempty"`
	// StopTimeout is TimeoutStopUSec; 0 for infinity.
	StopTimeout time.Duration `json:"stop_timeout"`
	// KillSignal by number, KillMode by name.
	KillSignal int    `json:"kill_signal"`
	KillMode   string `json:"kill_mode"`
	// Since is when it last became active; zero when it never was.
	Since time.Time `json:"since,omitzero"`
	// Dir is the working directory of the main process, Release the release that
	// lies in; both empty when it does not run.
	Dir     string `json:"dir,omitempty"`
	Release string `json:"release,omitempty"`
	// NeedReload: the unit's file changed on disk and daemon-reload was not run.
	NeedReload bool `json:"need_reload,omitempty"`
	// Guarded: systemd asks for this host's permit before it starts the unit.
	Guarded bool `json:"guarded,omitempty"`
}

// Running tells whether the unit is active.
func (u UnitState) Running() bool { return u.Active == "active" }

// UnitOp is what to do with units.
type UnitOp string

// The operations of Units.
const (
	StartUnits   UnitOp = "start"
	StopUnits    UnitOp = "stop"
	RestartUnits UnitOp = "restart"
	KillUnits    UnitOp = "kill" // sends Signal to the main process
	ReloadDaemon UnitOp = "daemon-reload"
	ResetFailed  UnitOp = "reset-failed"
	ShowUnits    UnitOp = "show" // changes nothing
)

// UnitsIn is one operation on units.
type UnitsIn struct {
	Op    UnitOp   `json:"op"`
	Units []string `json:"units"`
	// Signal is for KillUnits: "TSTP".
	Signal string `json:"signal,omitempty"`
	// Timeout is how long to wait for the end of a start or stop; 0 for 2 minutes.
	// After it the call gives ErrTimeout and systemd goes on.
	Timeout time.Duration `json:"timeout,omitempty"`
	// Home as in WantIn, to tell a process's release.
	Home string `json:"home,omitempty"`
}

// UnitsOut is the units' states afterwards, in the order asked for.
type UnitsOut struct {
	Units []UnitState `json:"units"`
}

// Units does one operation on units and waits for its end. Start and stop of a
// unit that is so already are no-ops. A start that failed is an error that names
// the unit and its result; the states come with it. One that systemd did not even try
// since the host has no permit is ErrSealed.
func (a *Agent) Units(ctx context.Context, in UnitsIn, say func(string)) (UnitsOut, error) {
	if in.Op == ShowUnits {
		return call[UnitsOut](ctx, a, "units.show", in, nil, say)
	}
	out, err := call[UnitsOut](ctx, a, "units", in, nil, say)
	if errors.Is(err, ErrSealed) {
		err = fmt.Errorf("%w. Is this the machine that it should be, and no clone? Then: refit seal --host %s", err, a.Host)
	}
	return out, err
}

// JournalIn asks for lines of a unit's journal.
type JournalIn struct {
	Unit string `json:"unit"`
	// Since, when set, is the earliest time.
	Since time.Time `json:"since,omitzero"`
	// Lines is how many of the last ones; 0 for 30, at most 1000.
	Lines int `json:"lines,omitempty"`
	// Priority is the least severe one: 0 for all, 3 for errors and worse.
	Priority int `json:"priority,omitempty"`
}

// JournalOut is the lines, oldest first, each with an ISO time. Nothing in them
// is redacted.
type JournalOut struct {
	Lines []string `json:"lines"`
}

// Journal reads the end of a unit's journal, for error reports.
func (a *Agent) Journal(ctx context.Context, in JournalIn) (JournalOut, error) {
	return call[JournalOut](ctx, a, "journal", in, nil, nil)
}

// JobIn describes a command to run as a transient unit.
type JobIn struct {
	// Unit is its fixed name, with ".service".
	Unit string   `json:"unit"`
	Argv []string `json:"argv"`
	// Env holds KEY=value pairs. They reach the unit through a file that only root
	// can read and that is removed at the end, never through an argument list.
	Env []string `json:"env,omitempty"`
	// Dir is its working directory.
	Dir string `json:"dir,omitempty"`
	// User runs it; empty for root.
	User string `json:"user,omitempty"`
	// NoNetwork gives it a network namespace of its own, with nothing in it.
	NoNetwork bool `json:"no_network,omitempty"`
	// Properties are further unit settings: "MemoryMax=2G".
	Properties []string `json:"properties,omitempty"`
}

// JobState is where a job stands.
type JobState string

// The states of a job.
const (
	// JobNone: never begun, or its record was cleared. Starting it is safe.
	JobNone JobState = "none"
	// JobRunning: its unit is at work.
	JobRunning JobState = "running"
	// JobDone: it ended; Result and Code say how.
	JobDone JobState = "done"
	// JobUnknown: it began and nobody saw its end: the host went down in the
	// middle, or the unit was wiped out. Look at what it did.
	JobUnknown JobState = "unknown"
)

// Job is a job's durable record.
type Job struct {
	Unit  string   `json:"unit"`
	State JobState `json:"state"`
	// Adopted: JobStart found the unit at work already and started nothing.
	Adopted bool `json:"adopted,omitempty"`
	// Argv is what runs, Run and Epoch who started it.
	Argv  []string `json:"argv,omitempty"`
	Run   string   `json:"run,omitempty"`
	Epoch int64    `json:"epoch,omitempty"`
	// Result is systemd's word: "success", "exit-code", "signal", "oom-kill", …
	Result string `json:"result,omitempty"`
	// Code is the exit status of its main process, Signal the signal that killed it.
	Code   int    `json:"code"`
	Signal string `json:"signal,omitempty"`
	// Asked is when it was asked for, Began when it began, Ended when it ended.
	Asked time.Time `json:"asked,omitzero"`
	Began time.Time `json:"began,omitzero"`
	Ended time.Time `json:"ended,omitzero"`
	// Boot is the boot of the host that it began in.
	Boot string `json:"boot,omitempty"`
	// Pid is its main process while it runs.
	Pid int `json:"pid,omitempty"`
	// LogSize is the size of its log, in bytes.
	LogSize int64 `json:"log_size"`
	// Text explains JobUnknown.
	Text string `json:"text,omitempty"`
}

// Succeeded tells whether the job ended well.
func (j Job) Succeeded() bool { return j.State == JobDone && j.Result == "success" && j.Code == 0 }

// JobStart starts a transient unit that outlives the connection and refit. A
// unit of this name at work already is adopted. The record of an earlier job of
// this name is replaced; so look at JobStatus first.
func (a *Agent) JobStart(ctx context.Context, in JobIn) (Job, error) {
	return call[Job](ctx, a, "job.start", in, nil, nil)
}

// UnitIn names a job's unit.
type UnitIn struct {
	Unit string `json:"unit"`
}

// JobStatusIn asks where a job stands.
type JobStatusIn struct {
	Unit string `json:"unit"`
	// Wait is how long the host may wait for the end of a job that is at work before
	// it answers.
	Wait time.Duration `json:"wait,omitempty"`
}

// JobStatus tells where a job stands, from systemd or from its record.
func (a *Agent) JobStatus(ctx context.Context, unit string) (Job, error) {
	return call[Job](ctx, a, "job.status", JobStatusIn{Unit: unit}, nil, nil)
}

// JobAwait is JobStatus once the job has ended, or after that time. To ask a host
// again and again costs its processor more than to let it wait.
func (a *Agent) JobAwait(ctx context.Context, unit string, within time.Duration) (Job, error) {
	return call[Job](ctx, a, "job.status", JobStatusIn{Unit: unit, Wait: within}, nil, nil)
}

// JobLogIn asks for a part of a job's log.
type JobLogIn struct {
	Unit string `json:"unit"`
	// Offset is where to begin; negative for that many bytes before the end.
	Offset int64 `json:"offset"`
	// Max is how many bytes at most; 0 for 256 KiB.
	Max int `json:"max,omitempty"`
}

// JobLogOut is a part of a log.
type JobLogOut struct {
	Data []byte `json:"data"`
	// Next is the offset to go on from.
	Next int64 `json:"next"`
	// Size is the log's size now.
	Size int64 `json:"size"`
}

// JobLog reads a part of what a job wrote, both its streams in one.
func (a *Agent) JobLog(ctx context.Context, in JobLogIn) (JobLogOut, error) {
	return call[JobLogOut](ctx, a, "job.log", in, nil, nil)
}

// JobClear removes the record and log of a job. One at work gives ErrInUse.
func (a *Agent) JobClear(ctx context.Context, unit string) error {
	_, err := call[struct{}](ctx, a, "job.clear", UnitIn{Unit: unit}, nil, nil)
	return err
}
