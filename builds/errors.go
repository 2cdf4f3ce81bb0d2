package builds

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// BuildError is a step of the build that failed.
type BuildError struct {
	// Host is the builder's name.
	Host string
	// Step is the step's name, Command what it ran.
	Step    string
	Command []string
	// Result is systemd's word, "exit-code", "signal", "oom-kill"; Code the exit status.
	Result string
	Code   int
	// Lines are the lines of its log that matter.
	Lines []string
	// Log is where on the host the whole log lies.
	Log string
	// Silent: it fetched, said nothing for so long, and was stopped for that.
	Silent time.Duration
}

func (e *BuildError) Error() string {
	how := fmt.Sprintf("exit status %d", e.Code)
	switch e.Result {
	case "oom-kill":
		how = "it was killed for want of memory"
	case "signal":
		how = "it was killed by a signal"
	}
	if e.Silent > 0 {
		how = fmt.Sprintf("it said nothing for %s and was stopped: what it fetches from does not answer", e.Silent)
	}
	text := fmt.Sprintf("cannot build on %s: %q failed: %s", e.Host, strings.Join(e.Command, " "), how)
	if len(e.Lines) > 0 {
		text += "\n    " + strings.Join(e.Lines, "\n    ")
	}
	return text + "\n    the whole log: " + e.Log
}

var (
	ansi = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]")
	// yarnCode is the head of yarn's lines. Yarn does not mark errors but by code.
	yarnCode = regexp.MustCompile(`^➤ (YN\d{4}): [│└·┌ ]*`)
	// failures begin what matters in the output of Bundler, Ruby, Rails, Vite, node-gyp and git.
	failures = regexp.MustCompile(`(?i)^\s*(?:` + strings.Join([]string{
		`(?:rails|rake) aborted!`,
		`could not (?:find|reach|connect|fetch)`, `bundler could not`, `bundler found`, `your bundle is`, `the dependencies in your gemfile`,
		`your ruby version is`, `the lockfile`, `an error occurred while`, `gem::\S+(?:error|exception)`, `bundler::\S+`,
		`installing \S+ .* with native extensions.*error`, `checksum`, `error:`, `error \S`, `fatal:`,
		`\S*(?:error|exception)\b[:( ]`, `error during build`, `✗ `, `x build failed`, `build with vite failed`, `\[vite`,
		`.*: no space left on device`, `.*permission denied`, `killed\b`, `npm err`, `internal error`, `usage error`,
		`node: .*`, `/bin/sh: .*`, `.*: command not found`, `.*\b(?:loaderror|nameerror|nomethoderror|syntaxerror|runtimeerror)\b`,
		`.*javascript heap out of memory`, `make.*\*\*\*`,
	}, "|") + `)`)
	// trace is a backtrace's line: of Ruby, of JavaScript, or the rest of one of
	// Ruby's that Bundler broke over two lines.
	trace = regexp.MustCompile(`^\s*(?:from )?(?:/\S+|\S+\.rb):\d+:in(?: |$)|^\s+at |^\s*<internal:|^\s*[\x60'(<][^\x60]*'$`)
)

// harmless are the codes of yarn's that do not fail an install.
var harmless = map[string]bool{
	"YN0000": true, "YN0002": true, "YN0005": true, "YN0007": true, "YN0008": true, "YN0013": true, "YN0019": true,
	"YN0032": true, "YN0060": true, "YN0061": true, "YN0065": true, "YN0068": true, "YN0069": true, "YN0070": true, "YN0076": true,
	"YN0085": true, "YN0086": true, "YN0087": true, "YN0088": true, "YN0089": true,
}

// ErrorLines picks the lines that matter out of a failed step's log, at most
// limit: each failure that it knows with what follows it, backtraces shortened
// to their first line; without any, the last lines.
func ErrorLines(log string, limit int) []string {
	var lines []string
	for line := range strings.Lines(log) {
		line = ansi.ReplaceAllString(strings.TrimRight(line, "\r\n"), "")
		if i := strings.LastIndexByte(line, '\r'); i >= 0 { // a progress bar over itself
			line = line[i+1:]
		}
		if strings.TrimSpace(line) != "" {
			lines = append(lines, strings.TrimRight(line, " \t"))
		}
	}
	lines = shorten(lines)
	var out []string
	seen := map[string]bool{}
	add := func(line string) {
		if !seen[line] {
			seen[line], out = true, append(out, line)
		}
	}
	for i := 0; i < len(lines); i++ {
		if m := yarnCode.FindStringSubmatch(lines[i]); m != nil {
			if !harmless[m[1]] {
				add(m[1] + ": " + strings.TrimPrefix(lines[i], m[0]))
			}
			continue
		}
		if !failures.MatchString(lines[i]) {
			continue
		}
		add(lines[i])
		for j := i + 1; j < len(lines) && j <= i+4; j++ { // its own explanation
			if yarnCode.MatchString(lines[j]) {
				break
			}
			add(lines[j])
			i = j
		}
	}
	if len(out) == 0 {
		out = lines[max(0, len(lines)-limit):]
	}
	if len(out) > limit {
		// The first names the cause, the last what became of it.
		half := limit / 2
		out = append(append(append([]string(nil), out[:limit-half-1]...), fmt.Sprintf("… %d lines …", len(out)-limit+1)), out[len(out)-half:]...)
	}
	return out
}

// shorten leaves the first line of each backtrace.
func shorten(lines []string) []string {
	var out []string
	in := false
	for _, line := range lines {
		was := in
		in = trace.MatchString(line)
		if !was || !in {
			out = append(out, line)
		}
	}
	return out
}
