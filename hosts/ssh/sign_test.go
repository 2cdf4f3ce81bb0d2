package ssh_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"vmst.io/refit/hosts/ssh"
)

// keyPair writes a key and its public half; with a passphrase if one is given.
func keyPair(t *testing.T, key any, passphrase string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	block, err := xssh.MarshalPrivateKey(key, "")
	if passphrase != "" {
		block, err = xssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	signer, err := xssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file+".pub", xssh.MarshalAuthorizedKey(signer.PublicKey()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func anEd25519(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// anAgent serves keys on a socket until the test ends.
func anAgent(t *testing.T, keys ...any) string {
	t.Helper()
	ring := agent.NewKeyring()
	for _, k := range keys {
		if err := ring.Add(agent.AddedKey{PrivateKey: k}); err != nil {
			t.Fatal(err)
		}
	}
	return listen(t, func(c net.Conn) {
		if err := agent.ServeAgent(ring, c); err != nil && !strings.Contains(err.Error(), "EOF") {
			t.Error(err)
		}
	})
}

// listen answers on a socket with a short name: that of a test's folder may be too long for one.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c)
		}
	}()
	return l.Addr().String()
}

const space = "refit-test"

var message = []byte("what is signed\n")

// keygen asks OpenSSH itself.
func keygen(t *testing.T, keyFile, namespace string, signature []byte) error {
	t.Helper()
	pub, err := os.ReadFile(keyFile + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, b := range map[string][]byte{"allowed": append([]byte("us "), pub...), "sig": signature} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "ssh-keygen", "-Y", "verify", "-f", filepath.Join(dir, "allowed"), "-I", "us", "-n", namespace, "-s", filepath.Join(dir, "sig"))
	cmd.Stdin = bytes.NewReader(message)
	return cmd.Run()
}

func TestOpenSSHAcceptsWhatIsSignedWithEachKindOfKeyAndFromAnAgent(t *testing.T) {
	ed := anEd25519(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	open, locked, rsaFile := keyPair(t, ed, ""), keyPair(t, ed, "secret"), keyPair(t, rsaKey, "")
	both := anAgent(t, anEd25519(t), ed, rsaKey)
	for name, o := range map[string]ssh.SignOptions{
		"a key in a file":              {KeyFile: open},
		"a key with a passphrase":      {KeyFile: locked, AgentSocket: both},
		"a public key":                 {KeyFile: open + ".pub", AgentSocket: both},
		"an RSA key":                   {KeyFile: rsaFile},
		"an RSA key that an agent has": {KeyFile: rsaFile + ".pub", AgentSocket: both},
	} {
		t.Run(name, func(t *testing.T) {
			o.Namespace = space
			s := ssh.NewSigner(o)
			if err := s.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			sig, err := s.Sign(t.Context(), message)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Verify(message, sig); err != nil {
				t.Error(err)
			}
			if err := keygen(t, strings.TrimSuffix(o.KeyFile, ".pub"), space, sig); err != nil {
				t.Errorf("ssh-keygen refuses it: %v", err)
			}
			if err := keygen(t, strings.TrimSuffix(o.KeyFile, ".pub"), "other", sig); err == nil {
				t.Error("ssh-keygen takes it for another purpose")
			}
			line, fingerprint, err := s.Key()
			if err != nil || !strings.HasPrefix(line, "ssh-") || !strings.HasPrefix(fingerprint, "SHA256:") {
				t.Errorf("the key is %q, %q, %v", line, fingerprint, err)
			}
		})
	}
}

func TestWhatKeepsAKeyFromSigningIsSaidBeforeAnythingIsSigned(t *testing.T) {
	ed := anEd25519(t)
	open, locked := keyPair(t, ed, ""), keyPair(t, ed, "secret")
	none := filepath.Join(t.TempDir(), "none")
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		o    ssh.SignOptions
		want string
	}{
		"no file":                    {ssh.SignOptions{KeyFile: none}, "cannot read the key that signs"},
		"no key":                     {ssh.SignOptions{KeyFile: text}, "neither a private nor a public ssh key"},
		"a passphrase, no agent":     {ssh.SignOptions{KeyFile: locked}, "load the key with ssh-add"},
		"a public key, no agent":     {ssh.SignOptions{KeyFile: open + ".pub"}, "load the key with ssh-add"},
		"an agent that is not there": {ssh.SignOptions{KeyFile: locked, AgentSocket: none}, "cannot reach the ssh agent"},
		"an agent without the key":   {ssh.SignOptions{KeyFile: locked, AgentSocket: anAgent(t, anEd25519(t))}, "the ssh agent has 1 keys and not the one of " + locked},
	} {
		t.Run(name, func(t *testing.T) {
			c.o.Namespace = space
			s := ssh.NewSigner(c.o)
			if err := s.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("ready: %v, wanted %q", err, c.want)
			}
			if sig, err := s.Sign(t.Context(), message); err == nil || sig != nil {
				t.Errorf("it signed: %q, %v", sig, err)
			}
		})
	}
}

func TestAnAgentThatSaysNothingEndsWithTheCaller(t *testing.T) {
	heard := make(chan struct{})
	socket := listen(t, func(c net.Conn) {
		b := make([]byte, 5)
		if _, err := c.Read(b); err == nil {
			close(heard)
		}
	})
	s := ssh.NewSigner(ssh.SignOptions{KeyFile: keyPair(t, anEd25519(t), "secret"), AgentSocket: socket, Namespace: space})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-heard
		cancel()
	}()
	if _, err := s.Sign(ctx, message); err == nil || !strings.Contains(err.Error(), "did not answer") {
		t.Errorf("got %v", err)
	}
}

func TestASignatureOfAnotherKeyTextOrPurposeIsNotOurs(t *testing.T) {
	ours := ssh.NewSigner(ssh.SignOptions{KeyFile: keyPair(t, anEd25519(t), ""), Namespace: space})
	sign := func(s *ssh.Signer, text string) []byte {
		t.Helper()
		sig, err := s.Sign(t.Context(), []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	good := sign(ours, string(message))
	theirs := ssh.NewSigner(ssh.SignOptions{KeyFile: keyPair(t, anEd25519(t), ""), Namespace: space})
	elsewhere := keyPair(t, anEd25519(t), "")
	for name, sig := range map[string][]byte{
		"another key":  sign(theirs, string(message)),
		"another text": sign(ours, "another"),
		"none":         nil,
		"no signature": []byte("-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n"),
	} {
		if err := ours.Verify(message, sig); err == nil {
			t.Errorf("%s: it passes", name)
		}
	}
	a, b := ssh.NewSigner(ssh.SignOptions{KeyFile: elsewhere, Namespace: space}), ssh.NewSigner(ssh.SignOptions{KeyFile: elsewhere, Namespace: "other"})
	if err := b.Verify(message, sign(a, string(message))); err == nil {
		t.Error("another purpose: it passes")
	}
	// A byte changed in the bytes that are signed, whichever, and it is none.
	block, _ := pem.Decode(good)
	for i := range block.Bytes {
		changed := *block
		changed.Bytes = bytes.Clone(block.Bytes)
		changed.Bytes[i] ^= 1
		if err := ours.Verify(message, pem.EncodeToMemory(&changed)); err == nil {
			t.Errorf("it passes with byte %d changed", i)
		}
	}
}
