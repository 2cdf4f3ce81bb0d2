package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

func doctorCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "look for what would stop every upgrade, and for what crashed runs left behind",
		Flags: []cli.Flag{configFlag(), jsonFlag(), &cli.BoolFlag{Name: "fix", Usage: "remove what crashed runs left and put drained nodes back into rotation"}},
		Action: func(c *cli.Context) error {
			ctx, stop, done := trap(c.Context, s.notice)
			defer done()
			// All but the fixing changes nothing, so the first Ctrl-C ends it.
			look, begin := untouched(ctx, stop)
			defer begin()
			x, err := open(c.String("config"), newRun(), "doctor", s.progress())
			if err != nil {
				return err
			}
			defer closing(x, s)
			if c.Bool("fix") {
				if err := x.fix(ctx, look, stop, s.progress()); err != nil {
					return err
				}
			}
			v := x.deps.Look(look, nil, s.progress())
			if look.Err() != nil {
				return x.halted(look, c.Bool("fix"))
			}
			refused, said := x.deps.Fleetwide(v)
			said = append(said, x.deps.Gaps()...)
			said = append(said, x.cannotTell(look)...)
			wrong, known := x.deps.ExamineConfigs(look)
			refused, said = append(refused, wrong...), append(said, known...)
			refused = append(refused, x.configsCheckup(look)...)
			account := x.cloudCheckup(look)
			if account != nil {
				refused, said = append(refused, account.refused...), append(said, account.known...)
			}
			left, err := x.left(look)
			if look.Err() != nil {
				return x.halted(look, c.Bool("fix"))
			}
			if err != nil {
				refused = append(refused, err.Error())
			}
			if c.Bool("json") {
				found := map[string]any{"schema": "refit.doctor/v1", "faults": refused, "known": said, "left": left}
				if account != nil {
					found["cloud"] = map[string]any{"well": account.well, "scopes": account.scopes}
				}
				if err := printJSON(s.out, found); err != nil {
					return err
				}
			} else {
				type part struct {
					title string
					lines []string
				}
				parts := []part{{"stands against every upgrade", refused}, {"to be known", said}, {"left by earlier runs (refit doctor --fix removes it)", left}}
				if account != nil {
					parts = append(parts, part{"the cloud account", account.well})
				}
				for _, part := range parts {
					if len(part.lines) > 0 {
						fmt.Fprintf(s.out, "%s\n  - %s\n", part.title, strings.Join(part.lines, "\n  - "))
					}
				}
			}
			if len(refused) > 0 {
				return exitWith(exitRefused, silent{})
			}
			if !c.Bool("json") {
				_, err = fmt.Fprintln(s.out, "nothing stands against an upgrade")
			}
			return err
		},
	}
}
