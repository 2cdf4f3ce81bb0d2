// Command refit upgrades a fleet of machines that run unmodified Mastodon from
// source from one release to another, one node at a time.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// A reader that goes away ("refit status | head -1", a closed tee) must not kill a
	// run in the middle of a change: writing then fails, and that is all. The signal
	// is caught, not ignored, since children would inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	os.Exit(run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
}
