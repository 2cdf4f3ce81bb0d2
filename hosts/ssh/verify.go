package ssh

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// publicKey reads a line of a file of authorized keys, without options.
func publicKey(line string) (ssh.PublicKey, error) {
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	switch {
	case err != nil:
		return nil, fmt.Errorf("it is no public ssh key such as \"ssh-ed25519 AAAA…\": %w", err)
	case len(options) > 0 || len(bytes.TrimSpace(rest)) > 0:
		return nil, fmt.Errorf("it is more than one public ssh key: only \"ssh-ed25519 AAAA…\" and a comment may stand there")
	case strings.Contains(key.Type(), "-cert-"):
		return nil, fmt.Errorf("it is a certificate (%s), which is not verified: name the key itself", key.Type())
	}
	return key, nil
}

// PublicKey gives a public key, "ssh-ed25519 AAAA… comment", as a key alone without its
// comment, and its fingerprint, "SHA256:…".
func PublicKey(line string) (key, fingerprint string, err error) {
	own, err := publicKey(line)
	if err != nil {
		return "", "", err
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(own))), ssh.FingerprintSHA256(own), nil
}

// VerifyBy tells whether a signature over the message, made for that namespace, is that of
// a public key, "ssh-ed25519 AAAA…".
func VerifyBy(key, namespace string, message, signature []byte) error {
	own, err := publicKey(key)
	if err != nil {
		return err
	}
	return verify(own, namespace, message, signature)
}

func verify(own ssh.PublicKey, namespace string, message, signature []byte) error {
	sig, err := sshsig.Unarmor(signature)
	if err != nil {
		return fmt.Errorf("it is no ssh signature: %w", err)
	}
	if err := sshsig.Verify(bytes.NewReader(message), sig, own, sig.HashAlgorithm, namespace); err != nil {
		return fmt.Errorf("it is no signature of %s: %w", ssh.FingerprintSHA256(own), err)
	}
	return nil
}
