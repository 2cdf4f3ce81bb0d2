package notes_test

import (
	"fmt"
	"html"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/builds/notes"
)

var (
	margin = regexp.MustCompile(`(?m)^[ \t]*(?:>[ \t]*)*`)
	opened = regexp.MustCompile("[*_`\\\\<&!\\[].*$")
	markup = regexp.MustCompile("[*_`\\\\]")
)

// claims are the faults of what was understood of a body: each id, version and command
// must stand in it, letter by letter, but for line breaks and markup between.
func claims(body []byte, n notes.Notes) []string {
	var faults []string
	src := string(body)
	src = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(src)
	// A line that goes on is one line to a shell.
	oneLine := func(s string) string { return strings.Join(strings.Fields(margin.ReplaceAllString(s, "")), " ") }
	flat := oneLine(src) + "\n" + oneLine(strings.ReplaceAll(src, "\\\n", "\n"))
	seen := html.UnescapeString(markup.ReplaceAllString(flat, ""))
	for _, a := range n.Advisories {
		if !strings.Contains(src, a.ID) {
			faults = append(faults, "advisory "+a.ID)
		}
		if a.Severity != "" && !strings.Contains(strings.ToLower(seen), a.Severity) {
			faults = append(faults, "severity "+a.Severity)
		}
	}
	for _, v := range append(slices.Clone(n.From), n.Version) {
		old := strings.ReplaceAll(v.Number(), "rc.", "rc")
		if !slices.ContainsFunc([]string{v.Number(), old, strings.Replace(old, "-", "", 1)}, func(s string) bool {
			return strings.Contains(flat, s) || strings.Contains(seen, s)
		}) {
			faults = append(faults, "version "+v.Number())
		}
	}
	for _, s := range n.Steps {
		if !strings.Contains(flat, oneLine(s.Command)) {
			faults = append(faults, "command "+s.Command)
		}
	}
	for _, d := range n.Dependencies {
		if !strings.Contains(seen, markup.ReplaceAllString(d.Min, "")) {
			faults = append(faults, "minimum "+d.Min)
		}
	}
	if n.Flags == nil || n.Advisories == nil || n.Dependencies == nil || n.Warnings == nil || n.Steps == nil || n.From == nil || n.Unknown == nil {
		faults = append(faults, "an array that is null")
	}
	return faults
}

// beyond are the faults of what was understood of the start of a body, held against
// what the whole one says: it may be less, and never something else.
func beyond(part, whole notes.Notes) []string {
	var faults []string
	if !part.Version.IsZero() && part.Version.Compare(whole.Version) != 0 {
		faults = append(faults, "version "+part.Version.String())
	}
	for _, a := range part.Advisories {
		if !slices.ContainsFunc(whole.Advisories, func(o notes.Advisory) bool { return o.ID == a.ID && (a.Severity == "" || o.Severity == a.Severity) }) {
			faults = append(faults, fmt.Sprint("advisory ", a))
		}
	}
	for _, d := range part.Dependencies {
		if !slices.Contains(whole.Dependencies, d) {
			faults = append(faults, fmt.Sprint("dependency ", d))
		}
	}
	for _, v := range part.From {
		if !slices.Contains(whole.From, v) && !strings.Contains(fmt.Sprint(whole.From), v.String()) {
			faults = append(faults, "from "+v.String())
		}
	}
	for i, f := range part.Flags {
		// The last may be cut, also in the middle of markup.
		start := opened.ReplaceAllString(f, "")
		if !slices.ContainsFunc(whole.Flags, func(o string) bool { return o == f || (i == len(part.Flags)-1 && strings.HasPrefix(o, start)) }) {
			faults = append(faults, "flag "+f)
		}
	}
	for _, s := range part.Steps {
		if !slices.ContainsFunc(whole.Steps, func(o notes.Step) bool {
			// Of a step at which the body ends, its text alone may be there.
			return (s.Command == "" || s.Command == o.Command && s.Target == o.Target) && (s.Phase == o.Phase || s.Phase == notes.Before)
		}) {
			faults = append(faults, fmt.Sprintf("step %+v", s))
		}
	}
	return faults
}

func TestWhatIsClaimedStandsInTheBody(t *testing.T) {
	for name, body := range everyBody(t) {
		for _, fault := range claims(body, parse(t, body)) {
			t.Errorf("%s: claimed, and not there: %s", name, fault)
		}
	}
	invented := parse(t, []byte("## Upgrade notes\n"))
	invented.Advisories = []notes.Advisory{{ID: "CVE-2030-1234", Severity: "low"}}
	invented.Steps = []notes.Step{{Command: "yarn install"}}
	invented.From = nil
	if got := claims([]byte("## Upgrade notes\n"), invented); len(got) != 4 {
		t.Errorf("the check sees %q", got)
	}
}

// everyBody is every fixture, and every real body where there are any.
func everyBody(t testing.TB) map[string][]byte {
	out := bodies(t, folder)
	if dir := os.Getenv(realBodies); dir != "" {
		for name, body := range bodies(t, dir) {
			out["real "+name] = body
		}
	}
	return out
}

func TestABodyThatIsCutSaysLessAndNothingElse(t *testing.T) {
	for name, body := range everyBody(t) {
		whole := parse(t, body)
		// As many cuts as go through a hundred thousand bytes; fuzzing tries the others.
		step := 1 + len(body)*len(body)/200_000
		for cut := 1; cut < len(body); cut += step {
			part, err := notes.Parse(body[:cut])
			if err != nil {
				continue // in the middle of a character
			}
			for _, fault := range append(beyond(part, whole), claims(body[:cut], part)...) {
				t.Fatalf("%s, cut after %d bytes (…%q), claims %s", name, cut, body[max(0, cut-60):cut], fault)
			}
			if !slices.ContainsFunc(part.Steps, func(s notes.Step) bool { return s.Phase == notes.During }) && !slices.Contains(part.Unknown, notes.NoSteps) {
				t.Fatalf("%s, cut after %d bytes, passes for notes that ask for nothing", name, cut)
			}
		}
	}
}
