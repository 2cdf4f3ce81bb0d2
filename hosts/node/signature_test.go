package node_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/hosts/ssh"
)

// signer is a key, made by OpenSSH.
type signer struct {
	t    *testing.T
	file string
}

func newSigner(t *testing.T) signer {
	t.Helper()
	s := signer{t, filepath.Join(t.TempDir(), "key")}
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", s.file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return s
}

// line is the key in a file of allowed signers.
func (s signer) line(options string) string {
	s.t.Helper()
	b, err := os.ReadFile(s.file + ".pub")
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace("refit "+options) + " " + string(b)
}

func (s signer) sign(namespace, text string) []byte {
	s.t.Helper()
	sig, err := ssh.NewSigner(ssh.SignOptions{KeyFile: s.file, Namespace: namespace}).Sign(s.t.Context(), []byte(text))
	if err != nil {
		s.t.Fatal(err)
	}
	return sig
}

// allow writes a file of allowed signers.
func allow(t *testing.T, lines ...string) *node.Signed {
	t.Helper()
	file := filepath.Join(t.TempDir(), "allowed_signers")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "")), 0o644); err != nil { //nolint:gosec // as on a host
		t.Fatal(err)
	}
	return &node.Signed{Allowed: file, Identity: "refit"}
}

// signedAs puts a signature beside a built release's manifest.
func signedAs(t *testing.T, a *node.Agent, root string, signature []byte) {
	t.Helper()
	if err := a.SignManifest(t.Context(), node.SignIn{Release: root, Digest: headOf(t, root).Digest, Signature: signature}); err != nil {
		t.Fatal(err)
	}
}

func TestANodeTakesNothingThatIsNotSignedAsItAsks(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	root, m := build(t, "v1.0.0", v1)
	us, them := newSigner(t), newSigner(t)
	text := string(node.SignedText(headOf(t, root).Digest))
	good := us.sign(node.SignatureNamespace, text)
	chmod := func(path string, mode os.FileMode) *node.Signed {
		s := allow(t, us.line(""))
		if path == "dir" {
			path = filepath.Dir(s.Allowed)
		} else {
			path = s.Allowed
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return s
	}
	for name, c := range map[string]struct {
		signature []byte
		asked     *node.Signed
		want      string // empty: it is taken
	}{
		"signed by the key that is allowed": {good, allow(t, us.line("")), ""},
		"allowed for manifests alone":       {good, allow(t, them.line(""), us.line(`namespaces="refit-manifest"`)), ""},
		"nothing is asked for":              {nil, nil, ""},
		"not signed":                        {nil, allow(t, us.line("")), "it is not signed"},
		"another key":                       {them.sign(node.SignatureNamespace, text), allow(t, us.line("")), "not one that"},
		"another manifest":                  {us.sign(node.SignatureNamespace, strings.Repeat("0", 64)+"\n"), allow(t, us.line("")), "not one that"},
		"without the line's end":            {us.sign(node.SignatureNamespace, strings.TrimSpace(text)), allow(t, us.line("")), "not one that"},
		"for another purpose":               {us.sign("git", text), allow(t, us.line("")), "not one that"},
		"allowed for another purpose":       {good, allow(t, us.line(`namespaces="git"`)), "not one that"},
		"allowed until last year":           {good, allow(t, us.line(`valid-before="20250101"`)), "not one that"},
		"another's name":                    {good, &node.Signed{Allowed: allow(t, us.line("")).Allowed, Identity: "eve"}, "from eve"},
		"no signature at all":               {[]byte("hello"), allow(t, us.line("")), "not one that"},
		"no file of allowed signers":        {good, &node.Signed{Allowed: "/nowhere/allowed", Identity: "refit"}, "has no file of allowed signers /nowhere/allowed"},
		"an empty one":                      {good, allow(t), "not one that"},
		"one that is named from here":       {good, &node.Signed{Allowed: "allowed", Identity: "refit"}, "no absolute path"},
		"a folder":                          {good, &node.Signed{Allowed: t.TempDir(), Identity: "refit"}, "is no file"},
		"one that all can write to":         {good, chmod("file", 0o666), "can be changed by others than root"},
		"one that a group can write to":     {good, chmod("file", 0o664), "can be changed by others than root"},
		"one in a folder of all":            {good, chmod("dir", 0o777), "can be changed by others than root"},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			if err := os.RemoveAll(filepath.Join(root, ".refit/manifest.json.sig")); err != nil {
				t.Fatal(err)
			}
			if c.signature != nil {
				signedAs(t, a, root, c.signature)
			}
			want, put := wantIn(t, home, root), putIn(t, home, root)
			want.Signed, put.Signed = c.asked, c.asked
			_, wantErr := a.PlaceWant(t.Context(), want, pack(t, a, root), nil)
			_, putErr := a.PlacePut(t.Context(), put, pack(t, a, root, distinct(m)...), nil)
			if c.want == "" {
				if err := errors.Join(wantErr, putErr); err != nil {
					t.Fatal(err)
				}
				kept, err := node.ReadSignature(filepath.Join(home, "releases/v1.0.0"))
				if err != nil || !bytes.Equal(kept, c.signature) {
					t.Errorf("the signature on the node is %q, %v", kept, err)
				}
				return
			}
			for _, err := range []error{wantErr, putErr} {
				if !errors.Is(err, node.ErrSignature) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want ErrSignature with %q", err, c.want)
				}
			}
			if left, err := os.ReadDir(home); err != nil || len(left) > 0 {
				t.Errorf("left %v, %v", left, err)
			}
		})
	}
}

func TestAHostSaysBeforehandWhetherItWouldAcceptAKey(t *testing.T) {
	a, m := hoststest.NewNode(t, nil)
	us, them := newSigner(t), newSigner(t)
	in := node.SignatureIn{Signed: *allow(t, us.line("")), Message: []byte("trial 1\n"), Signature: us.sign(node.SignatureNamespace, "trial 1\n")}
	out, err := a.CheckSignature(t.Context(), in)
	if err != nil || !strings.HasPrefix(out.By, "refit with ED25519 key SHA256:") {
		t.Errorf("got %q, %v", out.By, err)
	}
	in.Signature = them.sign(node.SignatureNamespace, "trial 1\n")
	if _, err := a.CheckSignature(t.Context(), in); !errors.Is(err, node.ErrSignature) {
		t.Errorf("another key: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := a.CheckSignature(t.Context(), in); !errors.Is(err, node.ErrSignature) || !strings.Contains(err.Error(), "install openssh-client") {
		t.Errorf("without ssh-keygen: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(m.State, "run", ".refit-tmp-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestASignatureIsPutBesideNoOtherManifestThanTheOneSigned(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	root, _ := build(t, "v1.0.0", v1)
	err := a.SignManifest(t.Context(), node.SignIn{Release: root, Digest: strings.Repeat("0", 64), Signature: []byte("x")})
	if !errors.Is(err, node.ErrPayload) || !strings.Contains(err.Error(), "built again") {
		t.Errorf("another digest: %v", err)
	}
	for name, in := range map[string]node.SignIn{
		"none":        {Release: root, Digest: headOf(t, root).Digest},
		"an endless":  {Release: root, Digest: headOf(t, root).Digest, Signature: make([]byte, 1<<17)},
		"no release":  {Release: "../x", Digest: headOf(t, root).Digest, Signature: []byte("x")},
		"no manifest": {Release: t.TempDir(), Digest: headOf(t, root).Digest, Signature: []byte("x")},
	} {
		if err := a.SignManifest(t.Context(), in); err == nil {
			t.Errorf("%s: it was signed", name)
		}
	}
	if sig, err := node.ReadSignature(root); err != nil || sig != nil {
		t.Errorf("a signature lies there: %q, %v", sig, err)
	}
	// A signature is no part of what the manifest lists.
	signedAs(t, a, root, []byte("x"))
	m, _, err := node.ReadManifest(root)
	if err != nil {
		t.Fatal(err)
	}
	if diffs, err := m.Compare(t.Context(), root); err != nil || len(diffs) > 0 {
		t.Errorf("%v, %v", diffs, err)
	}
}

func TestAReleaseThatLiesThereUnsignedIsGivenItsSignature(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	home := t.TempDir()
	root, _ := build(t, "v1.0.0", v1)
	if _, _, err := place(t, a, home, root); err != nil {
		t.Fatal(err)
	}
	us := newSigner(t)
	signedAs(t, a, root, us.sign(node.SignatureNamespace, string(node.SignedText(headOf(t, root).Digest))))
	asked := allow(t, us.line(""))
	want, put := wantIn(t, home, root), putIn(t, home, root)
	want.Signed, put.Signed = asked, asked
	w, err := a.PlaceWant(t.Context(), want, pack(t, a, root), nil)
	if err != nil || w.Placed || len(w.Indexes) > 0 {
		t.Fatalf("want: %+v, %v", w, err)
	}
	p, err := a.PlacePut(t.Context(), put, pack(t, a, root), nil)
	if err != nil || !p.Placed {
		t.Fatalf("put: %+v, %v", p, err)
	}
	if w, err = a.PlaceWant(t.Context(), want, pack(t, a, root), nil); err != nil || !w.Placed {
		t.Errorf("want again: %+v, %v", w, err)
	}
	v, err := a.PlaceVerify(t.Context(), node.VerifyIn{Home: home, Release: "v1.0.0", Signed: asked}, nil)
	if err != nil || v.Unsigned != "" || !strings.HasPrefix(v.SignedBy, "refit with ED25519 key") {
		t.Errorf("verify: %+v, %v", v, err)
	}
}

// Whoever can change the request too, and so the digest that is asked for, changes each
// field of a manifest in turn, and each of an entry.
func TestEveryFieldOfAManifestIsUnderItsSignature(t *testing.T) {
	a, _ := hoststest.NewNode(t, nil)
	us := newSigner(t)
	asked := allow(t, us.line(""))
	change := func(v reflect.Value) {
		switch x := v.Addr().Interface().(type) {
		case *string:
			*x += "a"
		case *int:
			*x++
		case *int64:
			*x++
		case *uint32:
			*x ^= 0o100
		case *bool:
			*x = !*x
		case *[]string:
			*x = append(*x, "more")
		case *time.Time:
			*x = x.Add(time.Second)
		case *node.Kind:
			*x = node.KindToolchain
		case *[]node.ToolchainRef:
			*x = append(*x, node.ToolchainRef{Name: "ruby-3.4.7", Recipe: "r1", Digest: "d1"})
		case *[]node.Entry:
			*x = (*x)[1:]
		default:
			t.Fatalf("a field of a kind that this test cannot change: %T", x)
		}
	}
	try := func(name string, do func(*node.Manifest) reflect.Value) {
		t.Run(name, func(t *testing.T) {
			root, m := build(t, "v1.0.0", v1)
			signature := us.sign(node.SignatureNamespace, string(node.SignedText(headOf(t, root).Digest)))
			change(do(&m))
			if _, err := m.Write(root); err != nil {
				return // refit itself would not write such a manifest
			}
			signedAs(t, a, root, signature)
			home := t.TempDir()
			in := putIn(t, home, root)
			in.Signed = asked
			if _, err := a.PlacePut(t.Context(), in, pack(t, a, root), nil); !errors.Is(err, node.ErrSignature) {
				t.Errorf("got %v, want ErrSignature", err)
			}
			if left, err := os.ReadDir(home); err != nil || len(left) > 0 {
				t.Errorf("left %v, %v", left, err)
			}
		})
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[node.Manifest]()) {
		try(f.Name, func(m *node.Manifest) reflect.Value { return reflect.ValueOf(m).Elem().FieldByIndex(f.Index) })
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[node.Entry]()) {
		try("Files "+f.Name, func(m *node.Manifest) reflect.Value {
			return reflect.ValueOf(&m.Files[len(m.Files)-1]).Elem().FieldByIndex(f.Index)
		})
	}
}
