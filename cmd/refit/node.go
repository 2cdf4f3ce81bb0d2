package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"syscall"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/toolchain"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/nginx"
	"vmst.io/refit/hosts/node"
)

// verbs is everything that a host can be asked for.
func verbs() []node.Verb {
	return slices.Concat(node.Verbs(), keeper.Verbs(""), mastodon.Verbs(), nginx.Verbs(), builds.Verbs(), toolchain.Verbs())
}

// runNode is "refit node VERB": what runs on a host, called by refit on an
// operator's machine. It reads no configuration.
func runNode(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer cancel()
	if err := node.Serve(ctx, verbs(), args, in, out); err != nil {
		fmt.Fprintln(errw, err)
		if errors.Is(err, node.ErrSealed) {
			return node.SealedStatus
		}
		return exitFailed
	}
	return exitDone
}
