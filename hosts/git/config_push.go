package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	gogit "github.com/go-git/go-git/v5"
	gitconfig "github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport"
)

// Push moves the branch from base to commit, which must descend from base ("" for the
// first commit of an empty repository). A branch that is not at base any more gives
// ErrMoved and stays as it is; nothing is ever forced. The comparison is made twice: by
// what the server shows, and by the server itself, which is told what it must still have.
//
// Whatever is answered, or not, the branch is fetched afterwards and what it holds
// decides. ErrUnreachable means that nobody knows; the same Push may then be called
// again, since a branch that has commit already is success.
func (c *Config) Push(ctx context.Context, commit, base string) error {
	return c.locked(ctx, func() error {
		if err := c.descends(commit, base); err != nil {
			return err
		}
		if commit == base {
			return nil
		}
		var require []gitconfig.RefSpec
		if base != "" {
			require = []gitconfig.RefSpec{gitconfig.RefSpec(base + ":" + plumbing.NewBranchReferenceName(c.opts.Branch).String())}
		}
		said, err := c.send(ctx, commit, c.opts.Branch, require)
		if err != nil {
			return err
		}
		return c.settle(ctx, commit, base, c.opts.Branch, said)
	})
}

// Propose pushes commit to a branch of its own, such as refit/RUN, from which a pull
// request can be opened. The branch may be missing, have commit already or be an
// ancestor of it; any other state gives ErrMoved.
func (c *Config) Propose(ctx context.Context, commit, branch string) error {
	if err := branchName(branch); err != nil {
		return err
	}
	if branch == c.opts.Branch {
		return fmt.Errorf("cannot propose on %s itself: a proposal has a branch of its own", branch)
	}
	return c.locked(ctx, func() error {
		if _, _, err := c.treeOf(commit); err != nil {
			return err
		}
		base, err := c.fetch(ctx, branch)
		if err != nil && !errors.Is(err, ErrNoBranch) {
			return err
		}
		if base != "" {
			if has, err := c.contains(base, commit); err != nil || has {
				return err
			}
			if ours, err := c.contains(commit, base); err != nil {
				return err
			} else if !ours {
				return c.moved(commit, base, branch)
			}
		}
		said, err := c.send(ctx, commit, branch, nil)
		if err != nil {
			return err
		}
		return c.settle(ctx, commit, base, branch, said)
	})
}

// descends refuses a commit that is not base's child or a later one.
func (c *Config) descends(commit, base string) error {
	if _, _, err := c.treeOf(commit); err != nil {
		return err
	}
	if base == "" {
		return nil
	}
	if _, _, err := c.treeOf(base); err != nil {
		return err
	}
	ok, err := c.contains(commit, base)
	if err == nil && !ok {
		err = fmt.Errorf("cannot push %s: it does not stand on %s, so that commits would be lost", short(commit), short(base))
	}
	return err
}

// contains tells whether a commit is another or descends from it.
func (c *Config) contains(commit, ancestor string) (bool, error) {
	if commit == ancestor {
		return true, nil
	}
	_, from, err := c.treeOf(commit)
	if err != nil {
		return false, err
	}
	_, to, err := c.treeOf(ancestor)
	if err != nil {
		return false, err
	}
	ok, err := to.IsAncestor(from)
	if err != nil {
		return false, fmt.Errorf("cannot follow the history of %s: %w", short(commit), err)
	}
	return ok, nil
}

// send pushes once. What the way or the server said comes back as said, for settle;
// err is what no look at the branch can mend.
func (c *Config) send(ctx context.Context, commit, branch string, require []gitconfig.RefSpec) (said, err error) {
	m, err := c.remote()
	if err != nil {
		return nil, err
	}
	remote := gogit.NewRemote(c.repo.Storer, &gitconfig.RemoteConfig{Name: "origin", URLs: []string{m.url}})
	spec := gitconfig.RefSpec(commit + ":" + plumbing.NewBranchReferenceName(branch).String())
	said = m.watched(ctx, nil, func(ctx context.Context, progress io.Writer) error {
		err := remote.PushContext(ctx, &gogit.PushOptions{
			RemoteName: "origin", Auth: m.auth, Progress: progress, RefSpecs: []gitconfig.RefSpec{spec}, RequireRemoteRefs: require,
		})
		if errors.Is(err, gogit.NoErrAlreadyUpToDate) {
			return nil
		}
		return err
	})
	if said == nil {
		return nil, nil
	}
	if errors.Is(said, transport.ErrAuthorizationFailed) {
		return nil, fmt.Errorf("cannot push to %s: %w: the token or key may read it and not write: %w", m.url, ErrAuth, said)
	}
	if failed := m.failed("push to", said); errors.Is(failed, ErrAuth) || errors.Is(failed, ErrHostKey) || errors.Is(failed, transport.ErrRepositoryNotFound) {
		return nil, failed
	}
	return said, nil
}

// settle looks what the branch holds after a push, and decides by that alone.
func (c *Config) settle(ctx context.Context, commit, base, branch string, said error) error {
	head, err := c.fetch(ctx, branch)
	if errors.Is(err, ErrNoBranch) && base == "" {
		head, err = "", nil
	}
	if err != nil {
		return fmt.Errorf("%s may or may not be pushed to %s: the branch cannot be looked at (push again, it is safe): %w", short(commit), branch, errors.Join(err, said))
	}
	if head != "" {
		if has, err := c.contains(head, commit); err != nil || has {
			return err
		}
	}
	if head != base {
		return c.moved(commit, head, branch)
	}
	if refused(said) {
		return fmt.Errorf("cannot push %s to %s of %s: %w: %w; is the branch protected? Then refit can open a pull request instead", short(commit), branch, c.url(), ErrRejected, said)
	}
	if said == nil {
		said = errors.New("the server said nothing against it and does not show it")
	}
	return fmt.Errorf("%s is not on %s of %s as it shows now; push again, it is safe: %w: %w", short(commit), branch, c.url(), ErrUnreachable, said)
}

// moved is the error of a branch that has gone elsewhere.
func (c *Config) moved(commit, head, branch string) error {
	at := "empty"
	if head != "" {
		at = "at " + short(head)
	}
	return fmt.Errorf("%w: branch %s of %s is %s now, so %s was not pushed: fetch, render and plan anew", ErrMoved, branch, c.url(), at, short(commit))
}

// url is where the repository is, without a name or password.
func (c *Config) url() string {
	m, err := c.remote()
	if err != nil {
		return "the config repository"
	}
	return m.url
}

// refused tells whether the server's git answered and said no. go-git gives its words
// without a kind: "command error on refs/heads/main: protected branch hook declined".
func refused(said error) bool {
	if said == nil {
		return false
	}
	text := said.Error()
	return strings.HasPrefix(text, "command error on ") || strings.HasPrefix(text, "unpack error: ")
}

func short(commit string) string { return commit[:min(len(commit), 10)] }
