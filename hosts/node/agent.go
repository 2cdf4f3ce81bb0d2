package node

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"vmst.io/refit/hosts"
)

// Agent calls verbs on one host. It may be used from several goroutines at once.
type Agent struct {
	// Host is the host's name, for errors.
	Host string
	// Shell runs commands there.
	Shell hosts.Shell
	// Binary is the path on this machine of the refit binary for the host: static,
	// and of its architecture.
	Binary string
	// Hash gives Binary's SHA-256, for a caller with many agents of one binary, who
	// need not each read it; nil to read it at the first call.
	Hash func() ([]byte, error)
	// Run is the ID of the run, put into each request.
	Run string
	// Epoch gives the lease's epoch at the time of each call; nil for a caller
	// without a lease, who can only call verbs that change nothing.
	Epoch func() int64
	// Sudo runs the agent through "sudo -n".
	Sudo bool
	// User is who logs in there, for what is said of sudo; empty if nobody knows.
	User string
	// Deadline is how long the host may stay silent; 0 for 15 seconds. A host at
	// work says so every two seconds.
	Deadline time.Duration
	// Dir is where agents lie on the host; empty for /var/lib/refit/bin.
	Dir string

	mu   sync.Mutex
	path string // of the agent on the host, once it is known to be there
}

// BinDir is where agents lie on a host. Where root owns it, root puts agents there
// and sudo allows one of them; where the ssh user owns it, refit puts them there by
// itself, and that user can run anything as root. See docs/adopt.md, "Rights".
const BinDir = StateDir + "/bin"

// Call calls a verb: in is its argument, payload (may be nil) what it reads after
// it, out (may be nil) a pointer to what its result is decoded into, and say (may
// be nil) is told its progress. The agent's binary is put on the host first, if
// its hash is missing there. An error that the verb answered is an *Error. When
// Call returns, payload may still be being read until its next byte arrives:
// close it if it can block.
func (a *Agent) Call(ctx context.Context, verb string, in any, payload io.Reader, out any, say func(string)) error {
	return a.exchange(ctx, verb, in, payload, nil, out, say)
}

// Stream calls a verb that sends bytes beside its result; they go to w.
func (a *Agent) Stream(ctx context.Context, verb string, in any, w io.Writer, out any, say func(string)) error {
	return a.exchange(ctx, verb, in, nil, w, out, say)
}

// call is Call with a typed result.
func call[Out any](ctx context.Context, a *Agent, verb string, in any, payload io.Reader, say func(string)) (Out, error) {
	var out Out
	err := a.Call(ctx, verb, in, payload, &out, say)
	return out, err
}

func (a *Agent) exchange(ctx context.Context, verb string, in any, payload io.Reader, w io.Writer, out any, say func(string)) error {
	head, err := encodeRequest(a.request(), in)
	if err != nil {
		return fmt.Errorf("%s: cannot encode the request for %s: %w", a.Host, verb, err)
	}
	if payload != nil {
		// It can be read once, so nothing is tried twice with it: the agent is looked for
		// before, though it was there at the last call.
		a.mu.Lock()
		a.path = ""
		a.mu.Unlock()
	}
	for attempt := 0; ; attempt++ {
		agent, err := a.Upload(ctx)
		if err != nil {
			return err
		}
		missing, err := a.once(ctx, agent, verb, head, payload, w, out, say)
		if missing {
			// The host lost the agent since: restored from a snapshot, or swept.
			a.forget(agent)
		}
		if !missing || attempt > 0 || payload != nil {
			return err
		}
	}
}

func (a *Agent) request() Request {
	r := Request{Run: a.Run}
	if a.Epoch != nil {
		r.Epoch = a.Epoch()
	}
	return r
}

// once makes one call. missing tells that the agent's file was not there, so that
// nothing ran.
func (a *Agent) once(ctx context.Context, agent, verb string, head []byte, payload io.Reader, w io.Writer, out any, say func(string)) (missing bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := newSilence(a.deadline(), func() { cancel(ErrSilent) })
	defer quiet.stop()

	stdin := &requestReader{head: head, payload: payload, touch: quiet.touch}
	replies := &replyParser{say: say, raw: w, touch: quiet.touch, pause: quiet.pause}
	runErr := a.Shell.Run(ctx, hosts.Command{Argv: []string{agent, "node", verb}, Sudo: a.Sudo, Stdin: stdin}, replies)

	if err := stdin.failure(); err != nil {
		return false, fmt.Errorf("%s: cannot read what %s is to be sent: %w", a.Host, verb, err)
	}
	if done := replies.done; done != nil {
		return false, a.result(verb, *done, out)
	}
	var exit *hosts.ExitError
	switch {
	case replies.err != nil:
		return false, fmt.Errorf("%s: %s: %w", a.Host, verb, replies.err)
	case errors.Is(context.Cause(ctx), ErrSilent):
		return false, fmt.Errorf("%s: %w for %s while it ran %s", a.Host, ErrSilent, a.deadline(), verb)
	case runErr == nil:
		return false, fmt.Errorf("%s: %w: the agent ended without an answer to %s", a.Host, hosts.ErrLost, verb)
	case errors.As(runErr, &exit) && !replies.any:
		if exit.Code == 127 || exit.Code == 126 || strings.Contains(exit.Stderr, "command not found") {
			return true, fmt.Errorf("%s: cannot run %s: %w", a.Host, agent, runErr)
		}
		if strings.HasPrefix(exit.Stderr, "sudo:") {
			return false, fmt.Errorf("%s: %w: sudo does not allow the agent of this refit (%s). As root there, add this line to /etc/sudoers.d/refit (`refit example --sudoers` prints the file): %s",
				a.Host, hosts.ErrAuth, strings.TrimSpace(exit.Stderr), SudoersLine(cmp.Or(a.User, "USER"), agent))
		}
	}
	return false, fmt.Errorf("%s: %s: %w", a.Host, verb, runErr)
}

func (a *Agent) result(verb string, done Reply, out any) error {
	if done.Error != "" {
		err := &Error{Host: a.Host, Verb: verb, Code: done.Code, Text: done.Error}
		if len(done.Out) > 0 && out != nil {
			return errors.Join(err, decode(done.Out, out))
		}
		return err
	}
	if out == nil {
		return nil
	}
	if err := decode(done.Out, out); err != nil {
		return fmt.Errorf("%s: cannot read the answer to %s: %w", a.Host, verb, err)
	}
	return nil
}

// Upload puts the agent's binary on the host, unless one of its hash is there,
// and returns its path. Calls do it by themselves.
func (a *Agent) Upload(ctx context.Context) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.path != "" {
		return a.path, nil
	}
	ask := a.Hash
	if ask == nil {
		ask = func() ([]byte, error) { return HashBinary(a.Binary) }
	}
	sum, err := ask()
	if err != nil {
		return "", err
	}
	// The name holds the hash of the content, and Put verifies what arrived before
	// it gets that name: a file of this name is this file.
	p := path.Join(a.dir(), agentName(sum))
	err = a.Shell.Run(ctx, hosts.Command{Argv: []string{"test", "-x", p}}, nil)
	var exit *hosts.ExitError
	if errors.As(err, &exit) {
		f, oerr := os.Open(a.Binary)
		if oerr != nil {
			return "", fmt.Errorf("cannot read the agent's binary: %w", oerr)
		}
		defer f.Close()
		err = a.Shell.Put(ctx, p, 0o755, &hashed{r: f, h: sha256.New(), want: sum})
		if errors.As(err, &exit) && strings.Contains(exit.Stderr, "Permission denied") {
			return "", fmt.Errorf("%s: %w: %s is not there, and the ssh user may not write to %s. As root there: install -o root -g root -m 755 refit %s, and allow it in sudoers: `refit example --sudoers` prints both",
				a.Host, hosts.ErrAuth, p, a.dir(), p)
		}
	}
	if err != nil {
		return "", fmt.Errorf("%s: cannot put the agent on the host: %w", a.Host, err)
	}
	a.path = p
	return p, nil
}

// HashBinary is the SHA-256 of an agent's binary on this machine.
func HashBinary(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read the agent's binary: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, fmt.Errorf("cannot read the agent's binary: %w", err)
	}
	return h.Sum(nil), nil
}

// hashed reads a file that was hashed before, and ends with an error where it is not
// that file any more: refit may be replaced by a newer one while it runs.
type hashed struct {
	r    io.Reader
	h    hash.Hash
	want []byte
}

func (b *hashed) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.h.Write(p[:n])
	if errors.Is(err, io.EOF) && !bytes.Equal(b.h.Sum(nil), b.want) {
		err = errors.New("refit's own binary was replaced while it runs: start again with the new one")
	}
	return n, err
}

// agentName is the name of an agent's file, from the SHA-256 of its content.
func agentName(sum []byte) string { return "refit-" + hex.EncodeToString(sum)[:16] }

// AgentPath is where the agent with a content lies on hosts, and the content's
// SHA-256 in hex.
func AgentPath(binary io.Reader) (file, sum string, err error) {
	h := sha256.New()
	if _, err := io.Copy(h, binary); err != nil {
		return "", "", fmt.Errorf("cannot read the agent's binary: %w", err)
	}
	return path.Join(BinDir, agentName(h.Sum(nil))), hex.EncodeToString(h.Sum(nil)), nil
}

func (a *Agent) forget(agent string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.path == agent {
		a.path = ""
	}
}

func (a *Agent) dir() string {
	if a.Dir == "" {
		return BinDir
	}
	return a.Dir
}

func (a *Agent) deadline() time.Duration {
	if a.Deadline == 0 {
		return 15 * time.Second
	}
	return a.Deadline
}
