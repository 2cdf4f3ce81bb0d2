package hosts_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmst.io/refit/hosts"
)

func TestALocalCommandThatFailsTellsItsStatusAndReason(t *testing.T) {
	err := hosts.Local{}.Run(t.Context(), hosts.Command{Argv: []string{"sh", "-c", "echo why >&2; exit 4"}}, nil)
	var exit *hosts.ExitError
	if !errors.As(err, &exit) || exit.Code != 4 || exit.Stderr != "why" {
		t.Errorf("got %v", err)
	}
	err = hosts.Local{}.Run(t.Context(), hosts.Command{Argv: []string{"/no/such/program"}}, nil)
	if !errors.As(err, &exit) || exit.Code != 127 {
		t.Errorf("a missing program: got %v, want status 127", err)
	}
}

func TestALocalCommandNeedNotReadItsInput(t *testing.T) {
	in, w := io.Pipe()
	defer w.Close()
	if err := (hosts.Local{}).Run(t.Context(), hosts.Command{Argv: []string{"true"}, Stdin: in}, nil); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := hosts.Local{}.Run(t.Context(), hosts.Command{Argv: []string{"cat"}, Stdin: strings.NewReader("in")}, &out)
	if err != nil || out.String() != "in" {
		t.Errorf("got %q, %v", out.String(), err)
	}
}

func TestALocalCommandEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	go func() {
		io.ReadFull(r, make([]byte, 1)) //nolint:errcheck // only the moment counts
		cancel()
		io.Copy(io.Discard, r) //nolint:errcheck // as above
	}()
	err := hosts.Local{}.Run(ctx, hosts.Command{Argv: []string{"sh", "-c", "echo; exec sleep 60"}}, w)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's end", err)
	}
}

func TestALocalFileAppearsWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	if err := (hosts.Local{}).Put(t.Context(), file, 0o600, strings.NewReader("one")); err != nil {
		t.Fatal(err)
	}
	broken := io.MultiReader(strings.NewReader("two"), errReader{})
	if err := (hosts.Local{}).Put(t.Context(), file, 0o600, broken); !errors.Is(err, errBroken) {
		t.Errorf("got %v, want the reader's error", err)
	}
	b, err := os.ReadFile(file)
	entries, dirErr := os.ReadDir(dir)
	if err != nil || dirErr != nil || string(b) != "one" || len(entries) != 1 {
		t.Errorf("left %q and %d files, %v, %v", b, len(entries), err, dirErr)
	}
}

var errBroken = errors.New("broken")

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errBroken }
