package main

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"vmst.io/refit/pipeline/report"
)

// actions is a job of GitHub Actions that refit runs in: its summary, its outputs and its
// annotations. nil outside of one, where each of its methods does nothing.
type actions struct {
	// log is the step's own output, where annotations are commands.
	log io.Writer
	// summary and output are files of the step that take what is appended; "" for none.
	summary, output string

	page strings.Builder
	// outputs are the step's, by name; outcome is one of them that is known early.
	outputs [][2]string
	outcome string
	clean   func(string) string
}

// inActions is the job that refit runs in; nil for none.
func inActions(env func(string) string, log io.Writer) *actions {
	if env("GITHUB_ACTIONS") != "true" {
		return nil
	}
	return &actions{log: log, summary: env("GITHUB_STEP_SUMMARY"), output: env("GITHUB_OUTPUT"), clean: redact()}
}

// outcomes are what the output "outcome" says for each exit code.
var outcomes = map[int]string{
	exitDone: "done", exitFailed: "failed", exitUsage: "usage", exitRefused: "refused", exitAuth: "auth",
	exitLocked: "locked", exitUndone: "undone", exitPerson: "person", exitInterrupted: "interrupted",
}

func (a *actions) out(name, value string) {
	if value != "" {
		a.outputs = append(a.outputs, [2]string{name, value})
	}
}

// plan says in the summary what would be done, and names the plan in the outputs.
func (a *actions) plan(p planJSON) {
	if a == nil {
		return
	}
	a.outcome = "planned"
	a.out("plan", p.Hash)
	a.out("from", p.From)
	a.out("to", p.To)
	mark := "🟢 "
	if len(p.Blockers) > 0 {
		mark = "⛔ "
	}
	a.page.WriteString("### " + mark + report.Inline(fmt.Sprintf("%s → %s: %s", cmp.Or(p.From, "what runs"), p.To, p.decision())) + "\n\n")
	if p.Hash != "" {
		a.page.WriteString("Plan **" + report.Inline(p.Hash) + "**\n\n")
	}
	a.page.WriteString(report.List("What stands against it", p.Blockers))
	a.page.WriteString(report.List("Left to you, acknowledged by name", p.asks))
	var whole strings.Builder
	if err := p.print(&whole); err != nil {
		a.warn("refit", "the plan could not be written into the summary: "+err.Error())
		return
	}
	a.page.WriteString(report.Folded("The plan in full", a.clean(whole.String())))
}

// nothing says that there is nothing to do.
func (a *actions) nothing(text string) {
	if a == nil {
		return
	}
	a.outcome = "nothing"
	a.page.WriteString("### ✅ " + report.Inline(text) + "\n\n")
}

// sight says what a look for releases found.
func (a *actions) sight(text string) {
	if a == nil {
		return
	}
	a.page.WriteString("### Releases\n\n" + report.Block(a.clean(text)) + "\n")
}

// report says how a run ended.
func (a *actions) report(r report.Report) {
	if a == nil {
		return
	}
	a.outcome = ""
	a.out("run", r.Run)
	a.page.WriteString(a.clean(r.Markdown()) + "\n")
}

// status says where the fleet stands, and marks a run that was left half way.
func (a *actions) status(st status, half bool) {
	if a == nil {
		return
	}
	a.out("next", strings.Join(strings.Fields(st.Next), " "))
	if st.Run != nil {
		a.out("run", st.Run.ID)
	}
	a.out("half-way", fmt.Sprint(half))
	a.page.WriteString("### " + report.Inline(st.Fleet) + "\n")
	rows := [][]string{{"host", "roles", "release", "state"}}
	for _, h := range st.Hosts {
		rows = append(rows, []string{h.Name, h.Roles, h.Release, a.clean(h.State)})
	}
	a.page.WriteString(report.Rows(rows...))
	if st.Run != nil {
		line := a.clean(fmt.Sprintf("run %s, %s → %s: %s", st.Run.ID, st.Run.From, st.Run.To, st.Run.Stands))
		a.page.WriteString(report.Inline(line) + "\n\n")
		if half {
			a.warn("refit: a run was left half way", line+"\nnext: "+a.clean(st.Next))
		}
	}
	a.page.WriteString("Next: **" + report.Inline(a.clean(st.Next)) + "**\n\n")
}

func (a *actions) warn(title, text string) {
	fmt.Fprint(a.log, report.Annotation("warning", title, a.clean(text)))
}

// end marks a refusal or a failure, and writes the summary and the outputs. What it
// cannot write it says: the exit code stands whatever a job shows.
func (a *actions) end(command string, code int, err error) {
	if a == nil {
		return
	}
	outcome := outcomes[code]
	if code == exitDone {
		outcome = cmp.Or(a.outcome, outcome)
	}
	if code != exitDone {
		text := ""
		if err != nil {
			text = a.clean(err.Error())
		}
		title := "refit " + command + ": " + outcome
		fmt.Fprint(a.log, report.Annotation("error", title, cmp.Or(text, "the step's summary says where it stands and what comes next")))
		if text != "" {
			a.page.WriteString("### ❌ " + report.Inline(title) + "\n\n" + report.Block(text) + "\n")
		}
	}
	a.out("outcome", outcome)
	a.out("exit", fmt.Sprint(code))
	if err := errors.Join(a.writeSummary(), a.writeOutputs()); err != nil {
		a.warn("refit", err.Error())
	}
}

// mostSummary is how much of a summary GitHub takes of one step, less what is said of the
// cut (docs.github.com, workflow commands: 1 MiB, and beyond that nothing at all).
const mostSummary = 900 << 10

func (a *actions) writeSummary() error {
	text := a.page.String()
	if a.summary == "" || text == "" {
		return nil
	}
	if len(text) > mostSummary {
		text = report.Block("The summary is larger than GitHub shows: the step's log has all of it.")
	}
	return appendTo(a.summary, text)
}

func (a *actions) writeOutputs() error {
	if a.output == "" {
		return nil
	}
	slices.Reverse(a.outputs) // of two that have one name the later counts
	named := map[string]bool{}
	var b strings.Builder
	for _, o := range a.outputs {
		if named[o[0]] {
			continue
		}
		named[o[0]] = true
		// Nobody can know the delimiter beforehand, so no value ends early.
		end := "refit-" + rand.Text()
		fmt.Fprintf(&b, "%s<<%s\n%s\n%s\n", o[0], end, o[1], end)
	}
	return appendTo(a.output, b.String())
}

func appendTo(file, text string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("cannot write what the job shows: %w", err)
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
