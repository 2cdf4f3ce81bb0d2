package stages

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/hosts/ssh"
)

// pen is a key that signs with its name.
type pen struct{ fails error }

func (p pen) Ready(context.Context) error { return p.fails }

func (p pen) Sign(_ context.Context, message []byte) ([]byte, error) {
	if p.fails != nil {
		return nil, p.fails
	}
	return append([]byte("signed: "), message...), nil
}

func (p pen) Verify(_, _ []byte) error { return nil }

func (p pen) Key() (line, fingerprint string, err error) {
	return "ssh-ed25519 AAAAours", "SHA256:ours", nil
}

func TestAReleaseThatWasChangedOnANodeIsNotSwitchedTo(t *testing.T) {
	changed := []node.Difference{{Path: "app/models/a.rb", What: "other content"}, {Path: "app/models/b.rb", What: "missing"}}
	for name, c := range map[string]struct {
		found node.VerifyOut
		fails error
		want  string
	}{
		"a file":       {found: node.VerifyOut{Differences: changed, More: 3}, want: "5 files are not as they were built, app/models/a.rb: other content first"},
		"a signature":  {found: node.VerifyOut{Unsigned: "it is not signed"}, want: "it is not signed"},
		"a disk error": {fails: errors.New("input/output error"), want: "input/output error"},
	} {
		for _, host := range []string{"kirk", "scotty"} {
			t.Run(name+" on "+host, func(t *testing.T) {
				inWorld(t, func(t *testing.T, w *world) {
					w.proved = map[string]node.VerifyOut{host + " v4.5.15": c.found}
					if c.fails != nil {
						w.fails[host+" place.verify"] = c.fails
					}
					var err error
					if host == "kirk" {
						err = (rollWeb{w.d, w.f, w.node(host)}).Run(t.Context(), w.say)
					} else {
						err = (rollSidekiq{w.d, w.f, w.node(host)}).Run(t.Context(), w.say)
					}
					failsWith(t, err, host, "v4.5.15 is not switched to", c.want, "refit place --to v4.5.15")
					didAll(t, w)
				})
			})
		}
	}
}

func TestGoingBackWhatWasChangedInTheOldReleaseIsSaidAndGoneBackTo(t *testing.T) {
	for name, found := range map[string]node.VerifyOut{
		"a file":      {Differences: []node.Difference{{Path: "app/models/a.rb", What: "other content"}}},
		"a signature": {Unsigned: "it is not signed"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.live["kirk"], w.runs["kirk"] = "v4.5.15", "v4.5.15"
				w.proved = map[string]node.VerifyOut{"kirk v4.5.14": found}
				if err := (rollWeb{w.d, w.f, w.node("kirk")}).Undo(t.Context(), w.say); err != nil {
					t.Fatal(err)
				}
				if w.runs["kirk"] != "v4.5.14" || !w.heard("kirk: goes back to v4.5.14 all the same, which is not proved to be what was placed") {
					t.Errorf("kirk runs %s; said:\n%s", w.runs["kirk"], strings.Join(w.said, "\n"))
				}
				if !slices.Equal(w.switched, []string{"kirk"}) {
					t.Errorf("switched: %q", w.switched)
				}
				if len(w.f.Unproved) != 1 || !strings.HasPrefix(w.f.Unproved[0], "kirk: goes back to v4.5.14") {
					t.Errorf("the journal has %q", w.f.Unproved)
				}
			})
		})
	}
}

// runsRuby lets a release on kirk run with Ruby 3.4.7, of which found is known there.
func (w *world) runsRuby(release string, found node.VerifyOut, lacks bool) {
	out := w.whole(release)
	out.Toolchains = []node.ToolchainRef{{Name: "ruby-3.4.7", Recipe: "r1", Digest: "d1"}}
	w.proved = map[string]node.VerifyOut{"kirk " + release: out, "kirk ruby-3.4.7": found}
	w.lacks = map[string]bool{"kirk ruby-3.4.7": lacks}
}

func TestNoNodeIsTakenOutForAReleaseWhoseRuntimesAreNotAsTheyWereMade(t *testing.T) {
	good := node.VerifyOut{Head: node.Head{Recipe: "r1"}}
	changed, other := good, node.VerifyOut{Head: node.Head{Recipe: "r2"}}
	changed.Differences = []node.Difference{{Path: "lib/set.rb", What: "other content"}}
	for name, c := range map[string]struct {
		found node.VerifyOut
		lacks bool
		want  string // empty: it is switched to
		back  string // said or failed with on the way back
		stays bool   // on the way back nothing is touched
	}{
		"nothing changed": {found: good},
		"a file changed":  {found: changed, want: "ruby-3.4.7, which it runs with: 1 files are not as they were built, lib/set.rb: other content first", back: "goes back to v4.5.14 all the same"},
		"another recipe":  {found: other, want: "it was made by another recipe (r2) than the release was built with (r1)", back: "goes back to v4.5.14 all the same"},
		"it is gone":      {lacks: true, want: "it cannot be started there without /opt/refit/ruby-3.4.7, which is not there", back: "cannot go back to v4.5.14: ruby-3.4.7, which", stays: true},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.runsRuby("v4.5.15", c.found, c.lacks)
				err := rollWeb{w.d, w.f, w.node("kirk")}.Run(t.Context(), w.say)
				if c.want == "" {
					if err != nil || w.runs["kirk"] != "v4.5.15" {
						t.Errorf("%v; kirk runs %s", err, w.runs["kirk"])
					}
					return
				}
				failsWith(t, err, "kirk", "v4.5.15 is not switched to", c.want, "refit place --to v4.5.15")
				didAll(t, w)
			})
			inWorld(t, func(t *testing.T, w *world) {
				w.runsRuby("v4.5.14", c.found, c.lacks)
				w.live["kirk"], w.runs["kirk"] = "v4.5.15", "v4.5.15"
				err := rollWeb{w.d, w.f, w.node("kirk")}.Undo(t.Context(), w.say)
				if c.stays {
					failsWith(t, err, "kirk: cannot go back to v4.5.14", "/opt/refit/ruby-3.4.7", "Copy that directory from a node that has it")
					didAll(t, w)
				} else if err != nil || w.runs["kirk"] != "v4.5.14" || !w.heard(c.back) {
					t.Errorf("%v; kirk runs %s; said:\n%s", err, w.runs["kirk"], strings.Join(w.said, "\n"))
				}
			})
		})
	}
}

func TestEachNodeIsSwitchedToTheVeryReleaseThatWasHashedRightBefore(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.f.Digest = "digest of v4.5.15"
		for _, run := range []func() error{
			func() error { return rollWeb{w.d, w.f, w.node("kirk")}.Run(t.Context(), w.say) },
			func() error { return rollSidekiq{w.d, w.f, w.node("scotty")}.Run(t.Context(), w.say) },
		} {
			if err := run(); err != nil {
				t.Fatal(err)
			}
		}
		if want := []string{"kirk v4.5.15 digest of v4.5.15", "scotty v4.5.15 digest of v4.5.15"}; !slices.Equal(w.asked, want) {
			t.Errorf("hashed: %q", w.asked)
		}
		if want := []string{"kirk digest of v4.5.15", "scotty digest of v4.5.15"}; !slices.Equal(w.switched, want) {
			t.Errorf("switched: %q", w.switched)
		}
	})
}

func TestWhatCouldNotBeSignedOrWouldNotBeAcceptedIsRefusedBeforeAnythingIsBuilt(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		if gaps := w.d.Gaps(); len(gaps) != 1 || !strings.Contains(gaps[0], "nothing is signed") {
			t.Errorf("without a key: %q", gaps)
		}
		w.d.Signing = &node.Signed{Allowed: "/etc/refit/allowed_signers", Identity: "refit"}
		if gaps := w.d.Gaps(); len(gaps) > 0 {
			t.Errorf("with a key: %q", gaps)
		}
		judge := func() []string {
			v := w.d.Look(t.Context(), nil, w.say)
			j := &judgement{d: w.d, f: w.f, v: v}
			j.signing()
			return j.refused
		}
		w.d.Builder = &builds.Builder{}
		if got := judge(); len(got) != 1 || !strings.Contains(got[0], "no key to sign with") {
			t.Errorf("no key: %q", got)
		}
		w.d.Builder.Signer = pen{fails: errors.New("the ssh agent has 0 keys")}
		if got := judge(); len(got) != 1 || !strings.Contains(got[0], "could not be signed: the ssh agent has 0 keys") {
			t.Errorf("an agent without it: %q", got)
		}
		w.d.Builder.Signer = pen{}
		if got := judge(); len(got) > 0 {
			t.Errorf("all is well: %q", got)
		}
		w.refuses = map[string]string{"spock": "the signature is not one that /etc/refit/allowed_signers accepts"}
		got := judge()
		if len(got) != 1 || !strings.HasPrefix(got[0], "spock: the signature is not one") || !strings.Contains(got[0], `this line belongs into /etc/refit/allowed_signers, which is root's: refit namespaces="refit-manifest" ssh-ed25519 AAAAours`) {
			t.Errorf("a node that does not know it: %q", got)
		}
		w.refuses = nil
		w.fails["decker signature.check"] = errors.New("input/output error")
		if got := judge(); len(got) != 1 || !strings.Contains(got[0], "decker: input/output error") || strings.Contains(got[0], "this line") {
			t.Errorf("a node that cannot look: %q", got)
		}
	})
}

// signs gives shelves a key, and their nodes a file that allows it.
func (s *shelves) signs(t *testing.T) *ssh.Signer {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "key")
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	signer := ssh.NewSigner(ssh.SignOptions{KeyFile: key, Namespace: node.SignatureNamespace})
	line, _, err := signer.Key()
	if err != nil {
		t.Fatal(err)
	}
	s.place.d.Signing = &node.Signed{Allowed: filepath.Join(dir, "allowed"), Identity: "refit"}
	if err := os.WriteFile(s.place.d.Signing.Allowed, []byte("refit "+line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return signer
}

func TestEveryNodeRefusesAReleaseThatIsNotSignedAsRefitYMLAsks(t *testing.T) {
	s := newShelves(t)
	us := s.signs(t)
	err := s.deliver()
	failsWith(t, err, "kirk", "it is not signed")
	if !errors.Is(err, node.ErrSignature) || s.calls("place.put") > 0 {
		t.Errorf("%v; called: %v", err, s.called)
	}
	sig, err := us.Sign(t.Context(), node.SignedText(s.pack.Digest))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.pack.Root, ".refit/manifest.json.sig")
	if err := os.WriteFile(file, sig, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.deliver(); err != nil {
		t.Fatal(err)
	}
	s.wholeOn("kirk", "spock", "scotty", "decker")
	for name, home := range s.homes {
		if name == s.place.d.builder().Name || !slices.Contains([]string{"kirk", "spock", "scotty", "decker"}, name) {
			continue
		}
		if got, err := node.ReadSignature(filepath.Join(home, "releases/v4.5.15")); err != nil || string(got) != string(sig) {
			t.Errorf("%s has the signature %q, %v", name, got, err)
		}
	}
}

func TestANodeThatDoesNotAcceptTheKeyIsNamedWithTheLineThatItLacks(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*View)
		want  string
	}{
		"a node": {
			func(v *View) { v.Signing["scotty"] = fmt.Errorf("scotty: %w", node.ErrSignature) },
			`scotty: …. If refit's key is to be allowed there, this line belongs into /etc/refit/allowed_signers, which is root's: refit namespaces="refit-manifest" ssh-ed25519 AAAAours`,
		},
		"the key": {func(v *View) { v.SigningErr = errors.New("the agent has it no more") }, "what is built could not be signed: the agent has it no more"},
	} {
		t.Run(name, func(t *testing.T) {
			l := goodLook(t)
			l.d.Signing = &node.Signed{Allowed: "/etc/refit/allowed_signers", Identity: "refit"}
			l.d.Builder = &builds.Builder{Signer: pen{}}
			if refused, _ := rules(l.d, l.f, l.v); len(refused) > 0 {
				t.Errorf("refused %q", refused)
			}
			l.v.Signing = map[string]error{}
			c.spoil(l.v)
			refused, _ := rules(l.d, l.f, l.v)
			compareLines(t, "an upgrade", refused, []string{c.want})
			refused, _ = l.d.Fleetwide(l.v)
			compareLines(t, "the doctor", refused, []string{c.want})
		})
	}
}
