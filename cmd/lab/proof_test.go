package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLabVerifyFindsWhateverIsNotAsItWasBuilt changes one thing on one node at a time, as
// root there would, and puts it right again.
func TestLabVerifyFindsWhateverIsNotAsItWasBuilt(t *testing.T) {
	f := on(t, "v4.5.2")
	shell := func(host, script string) {
		t.Helper()
		if out, err := f.Exec(t.Context(), host, "sh", "-ec", "cd /home/mastodon/releases/v4.5.2; "+script); err != nil {
			t.Fatalf("%s on %s: %v\n%s", script, host, err, out)
		}
	}
	f.must(t, 0, "", []string{"place", "--to", "v4.5.10"}) // another release, to put in its place
	f.must(t, 0, "", []string{"verify"}, "unmodified, signed by refit with ED25519 key SHA256:")
	const live = "/home/mastodon/releases/v4.5.2"
	for _, c := range []struct {
		name, host, spoil, mend string
		words                   []string
	}{
		{
			"a byte of a Ruby file", "kirk", "cp -p config/application.rb /root/kept; sed -i '1s/^./%/' config/application.rb", "mv /root/kept config/application.rb",
			[]string{"config/application.rb (source): other content"},
		},
		{"a file in app/", "spock", "echo evil > app/models/evil.rb", "rm app/models/evil.rb", []string{"app/models/evil.rb (source): not in the manifest"}},
		{
			"a gem", "scotty", "cp -p vendor/bundle/ruby/*/gems/rack-[0-9]*/lib/rack.rb /root/kept; echo '# evil' | cat /root/kept - > /root/evil; cp --remove-destination /root/evil $(echo vendor/bundle/ruby/*/gems/rack-[0-9]*/lib/rack.rb)",
			"cp -p --remove-destination /root/kept $(echo vendor/bundle/ruby/*/gems/rack-[0-9]*/lib/rack.rb); rm /root/kept /root/evil",
			[]string{"lib/rack.rb (gems): other content"},
		},
		{
			"a bridged file", "kirk", "f=$(grep -o '\"path\":\"public/packs/[^\"]*\\.js\"' .refit/bridged.json | head -1 | cut -d'\"' -f4); cp -p $f /root/kept; echo $f > /root/which; cp --remove-destination /etc/hostname $f",
			"cp -p --remove-destination /root/kept $(cat /root/which); rm /root/kept /root/which",
			// Of which release it is depends on what ran before.
			[]string{"(assets): other content than in v4."},
		},
		{"the signature", "decker", "mv .refit/manifest.json.sig /root/kept", "mv /root/kept .refit/manifest.json.sig", []string{"decker: the manifest of v4.5.2: it is not signed"}},
		{
			"the release, swapped", "spock", "cd ..; mv v4.5.2 /root/kept; cp -a /root/kept v4.5.2", "cd ..; rm -rf v4.5.2; mv /root/kept v4.5.2",
			[]string{"mastodon-web.service works in a directory that was moved away", "spock does not run v4.5.2"},
		},
		{
			"another release under its name", "scotty", "cd ..; mv v4.5.2 /root/kept; cp -a v4.5.10 v4.5.2", "cd ..; rm -rf v4.5.2; mv /root/kept v4.5.2",
			[]string{".refit/manifest.json (refit's own): is the manifest of v4.5.10"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			shell(c.host, c.spoil)
			f.must(t, 3, "", []string{"verify"}, append(c.words, c.host)...)
			shell(c.host, c.mend)
			f.must(t, 0, "", []string{"verify"}, "unmodified")
		})
	}
	// A process whose directory is removed for good is mended by its restart alone.
	shell("kirk", "cd ..; cp -a v4.5.2 /root/copy; rm -rf v4.5.2; mv /root/copy v4.5.2")
	f.must(t, 3, "", []string{"verify"}, live+", which was removed: restart its unit")
	if _, err := f.Exec(t.Context(), "kirk", "systemctl", "restart", "mastodon-web.service", "mastodon-streaming@4000.service"); err != nil {
		t.Fatal(err)
	}
	f.well(t)
	f.must(t, 0, "", []string{"verify"}, "unmodified")
}

// TestLabANodeThatDoesNotAllowTheKeyTakesNothing has one node forget the key.
func TestLabANodeThatDoesNotAllowTheKeyTakesNothing(t *testing.T) {
	f := on(t, "v4.5.2")
	before := f.fingerprint(t)
	allowed := filepath.Join(f.Root("scotty"), "etc/refit/allowed_signers")
	right, err := os.ReadFile(allowed)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(f.KeyFile() + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(other))
	for name, lines := range map[string][]byte{"another key": []byte("refit " + words[0] + " " + words[1] + "\n"), "no key": nil, "another purpose": bytes.ReplaceAll(right, []byte("refit-manifest"), []byte("git"))} {
		if err := install(f.Lab, "scotty", "/etc/refit/allowed_signers", lines, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %s", name, lines)
		f.must(t, 3, "", []string{"doctor"}, "scotty: the signature is not one that /etc/refit/allowed_signers accepts from refit", `refit namespaces="refit-manifest" ssh-ed25519`)
		f.must(t, 3, "", []string{"upgrade", "--to", "v4.6.0", "--yes"}, "scotty", "allowed_signers")
	}
	if err := install(f.Lab, "scotty", "/etc/refit/allowed_signers", right, 0o666); err != nil {
		t.Fatal(err)
	}
	f.must(t, 3, "", []string{"doctor"}, "scotty: /etc/refit/allowed_signers can be changed by others than root")
	if err := install(f.Lab, "scotty", "/etc/refit/allowed_signers", right, 0o644); err != nil {
		t.Fatal(err)
	}
	f.same(t, before)
	f.must(t, 0, "", []string{"doctor"})
	// Without a key in refit.yml it is said, and nothing else changes.
	f.must(t, 0, f.config(t, "signing:\n  key: "+f.SigningKey()+"\n", ""), []string{"doctor"}, "nothing is signed: refit.yml names no key")
}

// TestLabAReleaseThatIsChangedOnANodeIsNotSwitchedTo changes the placed release before
// its node is rolled.
func TestLabAReleaseThatIsChangedOnANodeIsNotSwitchedTo(t *testing.T) {
	f := on(t, "v4.5.2")
	f.must(t, 0, "", []string{"place", "--to", "v4.5.10"})
	// The placing of an upgrade would mend it: it is harmed once that has passed.
	harmed := &meddling{step: "bridge assets", host: "kirk", fault: isHarmed}
	a := f.meddle(t, "", []string{"upgrade", "--to", "v4.5.10", "--yes"}, harmed)
	if a.code == 0 || !strings.Contains(a.err, "kirk: v4.5.10 is not switched to: 1 files are not as they were built, app/models/evil.rb: not in the manifest first") {
		t.Errorf("%s", a)
	}
	f.mendAll(t, harmed)
	f.runsEverywhere(t, "v4.5.2")
	f.well(t)
}
