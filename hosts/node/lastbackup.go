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
	"strconv"
	"strings"
	"time"
)

// AsUser makes a command run as a user of this host, in that user's environment; the
// empty name changes nothing. What the command's environment holds more is added after it.
func AsUser(cmd *exec.Cmd, name string) error { return asUser(cmd, name) }

// LastBackupIn names the command that tells when the last backup was made.
type LastBackupIn struct {
	// Argv is the command, by its absolute path.
	Argv []string `json:"argv"`
	// Within bounds how long it may take.
	Within time.Duration `json:"within_ns"`
}

// LastBackup is what it told.
type LastBackup struct {
	// At is when the last backup was made.
	At time.Time `json:"at"`
	// Clock is the host's.
	Clock time.Time `json:"clock"`
}

// LastBackup runs a command that prints one line: when the last backup was made, in the
// form of RFC 3339 or as seconds since 1970. It runs as the user who logs in there, with
// no more rights than that user has.
func (a *Agent) LastBackup(ctx context.Context, in LastBackupIn) (LastBackup, error) {
	return call[LastBackup](ctx, a, "backup.last", in, nil, nil)
}

// maxLine bounds what the command may print, in bytes.
const maxLine = 4 << 10

func (m Machine) lastBackup(ctx context.Context, in LastBackupIn, _ io.Reader, _ func(string)) (LastBackup, error) {
	var out LastBackup
	if len(in.Argv) == 0 || !filepath.IsAbs(in.Argv[0]) || in.Within <= 0 {
		return out, fmt.Errorf("a command needs an absolute path and a time limit: %q, %s", in.Argv, in.Within)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, in.Within, Failf(CodeTimeout, "%s did not end within %s", in.Argv[0], in.Within))
	defer cancel()
	cmd := exec.CommandContext(ctx, in.Argv[0], in.Argv[1:]...)
	cmd.Dir, cmd.WaitDelay = "/", time.Second
	// sudo(8) sets it, and the caller cannot set it through sudo.
	if err := asUser(cmd, os.Getenv("SUDO_USER")); err != nil {
		return out, err
	}
	stdout, stderr := &first{max: maxLine}, &first{max: maxLine}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return out, context.Cause(ctx)
	case err != nil:
		return out, fmt.Errorf("%s: %w: %s", in.Argv[0], err, lastLine(stderr.String()))
	case stdout.cut:
		return out, fmt.Errorf("%s printed more than %d bytes: one line with a time is wanted", in.Argv[0], maxLine)
	}
	if out.At, err = parseTime(stdout.String()); err != nil {
		return out, fmt.Errorf("%s: %w", in.Argv[0], err)
	}
	out.Clock = time.Now().UTC()
	return out, nil
}

// parseTime reads the one line that the command prints.
func parseTime(text string) (time.Time, error) {
	line := strings.TrimSpace(text)
	if line == "" {
		return time.Time{}, errors.New("it printed nothing: a time is wanted, in the form of RFC 3339 or as seconds since 1970")
	}
	if at, err := time.Parse(time.RFC3339, line); err == nil {
		return at.UTC(), nil
	}
	if n, err := strconv.ParseInt(line, 10, 64); err == nil && n > 0 && n < 1<<34 { // up to the year 2514; milliseconds are more
		return time.Unix(n, 0).UTC(), nil
	}
	return time.Time{}, fmt.Errorf("%.80q is no time: one line is wanted, in the form of RFC 3339 or as seconds since 1970", line)
}

// first keeps the beginning of what is written to it, and lets the writer go on.
type first struct {
	buf bytes.Buffer
	max int
	cut bool
}

func (f *first) Write(b []byte) (int, error) {
	keep := min(len(b), f.max-f.buf.Len())
	f.cut = f.cut || keep < len(b)
	f.buf.Write(b[:keep])
	return len(b), nil
}

func (f *first) String() string { return f.buf.String() }

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
