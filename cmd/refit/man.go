package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

func manCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:   "man",
		Usage:  "print refit's man page",
		Hidden: true,
		Action: func(c *cli.Context) error {
			_, err := s.out.Write([]byte(manPage(c.App)))
			return err
		},
	}
}

// manPage is refit(1). It carries neither a date nor a version: the same source gives the
// same page, and so the same package.
func manPage(app *cli.App) string {
	var b strings.Builder
	b.WriteString(".TH REFIT 1\n.SH NAME\nrefit \\- " + roff(app.Usage) + "\n")
	b.WriteString(".SH SYNOPSIS\n.B refit\n.I COMMAND\n[\\fIFLAGS\\fR]\n")
	b.WriteString(".SH DESCRIPTION\n" + roff("refit moves a fleet that runs unmodified Mastodon from source from one release to another, one node at a time, "+
		"and goes back by itself if a gate fails. refit.yml describes the fleet; refit example prints one with comments. "+
		"Data goes to standard output, progress and errors to standard error. No command takes words beside its flags.") + "\n")
	b.WriteString(".SH COMMANDS\n")
	for _, w := range words(app) {
		fmt.Fprintf(&b, ".SS refit %s\n%s\n", roff(w.name), roff(w.usage))
		for _, f := range w.flags {
			b.WriteString(".TP\n")
			for i, name := range f.names {
				if i > 0 {
					b.WriteString(", ")
				}
				fmt.Fprintf(&b, "\\fB%s\\fR", roff(name))
			}
			if f.value != "" {
				fmt.Fprintf(&b, " \\fI%s\\fR", roff(f.value))
			}
			text := f.usage
			if f.preset != "" {
				text += " (without it: " + f.preset + ")"
			}
			if f.env != "" {
				text += "; " + f.env + " in the environment says the same"
			}
			b.WriteString("\n" + roff(text) + "\n")
		}
	}
	b.WriteString(".SH EXIT STATUS\n")
	for _, e := range exitTable {
		fmt.Fprintf(&b, ".TP\n.B %d\n%s\n", e.code, roff(e.meaning))
	}
	b.WriteString(".SH ENVIRONMENT\n.TP\n.B XDG_STATE_HOME\n" + roff("where copies of journals and the watcher's memory lie (without it: ~/.local/state)") + "\n")
	b.WriteString(".TP\n.B XDG_CACHE_HOME\n" + roff("where what was read of upstream is kept (without it: ~/.cache)") + "\n")
	b.WriteString(".TP\n.B GITHUB_ACTIONS\n" + roff("if it is true, refit writes the job's summary and outputs, marks refusals, and prints nothing that a runner takes for a command") + "\n")
	return b.String()
}

// roff makes a text that says itself: no request, no escape, no hyphen for a minus.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "\n", " ").Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
