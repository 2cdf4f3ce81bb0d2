package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"vmst.io/refit/hosts/lab"
	"vmst.io/refit/hosts/node"
)

// TestLabAHostWithAnotherKeyIsRefusedWithWhatToCompare replaces a host's key between
// two runs, as setting the host up anew would, or somebody in between.
func TestLabAHostWithAnotherKeyIsRefusedWithWhatToCompare(t *testing.T) {
	f := on(t, "v4.5.2")
	before := f.fingerprint(t)
	key := filepath.Join(f.Root("kirk"), "etc/ssh/ssh_host_ed25519_key")
	right, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Exec(t.Context(), "kirk", "sh", "-c", "cd /etc/ssh && ssh-keygen -q -t ed25519 -N '' -f other && mv other ssh_host_ed25519_key && systemctl reload ssh && ssh-keygen -lf other.pub"); err != nil {
		t.Fatal(err)
	}
	a := f.run(t, "", "upgrade", "--to", "v4.6.0", "--yes")
	put(t, key, right)
	if a.code != 4 {
		t.Errorf("not exit 4 but %s", a)
	}
	for _, w := range []string{"kirk", "host key not accepted", f.KnownHosts() + ":", "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub", "somebody stands in between"} {
		if !strings.Contains(a.err, w) {
			t.Errorf("the refusal does not say %q: %s", w, a)
		}
	}
	// The lab's own way there holds the host to its true key too: this goes from below.
	if err := errors.Join(f.StopService(t.Context(), "kirk", "ssh.service"), f.StartService(t.Context(), "kirk", "ssh.service")); err != nil {
		t.Fatal(err)
	}
	f.same(t, before)
}

func put(t *testing.T, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestLabARightTooFewIsRefusedAndOneTooManySaid tries the forms of sudoers that
// docs/adopt.md weighs, with Debian's own sudo.
func TestLabARightTooFewIsRefusedAndOneTooManySaid(t *testing.T) {
	f := on(t, "v4.5.2")
	b, err := os.ReadFile(f.refit)
	if err != nil {
		t.Fatal(err)
	}
	agent, sum, err := node.AgentPath(strings.NewReader(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	tight, err := os.ReadFile(filepath.Join(f.Root("kirk"), sudoersFile))
	if err != nil {
		t.Fatal(err)
	}
	allow := func(line string) {
		t.Helper()
		if err := install(f.Lab, "kirk", sudoersFile, []byte(line+"\n"), 0o440); err != nil {
			t.Fatal(err)
		}
	}
	shell := func(script string) string {
		t.Helper()
		out, err := f.Exec(t.Context(), "kirk", "sh", "-c", script)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	defer func() {
		allow(string(tight))
		shell("chown -R root:root " + node.BinDir + " && chmod 755 " + node.BinDir + " && rm -f " + node.BinDir + "/refit-evil*")
		if err := install(f.Lab, "kirk", agent, b, 0o755); err != nil {
			t.Error(err)
		}
		f.must(t, 0, "", []string{"doctor"})
	}()

	// As the lab is: root's folder, one program. Nothing is to be said of it.
	if a := f.must(t, 0, "", []string{"doctor"}); strings.Contains(a.out, "as root") {
		t.Errorf("something is said of the tight form: %s", a)
	}
	asRefit := "runuser -u refit -- "
	if out := shell(asRefit + "sudo -n /bin/true 2>&1; " + asRefit + "sh -c 'echo > " + node.BinDir + "/refit-evil' 2>&1; " + asRefit + "sudo -n " + agent + " status 2>&1; true"); strings.Count(out, "a password is required") != 2 || !strings.Contains(out, "Permission denied") {
		t.Errorf("more than refit's verbs is allowed: %s", out)
	}
	// Root's folder without this refit: nobody but root can mend that.
	shell("rm " + agent)
	f.must(t, 4, "", []string{"upgrade", "--to", "v4.6.0", "--yes"}, "kirk", "install -o root -g root -m 755 refit "+agent)

	// The ssh user's folder: refit puts itself there, and it is said what that means.
	shell("chown refit:refit " + node.BinDir)
	allow("refit ALL=(root) NOPASSWD: " + node.BinDir + "/refit-* node *")
	f.must(t, 0, "", []string{"doctor"}, "refit can put its own programs where sudo runs them as root ("+node.BinDir+") on kirk")

	// With a digest sudo runs this content alone.
	allow("refit ALL=(root) NOPASSWD: sha256:" + sum + " " + node.BinDir + "/refit-* node *")
	f.must(t, 0, "", []string{"doctor"})
	if out := shell(asRefit + "cp /usr/bin/id " + node.BinDir + "/refit-evil; " + asRefit + "sudo -n " + node.BinDir + "/refit-evil node x 2>&1; true"); !strings.Contains(out, "a password is required") {
		t.Errorf("a program of another content was run: %s", out)
	}
	shell("rm " + node.BinDir + "/refit-evil; chown -R root:root " + node.BinDir)

	allow("refit ALL=(ALL) NOPASSWD: ALL")
	f.must(t, 0, "", []string{"doctor"}, "refit may run every command as root on kirk")

	allow("refit ALL=(root) NOPASSWD: " + agent + " node facts")
	line := "refit ALL=(root) NOPASSWD: " + agent + " node *"
	f.must(t, 3, "", []string{"doctor"}, "kirk: sudo lets refit look, and not act", line)
	allow("# nothing")
	f.must(t, 4, "", []string{"upgrade", "--to", "v4.6.0", "--yes"}, "kirk", "sudo does not allow", line)

	allow(string(tight))
	shell("chmod 666 /var/lib/refit/fence")
	f.must(t, 3, "", []string{"doctor"}, "kirk: /var/lib/refit/fence can be written by everybody (mode 0666)", "chmod go-w /var/lib/refit/fence")
	shell("chmod 644 /var/lib/refit/fence")
}

// TestLabAWrongPasswordIsRefusedWithItsPlaceAndNotShown gives one node another
// password than the database or Redis takes.
func TestLabAWrongPasswordIsRefusedWithItsPlaceAndNotShown(t *testing.T) {
	f := on(t, "v4.5.2")
	before := f.fingerprint(t)
	for _, test := range []struct {
		host, key, secret string
		words             []string
	}{
		{"scotty", "DB_PASS", f.Secrets.Database, []string{"10.77.0.40", "password authentication failed", "28P01"}},
		{"decker", "REDIS_PASSWORD", f.Secrets.Redis, []string{"decker", "127.0.0.1:6379", "WRONGPASS"}},
		{"decker", "DB_PASS", f.Secrets.Database, []string{"decker", "do not agree on DB_PASS"}},
	} {
		const wrong = "not-the-password-5d1f"
		file := filepath.Join(f.Root(test.host), "home/mastodon/.env.production")
		right, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// In place: its owner and mode stay.
		if err := os.WriteFile(file, bytes.Replace(right, []byte(test.key+"="+test.secret), []byte(test.key+"="+wrong), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		a := f.run(t, "", "upgrade", "--to", "v4.6.0", "--yes")
		if err := os.WriteFile(file, right, 0o600); err != nil {
			t.Fatal(err)
		}
		if a.code != 3 {
			t.Errorf("%s on %s: %s", test.key, test.host, a)
		}
		for _, w := range test.words {
			if !strings.Contains(a.err, w) {
				t.Errorf("%s on %s: the refusal does not say %q: %s", test.key, test.host, w, a)
			}
		}
		if strings.Contains(a.out+a.err, wrong) || strings.Contains(a.out+a.err, test.secret) {
			t.Errorf("%s on %s: the password is shown", test.key, test.host)
		}
	}
	f.same(t, before)
	f.well(t)
}

// leaves is what a run leaves on a host, as docs/adopt.md lists it: whose each file
// is and which mode it has. The first pattern that fits a path counts.
var leaves = []struct{ path, owner, mode string }{
	{`/var/lib/refit`, "root:root", "755"},
	{`/var/lib/refit/bin`, "root:root", "755"},
	{`/var/lib/refit/bin/refit-[0-9a-f]{16}`, "root:root", "755"},
	{`/var/lib/refit/agents`, "root:root", "755"},
	{`/var/lib/refit/agents/refit-[0-9a-f]{16}`, "root:root", "755"},
	{`/var/lib/refit/fence`, "root:root", "644"},
	{`/var/lib/refit/permit`, "root:root", "644"},
	{`/var/lib/refit/permit\.d`, "root:root", "755"},
	{`/var/lib/refit/permit\.d/check`, "root:root", "755"},
	{`/var/lib/refit/.*\.lock`, "root:root", "600"},
	{`/run/refit(/holders)?`, "root:root", "755"},
	{`/run/refit/holders/[0-9]+-[0-9]+\.json`, "root:root", "600"},
	{`/var/lib/refit/nginx-loaded`, "root:root", "644"},
	{`/var/lib/refit/keeper(/journal|/approvals)?`, "root:root", "700"},
	{`/var/lib/refit/keeper/.*`, "root:root", "600"},
	{`/var/lib/refit/fleet.json`, "root:root", "644"},
	{`/var/lib/refit/configs(/[^/]+)?`, "root:root", "700"},
	{`/var/lib/refit/configs/[^/]+/.*`, "root:root", "600"},
	{`/var/lib/refit/jobs`, "root:root", "755"},
	{`/var/lib/refit/jobs/[^/]+\.service`, "root:root", "700"},
	{`/var/lib/refit/jobs/[^/]+/(log|status\.json|env)`, "root:root", "600"},
}

// TestLabWhatARunLeavesOnHostsHasTheOwnersAndModesThatAreDocumented lists all that
// refit made on every host.
func TestLabWhatARunLeavesOnHostsHasTheOwnersAndModesThatAreDocumented(t *testing.T) {
	f := on(t, "v4.5.2")
	// What other tests' killed runs left is for doctor to clear, and not this test's.
	f.must(t, 0, "", []string{"doctor", "--fix"})
	f.eachHost(t, func(m lab.Machine) error {
		if !m.Managed {
			return nil
		}
		out, err := f.Exec(t.Context(), m.Name, "sh", "-c", "find "+node.StateDir+" $(ls -d "+node.RuntimeDir+") -printf '%U:%G %m %p\\n'")
		if err != nil {
			return err
		}
		for line := range strings.Lines(strings.ReplaceAll(out, "0:0 ", "root:root ")) {
			owner, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			mode, path, _ := strings.Cut(rest, " ")
			known := false
			for _, l := range leaves {
				if known = regexp.MustCompile("^" + l.path + "$").MatchString(path); known {
					if owner != l.owner || mode != l.mode {
						t.Errorf("%s: %s is %s %s, not %s %s", m.Name, path, owner, mode, l.owner, l.mode)
					}
					break
				}
			}
			if !known {
				t.Errorf("%s: %s (%s %s) is in no line of the table", m.Name, path, owner, mode)
			}
		}
		// A release is root's, and only its tmp/ can be written by Mastodon.
		out, err = f.Exec(t.Context(), m.Name, "sh", "-c", `cd /home/mastodon/releases 2>/dev/null || exit 0
find . -mindepth 1 ! -type l ! -path './*/tmp' ! -path './*/tmp/*' \( ! -user root -o -perm /022 -o -perm /6000 \) -printf 'loose %u %m %p\n' | head
[ -e ../live ] && find ./*/tmp ! -type l \( ! -user mastodon -o -perm /002 -o -perm /6000 \) -printf 'tmp %u %m %p\n' | head
find /opt/refit -mindepth 1 ! -type l \( ! -user root -o -perm /022 -o -perm /6000 \) -printf 'loose %u %m %p\n' 2>/dev/null | head
find /etc/systemd/system/*.d -name 50-refit-permit.conf \( ! -user root -o ! -perm 644 \) -printf 'drop-in %u %m %p\n' 2>/dev/null
find / -xdev -name '.refit-tmp-*' -printf 'left %u %m %p\n'
find /etc/nginx/refit -type f \( ! -user root -o -perm /022 \) -printf 'nginx %u %m %p\n' 2>/dev/null
find /home/mastodon/.env.production /etc/refit/probe.token -perm /077 -printf 'secret %u %m %p\n' 2>/dev/null; true`)
		if err != nil {
			return err
		}
		if out != "" {
			t.Errorf("%s: %s", m.Name, out)
		}
		return nil
	})
	fi, err := os.Stat(filepath.Join(f.Dir, "state", "refit", "lab"))
	if err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the operator's mirror: %v, %v", fi, err)
	}
}
