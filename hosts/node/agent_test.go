package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/hosts/ssh"
)

// TestMain lets this test program be the agent that is put on hosts.
func TestMain(m *testing.M) {
	waitAsRuby()
	if len(os.Args) > 2 && os.Args[1] == "node" {
		machine := node.Machine{State: os.Getenv("REFIT_TEST_STATE"), Beat: 50 * time.Millisecond}
		if err := machine.Serve(context.Background(), append(machine.Verbs(), testVerbs()...), os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// testVerbs are verbs that a test can hold up.
func testVerbs() []node.Verb {
	type in struct{ File string }
	hold := node.Typed(func(ctx context.Context, in in, payload io.Reader, say func(string)) (bool, error) {
		say("holding")
		read := make(chan error, 1)
		go func() {
			_, err := payload.Read(make([]byte, 1))
			read <- err
		}()
		select {
		case err := <-read:
			if err != nil {
				return false, err
			}
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
		return true, os.WriteFile(in.File, []byte("changed"), 0o600)
	})
	// spawn waits for a child that changes the host once the pipe it reads is closed.
	spawn := node.Typed(func(ctx context.Context, in in, payload io.Reader, say func(string)) (bool, error) {
		cmd := exec.CommandContext(ctx, "sh", "-c", `read line; touch "$0"`, in.File)
		r, w, err := os.Pipe()
		if err != nil {
			return false, err
		}
		cmd.Stdin = r
		if err := cmd.Start(); err != nil {
			return false, err
		}
		say(fmt.Sprint(cmd.Process.Pid))
		go func() {
			io.Copy(w, payload) //nolint:errcheck // either end may go
			w.Close()           //nolint:errcheck // either end may go
		}()
		return true, cmd.Wait()
	})
	return []node.Verb{
		{Name: "spawn", Changes: true, Run: spawn},
		{Name: "hold", Changes: true, Run: hold},
		{Name: "look", Run: hold},
		{Name: "crash", Run: func(context.Context, json.RawMessage, io.Reader, func(string)) (any, error) {
			os.Exit(9)
			return nil, nil
		}},
	}
}

// host is a real agent behind a real sshd, with a state of its own.
type host struct {
	*node.Agent
	server *hoststest.Server
	conn   *ssh.Conn
	dir    string
	binary string // the agent here
}

// agent is a small program that becomes this test program. Under the race detector
// every program sleeps for a second before it exits, unless told otherwise.
func agent(t *testing.T, state string) []byte {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Appendf(nil, "#!/bin/sh\nexport REFIT_TEST_STATE='%s' GORACE=\"$GORACE atexit_sleep_ms=0\"\nexec '%s' \"$@\"\n", state, self)
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{server: hoststest.NewServer(t), dir: t.TempDir()}
	h.binary = filepath.Join(h.dir, "agent")
	if err := os.WriteFile(h.binary, agent(t, filepath.Join(h.dir, "state")), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	h.conn = ssh.New(ssh.Options{
		Name: "kirk", Address: "127.0.0.1", Port: h.server.Port, User: "refit", KeyFile: h.server.KeyFile, KnownHosts: []string{h.server.KnownHosts},
		AnswerTimeout: time.Minute, Retry: ssh.Retry{First: time.Millisecond, Longest: time.Millisecond},
	})
	t.Cleanup(func() {
		if err := h.conn.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := os.Mkdir(filepath.Join(h.dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	h.Agent = h.with(1)
	return h
}

// newReadyHost is newHost with the agent there already.
func newReadyHost(t *testing.T) *host {
	t.Helper()
	h := newHost(t)
	if _, err := h.Upload(t.Context()); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *host) with(epoch int64) *node.Agent {
	return &node.Agent{
		Host: "kirk", Shell: h.conn, Binary: h.binary, Run: fmt.Sprintf("u-%d", epoch), Sudo: true, Dir: filepath.Join(h.dir, "bin"),
		Epoch: func() int64 { return epoch }, Deadline: time.Minute,
	}
}

// holding begins a call of the verb "hold" and waits until it holds the fence.
// The call changes file once a byte is written to the returned writer.
func holding(t *testing.T, a *node.Agent, verb, file string) (io.WriteCloser, <-chan error) {
	t.Helper()
	r, w := io.Pipe()
	begun, ended := make(chan struct{}), make(chan error, 1)
	var once atomic.Bool
	go func() {
		ended <- a.Call(t.Context(), verb, map[string]string{"File": file}, r, nil, func(string) {
			if once.CompareAndSwap(false, true) {
				close(begun)
			}
		})
		r.Close() //nolint:errcheck // frees the copying goroutine
	}()
	select {
	case <-begun:
	case err := <-ended:
		t.Fatalf("%s ended at once: %v", verb, err)
	}
	return w, ended
}

func TestTheAgentIsUploadedOnceUnderItsHashAndOnlyWhenItIsMissing(t *testing.T) {
	h := newHost(t)
	for _, a := range []*node.Agent{h.Agent, h.Agent, h.with(2)} {
		if _, err := a.FenceShow(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	puts := 0
	for _, c := range h.server.Commands() {
		if strings.Contains(c, "sha256sum") {
			puts++
		}
	}
	if puts != 1 {
		t.Errorf("uploaded %d times", puts)
	}
	files, err := filepath.Glob(filepath.Join(h.dir, "bin", "refit-????????????????"))
	if err != nil || len(files) != 1 {
		t.Fatalf("agents there: %v, %v", files, err)
	}
	// A host restored from a snapshot has lost it.
	lose := func() {
		t.Helper()
		if err := os.Remove(files[0]); err != nil {
			t.Fatal(err)
		}
	}
	lose()
	if _, err := h.FenceShow(t.Context()); err != nil {
		t.Errorf("after the agent was lost: %v", err)
	}
	lose()
	if _, err := h.PlaceWant(t.Context(), node.WantIn{Home: h.dir}, strings.NewReader("no pack"), nil); !errors.Is(err, node.ErrPayload) {
		t.Errorf("after the agent was lost, a call with a payload: %v", err)
	}
}

func TestABinaryThatWasReplacedSinceItWasHashedIsNotPutOnAHost(t *testing.T) {
	h := newHost(t)
	asked := 0
	h.Hash = func() ([]byte, error) {
		asked++
		return node.HashBinary(h.binary)
	}
	old, err := node.HashBinary(h.binary)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.binary, append(agent(t, filepath.Join(h.dir, "state")), '\n'), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	late := h.with(1)
	late.Hash = func() ([]byte, error) { return old, nil }
	if _, err := late.FenceShow(t.Context()); err == nil || !strings.Contains(err.Error(), "replaced") {
		t.Errorf("got %v", err)
	}
	if files, err := filepath.Glob(filepath.Join(h.dir, "bin", "*")); err != nil || len(files) != 0 {
		t.Errorf("on the host: %v, %v", files, err)
	}
	if _, err := h.FenceShow(t.Context()); err != nil || asked != 1 {
		t.Errorf("the one that is there now: %v (asked %d times for its hash)", err, asked)
	}
}

func TestAStaleEpochIsRefused(t *testing.T) {
	h := newReadyHost(t)
	if _, err := h.FenceRaise(t.Context(), node.RaiseIn{Epoch: 5, Holder: "anna@desk"}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(h.dir, "file")
	err := h.with(4).Call(t.Context(), "hold", map[string]string{"File": file}, strings.NewReader("x"), nil, nil)
	if !errors.Is(err, node.ErrFenced) || !strings.Contains(err.Error(), "anna@desk") {
		t.Errorf("a lower epoch: %v, want ErrFenced that names the holder", err)
	}
	none := h.with(0)
	if err := none.Call(t.Context(), "hold", map[string]string{"File": file}, strings.NewReader("x"), nil, nil); !errors.Is(err, node.ErrFenced) {
		t.Errorf("no epoch: %v, want ErrFenced", err)
	}
	if _, err := none.Facts(t.Context(), node.FactsIn{}); err != nil {
		t.Errorf("a verb that only reads needs no epoch: %v", err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the refused call changed something")
	}
	if err := h.with(5).Call(t.Context(), "hold", map[string]string{"File": file}, strings.NewReader("x"), nil, nil); err != nil {
		t.Errorf("the epoch of the fence: %v", err)
	}
	if _, err := h.FenceRaise(t.Context(), node.RaiseIn{Epoch: 4, Holder: "ben"}); !errors.Is(err, node.ErrFenced) {
		t.Errorf("lowering the fence: %v, want ErrFenced", err)
	}
	f, err := h.FenceShow(t.Context())
	if err != nil || f.Epoch != 5 || f.Holder != "anna@desk" {
		t.Errorf("the fence is %+v, %v", f, err)
	}
}

func TestAnEpochThatWasGivenTwiceIsHisWhoRaisedItFirst(t *testing.T) {
	h := newReadyHost(t)
	for range 2 { // an answer may have been lost
		if _, err := h.FenceRaise(t.Context(), node.RaiseIn{Epoch: 5, Holder: "anna@desk"}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := h.FenceRaise(t.Context(), node.RaiseIn{Epoch: 5, Holder: "ben@laptop", Kill: true})
	if !errors.Is(err, node.ErrFenced) || !strings.Contains(err.Error(), "anna@desk") {
		t.Errorf("got %v, want ErrFenced that names who has it", err)
	}
}

func TestRaisingTheFenceWaitsForAVerbAndNamesIt(t *testing.T) {
	h := newReadyHost(t)
	file := filepath.Join(h.dir, "file")
	w, ended := holding(t, h.Agent, "hold", file)
	_, err := h.with(2).FenceRaise(t.Context(), node.RaiseIn{Epoch: 2, Holder: "ben", Wait: 100 * time.Millisecond})
	if !errors.Is(err, node.ErrInUse) || !strings.Contains(err.Error(), "hold of epoch 1") || !strings.Contains(err.Error(), "u-1") {
		t.Errorf("got %v, want ErrInUse that names verb, epoch and run", err)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the verb that was waited for: %v", err)
	}
	if _, err := h.with(2).FenceRaise(t.Context(), node.RaiseIn{Epoch: 2, Holder: "ben"}); err != nil {
		t.Errorf("once it had ended: %v", err)
	}
}

// freeze stops a verb's process and waits until the kernel shows it as stopped.
func freeze(t *testing.T, h *host, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for t.Context().Err() == nil {
		f, err := h.FenceShow(t.Context())
		if err != nil || len(f.Verbs) != 1 {
			t.Fatalf("holders: %+v, %v", f, err)
		}
		if f.Verbs[0].State == "T" {
			return
		}
	}
}

func TestAFrozenVerbOfALowerEpochIsEndedAndNeverChangesTheHost(t *testing.T) {
	h := newReadyHost(t)
	file := filepath.Join(h.dir, "file")
	w, ended := holding(t, h.Agent, "hold", file)
	f, err := h.FenceShow(t.Context())
	if err != nil || len(f.Verbs) != 1 {
		t.Fatalf("holders: %+v, %v", f, err)
	}
	pid := f.Verbs[0].Pid
	freeze(t, h, pid)
	_, err = h.with(2).FenceRaise(t.Context(), node.RaiseIn{Epoch: 2, Holder: "ben", Wait: 100 * time.Millisecond})
	if !errors.Is(err, node.ErrInUse) || !strings.Contains(err.Error(), "frozen") {
		t.Errorf("without Kill: %v, want ErrInUse that says it is frozen", err)
	}
	f, err = h.with(2).FenceRaise(t.Context(), node.RaiseIn{Epoch: 2, Holder: "ben", Wait: 100 * time.Millisecond, Kill: true})
	if err != nil || f.Epoch != 2 || len(f.Killed) != 1 || f.Killed[0].Pid != pid {
		t.Fatalf("with Kill: %+v, %v", f, err)
	}
	// What would thaw it finds nothing; what it waited for arrives in vain.
	if err := syscall.Kill(pid, syscall.SIGCONT); err == nil {
		t.Log("a process of that pid is still being reaped")
	}
	w.Write([]byte("x")) //nolint:errcheck // nobody reads it
	if err := <-ended; err == nil {
		t.Error("the ended verb told of success")
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the frozen verb changed the host after the fence was raised")
	}
	// Its record is left over and swept.
	out, err := h.with(2).Sweep(t.Context(), node.SweepIn{Home: h.dir, Clear: true})
	if err != nil || len(out.Items) != 1 || out.Items[0].Kind != "holder" || !out.Items[0].Cleared {
		t.Errorf("sweep: %+v, %v", out, err)
	}
}

func TestWhatAnEndedVerbHadStartedIsEndedWithIt(t *testing.T) {
	h := newReadyHost(t)
	file := filepath.Join(h.dir, "file")
	w, ended := holding(t, h.Agent, "spawn", file)
	f, err := h.with(2).FenceRaise(t.Context(), node.RaiseIn{Epoch: 2, Holder: "ben", Wait: 50 * time.Millisecond, Kill: true})
	if err != nil || len(f.Killed) != 1 {
		t.Fatalf("got %+v, %v", f, err)
	}
	// The child has the pipe that the dead verb would have fed: its end would make it go on.
	if err := <-ended; err == nil {
		t.Error("the ended verb told of success")
	}
	w.Close() //nolint:errcheck // nobody reads it
	if _, err := os.Stat(file); err == nil {
		t.Error("the child changed the host after the fence was raised")
	}
}

func TestAHigherEpochsVerbIsNeverKilled(t *testing.T) {
	h := newReadyHost(t)
	w, ended := holding(t, h.with(9), "hold", filepath.Join(h.dir, "file"))
	_, err := h.with(2).FenceRaise(t.Context(), node.RaiseIn{Epoch: 2, Holder: "ben", Wait: 50 * time.Millisecond, Kill: true})
	if !errors.Is(err, node.ErrInUse) {
		t.Errorf("got %v, want ErrInUse", err)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the higher epoch's verb: %v", err)
	}
}

func TestAVerbWhoseCallerIsGoneEndsAndLetsGoOfTheFence(t *testing.T) {
	h := newReadyHost(t)
	_, ended := holding(t, h.Agent, "hold", filepath.Join(h.dir, "file"))
	h.server.Drop()
	if err := <-ended; !errors.Is(err, hosts.ErrLost) {
		t.Errorf("got %v, want ErrLost", err)
	}
	if _, err := h.with(2).FenceRaise(t.Context(), node.RaiseIn{Epoch: 2, Holder: "ben", Wait: time.Minute}); err != nil {
		t.Errorf("the fence is still held: %v", err)
	}
	if _, err := os.Stat(filepath.Join(h.dir, "file")); err == nil {
		t.Error("the verb went on")
	}
}

func TestAnAgentThatDiesIsNotTakenForOneThatAnswered(t *testing.T) {
	h := newReadyHost(t)
	err := h.Call(t.Context(), "crash", nil, nil, nil, nil)
	var exit *hosts.ExitError
	if !errors.As(err, &exit) || exit.Code != 9 {
		t.Errorf("got %v, want its exit status", err)
	}
}

func TestAnUnknownVerbIsToldApart(t *testing.T) {
	h := newReadyHost(t)
	if err := h.Call(t.Context(), "dance", nil, nil, nil, nil); !errors.Is(err, node.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestAPayloadThatCannotBeReadIsTheCallersError(t *testing.T) {
	h := newReadyHost(t)
	broken := errors.New("builder gone")
	err := h.Call(t.Context(), "look", map[string]string{}, readerFunc(func([]byte) (int, error) { return 0, broken }), nil, nil)
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want the reader's error", err)
	}
}
