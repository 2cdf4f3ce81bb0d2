package ssh

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
)

// findOut is how a person learns a host's true key: from the host itself, on a
// way that is not the connection in doubt.
const findOut = "compare it with what the host itself says, on its console: ssh-keygen -lf /etc/ssh/ssh_host_%s_key.pub"

// checkHostKey refuses keys that known_hosts lacks, and says what a person has to
// compare, and the file and line that the answer belongs into. There is no trust
// on first use.
func (o Options) checkHostKey(db *knownhosts.HostKeyDB) ssh.HostKeyCallback {
	known := db.HostKeyCallback()
	return func(address string, remote net.Addr, key ssh.PublicKey) error {
		if o.KnownAs != "" {
			// Another's key is what is asked for: the address, which may have been some
			// other machine's before, says nothing.
			address, remote = o.knownAs(), &net.TCPAddr{}
		}
		err := known(address, remote, key)
		if err == nil {
			return nil
		}
		shown := fmt.Sprintf("%s (%s)", key.Type(), ssh.FingerprintSHA256(key))
		var revoked *xknownhosts.RevokedError
		var other *xknownhosts.KeyError
		switch {
		case errors.As(err, &revoked):
			return fmt.Errorf("%w: %s shows %s, which %s:%d marks @revoked: somebody may have stolen it. Connect no more until the host has a new key",
				ErrHostKey, address, shown, revoked.Revoked.Filename, revoked.Revoked.Line)
		case errors.As(err, &other) && len(other.Want) == 0:
			return fmt.Errorf("%w: %s is not in %s; it shows %s. First "+findOut+"; if they are the same, add this line: %s",
				ErrHostKey, address, strings.Join(o.KnownHosts, " or "), shown, shortType(key.Type()), knownhosts.Line([]string{address}, key))
		case errors.As(err, &other):
			return fmt.Errorf("%w: %s shows another key than before: %s. %s. Either the host was set up anew or somebody stands in between: "+findOut+"; only if that is the new key, replace the line by: %s",
				ErrHostKey, address, shown, wanted(other.Want), shortType(key.Type()), knownhosts.Line([]string{address}, key))
		}
		return fmt.Errorf("%w: %w", ErrHostKey, err)
	}
}

// wanted says where the known keys stand and what they are.
func wanted(keys []xknownhosts.KnownKey) string {
	var out []string
	for _, k := range keys {
		out = append(out, fmt.Sprintf("%s:%d has %s (%s)", k.Filename, k.Line, k.Key.Type(), ssh.FingerprintSHA256(k.Key)))
	}
	return strings.Join(out, ", ")
}

// shortType is a key's type as OpenSSH names its files.
func shortType(algorithm string) string {
	switch {
	case strings.HasPrefix(algorithm, "ecdsa-"):
		return "ecdsa"
	case strings.Contains(algorithm, "rsa"):
		return "rsa"
	}
	return "ed25519"
}

// otherTypes is the error of a host that has no key of the types which known_hosts
// names: only those are asked for, so that nobody can get past a known key by
// showing one of another type. Nil if that is not what err says.
func (o Options) otherTypes(err error) error {
	var none *ssh.AlgorithmNegotiationError
	if !errors.As(err, &none) || none.What != "host key" {
		return nil
	}
	where := strings.Join(o.KnownHosts, " or ")
	// The files were read a moment ago for this connection.
	if db, readErr := knownhosts.NewDB(o.KnownHosts...); readErr == nil {
		var known *xknownhosts.KeyError
		if errors.As(db.HostKeyCallback()(o.knownAs(), &net.TCPAddr{}, noKey{}), &known) {
			where = wanted(known.Want)
		}
	}
	return fmt.Errorf("%w: %s has no key of a type that is known of it, only %s. %s. Either the host was set up anew or somebody stands in between: "+findOut+"; only if it is, put the new key in that line's place",
		ErrHostKey, o.address(), strings.Join(none.RequestedAlgorithms, ", "), where, "*")
}

// noKey is a key that no file knows; asking for it tells which keys are known.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return []byte("none") }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("no key verifies nothing") }
