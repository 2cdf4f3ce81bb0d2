package ssh

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// agentTime is how long an ssh agent may take: its user may have to touch a key.
const agentTime = time.Minute

// SignOptions say which key signs, and what for.
type SignOptions struct {
	// KeyFile is a private key; or a public key (.pub), or a private key with a
	// passphrase, whose private half an ssh agent has.
	KeyFile string
	// PublicKey is, instead of a file, the public half of a key that an ssh agent has:
	// "ssh-ed25519 AAAA…".
	PublicKey string
	// AgentSocket is the path of the agent's socket (SSH_AUTH_SOCK), asked only where
	// KeyFile is not enough; empty for none.
	AgentSocket string
	// Namespace says what is signed (ssh-keygen(1), -n): a signature made for one
	// purpose is none for another.
	Namespace string
}

// Signer signs with one ssh key, as "ssh-keygen -Y sign" does.
type Signer struct{ o SignOptions }

// NewSigner makes a Signer. It reads nothing yet.
func NewSigner(o SignOptions) *Signer { return &Signer{o} }

// Ready tells what would keep Sign from signing, as far as that is known without
// signing: the key's file, the agent, whether the agent has the key.
func (s *Signer) Ready(ctx context.Context) error {
	return s.with(ctx, func(ssh.Signer) error { return nil })
}

// Sign signs a message. The signature is armored, as in a file of "ssh-keygen -Y sign".
func (s *Signer) Sign(ctx context.Context, message []byte) ([]byte, error) {
	var armored []byte
	err := s.with(ctx, func(key ssh.Signer) error {
		sig, err := sshsig.Sign(bytes.NewReader(message), key, sshsig.HashSHA512, s.o.Namespace)
		if err != nil {
			return fmt.Errorf("cannot sign with %s: %w", s.o.KeyFile, err)
		}
		armored = sshsig.Armor(sig)
		return nil
	})
	return armored, err
}

// Verify tells whether a signature is this key's own, over the message.
func (s *Signer) Verify(message, signature []byte) error {
	own, _, err := s.read()
	if err != nil {
		return err
	}
	return verify(own, s.o.Namespace, message, signature)
}

// Key is the public key as a file of allowed signers names it, "ssh-ed25519 AAAA…",
// and its fingerprint, "SHA256:…".
func (s *Signer) Key() (line, fingerprint string, err error) {
	own, _, err := s.read()
	if err != nil {
		return "", "", err
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(own))), ssh.FingerprintSHA256(own), nil
}

// read reads the key's file: its public half, and the private one if that lies open in it.
func (s *Signer) read() (ssh.PublicKey, ssh.Signer, error) {
	if s.o.PublicKey != "" {
		own, err := publicKey(s.o.PublicKey)
		return own, nil, err
	}
	b, err := os.ReadFile(s.o.KeyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the key that signs: %w", err)
	}
	key, err := ssh.ParsePrivateKey(b)
	if err == nil {
		return key.PublicKey(), key, nil
	}
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		if locked.PublicKey != nil {
			return locked.PublicKey, nil, nil
		}
		// Older forms of private keys do not show their public half.
		pub, err := os.ReadFile(s.o.KeyFile + ".pub")
		if err != nil {
			return nil, nil, fmt.Errorf("the key that signs, %s, has a passphrase and its public half is not beside it: %w", s.o.KeyFile, err)
		}
		b = pub
	}
	own, _, _, _, pubErr := ssh.ParseAuthorizedKey(b)
	if pubErr != nil {
		return nil, nil, fmt.Errorf("%s is neither a private nor a public ssh key: %w", s.o.KeyFile, err)
	}
	return own, nil, nil
}

// with calls do with the key, wherever its private half is.
func (s *Signer) with(ctx context.Context, do func(ssh.Signer) error) error {
	own, key, err := s.read()
	if err != nil {
		return err
	}
	if key != nil {
		return do(key)
	}
	if s.o.AgentSocket == "" {
		return fmt.Errorf("%s holds no key that can sign by itself, and no ssh agent runs here: start one, load the key with ssh-add, and see that SSH_AUTH_SOCK is set", cmp.Or(s.o.KeyFile, "a public half"))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, agentTime, errTooLong)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", s.o.AgentSocket)
	if err != nil {
		return fmt.Errorf("cannot reach the ssh agent, which has the key that signs: %w", err)
	}
	// A read of an agent that says nothing ends when the connection does.
	stop := context.AfterFunc(ctx, func() {
		conn.Close() //nolint:errcheck // it is closed to end the wait, which is reported
	})
	err = s.inAgent(agent.NewClient(conn), own, do)
	stop()
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = fmt.Errorf("the ssh agent did not answer within %s: %w", agentTime, cause)
	}
	return errors.Join(err, closeQuietly(conn))
}

// inAgent calls do with the agent's key of that public half.
func (s *Signer) inAgent(a agent.Agent, own ssh.PublicKey, do func(ssh.Signer) error) error {
	keys, err := a.Signers()
	if err != nil {
		return fmt.Errorf("cannot ask the ssh agent for its keys: %w", err)
	}
	for _, k := range keys {
		if bytes.Equal(k.PublicKey().Marshal(), own.Marshal()) {
			return do(k)
		}
	}
	return fmt.Errorf("the ssh agent has %d keys and not the one of %s (%s): load it with ssh-add", len(keys), cmp.Or(s.o.KeyFile, "that public half"), ssh.FingerprintSHA256(own))
}
