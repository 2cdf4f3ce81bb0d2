package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
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
		Flags: []cli.Flag{configFlag(), yesFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			ctx, stop, done := trap(c.Context, s.notice)
			defer done()
			look, begin := untouched(ctx, stop)
			defer begin()
			x, err := open(c.String("config"), "", "unlock", s.progress())
			if err != nil {
				return err
			}
			defer closing(x, s)
			lease, err := x.keeper.Show(look)
			out := unlocked{Schema: "refit.unlock/v1"}
			damaged := errors.Is(err, keeper.ErrDamaged)
			switch {
			case damaged:
				out.Damaged = err.Error()
				s.progress()("the lease on %s cannot be read: %v", x.keeper.Name, err)
			case err != nil:
				return lockError(look, err)
			case !lease.Held:
				out.Did = "nothing: the lease is free"
				return out.print(s.out, c.Bool("json"))
			default:
				out.Lease = &lease
				s.progress()("%s", x.evidence(look, lease))
			}
			if !c.Bool("yes") {
				if err := s.ask(look, "Is that holder dead? Its epoch will be refused by every host from now on. Take the lease from it?"); err != nil {
					return err
				}
			}
			if err := interrupted(look); err != nil {
				return err
			}
			taken, err := x.keeper.Take(ctx, keeper.Evidence{Epoch: lease.Epoch, Repair: damaged})
			if err != nil {
				return lockError(ctx, err)
			}
			out.Taken = true
			// The old holder may only be frozen: from here on no host listens to it. One that
			// cannot be reached now is fenced by the next run, which refuses to begin without it.
			if err := x.raiseFencesFor(ctx, taken.Epoch, x.keeper.Me.String()+", unlock"); err != nil {
				out.Unfenced = err.Error()
				s.progress()("not every host could be told; the next run does it first: %v", err)
			}
			out.Did = "the lease is free; `refit status` shows what was left, `refit resume` or `refit rollback` goes on"
			return out.print(s.out, c.Bool("json"))
		},
	}
}

// unlocked is what `refit unlock` did.
type unlocked struct {
	Schema string `json:"schema"` // "refit.unlock/v1"
	// Lease as it was found, if somebody held it; Damaged why it could not be read.
	Lease   *keeper.Lease `json:"lease,omitempty"`
	Damaged string        `json:"damaged,omitempty"`
	// Taken: the lease was taken from its holder.
	Taken bool `json:"taken"`
	// Unfenced says which hosts could not be told of it.
	Unfenced string `json:"unfenced,omitempty"`
	Did      string `json:"did"`
}

func (u unlocked) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(w, u)
	}
	_, err := fmt.Fprintln(w, strings.TrimPrefix(u.Did, "nothing: "))
	return err
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
	var out, unasked []string
	f, err := n.Agent.FenceShow(ctx)
	if err != nil {
		return "; cannot be asked what runs there: " + err.Error()
	}
	for _, v := range f.Verbs {
		out = append(out, fmt.Sprintf("%s of run %s since %s", v.Verb, v.Run, v.Since.UTC().Format(time.TimeOnly)))
	}
	if n.Has(hosts.Sidekiq) {
		for _, unit := range stages.MigrationUnits() {
			job, err := n.Agent.JobStatus(ctx, unit)
			switch {
			case err != nil:
				unasked = append(unasked, fmt.Sprintf("; cannot be asked whether %s runs there: %v", unit, err))
			case job.State == node.JobRunning:
				out = append(out, fmt.Sprintf("%s since %s (a resume adopts it)", unit, job.Began.UTC().Format(time.TimeOnly)))
			}
		}
	}
	if len(out) > 0 {
		unasked = slices.Insert(unasked, 0, "; at work: "+strings.Join(out, ", "))
	}
	return strings.Join(unasked, "")
}
