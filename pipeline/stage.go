// Package pipeline runs a plan: an ordered list of stages, forward, backward and
// again after a crash. It knows nothing of Mastodon, hosts or releases, and it
// imports the standard library alone.
//
// The rules it holds:
//
//   - what is about to happen is journalled before it happens, and what happened
//     after; a journal that cannot be written stops the run;
//   - a failed stage is undone, then every stage before it, in reverse; once a
//     one-way step has begun nothing is undone any more, and a resume goes forward;
//   - a stage that was started and not finished is "unknown": it is checked and
//     run again, never taken for done;
//   - a lost lease stops the run where it stands; nothing is undone unlocked.
package pipeline

import (
	"context"
	"time"
)

// Say reports progress in words to whoever watches. It never fails and never
// blocks a stage for long. A test's t.Logf is one.
type Say func(format string, args ...any)

// Stage is one deed on the way from one release to the next. Its error texts
// never repeat its name: the engine adds it once.
type Stage interface {
	// Name is unique in a plan ("roll web kirk"): the plan's line and the journal's key.
	Name() string
	// Check only reads. It tells what would stop Run, as far as that can be known
	// before anything ran. The engine asks it again on resume, for the step that
	// a crash left unfinished, and so it copes with a half-done Run.
	Check(ctx context.Context, say Say) error
	// Run does the deed. It looks before it acts, so that it may be repeated after
	// a crash anywhere in it.
	Run(ctx context.Context, say Say) error
	// Undo takes back what Run did, also when Run stopped half way or never began.
	Undo(ctx context.Context, say Say) error
}

// Step is a stage in its place in a plan.
type Step struct {
	Stage
	// Why is one line for the person who reads the plan.
	Why string
	// Host is the host that the step works on; empty for the whole fleet.
	Host string
	// OneWay: once begun, nothing up to and including this step is undone by itself.
	OneWay bool
	// Switches: the step changes what serves users: the code on a node or the
	// schema. A run in which no such step began has left the site as it was.
	Switches bool
	// Expect is how long the step usually takes; it is shown and limits nothing.
	// 0 for unknown.
	Expect time.Duration
}

// Plan is what will run, in order. The plan printed is the plan run.
type Plan struct {
	// ID names the run: the journal's key and part of the names that the run
	// leaves on hosts (units, files).
	ID string
	// Kind is the command that made it ("upgrade").
	Kind string
	// From and To are release names, "v4.5.14".
	From, To string
	Steps    []Step
	// Facts is what the stages learn and what a resume needs: a pointer to a
	// struct that survives JSON there and back. It is journalled after each step.
	Facts any
}
