package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/stages"
)

func unlockCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "unlock",
		Usage: "take the lease from a holder that is dead, after showing the evidence",
		Flags: []cli.Flag{configFlag(), yesFlag()},
		Action: func(c *cli.Context) error {
			x, err := open(c.String("config"), "", "unlock", s.progress())
			if err != nil {
				return err
			}
			defer closing(x, s)
			lease, err := x.keeper.Show(c.Context)
			repair := errors.Is(err, keeper.ErrDamaged)
			switch {
			case repair:
				s.progress()("the lease on %s cannot be read: %v", x.keeper.Name, err)
			case err != nil:
				return lockError(err)
			case !lease.Held:
				_, err := fmt.Fprintln(s.out, "the lease is free")
				return err
			default:
				s.progress()("%s", x.evidence(c.Context, lease))
			}
			if !c.Bool("yes") {
				if err := s.ask("Is that holder dead? Its epoch will be refused by every host from now on. Take the lease from it?"); err != nil {
					return err
				}
			}
			if _, err := x.keeper.Take(c.Context, keeper.Evidence{Epoch: lease.Epoch, Repair: repair}); err != nil {
				return lockError(err)
			}
			_, err = fmt.Fprintln(s.out, "the lease is free; `refit status` shows what was left, `refit resume` or `refit rollback` goes on")
			return err
		},
	}
}

// evidence tells what speaks for and against the holder's being alive.
func (x *session) evidence(ctx context.Context, l keeper.Lease) string {
	var b strings.Builder
	fmt.Fprintf(&b, "held by      %s\nsince        %s\nlast beat    %s ago (it lives for %s without one)\nrun, step    %s, %s\n",
		l.Holder, l.Acquired.UTC().Format(time.DateTime+" MST"), l.Age().Round(time.Second), l.TTL, l.Run, l.Step)
	for _, row := range x.standing(ctx) {
		fmt.Fprintf(&b, "%-12s %s %s%s\n", row.Name, row.Release, row.State, x.atWork(ctx, row.Name))
	}
	return b.String()
}

// atWork names what refit runs on a host right now: verbs that change it, and migrations.
func (x *session) atWork(ctx context.Context, name string) string {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	n, _ := x.deps.Fleet.Named(name)
	var out []string
	f, err := n.Agent.FenceShow(ctx)
	if err != nil {
		return "; cannot be asked what runs there: " + err.Error()
	}
	for _, v := range f.Verbs {
		out = append(out, fmt.Sprintf("%s of run %s since %s", v.Verb, v.Run, v.Since.UTC().Format(time.TimeOnly)))
	}
	if n.Has(hosts.Sidekiq) {
		for _, unit := range stages.MigrationUnits() {
			if job, err := n.Agent.JobStatus(ctx, unit); err == nil && job.State == node.JobRunning {
				out = append(out, fmt.Sprintf("%s since %s (a resume adopts it)", unit, job.Began.UTC().Format(time.TimeOnly)))
			}
		}
	}
	if len(out) == 0 {
		return ""
	}
	return "; at work: " + strings.Join(out, ", ")
}
