package ssh_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"vmst.io/refit/hosts"
	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/ssh"
)

func options(s *hoststest.Server) ssh.Options {
	return ssh.Options{
		Name: "kirk", Address: "127.0.0.1", Port: s.Port, User: "refit", KeyFile: s.KeyFile, KnownHosts: []string{s.KnownHosts},
		ConnectTimeout: time.Minute, AnswerTimeout: time.Minute,
		Retry: ssh.Retry{Attempts: 2, First: time.Millisecond, Longest: time.Millisecond},
	}
}

func newConn(t *testing.T, o ssh.Options) *ssh.Conn {
	t.Helper()
	c := ssh.New(o)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

func sh(script string) hosts.Command { return hosts.Command{Argv: []string{"sh", "-c", script}} }

// started is an io.Writer that tells when something was written.
type started struct {
	once sync.Once
	c    chan struct{}
}

func newStarted() *started { return &started{c: make(chan struct{})} }

func (s *started) Write(p []byte) (int, error) {
	s.once.Do(func() { close(s.c) })
	return len(p), nil
}

func TestACommandsOutputInputAndEndArePassedOn(t *testing.T) {
	s := hoststest.NewServer(t)
	c := newConn(t, options(s))
	var out bytes.Buffer
	cmd := hosts.Command{Argv: []string{"sh", "-c", `cat; pwd; echo "$A"`}, Env: []string{"A=it's $HOME"}, Dir: "/", Sudo: true, Stdin: strings.NewReader("in\n")}
	if err := c.Run(t.Context(), cmd, &out); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "in\n/\nit's $HOME\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	err := c.Run(t.Context(), sh("echo why >&2; exit 3"), nil)
	var exit *hosts.ExitError
	if !errors.As(err, &exit) || exit.Code != 3 || exit.Stderr != "why" {
		t.Errorf("got %v, want an exit with status 3 and its reason", err)
	}
	if c.Opened() != 1 || s.Accepted() != 1 {
		t.Errorf("%d connections for two commands", s.Accepted())
	}
}

func TestACommandThatReadsNothingEndsThoughItsInputDoesNot(t *testing.T) {
	c := newConn(t, options(hoststest.NewServer(t)))
	in, w := io.Pipe()
	defer w.Close()
	if err := c.Run(t.Context(), hosts.Command{Argv: []string{"true"}, Stdin: in}, nil); err != nil {
		t.Fatal(err)
	}
}

func TestAHostThatAcceptsAndSaysNothingEndsTheDial(t *testing.T) {
	s := hoststest.NewServer(t)
	s.Freeze()
	o := options(s)
	o.ConnectTimeout = 100 * time.Millisecond
	_, err := ssh.Dial(t.Context(), o)
	if !errors.Is(err, ssh.ErrSilent) {
		t.Errorf("got %v, want ErrSilent", err)
	}
}

func TestALostConnectionIsToldAndTheNextCommandConnectsAgain(t *testing.T) {
	s := hoststest.NewServer(t)
	c := newConn(t, options(s))
	begun := newStarted()
	go func() {
		<-begun.c
		s.Drop()
	}()
	if err := c.Run(t.Context(), sh("echo begun; exec sleep 60"), begun); !errors.Is(err, ssh.ErrLost) {
		t.Errorf("got %v, want ErrLost", err)
	}
	if err := c.Run(t.Context(), sh("true"), nil); err != nil {
		t.Errorf("after the loss: %v", err)
	}
	if c.Opened() != 2 {
		t.Errorf("%d connections opened, want 2", c.Opened())
	}
}

func TestARefusedKeyIsNotTriedAgain(t *testing.T) {
	s := hoststest.NewServer(t)
	s.RefuseAuth(true)
	c := newConn(t, options(s))
	if err := c.Run(t.Context(), sh("true"), nil); !errors.Is(err, ssh.ErrAuth) {
		t.Errorf("got %v, want ErrAuth", err)
	}
	if s.Accepted() != 1 {
		t.Errorf("%d attempts, want 1", s.Accepted())
	}
}

func TestManyCallersShareOneConnectionAndFewSessions(t *testing.T) {
	s := hoststest.NewServer(t)
	o := options(s)
	o.Sessions = 3
	c := newConn(t, o)
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			if err := c.Run(t.Context(), sh("sleep 0.05"), nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if s.Accepted() != 1 || s.MostAtOnce() > 3 {
		t.Errorf("%d connections and %d commands at once, want 1 and at most 3", s.Accepted(), s.MostAtOnce())
	}
}

func TestAFileAppearsWholeOrNotAtAll(t *testing.T) {
	s := hoststest.NewServer(t)
	c := newConn(t, options(s))
	dir := t.TempDir()
	file := filepath.Join(dir, "it's here")
	if err := c.Put(t.Context(), file, 0o640, strings.NewReader("content")); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	fi, statErr := os.Stat(file)
	if err != nil || statErr != nil || string(b) != "content" || fi.Mode().Perm() != 0o640 {
		t.Errorf("got %q, %v, %v", b, err, statErr)
	}
	// Cut in the middle: the old content stays.
	r, w := io.Pipe()
	go func() {
		random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // content that does not shrink
		half := make([]byte, 8<<20)
		for i := range half {
			half[i] = byte(random.Uint32())
		}
		w.Write(half) //nolint:errcheck // the reader may be gone
		s.Drop()
		w.Write(half) //nolint:errcheck // as above
		w.Close()     //nolint:errcheck // as above
	}()
	if err := c.Put(t.Context(), file, 0o640, r); !errors.Is(err, ssh.ErrLost) {
		t.Errorf("got %v, want ErrLost", err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "content" {
		t.Errorf("a cut link left %q, %v", b, err)
	}
}

func TestASourceThatFailsIsToldAndLeavesNothing(t *testing.T) {
	c := newConn(t, options(hoststest.NewServer(t)))
	dir := t.TempDir()
	broken := errors.New("broken")
	r, w := io.Pipe()
	go func() {
		w.Write([]byte("half")) //nolint:errcheck // the reader may be gone
		w.CloseWithError(broken)
	}()
	if err := c.Put(t.Context(), filepath.Join(dir, "f"), 0o644, r); !errors.Is(err, broken) {
		t.Errorf("got %v, want the source's error", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestAHostBehindAJumpIsReached(t *testing.T) {
	jump, target := hoststest.NewServer(t), hoststest.NewServer(t)
	o := options(target)
	o.Jump = newConn(t, options(jump))
	c := newConn(t, o)
	var out bytes.Buffer
	if err := c.Run(t.Context(), sh("echo there"), &out); err != nil || out.String() != "there\n" {
		t.Errorf("got %q, %v", out.String(), err)
	}
	target.Freeze()
	o.ConnectTimeout = 100 * time.Millisecond
	if _, err := ssh.Dial(t.Context(), o); !errors.Is(err, ssh.ErrSilent) {
		t.Errorf("a frozen host behind a jump: got %v, want ErrSilent", err)
	}
}

func TestAnEndedContextEndsTheCommandOnTheHost(t *testing.T) {
	c := newConn(t, options(hoststest.NewServer(t)))
	mark := filepath.Join(t.TempDir(), "ended")
	if err := syscall.Mkfifo(mark, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	begun := newStarted()
	go func() {
		<-begun.c
		cancel()
	}()
	err := c.Run(ctx, sh(`trap 'echo ended > "`+mark+`"; exit' TERM; echo begun; sleep 60 & wait`), begun)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's end", err)
	}
	told := make(chan error, 1)
	go func() {
		b, err := os.ReadFile(mark) // waits for the writer
		if err == nil && string(b) != "ended\n" {
			err = fmt.Errorf("it said %q", b)
		}
		told <- err
	}()
	select {
	case err := <-told:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the command was not told to end")
	}
}

func TestAKeyOfAnAgentIsOfferedAfterTheFiles(t *testing.T) {
	s := hoststest.NewServer(t)
	pem, err := os.ReadFile(s.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	key, err := xssh.ParseRawPrivateKey(pem)
	if err != nil {
		t.Fatal(err)
	}
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go agent.ServeAgent(ring, c) //nolint:errcheck // ends with the connection
		}
	}()
	other := hoststest.NewServer(t) // whose key this server refuses
	for name, file := range map[string]string{"agent alone": "", "after a refused key": other.KeyFile} {
		o := options(s)
		o.KeyFile, o.AgentSocket = file, socket
		c, err := ssh.Dial(t.Context(), o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	o := options(s)
	o.KeyFile = ""
	if _, err := ssh.Dial(t.Context(), o); !errors.Is(err, ssh.ErrAuth) {
		t.Errorf("no key at all: %v, want ErrAuth", err)
	}
}
