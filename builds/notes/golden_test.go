package notes_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/notes"
)

const folder = "../../testdata/notes"

// realBodies names the folder of bodies of real releases, which are not ours to keep.
const realBodies = "REFIT_RELEASE_NOTES"

// golden compares with a file of testdata/notes. REFIT_GOLDEN=write writes it anew.
func golden(t *testing.T, name string, v any) {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, name)
	if os.Getenv("REFIT_GOLDEN") == "write" {
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Bytes(); !bytes.Equal(want, got) {
		t.Errorf("not as %s (REFIT_GOLDEN=write writes it anew):\n%s", path, got)
	}
}

// bodies are the markdown files of a folder, by name without the ending.
func bodies(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".md")
		if name == "README" {
			continue
		}
		if out[name], err = os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
	if len(out) < 10 {
		t.Fatalf("%s holds %d bodies: the test sees too little", dir, len(out))
	}
	return out
}

func parse(t testing.TB, body []byte) notes.Notes {
	t.Helper()
	n, err := notes.Parse(body)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

type judged struct {
	Name     string   `json:"name"`
	By       notes.By `json:"by"`
	Commands []string `json:"commands,omitempty"`
}

func judgedOf(n notes.Notes) []judged {
	out := []judged{}
	for _, it := range notes.Judge(n, builds.Version{}) {
		out = append(out, judged{it.Name, it.By, it.Commands})
	}
	return out
}

func TestEveryFormOfNotesIsReadAsWritten(t *testing.T) {
	for name, body := range bodies(t, folder) {
		n := parse(t, body)
		golden(t, name+".json", struct {
			Notes notes.Notes `json:"notes"`
			Items []judged    `json:"items"`
		}{n, judgedOf(n)})
	}
}

// facts are what may be kept of a real body: no prose of upstream's.
type facts struct {
	Version      builds.Version     `json:"version"`
	Flags        []string           `json:"flags"` // our name of each
	Advisories   []notes.Advisory   `json:"advisories"`
	Dependencies []notes.Dependency `json:"dependencies"`
	Warnings     []string           `json:"warnings"` // our name, words, hash
	Steps        []string           `json:"steps"`    // phase, target, our name; the command, or words and hash
	From         []builds.Version   `json:"from"`
	Unknown      []string           `json:"unknown"`
	Items        []judged           `json:"items"`
}

func factsOf(n notes.Notes) facts {
	f := facts{
		Version: n.Version, Flags: []string{}, Advisories: n.Advisories, Dependencies: n.Dependencies, Warnings: []string{},
		Steps: []string{}, From: n.From, Unknown: []string{}, Items: judgedOf(n),
	}
	for _, s := range n.Flags {
		f.Flags = append(f.Flags, subjectOf(notes.Notes{Flags: []string{s}}))
	}
	for _, s := range n.Warnings {
		f.Warnings = append(f.Warnings, subjectOf(notes.Notes{Warnings: []string{s}})+": "+print(s))
	}
	for _, s := range n.Steps {
		what := "(docker)"
		if s.Target != notes.Docker {
			what = subjectOf(notes.Notes{Steps: []notes.Step{s}})
		}
		how := s.Command
		if how == "" {
			how = print(s.Text)
		}
		f.Steps = append(f.Steps, fmt.Sprintf("%s %s %s: %s", s.Phase, s.Target, what, how))
	}
	for _, s := range n.Unknown {
		f.Unknown = append(f.Unknown, print(s))
	}
	return f
}

// subjectOf is our name for the one thing that n holds.
func subjectOf(n notes.Notes) string { return notes.Judge(n, builds.Version{})[0].Name }

// print stands for a text: how long it is, and which.
func print(s string) string {
	sum := sha256.Sum256([]byte(s))
	return fmt.Sprintf("%d words, %s", len(strings.Fields(s)), hex.EncodeToString(sum[:6]))
}

// Every file of testdata/notes/real was read beside its body by eye.
func TestEveryRealBodyIsReadAsWasCheckedByEye(t *testing.T) {
	dir := os.Getenv(realBodies)
	if dir == "" {
		t.Skipf("the bodies of real releases are not kept here: name their folder in %s", realBodies)
	}
	seen := bodies(t, dir)
	for name, body := range seen {
		golden(t, filepath.Join("real", name+".json"), factsOf(parse(t, body)))
	}
	kept, err := filepath.Glob(filepath.Join(folder, "real", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kept {
		if name := strings.TrimSuffix(filepath.Base(k), ".json"); seen[name] == nil {
			t.Errorf("%s has no body in %s", k, dir)
		}
	}
}

func TestABodyWrittenInABrowserIsReadAlike(t *testing.T) {
	for name, body := range bodies(t, folder) {
		want := fmt.Sprint(parse(t, body))
		for how, other := range map[string][]byte{
			"carriage returns":     bytes.ReplaceAll(body, []byte("\n"), []byte("\r\n")),
			"a byte order mark":    append([]byte("\ufeff"), body...),
			"blank lines around":   []byte("\n\n" + string(body) + "\n\n"),
			"blanks at line ends":  bytes.ReplaceAll(body, []byte("\n\n"), []byte(" \n\n")),
			"warning signs in one": bytes.ReplaceAll(body, []byte("⚠️"), []byte("⚠")),
		} {
			if name == "no-last-newline" && strings.HasPrefix(how, "blank") {
				continue
			}
			if got := fmt.Sprint(parse(t, other)); got != want {
				t.Errorf("%s with %s is read as\n%s\nnot\n%s", name, how, got, want)
			}
		}
	}
}
