// Command refit upgrades a fleet of machines that run unmodified Mastodon from
// source from one release to another, one node at a time.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
}
