package configs

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"
)

// History is the page of a run: its path in the repository, history/DATE-vX.md with
// the minute in which the run began, and its content. Words that come from others
// (names, notes, reasons) are shown as text, whatever they hold: no link, no picture,
// no mention and no markup comes of them.
func History(e Entry) (name string, content []byte) {
	began := e.Started.UTC()
	name = path.Join(HistoryDir, began.Format("2006-01-02-1504")+"-"+fileWord(e.To)+".md")
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# %s\n", heading(e))
	line("| | |\n|---|---|")
	row := func(what, value string) {
		if value != "" {
			line("| %s | %s |", what, value)
		}
	}
	row("run", code(e.Run))
	row("by", list(e.By))
	row("began", stamp(e.Started))
	row("ended", stamp(e.Ended))
	if !e.Ended.IsZero() && !e.Started.IsZero() {
		row("took", seconds(e.Ended.Sub(e.Started)))
	}
	row("plan", code(e.Plan))
	row("commit", code(e.Commit))
	row("tree", code(e.Tree))
	row("artifact", code(e.Artifact))
	if e.Why != "" {
		line("\n%s", shown(e.Why))
	}
	if len(e.Approvals) > 0 {
		line("\n## Approved by\n")
		for _, a := range e.Approvals {
			text := "- " + shown(a.By)
			if a.Where != "" {
				text += ", by " + shown(a.Where)
			}
			if !a.At.IsZero() {
				text += ", " + stamp(a.At)
			}
			if a.Key != "" {
				text += ", signed with " + code(a.Key)
			}
			line("%s", text)
		}
	}
	if len(e.Decisions) > 0 {
		line("\n## Decided on the way\n")
		for _, d := range e.Decisions {
			line("- %s", shown(d))
		}
	}
	if len(e.Steps) > 0 {
		line("\n## Steps\n\n| step | began | took | outcome | |\n|---|---|---:|---|---|")
		for _, s := range e.Steps {
			clock, took := "", ""
			if !s.Started.IsZero() {
				clock = s.Started.UTC().Format(time.TimeOnly)
			}
			if s.Took > 0 {
				took = seconds(s.Took)
			}
			line("| %s | %s | %s | %s | %s |", shown(s.Name), clock, took, shown(s.Outcome), shown(s.Note))
		}
	}
	return name, []byte(b.String())
}

func heading(e Entry) string {
	deed := shown(e.Deed)
	if e.To != "" {
		deed += " to " + shown(e.To)
	}
	if e.From != "" && e.From != e.To {
		deed += " from " + shown(e.From)
	}
	if e.Fleet != "" {
		deed += " of " + shown(e.Fleet)
	}
	if e.Outcome != "" {
		deed += ": " + shown(e.Outcome)
	}
	return deed
}

var notOfFile = regexp.MustCompile(`[^A-Za-z0-9.+_]+`)

// fileWord is a version as part of a file's name.
func fileWord(version string) string {
	word := strings.Trim(notOfFile.ReplaceAllString(version, "-"), "-.")
	if word == "" {
		return "run"
	}
	return word[:min(len(word), 60)]
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// seconds is a duration in seconds with one decimal: columns that can be compared.
func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func list(words []string) string {
	var out []string
	for _, w := range words {
		out = append(out, shown(w))
	}
	return strings.Join(out, ", ")
}

// markup are the characters that mean something to markdown or to GitHub.
var markup = func() *strings.Replacer {
	var pairs []string
	for _, c := range "\\`*_{}[]()<>#|~!" {
		pairs = append(pairs, string(c), "\\"+string(c))
	}
	// GitHub makes a mention of @name and a link of a bare address, escaped or not.
	return strings.NewReplacer(append(pairs, "&", "&amp;", "@", "&#64;", "://", "&#58;//")...)
}()

// shown is a text on one line that markdown shows as it is.
func shown(text string) string {
	return markup.Replace(strings.Join(strings.Fields(strings.Map(printable, text)), " "))
}

// code is a word as code; what a code span could not hold is cut out.
func code(text string) string {
	text = strings.Join(strings.Fields(strings.Map(printable, text)), " ")
	text = strings.NewReplacer("`", "", "|", "").Replace(text)
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

// printable drops what cannot be seen and turns blanks of all kinds into one.
func printable(r rune) rune {
	switch {
	case r == '\n' || r == '\t' || r == '\r':
		return ' '
	case unprintable(r) && r != '\\':
		return -1
	}
	return r
}
