package node

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A machine that was made from an image has the image's ssh host keys, as every other
// clone of it has. It gets keys of its own in two verbs, so that between them the new keys
// can be written down where they are checked.

// sshDir is where sshd has its host keys.
const sshDir = "etc/ssh"

// keyTypes are the types of host keys that are made; sshd offers no others by default
// (sshd_config(5), HostKey).
var keyTypes = []string{"ed25519", "ecdsa", "rsa"}

// HostKeysOut are a host's new ssh keys.
type HostKeysOut struct {
	// Public are the public halves, as in .pub files, without comments.
	Public []string `json:"public"`
	// Made: they were made by this call. Used: sshd has them now.
	Made bool `json:"made,omitempty"`
	Used bool `json:"used,omitempty"`
}

// HostnameIn names the machine.
type HostnameIn struct {
	Name string `json:"name"`
}

// HostnameOut tells whether the name was another before.
type HostnameOut struct {
	Changed bool `json:"changed"`
}

// MakeHostKeys makes new ssh host keys beside those that sshd has, unless they are made.
func (a *Agent) MakeHostKeys(ctx context.Context) (HostKeysOut, error) {
	return call[HostKeysOut](ctx, a, "hostkeys.make", struct{}{}, nil, nil)
}

// UseHostKeys puts the new keys in the old ones' place, so that from the next connection
// on the host shows them and nothing else. It is repeated safely.
func (a *Agent) UseHostKeys(ctx context.Context) (HostKeysOut, error) {
	return call[HostKeysOut](ctx, a, "hostkeys.use", struct{}{}, nil, nil)
}

// SetHostname gives the machine its name, also where cloud-init does not. Mastodon's
// workers are known in Redis by it.
func (a *Agent) SetHostname(ctx context.Context, name string) (HostnameOut, error) {
	return call[HostnameOut](ctx, a, "hostname.set", HostnameIn{name}, nil, nil)
}

// keysDir holds the new keys until they are used: for one machine, so that an image taken
// in between gives no two machines the same keys.
func (m Machine) keysDir() (string, error) {
	id, err := m.instance()
	if err != nil {
		return "", err
	}
	return m.state("hostkeys", id.ID), nil
}

func (m Machine) makeHostKeys(ctx context.Context, _ struct{}, _ io.Reader, _ func(string)) (HostKeysOut, error) {
	var out HostKeysOut
	dir, err := m.keysDir()
	if err != nil {
		return out, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return out, fmt.Errorf("cannot make new host keys: %w", err)
	}
	types, err := m.keyTypes()
	if err != nil {
		return out, err
	}
	for _, t := range types {
		made, public, err := m.makeHostKey(ctx, dir, t)
		if err != nil {
			return out, fmt.Errorf("cannot make a new host key: %w", err)
		}
		out.Public, out.Made = append(out.Public, public), out.Made || made
	}
	return out, nil
}

// keyTypes are those that the host has a key of: sshd need not know the others.
func (m Machine) keyTypes() ([]string, error) {
	var out []string
	for _, t := range keyTypes {
		_, err := os.Stat(m.root(sshDir, keyName(t)))
		if err == nil {
			out = append(out, t)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot see which host keys there are: %w", err)
		}
	}
	if len(out) == 0 {
		out = keyTypes[:1]
	}
	return out, nil
}

func keyName(kind string) string { return "ssh_host_" + kind + "_key" }

// makeHostKey makes one key under another name and renames it whole: the public half
// first, since the private one is what tells that the key is there.
func (m Machine) makeHostKey(ctx context.Context, dir, kind string) (made bool, public string, err error) {
	file := filepath.Join(dir, keyName(kind))
	if _, err := os.Stat(file); err == nil {
		public, err := publicKey(file + ".pub")
		return false, public, err
	}
	temp := filepath.Join(dir, tempPrefix+kind)
	for _, f := range []string{temp, temp + ".pub"} {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, "", err
		}
	}
	if _, err := m.exec(ctx, "ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", temp); err != nil {
		return false, "", err
	}
	for _, end := range []string{".pub", ""} {
		if err := flushed(temp + end); err != nil {
			return false, "", err
		}
		if err := os.Rename(temp+end, file+end); err != nil {
			return false, "", err
		}
	}
	if err := syncDir(dir); err != nil {
		return false, "", err
	}
	public, err = publicKey(file + ".pub")
	return true, public, err
}

func flushed(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// publicKey reads a .pub file's type and key.
func publicKey(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	words := strings.Fields(string(b))
	if len(words) < 2 {
		return "", fmt.Errorf("%s holds no public key", file)
	}
	return words[0] + " " + words[1], nil
}

// useHostKeys copies the new keys into place, each whole, and lets sshd read them. The
// connection over which it is asked goes on.
func (m Machine) useHostKeys(ctx context.Context, _ struct{}, _ io.Reader, _ func(string)) (HostKeysOut, error) {
	var out HostKeysOut
	dir, err := m.keysDir()
	if err != nil {
		return out, err
	}
	types, err := m.keyTypes()
	if err != nil {
		return out, err
	}
	for _, t := range types {
		public, err := publicKey(filepath.Join(dir, keyName(t)+".pub"))
		if errors.Is(err, fs.ErrNotExist) {
			return out, Failf(CodeNotFound, "no new host keys were made on this machine")
		}
		if err != nil {
			return out, fmt.Errorf("cannot read the new host keys: %w", err)
		}
		out.Public = append(out.Public, public)
		for end, mode := range map[string]fs.FileMode{"": 0o600, ".pub": 0o644} {
			b, err := os.ReadFile(filepath.Join(dir, keyName(t)+end))
			if err != nil {
				return out, fmt.Errorf("cannot read the new host keys: %w", err)
			}
			at := m.root(sshDir, keyName(t)+end)
			if was, err := os.ReadFile(at); err == nil && bytes.Equal(was, b) {
				continue
			}
			if err := writeFile(at, b, mode); err != nil {
				return out, fmt.Errorf("cannot write %s: %w", at, err)
			}
			out.Used = true
		}
	}
	// Also where nothing was written: an earlier call may have ended before this. sshd
	// reads its keys when it starts, and one that is started for each connection always.
	var errs []error
	for _, unit := range []string{"ssh.service", "sshd.service"} {
		_, err := m.exec(ctx, "systemctl", "--no-ask-password", "try-reload-or-restart", unit)
		if err == nil {
			return out, nil
		}
		errs = append(errs, err)
	}
	return out, fmt.Errorf("the new host keys are written, and sshd cannot be made to read them: %w", errors.Join(errs...))
}

// hostnameForm is a name without a domain (hostname(7)).
var hostnameForm = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`)

func (m Machine) setHostname(ctx context.Context, in HostnameIn, _ io.Reader, _ func(string)) (HostnameOut, error) {
	if !hostnameForm.MatchString(in.Name) {
		return HostnameOut{}, fmt.Errorf("%q is no name for a host", in.Name)
	}
	file := m.root("etc/hostname")
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return HostnameOut{}, fmt.Errorf("cannot read the machine's name: %w", err)
	}
	was := strings.TrimSpace(string(b))
	out := HostnameOut{Changed: was != in.Name}
	if out.Changed {
		if err := writeFile(file, []byte(in.Name+"\n"), 0o644); err != nil {
			return out, fmt.Errorf("cannot name the machine: %w", err)
		}
	}
	if err := m.nameInHosts(was, in.Name); err != nil {
		return out, fmt.Errorf("cannot name the machine: %w", err)
	}
	// The kernel's name, without which the file counts from the next boot on only.
	if _, err := m.exec(ctx, "hostname", in.Name); err != nil {
		return out, fmt.Errorf("cannot name the machine: %w", err)
	}
	return out, nil
}

// nameInHosts puts the new name in the old one's place where the machine names itself, on
// Debian's own line (127.0.1.1), so that sudo need not ask a name server.
func (m Machine) nameInHosts(was, name string) error {
	file := m.root("etc/hosts")
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	lines := strings.Split(string(b), "\n")
	changed := false
	for i, line := range lines {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "127.0.1.1" || slices.Contains(words[1:], name) {
			continue
		}
		words = slices.DeleteFunc(words, func(w string) bool { return w == cmp.Or(was, name) })
		lines[i], changed = strings.Join(append(words, name), " "), true
	}
	if !changed {
		return nil
	}
	return writeFile(file, []byte(strings.Join(lines, "\n")), 0o644)
}
