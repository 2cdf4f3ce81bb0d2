package ssh

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // OpenSSH hashes host names so; nothing is proved by it
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
)

// Learn writes to a known_hosts file that a host has those public keys, each as it stands
// in a .pub file. Lines that are there already stay. It must be called with keys that came
// over a connection which was checked: nothing here is trusted on first use.
func Learn(file, address string, port int, keys []string) error {
	at := net.JoinHostPort(address, portOf(port))
	return rewrite(file, func(lines []string) ([]string, error) {
		if n := len(lines); n > 0 && lines[n-1] == "" {
			lines = lines[:n-1]
		}
		for _, k := range keys {
			key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(k)) //nolint:dogsled // the library's
			if err != nil {
				return nil, fmt.Errorf("the host key that %s gives cannot be read: %w", address, err)
			}
			if line := knownhosts.Line([]string{at}, key); !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
		return append(lines, ""), nil
	})
}

// Unlearn takes an address out of a known_hosts file. With as not empty its keys stay,
// under that name: machines made from an old image of the host still show them. A line by which
// several hosts are meant stays for the others.
func Unlearn(file, address string, port int, as string) error {
	at := nameAt(address, port)
	return rewrite(file, func(lines []string) ([]string, error) {
		var out []string
		for _, line := range lines {
			words := strings.Fields(line)
			// Comments, and marked lines (@revoked), which are a person's.
			if len(words) < 3 || strings.HasPrefix(words[0], "#") || strings.HasPrefix(words[0], "@") {
				out = append(out, line)
				continue
			}
			names := strings.Split(words[0], ",")
			left := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == at || hashes(n, at) })
			if len(left) == len(names) {
				out = append(out, line)
				continue
			}
			if other := nameAt(as, port); as != "" && !slices.Contains(left, other) {
				left = append(left, other)
			}
			if len(left) == 0 {
				continue
			}
			words[0] = strings.Join(left, ",")
			if line = strings.Join(words, " "); !slices.Contains(out, line) {
				out = append(out, line)
			}
		}
		return out, nil
	})
}

// Relearn gives an address the keys that a known_hosts file has under a name.
func Relearn(file, address string, port int, as string) error {
	at, from := nameAt(address, port), nameAt(as, port)
	return rewrite(file, func(lines []string) ([]string, error) {
		for i, line := range lines {
			words := strings.Fields(line)
			if len(words) < 3 || strings.HasPrefix(words[0], "#") || strings.HasPrefix(words[0], "@") {
				continue
			}
			names := strings.Split(words[0], ",")
			if slices.Contains(names, from) && !slices.Contains(names, at) {
				words[0] = strings.Join(append([]string{at}, names...), ",")
				lines[i] = strings.Join(words, " ")
			}
		}
		return lines, nil
	})
}

// nameAt is how a known_hosts line names a host at a port.
func nameAt(address string, port int) string {
	return knownhosts.Normalize(net.JoinHostPort(address, portOf(port)))
}

// hashes tells whether a name of a known_hosts line is the address, hashed (sshd(8)).
func hashes(name, address string) bool {
	parts := strings.Split(name, "|")
	if len(parts) != 4 || parts[1] != "1" {
		return false
	}
	salt, err1 := base64.StdEncoding.DecodeString(parts[2])
	sum, err2 := base64.StdEncoding.DecodeString(parts[3])
	if err1 != nil || err2 != nil {
		return false
	}
	mac := hmac.New(sha1.New, salt)
	mac.Write([]byte(address))
	return hmac.Equal(mac.Sum(nil), sum)
}

func portOf(port int) string {
	if port == 0 {
		port = 22
	}
	return strconv.Itoa(port)
}

// rewrite changes a file's lines: whole, under another name, flushed and renamed. What is
// as it should be is not written.
func rewrite(file string, change func([]string) ([]string, error)) error {
	fail := func(err error) error { return fmt.Errorf("cannot change known_hosts: %w", err) }
	// Where the path is a link, its target is what people keep.
	file, err := filepath.EvalSymlinks(file)
	if err != nil {
		return fail(err)
	}
	was, err := os.ReadFile(file)
	if err != nil {
		return fail(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		return fail(err)
	}
	lines, err := change(strings.Split(string(was), "\n"))
	if err != nil {
		return fail(err)
	}
	now := []byte(strings.Join(lines, "\n"))
	if bytes.Equal(now, was) {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".refit-tmp-"+filepath.Base(file)+"-*")
	if err != nil {
		return fail(err)
	}
	_, err = f.Write(now)
	err = errors.Join(err, f.Chmod(info.Mode().Perm()), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return fail(errors.Join(err, os.Remove(f.Name())))
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return fail(err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}
