package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/keeper"
	"vmst.io/refit/stages"
)

func TestACtrlCEndsTheQuestionWithNothingTouched(t *testing.T) {
	in, typed := io.Pipe() // an admin who types nothing
	defer typed.Close()
	shown, screen := io.Pipe()
	ctx, stop, done := trap(t.Context(), func(string) {})
	defer done()
	look, begin := untouched(ctx, stop)
	defer begin()
	ended := make(chan error, 1)
	go func() {
		ended <- answer(look, in, screen, "Go on?")
		screen.Close()
	}()
	asked, err := bufio.NewReader(shown).ReadString(']')
	if err != nil || !strings.HasPrefix(asked, "Go on?") {
		t.Fatal(asked, err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	go func() {
		if _, err := io.Copy(io.Discard, shown); err != nil {
			t.Error(err)
		}
	}()
	err = <-ended
	if exitCode(err) != exitInterrupted || !strings.Contains(err.Error(), "nothing was touched") {
		t.Errorf("code %d: %v", exitCode(err), err)
	}
	if ctx.Err() != nil {
		t.Error("one Ctrl-C ended the run's own context too: a run would not reach its safe point")
	}
}

func TestASecondCtrlCAbortsAndAClosedTerminalIsAFirst(t *testing.T) {
	said := make(chan string, 4)
	ctx, stop, done := trap(t.Context(), func(text string) { said <- text })
	defer done()
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	<-stop
	if text := <-said; !strings.Contains(text, "next safe point") || ctx.Err() != nil {
		t.Fatalf("a closed terminal is the first, and no more: %q, %v", text, ctx.Err())
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if !errors.Is(context.Cause(ctx), errAborted) {
		t.Error(context.Cause(ctx))
	}
}

func TestATerminalThatTakesNothingDoesNotKeepASecondCtrlCFromBeingHeard(t *testing.T) {
	stuck := make(chan struct{})
	ctx, stop, done := trap(t.Context(), func(string) { <-stuck })
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-stop
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if !errors.Is(context.Cause(ctx), errAborted) {
		t.Error(context.Cause(ctx))
	}
	close(stuck)
	done()
}

func TestWhatIsAnsweredDecides(t *testing.T) {
	for text, want := range map[string]int{"yes\n": exitDone, "YES\n": exitDone, "y\n": exitRefused, "no\n": exitRefused, "\n": exitRefused, "": exitRefused} {
		if err := answer(t.Context(), strings.NewReader(text), io.Discard, "?"); exitCode(err) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := (streams{in: strings.NewReader("yes\n"), err: io.Discard}).ask(t.Context(), "?"); exitCode(err) != exitRefused {
		t.Errorf("approved where nobody could have read the plan: %v", err)
	}
}

func TestAStopEndsOnlyWhatChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		look, begin := untouched(t.Context(), stop)
		if interrupted(look) != nil {
			t.Error("interrupted by nobody")
		}
		close(stop)
		<-look.Done()
		if err := interrupted(look); exitCode(err) != exitInterrupted {
			t.Error(err)
		}
		begin()
		late, begin := untouched(t.Context(), stop)
		if late.Err() == nil {
			t.Error("a context that was made after the stop has not ended")
		}
		begin()
	})
}

func TestWhatFailsWhileInterruptedIsAnInterruption(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errStopped)
	for name, err := range map[string]error{
		"survey":  surveyError(ctx, hosts.ErrUnreachable),
		"lock":    lockError(ctx, hosts.ErrSilent),
		"journal": (&session{}).withoutKeeper(ctx, hosts.ErrSilent),
	} {
		if exitCode(err) != exitInterrupted || !strings.Contains(err.Error(), "nothing was touched") {
			t.Errorf("%s: code %d: %v", name, exitCode(err), err)
		}
	}
}

func TestEachErrorBeforeARunHasItsCode(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		code int
	}{
		"an unreachable host":     {surveyError(t.Context(), hosts.ErrUnreachable), exitRefused},
		"a host refuses our key":  {surveyError(t.Context(), errors.Join(hosts.ErrUnreachable, hosts.ErrAuth)), exitAuth},
		"a host has another key":  {surveyError(t.Context(), hosts.ErrHostKey), exitAuth},
		"upstream refuses us":     {surveyError(t.Context(), git.ErrAuth), exitAuth},
		"upstream's key":          {surveyError(t.Context(), git.ErrHostKey), exitAuth},
		"the lease is held":       {lockError(t.Context(), &keeper.HeldError{}), exitLocked},
		"the keeper's key":        {lockError(t.Context(), hosts.ErrHostKey), exitAuth},
		"the keeper refuses us":   {lockError(t.Context(), hosts.ErrAuth), exitAuth},
		"no lease from an outage": {lockError(t.Context(), hosts.ErrSilent), exitRefused},
	} {
		if got := exitCode(test.err); got != test.code {
			t.Errorf("%s: code %d, want %d: %v", name, got, test.code, test.err)
		}
	}
	if err := surveyError(t.Context(), stages.ErrNothingToDo); !errors.Is(err, stages.ErrNothingToDo) {
		t.Error(err)
	}
}
