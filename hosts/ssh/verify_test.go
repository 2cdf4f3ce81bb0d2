package ssh_test

import (
	"strings"
	"testing"

	"vmst.io/refit/hosts/ssh"
)

func TestASignatureIsVerifiedByThePublicKeyAlone(t *testing.T) {
	signer := ssh.NewSigner(ssh.SignOptions{KeyFile: keyPair(t, anEd25519(t), ""), Namespace: space})
	line, fingerprint, err := signer.Key()
	if err != nil {
		t.Fatal(err)
	}
	sig, err := signer.Sign(t.Context(), message)
	if err != nil {
		t.Fatal(err)
	}
	if err := ssh.VerifyBy(line+" ana@laptop", space, message, sig); err != nil {
		t.Error(err)
	}
	if key, print, err := ssh.PublicKey("  " + line + " ana@laptop\n"); err != nil || key != line || print != fingerprint {
		t.Errorf("%q, %q, %v", key, print, err)
	}
	other, _, err := ssh.NewSigner(ssh.SignOptions{KeyFile: keyPair(t, anEd25519(t), "")}).Key()
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"another key":     ssh.VerifyBy(other, space, message, sig),
		"another purpose": ssh.VerifyBy(line, "git", message, sig),
		"another text":    ssh.VerifyBy(line, space, []byte("what is signed"), sig),
		"no key":          ssh.VerifyBy("ana", space, message, sig),
		"no signature":    ssh.VerifyBy(line, space, message, nil),
	} {
		if err == nil {
			t.Errorf("%s: it passes", name)
		}
	}
}

func TestAKeyThatIsNotOnePlainPublicKeyIsNone(t *testing.T) {
	line, _, err := ssh.NewSigner(ssh.SignOptions{KeyFile: keyPair(t, anEd25519(t), "")}).Key()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "ssh-ed25519", "ssh-ed25519 AAAA", "/home/ana/.ssh/id.pub", `command="x" ` + line, line + "\n" + line} {
		if _, _, err := ssh.PublicKey(text); err == nil {
			t.Errorf("%q is taken for a key", text)
		}
	}
}

func TestAnAgentSignsWithTheKeyOfAPublicHalf(t *testing.T) {
	key := anEd25519(t)
	line, _, err := ssh.NewSigner(ssh.SignOptions{KeyFile: keyPair(t, key, "")}).Key()
	if err != nil {
		t.Fatal(err)
	}
	s := ssh.NewSigner(ssh.SignOptions{PublicKey: line, AgentSocket: anAgent(t, anEd25519(t), key), Namespace: space})
	sig, err := s.Sign(t.Context(), message)
	if err != nil {
		t.Fatal(err)
	}
	if err := ssh.VerifyBy(line, space, message, sig); err != nil {
		t.Error(err)
	}
	for want, o := range map[string]ssh.SignOptions{
		"no ssh agent runs here": {PublicKey: line},
		"has 1 keys and not":     {PublicKey: line, AgentSocket: anAgent(t, anEd25519(t))},
	} {
		if err := ssh.NewSigner(o).Ready(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
		}
	}
}
