// Command lab raises, breaks and ends a small fleet of real hosts on this machine.
// Package hosts/lab does the work; here are the words.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/hosts/lab"
)

// Exit codes of lab.
const (
	exitFailed = 1
	exitUsage  = 2
	exitTaken  = 5
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := app().RunContext(ctx, os.Args)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(code(err))
	}
}

func code(err error) int {
	var usage *usageError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, lab.ErrTaken):
		return exitTaken
	}
	return exitFailed
}

// usageError is a word used wrongly.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func app() *cli.App {
	words := []*cli.Command{checkWord(), upWord(), downWord(), statusWord(), execWord(), sshWord(), loadWord(), deployWord(), demoWord(), benchWord(), bytesWord(), agentWord(), cloudWord()}
	words = append(append(words, faultWords()...), hiddenWords()...)
	wrong := func(_ *cli.Context, err error, _ bool) error { return &usageError{err.Error()} }
	for _, w := range words {
		w.OnUsageError = wrong
	}
	return &cli.App{
		Name:            "lab",
		Usage:           "a small fleet of real hosts on this machine, to upgrade and to break",
		HideHelpCommand: true,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dir", Value: ".lab", Usage: "the lab's `DIRECTORY`: keys, known hosts, refit.yml, snapshots"},
			&cli.StringFlag{Name: "cache", Usage: "`DIRECTORY` kept between labs (default: " + lab.DefaultCache() + ")"},
			&cli.StringFlag{Name: "files", Usage: "`DIRECTORY` of host files (default: testdata/lab here or above)"},
		},
		Commands:       words,
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   wrong,
	}
}

// say prints progress on standard error with the time since the start.
func say() lab.Say {
	began := time.Now()
	return func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%6.1fs %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
}

// running attaches to the lab of --dir.
func running(c *cli.Context) (*lab.Lab, error) {
	l, err := lab.Open(c.String("dir"))
	if err != nil {
		return nil, err
	}
	l.OnSay(say())
	return l, nil
}

// host gives the word's one positional.
func host(c *cli.Context) (string, error) {
	if c.Args().Len() < 1 {
		return "", &usageError{fmt.Sprintf("%s needs a host: lab %s HOST %s", c.Command.Name, c.Command.Name, c.Command.ArgsUsage)}
	}
	return c.Args().First(), nil
}
