package node

import "context"

// SignIn is the signature of a built release's manifest.
type SignIn struct {
	// Home and Release as in ManifestIn.
	Home    string `json:"home,omitempty"`
	Release string `json:"release"`
	// Digest is the manifest's that was signed; another one there gives ErrPayload.
	Digest string `json:"digest"`
	// Signature is armored, over SignedText(Digest).
	Signature []byte `json:"signature"`
}

// SignManifest puts a signature beside the manifest of a built release. Packs carry it
// from then on. It does not look at the signature: who receives it does.
func (a *Agent) SignManifest(ctx context.Context, in SignIn) error {
	_, err := call[struct{}](ctx, a, "manifest.sign", in, nil, nil)
	return err
}

// SignatureIn is a signature and what it should be.
type SignatureIn struct {
	Signed Signed `json:"signed"`
	// Message is what was signed.
	Message   []byte `json:"message"`
	Signature []byte `json:"signature"`
}

// SignatureOut tells whose signature it is.
type SignatureOut struct {
	// By is the signer with the key: "refit with ED25519 key SHA256:…".
	By string `json:"by"`
}

// CheckSignature asks whether the host would accept a signature for a manifest's:
// ErrSignature if not. It changes nothing.
func (a *Agent) CheckSignature(ctx context.Context, in SignatureIn) (SignatureOut, error) {
	return call[SignatureOut](ctx, a, "signature.check", in, nil, nil)
}
