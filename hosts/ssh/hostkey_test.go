package ssh_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/ssh"
)

// knows writes a known_hosts file.
func knows(t *testing.T, lines ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func address(s *hoststest.Server) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port))
}

// refuses dials and asks for ErrHostKey, with words, and that no command ran.
func refuses(t *testing.T, s *hoststest.Server, o ssh.Options, words ...string) {
	t.Helper()
	c, err := ssh.Dial(t.Context(), o)
	if err == nil {
		c.Close() //nolint:errcheck // it must not be there at all
	}
	if !errors.Is(err, ssh.ErrHostKey) {
		t.Fatalf("got %v, want ErrHostKey", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the refusal does not say %q: %v", w, err)
		}
	}
	if len(s.Commands()) > 0 {
		t.Error("a command ran")
	}
}

func TestAChangedHostKeyIsRefusedWithFileLineAndWhatToCompare(t *testing.T) {
	s := hoststest.NewServer(t)
	before := s.HostKey()
	o := options(s)
	o.KnownHosts = []string{knows(t, "# this fleet", "", knownhosts.Line([]string{address(s)}, before))}
	s.ChangeHostKey()
	refuses(t, s, o, o.KnownHosts[0]+":3", xssh.FingerprintSHA256(before), xssh.FingerprintSHA256(s.HostKey()), "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")
}

func TestAnUnknownHostKeyIsRefusedWithTheLineToAdd(t *testing.T) {
	s := hoststest.NewServer(t)
	line, err := os.ReadFile(s.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	o := options(s)
	o.KnownHosts = []string{knows(t)}
	refuses(t, s, o, o.KnownHosts[0], "add this line: "+strings.TrimSpace(string(line)), "compare")
	if left, err := os.ReadFile(o.KnownHosts[0]); err != nil || strings.TrimSpace(string(left)) != "" {
		t.Errorf("the file was written to: %q, %v", left, err)
	}
	o.KnownHosts = nil
	refuses(t, s, o, "no known_hosts file")
	o.KnownHosts = []string{filepath.Join(t.TempDir(), "none")}
	refuses(t, s, o, "cannot read known_hosts")
}

func TestAKeyOfAnotherTypeDoesNotGetPastAKnownOne(t *testing.T) {
	s := hoststest.NewServer(t)
	o := options(s)
	s.ChangeHostKeyType()
	refuses(t, s, o, o.KnownHosts[0]+":1", "ssh-ed25519", "ecdsa-sha2-nistp256", "compare")
}

func TestAKeyOfASecondKnownTypeIsAccepted(t *testing.T) {
	s := hoststest.NewServer(t)
	first := s.HostKey()
	s.ChangeHostKeyType()
	o := options(s)
	o.KnownHosts = []string{knows(t, knownhosts.Line([]string{address(s)}, first), knownhosts.Line([]string{address(s)}, s.HostKey()))}
	c, err := ssh.Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestARevokedKeyIsRefusedThoughTheHostIsKnownByIt(t *testing.T) {
	s := hoststest.NewServer(t)
	line := knownhosts.Line([]string{address(s)}, s.HostKey())
	o := options(s)
	o.KnownHosts = []string{knows(t, line, "@revoked * "+strings.SplitN(line, " ", 2)[1])}
	refuses(t, s, o, o.KnownHosts[0]+":2", "@revoked", xssh.FingerprintSHA256(s.HostKey()))
}

func TestAHashedKnownHostIsKnownAndItsKeyHeldTo(t *testing.T) {
	s := hoststest.NewServer(t)
	o := options(s)
	hashed := strings.Replace(knownhosts.Line([]string{address(s)}, s.HostKey()), fmt.Sprintf("[127.0.0.1]:%d", s.Port), knownhosts.HashHostname(fmt.Sprintf("[127.0.0.1]:%d", s.Port)), 1)
	if !strings.HasPrefix(hashed, "|1|") {
		t.Fatalf("not hashed: %s", hashed)
	}
	o.KnownHosts = []string{knows(t, hashed)}
	c, err := ssh.Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	s.ChangeHostKey()
	refuses(t, s, o, o.KnownHosts[0]+":1")
}

func TestAKeyThatChangesInTheMiddleEndsTheRunsWayToTheHost(t *testing.T) {
	s := hoststest.NewServer(t)
	c := newConn(t, options(s))
	if err := c.Run(t.Context(), sh("true"), nil); err != nil {
		t.Fatal(err)
	}
	s.ChangeHostKey()
	s.Drop()
	for range 2 {
		if err := c.Run(t.Context(), sh("echo again"), nil); !errors.Is(err, ssh.ErrHostKey) && !errors.Is(err, ssh.ErrLost) {
			t.Errorf("got %v", err)
		}
	}
	accepted := s.Accepted()
	if err := c.Run(t.Context(), sh("echo again"), nil); !errors.Is(err, ssh.ErrHostKey) {
		t.Errorf("got %v, want ErrHostKey", err)
	}
	if s.Accepted() != accepted+1 {
		t.Errorf("a refused key was tried %d times by one call", s.Accepted()-accepted)
	}
	if got := s.Commands(); len(got) != 1 {
		t.Errorf("commands ran on a host that nobody vouches for: %q", got)
	}
}

func TestAChangedKeyBehindAJumpIsRefused(t *testing.T) {
	jump, target := hoststest.NewServer(t), hoststest.NewServer(t)
	o := options(target)
	o.Jump = newConn(t, options(jump))
	target.ChangeHostKey()
	refuses(t, target, o, o.KnownHosts[0]+":1")
}
