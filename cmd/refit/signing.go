package main

import (
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"vmst.io/refit/hosts/node"
	"vmst.io/refit/hosts/ssh"
)

// allowedSigners is where a node's file of allowed signers lies unless refit.yml says otherwise.
const allowedSigners = "/etc/refit/allowed_signers"

// signerName is a principal as ssh-keygen takes it: without what that reads as a pattern
// or as a list.
var signerName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9@._+-]*$`)

func (c config) checkSigning(w *wrongs) {
	s := c.Signing
	if s == nil {
		return
	}
	if strings.TrimSpace(s.Key) == "" {
		w.say("signing.key", "is missing: name the ssh key that signs, or its public half if an ssh agent has it")
	}
	if strings.HasPrefix(s.Key, "-----BEGIN") || strings.HasPrefix(s.Key, "ssh-") {
		w.say("signing.key", "is no path: it names a file with the key, and holds none")
	}
	if s.Identity != "" && !signerName.MatchString(s.Identity) {
		w.say("signing.identity", "%q is no name for a signer: letters, digits and @._+- only", s.Identity)
	}
	if s.Allowed != "" && (!filepath.IsAbs(s.Allowed) || filepath.Clean(s.Allowed) != s.Allowed) {
		w.say("signing.allowed", "%q is not a clean absolute path", s.Allowed)
	}
}

// wireSigning lets the builder sign, and nodes ask for it, if refit.yml names a key.
func (x *session) wireSigning() error {
	s := x.config.Signing
	if s == nil {
		return nil
	}
	key, err := x.config.path(s.Key)
	if err != nil {
		return err
	}
	x.deps.Signing = &node.Signed{Allowed: cmp.Or(s.Allowed, allowedSigners), Identity: cmp.Or(s.Identity, "refit")}
	x.deps.Builder.Signer = ssh.NewSigner(ssh.SignOptions{KeyFile: key, AgentSocket: os.Getenv("SSH_AUTH_SOCK"), Namespace: node.SignatureNamespace})
	return nil
}
