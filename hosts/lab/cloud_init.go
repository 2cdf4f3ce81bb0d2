package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
)

// What cloud-init does on a cloud's machine that meets itself in another instance than the
// one its disk was taken of. The lab does it from outside, before the boot.

// instanceData is what user data says of a new instance.
type instanceData struct {
	// Keys are ssh host keys, by their files in /etc/ssh. Keep: the image's stay.
	Keys map[string]string
	Keep bool
	// Hostname is the machine's name inside; empty for the lab's name of it.
	Hostname string
}

// readUserData reads what the lab does of user data: ssh host keys, the private ones with
// their public ones, by the names that cloud-init has for them (ed25519_private,
// ed25519_public; its module "ssh"), and the host's name. Anything else is refused, since
// nobody would do it.
func readUserData(userData string) (out instanceData, err error) {
	if strings.TrimSpace(userData) == "" {
		return out, nil
	}
	if !strings.HasPrefix(userData, "#cloud-config\n") {
		return out, errors.New("cannot use the user data: the lab takes what begins with #cloud-config")
	}
	var doc struct {
		Keys map[string]string `yaml:"ssh_keys"`
		// Delete is cloud-init's own default.
		Delete *bool `yaml:"ssh_deletekeys"`
		// Preserve keeps the image's name; cloud-init's default is not to.
		Preserve bool   `yaml:"preserve_hostname"`
		Hostname string `yaml:"hostname"`
	}
	if err := yaml.UnmarshalWithOptions([]byte(userData), &doc, yaml.Strict()); err != nil {
		// The parser's message shows the lines around, which may be a private key.
		return out, errors.New("cannot use the user data: it is no YAML, or has other keys than ssh_keys, ssh_deletekeys, hostname and preserve_hostname: false, which alone the lab's stand-in for cloud-init knows")
	}
	out.Keep, out.Hostname = doc.Delete != nil && !*doc.Delete, doc.Hostname
	switch {
	case doc.Preserve:
		return out, errors.New("cannot use the user data: preserve_hostname: true would give two machines the same name")
	case out.Keep && len(doc.Keys) > 0:
		return out, errors.New("cannot use the user data: it keeps the image's ssh host keys and gives others")
	}
	files := map[string]string{}
	for name, key := range doc.Keys {
		kind, which, _ := strings.Cut(name, "_")
		file := "ssh_host_" + kind + "_key"
		if which == "public" {
			file += ".pub"
		}
		if kind != "ed25519" && kind != "ecdsa" && kind != "rsa" || which != "private" && which != "public" || strings.TrimSpace(key) == "" {
			return out, fmt.Errorf("cannot use the user data: ssh_keys has %q; known are ed25519, ecdsa and rsa with _private and _public", name)
		}
		files[file] = strings.TrimRight(key, "\n") + "\n"
	}
	for file := range files {
		if private, public := strings.CutSuffix(file, ".pub"); public && files[private] == "" {
			return out, fmt.Errorf("cannot use the user data: %s has no private key", file)
		}
	}
	out.Keys = files
	return out, nil
}

// newInstance makes a host's disk its own: name, machine-id, ssh host keys, of which new
// ones are made where none are given or kept. addresses are by what it is reached.
func (l *Lab) newInstance(ctx context.Context, m Machine, data instanceData, addresses ...string) error {
	root := hostDir(m.Name, "root")
	fail := func(err error) error {
		return fmt.Errorf("cannot make the disk of %s its own: %w", m.Name, err)
	}
	// An empty machine-id is filled by systemd; a missing one would be a first boot, at
	// which units are enabled anew.
	err := errors.Join(
		put(filepath.Join(root, "etc/hostname"), []byte(cmp.Or(data.Hostname, m.Name)+"\n"), 0o644),
		put(filepath.Join(root, "etc/machine-id"), nil, 0o444))
	if err != nil {
		return fail(err)
	}
	if err := l.rename(m); err != nil {
		return err
	}
	if data.Keep {
		return l.knowHost(ctx, m.Name, addresses)
	}
	old, err := filepath.Glob(filepath.Join(root, "etc/ssh/ssh_host_*"))
	if err != nil {
		return fail(err)
	}
	for _, f := range old {
		if err := os.Remove(f); err != nil {
			return fail(err)
		}
	}
	for file, key := range data.Keys {
		if err := put(filepath.Join(root, "etc/ssh", file), []byte(key), 0o600); err != nil {
			return fail(err)
		}
	}
	own := filepath.Join(root, "etc/ssh/ssh_host_ed25519_key")
	if len(data.Keys) == 0 {
		if err := sshKey(ctx, own, "root@"+m.Name); err != nil {
			return fail(err)
		}
	}
	return l.knowHost(ctx, m.Name, addresses)
}

// knowHost writes by which keys the lab knows a host that has others than the lab gave it.
func (l *Lab) knowHost(ctx context.Context, host string, addresses []string) error {
	private, err := filepath.Glob(hostDir(host, "root", "etc/ssh/ssh_host_*_key"))
	if err != nil {
		return fmt.Errorf("cannot note the key of %s: %w", host, err)
	}
	var known strings.Builder
	for _, p := range private {
		out, err := run(ctx, "ssh-keygen", "-y", "-P", "", "-f", p)
		if err != nil {
			return fmt.Errorf("cannot note the key of %s: %w", host, err)
		}
		words := strings.Fields(out)
		fmt.Fprintf(&known, "%s %s %s\n", strings.Join(append([]string{host}, addresses...), ","), words[0], words[1])
	}
	if err := os.WriteFile(knownHost(host), []byte(known.String()), 0o644); err != nil {
		return fmt.Errorf("cannot note the key of %s: %w", host, err)
	}
	return nil
}

// knownHost is the file of knowHost.
func knownHost(host string) string { return hostDir(host, "known_hosts") }
