package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
)

func verifyCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "verify",
		Usage: "ask every gate once, and hash on every node what really runs there; changes nothing",
		Flags: []cli.Flag{configFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			x, err := open(c.String("config"), "", "verify", s.progress())
			if err != nil {
				return err
			}
			defer closing(x, s)
			verdicts := x.deps.Verify(c.Context, s.progress())
			bad := 0
			for _, v := range verdicts {
				if len(v.Faults) > 0 {
					bad++
				}
			}
			if c.Bool("json") {
				if err := printJSON(s.out, map[string]any{"schema": "refit.verify/v1", "nodes": verdicts}); err != nil {
					return err
				}
			} else {
				t := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
				for _, v := range verdicts {
					word := "unmodified"
					if !v.Unmodified {
						word = "MODIFIED or not known"
					}
					fmt.Fprintf(t, "%s\t%s\tcommit %.12s\ttree %.12s\t%d files\t%s\n", v.Host, v.Release, v.Commit, v.Tree, v.Files, word)
					for _, f := range v.Faults {
						fmt.Fprintf(t, "\t  - %s\n", f)
					}
				}
				if err := t.Flush(); err != nil {
					return err
				}
			}
			if bad > 0 {
				return refuse("%d of %d nodes are not as they should be", bad, len(verdicts))
			}
			return nil
		},
	}
}
