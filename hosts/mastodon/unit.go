package mastodon

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"vmst.io/refit/hosts/node"
)

// ProcessRole is which of Mastodon's programs a unit runs.
type ProcessRole string

// The programs.
const (
	WebProcess       ProcessRole = "web"
	StreamingProcess ProcessRole = "streaming"
	SidekiqProcess   ProcessRole = "sidekiq"
)

// StopLimit is the TimeoutStopSec that refit's drop-in sets. Upstream's units kill
// after 15 s, which is less than Sidekiq's own 25 s and Puma's 30 s.
const StopLimit = 90 * time.Second

// sidekiqTimeout is what Sidekiq gives jobs to finish after TERM, if its command
// line has no -t (sidekiq/config.rb).
const sidekiqTimeout = 25 * time.Second

// stopMargin is what a unit must leave Sidekiq beyond that, to push jobs back.
const stopMargin = 5 * time.Second

// DropIn is the text of the drop-in that a unit needs to be kept by refit: its
// program is reached through the live release, so that one switch moves code and
// runtimes; a stop may take as long as a graceful one does; and the sandbox lets
// every release write below its own directory. args follow the program: for
// Sidekiq "-c", "25", "-q", "default"; nil for upstream's own.
func DropIn(l Layout, role ProcessRole, args ...string) string {
	l = l.filled()
	var argv []string
	switch role {
	case StreamingProcess:
		argv = []string{l.LiveTool("node"), "./streaming"}
	case SidekiqProcess:
		if args == nil {
			args = []string{"-c", "25"}
		}
		argv = append([]string{l.LiveTool("bundle"), "exec", "sidekiq"}, args...)
	default:
		argv = []string{l.LiveTool("bundle"), "exec", "puma", "-C", "config/puma.rb"}
	}
	return fmt.Sprintf(`# Written for refit: the program comes with the live release.
[Service]
ExecStart=
ExecStart=%s
TimeoutStopSec=%d
ReadWritePaths=%s -%s
`, strings.Join(argv, " "), int(StopLimit.Seconds()), l.Releases, l.Shared)
}

// CheckUnit tells what keeps refit from switching a unit: it is not there, its
// program is not reached through the live release, or it would kill Sidekiq while
// that still gives jobs back. The error names the unit and the remedy.
func CheckUnit(l Layout, role ProcessRole, u node.UnitState) error {
	l = l.filled()
	if u.Load != "" && u.Load != "loaded" {
		return fmt.Errorf("%s is %s; install upstream's unit file from the release's dist/ and refit's drop-in", u.Name, u.Load)
	}
	if u.NeedReload {
		return fmt.Errorf("%s has changed on disk since systemd read it; run \"systemctl daemon-reload\"", u.Name)
	}
	argv := strings.Fields(u.ExecStart)
	bin := path.Dir(l.LiveTool("bundle")) + "/"
	if len(argv) == 0 || !strings.HasPrefix(argv[0], bin) {
		program := "nothing"
		if len(argv) > 0 {
			program = argv[0]
		}
		return fmt.Errorf("%s starts %s, not a program below %s, so a switch would not move its runtime; install refit's drop-in for it", u.Name, program, bin)
	}
	if role != SidekiqProcess {
		return nil
	}
	need := SidekiqTimeout(argv) + stopMargin
	if u.StopTimeout != 0 && u.StopTimeout < need {
		return fmt.Errorf("%s is killed %s after its stop, which loses jobs: Sidekiq needs up to %s; set TimeoutStopSec=%d in its drop-in",
			u.Name, u.StopTimeout, need, int(StopLimit.Seconds()))
	}
	return nil
}

// SidekiqTimeout is how long a Sidekiq of that command line gives jobs to finish.
func SidekiqTimeout(argv []string) time.Duration {
	if v, ok := option(argv, "-t", "--timeout"); ok {
		if n, err := strconv.Atoi(v); err == nil {
			return time.Duration(n) * time.Second
		}
	}
	return sidekiqTimeout
}

// SidekiqQueues are the queues on a Sidekiq command line, without weights, sorted;
// nil means those of the release's config/sidekiq.yml.
func SidekiqQueues(argv []string) []string {
	var out []string
	for i := 0; i < len(argv); i++ {
		if v, ok := option(argv[i:min(i+2, len(argv))], "-q", "--queue"); ok {
			name, _, _ := strings.Cut(v, ",")
			out = append(out, name)
			if argv[i] == "-q" || argv[i] == "--queue" {
				i++
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// option finds an option's value: "-t 30", "-t30", "--timeout 30", "--timeout=30".
func option(argv []string, short, long string) (string, bool) {
	for i, a := range argv {
		switch {
		case a == short || a == long:
			if i+1 < len(argv) {
				return argv[i+1], true
			}
		case strings.HasPrefix(a, long+"="):
			return a[len(long)+1:], true
		case strings.HasPrefix(a, short) && !strings.HasPrefix(a, "--"):
			return a[len(short):], true
		}
	}
	return "", false
}
