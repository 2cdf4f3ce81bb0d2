package builds

import (
	"context"
	"errors"
	"fmt"

	"vmst.io/refit/hosts/node"
)

// Signer signs what was built. *ssh.Signer is one.
type Signer interface {
	// Ready tells what would keep Sign from it, without signing.
	Ready(ctx context.Context) error
	// Sign signs a message with the key.
	Sign(ctx context.Context, message []byte) ([]byte, error)
	// Verify tells whether a signature is the key's own, over the message.
	Verify(message, signature []byte) error
	// Key is the public key as a line, and its fingerprint.
	Key() (line, fingerprint string, err error)
}

// CanSign asks for the key before anything is built: a build takes minutes.
func (b *Builder) CanSign(ctx context.Context) error {
	if b.Signer == nil {
		return nil
	}
	if err := b.Signer.Ready(ctx); err != nil {
		return fmt.Errorf("what is built could not be signed: %w", err)
	}
	return nil
}

// Vouched tells why a signature is not the one that a manifest of that digest must have;
// nil if it is, or none is asked for. Only what this process saw being built is signed by
// it: a signature put on whatever lies on the builder would say nothing.
func (b *Builder) Vouched(digest string, signature []byte) error {
	if b.Signer == nil {
		return nil
	}
	if len(signature) == 0 {
		return errors.New("it is not signed")
	}
	return b.Signer.Verify(node.SignedText(digest), signature)
}

// unsigned tells why a whole build is not signed as it must be; nil if it is.
func (b *Builder) unsigned(state LookOut) error {
	if state.State != Whole {
		return nil
	}
	return b.Vouched(state.Manifest.Digest, state.Signature)
}

// Has tells whether what was found is the whole release, built by that recipe and signed
// as it must be.
func (b *Builder) Has(found LookOut, recipe string) bool {
	return found.State == Whole && found.Recipe == recipe && b.unsigned(found) == nil
}

// signer is the fingerprint of the key; empty for none.
func (b *Builder) signer() (string, error) {
	if b.Signer == nil {
		return "", nil
	}
	_, fingerprint, err := b.Signer.Key()
	return fingerprint, err
}

// sign signs the manifest that this build ended with, by the digest that the builder
// gave for it, and puts the signature beside it.
func (b *Builder) sign(ctx context.Context, r Recipe, built *Built, say func(string)) error {
	if b.Signer == nil {
		return nil
	}
	fingerprint, err := b.SignManifest(ctx, r.Layout.Dir(r.Release.Version), built.Manifest.Digest)
	if err != nil {
		return err
	}
	built.SignedBy = fingerprint
	say(fmt.Sprintf("%s is signed with %s: manifest %.12s", r.Release.Version, fingerprint, built.Manifest.Digest))
	return nil
}

// SignManifest signs what lies in a directory on the builder, by the digest of its
// manifest, and says with which key. The digest must be one that the caller knows of
// its own: from the verb that ended the build.
func (b *Builder) SignManifest(ctx context.Context, dir, digest string) (fingerprint string, err error) {
	signature, err := b.Signer.Sign(ctx, node.SignedText(digest))
	if err == nil {
		fingerprint, err = b.signer()
	}
	if err != nil {
		return "", fmt.Errorf("%s on %s is built and could not be signed, so no node will take it: %w", dir, b.Name, err)
	}
	if err := b.Host.Call(ctx, "manifest.sign", node.SignIn{Release: dir, Digest: digest, Signature: signature}, nil, nil, nil); err != nil {
		return "", err
	}
	return fingerprint, nil
}
