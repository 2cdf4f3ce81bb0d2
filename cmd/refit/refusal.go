package main

import (
	"errors"
	"io"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
)

// refusalJSON is what a command prints with --json when it ends before it had
// anything else to print, so that a program that asked for JSON always gets it.
type refusalJSON struct {
	Schema  string   `json:"schema"` // "refit.refusal/v1"
	Command string   `json:"command"`
	Exit    int      `json:"exit"`
	Refused []string `json:"refused"`
}

// refused is everything that stands against a plan.
type refused []string

func (r refused) Error() string {
	return "refused, nothing was touched:\n  - " + strings.Join(r, "\n  - ")
}

// counted counts what is written, to tell whether a command has printed its data.
// A reader that has gone has had what it wanted: what it does not read is no failure
// of the command, which ends with its own exit code.
type counted struct {
	io.Writer
	n int64
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		n, err = len(b), nil
	}
	c.n += int64(n)
	return n, err
}

// refusing wraps a part of a command so that with --json its refusal is JSON on
// standard output as well as text on standard error.
func (s streams) refusing(do func(*cli.Context) error) func(*cli.Context) error {
	return func(c *cli.Context) error {
		err := do(c)
		out, ok := s.out.(*counted)
		if err == nil || !ok || out.n > 0 || !c.Bool("json") {
			return err
		}
		r := refusalJSON{Schema: "refit.refusal/v1", Command: c.Command.Name, Exit: exitCode(err), Refused: []string{err.Error()}}
		if list, ok := errors.AsType[refused](err); ok {
			r.Refused = list
		}
		return errors.Join(err, printJSON(s.out, r))
	}
}
