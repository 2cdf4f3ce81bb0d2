package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"testing"
)

func TestAReaderThatGoesAwayIsNoFailure(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		code int
	}{
		{[]string{"example"}, exitDone},
		{[]string{"status", "--json", "--config", "none.yml"}, exitUsage},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		for name, both := range map[string]bool{"output": false, "output and errors": true} {
			c := exec.CommandContext(t.Context(), self, test.args...)
			c.Env = append(os.Environ(), asRefit+"=1", "GORACE=atexit_sleep_ms=0")
			c.Stdout, c.Stderr = w, &said
			if both {
				c.Stderr = w
			}
			code := 0
			if exit, ok := errors.AsType[*exec.ExitError](c.Run()); ok {
				code = exit.ExitCode() // -1 where a signal killed it
			}
			if code != test.code {
				t.Errorf("%v without a reader of its %s: exit %d, want %d: %s", test.args, name, code, test.code, said.String())
			}
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}
