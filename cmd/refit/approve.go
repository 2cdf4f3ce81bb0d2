package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/pipeline"
	"vmst.io/refit/stages"
)

func approveCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "approve",
		Usage: "say yes to the plan of that hash, for one run of `refit watch`; changes no host but the keeper",
		Flags: []cli.Flag{
			configFlag(), toFlag(), &cli.StringFlag{Name: "plan", Usage: "the plan's `HASH`, as `refit plan` and the watcher show it"}, ackFlag(),
			&cli.BoolFlag{Name: "now", Usage: "outside maintenance windows too"},
			&cli.DurationFlag{Name: "for", Usage: "how long it is good (default: 36h, or into the next maintenance window)"},
			&cli.StringFlag{Name: "sign", EnvVars: []string{"REFIT_APPROVAL_KEY"}, Usage: "the ssh `KEY` that signs, where approvals.signers are named: a private key, or the public half of one that the ssh agent has (default: that of the agent's keys which is listed)"},
			yesFlag(), jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.String("plan") == "" {
				return exitWith(exitUsage, errors.New("approve needs --plan and the plan's hash, so that what you read is what will run"))
			}
			ctx, stop, done := trap(c.Context, s.notice)
			defer done()
			look, end := untouched(ctx, stop)
			defer end()
			x, err := open(c.String("config"), newRun(), "approve --plan "+c.String("plan"), s.progress())
			if err != nil {
				return err
			}
			defer closing(x, s)
			if err := x.config.canSign(look, c.String("sign")); err != nil { // before the survey: it takes a while
				return exitWith(exitAuth, err)
			}
			p, err := x.plan(look, c.String("to"), c.StringSlice("ack"), s.progress())
			if errors.Is(err, stages.ErrNothingToDo) {
				return s.nothingToDo(c.String("to"), c.Bool("json"))
			}
			if err != nil {
				return err
			}
			if err := p.print(s.err, false); err != nil {
				return err
			}
			if p.hash == "" { // it stands so badly that there is no plan
				return p.refusal()
			}
			if p.hash != c.String("plan") {
				return refuse("the plan is %s now, and you named %s: it has changed since (the release, refit.yml, the host keys, the steps, or what it asks to be acknowledged). Read it as it stands above, then approve that", p.hash, c.String("plan"))
			}
			if err := p.refusal(); err != nil {
				return err
			}
			if !c.Bool("yes") {
				if err := s.ask(look, fmt.Sprintf("Approve the upgrade of %s from %s to %s?", x.config.Fleet, p.From, p.To)); err != nil {
					return err
				}
			}
			life, known, err := x.config.approvalLife(c.Duration("for"), c.Bool("now"), time.Now())
			if err != nil {
				return exitWith(exitUsage, err)
			}
			if known != "" {
				s.progress()("warning: %s", known)
			}
			a, err := x.approve(look, p.hash, c.String("sign"), life, c.Bool("now"))
			if err != nil {
				if end := interrupted(look); end != nil {
					return end
				}
				return exitWith(exitFailed, err)
			}
			return s.approved(x.config, a, c.Bool("json"))
		},
	}
}

// approved says what was given, and what it lacks to count.
func (s streams) approved(c config, a keeper.Approval, asJSON bool) error {
	words := c.weigh(a, time.Now())
	if asJSON {
		return printJSON(s.out, map[string]any{
			"schema": "refit.approval/v1", "plan": a.Plan, "by": a.By, "until": a.Until, "now": a.AtOnce,
			"counts": words.lacks == "", "lacks": words.lacks, "signed": append([]pipeline.Approval{}, words.good...),
		})
	}
	if words.lacks != "" {
		_, err := fmt.Fprintf(s.out, "approved by %s: plan %s; it does not count yet: %s\n", a.By, a.Plan, words.lacks)
		return err
	}
	_, err := fmt.Fprintf(s.out, "approved: plan %s, for one run until %s; the watcher finds it at one of its next looks\n", a.Plan, a.Until.UTC().Format(time.RFC1123))
	return err
}

// intoWindow is how far into a maintenance window an approval reaches.
const intoWindow = 2 * time.Hour

// approvalLife is how long an approval is good: as long as was asked for, else until it is
// used in the next window. known is that it ends before that.
func (c config) approvalLife(asked time.Duration, atOnce bool, now time.Time) (life time.Duration, known string, err error) {
	p, err := c.policy()
	if err != nil {
		return 0, "", err
	}
	opens := p.Opens(now)
	switch {
	case asked < 0:
		return 0, "", fmt.Errorf("--for %s is over before it begins", asked)
	case asked == 0 && atOnce:
		return keeper.Lives, "", nil
	case asked == 0:
		return max(keeper.Lives, opens.Sub(now)+intoWindow), "", nil
	case !atOnce && now.Add(asked).Before(opens):
		known = fmt.Sprintf("the next maintenance window opens at %s, after this approval has ended: say --now, or a longer --for", opens.UTC().Format(time.RFC1123))
	}
	return asked, known, nil
}
