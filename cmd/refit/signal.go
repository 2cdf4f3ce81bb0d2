package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

var (
	// errStopped is the cause of a context that ended because a person asked for it
	// before anything was begun.
	errStopped = errors.New("interrupted")
	errAborted = errors.New("aborted by a second Ctrl-C")
)

// trap turns signals into what an admin means by them: the first Ctrl-C or
// SIGTERM closes stop (go on to the next safe point), the second cancels the
// context (abort at once). A closed terminal counts as the first. What is said of
// it is said from beside: a terminal that takes no more must not keep a second
// Ctrl-C from being heard.
func trap(ctx context.Context, say func(string)) (context.Context, <-chan struct{}, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := make(chan struct{})
	sig := make(chan os.Signal, 2)
	signal.Notify(sig, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	done, ended := make(chan struct{}), make(chan struct{})
	words, said := make(chan string, 2), make(chan struct{})
	go func() {
		defer close(said)
		for text := range words {
			say(text)
		}
	}()
	go func() {
		defer close(ended)
		defer close(words)
		stopped, aborted := false, false
		for {
			select {
			case <-done:
				return
			case s := <-sig:
				switch {
				case !stopped:
					stopped = true
					close(stop)
					words <- "stopping at the next safe point; once more to abort at once"
				case s != syscall.SIGHUP && !aborted:
					aborted = true
					cancel(errAborted)
					words <- "aborting"
				}
			}
		}
	}()
	return ctx, stop, func() {
		signal.Stop(sig)
		close(done)
		<-ended
		cancel(nil)
		wait(said, sayLimit)
	}
}

// sayLimit is how long a terminal may take for the last words.
const sayLimit = 2 * time.Second

func wait(done <-chan struct{}, limit time.Duration) {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
}

// untouched is the context of what comes before the first change: the survey, the
// plan, the question. All of it is a safe point, so the first Ctrl-C ends it.
// The function given back ends it when the run begins.
func untouched(ctx context.Context, stop <-chan struct{}) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	// Looked at here too: a context made after the stop has ended from the start.
	select {
	case <-stop:
		cancel(errStopped)
	default:
	}
	go func() {
		select {
		case <-stop:
			cancel(errStopped)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// interrupted is the error of a command whose context has ended before anything
// was begun, nil while it has not. What failed meanwhile failed because of that,
// so it is not told.
func interrupted(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return exitWith(exitInterrupted, fmt.Errorf("%w; nothing was touched", context.Cause(ctx)))
}

// ask puts a question that is answered with yes, or refuses where nobody can answer.
func (s streams) ask(ctx context.Context, question string) error {
	f, ok := s.in.(*os.File)
	if !ok || !isTerminal(f) {
		return refuse("nobody can answer here: read the plan and repeat with --yes")
	}
	return answer(ctx, s.in, s.err, question)
}

// answer asks, and waits for yes or for the end of ctx. A read of a terminal
// cannot be ended, so on Ctrl-C it is left behind; the program ends then.
func answer(ctx context.Context, in io.Reader, out io.Writer, question string) error {
	if err := interrupted(ctx); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s [yes/no] ", question)
	type line struct {
		text string
		err  error
	}
	read := make(chan line, 1)
	go func() {
		var l line
		_, l.err = fmt.Fscanln(in, &l.text)
		read <- l
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(out)
		return interrupted(ctx)
	case l := <-read:
		switch {
		case l.err != nil:
			return refuse("not approved: %v", l.err)
		case !strings.EqualFold(l.text, "yes"):
			return refuse("not approved")
		}
		return nil
	}
}
