package node_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/hosts/hoststest"
	"vmst.io/refit/hosts/node"
)

// cloned is a machine that was made from an image, with the image's host keys.
type cloned struct {
	*testing.T
	a     *node.Agent
	m     node.Machine
	made  int
	calls []string
	fails string // the program that fails
}

func aClone(t *testing.T) *cloned {
	t.Helper()
	c := &cloned{T: t}
	c.a, c.m = hoststest.NewNode(t, nil)
	c.m.Exec = func(_ context.Context, argv ...string) ([]byte, error) {
		c.calls = append(c.calls, strings.Join(argv, " "))
		if argv[0] == c.fails {
			return nil, errors.New("exit status 1")
		}
		if argv[0] == "ssh-keygen" {
			c.made++
			file := argv[len(argv)-1]
			return nil, errors.Join(os.WriteFile(file, fmt.Appendf(nil, "private %d\n", c.made), 0o600),
				os.WriteFile(file+".pub", fmt.Appendf(nil, "ssh-%s AAAA%d root@clone\n", argv[3], c.made), 0o644))
		}
		return nil, nil
	}
	c.a.Shell = hoststest.NodeShell{Machine: c.m}
	c.put("run/credentials/@system/refit.instance", "4712\n")
	for _, kind := range []string{"ed25519", "rsa"} {
		c.put("etc/ssh/ssh_host_"+kind+"_key", "the image's\n")
		c.put("etc/ssh/ssh_host_"+kind+"_key.pub", "ssh-"+kind+" IMAGE\n")
	}
	return c
}

func (c *cloned) put(file, text string) {
	c.Helper()
	path := filepath.Join(c.m.State, "root", file)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		c.Fatal(err)
	}
}

func (c *cloned) read(file string) string {
	c.Helper()
	b, err := os.ReadFile(filepath.Join(c.m.State, "root", file))
	if err != nil {
		c.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestACloneMakesKeysOfItsOwnOnceAndShowsTheImagesUntilTheyAreUsed(t *testing.T) {
	c := aClone(t)
	if _, err := c.a.UseHostKeys(t.Context()); !errors.Is(err, node.ErrNotFound) {
		t.Fatalf("keys are used that were not made: %v", err)
	}
	first, err := c.a.MakeHostKeys(t.Context())
	if err != nil || !first.Made || !slices.Equal(first.Public, []string{"ssh-ed25519 AAAA1", "ssh-rsa AAAA2"}) {
		t.Fatalf("%+v, %v", first, err)
	}
	if c.read("etc/ssh/ssh_host_rsa_key") != "the image's" {
		t.Error("the keys are used before they are written down anywhere")
	}
	again, err := c.a.MakeHostKeys(t.Context())
	if err != nil || again.Made || !slices.Equal(again.Public, first.Public) {
		t.Errorf("%+v, %v", again, err)
	}
	for i := range 2 {
		out, err := c.a.UseHostKeys(t.Context())
		if err != nil || out.Used != (i == 0) || !slices.Equal(out.Public, first.Public) {
			t.Errorf("%+v, %v", out, err)
		}
	}
	if c.read("etc/ssh/ssh_host_rsa_key") != "private 2" || c.read("etc/ssh/ssh_host_ed25519_key.pub") != "ssh-ed25519 AAAA1 root@clone" {
		t.Error("other keys are used")
	}
	info, err := os.Stat(filepath.Join(c.m.State, "root/etc/ssh/ssh_host_rsa_key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the private key has mode %v, %v", info.Mode(), err)
	}
	if last := c.calls[len(c.calls)-1]; !strings.Contains(last, "try-reload-or-restart ssh.service") {
		t.Errorf("sshd was not told: %q", c.calls)
	}
}

func TestAKeyThatWasLeftHalfMadeIsMadeAnew(t *testing.T) {
	c := aClone(t)
	c.fails = "ssh-keygen"
	if _, err := c.a.MakeHostKeys(t.Context()); err == nil {
		t.Fatal("no error")
	}
	c.fails = ""
	for _, left := range []string{".refit-tmp-ed25519", ".refit-tmp-ed25519.pub", "ssh_host_ed25519_key.pub"} {
		if err := os.WriteFile(filepath.Join(c.m.State, "hostkeys/4712", left), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := c.a.MakeHostKeys(t.Context()); err != nil || out.Public[0] != "ssh-ed25519 AAAA1" {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestKeysThatWereMadeOnAnotherMachineAreNotUsed(t *testing.T) {
	c := aClone(t)
	if _, err := c.a.MakeHostKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.put("run/credentials/@system/refit.instance", "4713\n") // its image, taken in between
	if _, err := c.a.UseHostKeys(t.Context()); !errors.Is(err, node.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if out, err := c.a.MakeHostKeys(t.Context()); err != nil || out.Public[0] != "ssh-ed25519 AAAA3" {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestAnSshdThatDoesNotReadItsKeysIsAnError(t *testing.T) {
	c := aClone(t)
	if _, err := c.a.MakeHostKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.fails = "systemctl"
	if _, err := c.a.UseHostKeys(t.Context()); err == nil || !strings.Contains(err.Error(), "sshd cannot be made to read them") {
		t.Errorf("%v", err)
	}
	c.fails = ""
	// Though nothing is left to be written.
	if _, err := c.a.UseHostKeys(t.Context()); err != nil || !strings.Contains(c.calls[len(c.calls)-1], "ssh.service") {
		t.Errorf("%v, %q", err, c.calls)
	}
}

func TestAMachineGetsItsName(t *testing.T) {
	c := aClone(t)
	c.put("etc/hostname", "kirk\n")
	c.put("etc/hosts", "127.0.0.1 localhost kirk-local\n127.0.1.1\tkirk kirk.internal\n10.0.0.1 kirk\n")
	for i := range 2 {
		if out, err := c.a.SetHostname(t.Context(), "spock"); err != nil || out.Changed != (i == 0) {
			t.Errorf("%+v, %v", out, err)
		}
	}
	if c.read("etc/hostname") != "spock" || c.read("etc/hosts") != "127.0.0.1 localhost kirk-local\n127.0.1.1 kirk.internal spock\n10.0.0.1 kirk" {
		t.Errorf("%q", c.read("etc/hosts"))
	}
	for _, name := range []string{"", "a b", "-a", "a.b", "a\nb"} {
		if _, err := c.a.SetHostname(t.Context(), name); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
}
