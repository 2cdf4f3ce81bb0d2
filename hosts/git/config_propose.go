package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/client"
)

// Proposed fetches a branch that Propose pushed and returns its head; "" if the repository
// has no such branch.
func (c *Config) Proposed(ctx context.Context, branch string) (head string, err error) {
	if err := branchName(branch); err != nil {
		return "", err
	}
	err = c.locked(ctx, func() error {
		head, err = c.fetch(ctx, branch)
		if errors.Is(err, ErrNoBranch) {
			head, err = "", nil
		}
		return err
	})
	return head, err
}

// Tree is the hash of a commit's tree: two commits with the same have the same files with
// the same content. The clone must have the commit.
func (c *Config) Tree(commit string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.open(); err != nil {
		return "", err
	}
	tree, _, err := c.treeOf(commit)
	if err != nil {
		return "", err
	}
	return tree.Hash.String(), nil
}

// MayPush asks whether the token or key may push, as `git push --dry-run` does: what a
// server answers to who begins a push is asked for, and the push ends there. What a branch's
// protection forbids shows at a push alone. ErrAuth is the answer no.
func (c *Config) MayPush(ctx context.Context) error {
	return c.locked(ctx, func() error {
		m, err := c.remote()
		if err != nil {
			return err
		}
		err = m.watched(ctx, nil, func(ctx context.Context, _ io.Writer) error { return m.beginPush(ctx) })
		switch {
		case err == nil, errors.Is(err, transport.ErrEmptyRemoteRepository):
			return nil
		case errors.Is(err, transport.ErrAuthorizationFailed), saysReadOnly(err):
			return fmt.Errorf("%s can be read and not pushed to: %w: %w", m.url, ErrAuth, err)
		}
		return m.failed("push to", err)
	})
}

// beginPush begins a push and ends it before anything is sent.
func (m *Mirror) beginPush(ctx context.Context) error {
	at, err := transport.NewEndpoint(m.url)
	if err != nil {
		return err
	}
	way, err := client.NewClient(at)
	if err != nil {
		return err
	}
	session, err := way.NewReceivePackSession(at, m.auth)
	if err != nil {
		return err
	}
	_, err = session.AdvertisedReferencesContext(ctx)
	if closed := session.Close(); err != nil && closed != nil {
		return errors.Join(err, closed)
	}
	return err // how a session ends in which nothing was sent says nothing
}

// saysReadOnly tells whether a server's words are that of one who may only read: over ssh
// there is no status, and these are GitHub's and GitLab's.
func saysReadOnly(err error) bool {
	text := strings.ToLower(err.Error())
	return strings.Contains(text, "read only") || strings.Contains(text, "read-only") || strings.Contains(text, "denied to") || strings.Contains(text, "not allowed to push")
}
