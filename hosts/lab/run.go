package lab

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// run runs a program of the machine and gives its standard output. A failure
// carries the end of what it wrote on standard error.
func run(ctx context.Context, argv ...string) (string, error) {
	return runIn(ctx, "", nil, argv...)
}

// runIn is run in a directory and with more environment.
func runIn(ctx context.Context, dir string, env []string, argv ...string) (string, error) {
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Dir = dir
	if env != nil {
		c.Env = append(c.Environ(), env...)
	}
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w%s", strings.Join(argv[:min(len(argv), 6)], " "), err, tail(errs.String()))
	}
	return out.String(), nil
}

// tail gives the last lines of a program's complaint as a suffix for an error.
func tail(s string) string {
	s = strings.TrimSpace(s)
	if s == "" {
		return ""
	}
	lines := strings.Split(s, "\n")
	return ": " + strings.Join(lines[max(0, len(lines)-8):], "; ")
}
