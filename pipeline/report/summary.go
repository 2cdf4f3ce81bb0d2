package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"vmst.io/refit/pipeline"
)

// Schema is the schema of a Report as JSON. Fields are added to it, never changed.
const Schema = "refit.report/v1"

// HostRow is where one host stands.
type HostRow struct {
	Name    string `json:"name"`
	Roles   string `json:"roles,omitempty"`
	Release string `json:"release,omitempty"`
	State   string `json:"state,omitempty"`
}

// Extra is what a report says beside the engine's result.
type Extra struct {
	// Exit is the code that the command ends with.
	Exit int
	// Hosts as they were found after the run.
	Hosts []HostRow
	// Remains is what stays of the run although it was taken back: migrations.
	Remains []string
	// Notes are for people to know after a run that went well.
	Notes []string
	// Next is the next command; empty for the usual one.
	Next string
}

// Report is everything to be said when a run has ended.
type Report struct {
	Schema string          `json:"schema"`
	Run    string          `json:"run"`
	Kind   string          `json:"kind"`
	From   string          `json:"from"`
	To     string          `json:"to"`
	Status pipeline.Status `json:"status"`
	// Asked: a person asked for the run to be taken back.
	Asked bool `json:"asked,omitempty"`
	// Touched: something that serves users was changed, if only for a while, or
	// something remains.
	Touched bool `json:"touched"`
	Exit    int  `json:"exit"`
	// Step, Host and Cause tell where the way forward ended, and why.
	Step  string           `json:"step,omitempty"`
	Host  string           `json:"host,omitempty"`
	Cause string           `json:"cause,omitempty"`
	Proof []pipeline.Proof `json:"proof,omitempty"`
	// UndoStep, UndoHost and UndoCause tell what could not be taken back, and why.
	UndoStep  string `json:"undo_step,omitempty"`
	UndoHost  string `json:"undo_host,omitempty"`
	UndoCause string `json:"undo_cause,omitempty"`
	// Journal tells why the journal lacks the last word.
	Journal string `json:"journal,omitempty"`
	// OneWay is the step that was the point of no return, if it was passed.
	OneWay  string                `json:"one_way,omitempty"`
	State   string                `json:"state,omitempty"`
	Next    string                `json:"next,omitempty"`
	Hosts   []HostRow             `json:"hosts"`
	Remains []string              `json:"remains"`
	Notes   []string              `json:"notes,omitempty"`
	Steps   []pipeline.StepResult `json:"steps"`
	Seconds float64               `json:"seconds"`
}

// Summarise joins what is known of a run that ended.
func Summarise(p pipeline.Plan, res pipeline.Result, x Extra) Report {
	r := Report{
		Schema: Schema, Run: p.ID, Kind: p.Kind, From: p.From, To: p.To,
		Status: res.Status, Asked: res.Asked, Touched: res.Touched || len(x.Remains) > 0, Exit: x.Exit,
		Step: res.Step, Host: res.Host, Cause: text(res.Err), Proof: res.Proof,
		UndoStep: res.UndoStep, UndoHost: res.UndoHost, UndoCause: text(res.UndoErr),
		Journal: text(res.JournalErr), OneWay: res.OneWay, State: res.State, Next: x.Next,
		Hosts: append([]HostRow{}, x.Hosts...), Remains: append([]string{}, x.Remains...), Notes: x.Notes,
		Steps: append([]pipeline.StepResult{}, res.Steps...), Seconds: res.Seconds,
	}
	if r.Next == "" {
		r.Next = res.Next
	}
	if r.Next == "" {
		r.Next = r.usual()
	}
	if r.Journal == r.Cause {
		r.Journal = ""
	}
	return r
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// usual is the next command when nobody named one.
func (r Report) usual() string {
	if r.Kind != "upgrade" {
		return r.anew()
	}
	switch r.Status {
	case pipeline.Stopped, pipeline.Interrupted:
		if r.OneWay != "" {
			return "refit resume"
		}
		return "refit resume, or to go back: refit rollback"
	case pipeline.Undone, pipeline.Refused:
		if r.Asked {
			return ""
		}
		return fmt.Sprintf("mend the cause, then: refit plan --to %s", r.To)
	case pipeline.Person:
		return "mend the cause, then: refit resume"
	case pipeline.LostLock:
		return "see who holds the lease and where every host stands: refit status; then: refit resume"
	case pipeline.LostJournal:
		return "mend the keeper (its disk, its link), then: refit resume"
	}
	return ""
}

// anew is the next command after a run that only prepares: none is gone on with or
// taken back, the command is given again and finds what is done already.
func (r Report) anew() string {
	again := fmt.Sprintf("refit %s --to %s", r.Kind, r.To)
	if r.From == "" && r.Kind == "place" {
		again += " --first"
	}
	switch r.Status {
	case pipeline.Stopped, pipeline.Interrupted:
		return again
	case pipeline.LostLock:
		return "see who holds the lease: refit status; then again: " + again
	case pipeline.Done:
		return ""
	}
	if r.Asked {
		return ""
	}
	return "mend the cause, then again: " + again
}

// JSON writes the report as one JSON document.
func (r Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	return nil
}

// Text writes the report for an admin at three in the morning: how it ended, what
// failed and where, the lines that matter, where every host stands, what remains,
// and what to type next.
func (r Report) Text(w io.Writer) error {
	var b strings.Builder
	b.WriteString("\n" + r.headline() + "\n")
	r.cause(&b)
	if len(r.Hosts) > 0 {
		table(&b, "Where every host stands", [][]string{{"HOST", "ROLES", "RELEASE", "STATE"}}, r.hostRows())
	}
	if len(r.Steps) > 0 {
		table(&b, "Steps", nil, r.stepRows())
	}
	list(&b, "What remains", r.Remains)
	list(&b, "To know", r.Notes)
	if r.Next != "" {
		fmt.Fprintf(&b, "\nNext\n  %s\n", indent(r.Next))
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	return nil
}

// headline is the one line that must be right when it is the only one read.
func (r Report) headline() string {
	deed, on := fmt.Sprintf("%s %s → %s", r.Kind, r.From, r.To), "; the fleet is on "+r.From
	if r.From == "" {
		deed, on = r.Kind+" "+r.To, ""
	}
	took := fmt.Sprintf("(run %s, %s, exit code %d)", r.Run, round(time.Duration(r.Seconds*float64(time.Second))), r.Exit)
	switch {
	case r.Status == pipeline.Done:
		return fmt.Sprintf("DONE: %s %s", deed, took)
	case r.Status == pipeline.Undone && r.Asked:
		return fmt.Sprintf("TAKEN BACK, as asked: %s%s %s", deed, on, took)
	case r.Status == pipeline.Undone && r.Touched:
		return fmt.Sprintf("FAILED AND TAKEN BACK: %s%s %s", deed, on, took)
	case r.Status == pipeline.Undone:
		return fmt.Sprintf("FAILED before anything was touched: %s%s %s", deed, on, took)
	case r.Status == pipeline.Refused:
		return fmt.Sprintf("REFUSED: %s; nothing was touched %s", deed, took)
	case r.Status == pipeline.Stopped:
		return fmt.Sprintf("STOPPED as asked, at a safe point: %s %s", deed, took)
	case r.Status == pipeline.Interrupted:
		return fmt.Sprintf("BROKEN OFF: %s; the step at work may be half-done %s", deed, took)
	case r.Status == pipeline.LostLock:
		return fmt.Sprintf("LEASE LOST, stopped where it stood: %s; nothing was undone %s", deed, took)
	case r.Status == pipeline.LostJournal:
		return fmt.Sprintf("JOURNAL LOST, stopped where it stood: %s; nothing was undone %s", deed, took)
	}
	return fmt.Sprintf("A PERSON IS NEEDED: %s %s", deed, took)
}

func (r Report) cause(b *strings.Builder) {
	switch {
	case r.Cause == "":
	case r.Status == pipeline.Stopped || r.Status == pipeline.Interrupted:
		fmt.Fprintf(b, "\nWhere it stopped\n  %s\n", indent(with(at(r.Step, r.Host), r.Cause)))
	default:
		fmt.Fprintf(b, "\nWhat failed\n  %s\n", indent(with(at(r.Step, r.Host), r.Cause)))
	}
	if r.UndoStep != "" {
		fmt.Fprintf(b, "\nWhat could not be taken back\n  %s\n", indent(with(at(r.UndoStep, r.UndoHost), r.UndoCause)))
	}
	if r.State != "" {
		fmt.Fprintf(b, "\nHow it stands\n  %s\n", indent(r.State))
	}
	if r.Journal != "" {
		fmt.Fprintf(b, "\nThe journal lacks the last word\n  %s\n", indent(r.Journal))
	}
	for _, p := range r.Proof {
		fmt.Fprintf(b, "\nThe lines that matter, of %s\n", p.From)
		for _, line := range p.Lines {
			fmt.Fprintf(b, "  | %s\n", printable(line))
		}
	}
}

// at names a step, and its host where the step's name does not.
func at(step, host string) string {
	if step == "" {
		return host
	}
	if host == "" || strings.Contains(" "+step+" ", " "+host+" ") {
		return step
	}
	return step + " on " + host
}

func (r Report) hostRows() [][]string {
	rows := make([][]string, len(r.Hosts))
	for i, h := range r.Hosts {
		rows[i] = []string{h.Name, dash(h.Roles), dash(h.Release), dash(h.State)}
	}
	return rows
}

func (r Report) stepRows() [][]string {
	rows := make([][]string, len(r.Steps))
	for i, s := range r.Steps {
		state := string(s.State)
		switch s.State {
		case pipeline.Pending:
			state = "not begun"
		case pipeline.Doing, pipeline.Undoing:
			state += " (unknown)"
		}
		rows[i] = []string{state, at(s.Name, s.Host), lasted(s.Seconds, "")}
		if s.UndoSeconds > 0 {
			rows[i] = append(rows[i], lasted(s.UndoSeconds, "back in "))
		}
	}
	return rows
}

func lasted(seconds float64, before string) string {
	if seconds == 0 {
		return ""
	}
	return before + round(time.Duration(seconds*float64(time.Second)))
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return printable(s)
}

func table(b *strings.Builder, title string, head, rows [][]string) {
	fmt.Fprintf(b, "\n%s\n", title)
	var t strings.Builder
	tw := tabwriter.NewWriter(&t, 0, 0, 2, ' ', 0)
	for _, row := range append(head, rows...) {
		// A Builder and the tabwriter before it cannot fail to write.
		fmt.Fprintln(tw, "  "+strings.Join(row, "\t"))
	}
	if err := tw.Flush(); err != nil {
		fmt.Fprintln(b, err)
	}
	for line := range strings.Lines(t.String()) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
}

func list(b *strings.Builder, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", title)
	for _, l := range lines {
		fmt.Fprintf(b, "  %s\n", indent(l))
	}
}

func indent(s string) string { return strings.ReplaceAll(printable(s), "\n", "\n  ") }

// printable keeps what a host sent from steering the reader's terminal, and from standing
// there in another order than it was written.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || !unicode.IsControl(r) && !unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp) {
			return r
		}
		return '�'
	}, s)
}
