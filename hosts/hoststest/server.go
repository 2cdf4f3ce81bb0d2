// Package hoststest has hosts for tests: an sshd in this process that runs
// commands here and fails when told to, a shell that answers refit's verbs, and a
// systemd that starts nothing.
package hoststest

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// Server is an sshd on the loopback that runs each command with sh, as the user
// who runs the test. "sudo -n --" does nothing there.
type Server struct {
	// Port it listens on, at 127.0.0.1.
	Port int
	// KeyFile is the private key that it accepts, KnownHosts names its own.
	KeyFile, KnownHosts string
	// Instead, if it is set, answers commands in place of sh: a process would hold up
	// the time of a test's bubble, and a thousand of them a test. Its error is exit
	// status 1.
	Instead func(line string, in io.Reader, out io.Writer) error

	t        testing.TB
	listener net.Listener
	path     string // PATH of commands, with the sudo that does nothing
	ctx      context.Context

	mu       sync.Mutex
	signer   xssh.Signer
	client   xssh.PublicKey
	refuse   bool
	frozen   chan struct{} // closed when thawed; nil while not frozen
	conns    map[net.Conn]bool
	accepted int
	commands []string
	running  int
	most     int
	mostOpen int
}

// NewServer starts a server that lives as long as the test.
func NewServer(t testing.TB) *Server {
	t.Helper()
	dir := t.TempDir()
	s := &Server{t: t, KeyFile: filepath.Join(dir, "key"), KnownHosts: filepath.Join(dir, "known_hosts"), conns: make(map[net.Conn]bool)}
	s.signer = newKey(t)
	clientPublic, clientPrivate, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	s.client, err = xssh.NewPublicKey(clientPublic)
	must(t, err)
	block, err := xssh.MarshalPrivateKey(clientPrivate, "test")
	must(t, err)
	must(t, os.WriteFile(s.KeyFile, pem.EncodeToMemory(block), 0o600))

	bin := filepath.Join(dir, "bin")
	must(t, os.Mkdir(bin, 0o755))
	must(t, os.WriteFile(filepath.Join(bin, "sudo"), []byte("#!/bin/sh\nwhile [ \"${1#-}\" != \"$1\" ]; do shift; done\nexec \"$@\"\n"), 0o755)) //nolint:gosec // it must be executable
	s.path = bin + ":" + os.Getenv("PATH")

	s.listener, err = net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s.Port = s.listener.Addr().(*net.TCPAddr).Port
	s.writeKnownHosts()
	ctx, cancel := context.WithCancel(context.Background())
	s.ctx = ctx
	t.Cleanup(func() {
		cancel()
		s.Thaw()
		s.Drop()
		if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("cannot close the test sshd: %v", err)
		}
	})
	go s.accept()
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newKey(t testing.TB) xssh.Signer {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	signer, err := xssh.NewSignerFromKey(private)
	must(t, err)
	return signer
}

func (s *Server) writeKnownHosts() {
	line := knownhosts.Line([]string{net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port))}, s.signer.PublicKey())
	must(s.t, os.WriteFile(s.KnownHosts, []byte(line+"\n"), 0o600))
}

// RefuseAuth makes it refuse every key, or accept the right one again.
func (s *Server) RefuseAuth(refuse bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = refuse
}

// ChangeHostKey gives it another host key than KnownHosts has.
func (s *Server) ChangeHostKey() {
	signer := newKey(s.t)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signer = signer
}

// ChangeHostKeyType gives it a host key of another type than KnownHosts has.
func (s *Server) ChangeHostKeyType() {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(s.t, err)
	signer, err := xssh.NewSignerFromKey(private)
	must(s.t, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signer = signer
}

// HostKey is the public key that it shows.
func (s *Server) HostKey() xssh.PublicKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.signer.PublicKey()
}

// Freeze makes it silent like a frozen host: connections are accepted and take
// data, and nothing comes back, on old ones and new ones.
func (s *Server) Freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen == nil {
		s.frozen = make(chan struct{})
	}
}

// Thaw ends Freeze: all goes on where it stood.
func (s *Server) Thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen != nil {
		close(s.frozen)
		s.frozen = nil
	}
}

// Drop closes all connections; the commands on them run on, as under OpenSSH.
func (s *Server) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close() //nolint:errcheck // the client's view is what is tested
	}
}

// Stop closes the listener, so that new connections are refused.
func (s *Server) Stop() { must(s.t, s.listener.Close()) }

// Accepted is how many connections it took.
func (s *Server) Accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted
}

// Commands are the command lines that it was given, in order.
func (s *Server) Commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.commands...)
}

// MostAtOnce is how many commands were at work at the same time at most.
func (s *Server) MostAtOnce() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most
}

// MostOpen is how many connections were open at the same time at most.
func (s *Server) MostOpen() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mostOpen
}

// opened notes a new connection; s.mu is held.
func (s *Server) opened(c net.Conn) {
	s.accepted++
	s.conns[c] = true
	s.mostOpen = max(s.mostOpen, len(s.conns))
}

func (s *Server) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running += n
	s.most = max(s.most, s.running)
}

func (s *Server) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.opened(c)
		s.mu.Unlock()
		go s.serve(c)
	}
}

// gate is a connection that stands still while the server is frozen.
type gate struct {
	net.Conn
	s *Server
}

func (g gate) wait() {
	g.s.mu.Lock()
	frozen := g.s.frozen
	g.s.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
}

func (g gate) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	g.wait()
	return n, err
}

func (g gate) Write(p []byte) (int, error) {
	g.wait()
	return g.Conn.Write(p)
}

func (s *Server) serve(raw net.Conn) {
	defer func() {
		s.mu.Lock()
		delete(s.conns, raw)
		s.mu.Unlock()
		raw.Close() //nolint:errcheck // it may be closed already
	}()
	config := &xssh.ServerConfig{PublicKeyCallback: func(_ xssh.ConnMetadata, key xssh.PublicKey) (*xssh.Permissions, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.refuse || string(key.Marshal()) != string(s.client.Marshal()) {
			return nil, errors.New("refused")
		}
		return &xssh.Permissions{}, nil
	}}
	s.mu.Lock()
	config.AddHostKey(s.signer)
	s.mu.Unlock()
	_, chans, reqs, err := xssh.NewServerConn(gate{raw, s}, config)
	if err != nil {
		return
	}
	go func() {
		for r := range reqs {
			// As OpenSSH answers keepalives: refused, which is an answer.
			if err := r.Reply(false, nil); err != nil {
				return
			}
		}
	}()
	for ch := range chans {
		switch ch.ChannelType() {
		case "session":
			go s.session(ch)
		case "direct-tcpip":
			go s.forward(ch)
		default:
			ch.Reject(xssh.UnknownChannelType, "no") //nolint:errcheck // the client's view is what is tested
		}
	}
}

// forward serves a jump: RFC 4254, 7.2.
func (s *Server) forward(ch xssh.NewChannel) {
	var to struct {
		Host     string
		Port     uint32
		From     string
		FromPort uint32
	}
	if err := xssh.Unmarshal(ch.ExtraData(), &to); err != nil {
		return
	}
	out, err := net.Dial("tcp", net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port))))
	if err != nil {
		ch.Reject(xssh.ConnectionFailed, err.Error()) //nolint:errcheck // as above
		return
	}
	in, reqs, err := ch.Accept()
	if err != nil {
		return
	}
	go xssh.DiscardRequests(reqs)
	go func() {
		io.Copy(out, in) //nolint:errcheck // either end may go
		out.Close()      //nolint:errcheck // either end may go
	}()
	io.Copy(in, out) //nolint:errcheck // either end may go
	in.Close()       //nolint:errcheck // either end may go
}

func (s *Server) session(ch xssh.NewChannel) {
	c, reqs, err := ch.Accept()
	if err != nil {
		return
	}
	var cmd *exec.Cmd
	begun := make(chan struct{}) // closed once cmd was started, or could not be
	for r := range reqs {
		switch r.Type {
		case "exec":
			line := string(r.Payload[4:])
			s.mu.Lock()
			s.commands = append(s.commands, line)
			s.mu.Unlock()
			if r.WantReply {
				r.Reply(true, nil) //nolint:errcheck // the client's view is what is tested
			}
			if s.Instead != nil {
				go s.instead(c, line)
				continue
			}
			cmd = exec.CommandContext(s.ctx, "sh", "-c", line)
			go s.exec(c, cmd, begun)
		case "signal":
			if cmd == nil {
				continue
			}
			<-begun
			if cmd.Process != nil {
				syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) //nolint:errcheck // it may be gone
			}
		default:
			if r.WantReply {
				r.Reply(false, nil) //nolint:errcheck // the client's view is what is tested
			}
		}
	}
}

// instead answers a command without a process.
func (s *Server) instead(c xssh.Channel, line string) {
	s.count(1)
	status := uint32(0)
	if err := s.Instead(line, c, c); err != nil {
		status = 1
	}
	s.count(-1)
	end(c, status)
}

// end tells the client how a command ended.
func end(c xssh.Channel, status uint32) {
	c.SendRequest("exit-status", false, binary.BigEndian.AppendUint32(nil, status)) //nolint:errcheck // the link may be gone
	c.Close()                                                                       //nolint:errcheck // as above
}

// exec runs a command. Like OpenSSH it only closes the command's pipes when the
// connection goes.
func (s *Server) exec(c xssh.Channel, cmd *exec.Cmd, begun chan<- struct{}) {
	s.count(1)
	cmd.Env = append(os.Environ(), "PATH="+s.path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	cmd.Stdout, cmd.Stderr = c, c.Stderr()
	status := uint32(255)
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	close(begun)
	if err == nil {
		go func() {
			io.Copy(stdin, c) //nolint:errcheck // either end may go
			stdin.Close()     //nolint:errcheck // either end may go
		}()
		err = cmd.Wait()
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		status = 0
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		status = uint32(exit.ExitCode())
	}
	// Counted before it is told: who hears of the end may begin the next at once.
	s.count(-1)
	end(c, status)
}
