package stages

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"

	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// Gaps are what is not proved since refit.yml does not ask for it, one line each.
func (d Deps) Gaps() []string {
	if d.Signing != nil {
		return nil
	}
	return []string{"nothing is signed: refit.yml names no key (signing), so a node takes a release on the word of whoever reaches it, and nobody can prove later who built what runs there"}
}

// writable are the directories of a release that Mastodon may write to.
func writable() []string { return []string{"tmp"} }

// lookAtSigning signs a text that is no manifest's and asks every node whether it would
// accept that signature.
func (d Deps) lookAtSigning(ctx context.Context, v *View, nodes Fleet, mu *sync.Mutex) {
	if d.Signing == nil {
		return
	}
	text := []byte("trial " + rand.Text() + "\n")
	var signature []byte
	err := errors.New("refit has no key to sign with")
	if d.Builder != nil && d.Builder.Signer != nil {
		signature, err = d.Builder.Signer.Sign(ctx, text)
	}
	if err != nil {
		mu.Lock()
		defer mu.Unlock()
		v.SigningErr = err
		return
	}
	gather(nodes, func(n Node) {
		_, err := n.Agent.CheckSignature(ctx, node.SignatureIn{Signed: *d.Signing, Message: text, Signature: signature})
		mu.Lock()
		defer mu.Unlock()
		v.Signing[n.Name] = err
	})
}

// signing: what refit signs, every node accepts.
func (j *judgement) signing() {
	if j.d.Signing == nil {
		return
	}
	if j.v.SigningErr != nil {
		j.refuse("what is built could not be signed: %v", j.v.SigningErr)
		return
	}
	for _, n := range j.d.Fleet.Apps() {
		if err := j.v.Signing[n.Name]; err != nil {
			j.refuse("%v%s", err, j.remedy(err))
		}
	}
}

// remedy is the line that is missing on a node that does not accept the key.
func (j *judgement) remedy(err error) string {
	if !errors.Is(err, node.ErrSignature) || j.d.Builder == nil || j.d.Builder.Signer == nil {
		return ""
	}
	line, _, keyErr := j.d.Builder.Signer.Key()
	if keyErr != nil {
		return fmt.Sprintf(" (and the key's public half cannot be read: %v)", keyErr)
	}
	return fmt.Sprintf(". If refit's key is to be allowed there, this line belongs into %s, which is root's: %s namespaces=%q %s",
		j.d.Signing.Allowed, j.d.Signing.Identity, node.SignatureNamespace, line)
}

// proven hashes a release on a node again, right before the node is taken out for it,
// and gives the digest of its manifest. Going forward nothing is switched to that is not
// what was built. Going back, what is found is said and stands in the journal and the
// report: it is what ran there before, and leaving the node on a release that fails would
// be worse.
func (d Deps) proven(ctx context.Context, n Node, f *Facts, release string, say pipeline.Say) (digest string, err error) {
	back := release == f.From.Version.String()
	in := node.VerifyIn{Home: d.Layout.Home, Release: release, Signed: d.Signing, Links: d.Layout.SharedLinks(), Writable: writable()}
	if !back {
		in.Digest = f.of(n).Digest
	}
	out, err := n.Agent.PlaceVerify(ctx, in, sayer(n, say))
	if err == nil {
		err = errors.Join(unlike(out), d.provenTools(ctx, n, out.Toolchains))
	}
	switch {
	case err == nil:
		return out.Digest, nil
	case lost(err) || ctx.Err() != nil:
		return "", err
	case back && errors.Is(err, errNoRuntime):
		// It could not be started: what runs there now goes on.
		return "", fmt.Errorf("%s: cannot go back to %s: %w. Copy that directory from a node that has it, as root and with tar, which keeps owners and modes", n.Name, release, err)
	case back:
		line := fmt.Sprintf("%s: goes back to %s all the same, which is not proved to be what was placed: %v", n.Name, release, err)
		say("%s", line)
		if !slices.Contains(f.Unproved, line) { // a step may be run again
			f.Unproved = append(f.Unproved, line)
		}
		return "", nil
	}
	return "", fmt.Errorf("%s: %s is not switched to: %w. `refit place --to %s` puts it there anew", n.Name, release, err, release)
}

// unlike tells in what a release that was hashed again is not what was placed; nil for
// nothing.
func unlike(out node.VerifyOut) error {
	if n := len(out.Differences) + out.More; n > 0 {
		return fmt.Errorf("%d files are not as they were built, %s first", n, out.Differences[0])
	}
	if out.Unsigned != "" {
		return errors.New(out.Unsigned)
	}
	return nil
}

// errNoRuntime: a release cannot be started on a node.
var errNoRuntime = errors.New("it cannot be started there")

// provenTools hashes the Ruby, the Bundler and the Node that a release runs with.
func (d Deps) provenTools(ctx context.Context, n Node, tools []node.ToolchainRef) error {
	for _, t := range tools {
		out, err := n.Agent.PlaceVerify(ctx, node.VerifyIn{Kind: node.KindToolchain, Release: t.Name, Signed: d.Signing}, nil)
		if errors.Is(err, node.ErrNotFound) {
			return fmt.Errorf("%w without %s/%s, which is not there", errNoRuntime, node.ToolchainsDir, t.Name)
		}
		if err == nil {
			err = unlike(out)
		}
		if err == nil && out.Recipe != t.Recipe {
			err = fmt.Errorf("it was made by another recipe (%.12s) than the release was built with (%.12s)", out.Recipe, t.Recipe)
		}
		if err != nil {
			return fmt.Errorf("%s, which it runs with: %w", t.Name, err)
		}
	}
	return nil
}
