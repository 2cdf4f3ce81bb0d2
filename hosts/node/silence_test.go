package node_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/node"
)

// slowShell is a way to a host whose agent says what it likes, when it likes.
type slowShell func(ctx context.Context, out io.Writer) error

func (s slowShell) Run(ctx context.Context, c hosts.Command, out io.Writer) error {
	if c.Argv[0] == "test" {
		return nil // the agent is there
	}
	if _, err := io.Copy(io.Discard, c.Stdin); err != nil {
		return err
	}
	return s(ctx, out)
}

func (slowShell) Put(context.Context, string, fs.FileMode, io.Reader) error {
	return errors.New("the agent is there already")
}

func reply(out io.Writer, r node.Reply) error {
	b, err := json.Marshal(r)
	if err == nil {
		_, err = out.Write(append(b, '\n'))
	}
	return err
}

func TestASilentHostEndsTheCallAndABusyOneDoesNot(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "refit")
	if err := os.WriteFile(binary, []byte("an agent"), 0o600); err != nil {
		t.Fatal(err)
	}
	const deadline, beat, work = 15 * time.Second, 14 * time.Second, 10
	synctest.Test(t, func(t *testing.T) {
		var falls bool // silent after its work, instead of answering
		busy := slowShell(func(ctx context.Context, out io.Writer) error {
			for range work {
				time.Sleep(beat) // the bubble's time
				if err := reply(out, node.Reply{Beat: true}); err != nil {
					return err
				}
			}
			if !falls {
				return reply(out, node.Reply{Done: true})
			}
			<-ctx.Done()
			return context.Cause(ctx)
		})
		a := &node.Agent{Host: "kirk", Shell: busy, Binary: binary, Deadline: deadline}
		if err := a.Call(t.Context(), "look", nil, nil, nil, nil); err != nil {
			t.Errorf("a verb at work was taken for silent: %v", err)
		}
		falls = true
		began := time.Now()
		if err := a.Call(t.Context(), "look", nil, nil, nil, nil); !errors.Is(err, node.ErrSilent) {
			t.Errorf("got %v, want ErrSilent", err)
		}
		if took := time.Since(began); took != work*beat+deadline {
			t.Errorf("it was taken for silent after %s", took)
		}
	})
}

// listening tells of each sign of life that comes from a host.
type listening struct {
	hosts.Shell
	beats chan<- struct{}
}

func (l listening) Run(ctx context.Context, c hosts.Command, out io.Writer) error {
	if out == nil {
		return l.Shell.Run(ctx, c, nil)
	}
	return l.Shell.Run(ctx, c, io.MultiWriter(out, l))
}

func (l listening) Write(b []byte) (int, error) {
	for range bytes.Count(b, []byte(`"beat":true`)) {
		select {
		case l.beats <- struct{}{}:
		default: // nobody waits for so many
		}
	}
	return len(b), nil
}

func TestAVerbAtWorkGivesSignsOfLifeUntilItEnds(t *testing.T) {
	h := newReadyHost(t)
	beats := make(chan struct{}, 3)
	h.Shell = listening{h.conn, beats}
	w, ended := holding(t, h.Agent, "look", filepath.Join(h.dir, "file"))
	for range cap(beats) {
		select {
		case <-beats:
		case err := <-ended:
			t.Fatalf("it ended: %v", err)
		}
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
