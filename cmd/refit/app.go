package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"vmst.io/refit/pipeline/report"
)

// Set by the linker in releases ("-X main.version=v1.2.3"): the version, and from which
// commit of which repository on GitHub it is; empty elsewhere.
var (
	version    = "dev"
	commit     string
	repository string
)

// streams are where a command reads and writes: data goes to out, progress and
// errors to err.
type streams struct {
	in       io.Reader
	out, err io.Writer
	// job is the job of GitHub Actions that the command runs in; nil for none.
	job *actions
}

// serial lets one write through at a time: signals are told from beside the command.
type serial struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *serial) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(b)
}

// run runs one command line and returns its exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	// The node side comes before everything else: it reads no configuration, and
	// its start must cost nothing.
	if len(args) >= 2 && args[1] == "node" {
		return runNode(ctx, args[2:], in, out, errw)
	}
	// A file, and so a terminal, takes writes from several goroutines; others need not.
	if _, ok := errw.(*os.File); !ok {
		errw = &serial{w: errw}
	}
	job := inActions(os.Getenv, errw)
	if job != nil {
		out, errw = report.NewMuted(out), report.NewMuted(errw)
	}
	err := newApp(streams{in, &counted{Writer: out}, errw, job}).RunContext(ctx, args)
	if err != nil && err.Error() != "" {
		fmt.Fprintln(errw, "refit: "+err.Error())
	}
	code := exitCode(err)
	name := ""
	if len(args) > 1 {
		name = args[1]
	}
	job.end(name, code, err)
	return code
}

func newApp(s streams) *cli.App {
	usage := func(err error) error { return exitWith(exitUsage, err) }
	app := &cli.App{
		Name:            "refit",
		Usage:           "upgrade a fleet that runs unmodified Mastodon, one node at a time, unnoticed by its users",
		Version:         version,
		Reader:          s.in,
		Writer:          s.out,
		ErrWriter:       s.err,
		Suggest:         true,
		HideHelpCommand: true,
		ExitErrHandler:  func(*cli.Context, error) {},
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return usage(fmt.Errorf("%w (see refit --help)", err))
		},
		Action: func(c *cli.Context) error {
			if name := c.Args().First(); name != "" {
				return usage(fmt.Errorf("there is no command %q (see refit --help)", name))
			}
			return cli.ShowAppHelp(c)
		},
		CustomAppHelpTemplate: cli.AppHelpTemplate + "\nEXIT STATUS:\n" + exitHelp(),
	}
	app.Commands = []*cli.Command{
		planCommand(s), upgradeCommand(s), resumeCommand(s), rollbackCommand(s), statusCommand(s), historyCommand(s), showCommand(s), verifyCommand(s),
		doctorCommand(s), unlockCommand(s), sealCommand(s), replaceCommand(s), alignCommand(s), addCommand(s), rehearseCommand(s), sweepCommand(s), buildCommand(s), placeCommand(s), artifactsCommand(s), watchCommand(s), releasesCommand(s), approveCommand(s), notesCommand(s), driftCommand(s), templatesCommand(s), initCommand(s), exampleCommand(s),
		completionCommand(s), manCommand(s),
	}
	for _, c := range app.Commands {
		c.OnUsageError = app.OnUsageError
		c.HideHelpCommand = true
		c.CustomHelpTemplate = cli.CommandHelpTemplate + "\nEXIT STATUS:\n" + exitHelp()
		c.Before = s.refusing(noPositionals)
		if c.ArgsUsage != "" {
			c.Before = s.refusing(oneRun)
		}
		c.Action = s.refusing(c.Action)
	}
	return app
}

// noPositionals refuses words that are no flags: urfave/cli v2 stops reading
// flags at the first of them, so "upgrade v4.6.5 --dry-run" would run for real.
func noPositionals(c *cli.Context) error {
	if c.Args().Present() {
		return exitWith(exitUsage, fmt.Errorf("%s takes no words beside its flags, and %q is one (see refit %s --help)",
			c.Command.Name, c.Args().First(), c.Command.Name))
	}
	// Not cli's own Required: its error comes before this one and has no exit code.
	for _, f := range c.Command.Flags {
		if slices.Contains(f.Names(), "to") && c.String("to") == "" && c.Command.Name != "resume" && c.Command.Name != "rollback" {
			return exitWith(exitUsage, fmt.Errorf("%s needs --to and a release's tag, such as v4.5.15", c.Command.Name))
		}
	}
	if c.String("to") != "" && !c.Bool("from-hosts") && (c.Command.Name == "resume" || c.Command.Name == "rollback") {
		return exitWith(exitUsage, fmt.Errorf("%s takes --to only with --from-hosts: the journal knows where the run goes", c.Command.Name))
	}
	return nil
}

func configFlag() cli.Flag {
	return &cli.StringFlag{Name: "config", Aliases: []string{"c"}, Value: "refit.yml", EnvVars: []string{"REFIT_CONFIG"}, Usage: "the fleet's `FILE`"}
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print data as JSON, with a schema field, on standard output"}
}

func toFlag() cli.Flag {
	return &cli.StringFlag{Name: "to", Usage: "the `RELEASE`'s tag, such as v4.5.15"}
}

func yesFlag() cli.Flag {
	return &cli.BoolFlag{Name: "yes", Usage: "do not ask for approval"}
}

// printJSON writes v, indented, on a line of its own.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
