package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/stages"
)

func upgradeCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "upgrade",
		Usage: "upgrade the fleet to a release, node by node, and go back by itself if a gate fails",
		Flags: []cli.Flag{configFlag(), toFlag(), ackFlag(), &cli.StringFlag{Name: "expect", Usage: "refuse any plan but the one of that `HASH`, as `refit plan` shows it"}, yesFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			ctx, stop, done := trap(c.Context, s.notice)
			defer done()
			look, begin := untouched(ctx, stop)
			defer begin()
			run := newRun()
			command := "upgrade --to " + c.String("to")
			x, err := open(c.String("config"), run, command, s.progress())
			if err != nil {
				return err
			}
			defer closing(x, s)
			if err := x.idle(look); err != nil {
				return err
			}
			if err := x.noneLeft(look); err != nil {
				return err
			}
			x.lookBack(look, x.newest, s.progress())
			p, err := x.plan(look, c.String("to"), c.StringSlice("ack"), s.progress())
			if errors.Is(err, stages.ErrNothingToDo) {
				return s.nothingToDo(c.String("to"), c.Bool("json"))
			}
			if err != nil {
				return err
			}
			s.job.plan(p.json())
			if err := p.print(s.err, false); err != nil {
				return err
			}
			if err := p.expected(c.String("expect")); err != nil {
				return err
			}
			if err := p.refusal(); err != nil {
				return err
			}
			e := execution{plan: p.Plan, facts: p.facts, stop: stop, json: c.Bool("json"), why: command, hash: p.hash}
			if x.config.Approvals != nil {
				if err := x.byApproval(look, &e); err != nil {
					return err
				}
			}
			x.warn(look, s)
			if !c.Bool("yes") {
				if err := s.ask(look, fmt.Sprintf("Upgrade %s from %s to %s?", x.config.Fleet, p.From, p.To)); err != nil {
					return err
				}
			}
			return x.execute(ctx, s, e)
		},
	}
}
