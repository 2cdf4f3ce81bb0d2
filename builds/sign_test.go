package builds_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/hosts/node"
)

// pen is a key that signs with its name.
type pen struct {
	name   string
	ready  error
	fails  error
	signed []string
}

func (p *pen) Ready(context.Context) error { return p.ready }

func (p *pen) Sign(_ context.Context, message []byte) ([]byte, error) {
	if p.fails != nil {
		return nil, p.fails
	}
	p.signed = append(p.signed, string(message))
	return []byte(p.name + " signed " + string(message)), nil
}

func (p *pen) Verify(message, signature []byte) error {
	if want := p.name + " signed " + string(message); string(signature) != want {
		return errors.New("it is no signature of " + p.name)
	}
	return nil
}

func (p *pen) Key() (line, fingerprint string, err error) {
	return "ssh-test " + p.name, "SHA256:" + p.name, nil
}

func TestABuildIsSignedOnceAndTakenForBuiltOnlyWithThatSignature(t *testing.T) {
	w := newWorld(t)
	us := &pen{name: "us"}
	w.builder.Signer = us
	r := w.recipe()
	built, err := w.builder.Build(t.Context(), r, w.say)
	if err != nil || built.SignedBy != "SHA256:us" || !w.heard("v4.5.15 is signed with SHA256:us") {
		t.Fatalf("%+v, %v", built, err)
	}
	if want := []string{string(node.SignedText(built.Manifest.Digest))}; !slices.Equal(us.signed, want) {
		t.Errorf("signed %q, wanted %q", us.signed, want)
	}
	signature, err := node.ReadSignature(w.dir())
	if err != nil || us.Verify(node.SignedText(built.Manifest.Digest), signature) != nil {
		t.Errorf("the signature is %q, %v", signature, err)
	}
	again, err := w.builder.Build(t.Context(), r, w.say)
	if err != nil || !again.Cached || again.SignedBy != "SHA256:us" || len(us.signed) != 1 {
		t.Fatalf("a second time: %+v, %v", again, err)
	}
	file := filepath.Join(w.dir(), ".refit/manifest.json.sig")
	for name, spoil := range map[string]func() error{
		"not signed":         func() error { return os.Remove(file) },
		"no signature of us": func() error { return os.WriteFile(file, []byte("hello"), 0o600) },
		// What lies there is whole by its own manifest, which somebody changed with it.
		"signature of us": func() error {
			m, _, err := node.ReadManifest(w.dir())
			if err != nil {
				return err
			}
			m.Commit = strings.Repeat("0", 40)
			_, err = m.Write(w.dir())
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := spoil(); err != nil {
				t.Fatal(err)
			}
			us.signed, w.said = nil, nil
			jobs := len(w.host.started)
			built, err := w.builder.Build(t.Context(), r, w.say)
			if err != nil || built.Cached || len(w.host.started) == jobs || !w.heard("is made again: it is") || !w.heard(name) {
				t.Errorf("%+v, %v\n%s", built, err, strings.Join(w.said, "\n"))
			}
			if want := []string{string(node.SignedText(built.Manifest.Digest))}; !slices.Equal(us.signed, want) || built.Manifest.Commit != r.Release.Tag.Commit {
				t.Errorf("signed %q, wanted %q", us.signed, want)
			}
		})
	}
	// Another key's signature is none of this one's.
	w.builder.Signer = &pen{name: "others"}
	if built, err := w.builder.Build(t.Context(), r, w.say); err != nil || built.Cached || built.SignedBy != "SHA256:others" {
		t.Errorf("with another key: %+v, %v", built, err)
	}
	// Without a key it is what it is.
	w.builder.Signer = nil
	if built, err := w.builder.Build(t.Context(), r, w.say); err != nil || !built.Cached || built.SignedBy != "" {
		t.Errorf("without a key: %+v, %v", built, err)
	}
}

func TestNothingIsBuiltWithAKeyThatCannotSign(t *testing.T) {
	w := newWorld(t)
	w.builder.Signer = &pen{name: "us", ready: errors.New("the ssh agent has 0 keys")}
	_, err := w.builder.Build(t.Context(), w.recipe(), w.say)
	if err == nil || !strings.Contains(err.Error(), "could not be signed: the ssh agent has 0 keys") || len(w.host.started) > 0 || exists(t, w.dir()) {
		t.Errorf("%v, and %d steps were begun", err, len(w.host.started))
	}
}

func TestABuildThatCouldNotBeSignedInTheEndIsNotTakenForOne(t *testing.T) {
	for name, spoil := range map[string]func(*world, *pen){
		"the key is gone": func(_ *world, p *pen) { p.fails = errors.New("the ssh agent was asked and refused") },
		"the builder is gone": func(w *world, _ *pen) {
			w.host.before = func(verb string) error {
				if verb == "manifest.sign" {
					return errors.New("power lost")
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			us := &pen{name: "us"}
			w.builder.Signer = us
			spoil(w, us)
			r := w.recipe()
			if _, err := w.builder.Build(t.Context(), r, w.say); err == nil {
				t.Fatal("it is said to be built")
			}
			if sig, err := node.ReadSignature(w.dir()); err != nil || len(bytes.TrimSpace(sig)) > 0 {
				t.Errorf("it is signed: %q, %v", sig, err)
			}
			us.fails, w.host.before = nil, nil
			if built, err := w.builder.Build(t.Context(), r, w.say); err != nil || built.Cached || built.SignedBy == "" {
				t.Errorf("then: %+v, %v", built, err)
			}
		})
	}
}
