// Package ssh runs commands on hosts over SSH: one connection a host, host keys
// from known_hosts and never on first use, and a time limit on every answer. A
// frozen host still accepts connections, and its silence is found here.
package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"vmst.io/refit/hosts"
)

// Errors of dialling and running, the same as those of package hosts.
var (
	// ErrUnreachable: no connection; nothing ran, retrying is safe.
	ErrUnreachable = hosts.ErrUnreachable
	// ErrAuth: no key was accepted; retrying does not help.
	ErrAuth = hosts.ErrAuth
	// ErrHostKey: an unknown or another host key; retrying does not help.
	ErrHostKey = hosts.ErrHostKey
	// ErrSilent: connected, and no answer in time.
	ErrSilent = hosts.ErrSilent
	// ErrLost: the connection broke while a command ran.
	ErrLost = hosts.ErrLost
)

// Options says how to reach a host.
type Options struct {
	// Name is what errors call the host; empty for Address.
	Name string
	// Address is an IP address or DNS name, without a port.
	Address string
	// Port is 22 where it is 0.
	Port int
	// User to log in as.
	User string
	// KeyFile is a private key without a passphrase. Empty to ask the agent.
	KeyFile string
	// AgentSocket is the path of an ssh agent's socket (SSH_AUTH_SOCK); its keys are
	// offered after KeyFile's.
	AgentSocket string
	// KnownHosts are the files with the host keys. At least one is required: a key
	// that they lack is refused.
	KnownHosts []string
	// KnownAs is the address or name under which KnownHosts have the host's keys; empty
	// for Address. A machine made from an image shows the keys of the host that the
	// image is of.
	KnownAs string
	// Known is those files, read once for many hosts; nil to read them at each connection.
	Known *Known
	// Jump, when set, is the connection through which this host is reached.
	Jump *Conn
	// ConnectTimeout bounds connecting, from the first packet to being logged in; 0
	// for 10 seconds.
	ConnectTimeout time.Duration
	// AnswerTimeout is how long the host may send nothing at all while it is asked
	// for a sign of life; 0 for 15 seconds.
	AnswerTimeout time.Duration
	// Sessions is how many commands run at once; 0 for 8. OpenSSH allows 10.
	Sessions int
	// Dialer makes the TCP connection; nil for the system's own.
	Dialer func(ctx context.Context, network, address string) (net.Conn, error)
	// Retry bounds a Conn's attempts to connect; see there.
	Retry Retry
}

func (o Options) name() string {
	if o.Name != "" {
		return o.Name
	}
	return o.Address
}

func (o Options) address() string {
	port := o.Port
	if port == 0 {
		port = 22
	}
	return net.JoinHostPort(o.Address, strconv.Itoa(port))
}

// knownAs is address as KnownHosts have it.
func (o Options) knownAs() string {
	if o.KnownAs != "" {
		o.Address = o.KnownAs
	}
	return o.address()
}

func (o Options) connectTimeout() time.Duration {
	if o.ConnectTimeout == 0 {
		return 10 * time.Second
	}
	return o.ConnectTimeout
}

func (o Options) answerTimeout() time.Duration {
	if o.AnswerTimeout == 0 {
		return 15 * time.Second
	}
	return o.AnswerTimeout
}

func (o Options) sessions() int {
	if o.Sessions == 0 {
		return 8
	}
	return o.Sessions
}

// config reads keys and known hosts. done gives back what it opened.
func (o Options) config(ctx context.Context) (config *ssh.ClientConfig, done func() error, err error) {
	done = func() error { return nil }
	if len(o.KnownHosts) == 0 {
		return nil, done, fmt.Errorf("%s: %w: no known_hosts file is configured", o.name(), ErrHostKey)
	}
	known := o.Known
	if known == nil {
		known = NewKnown(o.KnownHosts...)
	}
	db, err := known.read()
	if err != nil {
		return nil, done, fmt.Errorf("%s: %w: %w", o.name(), ErrHostKey, err)
	}
	var own []ssh.Signer
	if o.KeyFile != "" {
		signer, err := o.readKey()
		if err != nil {
			return nil, done, err
		}
		own = append(own, signer)
	}
	keys := func() ([]ssh.Signer, error) { return own, nil }
	if o.AgentSocket != "" {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", o.AgentSocket)
		if err != nil {
			return nil, done, fmt.Errorf("%s: %w: cannot reach the ssh agent: %w", o.name(), ErrAuth, err)
		}
		done = conn.Close
		keys = func() ([]ssh.Signer, error) {
			more, err := agent.NewClient(conn).Signers()
			return append(own, more...), err
		}
	} else if len(own) == 0 {
		return nil, done, fmt.Errorf("%s: %w: neither a key nor an ssh agent is configured", o.name(), ErrAuth)
	}
	return &ssh.ClientConfig{
		User: o.User,
		// One method for all keys: the library tries each kind of method once.
		Auth:              []ssh.AuthMethod{ssh.PublicKeysCallback(keys)},
		HostKeyCallback:   o.checkHostKey(db),
		HostKeyAlgorithms: db.HostKeyAlgorithms(o.knownAs()),
		ClientVersion:     "SSH-2.0-refit",
	}, done, nil
}

func (o Options) readKey() (ssh.Signer, error) {
	pem, err := os.ReadFile(o.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: cannot read the key: %w", o.name(), ErrAuth, err)
	}
	signer, err := ssh.ParsePrivateKey(pem)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return nil, fmt.Errorf("%s: %w: the key %s has a passphrase; load it into an ssh agent and name that instead", o.name(), ErrAuth, o.KeyFile)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: cannot read the key %s: %w", o.name(), ErrAuth, o.KeyFile, err)
	}
	return signer, nil
}
