package node

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"time"
)

// StateDir is where refit keeps what it knows on a host.
const StateDir = "/var/lib/refit"

// RuntimeDir is where refit notes who is at work on a host. It is in memory: a verb
// must be able to go on record, and put something back, on a host whose disk is full.
const RuntimeDir = "/run/refit"

// HomeDir is where a host's releases are unless a request says otherwise.
const HomeDir = "/home/mastodon"

// Machine is the host that verbs work on, seen from inside. The zero value is the
// machine itself; tests set its fields.
type Machine struct {
	// State is the directory of the fence and of job records; empty for StateDir. One
	// that is set has RuntimeDir's files in run/ below it, toolchains in toolchains/, and
	// in root/ what else is the machine's: its firmware, its credentials, its unit files.
	State string
	// Proc is where the kernel's view of processes is; empty for /proc.
	Proc string
	// Exec runs a command of systemd's (systemctl, systemd-run, journalctl) and
	// returns its output; nil runs it.
	Exec func(ctx context.Context, argv ...string) ([]byte, error)
	// Agent is the path of this program, for units to call back; empty to ask the
	// system.
	Agent string
	// Beat is the time between signs of life; 0 for 2 seconds.
	Beat time.Duration
	// System is the operating system's release, "debian 13"; empty to ask it.
	System string
}

// Serve answers one call of a verb on this machine: args are the words after
// "refit node", the request and payload come from stdin, the replies go to
// stdout. The error it returns was told to the caller already, so far as one
// listens; the program should end with a status other than 0 on it.
func Serve(ctx context.Context, verbs []Verb, args []string, stdin io.Reader, stdout io.Writer) error {
	return Machine{}.Serve(ctx, verbs, args, stdin, stdout)
}

// Verbs are the verbs of this package, for this machine.
func Verbs() []Verb { return Machine{}.Verbs() }

func (m Machine) state(elem ...string) string {
	dir := m.State
	if dir == "" {
		dir = StateDir
	}
	return filepath.Join(append([]string{dir}, elem...)...)
}

// root is a path of the machine's that is not refit's own, without the leading slash.
func (m Machine) root(elem ...string) string {
	if m.State != "" {
		return m.state(append([]string{"root"}, elem...)...)
	}
	return filepath.Join(append([]string{"/"}, elem...)...)
}

func (m Machine) holdersDir() string {
	if m.State != "" {
		return m.state("run", "holders")
	}
	return filepath.Join(RuntimeDir, "holders")
}

func (m Machine) proc(elem ...string) string {
	dir := m.Proc
	if dir == "" {
		dir = "/proc"
	}
	return filepath.Join(append([]string{dir}, elem...)...)
}

func (m Machine) agent() (string, error) {
	if m.Agent != "" {
		return m.Agent, nil
	}
	return os.Executable()
}

// home is the directory that a request means.
func home(dir string) string {
	if dir == "" {
		return HomeDir
	}
	return filepath.Clean(dir)
}

func releasesDir(h string) string         { return filepath.Join(home(h), "releases") }
func releaseDir(h, release string) string { return filepath.Join(releasesDir(h), release) }
