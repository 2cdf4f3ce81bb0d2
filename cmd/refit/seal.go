package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

func sealCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "seal",
		Usage: "let Mastodon's units start on these very machines and on no clone of them; restarts nothing",
		Flags: []cli.Flag{configFlag(), jsonFlag(), &cli.StringFlag{Name: "host", Usage: "only `NODE`, also where it has another machine's permit: you say that it is no clone"}},
		Action: func(c *cli.Context) error {
			ctx, stop, done := trap(c.Context, s.notice)
			defer done()
			look, begin := untouched(ctx, stop)
			defer begin()
			x, err := open(c.String("config"), newRun(), "seal", s.progress())
			if err != nil {
				return err
			}
			defer closing(x, s)
			nodes, err := x.toSeal(c.String("host"))
			if err != nil {
				return err
			}
			if err := x.seal(ctx, look, stop, nodes, c.String("host") != "", s.progress()); err != nil {
				return err
			}
			names := make([]string, len(nodes))
			for i, n := range nodes {
				names[i] = n.Name
			}
			if c.Bool("json") {
				return printJSON(s.out, map[string]any{"schema": "refit.seal/v1", "sealed": names})
			}
			_, err = fmt.Fprintf(s.out, "sealed: %s\n", strings.Join(names, ", "))
			return err
		},
	}
}

// toSeal are the nodes that are meant: the one that is named, or all that run Mastodon.
func (x *session) toSeal(host string) (stages.Fleet, error) {
	all := x.deps.Fleet.Apps()
	if host == "" {
		return all, nil
	}
	n, ok := all.Named(host)
	if !ok {
		return nil, exitWith(exitUsage, fmt.Errorf("--host %s: refit.yml has no web or Sidekiq node of that name", host))
	}
	return stages.Fleet{n}, nil
}

// seal writes permits under the lease. A node that may be a clone is sealed only if it
// was named.
func (x *session) seal(ctx, look context.Context, stop <-chan struct{}, nodes stages.Fleet, named bool, say pipeline.Say) error {
	if err := x.idle(look); err != nil {
		return err
	}
	if !named {
		var clones []error
		for _, n := range nodes {
			why, err := x.deps.Foreign(look, n)
			if err != nil {
				return surveyError(look, err)
			}
			if why != "" {
				clones = append(clones, errors.New(why))
			}
		}
		if len(clones) > 0 {
			return refuse("%w\nnothing was touched", errors.Join(clones...))
		}
	}
	held, err := pipeline.Hold(look, x.keeper, "seal", pipeline.HoldOptions{})
	if err != nil {
		return lockError(look, err)
	}
	defer func() {
		if err := release(ctx, held); err != nil {
			say("%v", err)
		}
	}()
	if err := x.raiseFences(held.Context, x.keeper.Me.String()); err != nil {
		if end := interrupted(look); end != nil {
			return end
		}
		return exitWith(exitRefused, err)
	}
	work, end := under(ctx, held)
	defer end()
	for i, n := range nodes {
		select {
		case <-stop:
			return exitWith(exitInterrupted, fmt.Errorf("%w; %d of %d nodes are sealed, and `refit seal` goes on", errStopped, i, len(nodes)))
		default:
		}
		if err := x.deps.WritePermit(work, n, say); err != nil {
			if end := interrupted(ctx); end != nil {
				return end
			}
			return exitWith(exitFailed, err)
		}
	}
	return nil
}
