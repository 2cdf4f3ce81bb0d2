package ssh_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/ssh"
)

// keyOf is a server's key as it stands in a .pub file.
func keyOf(t *testing.T, s *hoststest.Server) xssh.PublicKey {
	t.Helper()
	b, err := os.ReadFile(s.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	_, _, key, _, _, err := xssh.ParseKnownHosts(b)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func public(k xssh.PublicKey) string { return strings.TrimSpace(string(xssh.MarshalAuthorizedKey(k))) }

func text(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAMachineIsMetByItsImagesKeyAndThenByItsOwn(t *testing.T) {
	s := hoststest.NewServer(t)
	key := keyOf(t, s)
	image := knownhosts.Line([]string{knownhosts.Normalize("[10.0.0.9]:" + strings.Split(address(s), ":")[1])}, key)
	file := knows(t, "# ours", image)
	o := ssh.Options{Name: "spock", Address: "127.0.0.1", Port: s.Port, User: "refit", KeyFile: s.KeyFile, KnownHosts: []string{file}}
	refuses(t, s, o, "is not in")
	o.KnownAs = "10.0.0.9"
	c, err := ssh.Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // and no line twice
		if err := ssh.Learn(file, "127.0.0.1", s.Port, []string{public(key)}); err != nil {
			t.Fatal(err)
		}
	}
	if got := text(t, file); strings.Count(got, "\n") != 3 || !strings.HasPrefix(got, "# ours\n"+image+"\n") {
		t.Errorf("%s", got)
	}
	o.KnownAs = ""
	if c, err = ssh.Dial(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	// Another machine's key is refused under the image's name too.
	if err := os.WriteFile(file, []byte(strings.Replace(text(t, hoststest.NewServer(t).KnownHosts), "127.0.0.1", "10.0.0.9", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	o.KnownAs = "10.0.0.9"
	refuses(t, s, o)
}

func TestAnAddressLeavesKnownHostsAndItsKeysStayUnderTheImagesName(t *testing.T) {
	key := public(keyOf(t, hoststest.NewServer(t)))
	hashed := knownhosts.HashHostname("10.0.0.2")
	lines := []string{
		"# 10.0.0.2 was spock", "10.0.0.2 " + key, "spock,10.0.0.2 " + key + " spock's", "10.0.0.21 " + key,
		hashed + " " + key, "@revoked 10.0.0.2 " + key, "[10.0.0.2]:2222 " + key, "",
	}
	file := knows(t, lines...)
	if err := ssh.Unlearn(file, "10.0.0.2", 22, "spock.image.refit"); err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		lines[0], "spock.image.refit " + key, "spock,spock.image.refit " + key + " spock's", lines[3], lines[5], lines[6], "", "",
	}, "\n")
	if got := text(t, file); got != want {
		t.Errorf("%s\nnot\n%s", got, want)
	}
	if err := ssh.Relearn(file, "10.0.0.2", 0, "spock.image.refit"); err != nil {
		t.Fatal(err)
	}
	if got := text(t, file); !strings.Contains(got, "\n10.0.0.2,spock.image.refit "+key+"\n") {
		t.Errorf("%s", got)
	}
	if err := ssh.Unlearn(file, "10.0.0.2", 22, ""); err != nil || text(t, file) != want {
		t.Errorf("%v: %s", err, text(t, file))
	}
	if err := ssh.Unlearn(file, "10.0.0.21", 22, ""); err != nil || strings.Contains(text(t, file), "10.0.0.21") {
		t.Errorf("%v: %s", err, text(t, file))
	}
}

func TestAKeyThatCannotBeReadLeavesKnownHostsAsItIs(t *testing.T) {
	file := knows(t, "# ours")
	if err := ssh.Learn(file, "10.0.0.2", 22, []string{"ssh-ed25519 nonsense"}); err == nil || text(t, file) != "# ours\n" {
		t.Errorf("%v: %s", err, text(t, file))
	}
	if err := ssh.Learn(filepath.Join(t.TempDir(), "none"), "10.0.0.2", 22, nil); err == nil {
		t.Error("a file that is not there is made")
	}
}
