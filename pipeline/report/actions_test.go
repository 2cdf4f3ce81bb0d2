package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"html"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	renderer "github.com/yuin/goldmark/renderer/html"

	"vmst.io/refit/pipeline"
)

// commands are the lines of a step's output that a runner takes for commands, told as
// actions/runner tells them: TrimStart and "::", or "##[" anywhere.
func commands(output string) []string {
	var out []string
	for _, line := range strings.FieldsFunc(output, func(r rune) bool { return r == '\n' || r == '\r' }) {
		if strings.HasPrefix(strings.TrimLeftFunc(line, unicode.IsSpace), "::") || strings.Contains(line, "##[") {
			out = append(out, line)
		}
	}
	return out
}

// hostile are texts that hosts and upstream could say.
var hostile = []string{
	"::error title=x::owned", "  ::set-output name=plan::0000", "a\n::add-path::/tmp/evil", "a\r::stop-commands::x", "a\r\n\t::add-mask::e",
	"##[error]owned", "progress ##[add-mask]x", "###[group]x", "\u00a0::warning::x", "\u2003\u2028::warning::x", "\ufeff::debug::x", "\v\f::debug::x", ":::error::x",
	"</pre><img src=x onerror=alert(1)>", "</details></summary>\n\n# owned", "a\n\n\n[click](javascript:alert(1))", "`` ` `` | a | b |\n|---|---|\n| x | y |",
	"![i](https://evil.example/p.png)", "<!-- ", "]]>", "<script>alert(1)</script>", "\\", "\\`", "&lt;b&gt; &#60;b&#62;", "* x\n* y\n\n1. z", "- [ ] x", "> q", "---", "===",
	"https://evil.example www.evil.example a@evil.example", "```\n<b>x</b>\n```", "~~x~~ **y** _z_", "[a]: https://evil.example\n\n[a]", "$x$ $$y$$", "\x1b]0;x\x07\x1b[31mred", "\u202egnp.exe",
}

func TestNothingThatAHostSaysIsACommandToTheRunner(t *testing.T) {
	for _, text := range hostile {
		for size := 1; size <= len(text); size++ {
			var b bytes.Buffer
			m := NewMuted(&b)
			for part := range slices.Chunk([]byte(text), size) {
				if n, err := m.Write(part); n != len(part) || err != nil {
					t.Fatalf("%d of %d bytes, %v", n, len(part), err)
				}
			}
			if got := commands(b.String()); got != nil {
				t.Errorf("%q in writes of %d bytes is a command: %q", text, size, got)
			}
			if plain := strings.NewReplacer(`\u003a`, ":", `\u005b`, "[").Replace(b.String()); plain != text {
				t.Errorf("%q became %q", text, plain)
			}
		}
	}
	if commands(" ::error::x") == nil || commands("x ##[error]y") == nil {
		t.Error("the test knows no command")
	}
}

func TestALineThatAnotherWriterEndedOnTheSamePipeBeginsANewOne(t *testing.T) {
	var pipe bytes.Buffer
	data, progress := NewMuted(&pipe), NewMuted(&pipe)
	for _, w := range []struct {
		to   *Muted
		text string
	}{{data, "half a line"}, {progress, "\n"}, {data, "::error::owned\n"}} {
		if _, err := w.to.Write([]byte(w.text)); err != nil {
			t.Fatal(err)
		}
	}
	if got := commands(pipe.String()); got != nil {
		t.Errorf("%q", got)
	}
}

func TestWhatIsNoCommandStaysAsItIsAndJSONStaysTheSameData(t *testing.T) {
	var b bytes.Buffer
	m := NewMuted(&b)
	for _, line := range []string{"a::b Foo::Bar ::\n", "time: 10:20::30\n", "# x\n## [y]\n: :x\n"} {
		if _, err := m.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if want := "a::b Foo::Bar ::\ntime: 10:20::30\n# x\n## [y]\n: :x\n"; b.String() != want {
		t.Errorf("%q", b.String())
	}
	b.Reset()
	if err := json.NewEncoder(m).Encode(hostile); err != nil {
		t.Fatal(err)
	}
	var back []string
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || !slices.Equal(back, hostile) || commands(b.String()) != nil {
		t.Errorf("%v, %q", err, back)
	}
	broken := errors.New("gone")
	if _, err := NewMuted(deafEnd{broken}).Write([]byte("x")); !errors.Is(err, broken) {
		t.Errorf("a writer's error is lost: %v", err)
	}
}

type deafEnd struct{ err error }

func (f deafEnd) Write([]byte) (int, error) { return 0, f.err }

func TestAnAnnotationIsOneCommandWhateverItSays(t *testing.T) {
	for _, text := range hostile {
		got := Annotation("error", text, text)
		if lines := strings.FieldsFunc(got, func(r rune) bool { return r == '\n' || r == '\r' }); len(lines) != 1 || !strings.HasPrefix(got, "::error title=") {
			t.Errorf("%q", got)
		}
		if properties, _, _ := strings.Cut(strings.TrimPrefix(got, "::error "), "::"); strings.ContainsAny(properties, ":,") {
			t.Errorf("the title has a property of its own: %q", got)
		}
	}
	if got := Annotation("error", "refit: plan", "50% full\nnow"); got != "::error title=refit%3A plan::50%25 full%0Anow\n" {
		t.Errorf("%q", got)
	}
}

var (
	tag   = regexp.MustCompile(`<[^>]*>`)
	blank = regexp.MustCompile(`\s+`)
)

// rendered are the tags that a page has as GitHub's Markdown, with HTML let through, and
// the words on it.
func rendered(t *testing.T, page string) (tags []string, text string) {
	t.Helper()
	var b bytes.Buffer
	if err := goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithRendererOptions(renderer.WithUnsafe())).Convert([]byte(page), &b); err != nil {
		t.Fatal(err)
	}
	tags = tag.FindAllString(b.String(), -1)
	return tags, blank.ReplaceAllString(html.UnescapeString(tag.ReplaceAllString(b.String(), " ")), "")
}

// hostileReport says one text in every place where a report has one.
func hostileReport(text string) Report {
	return Summarise(pipeline.Plan{ID: "r-1" + text, Kind: "upgrade", From: "v4.5.14", To: "v4.5.15" + text},
		pipeline.Result{
			Status: pipeline.Person, Step: "roll web kirk" + text, Host: "kirk", Err: errors.New("x " + text), State: "x " + text, Next: "x " + text,
			UndoStep: "x" + text, UndoErr: errors.New("x " + text), JournalErr: errors.New("y " + text), Proof: []pipeline.Proof{{From: "x" + text, Lines: []string{"x", text, "", "y"}}},
			Steps: []pipeline.StepResult{{Name: "x" + text, Host: "h" + text, State: pipeline.Finish, Seconds: 3}},
		},
		Extra{Exit: 7, Hosts: []HostRow{{Name: "x" + text, Roles: "web", Release: "x" + text, State: "x" + text}}, Remains: []string{"x" + text}, Notes: []string{"x" + text}})
}

func TestNothingThatAHostSaysMarksUpASummary(t *testing.T) {
	pages := map[string]func(string) string{
		"report": func(text string) string { return hostileReport(text).Markdown() + "\n\nend\n" },
		"folded": func(text string) string { return Folded("x"+text, "x\n\n"+text+"\n\ny") + "\nend\n" },
		"list":   func(text string) string { return List("x"+text, []string{"x" + text, text + "y"}) + "\nend\n" },
		"rows": func(text string) string {
			return Rows([]string{"x"}, []string{"x" + text}, []string{text + "y"}) + "\nend\n"
		},
	}
	for name, page := range pages {
		want, _ := rendered(t, page("kind"))
		if len(want) < 4 {
			t.Fatalf("%s: the plain page has %d tags only", name, len(want))
		}
		for _, text := range hostile {
			got, words := rendered(t, page(text))
			if !slices.Equal(got, want) {
				t.Errorf("%s: %q changes the page:\n%q\nwant\n%q", name, text, got, want)
			}
			if said := blank.ReplaceAllString(printable(text), ""); !strings.Contains(words, tag.ReplaceAllString(said, "")) && !strings.Contains(words, said) {
				t.Errorf("%s: %q does not stand on the page as it is:\n%s", name, text, words)
			}
		}
	}
}

func TestASummaryBeginsWithTheLineThatMustBeRightAndTheNextCommand(t *testing.T) {
	done := Summarise(pipeline.Plan{ID: "r-2", Kind: "upgrade", From: "v4.5.14", To: "v4.5.15"}, pipeline.Result{Status: pipeline.Done}, Extra{})
	if got := html.UnescapeString(done.Markdown()); !strings.HasPrefix(got, "### ✅ DONE: upgrade v4.5.14 → v4.5.15 (run r-2") || strings.Contains(got, "Next") {
		t.Errorf("%s", got)
	}
	half := Summarise(pipeline.Plan{ID: "r-3", Kind: "upgrade", From: "v4.5.14", To: "v4.5.15"}, pipeline.Result{Status: pipeline.Interrupted, Err: errors.New("aborted")}, Extra{Exit: 130})
	if got := html.UnescapeString(half.Markdown()); !strings.HasPrefix(got, "### ⏸ BROKEN OFF") || !strings.Contains(got, "\nNext: **refit resume, or to go back: refit rollback**\n") {
		t.Errorf("%s", got)
	}
}
