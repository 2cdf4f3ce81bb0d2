package main

import (
	"errors"
	"fmt"
	"strings"
)

// The exit codes. Scripts and the workflow read them; a code never changes its meaning.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitAuth        = 4
	exitLocked      = 5
	exitUndone      = 6
	exitPerson      = 7
	exitInterrupted = 130
)

// exitTable is what --help shows.
var exitTable = []struct {
	code    int
	meaning string
}{
	{exitDone, "done, or nothing to do"},
	{exitFailed, "failed; no node was switched and the schema is untouched"},
	{exitUsage, "usage or configuration"},
	{exitRefused, "refused: a gate, a policy or a missing approval; nothing was touched"},
	{exitAuth, "authentication: a host or a service does not accept us, or we do not accept its key"},
	{exitLocked, "another run holds the lock"},
	{exitUndone, "failed; every node is back on the old release and the site is at its baseline"},
	{exitPerson, "a person is needed: the state and the next command were said"},
	{exitInterrupted, "interrupted; where a run had begun, `refit resume` or `refit rollback` goes on"},
}

func exitHelp() string {
	var b strings.Builder
	for _, e := range exitTable {
		fmt.Fprintf(&b, "   %-4d %s\n", e.code, e.meaning)
	}
	return b.String()
}

// exitError ends the program with a code. Its text was not said yet.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func exitWith(code int, err error) error { return &exitError{code, err} }

func refuse(format string, args ...any) error {
	return exitWith(exitRefused, fmt.Errorf(format, args...))
}

// exitCode finds the code of an error: its own if it carries one, else that of
// what it is.
func exitCode(err error) int {
	if err == nil {
		return exitDone
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if _, ok := errors.AsType[*configError](err); ok {
		return exitUsage
	}
	return exitFailed
}
