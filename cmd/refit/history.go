package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/pipeline/report"
)

// historySchema is the schema of `refit history --json`.
const historySchema = "refit.history/v1"

func historyCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "history",
		Usage: "list the runs that the keeper and this machine know of: when, what, by whom, how they ended; locks nothing",
		Flags: []cli.Flag{configFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			x, err := open(c.String("config"), "", "history", func(string, ...any) {})
			if err != nil {
				return err
			}
			defer closing(x, s)
			return s.history(c, x)
		},
	}
}

func (s streams) history(c *cli.Context, x *session) error {
	runs, away := x.runs(c.Context)
	list := []report.Past{}
	for _, k := range runs {
		list = append(list, k.Past)
	}
	var err error
	if c.Bool("json") {
		out := map[string]any{"schema": historySchema, "fleet": x.config.Fleet, "runs": list}
		if away != nil {
			out["keeper_error"] = away.Error()
		}
		err = printJSON(s.out, out)
	} else {
		err = historyText(s.out, list)
	}
	if err != nil {
		return err
	}
	return away
}

// historyText writes the runs as a table, the newest first.
func historyText(w io.Writer, list []report.Past) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "no run is known")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "run\tbegan (UTC)\tkind\tfrom → to\tby\tresult\ttook")
	var notes []string
	for _, p := range list {
		began, way := "", ""
		if !p.Began.IsZero() {
			began, way = p.Began.Format(time.DateTime), p.From+" → "+p.To
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Run, began, p.Kind, way, oneLine(byWhom(p)), p.Result(), p.Took())
		switch {
		case p.Trouble != "":
			notes = append(notes, fmt.Sprintf("%s: %s", p.Run, p.Trouble))
		case p.Cause != "":
			notes = append(notes, fmt.Sprintf("%s: %s", p.Run, p.Cause))
		}
		if p.Place != "" {
			notes = append(notes, fmt.Sprintf("%s is known by %s", p.Run, p.Place))
		}
	}
	if len(notes) > 0 {
		fmt.Fprintf(t, "\n%s\n", oneLines(notes))
	}
	fmt.Fprintln(t, "\n`refit show RUN` says what was done in one, and why")
	return t.Flush()
}

// byWhom says who began a run, and who approved it.
func byWhom(p report.Past) string {
	by := cmp.Or(p.By, "not recorded")
	if len(p.ApprovedBy) > 0 {
		by += ", approved by " + strings.Join(p.ApprovedBy, ", ")
	}
	return by
}

// oneLines writes texts, a line each.
func oneLines(list []string) string {
	var out []string
	for _, text := range list {
		out = append(out, oneLine(text))
	}
	return strings.Join(out, "\n")
}
