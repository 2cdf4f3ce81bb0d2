package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/stages/drift"
)

func driftCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "drift",
		Usage: "tell where hosts are not what refit.yml says, or not what their peers are; changes nothing",
		Flags: []cli.Flag{configFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			ctx, stop, done := trap(c.Context, s.notice)
			defer done()
			look, begin := untouched(ctx, stop)
			defer begin()
			x, err := open(c.String("config"), newRun(), "drift", s.progress())
			if err != nil {
				return err
			}
			defer closing(x, s)
			found, err := x.deps.Drift(look)
			if end := interrupted(look); end != nil {
				return end
			}
			if err != nil {
				return surveyError(look, err)
			}
			return s.showDrift(found, driftJSON{
				Schema: "refit.drift/v1", Hosts: len(x.deps.Fleet), NotCompared: x.notCompared(), Findings: []drift.Finding{},
			}, c.Bool("json"))
		},
	}
}

// driftJSON is what `refit drift --json` prints.
type driftJSON struct {
	Schema string `json:"schema"` // "refit.drift/v1"
	// Hosts is how many were compared, or could not be.
	Hosts int `json:"hosts"`
	// NotCompared says what was not looked at, and why.
	NotCompared []string        `json:"not_compared,omitempty"`
	Findings    []drift.Finding `json:"findings"`
}

// notCompared says what this fleet has nothing to be compared with.
func (x *session) notCompared() []string {
	if x.deps.Committed != nil {
		return nil
	}
	return []string{"files: refit.yml names no repository of rendered files"}
}

// showDrift prints the findings, and ends with exit code 3 where there are any.
func (s streams) showDrift(found []drift.Finding, out driftJSON, asJSON bool) error {
	out.Findings = append(out.Findings, found...)
	var err error
	if asJSON {
		err = printJSON(s.out, out)
	} else {
		err = out.text(s.out)
	}
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return exitWith(exitRefused, silent{})
	}
	return nil
}

func (d driftJSON) text(w io.Writer) error {
	var b strings.Builder
	for _, f := range d.Findings {
		fmt.Fprintf(&b, "%s: %s %s\n  found     %s\n  expected  %s\n  remedy    %s\n", strings.Join(f.Hosts, ", "), f.Kind, f.What, f.Found, f.Expected, f.Remedy)
		for line := range strings.Lines(f.Difference) {
			fmt.Fprintf(&b, "    %s\n", strings.TrimSuffix(line, "\n"))
		}
	}
	for _, n := range d.NotCompared {
		fmt.Fprintf(&b, "not compared: %s\n", n)
	}
	if len(d.Findings) == 0 {
		fmt.Fprintf(&b, "%d hosts are what they should be\n", d.Hosts)
	} else {
		fmt.Fprintf(&b, "%d findings on %d hosts\n", len(d.Findings), d.Hosts)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
