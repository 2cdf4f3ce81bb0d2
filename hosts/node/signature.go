package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// SignatureNamespace is what a manifest's signature is made for: ssh-keygen's -n.
const SignatureNamespace = "refit-manifest"

// signatureFile lies beside the manifest and is no part of what that lists.
const signatureFile = metaDir + "/manifest.json.sig"

// maxSignature bounds a signature, in bytes; one of RSA's with its key takes 3,000.
const maxSignature = 64 << 10

// Signed says whose signature a host asks of a manifest. A nil *Signed asks for none.
type Signed struct {
	// Allowed is the path on the host of a file of allowed signers (ssh-keygen(1),
	// ALLOWED SIGNERS). It is root's and nobody else can write to it, or it allows nothing.
	Allowed string `json:"allowed"`
	// Identity is the name in that file that the signer signs as.
	Identity string `json:"identity"`
}

// SignedText is what the signature of a manifest is over: its digest and a line's end.
func SignedText(digest string) []byte { return []byte(digest + "\n") }

// ReadSignature reads the signature of the manifest in root; nil where there is none.
func ReadSignature(root string) ([]byte, error) {
	f, err := os.Open(filepath.Join(root, signatureFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSignature+1))
	if err == nil && len(b) > maxSignature {
		err = fmt.Errorf("%s is longer than any signature", f.Name())
	}
	return b, err
}

// demand holds a signature to what is asked for, by OpenSSH's own ssh-keygen, and says
// whose it is: "refit with ED25519 key SHA256:…". All that is refused has CodeSignature.
func (m Machine) demand(ctx context.Context, s *Signed, message, signature []byte) (by string, err error) {
	if s == nil {
		return "", nil
	}
	if len(signature) == 0 {
		return "", Failf(CodeSignature, "it is not signed, and refit.yml asks for a signature of %s: nothing of it is unpacked; build it again with the key that signs", s.Identity)
	}
	if err := allows(s.Allowed); err != nil {
		return "", err
	}
	file, err := m.scratch("signature", signature)
	if err != nil {
		return "", fmt.Errorf("cannot look at the signature: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ssh-keygen", "-Y", "verify", "-f", s.Allowed, "-I", s.Identity, "-n", SignatureNamespace, "-s", file)
	cmd.Stdin, cmd.Dir, cmd.WaitDelay = bytes.NewReader(message), "/", time.Second
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	out, err := cmd.CombinedOutput()
	said := strings.Join(strings.Fields(string(out)), " ")
	if gone := os.Remove(file); gone != nil && err == nil {
		err = gone
	}
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", Failf(CodeSignature, "there is no ssh-keygen here to look at the signature with: install openssh-client")
	case ctx.Err() != nil:
		return "", Failf(CodeSignature, "ssh-keygen did not say within %s whether the signature is good", commandTime)
	case errors.As(err, &exit):
		return "", Failf(CodeSignature, "the signature is not one that %s accepts from %s (ssh-keygen: %s)", s.Allowed, s.Identity, said)
	case err != nil:
		return "", fmt.Errorf("cannot look at the signature: %w", err)
	}
	// Good "refit-manifest" signature for refit with ED25519 key SHA256:…
	_, by, ok := strings.Cut(said, " signature for ")
	if !ok {
		return "", Failf(CodeSignature, "ssh-keygen says of the signature: %q", said)
	}
	return by, nil
}

// allows refuses a file of allowed signers in which others than root can add one.
func allows(file string) error {
	if !filepath.IsAbs(file) {
		return Failf(CodeSignature, "the file of allowed signers %q is no absolute path", file)
	}
	fi, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Failf(CodeSignature, "this host has no file of allowed signers %s, so it allows none", file)
	}
	if err != nil {
		return fmt.Errorf("cannot look at the allowed signers: %w", err)
	}
	if !fi.Mode().IsRegular() {
		return Failf(CodeSignature, "the file of allowed signers %s is no file", file)
	}
	for _, p := range []string{file, filepath.Dir(file)} {
		if !ours(p) {
			return Failf(CodeSignature, "%s can be changed by others than root, so who is allowed to sign means nothing: as root there, chown root:root %s && chmod go-w %s", p, p, p)
		}
	}
	return nil
}

// scratch writes a file that lives for one call, in memory: on a full disk too.
func (m Machine) scratch(name string, b []byte) (string, error) {
	dir := filepath.Dir(m.holdersDir())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, tempPrefix+name+"-*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// rootOf is the directory that a ManifestIn and its like name.
func rootOf(homeDir, release string) (string, error) {
	if filepath.IsAbs(release) {
		return filepath.Clean(release), nil
	}
	return releaseDir(homeDir, release), checkRelease(release)
}

func (m Machine) signManifest(_ context.Context, in SignIn, _ io.Reader, _ func(string)) (struct{}, error) {
	dir, err := rootOf(in.Home, in.Release)
	if err != nil {
		return struct{}{}, err
	}
	if len(in.Signature) == 0 || len(in.Signature) > maxSignature {
		return struct{}{}, fmt.Errorf("cannot sign %s: %d bytes are no signature", in.Release, len(in.Signature))
	}
	_, b, err := readManifest(dir)
	if err != nil {
		return struct{}{}, err
	}
	if digest := digestOf(b); digest != in.Digest {
		return struct{}{}, Failf(CodePayload, "%s holds the release with digest %.12s, not %.12s: it was built again", dir, digest, in.Digest)
	}
	return struct{}{}, writeFile(filepath.Join(dir, signatureFile), in.Signature, 0o644)
}

func (m Machine) checkSignature(ctx context.Context, in SignatureIn, _ io.Reader, _ func(string)) (SignatureOut, error) {
	by, err := m.demand(ctx, &in.Signed, in.Message, in.Signature)
	return SignatureOut{By: by}, err
}
