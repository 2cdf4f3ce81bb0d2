package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/stages"
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
				if v.Wrong() {
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
					fmt.Fprintf(t, "%s\t%s\tcommit %.12s\ttree %.12s\t%d files\t%d processes\t%s\n", v.Host, v.Release, v.Commit, v.Tree, v.Files, v.Processes, verdictWords(v))
				}
				if err := t.Flush(); err != nil {
					return err
				}
				for _, v := range verdicts {
					verdictLines(s.out, v)
				}
			}
			if bad > 0 {
				return refuse("%d of %d nodes are not as they should be", bad, len(verdicts))
			}
			return nil
		},
	}
}

// verdictWords is a node in a few words.
func verdictWords(v stages.Verdict) string {
	words := "unmodified"
	if !v.Unmodified {
		words = "MODIFIED or not known"
	}
	if v.SignedBy != "" {
		return words + ", signed by " + v.SignedBy
	}
	return words + ", not signed"
}

// verdictLines are what is wrong on a node, and what is not known.
func verdictLines(w io.Writer, v stages.Verdict) {
	if !v.Wrong() && len(v.NotKnown) == 0 {
		return
	}
	fmt.Fprintln(w, v.Host)
	for _, c := range v.Changed {
		fmt.Fprintf(w, "  - %s (%s): %s\n", c.Path, c.Part, c.What)
	}
	if v.More > 0 {
		fmt.Fprintf(w, "  - and %d other files\n", v.More)
	}
	for _, f := range v.Faults {
		fmt.Fprintf(w, "  - %s\n", f)
	}
	for _, n := range v.NotKnown {
		fmt.Fprintf(w, "  ? not known: %s\n", n)
	}
}
