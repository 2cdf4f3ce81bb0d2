package git

import (
	"context"
	"errors"
	"io/fs"
	"time"
)

// Person is who a commit is by.
type Person struct{ Name, Email string }

// CommitSigner signs commits with an ssh key, as "ssh-keygen -Y sign -n git" does:
// the signature is armored. hosts/ssh's Signer is one, with the namespace git.
type CommitSigner interface {
	Sign(ctx context.Context, message []byte) ([]byte, error)
}

// ConfigOptions say which config repository, and how to reach it.
type ConfigOptions struct {
	// URL is https://, http://, ssh://, user@host:path, file:// or a path.
	URL string
	// Branch is the branch that counts, such as "main".
	Branch string
	// Dir is the bare clone; made if missing.
	Dir string
	// Token gives the token for http, asked before each exchange, so that it may be
	// a new one each time; nil for none. It never stands in an error.
	Token func() (string, error)
	// Key is the private key's file for ssh, empty for the ssh agent; KnownHosts is
	// the known_hosts file, required there.
	Key, KnownHosts string
	// Sign signs commits; nil for commits without signature.
	Sign CommitSigner
	// Author is who refit's commits are by; required.
	Author Person
	// Now is the clock of commits; nil for the machine's.
	Now func() time.Time
	// Silence is how long an exchange may bring nothing before it ends with
	// ErrUnreachable; 0 for two minutes.
	Silence time.Duration
}

// Entry is a commit as Log tells of it.
type Entry struct {
	// Commit is the hash; Parents are those of its parents.
	Commit  string
	Parents []string
	Author  Person
	Time    time.Time
	// Subject is the message's first line, Body the rest.
	Subject, Body string
	// Signed tells whether it has a signature; whose, and whether it is true, is not said.
	Signed bool
}

// Config is the bare clone of a config repository. It is safe for one process at a
// time to write, which a lock of the folder holds.
type Config struct{ opts ConfigOptions }

var errNotYet = errors.New("hosts/git: this part is not written yet")

// OpenConfig opens the clone, or makes an empty one. It asks nothing of the repository.
func OpenConfig(ctx context.Context, opts ConfigOptions) (*Config, error) {
	return &Config{opts: opts}, nil
}

// Fetch brings the branch and returns its head's hash; "" for a branch that does not
// exist yet.
func (c *Config) Fetch(ctx context.Context) (head string, err error) { return "", errNotYet }

// FS is the tree of a commit that was fetched or made here; "" is an empty tree.
func (c *Config) FS(commit string) (fs.FS, error) { return nil, errNotYet }

// Commit makes a commit on base ("" for the first one): base's tree with the changes,
// a nil content removes the file. The same inputs and time give the same hash. Where
// nothing changes it returns base.
func (c *Config) Commit(ctx context.Context, base string, changes map[string][]byte, message string) (commit string, err error) {
	return "", errNotYet
}

// Push moves the branch from base to commit, which must descend from base. A branch that
// is not at base any more gives ErrMoved and stays as it is; nothing is ever forced. An
// answer that is lost is looked up by fetching; ErrUnreachable means that nobody knows.
func (c *Config) Push(ctx context.Context, commit, base string) error { return errNotYet }

// Propose pushes commit to a branch of its own, such as refit/RUN, from which a pull
// request can be opened. The branch may exist already with this very commit, or be an
// ancestor of it; another state gives ErrMoved.
func (c *Config) Propose(ctx context.Context, commit, branch string) error { return errNotYet }

// Log lists the last n commits of the fetched branch that changed path (a file or a
// folder; "" for all), the newest first.
func (c *Config) Log(ctx context.Context, path string, n int) ([]Entry, error) {
	return nil, errNotYet
}
