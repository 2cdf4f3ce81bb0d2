package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/pipeline"
	"vmst.io/refit/pipeline/report"
	"vmst.io/refit/stages"
)

// runSchema is the schema of `refit show --json`.
const runSchema = "refit.run/v1"

func showCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "show one run, the newest or the one named: each step with how long it took, what was decided and why; locks nothing",
		ArgsUsage: "[RUN]",
		Flags:     []cli.Flag{configFlag(), jsonFlag()},
		Action: func(c *cli.Context) error {
			x, err := open(c.String("config"), "", "show", func(string, ...any) {})
			if err != nil {
				return err
			}
			defer closing(x, s)
			return s.show(c, x)
		},
	}
}

// oneRun lets show alone take a word beside its flags, after them.
func oneRun(c *cli.Context) error {
	if c.Args().Len() > 1 {
		return exitWith(exitUsage, fmt.Errorf("show takes one run, after all flags: refit show --json %s", c.Args().First()))
	}
	return nil
}

func (s streams) show(c *cli.Context, x *session) error {
	runs, away := x.runs(c.Context)
	one, err := pick(runs, c.Args().First())
	if err != nil {
		if away != nil { // it may be the keeper who knows it
			return exitWith(exitCode(away), fmt.Errorf("%w\n%w", err, away))
		}
		return exitWith(exitUsage, err)
	}
	if one.Trouble != "" {
		return exitWith(exitPerson, fmt.Errorf("the journal of run %s cannot be read, and this machine has no copy that can: %s\nlook on other machines that worked on it: `refit history` there", one.Run, oneLine(one.Trouble)))
	}
	j, err := one.load(c.Context)
	if err != nil {
		return exitWith(exitFailed, err)
	}
	shown := showing(j, one.Past)
	if c.Bool("json") {
		err = printJSON(s.out, shown)
	} else {
		err = shown.text(s.out)
	}
	if err != nil {
		return err
	}
	return away
}

// pick is the run that a person named, by its whole ID or what only one begins or ends
// with; the newest for no name.
func pick(runs []knownRun, name string) (knownRun, error) {
	if len(runs) == 0 {
		return knownRun{}, errors.New("no run is known")
	}
	if name == "" {
		return runs[0], nil
	}
	var found []knownRun
	for _, k := range runs {
		if k.Run == name {
			return k, nil
		}
		if strings.HasPrefix(k.Run, name) || strings.HasSuffix(k.Run, name) {
			found = append(found, k)
		}
	}
	switch len(found) {
	case 0:
		return knownRun{}, fmt.Errorf("no run %q is known: `refit history` lists those that are. The newest %d stay on the keeper, older ones where they were moved to", name, keptJournals)
	case 1:
		return found[0], nil
	}
	return knownRun{}, fmt.Errorf("%q may be %s or %s: name more of it", name, found[0].Run, found[1].Run)
}

// shownRun is what `refit show` shows.
type shownRun struct {
	Schema string `json:"schema"`
	report.Past
	Stands string `json:"stands"`
	// Hands worked on it, the first one first.
	Hands []pipeline.Hand `json:"hands"`
	Steps []shownStep     `json:"steps"`
	// Decided is what was decided for the whole run, Warnings what was said aloud.
	Decided  []string `json:"decided"`
	Warnings []string `json:"warnings"`
	// CauseStep and CauseText say where the way forward ended and why; Proof are the lines
	// that show it.
	CauseStep string           `json:"cause_step,omitempty"`
	CauseText string           `json:"cause_text,omitempty"`
	Proof     []pipeline.Proof `json:"proof,omitempty"`
	State     string           `json:"state,omitempty"`
	Next      string           `json:"next,omitempty"`
}

type shownStep struct {
	pipeline.StepResult
	Why    string `json:"why,omitempty"`
	OneWay bool   `json:"one_way,omitempty"`
	// Started is when it was last begun.
	Started time.Time `json:"started,omitzero"`
}

// showing is what a journal says to people.
func showing(j *pipeline.Journal, p report.Past) shownRun {
	out := shownRun{
		Schema: runSchema, Past: p, Stands: standingOf(j), Hands: append([]pipeline.Hand{}, j.Hands...), Steps: []shownStep{}, Decided: []string{}, Warnings: []string{},
		CauseStep: j.CauseStep, CauseText: j.Cause, Proof: j.CauseProof, State: j.State, Next: j.Next,
	}
	for i, r := range j.Progress() {
		out.Steps = append(out.Steps, shownStep{StepResult: r, Why: j.Steps[i].Why, OneWay: j.Steps[i].OneWay, Started: j.Marks[r.Name].Started})
	}
	f := &stages.Facts{}
	if err := j.LoadFacts(f); err != nil {
		out.Warnings = append(out.Warnings, err.Error())
		return out
	}
	out.Decided = append(out.Decided, decided(f)...)
	out.Warnings = slices.Concat(out.Warnings, f.Said, f.Unproved)
	return out
}

// decided is what the facts of a run say was decided for all of it.
func decided(f *stages.Facts) []string {
	var out []string
	if tag := f.To.Tag; tag.Commit != "" {
		out = append(out, fmt.Sprintf("%s is commit %s, tree %s", f.To.Version, tag.Commit, tag.Tree))
	}
	if len(f.Sidekiq)+len(f.Web) > 0 {
		order := slices.Concat(f.Web, f.Sidekiq)
		if f.SidekiqFirst {
			order = slices.Concat(f.Sidekiq, f.Web)
		}
		out = append(out, fmt.Sprintf("%s is rolled first, in the order %s", first(f.SidekiqFirst), strings.Join(order, ", ")))
	}
	if n := len(f.Facets.JobsAdded) + len(f.Facets.JobsRemoved); n > 0 {
		out = append(out, fmt.Sprintf("since %d job classes are new and %d are gone", len(f.Facets.JobsAdded), len(f.Facets.JobsRemoved)))
	}
	for _, when := range []struct {
		word string
		list []string
	}{{"before", migrationNames(f.Pre)}, {"after", migrationNames(f.Post)}} {
		if len(when.list) > 0 {
			out = append(out, fmt.Sprintf("%d migrations %s the nodes are rolled: %s", len(when.list), when.word, strings.Join(when.list, ", ")))
		}
	}
	out = append(out, f.Restores()...)
	return append(out, f.Images()...)
}

func (r shownRun) text(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "run %s: %s %s → %s, %s\n", r.Run, r.Kind, r.From, r.To, r.Result())
	fmt.Fprintf(t, "began %s UTC, took %s; stands: %s\n", r.Began.Format(time.DateTime), cmp.Or(r.Took(), "no time"), oneLine(r.Stands))
	if r.Place != "" {
		fmt.Fprintf(t, "by %s\n", oneLine(r.Place))
	}
	for _, h := range r.Hands {
		fmt.Fprintf(t, "%s  %s: %s\n", h.At.Format(time.DateTime), oneLine(h.By), oneLine(h.Why))
		for _, a := range h.Approvals {
			fmt.Fprintf(t, "  approved by %s, %s, %s\n", oneLine(a.By), a.Given.Format(time.DateTime), cmp.Or(a.Key, "not signed"))
		}
	}
	fmt.Fprintln(t, "\nstep\tstate\ttook\twhy")
	for _, s := range r.Steps {
		took := ""
		if s.Seconds > 0 {
			took = report.Span(time.Duration(s.Seconds * float64(time.Second)))
		}
		if s.UndoSeconds > 0 {
			took = strings.TrimSpace(took + ", back " + report.Span(time.Duration(s.UndoSeconds*float64(time.Second))))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", oneLine(s.Name), cmp.Or(string(s.State), "not begun"), took, oneLine(s.Why))
		if s.Error != "" {
			fmt.Fprintf(t, "  %s\n", oneLine(s.Error))
		}
	}
	for _, part := range []struct {
		title string
		lines []string
	}{{"decided", r.Decided}, {"warnings", r.Warnings}} {
		if len(part.lines) > 0 {
			fmt.Fprintf(t, "\n%s:\n%s\n", part.title, oneLines(part.lines))
		}
	}
	if r.CauseText != "" {
		fmt.Fprintf(t, "\nended at %s: %s\n", cmp.Or(r.CauseStep, "no step"), oneLine(r.CauseText))
	}
	for _, p := range r.Proof {
		fmt.Fprintf(t, "%s:\n%s\n", oneLine(p.From), oneLines(p.Lines))
	}
	if r.Next != "" && !r.AtWork {
		fmt.Fprintf(t, "\nnext: %s\n", oneLine(r.Next))
	}
	return t.Flush()
}
