package report

import (
	"fmt"
	"html"
	"io"
	"strings"
	"sync"
	"time"

	"vmst.io/refit/pipeline"
)

// A runner of GitHub Actions reads what a step prints: a line that begins with "::", blanks
// aside, is a command to it, and so is "##[" anywhere in a line (actions/runner,
// ActionCommand.cs). Lines end at LF, at CR and at both. Summaries are Markdown with HTML.
// What hosts and upstream say stands in both.

// Muted passes on what is written and breaks up what a runner would take for a command. The
// last character of its mark is written as JSON writes it, so JSON stays the same data.
type Muted struct {
	mu sync.Mutex
	w  io.Writer
	// begins: nothing but blanks has come on this line. colons and hashes count those at
	// the end of what has come.
	begins         bool
	colons, hashes int
}

// NewMuted makes a Muted that writes to w.
func NewMuted(w io.Writer) *Muted { return &Muted{w: w, begins: true} }

// Write writes all of b, broken up where it must be.
func (m *Muted) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begins = true // another writer may have ended the line on the same pipe
	out := make([]byte, 0, len(b))
	for _, c := range b {
		switch {
		case c == ':' && m.begins && m.colons > 0:
			out = append(out, `\u003a`...)
			m.begins, m.colons = false, 0
			continue
		case c == '[' && m.hashes > 1:
			out = append(out, `\u005b`...)
			m.begins, m.colons, m.hashes = false, 0, 0
			continue
		case c == '\n', c == '\r':
			m.begins, m.colons, m.hashes = true, 0, 0
		case c == ':' && m.begins:
			m.colons, m.hashes = 1, 0
		case c == '#':
			m.begins, m.colons = false, 0
			m.hashes++
		case c <= ' ' || c >= 0x7f:
			// Blanks of any kind, also those outside ASCII, do not begin a line for a runner.
			m.begins, m.colons, m.hashes = m.begins && m.colons == 0, 0, 0
		default:
			m.begins, m.colons, m.hashes = false, 0, 0
		}
		out = append(out, c)
	}
	if _, err := m.w.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Annotation is the command by which a step marks itself with a text: level is "error",
// "warning" or "notice". Whatever the text holds stays in it.
func Annotation(level, title, text string) string {
	value := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	const most = 4000 // GitHub shows 4 KB of one
	return fmt.Sprintf("::%s title=%s::%s\n", level, property.Replace(cut(printable(title), 200)), value.Replace(cut(printable(text), most)))
}

// cut shortens a text to so many characters at most, and shows that it did.
func cut(s string, most int) string {
	n := 0
	for i := range s {
		if n++; n > most {
			return s[:i] + "…"
		}
	}
	return s
}

// Inline is a text within a line or a cell of Markdown: it says itself and nothing else.
// Every mark stands as an entity, which is text wherever Markdown reads it.
func Inline(s string) string {
	var b strings.Builder
	for _, r := range cut(printable(s), 500) {
		switch {
		case r == '\n' || r == '\t':
			b.WriteByte(' ')
		case r < 0x80 && r != ' ' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z'):
			fmt.Fprintf(&b, "&#%d;", r)
		default:
			b.WriteRune(r)
		}
	}
	return strings.TrimSpace(b.String())
}

// Block is a text of several lines as it is, in a block of its own. Markdown reads nothing
// until the closing tag, and the text holds no tag.
func Block(s string) string {
	const most = 60_000
	return "<pre>" + html.EscapeString(strings.Trim(cut(printable(s), most), "\n")) + "\n</pre>\n"
}

// Folded is a block that is shown on request; title is a text.
func Folded(title, text string) string {
	// The empty line ends the first tags' own block, which would end at the text's first.
	return "\n<details><summary>" + Inline(title) + "</summary>\n\n" + Block(text) + "</details>\n\n"
}

// Rows is a table of texts, the first row its head; nothing of a table without more rows.
func Rows(rows ...[]string) string {
	if len(rows) < 2 {
		return ""
	}
	var b strings.Builder
	b.WriteByte('\n')
	for i, row := range rows {
		for _, cell := range row {
			b.WriteString("| " + Inline(cell) + " ")
		}
		b.WriteString("|\n")
		if i == 0 {
			b.WriteString(strings.Repeat("|---", len(row)) + "|\n")
		}
	}
	return b.String() + "\n"
}

// List is a list of texts; nothing of an empty one.
func List(title string, lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n**%s**\n\n", Inline(title))
	for _, line := range lines {
		b.WriteString("- " + Inline(line) + "\n")
	}
	return b.String()
}

// Markdown is the report for a job's summary: what Text says, in the same order.
func (r Report) Markdown() string {
	var b strings.Builder
	mark := "❌ "
	switch {
	case r.Status == pipeline.Done, r.Status == pipeline.Undone && r.Asked:
		mark = "✅ "
	case r.Status == pipeline.Stopped, r.Status == pipeline.Interrupted:
		mark = "⏸ "
	}
	b.WriteString("### " + mark + Inline(r.headline()) + "\n")
	if r.Next != "" {
		b.WriteString("\nNext: **" + Inline(r.Next) + "**\n")
	}
	var why strings.Builder
	r.cause(&why)
	if why.Len() > 0 {
		b.WriteString("\n" + Block(why.String()))
	}
	hosts := [][]string{{"host", "roles", "release", "state"}}
	b.WriteString(Rows(append(hosts, r.hostRows()...)...))
	b.WriteString(List("What remains", r.Remains))
	b.WriteString(List("To know", r.Notes))
	steps := [][]string{{"step", "state", "took", "taken back in"}}
	for _, s := range r.Steps {
		steps = append(steps, []string{at(s.Name, s.Host), string(s.State), lasted(s.Seconds, ""), lasted(s.UndoSeconds, "")})
	}
	b.WriteString(Rows(steps...))
	fmt.Fprintf(&b, "\nrun %s, %s\n", Inline(r.Run), Inline(round(time.Duration(r.Seconds*float64(time.Second)))))
	return b.String()
}
