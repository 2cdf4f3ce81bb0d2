package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/notes"
	"vmst.io/refit/hosts/github"
)

func notesCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "notes",
		Usage: "say what the notes of a release ask for: what refit does, and what is left to you",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "file", Usage: "the `BODY` of the release's page, as markdown"},
			&cli.StringFlag{Name: "release", Usage: "the `RELEASE`'s tag, such as v4.6.5: its notes are fetched from GitHub"},
			configFlag(), jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			n, err := s.notesOf(c)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(s.out, notesJSON{notes.Schema, n})
			}
			_, err = io.WriteString(s.out, notesText(n))
			return err
		},
	}
}

// notesOf reads the notes that the command line names.
func (s streams) notesOf(c *cli.Context) (notes.Notes, error) {
	file, release := c.String("file"), c.String("release")
	switch {
	case (file == "") == (release == ""):
		return notes.Notes{}, exitWith(exitUsage, errors.New("notes needs either --file and the body of a release's page, such as v4.6.5.md, or --release and its tag"))
	case file != "":
		n, err := readNotes(file)
		if err != nil {
			return n, exitWith(exitUsage, err)
		}
		return n, nil
	}
	v, err := builds.ParseVersion(release)
	if err != nil {
		return notes.Notes{}, exitWith(exitUsage, fmt.Errorf("--release %w", err))
	}
	conf, err := configOrDefaults(c)
	if err != nil {
		return notes.Notes{}, err
	}
	ctx, stop, done := trap(c.Context, s.notice)
	defer done()
	ctx, end := untouched(ctx, stop)
	defer end()
	body, err := conf.releaseBody(ctx, v)
	if err != nil {
		return notes.Notes{}, gitHubError(ctx, err)
	}
	n, err := notes.ParseOf(v, body)
	if err != nil {
		return n, exitWith(exitFailed, fmt.Errorf("cannot read the notes of %s: %w", v, err))
	}
	return n, nil
}

// configOrDefaults is refit.yml where it was named or lies here, and else what holds
// without one: some commands need no fleet.
func configOrDefaults(c *cli.Context) (config, error) {
	path := c.String("config")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && !c.IsSet("config") {
		return defaults(), nil
	}
	return loadConfig(path)
}

// gitHubError gives what kept GitHub from answering its exit code.
func gitHubError(ctx context.Context, err error) error {
	if err := interrupted(ctx); err != nil {
		return err
	}
	if errors.Is(err, github.ErrDenied) {
		return exitWith(exitAuth, err)
	}
	return exitWith(exitFailed, err)
}

// notesJSON is what the notes say, for programs.
type notesJSON struct {
	Schema string `json:"schema"` // "refit.notes/v1"
	notes.Notes
}

// readBody reads no more of a file than a body can be long.
func readBody(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("cannot read the notes: %w", err)
	}
	defer f.Close()
	body, err := io.ReadAll(io.LimitReader(f, notes.MaxBody+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read the notes: %w", err)
	}
	return body, nil
}

func readNotes(name string) (notes.Notes, error) {
	body, err := readBody(name)
	if err != nil {
		return notes.Notes{}, err
	}
	n, err := notes.Parse(body)
	if err != nil {
		return n, fmt.Errorf("cannot read the notes in %s: %w; give the markdown body of a release's page on GitHub", name, err)
	}
	return n, nil
}

// notesText is what the notes say, for people: what is left to them first.
func notesText(n notes.Notes) string {
	by := map[notes.By][]notes.Item{}
	for _, it := range notes.Judge(n, builds.Version{}) {
		by[it.By] = append(by[it.By], it)
	}
	var b strings.Builder
	name := n.Version.String()
	if name == "" {
		name = "a release that is not named"
	}
	switch left := len(by[notes.Admin]); left {
	case 0:
		fmt.Fprintf(&b, "%s: nothing is left to you\n", name)
	case 1:
		fmt.Fprintf(&b, "%s: 1 thing is left to you\n", name)
	default:
		fmt.Fprintf(&b, "%s: %d things are left to you\n", name, left)
	}
	if list := advisoriesText(n.Advisories); list != "" {
		fmt.Fprintf(&b, "security: %s\n", list)
	}
	if len(n.From) > 0 {
		fmt.Fprintf(&b, "written for an upgrade from %s; from an earlier release, read the notes between as well\n", joinText(n.From, builds.Version.String, ", "))
	}
	for _, it := range by[notes.Admin] {
		b.WriteString("\n" + itemText(it))
	}
	b.WriteByte('\n')
	flags := slices.DeleteFunc(slices.Clone(n.Flags), func(f string) bool {
		return slices.ContainsFunc(by[notes.Admin], func(it notes.Item) bool { return slices.Contains(it.Texts, f) })
	})
	itemName := func(it notes.Item) string { return it.Name }
	for _, line := range [][2]string{
		{"brings", strings.Join(flags, "; ")},
		{"needs", joinText(n.Dependencies, func(d notes.Dependency) string { return d.Name + " " + d.Min }, ", ")},
		{"refit does", joinText(by[notes.Refit], itemName, ", ")},
		{"to be known", joinText(by[notes.Nobody], itemName, ", ")},
	} {
		if line[1] != "" {
			fmt.Fprintf(&b, "%-12s %s\n", line[0], line[1])
		}
	}
	for _, it := range by[notes.Nobody] {
		for _, t := range it.Texts {
			if slices.Contains(n.Warnings, t) {
				fmt.Fprintf(&b, "%-12s > %s\n", "", cut(t, 160))
			}
		}
	}
	return b.String()
}

// itemText is an item with the first lines about it, and every command. Each line of
// somebody else's begins with a mark of ours: GitHub Actions obeys one that begins "::".
func itemText(it notes.Item) string {
	const most = 2
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", it.Name, it.Why)
	texts := slices.DeleteFunc(slices.Clone(it.Texts), func(t string) bool { return slices.Contains(it.Commands, t) })
	for i, t := range texts {
		if i == most {
			fmt.Fprintf(&b, "    … and %d more: --json has them whole\n", len(texts)-most)
			break
		}
		fmt.Fprintf(&b, "    > %s\n", cut(t, 160))
	}
	for _, c := range it.Commands {
		fmt.Fprintf(&b, "    $ %s\n", c)
	}
	return b.String()
}

func advisoriesText(list []notes.Advisory) string {
	return joinText(list, func(a notes.Advisory) string {
		if a.Severity == "" {
			return a.ID
		}
		return a.ID + " (" + a.Severity + ")"
	}, ", ")
}

func joinText[T any](list []T, text func(T) string, by string) string {
	var out []string
	for _, x := range list {
		out = append(out, text(x))
	}
	return strings.Join(out, by)
}

// cut shortens a text to so many characters; what is left out is in the JSON.
func cut(s string, limit int) string {
	if utf8.RuneCountInString(s) <= limit {
		return s
	}
	return string([]rune(s)[:limit-1]) + "…"
}
